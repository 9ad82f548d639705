/* The worker: entrypoints, run options, outcomes, run and stop. */
#ifndef PGQUEUER_WORKER_H
#define PGQUEUER_WORKER_H

#include <pgqueuer/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What became of a job. A small value; make it only with the functions below. */
typedef struct pgq_outcome {
    uint32_t kind;
    uint32_t reserved;
    int64_t delay_ms;
    void *text; /* owned by the outcome */
    void *reserved_pointer;
} pgq_outcome;

/* The longest text of an outcome; longer ones are cut, and the cut is marked. */
#define PGQ_OUTCOME_TEXT_BYTES_MAX ((size_t)64 * 1024)

/* The job is done: its row goes, the log says `successful`. */
PGQ_API pgq_outcome pgq_done(void);

/* The job failed. `type` is a short class such as "ValueError", `message` says what happened; both
 * are copied before the function returns. Without memory it is a failure without text. */
PGQ_API pgq_outcome pgq_fail(const char *type, const char *message);

/* The job goes back to the queue and is due again in delay_ms (0 to PGQ_DELAY_MS_MAX, clamped);
 * its attempts rise by one. `reason` may be NULL and is copied. */
PGQ_API pgq_outcome pgq_retry(int64_t delay_ms, const char *reason);

/* The handler gave up because pgq_job_cancelled() said so: the log says `canceled`. */
PGQ_API pgq_outcome pgq_cancelled(void);

/* Frees the texts of an outcome that is not returned from a handler. */
PGQ_API void pgq_outcome_discard(pgq_outcome *outcome);

/* Runs one job, in a thread of the worker's pool. It may block. It must not call
 * pgq_worker_run, and must not let a C++ exception out. */
typedef pgq_outcome (*pgq_handler)(pgq_job *job, void *user);

typedef enum pgq_on_failure {
    PGQ_ON_FAILURE_DELETE = 0, /* the failed job's row goes; the log keeps the error */
    PGQ_ON_FAILURE_HOLD = 1    /* the row stays as `failed` until it is requeued or cancelled */
} pgq_on_failure;

typedef struct pgq_entrypoint_options {
    size_t struct_size;
    pgq_on_failure on_failure;
} pgq_entrypoint_options;

#define PGQ_ENTRYPOINT_OPTIONS_INIT                           \
    {                                                         \
        sizeof(pgq_entrypoint_options), PGQ_ON_FAILURE_DELETE \
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
    PGQ_MODE_DRAIN = 1       /* until no queued job of the entrypoints is left, deferred included */
} pgq_run_mode;

#define PGQ_BATCH_SIZE_MAX 1000
#define PGQ_THREADS_MAX 1024
#define PGQ_LANES_MAX 8
#define PGQ_ENTRYPOINTS_MAX 1000

/* Zero in a member without an own default means "the default". */
typedef struct pgq_run_options {
    size_t struct_size;
    pgq_run_mode mode;
    int batch_size;               /* jobs per claim at most, 1 to PGQ_BATCH_SIZE_MAX; 10 */
    int threads;                  /* handler threads, 1 to PGQ_THREADS_MAX; cores, at least 4 */
    int lanes;                    /* database connections that claim, 1 to PGQ_LANES_MAX; 2 */
    int64_t dequeue_timeout_ms;   /* fallback poll, 1 to 86 400 000; 30 000 */
    int64_t heartbeat_timeout_ms; /* a job without a beat for so long is taken over, 100 to
                                    86 400 000; 30 000 */
    int64_t drain_timeout_ms;     /* on stop, how long to wait for running handlers; 0: no limit */
    pgq_log_level log_level;      /* the lowest level that reaches the sink */
    pgq_log_sink log_sink;        /* NULL: no log */
    void *log_user;
} pgq_run_options;

#define PGQ_RUN_OPTIONS_INIT                                                                   \
    {                                                                                          \
        sizeof(pgq_run_options), PGQ_MODE_CONTINUOUS, 10, 0, 2, 30000, 30000, 0, PGQ_LOG_INFO, \
            NULL, NULL                                                                         \
    }

typedef struct pgq_worker pgq_worker;

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
 * PGQ_E_TIMEOUT (handlers were still running after drain_timeout_ms), PGQ_E_NOMEM. */
PGQ_API PGQ_CHECKED pgq_code pgq_worker_run(pgq_worker *worker, const pgq_run_options *options,
                                            pgq_error *err);

/* Asks a running worker to stop gracefully: no new claims, running handlers finish. Any thread;
 * also from a signal handler. Before pgq_worker_run it makes that return at once. */
PGQ_API void pgq_worker_stop(pgq_worker *worker);

/* The id under which this worker claims jobs, as 36 characters, valid as long as the worker. */
PGQ_API const char *pgq_worker_id(const pgq_worker *worker);

typedef struct pgq_worker_counts {
    uint64_t claimed;
    uint64_t successful;
    uint64_t failed; /* exception and failed */
    uint64_t retried;
    uint64_t cancelled;
    uint64_t released; /* given back without a start */
    uint64_t lost;     /* claims that another worker or a cancellation took away */
} pgq_worker_counts;

/* What the worker has done so far; call it from the worker's thread or after the run. */
PGQ_API void pgq_worker_get_counts(const pgq_worker *worker, pgq_worker_counts *ret_counts);

/* Frees a worker that does not run. Takes NULL; returns NULL. */
PGQ_API pgq_worker *pgq_worker_free(pgq_worker *worker);

/* The symbol that `pgqueuer run FILE:SYMBOL` calls: it registers entrypoints and returns PGQ_OK,
 * or says in `err` why it cannot. argv holds the arguments after `--`. */
typedef pgq_code (*pgq_factory)(pgq_worker *worker, int argc, char **argv, pgq_error *err);

#ifdef __cplusplus
}
#endif
#endif
