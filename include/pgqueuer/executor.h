/* How a job is run: the outcome of a run, handlers, executors and their factories.
 *
 * An entrypoint's jobs are run by its executor. Without a factory that is a plain call of the
 * handler; `executor_factory` of pgq_entrypoint_options, the only way to set another one, may put
 * something of its own in its place or around it. */
#ifndef PGQUEUER_EXECUTOR_H
#define PGQUEUER_EXECUTOR_H

#include <pgqueuer/job.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pgq_worker pgq_worker;

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

/* The handler gave up because pgq_job_cancelled() said so: the log says `canceled`. If only the
 * worker must stop, the job goes back to the queue instead, for another worker. */
PGQ_API pgq_outcome pgq_cancelled(void);

/* The job goes on after its handler has returned: pgq_job_finish ends it. */
PGQ_API pgq_outcome pgq_later(void);

/* Ends a job whose handler returned pgq_later, or is about to; once, from any thread. The outcome
 * must not be pgq_later. The job is not to be used any more. */
PGQ_API void pgq_job_finish(pgq_job *job, pgq_outcome outcome);

/* Has `fn` called once when the job should end early (see pgq_job_cancelled), from the worker's
 * thread, so that it must neither block nor call pgq_worker functions; at once, from this thread,
 * if it should already. Not called any more when the handler has returned or, after pgq_later, when
 * pgq_job_finish was called; it may call that itself. A second call replaces the first function;
 * NULL takes it away. From the handler's thread, or after pgq_later from the one that has the job.
 * What `user` points to must outlive the handler's return, or be taken away before it. While a
 * callback runs pgq_job_finish of another thread waits for it: hold no lock that the callback
 * takes.
 */
typedef void (*pgq_cancel_callback)(pgq_job *job, void *user);
PGQ_API void pgq_job_on_cancel(pgq_job *job, pgq_cancel_callback fn, void *user);

/* Frees the texts of an outcome that is not returned from a handler. */
PGQ_API void pgq_outcome_discard(pgq_outcome *outcome);

/* Runs one job, in a thread of the worker's pool. It may block. It must not call
 * pgq_worker_run, and must not let a C++ exception out. */
typedef pgq_outcome (*pgq_handler)(pgq_job *job, void *user);

typedef struct pgq_executor pgq_executor;

/* What an executor can do. `execute` and `finished` are called by many threads at
 * once, the others by one. */
typedef struct pgq_executor_operations {
    size_t struct_size;

    /* Runs a job in a thread of the pool and says what became of it; it may block. pgq_later if
     * the job goes on; then pgq_job_finish ends it. */
    pgq_outcome (*execute)(pgq_executor *self, pgq_job *job);

    /* The job should end early. From the worker's thread, or from the job's when that was told just
     * as it began: perhaps before `execute` has begun, which should ask pgq_job_cancelled. It must
     * not block. May be NULL. */
    void (*cancel)(pgq_executor *self, pgq_job *job);

    /* A job that went on after `execute` was finished with `outcome`, which is taken over: returns
     * what the job is to end with, such as a retry in the place of a failure. From the thread of
     * pgq_job_finish. A wrapper asks its inner executor first. May be NULL: as it is. */
    pgq_outcome (*finished)(pgq_executor *self, pgq_job *job, pgq_outcome outcome);

    /* Frees it, and the inner executor that it wraps. No job is running any more. */
    void (*destroy)(pgq_executor *self);
} pgq_executor_operations;

/* The head of every executor: the first member of its own struct. */
struct pgq_executor {
    const pgq_executor_operations *operations;
};

/* What a factory gets. Everything is borrowed for the time of the call, but for `handler`, `user`
 * and `worker`, which live as long as the worker. */
typedef struct pgq_executor_parameters {
    size_t struct_size;
    pgq_worker *worker;
    const char *entrypoint;
    pgq_handler handler; /* as it was registered */
    void *user;
    const void *config;  /* executor_config of the entrypoint's options */
    pgq_executor *inner; /* calls the handler; taken over by a factory that succeeds */
} pgq_executor_parameters;

/* Makes the executor of an entrypoint, while it is registered. On failure it says why in `err`, and
 * `inner` is still the caller's. Factories compose: one may call another with its own parameters,
 * or with what the other made as `inner`. */
typedef pgq_code (*pgq_executor_factory)(const pgq_executor_parameters *parameters,
                                         pgq_executor **ret_executor, pgq_error *err);

/* ---- retry in the database ---- */

/* A failed job goes back to the queue, and any worker runs it again when the delay has passed; a
 * crash loses no attempt. The n-th retry (n from 0, the job's attempts) waits
 * min(initial_delay_ms * multiplier^n, max_delay_ms), of which up to the part `jitter` is taken off
 * at random. When max_retries are used up the failure counts. A retry, a cancellation or a success
 * of the handler passes unchanged. Source: wire contract 4.14, DatabaseRetryEntrypointExecutor. */
typedef struct pgq_retry_config {
    size_t struct_size;
    int max_retries;          /* 0 to 1 000 000; max_retries + 1 runs; 5 */
    int64_t initial_delay_ms; /* 0 to PGQ_DELAY_MS_MAX; 1000 */
    int64_t max_delay_ms;     /* likewise; 300 000 */
    double multiplier;        /* 1 to 1000; 2 */
    double jitter;            /* 0 to 1; 0 */
} pgq_retry_config;

#define PGQ_RETRY_CONFIG_INIT                               \
    {                                                       \
        sizeof(pgq_retry_config), 5, 1000, 300000, 2.0, 0.0 \
    }

/* executor_config: a pgq_retry_config, or NULL for its defaults. */
PGQ_API PGQ_CHECKED pgq_code pgq_retry_executor(const pgq_executor_parameters *parameters,
                                                pgq_executor **ret_executor, pgq_error *err);

/* ---- retry in the process ---- */

/* A failed job stays picked and is run again by this worker after a delay, in which it occupies no
 * thread; a crash begins again from the first attempt. Before run n + 1 (n failures so far) it
 * waits min(initial_delay_ms * multiplier^n / 2 + u * initial_delay_ms / 2, max_delay_ms), u random
 * from 0 to 1. After max_attempts runs the job fails with MaxRetriesExceeded, after max_time_ms
 * with MaxTimeExceeded. Source: RetryWithBackoffEntrypointExecutor of v0.21.0, wire contract 11. */
typedef struct pgq_backoff_config {
    size_t struct_size;
    int max_attempts;         /* runs in all; 0: no limit; 5 */
    int64_t max_delay_ms;     /* 0 to PGQ_DELAY_MS_MAX; 10 000 */
    int64_t max_time_ms;      /* from the first start; 0: no limit; 300 000 */
    int64_t initial_delay_ms; /* 0 to PGQ_DELAY_MS_MAX; 100 */
    double multiplier;        /* 1 to 1000; 2 */
} pgq_backoff_config;

#define PGQ_BACKOFF_CONFIG_INIT                                \
    {                                                          \
        sizeof(pgq_backoff_config), 5, 10000, 300000, 100, 2.0 \
    }

/* executor_config: a pgq_backoff_config, or NULL for its defaults. */
PGQ_API PGQ_CHECKED pgq_code pgq_backoff_executor(const pgq_executor_parameters *parameters,
                                                  pgq_executor **ret_executor, pgq_error *err);

#ifdef __cplusplus
}
#endif
#endif
