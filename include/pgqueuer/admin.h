/* The database objects: install, upgrade, uninstall, verify, durability, autovacuum. */
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
    bool extras; /* also the objects that are ours alone, in a schema pgqueuer_c: see below */
} pgq_install_options;

#define PGQ_INSTALL_OPTIONS_INIT                                         \
    {                                                                    \
        sizeof(pgq_install_options), PGQ_DURABILITY_DURABLE, true, false \
    }

/* Creates all objects in one transaction. Errors: PGQ_E_SCHEMA_EXISTS when any of the tables or
 * the enum exists (nothing is changed), PGQ_E_PERMISSION, PGQ_E_DATABASE, connection errors.
 *
 * The extras are a table in which workers count what they settle, one that remembers how far
 * imports have come (import.h), one with a sequence by which claims of several workers keep clear
 * of each other's rows, and functions that enqueue, for producers in any language. With the first,
 * the log policy FAILURES leaves no log rows of successes, and log rows need not be touched again
 * for the statistics. The third is UNLOGGED, whatever the durability. Python's workers and its
 * upgrade do not see them. Their schema is pgqueuer_c, with the names' schema and prefix added:
 * pgqueuer_c_SCHEMA_PREFIX. With `extras`, an installation that exists is no error: what it lacks
 * of the extras is added, functions of another release are replaced, and nothing else changes.
 * PGQ_E_DATABASE when the functions there enqueue into another installation. */
PGQ_API PGQ_CHECKED pgq_code pgq_schema_install(pgq_client *client,
                                                const pgq_install_options *options, pgq_error *err);

typedef struct pgq_upgrade_options {
    size_t struct_size;
    pgq_durability durability; /* of tables that are missing as a whole; others stay as they are */
    bool extras;               /* also what is missing of the extras; what is there of them is
                                  completed in any case. And the trigger's function is made ours,
                                  where it is one that does not let a worker announce a backlog's
                                  deletes, such as Python's */
    bool widen_ids;            /* ids of 32 bits become 64 bits wide, which rewrites the table */
    int lock_timeout_ms;       /* how long a statement may wait for a lock behind which others would
                                  have to wait, 1 to 3 600 000; 1000 */
    int64_t patience_ms; /* how long it may be kept waiting at one step, over all attempts, 1 to
                            604 800 000; 600 000 */
    /* Told what is waited for and what was done, one line without a newline, on the caller's
     * thread. It must not use the client. NULL: nobody is told. */
    void (*note)(void *user, const char *text);
    void *user;
} pgq_upgrade_options;

#define PGQ_UPGRADE_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(pgq_upgrade_options), PGQ_DURABILITY_DURABLE, false, true, 1000, 600000, NULL, NULL \
    }

/* One step of an upgrade. The texts belong to the plan. */
typedef struct pgq_plan_step {
    const char *what;  /* such as "add column pgqueuer.slot" */
    const char *why;   /* such as "it is missing" */
    const char *sql;   /* what is sent, each statement ended by a semicolon; "": nothing is, and a
                          person has to look */
    const char *table; /* what is locked; "": nothing that others use */
    const char *lock;  /* the server's name of the lock, such as "ACCESS EXCLUSIVE"; "": none */
    bool rewrites;     /* the whole table is written anew while the lock is held */
    int64_t rows;      /* of that table, by the server's estimate; -1: it has none */
} pgq_plan_step;

typedef struct pgq_plan pgq_plan;

/* What an upgrade would do now, in order. Takes no lock and changes nothing. The plan is to be
 * freed with pgq_plan_free. options may be NULL. Errors: PGQ_E_SCHEMA_MISMATCH when something is
 * there that an upgrade cannot make right (the message names it), PGQ_E_INVALID, PGQ_E_LIMIT,
 * PGQ_E_DATABASE, PGQ_E_NOMEM, connection errors. */
PGQ_API PGQ_CHECKED pgq_code pgq_schema_plan(pgq_client *client, const pgq_upgrade_options *options,
                                             pgq_plan **ret_plan, pgq_error *err);

PGQ_API size_t pgq_plan_count(const pgq_plan *plan);

/* Step 0 to count - 1; NULL beyond. Lives as long as the plan. */
PGQ_API const pgq_plan_step *pgq_plan_step_at(const pgq_plan *plan, size_t at);

/* Takes NULL; returns NULL. */
PGQ_API pgq_plan *pgq_plan_free(pgq_plan *plan);

/* Brings the objects that a release of Python's PGQueuer from 0.21.0 on left behind, or an older
 * one of ours, to today's. It may be done while workers run, and be cut off at any point: what is
 * done stays done, and the next upgrade goes on from there. It holds the advisory lock that the
 * Python release's upgrade takes, and sends each step by itself. A step that does not get its lock
 * within lock_timeout_ms gives up, lets the others go on, and tries again later; indexes are built
 * CONCURRENTLY. *ret_applied (may be NULL) says how many statements were carried out, also on
 * failure. The client's call timeout does not count here.
 * Needs a session of its own on the server: PGQ_E_UNSUPPORTED through a pooler. Errors: those of
 * pgq_schema_plan; PGQ_E_TIMEOUT, with the process that was in the way; PGQ_E_PERMISSION (it is for
 * the owner of the tables). options may be NULL. */
PGQ_API PGQ_CHECKED pgq_code pgq_schema_upgrade(pgq_client *client,
                                                const pgq_upgrade_options *options,
                                                size_t *ret_applied, pgq_error *err);

/* The upgrade as a script of SQL, for whoever has to run it by hand or by a migration tool: no
 * connection is made. It suits every database that pgq_schema_upgrade does, may be run in one
 * transaction or statement by statement, and does nothing the second time; but it locks the tables
 * while it changes them and builds their indexes. `options` counts for durability, extras (without
 * it, those that are there are not completed) and widen_ids; NULL: defaults. The text is to be
 * freed with pgq_text_free. Errors: PGQ_E_INVALID, PGQ_E_LIMIT (names), PGQ_E_NOMEM. */
PGQ_API PGQ_CHECKED pgq_code pgq_schema_upgrade_sql(const pgq_names *names,
                                                    const pgq_upgrade_options *options,
                                                    char **ret_sql, pgq_error *err);

/* Drops all objects in one transaction, the extras too, without CASCADE; succeeds when there are
 * none. */
PGQ_API PGQ_CHECKED pgq_code pgq_schema_uninstall(pgq_client *client, pgq_error *err);

typedef enum pgq_expect { PGQ_EXPECT_PRESENT = 0, PGQ_EXPECT_ABSENT = 1 } pgq_expect;

/* Compares the live catalogue with the declaration. ret_report receives one line per divergence
 * ("" when there is none), each ended by '\n', to be freed with pgq_text_free; it is set also when
 * the result is PGQ_E_SCHEMA_MISMATCH, the code for "there are divergences". */
PGQ_API PGQ_CHECKED pgq_code pgq_schema_verify(pgq_client *client, pgq_expect expect,
                                               char **ret_report, pgq_error *err);

/* Whether the extras are there, all of them. Their schema's name is put into `ret_schema`, if that
 * is given, as a text to be freed with pgq_text_free. */
PGQ_API PGQ_CHECKED pgq_code pgq_schema_has_extras(pgq_client *client, bool *ret_present,
                                                   char **ret_schema, pgq_error *err);

/* Sets the persistence of the four tables, and of the extras, in one transaction (rewrites them:
 * ACCESS EXCLUSIVE). */
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
