/* The bench's own connection: its queues, their jobs, the server's counters. */
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "cli/bench.h"
#include "cli/progress.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* The schemas that belong to a queue of ours, which is named once. */
#define OURS_PATTERN "^(pgqueuer_c_)?%s_?$"
#define GONE_US 5000000 /* for the workers' sessions to end after the workers have */

enum {
    SQL_BYTES = 1024,
    FILL_JOBS = 50000, /* in one transaction */
    LOOK_MS = 100,     /* between two looks at whether a signal has come */
    GONE_LOOK_MS = 5
};

static pgq_code sql_error(const bench_db *db, const PGresult *result, pgq_error *err)
{
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    if (PQstatus(db->conn) == CONNECTION_BAD)
        return error_set(err, PGQ_E_CONNECTION_LOST, "the benchmark's connection was lost: %s",
                         message != NULL ? message : "the server has closed it");
    if (state != NULL && base_streq(state, "42501"))
        (void)error_set(err, PGQ_E_PERMISSION, "%s", message != NULL ? message : "not allowed");
    else
        (void)error_set(err, PGQ_E_DATABASE, "%s", message != NULL ? message : "no answer");
    return err != NULL ? err->code : PGQ_E_DATABASE;
}

static void cancel(bench_db *db)
{
    PGcancel *handle = PQgetCancel(db->conn);
    char ignored[256];

    if (handle != NULL)
        (void)PQcancel(handle, ignored, sizeof(ignored));
    PQfreeCancel(handle);
}

/* Waits for the answer of what was sent. */
static PGresult *take_result(bench_db *db)
{
    struct pollfd socket = {.fd = PQsocket(db->conn), .events = POLLIN};
    PGresult *result = NULL, *next;
    bool cancelled = false;

    for (;;) {
        while (PQisBusy(db->conn)) {
            if (bench_interrupted() && !db->stubborn && !cancelled) {
                cancel(db);
                cancelled = true;
            }
            (void)poll(&socket, 1, LOOK_MS);
            if (PQconsumeInput(db->conn) == 0)
                break;
        }
        next = PQgetResult(db->conn);
        if (next == NULL)
            return result;
        PQclear(result);
        result = next;
    }
}

pgq_code bench_db_run(bench_db *db, const char *sql, PGresult **ret_result, pgq_error *err)
{
    PGresult *result;
    ExecStatusType status;
    pgq_code code = PGQ_OK;

    if (ret_result != NULL)
        *ret_result = NULL;
    if (bench_interrupted() && !db->stubborn)
        return bench_interruption(err);
    result = PQsendQuery(db->conn, sql) != 0 ? take_result(db) : NULL;
    status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        code = bench_interrupted() && !db->stubborn ? bench_interruption(err)
                                                    : sql_error(db, result, err);
    if (code == PGQ_OK && ret_result != NULL)
        *ret_result = result;
    else
        PQclear(result);
    return code;
}

/* One statement made from a format, without an answer that matters. */
static pgq_code BASE_PRINTF(3, 4) run_format(bench_db *db, pgq_error *err, const char *format, ...)
{
    char sql[SQL_BYTES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(sql, sizeof(sql), format, args);
    va_end(args);
    return bench_db_run(db, sql, NULL, err);
}

double bench_db_number(bench_db *db, const char *sql)
{
    PGresult *result = NULL;
    double number = NAN;

    if (bench_db_run(db, sql, &result, NULL) == PGQ_OK && PQntuples(result) > 0 &&
        PQgetisnull(result, 0, 0) == 0)
        number = strtod(PQgetvalue(result, 0, 0), NULL);
    PQclear(result);
    return number;
}

static PGconn *connect_one(const bench_db *db, pgq_error *err)
{
    char timeout[24];
    const char *keys[] = {"dbname", "fallback_application_name", "connect_timeout", NULL};
    const char *values[] = {db->dsn, BENCH_APPLICATION "-parent", timeout, NULL};
    const char *message;
    PGconn *conn;

    (void)snprintf(timeout, sizeof(timeout), "%d", (db->connect_timeout_ms + 999) / 1000);
    conn = PQconnectdbParams(keys, values, 1);
    if (PQstatus(conn) == CONNECTION_OK)
        return conn;
    message = conn != NULL ? PQerrorMessage(conn) : "out of memory";
    (void)error_set(err, PGQ_E_CONNECT, "cannot connect: %.*s", (int)strcspn(message, "\n"),
                    message);
    PQfinish(conn);
    return NULL;
}

/* What of the server's settings matters for the figures. */
static void read_settings(bench_db *db)
{
    PGresult *result = NULL;

    db->setting_count = 0;
    if (bench_db_run(db,
                     "SELECT name, current_setting(name) FROM pg_settings WHERE name IN ('fsync', "
                     "'synchronous_commit', 'wal_level', 'full_page_writes', 'wal_compression', "
                     "'shared_buffers', 'max_wal_size', 'checkpoint_timeout', 'autovacuum', "
                     "'data_checksums') ORDER BY name",
                     &result, NULL) == PGQ_OK) {
        for (int i = 0; i < PQntuples(result) && i < BENCH_SETTINGS_MAX; i++) {
            bench_setting *setting = &db->settings[db->setting_count++];

            (void)snprintf(setting->name, sizeof(setting->name), "%s", PQgetvalue(result, i, 0));
            (void)snprintf(setting->value, sizeof(setting->value), "%s", PQgetvalue(result, i, 1));
        }
    }
    PQclear(result);
    (void)snprintf(db->version, sizeof(db->version), "%s",
                   PQparameterStatus(db->conn, "server_version"));
}

pgq_code bench_db_open(bench_db *db, pgq_error *err)
{
    db->conn = connect_one(db, err);
    if (db->conn == NULL)
        return PGQ_E_CONNECT;
    db->checkpoints = true; /* until it is refused */
    db->statements = !isnan(bench_db_number(db, "SELECT sum(calls) FROM pg_stat_statements"));
    read_settings(db);
    return PGQ_OK;
}

pgq_code bench_db_hold(bench_db *db, PGconn **ret_holder, pgq_error *err)
{
    PGconn *holder = connect_one(db, err);
    PGresult *result;
    bool held = false;

    *ret_holder = holder;
    if (holder == NULL)
        return PGQ_E_CONNECT;
    result = PQexec(holder, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class");
    held = PQresultStatus(result) == PGRES_TUPLES_OK;
    PQclear(result);
    return held ? PGQ_OK : error_set(err, PGQ_E_DATABASE, "the horizon cannot be held");
}

pgq_names bench_db_names(const bench_db *db, int place)
{
    pgq_names names = PGQ_NAMES_INIT;

    names.schema = db->schemas[place];
    names.channel =
        db->schemas[place]; /* channels are the database's: that of the real queue stays quiet */
    return names;
}

pgq_connect_options bench_db_options(const bench_db *db, const pgq_names *names)
{
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;

    options.dsn = db->dsn;
    options.names = names;
    options.connect_timeout_ms = db->connect_timeout_ms;
    return options;
}

pgq_code bench_db_install(bench_db *db, pgq_error *err)
{
    pgq_connect_options options;
    pgq_names names;
    pgq_install_options install = PGQ_INSTALL_OPTIONS_INIT;
    pgq_client *client = NULL;
    uint32_t random;
    pgq_code code;

    if (random_bytes(&random, sizeof(random)) != PGQ_OK)
        return error_set(err, PGQ_E_IO, "the kernel has no random numbers");
    (void)snprintf(db->schemas[db->schema_count], sizeof(db->schemas[0]), BENCH_SCHEMA "%08" PRIx32,
                   random);
    names = bench_db_names(db, db->schema_count);
    options = bench_db_options(db, &names);
    code = pgq_client_open(&options, &client, err);
    if (code == PGQ_OK) {
        db->schema_count++;    /* whatever comes of it has to go */
        install.extras = true; /* or `failures` would be `terminal` */
        code = pgq_schema_install(client, &install, err);
    }
    (void)pgq_client_free(client);
    if (code == PGQ_E_PERMISSION)
        error_hint(err, "the benchmark makes a schema of its own: the role needs CREATE on the "
                        "database");
    return code;
}

/* The schema of a queue, and that of its extras. */
static pgq_code drop(bench_db *db, const char *schema, pgq_error *err)
{
    return run_format(db, err,
                      "DO $$ DECLARE name text; BEGIN FOR name IN SELECT nspname FROM pg_namespace "
                      "WHERE nspname ~ '" OURS_PATTERN "' LOOP EXECUTE format('DROP SCHEMA %%I "
                      "CASCADE', name); END LOOP; END $$",
                      schema);
}

pgq_code bench_db_close(bench_db *db, pgq_error *err)
{
    pgq_code code = PGQ_OK;

    db->stubborn = true;
    if (db->schema_count > 0 && PQstatus(db->conn) != CONNECTION_OK) {
        PQfinish(db->conn);
        code = bench_db_open(db, err);
    }
    if (code == PGQ_OK && db->schema_count > 0)
        code = run_format(db, err, "SET client_min_messages = warning");
    for (int i = 0; code == PGQ_OK && i < db->schema_count; i++)
        code = drop(db, db->schemas[i], err);
    if (code != PGQ_OK && db->schema_count > 0)
        error_hint(err, "what the benchmark has left: DROP SCHEMA %s CASCADE", db->schemas[0]);
    PQfinish(db->conn);
    db->conn = NULL;
    return code;
}

pgq_code bench_db_checkpoint(bench_db *db, pgq_error *err)
{
    pgq_code code = PGQ_OK;

    if (db->checkpoints)
        code = bench_db_run(db, "CHECKPOINT", NULL, err);
    if (code != PGQ_E_PERMISSION)
        return code;
    db->checkpoints = false;
    return PGQ_OK;
}

pgq_code bench_db_empty(bench_db *db, int place, pgq_error *err)
{
    const char *schema = db->schemas[place];
    char sql[SQL_BYTES];
    PGresult *tables = NULL;
    pgq_code code;

    (void)snprintf(sql, sizeof(sql),
                   "SELECT string_agg(format('%%I.%%I', schemaname, tablename), ', ') FROM "
                   "pg_tables WHERE schemaname ~ '" OURS_PATTERN "'",
                   schema);
    code = bench_db_run(db, sql, &tables, err);
    if (code == PGQ_OK)
        code = run_format(db, err, "TRUNCATE %s", PQgetvalue(tables, 0, 0));
    PQclear(tables);
    /* the pages that come now are new ones, and need no images until the next checkpoint */
    return code == PGQ_OK ? bench_db_checkpoint(db, err) : code;
}

pgq_code bench_db_fill(bench_db *db, int place, int64_t jobs, bool logged, pgq_error *err)
{
    const char *schema = db->schemas[place];
    progress bar;
    pgq_code code = PGQ_OK;

    progress_begin(&bar, "enqueueing", jobs);
    for (int64_t done = 0; code == PGQ_OK && done < jobs; done += FILL_JOBS) {
        int64_t now = base_min_i64(FILL_JOBS, jobs - done);

        code = run_format(db, err,
                          "WITH ids AS (INSERT INTO %s.pgqueuer (priority, status, entrypoint) "
                          "SELECT 0, 'queued', '" BENCH_ENTRYPOINT "' FROM generate_series(1, "
                          "%" PRId64 ") RETURNING id) INSERT INTO %s.pgqueuer_log (job_id, status, "
                          "priority, entrypoint) SELECT id, 'queued', 0, '" BENCH_ENTRYPOINT
                          "' FROM ids WHERE %s",
                          schema, now, schema, logged ? "true" : "false");
        progress_show(&bar, done + now);
    }
    progress_end(&bar);
    if (code == PGQ_OK)
        code = run_format(db, err, "ANALYZE %s.pgqueuer, %s.pgqueuer_log", schema, schema);
    return code;
}

pgq_code bench_db_count(bench_db *db, int place, int64_t *ret_jobs, pgq_error *err)
{
    char sql[SQL_BYTES];
    PGresult *result;
    pgq_code code;

    (void)snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s.pgqueuer", db->schemas[place]);
    code = bench_db_run(db, sql, &result, err);
    if (code == PGQ_OK)
        *ret_jobs = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return code;
}

pgq_code bench_db_vacuum(bench_db *db, int place, pgq_error *err)
{
    return run_format(db, err, "VACUUM ANALYZE %s.pgqueuer", db->schemas[place]);
}

double bench_db_dead_rows(bench_db *db, int place)
{
    char sql[SQL_BYTES];

    (void)snprintf(sql, sizeof(sql),
                   "SELECT n_dead_tup FROM pg_stat_user_tables WHERE schemaname = '%s' AND relname "
                   "= 'pgqueuer'",
                   db->schemas[place]);
    return bench_db_number(db, sql);
}

pgq_code bench_db_meter(bench_db *db, bench_meter *meter, pgq_error *err)
{
    static const char sessions[] =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '" BENCH_APPLICATION "'";
    int64_t deadline_us = clock_monotonic_us() + GONE_US;
    char dead[SQL_BYTES];

    while (bench_db_number(db, sessions) > 0 && clock_monotonic_us() < deadline_us)
        (void)poll(NULL, 0, GONE_LOOK_MS);
    meter->wal_bytes = bench_db_number(db, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn");
    meter->images = PQserverVersion(db->conn) >= 140000
                        ? bench_db_number(db, "SELECT wal_fpi FROM pg_stat_wal")
                        : NAN;
    meter->commits = bench_db_number(db, "SELECT xact_commit FROM pg_stat_database WHERE datname = "
                                         "current_database()");
    (void)snprintf(dead, sizeof(dead),
                   "SELECT sum(n_tup_upd + n_tup_del) FROM pg_stat_user_tables WHERE schemaname IN "
                   "('%s', '%s')",
                   db->schemas[0], db->schemas[1]);
    meter->dead = bench_db_number(db, dead);
    meter->statements =
        db->statements
            ? bench_db_number(db,
                              "SELECT sum(calls) FROM pg_stat_statements WHERE dbid = (SELECT oid "
                              "FROM pg_database WHERE datname = current_database())")
            : NAN;
    return bench_db_check(db, err);
}

pgq_code bench_db_check(bench_db *db, pgq_error *err)
{
    if (PQconsumeInput(db->conn) != 0 && PQstatus(db->conn) == CONNECTION_OK)
        return PGQ_OK;
    return error_set(err, PGQ_E_CONNECTION_LOST, "the benchmark's connection was lost");
}
