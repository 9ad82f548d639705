#include "scenarios.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pgqueuer/admin.h>
#include <pgqueuer/libpq.h>
#include <pgqueuer/worker.h>

enum { BATCH = 30, WORKER_JOBS = 20 };

static pgq_client *client; /* of the scenarios in which connecting is not the point */
static size_t enqueued;    /* jobs that the run tried to enqueue */
static atomic_long handler_runs;

/* ---- shared ---- */

static void prepare_tables(database *d)
{
    sql_run(d->sql, "TRUNCATE pgqueuer, pgqueuer_log");
}

static void prepare_client(database *d)
{
    prepare_tables(d);
    client = database_client(d);
}

#define SESSIONS                                                                    \
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND " \
    "application_name = 'pgqueuer'"

static const char busy_sessions[] = SESSIONS " AND state IS DISTINCT FROM 'idle'";

/* What was sent may still be on its way when the caller has been told of the failure, and its
 * session looks idle until it reads it. It ends behind that, as the client is gone. */
static bool server_is_quiet(database *d)
{
    return sql_wait(d->sql, "0", SESSIONS);
}

static const char *check_enqueued(database *d, pgq_code code)
{
    size_t rows, logged;

    if (!server_is_quiet(d))
        return "a session stays busy";
    rows = (size_t)sql_number(d->sql, "SELECT count(*) FROM pgqueuer");
    logged = (size_t)sql_number(d->sql, "SELECT count(*) FROM pgqueuer_log");
    if (rows != logged)
        return "a job without its log row";
    if (code == PGQ_OK && rows != enqueued)
        return "an acknowledged job is not there";
    if (rows != 0 && rows != enqueued)
        return "half a batch";
    if ((code == PGQ_E_NOMEM || code == PGQ_E_CONNECTION_LOST || code == PGQ_E_CONNECT) &&
        rows != 0)
        return "the caller was told that nothing was sent";
    return NULL;
}

/* ---- connect: two hosts, the first of which has to be resolved and refuses ---- */

static void prepare_nothing(database *d)
{
    (void)d;
}

static pgq_code run_connect(database *d, pgq_error *err)
{
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    char dsn[SERVER_DSN_BYTES + 32];
    pgq_client *made = NULL;
    pgq_code code;

    (void)snprintf(dsn, sizeof(dsn), "host=localhost,%s port=1,5432 user=postgres dbname=%s",
                   server_socket_directory(), d->name);
    options.dsn = dsn;
    code = pgq_client_open(&options, &made, err);
    (void)pgq_client_free(made);
    return code;
}

static const char *check_nothing(database *d, pgq_code code)
{
    (void)d;
    (void)code;
    return NULL;
}

/* ---- enqueue ---- */

static pgq_new_job make_job(size_t i)
{
    static const char *const entrypoints[] = {"done", "fail", "retry", "slow"};
    pgq_new_job job = PGQ_NEW_JOB_INIT;

    job.entrypoint = entrypoints[i % 4];
    job.payload = (pgq_bytes){"payload", 7};
    job.headers = "{\"a\": 1}";
    return job;
}

static pgq_code enqueue_with_client(size_t count, pgq_error *err)
{
    pgq_new_job jobs[BATCH];
    static char keys[BATCH][8];
    pgq_code code;

    for (size_t i = 0; i < count; i++) {
        jobs[i] = make_job(i);
        (void)snprintf(keys[i], sizeof(keys[i]), "%zu", i);
        jobs[i].dedupe_key = keys[i];
    }
    enqueued = count;
    code = pgq_enqueue_batch(client, jobs, count, PGQ_ON_CONFLICT_UPDATE_PRIORITY, NULL, err);
    client = pgq_client_free(client);
    return code;
}

static pgq_code run_enqueue(database *d, pgq_error *err)
{
    (void)d;
    return enqueue_with_client(1, err);
}

static pgq_code run_enqueue_batch(database *d, pgq_error *err)
{
    (void)d;
    return enqueue_with_client(BATCH, err);
}

/* A client whose call failed serves the next one, on a new connection if need be. */
static pgq_code run_enqueue_twice(database *d, pgq_error *err)
{
    pgq_new_job job = make_job(0);
    pgq_code code = PGQ_OK;

    (void)d;
    enqueued = 1;
    job.dedupe_key = "once";
    for (int i = 0; i < 2; i++)
        code = pgq_enqueue(client, &job, PGQ_ON_CONFLICT_SKIP, NULL, err);
    client = pgq_client_free(client);
    return code;
}

static const char *check_twice(database *d, pgq_code code)
{
    if (!server_is_quiet(d))
        return "a session stays busy";
    if (sql_number(d->sql, "SELECT count(*) FROM pgqueuer") !=
        sql_number(d->sql, "SELECT count(*) FROM pgqueuer_log"))
        return "a job without its log row";
    if (code == PGQ_OK && sql_number(d->sql, "SELECT count(*) FROM pgqueuer") != 1)
        return "an acknowledged job is not there";
    return NULL;
}

static pgq_code run_enqueue_on(database *d, pgq_error *err)
{
    pgq_new_job job = make_job(0);

    enqueued = 1;
    return pgq_enqueue_on(d->sql, NULL, &job, 1, PGQ_ON_CONFLICT_RAISE, NULL, err);
}

static void prepare_enqueue_on(database *d)
{
    prepare_tables(d);
    sql_run(d->sql, "BEGIN");
}

static const char *check_enqueue_on(database *d, pgq_code code)
{
    long long rows;

    if (PQtransactionStatus(d->sql) != PQTRANS_INTRANS) {
        sql_run(d->sql, "ROLLBACK");
        return "the caller's transaction is not open";
    }
    rows = sql_number(d->sql, "SELECT count(*) FROM pgqueuer");
    sql_run(d->sql, "ROLLBACK");
    if (rows != (code == PGQ_OK ? 1 : 0))
        return "the code does not say what is there";
    return sql_number(d->sql, "SELECT count(*) FROM pgqueuer") == 0 ? NULL : "not rolled back";
}

/* ---- the schema ---- */

static const char swept_schema[] = "swept";

static pgq_client *schema_client(const database *d)
{
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_names own = PGQ_NAMES_INIT;
    pgq_client *made = NULL;
    pgq_error err = PGQ_ERROR_INIT;

    own.schema = swept_schema;
    options.dsn = d->dsn;
    options.names = &own;
    if (pgq_client_open(&options, &made, &err) != PGQ_OK)
        abort();
    return made;
}

static void prepare_install(database *d)
{
    sql_run(d->sql, "DROP SCHEMA IF EXISTS swept CASCADE");
    client = schema_client(d);
}

static pgq_code run_install(database *d, pgq_error *err)
{
    pgq_code code = pgq_schema_install(client, NULL, err);

    (void)d;
    client = pgq_client_free(client);
    return code;
}

static pgq_code verify(const database *d, pgq_expect expected)
{
    pgq_client *looker = schema_client(d);
    pgq_error err = PGQ_ERROR_INIT;
    char *report = NULL;
    pgq_code code = pgq_schema_verify(looker, expected, &report, &err);

    pgq_text_free(report);
    (void)pgq_client_free(looker);
    return code;
}

static const char *check_install(database *d, pgq_code code)
{
    bool present, absent;

    if (!server_is_quiet(d))
        return "a session stays busy";
    present = verify(d, PGQ_EXPECT_PRESENT) == PGQ_OK;
    absent = verify(d, PGQ_EXPECT_ABSENT) == PGQ_OK;
    if (code == PGQ_OK && !present)
        return "an acknowledged install is not there";
    if (!present && !absent)
        return "half an install";
    return NULL;
}

static void prepare_uninstall(database *d)
{
    pgq_error err = PGQ_ERROR_INIT;

    prepare_install(d);
    if (pgq_schema_install(client, NULL, &err) != PGQ_OK)
        abort();
}

static pgq_code run_uninstall(database *d, pgq_error *err)
{
    pgq_code code = pgq_schema_uninstall(client, err);

    (void)d;
    client = pgq_client_free(client);
    return code;
}

static const char *check_uninstall(database *d, pgq_code code)
{
    bool absent;

    if (!server_is_quiet(d))
        return "a session stays busy";
    absent = verify(d, PGQ_EXPECT_ABSENT) == PGQ_OK;
    if (code == PGQ_OK && !absent)
        return "an acknowledged uninstall did not happen";
    return absent || verify(d, PGQ_EXPECT_PRESENT) == PGQ_OK ? NULL : "half an uninstall";
}

static pgq_code run_verify(database *d, pgq_error *err)
{
    char *report = NULL;
    pgq_code code = pgq_schema_verify(client, PGQ_EXPECT_PRESENT, &report, err);

    (void)d;
    pgq_text_free(report);
    client = pgq_client_free(client);
    return code;
}

static const char *check_verify(database *d, pgq_code code)
{
    (void)d;
    return code == PGQ_E_SCHEMA_MISMATCH ? "a fault was taken for a divergence" : NULL;
}

/* ---- acting on jobs ---- */

enum { ACT_JOBS = 6 };

/* Jobs 1 to ACT_JOBS. */
static void prepare_act(database *d)
{
    prepare_client(d);
    sql_run(d->sql, "INSERT INTO pgqueuer (id, priority, status, entrypoint, heartbeat) VALUES "
                    "(1, 0, 'queued', 'e', now()), (2, 0, 'queued', 'e', now()), "
                    "(3, 0, 'failed', 'e', now()), (4, 0, 'failed', 'e', now()), "
                    "(5, 0, 'picked', 'e', now() - interval '1 h'), (6, 0, 'picked', 'e', now())");
}

static pgq_code run_cancel(database *d, pgq_error *err)
{
    static const int64_t ids[] = {7, 6, 5, 4, 3, 2, 1, 1};
    pgq_cancel_counts counts;
    pgq_code code = pgq_cancel(client, ids, sizeof(ids) / sizeof(ids[0]), NULL, &counts, err);

    (void)d;
    client = pgq_client_free(client);
    if (code == PGQ_OK && (counts.cancelled != 5 || counts.told != 1 || counts.unknown != 1))
        abort();
    return code;
}

static const char *check_cancel(database *d, pgq_code code)
{
    if (!server_is_quiet(d))
        return "a session stays busy";
    if (sql_number(d->sql, "SELECT count(*) FROM pgqueuer WHERE id = 6 AND status = 'picked'") != 1)
        return "the job of a live worker was touched";
    if (sql_number(d->sql, "SELECT count(*) FROM pgqueuer FULL JOIN (SELECT job_id FROM "
                           "pgqueuer_log WHERE status = 'canceled') AS l ON l.job_id = id "
                           "WHERE (id IS NULL) <> (job_id IS NULL)") != ACT_JOBS)
        return "a job is neither in the queue nor in the log, or in both";
    if (code == PGQ_OK && sql_number(d->sql, "SELECT count(*) FROM pgqueuer") != 1)
        return "an acknowledged cancellation did not happen";
    return NULL;
}

static pgq_code run_requeue(database *d, pgq_error *err)
{
    static const int64_t ids[] = {1, 3, 4, 6, 7};
    size_t requeued;
    pgq_code code = pgq_requeue(client, ids, sizeof(ids) / sizeof(ids[0]), &requeued, err);

    (void)d;
    client = pgq_client_free(client);
    if (requeued != (code == PGQ_OK ? 2 : 0))
        abort();
    return code;
}

static const char *check_requeue(database *d, pgq_code code)
{
    long long queued, logged;

    if (!server_is_quiet(d))
        return "a session stays busy";
    queued = sql_number(d->sql, "SELECT count(*) FROM pgqueuer WHERE status = 'queued'") - 2;
    logged = sql_number(d->sql, "SELECT count(*) FROM pgqueuer_log WHERE status = 'queued'");
    if (queued != logged)
        return "a job was requeued without its log row";
    if (queued != 2 && (queued != 0 || code == PGQ_OK))
        return "the code does not say what was done";
    if ((code == PGQ_E_NOMEM || code == PGQ_E_CONNECTION_LOST || code == PGQ_E_CONNECT) &&
        queued != 0)
        return "the caller was told that nothing was sent";
    return NULL;
}

/* ---- the worker ---- */

long scenario_handler_runs(void)
{
    return atomic_load(&handler_runs);
}

static pgq_outcome handle(pgq_job *job, void *user)
{
    const char *entrypoint = pgq_job_entrypoint(job);

    (void)user;
    atomic_fetch_add(&handler_runs, 1);
    if (strcmp(entrypoint, "fail") == 0)
        return pgq_fail("ValueError", "boom");
    if (strcmp(entrypoint, "retry") == 0 && pgq_job_attempts(job) == 0)
        return pgq_retry(2, "once more");
    return pgq_done();
}

/* SWEEP_LOG=1 shows what the worker says. */
static void show(void *user, pgq_log_level level, const char *event, const pgq_log_field *fields,
                 size_t count)
{
    struct timespec now;

    (void)user;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    printf("# %ld.%06ld %d %s", (long)now.tv_sec % 60, now.tv_nsec / 1000, (int)level, event);
    for (size_t i = 0; i < count; i++) {
        if (fields[i].text != NULL)
            printf(" %s=\"%s\"", fields[i].key, fields[i].text);
        else
            printf(" %s=%lld", fields[i].key, (long long)fields[i].number);
    }
    printf("\n");
}

static pgq_code run_worker_on(const database *d, pgq_error *err)
{
    static const char *const entrypoints[] = {"done", "fail", "retry", "slow"};
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_run_options run = PGQ_RUN_OPTIONS_INIT;
    pgq_worker *w = NULL;
    pgq_code code;

    options.dsn = d->dsn;
    run.mode = PGQ_MODE_DRAIN;
    run.threads = 2;
    run.batch_size = 5;
    run.heartbeat_timeout_ms = 400;
    run.dequeue_timeout_ms = 500;
    run.log_level = PGQ_LOG_DEBUG;
    run.log_sink = getenv("SWEEP_LOG") != NULL ? show : NULL;
    code = pgq_worker_new(&options, &w, err);
    for (size_t i = 0; code == PGQ_OK && i < 4; i++)
        code = pgq_worker_entrypoint(w, entrypoints[i], handle, NULL, NULL, err);
    if (code == PGQ_OK)
        code = pgq_worker_run(w, &run, err);
    (void)pgq_worker_free(w);
    return code;
}

static pgq_code run_worker(database *d, pgq_error *err)
{
    return run_worker_on(d, err);
}

static void prepare_worker(database *d)
{
    pgq_new_job jobs[WORKER_JOBS];
    pgq_error err = PGQ_ERROR_INIT;

    prepare_client(d);
    for (size_t i = 0; i < WORKER_JOBS; i++)
        jobs[i] = make_job(i);
    if (pgq_enqueue_batch(client, jobs, WORKER_JOBS, PGQ_ON_CONFLICT_RAISE, NULL, &err) != PGQ_OK)
        abort();
    client = pgq_client_free(client);
}

/* The jobs of a worker that ended badly are another worker's after the heartbeat timeout, whose
 * passing is made here. */
static const char *check_worker(database *d, pgq_code code)
{
    pgq_error err = PGQ_ERROR_INIT;

    /* a claim that the server carries out after its connection was lost is nobody's to drain */
    if (code == PGQ_OK && sql_number(d->sql, "%s", busy_sessions) == 0 &&
        sql_number(d->sql, "SELECT count(*) FROM pgqueuer") != 0) {
        printf("# %s\n",
               sql_text(d->sql,
                        "SELECT string_agg(concat_ws(' ', job_id, l.status, l.created::time), "
                        "', ' ORDER BY l.id) FROM pgqueuer_log AS l JOIN pgqueuer AS q "
                        "ON q.id = l.job_id"));
        return "a drain that succeeded left jobs";
    }
    if (!server_is_quiet(d))
        return "a session stays busy";
    sql_run(d->sql, "UPDATE pgqueuer SET heartbeat = now() - interval '1 hour' "
                    "WHERE status = 'picked'");
    if (sql_number(d->sql, "SELECT count(*) FROM pgqueuer") != 0) {
        code = run_worker_on(d, &err);
        if (code != PGQ_OK) {
            printf("# %s\n", err.message);
            return "a worker without faults failed";
        }
    }
    if (sql_number(d->sql, "SELECT count(*) FROM pgqueuer") != 0)
        return "a worker without faults left jobs";
    if (sql_number(d->sql,
                   "SELECT count(*) FROM (SELECT job_id FROM pgqueuer_log GROUP BY job_id "
                   "HAVING count(*) FILTER (WHERE status IN ('successful', 'exception')) = 1 "
                   "AND count(*) = count(*) FILTER (WHERE status IN ('queued', 'picked')) + 1) "
                   "AS good") != WORKER_JOBS)
        return "a job has not exactly one terminal log row";
    if (sql_number(d->sql, "SELECT count(*) FROM pgqueuer_log WHERE status = 'exception'") !=
        WORKER_JOBS / 4)
        return "another number of failed jobs than failed";
    return NULL;
}

const scenario scenarios[] = {
    {"connect", prepare_nothing, run_connect, check_nothing},
    {"enqueue", prepare_client, run_enqueue, check_enqueued},
    {"enqueue batch", prepare_client, run_enqueue_batch, check_enqueued},
    {"enqueue twice", prepare_client, run_enqueue_twice, check_twice},
    {"enqueue on", prepare_enqueue_on, run_enqueue_on, check_enqueue_on},
    {"install", prepare_install, run_install, check_install},
    {"uninstall", prepare_uninstall, run_uninstall, check_uninstall},
    {"verify", prepare_uninstall, run_verify, check_verify},
    {"cancel", prepare_act, run_cancel, check_cancel},
    {"requeue", prepare_act, run_requeue, check_requeue},
    {"worker", prepare_worker, run_worker, check_worker},
};
const size_t scenario_count = sizeof(scenarios) / sizeof(scenarios[0]);
