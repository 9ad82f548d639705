#include "worker/pool.h"
#include "base/clock.h"

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
    size_t capacity;
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

/* The lock is held. The I/O thread is woken by the first outcome only; it takes all there are. */
static void post_outcome(pool *p, const pool_outcome *done)
{
    assert(p->outcome_count < p->capacity);
    p->outcomes[(p->outcome_first + p->outcome_count++) % p->capacity] = *done;
    if (p->outcome_count == 1)
        p->wake(p->user);
}

/* Jobs are taken one by one, under one lock with the post of the last outcome: with chunks, quick
 * jobs would wait behind a slow one while other threads have nothing to do. */
static void *thread_main(void *argument)
{
    pool *p = argument;

    (void)pthread_mutex_lock(&p->lock);
    while (!p->closing) {
        pool_outcome done = {.job = take_job(p)};
        int64_t began_us;

        if (done.job == NULL) {
            p->idle++;
            (void)pthread_cond_wait(&p->work, &p->lock);
            p->idle--;
            continue;
        }
        (void)pthread_mutex_unlock(&p->lock);
        began_us = clock_monotonic_us();
        done.outcome = p->run(p->user, done.job);
        done.run_us = base_max_i64(1, clock_monotonic_us() - began_us);
        (void)pthread_mutex_lock(&p->lock);
        post_outcome(p, &done);
    }
    (void)pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Handlers' threads take no signals: those belong to the program. */
static int start_thread(pool *p)
{
    sigset_t all, old;
    int status;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    status = pthread_create(&p->threads[p->thread_count], NULL, thread_main, p);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return status;
}

static void destroy(pool *p)
{
    (void)pthread_cond_destroy(&p->work);
    (void)pthread_mutex_destroy(&p->lock);
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
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->work, NULL);
    p->run = run;
    p->wake = wake;
    p->user = user;
    p->capacity = capacity;
    p->waiting = calloc(capacity, sizeof(*p->waiting));
    p->outcomes = calloc(capacity, sizeof(*p->outcomes));
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

void pool_push(pool *p, pgq_job *const *jobs, size_t count)
{
    (void)pthread_mutex_lock(&p->lock);
    assert(p->waiting_count + count <= p->capacity);
    for (size_t i = 0; i < count; i++)
        p->waiting[(p->waiting_first + p->waiting_count++) % p->capacity] = jobs[i];
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
        p->outcome_first = (p->outcome_first + 1) % p->capacity;
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
