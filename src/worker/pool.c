#include "worker/pool.h"
#include "base/clock.h"
#include "queue/outcome.h"

#include <assert.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>

enum {
    LINE_BYTES = 64, /* what several threads write stands in lines of its own */
    ALONE_US = 1000, /* so much of quick jobs is left to one thread */
    /* of pool.sleep */
    SLEEPERS = 0xFFFF,
    WAKING = 0x10000,
    /* of pgq_job.news */
    NEWS_STARTED = 1,
    NEWS_LATER = 2,
    NEWS_END = 4
};

/* Jobs wait in a ring of slots. A position of it belongs to the thread that moves `head` over it,
 * and the job to whoever empties its slot: that thread, or the owner, who revokes it. So nothing
 * points to a job that was revoked, and a position may be empty. */
struct pool {
    _Atomic(pgq_job *) *slots;
    size_t mask; /* a power of two of them, less one */
    size_t capacity;
    pgq_job **scratch;
    pool_run run;
    pool_wake wake;
    void *user;
    pthread_mutex_t later_lock; /* a handler's pgq_later meets pgq_job_finish */
    pthread_mutex_t tell_lock;  /* recursive: a callback may finish its job */
    sem_t bell;                 /* a sleeping thread waits for it */
    size_t seen_head;           /* the I/O thread's: where `head` was when it looked */
    pgq_job *taken;             /* the I/O thread's: jobs of which something is to be said */
    pgq_job *half_said;         /* and the one of which `half_news` are left to say */
    unsigned half_news;
    atomic_bool closing, quiet;
    _Atomic int64_t quick_run_us; /* what a run takes while it is quiet */
    char line0[LINE_BYTES];
    _Atomic size_t tail; /* the I/O thread's */
    char line1[LINE_BYTES];
    _Atomic size_t head;
    char line2[LINE_BYTES];
    _Atomic(pgq_job *) told; /* jobs of which something is to be said, the latest first */
    char line3[LINE_BYTES];
    atomic_uint
        sleep;       /* how many threads sleep that nobody wakes, and whether one is being woken */
    atomic_int busy; /* threads that do not sleep */
    char line4[LINE_BYTES];
    int thread_count;
    pthread_t threads[];
};

/* ---- threads sleep and are woken ----
 *
 * While a job waits and a thread sleeps, one thread is being woken, which wakes the next one before
 * it takes a job: slow jobs hold up nobody. Of quick jobs (the pool is to be quiet) little work is
 * left to one thread, since waking costs more than such a job. Should one of these not be quick,
 * the I/O thread finds out when it looks, and stirs the pool. */

static size_t waiting(pool *p)
{
    size_t head = atomic_load(&p->head), tail = atomic_load(&p->tail);

    return head < tail ? tail - head : 0; /* head was read first: it may be old */
}

static void wake_one(pool *p)
{
    unsigned sleep = atomic_load(&p->sleep);

    do {
        if ((sleep & WAKING) != 0 || (sleep & SLEEPERS) == 0)
            return;
    } while (!atomic_compare_exchange_weak(&p->sleep, &sleep, (sleep - 1) | WAKING));
    (void)sem_post(&p->bell);
}

/* A thread that was about to sleep does not; false: somebody has rung for it. */
static bool stay_awake(pool *p)
{
    unsigned sleep = atomic_load(&p->sleep);

    do {
        if ((sleep & SLEEPERS) == 0)
            return false;
    } while (!atomic_compare_exchange_weak(&p->sleep, &sleep, sleep - 1));
    return true;
}

static bool one_is_enough(pool *p)
{
    int64_t run_us = atomic_load_explicit(&p->quick_run_us, memory_order_relaxed);

    return atomic_load(&p->quiet) && (int64_t)waiting(p) * run_us < ALONE_US;
}

/* Nothing waits: sleeps until something does. */
static void sleep_until_rung(pool *p)
{
    bool last = atomic_fetch_sub(&p->busy, 1) == 1;

    if (last && atomic_load(&p->quiet) && atomic_load(&p->told) != NULL)
        p->wake(p->user);
    (void)atomic_fetch_add(&p->sleep, 1);
    if ((waiting(p) == 0 && !atomic_load(&p->closing)) || !stay_awake(p)) {
        while (sem_wait(&p->bell) != 0)
            continue; /* a signal */
        (void)atomic_fetch_and(&p->sleep, ~(unsigned)WAKING);
        if (waiting(p) > 1 && !one_is_enough(p))
            wake_one(p);
    }
    (void)atomic_fetch_add(&p->busy, 1);
}

/* ---- jobs wait ---- */

/* The next job that nobody has revoked; NULL: none waits. */
static pgq_job *take_job(pool *p)
{
    size_t head = atomic_load(&p->head);

    while (head < atomic_load(&p->tail)) {
        pgq_job *job;

        if (!atomic_compare_exchange_weak(&p->head, &head, head + 1))
            continue;
        job = atomic_exchange(&p->slots[head & p->mask], NULL);
        if (job != NULL) {
            atomic_store_explicit(&job->start, JOB_STARTED, memory_order_relaxed);
            return job;
        }
        head++;
    }
    return NULL;
}

/* Puts a job behind the others, and says where it may be seen from. A slot that is not empty
 * belongs to a thread that has stopped between moving `head` and emptying it, once around ago:
 * whoever comes first takes that job. */
static size_t put(pool *p, size_t tail, pgq_job *job)
{
    while (atomic_load_explicit(&p->slots[tail & p->mask], memory_order_relaxed) != NULL)
        tail++;
    job->slot = tail & p->mask;
    atomic_store_explicit(&p->slots[job->slot], job, memory_order_release);
    return tail + 1;
}

/* Revoked jobs have left empty positions. The positions are taken as a thread takes them, and the
 * jobs that are left put back in their order. */
static void close_ranks(pool *p)
{
    size_t head = atomic_load(&p->head), tail = atomic_load(&p->tail), count = 0;

    while (!atomic_compare_exchange_weak(&p->head, &head, tail))
        continue;
    for (; head < tail; head++) {
        pgq_job *job = atomic_exchange(&p->slots[head & p->mask], NULL);

        if (job == NULL)
            continue;
        assert(count < p->capacity);
        p->scratch[count++] = job;
    }
    for (size_t i = 0; i < count; i++)
        tail = put(p, tail, p->scratch[i]);
    atomic_store(&p->tail, tail);
}

/* ---- messages ---- */

/* `ring`: the I/O thread is to know of it now. The job may be gone when its end was said. */
static void say(pool *p, pgq_job *job, unsigned news, bool ring)
{
    bool first = false;

    if (atomic_fetch_or(&job->news, news) == 0) {
        pgq_job *told = atomic_load_explicit(&p->told, memory_order_relaxed);

        do
            job->next = told;
        while (!atomic_compare_exchange_weak(&p->told, &told, job));
        first = told == NULL;
    }
    ring |= first && !atomic_load(&p->quiet);
    if (ring)
        p->wake(p->user);
}

/* The next job of which something is to be said; NULL: none. */
static pgq_job *next_told(pool *p)
{
    pgq_job *job;

    if (p->taken == NULL && atomic_load(&p->told) != NULL) {
        for (job = atomic_exchange(&p->told, NULL); job != NULL;) { /* the latest first */
            pgq_job *next = job->next;

            job->next = p->taken;
            p->taken = job;
            job = next;
        }
    }
    job = p->taken;
    if (job != NULL)
        p->taken = job->next;
    return job;
}

/* Says the first thing that is left to say. */
static pool_outcome say_next(pool *p)
{
    pgq_job *job = p->half_said;
    pool_outcome said = {.job = job};

    if ((p->half_news & NEWS_STARTED) != 0) {
        p->half_news &= ~(unsigned)NEWS_STARTED;
        said.outcome.kind = OUTCOME_STARTED;
        return said;
    }
    said.run_us = job->ran_us;
    job->ran_us = 0;
    if ((p->half_news & NEWS_LATER) != 0) {
        p->half_news &= ~(unsigned)NEWS_LATER;
        said.outcome.kind = OUTCOME_LATER;
    } else {
        p->half_news = 0;
        said.outcome = job->ending;
    }
    return said;
}

size_t pool_take(pool *p, pool_outcome *outcomes, size_t max)
{
    size_t count = 0;

    while (count < max) {
        if (p->half_news == 0) {
            p->half_said = next_told(p);
            if (p->half_said == NULL)
                break;
            p->half_news = atomic_exchange(&p->half_said->news, 0);
        }
        outcomes[count++] = say_next(p);
    }
    return count;
}

void pool_set_quiet(pool *p, bool quiet, int64_t run_us)
{
    atomic_store_explicit(&p->quick_run_us, run_us, memory_order_relaxed);
    if (atomic_load_explicit(&p->quiet, memory_order_relaxed) != quiet)
        atomic_store(&p->quiet, quiet);
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

/* A job that goes on keeps its callback; one that was finished before its handler said pgq_later
 * ends now. */
static void park(pool *p, pgq_job *job)
{
    (void)pthread_mutex_lock(&p->later_lock);
    if (atomic_load(&job->later) == LATER_NOT) {
        atomic_store(&job->later, LATER_PARKED);
        say(p, job, NEWS_LATER, false);
    } else {
        job->ending = job->early;
        atomic_store(&job->later, LATER_FINISHED);
        say(p, job, NEWS_END, false);
    }
    (void)pthread_mutex_unlock(&p->later_lock);
}

/* The handler has returned. */
static void end_run(pool *p, pgq_job *job, const pgq_outcome *outcome)
{
    if (outcome->kind == OUTCOME_LATER) {
        park(p, job);
        return;
    }
    if (atomic_exchange(&job->later, LATER_FINISHED) == LATER_EARLY)
        pgq_outcome_discard(&job->early); /* it was finished, and then returned an outcome */
    job->ending = *outcome;
    say(p, job, NEWS_END, job->last && atomic_load(&p->quiet));
}

void pgq_job_finish(pgq_job *job, pgq_outcome outcome)
{
    pool *p = job->pool;
    pgq_executor *executor = job->executor;
    int not_yet = LATER_NOT;

    if (outcome.kind == OUTCOME_LATER)
        outcome = pgq_fail("InvalidOutcome", "pgq_job_finish was called with pgq_later");
    if (executor != NULL && executor->operations->finished != NULL)
        outcome = executor->operations->finished(executor, job, outcome);
    end_telling(p, job);
    (void)pthread_mutex_lock(&p->later_lock);
    if (atomic_load(&job->later) == LATER_PARKED) {
        job->ending = outcome;
        atomic_store(&job->later, LATER_FINISHED);
        say(p, job, NEWS_END, true);
    } else if (atomic_load(&job->later) == LATER_NOT) {
        job->early = outcome; /* not `ending`, which its handler may be setting just now */
        if (!atomic_compare_exchange_strong(&job->later, &not_yet, LATER_EARLY))
            pgq_outcome_discard(&outcome); /* its handler has returned an outcome just now */
    } else {
        pgq_outcome_discard(&outcome); /* finished twice: the first one counts */
    }
    (void)pthread_mutex_unlock(&p->later_lock);
}

/* ---- threads ---- */

/* The clock is read at the last moment: whether the job may still be started is decided by it.
 * Returns the time, which is about that of the job's end. */
static int64_t run_taken(pool *p, pgq_job *job)
{
    pgq_outcome outcome;
    int64_t ended_us;

    if (job->timeout_ms > 0)
        say(p, job, NEWS_STARTED, false);
    begin_telling(p, job);
    job->began_us = clock_monotonic_us();
    outcome = p->run(p->user, job);
    if (outcome.kind != OUTCOME_LATER && (can_cancel(job) || job->listens))
        end_telling(p, job);
    ended_us = clock_monotonic_us();
    job->ran_us = base_max_i64(1, ended_us - job->began_us);
    end_run(p, job, &outcome);
    return ended_us;
}

/* Jobs are taken one by one: with chunks, quick jobs would wait behind a slow one while other
 * threads have nothing to do. */
static void *thread_main(void *argument)
{
    pool *p = argument;
    int64_t alone_us = 0; /* since when it has woken nobody; 0: it has not begun */

    (void)atomic_fetch_add(&p->busy, 1);
    while (!atomic_load(&p->closing)) {
        pgq_job *job = take_job(p);
        int64_t now_us;

        if (job == NULL) {
            sleep_until_rung(p);
            alone_us = 0;
            continue;
        }
        now_us = run_taken(p, job);
        if (alone_us == 0)
            alone_us = now_us;
        if (now_us - alone_us < ALONE_US)
            continue;
        alone_us = now_us;
        pool_stir(p);
    }
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

    (void)sem_init(&p->bell, 0, 0);
    (void)pthread_mutex_init(&p->later_lock, NULL);
    (void)pthread_mutexattr_init(&recursive);
    (void)pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    (void)pthread_mutex_init(&p->tell_lock, &recursive);
    (void)pthread_mutexattr_destroy(&recursive);
}

static void destroy(pool *p)
{
    (void)sem_destroy(&p->bell);
    (void)pthread_mutex_destroy(&p->later_lock);
    (void)pthread_mutex_destroy(&p->tell_lock);
    free(p->slots);
    free(p->scratch);
    free(p);
}

/* Room for all that wait, as much again for positions that revoked jobs have left, and for those
 * that `put` passes over. */
static size_t slots_for(size_t capacity, int threads)
{
    size_t size = 1;

    while (size < 2 * capacity + 2 * (size_t)threads)
        size *= 2;
    return size;
}

pgq_code pool_new(int threads, size_t capacity, pool_run run, pool_wake wake, void *user,
                  pool **ret_pool)
{
    pool *p = calloc(1, sizeof(*p) + (size_t)threads * sizeof(p->threads[0]));

    if (p == NULL)
        return PGQ_E_NOMEM;
    init_locks(p);
    p->run = run;
    p->wake = wake;
    p->user = user;
    p->capacity = capacity;
    p->mask = slots_for(capacity, threads) - 1;
    p->slots = calloc(p->mask + 1, sizeof(*p->slots));
    p->scratch = calloc(capacity, sizeof(pgq_job *));
    if (p->slots == NULL || p->scratch == NULL) {
        destroy(p);
        return PGQ_E_NOMEM;
    }
    while (p->thread_count < threads && start_thread(p) == 0)
        p->thread_count++;
    if (p->thread_count < threads) {
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
    job->last = false;
    atomic_store_explicit(&job->later, LATER_NOT, memory_order_relaxed);
    job->told = job->tellable = job->ended = job->listens = false;
    job->on_cancel = NULL;
    if (atomic_load(&job->why) == WHY_TIMEOUT)
        (void)atomic_compare_exchange_strong(&job->why, &timeout, WHY_NOT);
    atomic_store_explicit(&job->start, JOB_WAITING, memory_order_relaxed);
}

void pool_push(pool *p, pgq_job *const *jobs, size_t count)
{
    size_t tail;

    assert(count <= p->capacity);
    if (count == 0)
        return;
    if (waiting(p) + count + (size_t)p->thread_count > p->mask + 1)
        close_ranks(p);
    assert(waiting(p) + count + (size_t)p->thread_count <= p->mask + 1);
    tail = atomic_load_explicit(&p->tail, memory_order_relaxed);
    for (size_t i = 0; i < count; i++) {
        arm(p, jobs[i]);
        jobs[i]->last = i + 1 == count;
        tail = put(p, tail, jobs[i]);
    }
    atomic_store(&p->tail, tail);
    wake_one(p);
}

void pool_stir(pool *p)
{
    if (waiting(p) > 0)
        wake_one(p);
}

bool pool_stands_still(pool *p)
{
    size_t head = atomic_load(&p->head);
    bool still = head == p->seen_head && waiting(p) > 0;

    p->seen_head = head;
    return still;
}

bool pool_revoke(pool *p, pgq_job *job)
{
    pgq_job *expected = job;

    if (!atomic_compare_exchange_strong(&p->slots[job->slot], &expected, NULL))
        return false;
    atomic_store_explicit(&job->start, JOB_REVOKED, memory_order_relaxed);
    return true;
}

pool *pool_free(pool *p, bool abandon)
{
    if (p == NULL)
        return NULL;
    atomic_store(&p->closing, true);
    for (int i = 0; i < p->thread_count; i++)
        (void)sem_post(&p->bell);
    for (int i = 0; i < p->thread_count; i++) {
        if (abandon)
            (void)pthread_detach(p->threads[i]);
        else
            (void)pthread_join(p->threads[i], NULL);
    }
    if (abandon)
        return NULL;
    (void)pthread_mutex_lock(&p->later_lock); /* who said the last end has left the pool */
    (void)pthread_mutex_unlock(&p->later_lock);
    destroy(p);
    return NULL;
}
