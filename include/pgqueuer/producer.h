/* Enqueueing from many threads, at the speed of the database.
 *
 * A pgq_producer owns one connection and one thread. Jobs that arrive while a commit is under way
 * travel together in the next transaction, without waiting for more of them; each call returns when
 * its own job is durable, with its own id or its own error. A lost connection is made again, and
 * what became of a COMMIT whose answer was lost is asked of the server: no acknowledged job is lost
 * and none is there twice.
 *
 * A process that forks does not use its parent's producer. */
#ifndef PGQUEUER_PRODUCER_H
#define PGQUEUER_PRODUCER_H

#include <pgqueuer/client.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PGQ_PRODUCER_JOBS_MAX ((size_t)1000000)
#define PGQ_PRODUCER_BYTES_MAX ((size_t)1024 * 1024 * 1024)
#define PGQ_PRODUCER_TIMEOUT_MS_MAX ((int64_t)86400 * 1000)

typedef struct pgq_producer_options {
    size_t struct_size;
    const pgq_connect_options *connect; /* NULL: the defaults; call_timeout_ms does not count */
    size_t queue_jobs_max;              /* jobs that have been taken and not answered, 1 to
                                           PGQ_PRODUCER_JOBS_MAX; 10 000 */
    size_t queue_bytes_max;             /* their payloads, headers, entrypoints and keys, 1 to
                                           PGQ_PRODUCER_BYTES_MAX; 64 MiB */
    int64_t timeout_ms;        /* of a job that brings none, 1 to PGQ_PRODUCER_TIMEOUT_MS_MAX;
                                  30 000 */
    int64_t answer_timeout_ms; /* a server that is silent for so long is given up, and so long the
                                  outcome of a lost COMMIT is looked for, 1 to
                                  PGQ_PRODUCER_TIMEOUT_MS_MAX; 30 000 */
} pgq_producer_options;

#define PGQ_PRODUCER_OPTIONS_INIT                                                         \
    {                                                                                     \
        sizeof(pgq_producer_options), NULL, 10000, (size_t)64 * 1024 * 1024, 30000, 30000 \
    }

typedef struct pgq_producer pgq_producer;

/* Connects, as pgq_client_open does, and starts the thread. The strings of the options are copied;
 * options may be NULL. With several hosts in the DSN it wants target_session_attrs=read-write.
 * Errors: as pgq_client_open; PGQ_E_INVALID for a member out of its range. */
PGQ_API PGQ_CHECKED pgq_code pgq_producer_open(const pgq_producer_options *options,
                                               pgq_producer **ret_producer, pgq_error *err);

/* Enqueues one job and returns when it is durable, with its id (0: left out by skip; ret_id may be
 * NULL). Any number of threads at a time. The job is borrowed for the time of the call.
 * timeout_ms (0: the producer's) is for the waiting, for room in the queue and for being sent; a
 * job that was sent is waited for, in doubt for two answer_timeout_ms more.
 * Errors, after which the job is not enqueued: PGQ_E_BACKPRESSURE (no room in time), PGQ_E_TIMEOUT
 * (not sent in time, or refused so by the server), PGQ_E_DUPLICATE (raise), PGQ_E_INVALID,
 * PGQ_E_LIMIT (also a job that is larger than the queue), PGQ_E_STATE (the producer is being
 * closed), PGQ_E_SCHEMA_MISSING, PGQ_E_SCHEMA_MISMATCH, PGQ_E_PERMISSION, PGQ_E_DATABASE,
 * PGQ_E_NOMEM. And PGQ_E_OUTCOME_UNKNOWN: it may be enqueued, once; the message has its id. */
PGQ_API PGQ_CHECKED pgq_code pgq_producer_enqueue(pgq_producer *producer, const pgq_new_job *job,
                                                  pgq_on_conflict on_conflict, int64_t timeout_ms,
                                                  int64_t *ret_id, pgq_error *err);

/* What became of a submitted job: `code` and `id` as pgq_producer_enqueue gives them. `err` is NULL
 * with PGQ_OK, and otherwise borrowed for the time of the call. */
typedef void (*pgq_producer_callback)(pgq_code code, int64_t id, const pgq_error *err, void *user);

/* Hands in one job, which is copied, and returns at once. Any thread, a callback included. When its
 * outcome is known, pgq_producer_fd becomes readable and pgq_producer_process calls `callback`,
 * once. Until then the job counts against the queue's limits. On failure `callback` is not called:
 * PGQ_E_BACKPRESSURE (no room now), PGQ_E_INVALID, PGQ_E_LIMIT, PGQ_E_STATE, PGQ_E_NOMEM. */
PGQ_API PGQ_CHECKED pgq_code pgq_producer_submit(pgq_producer *producer, const pgq_new_job *job,
                                                 pgq_on_conflict on_conflict, int64_t timeout_ms,
                                                 pgq_producer_callback callback, void *user,
                                                 pgq_error *err);

/* A descriptor for poll(), epoll or an event loop: readable (POLLIN) while outcomes of submitted
 * jobs wait for pgq_producer_process. The producer's own, valid until it is closed; neither read
 * nor closed by the caller. */
PGQ_API int pgq_producer_fd(const pgq_producer *producer);

/* Calls the callbacks of the outcomes that are there, in the calling thread, and returns how many.
 * Never blocks. One thread at a time, and not from a callback. */
PGQ_API size_t pgq_producer_process(pgq_producer *producer);

/* Takes no more jobs, waits up to timeout_ms (0: not at all) until those that were taken are
 * durable, and frees the producer, whatever it returns. What could not be sent in time comes back
 * to its caller as PGQ_E_STATE, and what was sent and not answered as PGQ_E_OUTCOME_UNKNOWN;
 * callbacks that are due are called by this function. No call may begin when it has been
 * called; those that wait return. NULL is closed already.
 * Errors: PGQ_E_TIMEOUT (jobs came back so; the message says how many), PGQ_E_INVALID (then nothing
 * was closed). */
PGQ_API PGQ_CHECKED pgq_code pgq_producer_close(pgq_producer *producer, int64_t timeout_ms,
                                                pgq_error *err);

#ifdef __cplusplus
}
#endif
#endif
