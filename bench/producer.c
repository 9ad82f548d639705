/* Single enqueues, each with its own commit as far as its caller sees, in five ways: by bare libpq,
 * one INSERT into queue and log, on 1 and on 8 connections; by pgq_enqueue, likewise; and by
 * pgq_producer_enqueue from 64 threads through one producer. Beside them the limit of the last:
 * bare libpq, 64 jobs in each INSERT and commit, and nobody to be told. And many jobs at once, 5000
 * in each call of pgq_enqueue_batch, beside bare libpq, which copies ready text into queue and log.
 *
 *     build/bench_producer DSN [SECONDS [ROUNDS [PART]]]
 *
 * With PART, only the ways that have it in their names: 5000, for instance, for many jobs at once.
 * The ways take turns in every round, and the medians of the rounds are printed, with the least and
 * the most. A ratio is the median of the rounds' ratios: what the machine does meanwhile hits both
 * sides. It works in a schema of its own, which it makes and removes: the queue of the database is
 * not touched. A figure about durability needs a server with fsync on. */
#include <pgqueuer/pgqueuer.h>

#include <libpq-fe.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { THREADS_MAX = 64, GROUP_JOBS = 64, BATCH_JOBS = 5000, ROUNDS_MAX = 31, WARM_UP_MS = 300 };

typedef enum kind { BARE, BARE_GROUP, BARE_COPY, CLIENT, CLIENT_BATCH, PRODUCER } kind;

typedef struct way {
    const char *name;
    kind kind;
    int threads;
    int versus; /* the way that it is compared with, by its place */
} way;

static const way ways[] = {
    {"bare libpq, 1 connection", BARE, 1, 0},
    {"pgq_enqueue, 1 connection", CLIENT, 1, 0},
    {"bare libpq, 8 connections", BARE, 8, 2},
    {"pgq_enqueue, 8 connections", CLIENT, 8, 2},
    {"bare libpq, 64 jobs a commit", BARE_GROUP, 1, 1},
    {"one producer, 64 threads", PRODUCER, 64, 1},
    {"bare COPY, 5000 jobs", BARE_COPY, 1, 6},
    {"pgq_enqueue_batch, 5000 jobs", CLIENT_BATCH, 1, 6},
};

enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

#define SCHEMA "pgqueuer_bench_producer"

static const char bare_sql[] =
    "WITH inserted AS (INSERT INTO " SCHEMA
    ".pgqueuer (priority, status, entrypoint, payload, execute_after)"
    " VALUES (0, 'queued', $1, $2, now()) RETURNING id, priority, entrypoint),"
    " logged AS (INSERT INTO " SCHEMA ".pgqueuer_log (job_id, status, priority, entrypoint)"
    " SELECT id, 'queued', priority, entrypoint FROM inserted)"
    " SELECT id FROM inserted";

static const char group_sql[] =
    "WITH inserted AS (INSERT INTO " SCHEMA
    ".pgqueuer (priority, status, entrypoint, payload, execute_after)"
    " SELECT 0, 'queued', $1, $2::bytea, now() FROM generate_series(1, 64)"
    " RETURNING id, priority, entrypoint),"
    " logged AS (INSERT INTO " SCHEMA ".pgqueuer_log (job_id, status, priority, entrypoint)"
    " SELECT id, 'queued', priority, entrypoint FROM inserted)"
    " SELECT id FROM inserted";

static const char draw_sql[] = "SELECT nextval('" SCHEMA ".pgqueuer_id_seq') "
                               "FROM generate_series(1, 5000)";

typedef struct run {
    const way *way;
    const char *dsn;
    pgq_producer *producer;
    pthread_barrier_t begin;
    atomic_bool counts, over;
} run;

typedef struct hand {
    run *run;
    pthread_t thread;
    long long done;
    PGconn *conn;
    pgq_client *client;
} hand;

static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "producer: %s: %s\n", what, why);
    exit(1);
}

static int64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void pause_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&t, NULL);
}

/* To the tables of our schema. */
static pgq_connect_options connect_options(const char *dsn)
{
    static pgq_names names = PGQ_NAMES_INIT;
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;

    names.schema = SCHEMA;
    names.channel = SCHEMA;
    options.dsn = dsn;
    options.names = &names;
    return options;
}

static pgq_client *open_client(const char *dsn)
{
    pgq_connect_options options = connect_options(dsn);
    pgq_error err = PGQ_ERROR_INIT;
    pgq_client *client;

    if (pgq_client_open(&options, &client, &err) != PGQ_OK)
        die("connect", err.message);
    return client;
}

static void connect_hand(hand *h)
{
    static const char *const sqls[] = {
        [BARE] = bare_sql, [BARE_GROUP] = group_sql, [BARE_COPY] = draw_sql};
    kind k = h->run->way->kind;

    if (k <= BARE_COPY) {
        PGresult *result;

        h->conn = PQconnectdb(h->run->dsn);
        if (PQstatus(h->conn) != CONNECTION_OK)
            die("connect", PQerrorMessage(h->conn));
        result = PQprepare(h->conn, "enqueue", sqls[k], k == BARE_COPY ? 0 : 2, NULL);
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            die("prepare", PQerrorMessage(h->conn));
        PQclear(result);
    } else if (k != PRODUCER) {
        h->client = open_client(h->run->dsn);
    }
}

static void enqueue_bare(PGconn *conn)
{
    const char *values[2] = {"bench", "payload"};
    PGresult *result = PQexecPrepared(conn, "enqueue", 2, values, NULL, NULL, 0);

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        die("enqueue", PQerrorMessage(conn));
    PQclear(result);
}

static void run_plain(PGconn *conn, const char *sql, ExecStatusType wanted)
{
    PGresult *result = PQexec(conn, sql);

    if (PQresultStatus(result) != wanted)
        die(sql, PQerrorMessage(conn));
    PQclear(result);
}

/* Rows with the ids that were drawn before the rest. */
static void copy_rows(PGconn *conn, const char *sql, const PGresult *drawn, const char *rest)
{
    static char text[BATCH_JOBS * 96];
    size_t len = 0;

    run_plain(conn, sql, PGRES_COPY_IN);
    for (int i = 0; i < BATCH_JOBS; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s\t%s\n", PQgetvalue(drawn, i, 0),
                                rest);
    if (PQputCopyData(conn, text, (int)len) != 1 || PQputCopyEnd(conn, NULL) != 1)
        die(sql, PQerrorMessage(conn));
    for (PGresult *result; (result = PQgetResult(conn)) != NULL; PQclear(result)) {
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            die(sql, PQerrorMessage(conn));
    }
}

static void copy_bare(PGconn *conn)
{
    PGresult *drawn;

    run_plain(conn, "BEGIN", PGRES_COMMAND_OK);
    drawn = PQexecPrepared(conn, "enqueue", 0, NULL, NULL, NULL, 0);
    if (PQntuples(drawn) != BATCH_JOBS)
        die("ids", PQerrorMessage(conn));
    copy_rows(conn,
              "COPY " SCHEMA ".pgqueuer (id, priority, status, entrypoint, payload) FROM STDIN",
              drawn, "0\tqueued\tbench\tpayload");
    copy_rows(conn,
              "COPY " SCHEMA ".pgqueuer_log (job_id, status, priority, entrypoint) FROM STDIN",
              drawn, "queued\t0\tbench");
    PQclear(drawn);
    run_plain(conn, "COMMIT", PGRES_COMMAND_OK);
}

static pgq_code enqueue_batch(pgq_client *client, const pgq_new_job *job, pgq_error *err)
{
    static pgq_new_job jobs[BATCH_JOBS];
    static int64_t ids[BATCH_JOBS];

    for (int i = 0; i < BATCH_JOBS; i++)
        jobs[i] = *job;
    return pgq_enqueue_batch(client, jobs, BATCH_JOBS, PGQ_ON_CONFLICT_RAISE, ids, err);
}

static void enqueue(hand *h)
{
    kind k = h->run->way->kind;
    pgq_new_job job = PGQ_NEW_JOB_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_code code = PGQ_OK;
    int64_t id;

    job.entrypoint = "bench";
    job.payload = (pgq_bytes){"payload", 7};
    if (k == BARE_COPY)
        copy_bare(h->conn);
    else if (h->conn != NULL)
        enqueue_bare(h->conn);
    else if (k == CLIENT_BATCH)
        code = enqueue_batch(h->client, &job, &err);
    else if (k == CLIENT)
        code = pgq_enqueue(h->client, &job, PGQ_ON_CONFLICT_RAISE, &id, &err);
    else
        code = pgq_producer_enqueue(h->run->producer, &job, PGQ_ON_CONFLICT_RAISE, 0, &id, &err);
    if (code != PGQ_OK)
        die("enqueue", err.message);
}

static void *work(void *argument)
{
    hand *h = argument;
    kind k = h->run->way->kind;
    int jobs = k == BARE_GROUP ? GROUP_JOBS : k == BARE_COPY || k == CLIENT_BATCH ? BATCH_JOBS : 1;

    connect_hand(h);
    (void)pthread_barrier_wait(&h->run->begin);
    while (!atomic_load_explicit(&h->run->over, memory_order_relaxed)) {
        enqueue(h);
        h->done += atomic_load_explicit(&h->run->counts, memory_order_relaxed) ? jobs : 0;
    }
    PQfinish(h->conn);
    (void)pgq_client_free(h->client);
    return NULL;
}

static void execute(const char *dsn, const char *sql)
{
    PGconn *conn = PQconnectdb(dsn);
    PGresult *result = PQexec(conn, sql);

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        die(sql, PQerrorMessage(conn));
    PQclear(result);
    PQfinish(conn);
}

/* Fails where the schema is there: of a run that is under way, or was killed. */
static void install(const char *dsn)
{
    pgq_install_options options = PGQ_INSTALL_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_client *client;

    execute(dsn, "CREATE SCHEMA " SCHEMA);
    client = open_client(dsn);
    if (pgq_schema_install(client, &options, &err) != PGQ_OK)
        die("install", err.message);
    (void)pgq_client_free(client);
}

static void open_producer(run *r)
{
    pgq_connect_options connect = connect_options(r->dsn);
    pgq_producer_options options = PGQ_PRODUCER_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;

    options.connect = &connect;
    if (pgq_producer_open(&options, &r->producer, &err) != PGQ_OK)
        die("connect", err.message);
}

/* Jobs a second. */
static double measure(const way *w, const char *dsn, long ms)
{
    static hand hands[THREADS_MAX];
    run r = {.way = w, .dsn = dsn};
    pgq_error err = PGQ_ERROR_INIT;
    long long done = 0;
    int64_t began;
    double seconds;

    execute(dsn, "TRUNCATE " SCHEMA ".pgqueuer, " SCHEMA ".pgqueuer_log");
    if (w->kind == PRODUCER)
        open_producer(&r);
    (void)pthread_barrier_init(&r.begin, NULL, (unsigned)w->threads + 1);
    for (int i = 0; i < w->threads; i++) {
        hands[i] = (hand){.run = &r};
        if (pthread_create(&hands[i].thread, NULL, work, &hands[i]) != 0)
            die("thread", "cannot be started");
    }
    (void)pthread_barrier_wait(&r.begin);
    pause_ms(WARM_UP_MS);
    began = now_us();
    atomic_store(&r.counts, true);
    pause_ms(ms);
    atomic_store(&r.counts, false);
    seconds = (double)(now_us() - began) / 1e6;
    atomic_store(&r.over, true);
    for (int i = 0; i < w->threads; i++) {
        (void)pthread_join(hands[i].thread, NULL);
        done += hands[i].done;
    }
    (void)pthread_barrier_destroy(&r.begin);
    if (pgq_producer_close(r.producer, 10000, &err) != PGQ_OK)
        die("close", err.message);
    return (double)done / seconds;
}

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

typedef struct summary {
    double median, least, most;
} summary;

static summary summarize(const double *values, int count)
{
    double sorted[ROUNDS_MAX];

    memcpy(sorted, values, (size_t)count * sizeof(*sorted));
    qsort(sorted, (size_t)count, sizeof(*sorted), by_size);
    return (summary){sorted[count / 2], sorted[0], sorted[count - 1]};
}

static bool wanted(int i, const char *part)
{
    return part == NULL || strstr(ways[i].name, part) != NULL;
}

static void report(double rates[WAYS][ROUNDS_MAX], int rounds, const char *part)
{
    printf("%-28s %8s %8s %8s   %s\n", "single enqueues", "jobs/s", "least", "most",
           "ratio (least, most)");
    for (int i = 0; i < WAYS; i++) {
        double ratios[ROUNDS_MAX];
        summary rate = summarize(rates[i], rounds), ratio;

        if (!wanted(i, part))
            continue;
        for (int round = 0; round < rounds; round++)
            ratios[round] = rates[i][round] / rates[ways[i].versus][round];
        ratio = summarize(ratios, rounds);
        printf("%-28s %8.0f %8.0f %8.0f", ways[i].name, rate.median, rate.least, rate.most);
        if (ways[i].versus != i && wanted(ways[i].versus, part))
            printf("   %.2f (%.2f, %.2f) of %s", ratio.median, ratio.least, ratio.most,
                   ways[ways[i].versus].name);
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    static double rates[WAYS][ROUNDS_MAX];
    long ms = argc > 2 ? (long)(strtod(argv[2], NULL) * 1000) : 3000;
    int rounds = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 5;
    const char *part = argc > 4 ? argv[4] : NULL;

    if (argc < 2 || ms < 1 || rounds < 1 || rounds > ROUNDS_MAX) {
        (void)fprintf(stderr, "usage: bench_producer DSN [SECONDS [ROUNDS [PART]]]\n");
        return 2;
    }
    install(argv[1]);
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < WAYS; i++)
            rates[i][round] = wanted(i, part) ? measure(&ways[i], argv[1], ms) : 0;
    }
    execute(argv[1], "SET client_min_messages = warning; DROP SCHEMA " SCHEMA " CASCADE");
    report(rates, rounds, part);
    return 0;
}
