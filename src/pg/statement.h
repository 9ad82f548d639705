/* The SQL statements of sql/, made ready for one set of names.
 *
 * tools/embed turns every sql/NAME.sql into bytes and into an id STATEMENT_NAME. In the files,
 * :queue, :log, :statistics, :schedules, :status and :channel stand for quoted names (qualified
 * where there is a schema), and :queue_literal, :log_literal ... for the same as SQL literals, in
 * psql's own syntax; :queue_name_literal is the bare name, and :statistics_lock_literal the
 * qualified one without quotes, from which Python makes the key of its advisory lock. :counts is
 * the table of our own in which settles count, :imports the one that remembers how far imports have
 * come, :front the sequence that says how far claims have come, :extras their schema,
 * :front_literal and :extras_literal these as literals. $n are parameters whose types the header
 * comment gives.
 *
 * Of a file with lines that end in "-- counted" there are two statements: STATEMENT_NAME without
 * those lines, for a database without the extras, and STATEMENT_NAME_COUNTED without the ones that
 * end in
 * "-- uncounted". */
#ifndef PG_STATEMENT_H
#define PG_STATEMENT_H

#include "pg/names.h"
#include "pg/oid.h"
#include "sql.gen.h"

enum { STATEMENT_PARAMS_MAX = 16 };

/* In the schema `extras` of the names. */
#define STATEMENT_COUNTS_TABLE "counts"
#define STATEMENT_IMPORTS_TABLE "imports"
#define STATEMENT_CLAIMS_TABLE "claims"
#define STATEMENT_FRONT_COLUMN "front"
/* The name that the server gives to the sequence of a serial column, unless it is taken. */
#define STATEMENT_FRONT_SEQUENCE STATEMENT_CLAIMS_TABLE "_" STATEMENT_FRONT_COLUMN "_seq"

typedef struct statement {
    const char *name; /* the file's name without ".sql", perhaps with "_counted" */
    const char *text;
    /* Its name when it is prepared. Behind a pooler, clients with other names of objects share the
     * session, so no other text has it. */
    const char *prepared;
    uint32_t param_types[STATEMENT_PARAMS_MAX];
    int param_count;
} statement;

/* All statements for one set of names. Immutable after it is made, so threads may share it. */
typedef struct statements {
    arena memory;
    statement all[STATEMENT_COUNT];
} statements;

/* PGQ_E_NOMEM, or PGQ_E_INTERNAL for a file that has an unknown placeholder or type. */
pgq_code statements_new(const names *n, statements **ret_statements, pgq_error *err);

/* One statement alone, in the caller's arena, for calls that have no client. */
pgq_code statement_expand(const names *n, statement_id id, arena *a, statement *ret_statement,
                          pgq_error *err);

/* Takes NULL; returns NULL. */
statements *statements_free(statements *s);

#endif
