#include "worker/pool.h"
#include "base/clock.h"
#include "queue/outcome.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    pgq_job **waiting; /* ring */
    size_t waiting_first, waiting_count;
    pool_outcome *outcomes; /* ring */
    size_t outcome_first, outcome_count;
    size_t capacity, outcome_capacity;
    pthread_mutex_t tell_lock; /* recursive: a callback may finish its job */
    bool closing;
    int idle;
    int thread_count;
    pool_run run;
    pool_wake wake;
    void *user;
    pthread_t threads[];
};

/* The next job that nobody has revoked; NULL: none waits. The lock is held. */
static pgq_job *take_job(pool *p)
{
    while (p->waiting_count > 0) {
        pgq_job *job = p->waiting[p->waiting_first];
        int waiting = JOB_WAITING;

        p->waiting_first = (p->waiting_first + 1) % p->capacity;
        p->waiting_count--;
        if (atomic_compare_exchange_strong(&job->start, &waiting, JOB_STARTED))
            return job;
    }
    return NULL;
}

/* The lock is held. False without memory. */
static bool grow(pool *p)
{
    size_t capacity = 2 * p->outcome_capacity;
    pool_outcome *grown = calloc(capacity, sizeof(*grown));

    if (grown == NULL)
        return false;
    for (size_t i = 0; i < p->outcome_count; i++)
        grown[i] = p->outcomes[(p->outcome_first + i) % p->outcome_capacity];
    free(p->outcomes);
    p->outcomes = grown;
    p->outcome_first = 0;
    p->outcome_capacity = capacity;
    return true;
}

/* The lock is held. The I/O thread is woken by the first message only; it takes all there are. */
static void post(pool *p, const pool_outcome *message)
{
    if (p->outcome_count == p->outcome_capacity && !grow(p))
        return; /* of jobs that were given up there may be more than room was made for */
    p->outcomes[(p->outcome_first + p->outcome_count++) % p->outcome_capacity] = *message;
    if (p->outcome_count == 1)
        p->wake(p->user);
}

/* ---- told to end ---- */

static bool can_cancel(const pgq_job *job)
{
    return job->executor != NULL && job->executor->operations->cancel != NULL;
}

/* The lock for telling is held. */
static void tell_executor(pgq_job *job)
{
    if (!job->tellable || job->told)
        return;
    job->told = true;
    job->executor->operations->cancel(job->executor, job);
}

/* From now on the executor may be told. */
static void begin_telling(pool *p, pgq_job *job)
{
    if (!can_cancel(job))
        return;
    (void)pthread_mutex_lock(&p->tell_lock);
    job->tellable = true;
    if (pgq_job_cancelled(job)) /* it was told between its start and here */
        tell_executor(job);
    (void)pthread_mutex_unlock(&p->tell_lock);
}

/* Nobody is told from now on, nor is anybody being told just now. */
static void end_telling(pool *p, pgq_job *job)
{
    (void)pthread_mutex_lock(&p->tell_lock);
    job->tellable = false;
    job->ended = true;
    job->on_cancel = NULL;
    (void)pthread_mutex_unlock(&p->tell_lock);
}

void pool_tell(pool *p, pgq_job *job, job_why why)
{
    pgq_cancel_callback callback;
    int not_yet = WHY_NOT;

    (void)atomic_compare_exchange_strong(&job->why, &not_yet, (int)why);
    (void)pthread_mutex_lock(&p->tell_lock);
    callback = job->on_cancel;
    job->on_cancel = NULL;
    if (callback != NULL)
        callback(job, job->on_cancel_user);
    tell_executor(job);
    (void)pthread_mutex_unlock(&p->tell_lock);
}

void pgq_job_on_cancel(pgq_job *job, pgq_cancel_callback fn, void *user)
{
    pool *p = job->pool;

    (void)pthread_mutex_lock(&p->tell_lock);
    job->listens = true;
    if (job->ended) {
        /* it was finished meanwhile, and whoever did that does not expect a call any more */
    } else if (fn != NULL && pgq_job_cancelled(job)) {
        job->on_cancel = NULL;
        fn(job, user);
    } else {
        job->on_cancel = fn;
        job->on_cancel_user = user;
    }
    (void)pthread_mutex_unlock(&p->tell_lock);
}

/* ---- the end of a run ---- */

/* The handler has returned. A job that goes on keeps its callback; one that was finished before its
 * handler said pgq_later ends now. The lock is held. */
static void post_end(pool *p, pool_outcome *done)
{
    pgq_job *job = done->job;

    if (done->outcome.kind == OUTCOME_LATER && job->later == LATER_NOT) {
        job->later = LATER_PARKED;
    } else {
        if (done->outcome.kind == OUTCOME_LATER)
            done->outcome = job->early;
        else if (job->later == LATER_EARLY)
            pgq_outcome_discard(&job->early); /* it was finished, and then returned an outcome */
        job->later = LATER_FINISHED;
    }
    post(p, done);
}

void pgq_job_finish(pgq_job *job, pgq_outcome outcome)
{
    pool *p = job->pool;
    pgq_executor *executor = job->executor;

    if (outcome.kind == OUTCOME_LATER)
        outcome = pgq_fail("InvalidOutcome", "pgq_job_finish was called with pgq_later");
    if (executor != NULL && executor->operations->finished != NULL)
        outcome = executor->operations->finished(executor, job, outcome);
    end_telling(p, job);
    (void)pthread_mutex_lock(&p->lock);
    if (job->later == LATER_PARKED) {
        pool_outcome done = {.job = job, .outcome = outcome};

        job->later = LATER_FINISHED;
        post(p, &done);
    } else if (job->later == LATER_NOT) {
        job->later = LATER_EARLY;
        job->early = outcome;
    } else {
        pgq_outcome_discard(&outcome); /* finished twice: the first one counts */
    }
    (void)pthread_mutex_unlock(&p->lock);
}

/* ---- threads ---- */

/* Runs a job that was taken. The lock is held, but for the run itself. */
static void run_taken(pool *p, pgq_job *job)
{
    pool_outcome done = {.job = job};

    if (job->timeout_ms > 0) {
        done.outcome.kind = OUTCOME_STARTED;
        post(p, &done);
    }
    (void)pthread_mutex_unlock(&p->lock);
    job->began_us = clock_monotonic_us();
    begin_telling(p, job);
    done.outcome = p->run(p->user, job);
    if (done.outcome.kind != OUTCOME_LATER && (can_cancel(job) || job->listens))
        end_telling(p, job);
    done.run_us = base_max_i64(1, clock_monotonic_us() - job->began_us);
    (void)pthread_mutex_lock(&p->lock);
    post_end(p, &done);
}

/* Jobs are taken one by one, under one lock with the post of the last outcome: with chunks, quick
 * jobs would wait behind a slow one while other threads have nothing to do. */
static void *thread_main(void *argument)
{
    pool *p = argument;
    pgq_job *job;

    (void)pthread_mutex_lock(&p->lock);
    while (!p->closing) {
        job = take_job(p);
        if (job != NULL) {
            run_taken(p, job);
            continue;
        }
        p->idle++;
        (void)pthread_cond_wait(&p->work, &p->lock);
        p->idle--;
    }
    (void)pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* With the caller's signal mask: what a handler starts inherits it, and is to be stopped by a
 * signal. */
static int start_thread(pool *p)
{
    return pthread_create(&p->threads[p->thread_count], NULL, thread_main, p);
}

static void init_locks(pool *p)
{
    pthread_mutexattr_t recursive;

    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->work, NULL);
    (void)pthread_mutexattr_init(&recursive);
    (void)pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    (void)pthread_mutex_init(&p->tell_lock, &recursive);
    (void)pthread_mutexattr_destroy(&recursive);
}

static void destroy(pool *p)
{
    (void)pthread_cond_destroy(&p->work);
    (void)pthread_mutex_destroy(&p->lock);
    (void)pthread_mutex_destroy(&p->tell_lock);
    free(p->waiting);
    free(p->outcomes);
    free(p);
}

pgq_code pool_new(int threads, size_t capacity, pool_run run, pool_wake wake, void *user,
                  pool **ret_pool)
{
    pool *p = calloc(1, sizeof(*p) + (size_t)threads * sizeof(p->threads[0]));
    int started;

    if (p == NULL)
        return PGQ_E_NOMEM;
    init_locks(p);
    p->run = run;
    p->wake = wake;
    p->user = user;
    p->capacity = capacity;
    p->waiting = calloc(capacity, sizeof(*p->waiting));
    p->outcome_capacity = 3 * capacity; /* a job may have three messages at once */
    p->outcomes = calloc(p->outcome_capacity, sizeof(*p->outcomes));
    if (p->waiting == NULL || p->outcomes == NULL) {
        destroy(p);
        return PGQ_E_NOMEM;
    }
    (void)pthread_mutex_lock(&p->lock); /* the threads read thread_count */
    while (p->thread_count < threads && start_thread(p) == 0)
        p->thread_count++;
    started = p->thread_count;
    (void)pthread_mutex_unlock(&p->lock);
    if (started < threads) {
        (void)pool_free(p, false);
        return PGQ_E_NOMEM;
    }
    *ret_pool = p;
    return PGQ_OK;
}

/* Ready for a run: the first, or another one. That the last one took too long counts no more. */
static void arm(pool *p, pgq_job *job)
{
    int timeout = WHY_TIMEOUT;

    job->pool = p;
    job->later = LATER_NOT;
    job->told = job->tellable = job->ended = job->listens = false;
    job->on_cancel = NULL;
    (void)atomic_compare_exchange_strong(&job->why, &timeout, WHY_NOT);
    atomic_store(&job->start, JOB_WAITING);
}

void pool_push(pool *p, pgq_job *const *jobs, size_t count)
{
    (void)pthread_mutex_lock(&p->lock);
    assert(p->waiting_count + count <= p->capacity);
    for (size_t i = 0; i < count; i++) {
        arm(p, jobs[i]);
        p->waiting[(p->waiting_first + p->waiting_count++) % p->capacity] = jobs[i];
    }
    if (p->idle == 1 || count == 1)
        (void)pthread_cond_signal(&p->work);
    else if (p->idle > 1)
        (void)pthread_cond_broadcast(&p->work);
    (void)pthread_mutex_unlock(&p->lock);
}

bool pool_revoke(pool *p, pgq_job *job)
{
    int waiting = JOB_WAITING;

    if (!atomic_compare_exchange_strong(&job->start, &waiting, JOB_REVOKED))
        return false;
    /* the ring may not point to a job that its owner frees */
    (void)pthread_mutex_lock(&p->lock);
    for (size_t i = 0, kept = 0, count = p->waiting_count; i < count; i++) {
        pgq_job *at = p->waiting[(p->waiting_first + i) % p->capacity];

        if (at == job)
            p->waiting_count--;
        else
            p->waiting[(p->waiting_first + kept++) % p->capacity] = at;
    }
    (void)pthread_mutex_unlock(&p->lock);
    return true;
}

size_t pool_take(pool *p, pool_outcome *outcomes, size_t max)
{
    size_t count;

    (void)pthread_mutex_lock(&p->lock);
    count = p->outcome_count < max ? p->outcome_count : max;
    for (size_t i = 0; i < count; i++) {
        outcomes[i] = p->outcomes[p->outcome_first];
        p->outcome_first = (p->outcome_first + 1) % p->outcome_capacity;
    }
    p->outcome_count -= count;
    (void)pthread_mutex_unlock(&p->lock);
    return count;
}

pool *pool_free(pool *p, bool abandon)
{
    if (p == NULL)
        return NULL;
    (void)pthread_mutex_lock(&p->lock);
    p->closing = true;
    (void)pthread_cond_broadcast(&p->work);
    (void)pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->thread_count; i++) {
        if (abandon)
            (void)pthread_detach(p->threads[i]);
        else
            (void)pthread_join(p->threads[i], NULL);
    }
    if (!abandon)
        destroy(p);
    return NULL;
}
