/* The handler threads. The I/O thread hands jobs over by chunks and takes outcomes by chunks.
 *
 * The I/O thread calls pool_start, pool_push, pool_take and pool_free; the pool's threads call the
 * handlers. No lock is held while a handler runs. A job is started only by the thread that moves
 * its `start` word from JOB_WAITING to JOB_STARTED. */
#ifndef WORKER_POOL_H
#define WORKER_POOL_H

#include <pgqueuer/worker.h>

#include "queue/job.h"

typedef struct pool pool;

/* What runs a job: finds the handler and calls it. Called by the pool's threads. */
typedef pgq_outcome (*pool_run)(void *user, pgq_job *job);

/* Called by a pool thread when outcomes wait and none did before. It holds the pool's lock, so it
 * must neither block nor call the pool. */
typedef void (*pool_wake)(void *user);

typedef struct pool_outcome {
    pgq_job *job;
    pgq_outcome outcome;
    int64_t run_us;
} pool_outcome;

/* `capacity`: the most jobs that are in the pool at once, waiting, running or with an outcome.
 * All memory is allocated here. PGQ_E_NOMEM also when a thread cannot be started. */
pgq_code pool_new(int threads, size_t capacity, pool_run run, pool_wake wake, void *user,
                  pool **ret_pool);

/* Hands jobs over, in their order. */
void pool_push(pool *p, pgq_job *const *jobs, size_t count);

/* Takes a job back that no thread has started; false: one has. */
bool pool_revoke(pool *p, pgq_job *job);

/* Moves outcomes that wait to `outcomes`, at most `max`; how many. */
size_t pool_take(pool *p, pool_outcome *outcomes, size_t max);

/* Ends the threads and frees the pool. With `abandon` it does not wait for handlers that still
 * run: the pool and their jobs then stay in memory until the process ends. Takes NULL. */
pool *pool_free(pool *p, bool abandon);

#endif
