/* The worker: entrypoints, run options, outcomes, run and stop. */
#ifndef PGQUEUER_WORKER_H
#define PGQUEUER_WORKER_H

#include <pgqueuer/client.h>
#include <pgqueuer/executor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pgq_on_failure {
    PGQ_ON_FAILURE_DELETE = 0, /* the failed job's row goes; the log keeps the error */
    PGQ_ON_FAILURE_HOLD = 1    /* the row stays as `failed` until it is requeued or cancelled */
} pgq_on_failure;

/* How jobs are claimed. A leased job is locked in an open transaction while it runs, at most for
 * the lease, and settled in it: quick jobs are a class faster so. A row's job is marked `picked`,
 * with heartbeats: for slow jobs and for limits over the fleet. */
typedef enum pgq_lane {
    PGQ_LANE_AUTO = 0, /* by what is measured: leases while jobs take less than a quarter of one */
    PGQ_LANE_ROW = 1,
    PGQ_LANE_LEASE = 2 /* also when jobs turn out to be slow; limits still use the row lane */
} pgq_lane;

#define PGQ_CONCURRENCY_LIMIT_MAX 1000000
#define PGQ_RATE_MAX 1e9 /* requests_per_second from here on: no limit */

/* What holds for all jobs of an entrypoint. A fleet should give an entrypoint the same options
 * everywhere; concurrency_limit and serialized_dispatch are only kept where all workers set them.
 */
typedef struct pgq_entrypoint_options {
    size_t struct_size;
    pgq_on_failure on_failure;
    int concurrency_limit;      /* jobs picked at once, over the whole fleet, Python's workers
                                   included; 0: no limit; at most PGQ_CONCURRENCY_LIMIT_MAX */
    bool serialized_dispatch;   /* one at a time over the whole fleet, by (priority DESC, id): a
                                   concurrency_limit of 1 */
    double requests_per_second; /* jobs that this worker starts in a second at most, with a burst of
                                   a tenth of it; 0: never; PGQ_RATE_MAX and above: no limit */
    int64_t retry_timer_ms;     /* a job without a heartbeat for so long is picked again, 100 to
                                   86 400 000; 0: the run's heartbeat_timeout_ms */
    int64_t timeout_ms;         /* a run longer than that is told to end (pgq_job_cancelled) and,
                                   when it does not, failed; 0: no limit; at most 86 400 000 */
    int64_t timeout_grace_ms;   /* between the telling and the failing, 0 to 86 400 000 */
    pgq_executor_factory executor_factory; /* how a job is run; NULL: by a call of the handler */
    const void *executor_config;           /* for the factory, which copies it */
    pgq_lane lane;                         /* AUTO: the run's */
    pgq_log_policy log_policy;
} pgq_entrypoint_options;

#define PGQ_ENTRYPOINT_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(pgq_entrypoint_options), PGQ_ON_FAILURE_DELETE, 0, false, PGQ_RATE_MAX, 0, 0, 5000, \
            NULL, NULL, PGQ_LANE_AUTO, PGQ_LOG_POLICY_DEFAULT                                      \
    }

typedef enum pgq_log_level {
    PGQ_LOG_DEBUG = 0,
    PGQ_LOG_INFO = 1,
    PGQ_LOG_WARNING = 2,
    PGQ_LOG_ERROR = 3,
    PGQ_LOG_CRITICAL = 4,
    PGQ_LOG_NONE = 5 /* as a threshold: nothing */
} pgq_log_level;

/* One key=value of a log event. The value is text, or a number when text is NULL. */
typedef struct pgq_log_field {
    const char *key;
    const char *text;
    int64_t number;
} pgq_log_field;

/* Receives the worker's log events, all of them from the thread that runs the worker. Nothing of
 * it is valid after the call. The library itself writes nowhere. */
typedef void (*pgq_log_sink)(void *user, pgq_log_level level, const char *event,
                             const pgq_log_field *fields, size_t count);

typedef enum pgq_run_mode {
    PGQ_MODE_CONTINUOUS = 0, /* until stopped */
    PGQ_MODE_DRAIN = 1,      /* until no queued job of the entrypoints is left, deferred included */
    PGQ_MODE_DRAIN_NOW = 2   /* until none is due; the log says how many stay deferred */
} pgq_run_mode;

/* What a worker process shows its parent, in shared memory; see supervise.h. */
typedef struct pgq_ledger pgq_ledger;

#define PGQ_BATCH_SIZE_MAX 1000
#define PGQ_THREADS_MAX 1024
#define PGQ_LANES_MAX 8
#define PGQ_ENTRYPOINTS_MAX 1000
#define PGQ_CONCURRENT_TASKS_MAX 65536

/* Zero in a member without an own default means "the default". */
typedef struct pgq_run_options {
    size_t struct_size;
    pgq_run_mode mode;
    int batch_size;               /* jobs per claim at most, 1 to PGQ_BATCH_SIZE_MAX; 1000. A claim
                                     never brings more than handlers begin in 50 ms */
    int threads;                  /* handler threads, 1 to PGQ_THREADS_MAX; cores, at least 4 */
    int lanes;                    /* database connections that claim, 1 to PGQ_LANES_MAX; 2 */
    int64_t dequeue_timeout_ms;   /* fallback poll, 1 to 86 400 000; 30 000 */
    int64_t heartbeat_timeout_ms; /* a job without a beat for so long is taken over, 100 to
                                    86 400 000; 30 000 */
    int64_t drain_timeout_ms;     /* on stop, how long to wait for running handlers; 0: no limit */
    pgq_log_level log_level;      /* the lowest level that reaches the sink */
    pgq_log_sink log_sink;        /* NULL: no log */
    void *log_user;
    int max_concurrent_tasks; /* jobs that this worker holds at most, waiting ones included, 0 to
                                 PGQ_CONCURRENT_TASKS_MAX; 0: what its threads and batches need */
    bool shutdown_on_listener_failure; /* end with PGQ_E_FAILING_LISTENER when notifications do not
                                          arrive any more or the listening connection is lost; a
                                          drain never does */
    int64_t health_check_interval_ms;  /* between two probes of the listener, 10 to 86 400 000;
                                          10 000 */
    int64_t health_check_timeout_ms;   /* for a probe to come back, likewise; 10 000 */
    int64_t log_aggregation_interval_ms; /* how often log rows are folded into the statistics, 10 to
                                            86 400 000; 0: never; 30 000 */
    pgq_ledger *ledger; /* shared memory in which a parent sees what runs; see supervise.h */
    int64_t only_job;   /* run only this job, which is picked already under this worker's id, and
                           end; see supervise.h. 0: work as usual */
    pgq_lane lane;      /* with a ledger AUTO is ROW: a killer is found by its row */
    int64_t lease_ms;   /* how long jobs may be leased, 20 to 5000 and at most a quarter of
                           heartbeat_timeout_ms; 0: 250, or that quarter */
    pgq_log_policy log_policy;
} pgq_run_options;

#define PGQ_RUN_OPTIONS_INIT                                                                     \
    {                                                                                            \
        sizeof(pgq_run_options), PGQ_MODE_CONTINUOUS, 1000, 0, 2, 30000, 30000, 0, PGQ_LOG_INFO, \
            NULL, NULL, 0, false, 10000, 10000, 30000, NULL, 0, PGQ_LANE_AUTO, 0,                \
            PGQ_LOG_POLICY_DEFAULT                                                               \
    }

/* Makes a worker; no connection is made yet. The options are copied.
 * Errors: PGQ_E_INVALID, PGQ_E_NOMEM. */
PGQ_API PGQ_CHECKED pgq_code pgq_worker_new(const pgq_connect_options *options,
                                            pgq_worker **ret_worker, pgq_error *err);

/* Registers a handler for the jobs of one entrypoint, before the worker runs. `name` is copied,
 * `user` is borrowed for the worker's life, options may be NULL.
 * Errors: PGQ_E_INVALID (name empty, too long, registered already), PGQ_E_LIMIT, PGQ_E_STATE. */
PGQ_API PGQ_CHECKED pgq_code pgq_worker_entrypoint(pgq_worker *worker, const char *name,
                                                   pgq_handler handler, void *user,
                                                   const pgq_entrypoint_options *options,
                                                   pgq_error *err);

/* Connects, works until the mode's end or pgq_worker_stop, settles what finished, gives back what
 * has not started, and returns. Blocks; handlers run in threads of their own. A worker runs once.
 * After the first connection, a lost database is waited for; the first one must succeed.
 * Errors: PGQ_E_INVALID, PGQ_E_CONNECT, PGQ_E_AUTH, PGQ_E_SCHEMA_MISSING, PGQ_E_SCHEMA_MISMATCH,
 * PGQ_E_TIMEOUT (handlers were still running after drain_timeout_ms), PGQ_E_FAILING_LISTENER,
 * PGQ_E_DATABASE (a statement was refused, or the outcome of jobs, which the message names),
 * PGQ_E_NOMEM. */
PGQ_API PGQ_CHECKED pgq_code pgq_worker_run(pgq_worker *worker, const pgq_run_options *options,
                                            pgq_error *err);

/* Asks a running worker to stop gracefully: no new claims, running handlers finish. Any thread;
 * also from a signal handler. Before pgq_worker_run it makes that return at once. */
PGQ_API void pgq_worker_stop(pgq_worker *worker);

/* Hurries a worker that stops: running handlers are told to end, and at most a second later the run
 * ends, with PGQ_E_TIMEOUT if handlers still run. Stops a worker that does not stop yet. Any
 * thread; also from a signal handler. */
PGQ_API void pgq_worker_hurry(pgq_worker *worker);

/* Has the worker log its state as the event `worker.state`, whatever the log level. Any thread;
 * also from a signal handler. */
PGQ_API void pgq_worker_report(pgq_worker *worker);

/* Changes the level of a running worker's log. Any thread; also from a signal handler. */
PGQ_API void pgq_worker_set_log_level(pgq_worker *worker, pgq_log_level level);

/* Gives the worker another id, 36 characters, before it runs. Errors: PGQ_E_INVALID, PGQ_E_STATE.
 */
PGQ_API PGQ_CHECKED pgq_code pgq_worker_set_id(pgq_worker *worker, const char *id, pgq_error *err);

/* The id under which this worker claims jobs, as 36 characters, valid as long as the worker. */
PGQ_API const char *pgq_worker_id(const pgq_worker *worker);

typedef struct pgq_worker_counts {
    uint64_t claimed;
    uint64_t successful;
    uint64_t failed; /* exception and failed */
    uint64_t retried;
    uint64_t cancelled;
    uint64_t released;  /* given back without a start */
    uint64_t lost;      /* claims that another worker or a cancellation took away */
    uint64_t timed_out; /* failed by timeout_ms while their handlers still ran */
    int64_t settled_us; /* when an outcome was written last, on CLOCK_MONOTONIC in microseconds;
                           0: none was */
} pgq_worker_counts;

/* What the worker has done so far; call it from the worker's thread or after the run. */
PGQ_API void pgq_worker_get_counts(const pgq_worker *worker, pgq_worker_counts *ret_counts);

/* Frees a worker that does not run; one whose handlers still run when its run has ended stays in
 * memory, since they use it. Takes NULL; returns NULL. */
PGQ_API pgq_worker *pgq_worker_free(pgq_worker *worker);

/* The symbol that `pgqueuer run FILE:SYMBOL` calls: it registers entrypoints and returns PGQ_OK,
 * or says in `err` why it cannot. argv holds the arguments after `--`. */
typedef pgq_code (*pgq_factory)(pgq_worker *worker, int argc, char **argv, pgq_error *err);

#ifdef __cplusplus
}
#endif
#endif
