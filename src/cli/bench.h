/* The benchmarks: a queue of their own in the given database, workers in processes of their own,
 * and what the server and the workers tell about the work. Written with the public API only.
 *
 *   cmd_bench      what is asked for; rounds; cleaning up
 *   bench_ways     which ways of working a kind compares
 *   bench_measure, bench_latency    one measurement of one way
 *   bench_db       the queue, its jobs, the server's counters
 *   bench_fleet    the parent's side of the worker processes
 *   bench_worker   the worker process's side
 *   bench_bare     the bare loop, a program that is no part of the product
 *   bench_budget   what the figures are to be
 *   bench_limits, bench_advice      what limits in this database, and what would help
 *   bench_report, bench_json        what is shown
 *
 * One thread; only the handlers in the worker processes have threads of their own. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "cli/cli.h"

#include <pgqueuer/libpq.h>

#include <stdatomic.h>
#include <sys/types.h>

enum {
    BENCH_WORKERS_MAX = 64,
    BENCH_ROUNDS_MAX = 100,
    BENCH_WAYS_MAX = 24,
    BENCH_NAME_BYTES = 48,
    BENCH_BUDGETS_MAX = 32,
    BENCH_SETTINGS_MAX = 12,
    BENCH_STEPS = 10,
    BENCH_LATENCY_MAX = 10000,
    BENCH_IDLE_MS = 3, /* between two jobs of `latency`, for the worker to be idle again */
    BENCH_LINE_BYTES = 256,
    BENCH_FINDINGS_MAX = 16
};

#define BENCH_ENTRYPOINT "bench"
#define BENCH_APPLICATION "pgqueuer-bench"
#define BENCH_SCHEMA "pgqueuer_bench_" /* and eight hexadecimal digits */

/* All but the last one measure rounds. */
typedef enum bench_kind {
    BENCH_DRAIN,
    BENCH_LATENCY,
    BENCH_HORIZON,
    BENCH_BACKLOG,
    BENCH_LIMITS
} bench_kind;

/* What is measured of one way in one round. NAN: nothing was. */
typedef enum bench_metric {
    BENCH_RATE,       /* jobs/s */
    BENCH_P50,        /* ms from commit to the handler's start */
    BENCH_P99,        /* ms, likewise */
    BENCH_MAX,        /* ms, likewise */
    BENCH_FIRST_RATE, /* jobs/s of the first step */
    BENCH_LAST_RATE,  /* jobs/s of the last step */
    BENCH_WAL,        /* bytes a job */
    BENCH_IMAGES,     /* full-page images, of the whole round */
    BENCH_COMMITS,    /* a job */
    BENCH_STATEMENTS, /* a job */
    BENCH_CPU,        /* us of the worker a job */
    BENCH_RSS,        /* MiB of the largest worker */
    BENCH_DEAD,       /* row versions that became dead, a job */
    BENCH_DEAD_ROWS,  /* that the queue table had at the end */
    BENCH_METRICS
} bench_metric;

typedef struct bench_series {
    double values[BENCH_ROUNDS_MAX];
    int count;
} bench_series;

/* One way of working that a kind compares with others: a line of the table. */
typedef struct bench_way {
    char name[BENCH_NAME_BYTES];
    bool bare;   /* the bare loop */
    bool plain;  /* what `pgqueuer run` does when it is not told anything */
    bool held;   /* while a session holds the xmin horizon */
    bool cursor; /* of the bare loop: claims go on where the last one ended */
    pgq_lane lane;
    pgq_log_policy policy;
    int place; /* in which of the queues */
    bench_series series[BENCH_METRICS];
} bench_way;

/* One of the server's settings, for the report. */
typedef struct bench_setting {
    char name[32], value[32];
} bench_setting;

/* The server's counters at one moment; NAN where they cannot be read. */
typedef struct bench_meter {
    double wal_bytes, images, commits, statements, dead;
} bench_meter;

/* The connection of the bench itself, and its queues, each in a schema of its own. */
typedef struct bench_db {
    PGconn *conn;
    const char *dsn; /* NULL: libpq's variables */
    int connect_timeout_ms;
    bool stubborn;    /* cleaning up: a signal does not interrupt */
    bool statements;  /* pg_stat_statements can be read */
    bool checkpoints; /* the role may CHECKPOINT */
    char schemas[2][32];
    int schema_count;
    char version[64];
    bench_setting settings[BENCH_SETTINGS_MAX];
    int setting_count;
} bench_db;

/* What a job waits for most. */
typedef enum bench_limit {
    BENCH_LIMIT_CPU,
    BENCH_LIMIT_COMMIT,
    BENCH_LIMIT_TRIP,
    BENCH_LIMIT_UNKNOWN
} bench_limit;

enum {
    BENCH_SET_FSYNC,
    BENCH_SET_SYNCHRONOUS_COMMIT,
    BENCH_SET_STANDBYS,
    BENCH_SET_FULL_PAGE_WRITES,
    BENCH_SET_WAL_COMPRESSION,
    BENCH_SET_AUTOVACUUM,
    BENCH_SET_MAX_CONNECTIONS,
    BENCH_LIMIT_SETTINGS
};

/* Something to know of the database; static texts but for `is`. */
typedef struct bench_finding {
    const char *about, *helps;
    char is[240];
} bench_finding;

/* What the given database is like. NAN and "": the server does not say. */
typedef struct bench_limits {
    bench_series trips_ms, commits_ms; /* of SELECT 1; of a transaction that writes */
    bool pooled, standby;
    bool here; /* the server is on this machine; then it has so many cores */
    int cores;
    char holder[160]; /* of the xmin horizon; "": nobody but ours */
    double holder_age, holder_seconds;
    double long_transactions, connections;
    double idle_slots, kept_wal_bytes;
    bench_setting settings[BENCH_LIMIT_SETTINGS];
    bench_limit limit;
    bench_finding findings[BENCH_FINDINGS_MAX];
    int finding_count;
} bench_limits;

typedef struct bench {
    cli *c;
    char **argv; /* of this process, for its workers */
    bench_kind kind;
    int64_t jobs;
    int rounds, workers, batch_size, lanes, threads;
    int64_t lease_ms;
    const char *bare; /* path of the bare loop's program, or NULL */
    bench_db db;
    bench_limits limits;
    bench_way ways[BENCH_WAYS_MAX];
    int way_count;
} bench;

/* Whether a signal asks for an end, and its error. */
bool bench_interrupted(void);
pgq_code bench_interruption(pgq_error *err);

/* -- bench_db -- */

pgq_code bench_db_open(bench_db *db, pgq_error *err);
/* Runs one statement; ret_result may be NULL. A signal cancels it. */
pgq_code bench_db_run(bench_db *db, const char *sql, PGresult **ret_result, pgq_error *err);
/* One number; NAN for NULL, for a refusal, and for no row. */
double bench_db_number(bench_db *db, const char *sql);
/* Makes one more queue. */
pgq_code bench_db_install(bench_db *db, pgq_error *err);
/* Removes the queues, over a new connection if need be, and closes. */
pgq_code bench_db_close(bench_db *db, pgq_error *err);
/* Empties a queue and its log. */
pgq_code bench_db_empty(bench_db *db, int place, pgq_error *err);
/* Enqueues no-op jobs, with the `queued` rows of the log if `logged`. */
pgq_code bench_db_fill(bench_db *db, int place, int64_t jobs, bool logged, pgq_error *err);
pgq_code bench_db_count(bench_db *db, int place, int64_t *ret_jobs, pgq_error *err);
/* Where the role may: the next checkpoint is far then. */
pgq_code bench_db_checkpoint(bench_db *db, pgq_error *err);
/* Takes dead rows away, as far as the horizon lets it. */
pgq_code bench_db_vacuum(bench_db *db, int place, pgq_error *err);
/* The dead rows of the queue table; NAN when the server does not say. */
double bench_db_dead_rows(bench_db *db, int place);
/* A session that holds the xmin horizon until it is closed by PQfinish. */
pgq_code bench_db_hold(bench_db *db, PGconn **ret_holder, pgq_error *err);
/* What a client of a queue needs; the names live as long as `names`. */
pgq_connect_options bench_db_options(const bench_db *db, const pgq_names *names);
/* Waits until the worker's sessions have ended, so that their counters are complete, and reads
 * them. */
pgq_code bench_db_meter(bench_db *db, bench_meter *meter, pgq_error *err);
/* PGQ_E_CONNECTION_LOST when the server has closed the connection. */
pgq_code bench_db_check(bench_db *db, pgq_error *err);
/* The names of a queue's objects. */
pgq_names bench_db_names(const bench_db *db, int place);

/* -- bench_fleet -- */

typedef struct bench_shared bench_shared;

typedef struct bench_fleet {
    bench *b;
    bench_shared *shared;
    int fd;
    pid_t pids[BENCH_WORKERS_MAX]; /* 0: none, or it has ended */
    int count;
} bench_fleet;

/* What a fleet has done since it began, or the bare loop. */
typedef struct bench_work {
    int64_t jobs;
    int64_t timed; /* those of them that the seconds are of */
    double seconds, cpu_us, rss_mib;
} bench_work;

/* Starts the workers of a way. They are loaded and wait for bench_fleet_go. */
pgq_code bench_fleet_start(bench *b, const bench_way *way, bench_fleet *fleet, pgq_error *err);
void bench_fleet_go(bench_fleet *fleet);
/* Until all of them have ended by themselves. */
pgq_code bench_fleet_wait(bench_fleet *fleet, pgq_error *err);
/* Until all of them listen. */
pgq_code bench_fleet_wait_listening(bench_fleet *fleet, pgq_error *err);
/* The next `jobs` handlers that start are a step. To be called before the jobs are there. */
void bench_fleet_step(bench_fleet *fleet, int64_t jobs);
/* Until the step's last handler has started: the seconds since the first one has. */
pgq_code bench_fleet_wait_step(bench_fleet *fleet, double *ret_seconds, pgq_error *err);
/* Until job `number` of a latency fleet has started: that instant. */
pgq_code bench_fleet_wait_start(bench_fleet *fleet, int number, int64_t *ret_us, pgq_error *err);
/* Ends what still runs, by force if need be, and frees. `work` may be NULL. */
void bench_fleet_end(bench_fleet *fleet, bench_work *work);

/* -- bench_bare -- */

typedef struct bench_bare {
    bench *b;
    pid_t pid;
    int in, out; /* pipes to it and from it */
    size_t length;
    char text[BENCH_LINE_BYTES], line[BENCH_LINE_BYTES];
} bench_bare;

/* Starts the program; it is connected then. */
pgq_code bench_bare_start(bench *b, const bench_way *way, bench_bare *bare, pgq_error *err);
/* Has it work: `drain` with a number of jobs (0: all), or `latency` with one, whose samples go to
 * an array of so many (both pointers may be NULL). */
pgq_code bench_bare_tell(bench_bare *bare, const char *verb, int64_t number, bench_work *work,
                         double *samples_ms, int *ret_samples, pgq_error *err);
void bench_bare_end(bench_bare *bare);

/* -- bench_worker -- */

/* Whether this process is one of a fleet; then `ret_status` is its exit status. */
bool bench_worker_run(cli *c, int *ret_status);

/* -- bench_ways -- */

/* Fills b->ways. */
void bench_ways(bench *b);
/* The sizes of the backlog's queues. */
int64_t bench_backlog_size(const bench *b, int place);

/* -- bench_measure, bench_latency -- */

/* One round of one way. */
pgq_code bench_measure(bench *b, bench_way *way, pgq_error *err);
pgq_code bench_measure_latency(bench *b, bench_way *way, pgq_error *err);
void bench_note(bench_way *way, bench_metric metric, double value);

/* -- bench_budget -- */

/* A demand of ours on a figure: of those that need no other product. */
typedef struct bench_budget {
    char what[96];
    double need, got; /* got NAN: it was not measured */
    bool at_least;    /* otherwise at most */
    const char *unit;
} bench_budget;

double bench_median(const bench_series *series);
void bench_spread(const bench_series *series, double *ret_min, double *ret_max);
/* The median over the rounds of a/b; NAN when there is none. */
double bench_ratio(const bench_series *a, const bench_series *b);
int bench_budgets(const bench *b, bench_budget budgets[BENCH_BUDGETS_MAX]);
bool bench_budget_kept(const bench_budget *budget);

/* -- bench_limits, bench_advice -- */

/* Takes a second at most, makes no object, and leaves nothing behind. Fails only when the
 * connection is lost, or by a signal. */
pgq_code bench_limits_measure(bench_db *db, bench_limits *l, pgq_error *err);
/* Fills the limit and the findings from the rest. */
void bench_limits_judge(bench_limits *l);
const char *bench_limit_name(bench_limit limit);
void bench_print_limits(const bench_limits *l);

/* -- bench_report, bench_json -- */

typedef struct bench_machine {
    int cores;
    int64_t memory_bytes;
    char model[96], system[96];
} bench_machine;

void bench_look_at_machine(bench_machine *machine);
void bench_print_table(const bench *b);
/* Into a file; NULL: standard output. */
pgq_code bench_write_json(const bench *b, const char *path, pgq_error *err);

extern const char *const bench_kind_names[];
extern const char *const bench_lane_names[];
extern const char *const bench_policy_names[];
extern const char *const bench_metric_names[BENCH_METRICS];

#endif
