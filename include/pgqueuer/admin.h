/* The database objects: install, uninstall, verify, durability, autovacuum. */
#ifndef PGQUEUER_ADMIN_H
#define PGQUEUER_ADMIN_H

#include <pgqueuer/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which tables survive a crash of the server. */
typedef enum pgq_durability {
    PGQ_DURABILITY_DURABLE = 0,  /* all of them */
    PGQ_DURABILITY_BALANCED = 1, /* queue and schedules; log and statistics are UNLOGGED */
    PGQ_DURABILITY_VOLATILE = 2  /* none: fast, and empty after a crash */
} pgq_durability;

typedef struct pgq_install_options {
    size_t struct_size;
    pgq_durability durability;
    bool create_schema; /* CREATE SCHEMA IF NOT EXISTS for names.schema */
} pgq_install_options;

#define PGQ_INSTALL_OPTIONS_INIT                                  \
    {                                                             \
        sizeof(pgq_install_options), PGQ_DURABILITY_DURABLE, true \
    }

/* Creates all objects in one transaction. Errors: PGQ_E_SCHEMA_EXISTS when any of the tables or
 * the enum exists (nothing is changed), PGQ_E_PERMISSION, PGQ_E_DATABASE, connection errors. */
PGQ_API PGQ_CHECKED pgq_code pgq_schema_install(pgq_client *client,
                                                const pgq_install_options *options, pgq_error *err);

/* Drops all objects in one transaction, without CASCADE; succeeds when there are none. */
PGQ_API PGQ_CHECKED pgq_code pgq_schema_uninstall(pgq_client *client, pgq_error *err);

typedef enum pgq_expect { PGQ_EXPECT_PRESENT = 0, PGQ_EXPECT_ABSENT = 1 } pgq_expect;

/* Compares the live catalogue with the declaration. ret_report receives one line per divergence
 * ("" when there is none), each ended by '\n', to be freed with pgq_text_free; it is set also when
 * the result is PGQ_E_SCHEMA_MISMATCH, the code for "there are divergences". */
PGQ_API PGQ_CHECKED pgq_code pgq_schema_verify(pgq_client *client, pgq_expect expect,
                                               char **ret_report, pgq_error *err);

/* Sets the persistence of the four tables in one transaction (rewrites them: ACCESS EXCLUSIVE). */
PGQ_API PGQ_CHECKED pgq_code pgq_schema_durability(pgq_client *client, pgq_durability durability,
                                                   pgq_error *err);

/* Sets the recommended autovacuum parameters, or with `rollback` resets them. */
PGQ_API PGQ_CHECKED pgq_code pgq_schema_autovac(pgq_client *client, bool rollback, pgq_error *err);

typedef enum pgq_sql_kind {
    PGQ_SQL_INSTALL = 0,
    PGQ_SQL_UNINSTALL = 1,
    PGQ_SQL_DURABILITY = 2,
    PGQ_SQL_AUTOVAC = 3,
    PGQ_SQL_AUTOVAC_ROLLBACK = 4
} pgq_sql_kind;

/* The SQL that the functions above send, for review or for a migration tool: no connection is
 * made. `options` counts for install (all of it) and durability (its durability); NULL: defaults.
 * The text is to be freed with pgq_text_free. Errors: PGQ_E_INVALID (names), PGQ_E_NOMEM. */
PGQ_API PGQ_CHECKED pgq_code pgq_schema_sql(const pgq_names *names, pgq_sql_kind kind,
                                            const pgq_install_options *options, char **ret_sql,
                                            pgq_error *err);

/* "durable", "balanced", "volatile"; PGQ_E_INVALID for another text. */
PGQ_API PGQ_CHECKED pgq_code pgq_durability_parse(const char *text, pgq_durability *ret_durability,
                                                  pgq_error *err);
PGQ_API const char *pgq_durability_name(pgq_durability durability);

#ifdef __cplusplus
}
#endif
#endif
