/* The pieces of a script, for whoever puts one together: render.c from the declaration alone,
 * plan.c from what the database lacks of it. A failed allocation breaks the script. */
#ifndef SCHEMA_RENDER_PARTS_H
#define SCHEMA_RENDER_PARTS_H

#include "base/buffer.h"
#include "schema/render.h"

/* The names as they stand in SQL, quoted, and qualified where the contract says so. */
typedef struct sql_names {
    const char *schema; /* NULL: none */
    const char *tables[CATALOG_TABLE_COUNT];
    const char *status;
    const char *retired_type;
    const char *function;
    const char *trigger;
    const char *channel; /* a literal */
    const char *extras_schema;
    const char *extras[CATALOG_EXTRA_COUNT];
    const char *sequences[CATALOG_EXTRA_COUNT];  /* NULL: it needs none */
    const char *routines[CATALOG_ROUTINE_COUNT]; /* with the types of their arguments */
    const char *home; /* an expression of the schema that the tables are in */
} sql_names;

/* Makes the names, in the script's memory. PGQ_E_NOMEM. */
pgq_code render_begin(script *s, const names *n, sql_names *q, pgq_error *err);

/* Ends the statement in `sql` and adds it to the script. */
void render_add(script *s, buffer *sql);

/* Adds a declared text with its names filled in. */
void render_filled(script *s, buffer *sql, const char *text, const sql_names *q);

/* Adds a column as CREATE TABLE and ADD COLUMN want it, with a text after it. */
void render_column(script *s, buffer *sql, const catalog_column *column, const sql_names *q,
                   const char *after);

void render_type(script *s, const sql_names *q);
void render_table(script *s, const sql_names *q, catalog_table_id id, bool unlogged);
void render_extra(script *s, const sql_names *q, size_t at, bool unlogged);
/* Gives a table of the extras its sequence back: RENDER_SEQUENCE_COUNT statements. */
enum { RENDER_SEQUENCE_COUNT = 3 };
void render_sequence(script *s, const sql_names *q, size_t at);
pgq_code render_routine(script *s, const names *n, const sql_names *q, size_t at, pgq_error *err);
void render_index(script *s, const sql_names *q, const catalog_index *index, const char *name,
                  bool concurrently);
/* Rows of the statistics that share the key of their unique index are added up into the oldest one:
 * a LOCK, which keeps everybody from counting meanwhile and comes before the snapshot, and then. */
void render_fold(script *s, const sql_names *q);
void render_function(script *s, const sql_names *q);
void render_trigger(script *s, const sql_names *q, bool replace);

#endif
