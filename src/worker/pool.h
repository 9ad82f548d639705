/* The handler threads. The I/O thread hands jobs over by chunks and takes messages by chunks.
 *
 * The I/O thread calls the functions of this header; the pool's threads call the handlers, and
 * pgq_job_finish may come from any thread. Neither a hand-over, a start, a revocation nor an
 * outcome takes a lock. */
#ifndef WORKER_POOL_H
#define WORKER_POOL_H

#include <pgqueuer/worker.h>

#include "queue/job.h"

typedef struct pool pool;

/* What runs a job: finds the handler and calls it. Called by the pool's threads. `job->began_us` is
 * the time, just read. */
typedef pgq_outcome (*pool_run)(void *user, pgq_job *job);

/* Called by another thread when the I/O thread is to take messages. It must neither block nor call
 * the pool. */
typedef void (*pool_wake)(void *user);

/* What the pool says of a job, in the order in which it happened: for a job with a timeout
 * OUTCOME_STARTED; OUTCOME_LATER if it goes on without its thread; its outcome. */
typedef struct pool_outcome {
    pgq_job *job;
    pgq_outcome outcome;
    int64_t run_us; /* for how long it occupied a thread; 0: not known */
} pool_outcome;

/* `capacity`: the most jobs that wait in the pool at once. All memory is allocated here.
 * PGQ_E_NOMEM also when a thread cannot be started. */
pgq_code pool_new(int threads, size_t capacity, pool_run run, pool_wake wake, void *user,
                  pool **ret_pool);

/* Hands jobs over; they start in their order. A job may be handed over again after
 * OUTCOME_AGAIN. */
void pool_push(pool *p, pgq_job *const *jobs, size_t count);

/* Takes a job back that no thread has started; false: one has. Its owner may free it at once. */
bool pool_revoke(pool *p, pgq_job *job);

/* Has the handler of a job end early: from now on pgq_job_cancelled says so, and its callback and
 * its executor are told, once, unless the handler has ended. The first reason stays. */
void pool_tell(pool *p, pgq_job *job, job_why why);

/* When the I/O thread is woken: by the first message (false), or only when nothing waits and
 * nothing runs any more, by a job of pool_push's that was the last of its chunk, and by
 * pgq_job_finish (true). Who asks for quiet takes messages by the clock. After the return to
 * false messages may wait already. While it is quiet a run is taken to last `run_us`, and jobs that
 * one thread does soon are left to one. */
void pool_set_quiet(pool *p, bool quiet, int64_t run_us);

/* Has a thread look for jobs that wait, if any do and a thread sleeps. */
void pool_stir(pool *p);

/* Jobs wait, and none was taken since the last call. */
bool pool_stands_still(pool *p);

/* Moves messages that wait to `outcomes`, at most `max`; how many. */
size_t pool_take(pool *p, pool_outcome *outcomes, size_t max);

/* Ends the threads and frees the pool. With `abandon` it does not wait for handlers that still
 * run: the pool and their jobs then stay in memory until the process ends. Takes NULL. */
pool *pool_free(pool *p, bool abandon);

#endif
