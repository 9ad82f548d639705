/* The bare loop: the work of a leasing worker done by hand, with libpq and the same SQL, and
 * nothing around it. No code of the product is in here: it is the limit that the product is
 * measured against.
 *
 *     cd bench && cc -O2 -D_GNU_SOURCE -o bare bare.c bare_lane.c -I$(pg_config --includedir) -lpq
 *     BARE_DSN=... bare SCHEMA POLICY BATCH CONNECTIONS [cursor]
 *
 * It connects, prints `ready`, and obeys lines on its standard input:
 *
 *     drain N     claims and settles until N jobs are done, or (0) until nothing is left
 *                 -> `drained JOBS SECONDS CPU_US PEAK_KIB`
 *     latency N   enqueues N jobs, one commit each, and waits for each to be in hand
 *                 -> N lines `sample US`, then the line `drained ...`
 *     listen      waits for jobs that others enqueue, until it is ended
 *                 -> `listening`, then a line `start PAYLOAD NS` for each job
 *
 * drain: each connection has a thread, which sends per batch one pipelined round trip: settle,
 * COMMIT, BEGIN and claim. latency: one thread does what listen does, the other one enqueues.
 */
#include "bare_lane.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
    IDLE_MS = 3, /* between two jobs of `latency`, for the listener to be idle again */
    WAIT_MS = 5000
};

static int64_t cpu_us(void)
{
    struct rusage used;

    (void)getrusage(RUSAGE_SELF, &used);
    return (int64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 +
           used.ru_utime.tv_usec + used.ru_stime.tv_usec;
}

/* Not ru_maxrss: that begins with the size of whoever started us. */
static long peak_kib(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    char line[256];
    long kib = 0;

    while (status != NULL && fgets(line, sizeof(line), status) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtol(line + 6, NULL, 10);
    }
    if (status != NULL)
        (void)fclose(status);
    return kib;
}

/* ---- drain ---- */

/* How many jobs the next claim may bring. */
static int wanted(loop *l)
{
    long long left = l->limit - atomic_load(&l->claimed);

    if (l->limit == 0)
        return l->batch;
    return left <= 0 ? 0 : left < l->batch ? (int)left : l->batch;
}

static void *drain_lane(void *argument)
{
    lane *a = argument;
    loop *l = a->loop;
    long long none = 0;

    a->done = 0;
    send_claim(a, wanted(l));
    take_claimed(a);
    (void)atomic_compare_exchange_strong(&l->first_us, &none, now_us());
    while (a->rows > 0) {
        a->done += a->rows;
        (void)atomic_fetch_add(&l->claimed, a->rows);
        send_settle(a);
        send_commit(a);
        send_claim(a, wanted(l));
        take_settled(a);
        take_committed(a);
        a->end_us = now_us();
        take_claimed(a);
    }
    send_commit(a);
    take_committed(a);
    return NULL;
}

static void drain(loop *l, lane *lanes, long long limit)
{
    int64_t cpu_before = cpu_us(), end_us = 0;
    long long done = 0, first_us;

    l->limit = limit;
    atomic_store(&l->claimed, 0);
    atomic_store(&l->first_us, 0);
    for (int i = 0; i < l->connections; i++) {
        lanes[i].end_us = 0;
        if (pthread_create(&lanes[i].thread, NULL, drain_lane, &lanes[i]) != 0)
            die("no thread", NULL);
    }
    for (int i = 0; i < l->connections; i++) {
        (void)pthread_join(lanes[i].thread, NULL);
        done += lanes[i].done;
        if (lanes[i].end_us > end_us)
            end_us = lanes[i].end_us;
    }
    first_us = atomic_load(&l->first_us);
    (void)printf("drained %lld %.6f %lld %ld\n", done,
                 end_us > first_us ? (double)(end_us - first_us) / 1e6 : 0.0,
                 (long long)(cpu_us() - cpu_before), peak_kib());
}

/* ---- latency, and listen ---- */

/* What is done with jobs in hand. */
typedef void seen_jobs(void *user, const PGresult *rows);

/* Takes what was notified; whether a job came. A settle's own event is none. */
static bool notified(PGconn *conn)
{
    PGnotify *event;
    bool found = false;

    while ((event = PQnotifies(conn)) != NULL) {
        found = found || strstr(event->extra, "\"delete\"") == NULL;
        PQfreemem(event);
    }
    return found;
}

static void wait_notified(PGconn *conn, int wait_ms)
{
    struct pollfd socket = {.fd = PQsocket(conn), .events = POLLIN};

    while (!notified(conn)) {
        if (poll(&socket, 1, wait_ms) == 0)
            die("no notification came", NULL);
        if (PQconsumeInput(conn) == 0)
            die("listening", conn);
    }
}

static PGconn *open_listener(const loop *l)
{
    PGconn *conn = connect_one(l);
    char sql[SQL_BYTES];

    (void)snprintf(sql, sizeof(sql), "LISTEN %s", l->schema); /* so the bench calls its channel */
    run(conn, sql);
    return conn;
}

/* Waits for an event (-1: without an end), claims, shows the jobs and settles them. */
static void take_notified(PGconn *listener, int wait_ms, lane *a, seen_jobs *seen, void *user)
{
    PGresult *rows;

    wait_notified(listener, wait_ms);
    send_claim(a, 10);
    rows = take_rows(a);
    if (a->rows > 0) {
        seen(user, rows);
        send_settle(a);
    }
    PQclear(rows);
    send_commit(a);
    if (a->rows > 0)
        take_settled(a);
    take_committed(a);
}

typedef struct latency_run {
    lane *lane;
    PGconn *conn; /* listens */
    long long count;
    int64_t *starts_us; /* when the job was in hand */
    atomic_llong done;
} latency_run;

static void note_start(void *user, const PGresult *rows)
{
    latency_run *t = user;

    (void)rows;
    t->starts_us[atomic_load(&t->done)] = now_us();
}

static void *take_all(void *argument)
{
    latency_run *t = argument;

    while (atomic_load(&t->done) < t->count) {
        take_notified(t->conn, WAIT_MS, t->lane, note_start, t);
        (void)atomic_fetch_add(&t->done, t->lane->rows);
    }
    return NULL;
}

static void latency(loop *l, lane *lanes, long long count)
{
    PGconn *producer = connect_one(l);
    latency_run t = {.lane = &lanes[0], .conn = open_listener(l), .count = count};
    int64_t *commits_us = calloc((size_t)count, sizeof(*commits_us)), cpu_before = cpu_us();

    t.starts_us = calloc((size_t)count, sizeof(*t.starts_us));
    if (commits_us == NULL || t.starts_us == NULL)
        die("out of memory", NULL);
    prepare(l, producer, "insert",
            "INSERT INTO :queue (priority, status, entrypoint) VALUES (0, 'queued', 'bench')");
    if (pthread_create(&lanes[0].thread, NULL, take_all, &t) != 0)
        die("no thread", NULL);
    for (long long i = 0; i < count; i++) {
        PGresult *result;

        (void)poll(NULL, 0, IDLE_MS);
        result = PQexecPrepared(producer, "insert", 0, NULL, NULL, NULL, 1);
        commits_us[i] = now_us();
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            die("enqueueing", producer);
        PQclear(result);
        while (atomic_load(&t.done) <= i)
            (void)poll(NULL, 0, 1);
    }
    (void)pthread_join(lanes[0].thread, NULL);
    for (long long i = 0; i < count; i++)
        (void)printf("sample %lld\n", (long long)(t.starts_us[i] - commits_us[i]));
    (void)printf("drained %lld 0 %lld %ld\n", count, (long long)(cpu_us() - cpu_before),
                 peak_kib());
    PQfinish(producer);
    PQfinish(t.conn);
    free(commits_us);
    free(t.starts_us);
}

static void print_starts(void *user, const PGresult *rows)
{
    int64_t now_ns = now_us() * 1000;

    (void)user;
    for (int row = 0; row < PQntuples(rows); row++)
        (void)printf("start %.*s %lld\n", PQgetlength(rows, row, PAYLOAD_COLUMN),
                     PQgetvalue(rows, row, PAYLOAD_COLUMN), (long long)now_ns);
    (void)fflush(stdout);
}

_Noreturn static void listen_for_jobs(const loop *l, lane *a)
{
    PGconn *listener = open_listener(l);

    (void)puts("listening");
    (void)fflush(stdout);
    for (;;)
        take_notified(listener, -1, a, print_starts, NULL);
}

/* ---- the front ---- */

static long long number(const char *text, long long max)
{
    char *end;
    long long value = strtoll(text, &end, 10);

    if (end == text || value < 0 || value > max) {
        (void)fprintf(stderr, "bare: %s is no number from 0 to %lld\n", text, max);
        exit(2);
    }
    return value;
}

static void obey(loop *l, lane *lanes, const char *line)
{
    if (strncmp(line, "drain ", 6) == 0)
        drain(l, lanes, number(line + 6, INT32_MAX));
    else if (strncmp(line, "latency ", 8) == 0)
        latency(l, lanes, number(line + 8, 1000000));
    else if (strcmp(line, "listen\n") == 0)
        listen_for_jobs(l, &lanes[0]);
    else
        die("an unknown line", NULL);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    static lane lanes[CONNECTIONS_MAX];
    static loop l;
    char line[64];

    if (argc == 2 && strcmp(argv[1], "--sql") == 0) {
        print_sql();
        return 0;
    }
    if (argc < 5) {
        (void)fputs("usage: BARE_DSN=... bare SCHEMA POLICY BATCH CONNECTIONS "
                    "[cursor]\n",
                    stderr);
        return 2;
    }
    l = (loop){.schema = argv[1], .policy = argv[2], .cursor = argc > 5};
    l.batch = (int)number(argv[3], BATCH_MAX);
    l.connections = (int)number(argv[4], CONNECTIONS_MAX);
    for (int i = 0; i < l.connections; i++) {
        lanes[i].loop = &l;
        lanes[i].conn = connect_one(&l);
        if (PQenterPipelineMode(lanes[i].conn) == 0)
            die("pipeline mode", lanes[i].conn);
    }
    (void)puts("ready");
    (void)fflush(stdout);
    while (fgets(line, sizeof(line), stdin) != NULL)
        obey(&l, lanes, line);
    for (int i = 0; i < l.connections; i++)
        PQfinish(lanes[i].conn);
    return 0;
}
