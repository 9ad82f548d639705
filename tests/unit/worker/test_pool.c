/* The handler pool: what is started, when, and what is said of it. */
#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "worker/pool.h"

enum { CAPACITY = 64, DEADLINE_US = 20 * 1000 * 1000 };

typedef struct room {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t order[4096]; /* ids, as they were started */
    size_t started;
    bool closed;        /* handlers wait while it is */
    int64_t slow_below; /* if not 0: only those of jobs with a smaller id */
    unsigned wakes;
} room;

static void init_room(room *r, bool closed)
{
    memset(r, 0, sizeof(*r));
    (void)pthread_mutex_init(&r->lock, NULL);
    (void)pthread_cond_init(&r->changed, NULL);
    r->closed = closed;
}

static pgq_outcome run(void *user, pgq_job *job)
{
    room *r = user;

    (void)pthread_mutex_lock(&r->lock);
    r->order[r->started++ % UNIT_COUNT(r->order)] = job->id;
    (void)pthread_cond_broadcast(&r->changed);
    while (r->closed && (r->slow_below == 0 || job->id < r->slow_below))
        (void)pthread_cond_wait(&r->changed, &r->lock);
    (void)pthread_mutex_unlock(&r->lock);
    return pgq_done();
}

static void wake(void *user)
{
    room *r = user;

    (void)pthread_mutex_lock(&r->lock);
    r->wakes++;
    (void)pthread_cond_broadcast(&r->changed);
    (void)pthread_mutex_unlock(&r->lock);
}

static void wait_changed(room *r)
{
    struct timespec end;

    (void)clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 20;
    assert_int_equal(pthread_cond_timedwait(&r->changed, &r->lock, &end), 0);
}

static void wait_started(room *r, size_t count)
{
    (void)pthread_mutex_lock(&r->lock);
    while (r->started < count)
        wait_changed(r);
    (void)pthread_mutex_unlock(&r->lock);
}

static void open_room(room *r)
{
    (void)pthread_mutex_lock(&r->lock);
    r->closed = false;
    (void)pthread_cond_broadcast(&r->changed);
    (void)pthread_mutex_unlock(&r->lock);
}

static pgq_job *make_jobs(size_t count)
{
    pgq_job *jobs = calloc(count, sizeof(*jobs));

    assert_non_null(jobs);
    for (size_t i = 0; i < count; i++) {
        jobs[i].id = (int64_t)i;
        atomic_init(&jobs[i].start, JOB_WAITING);
    }
    return jobs;
}

/* Takes outcomes until there were `count` in all; counts them by job. */
static void take_all(pool *p, room *r, size_t count, unsigned *seen)
{
    pool_outcome outcomes[7];
    int64_t end_us = clock_monotonic_us() + DEADLINE_US;
    unsigned wakes = 0;

    while (count > 0) {
        size_t took = pool_take(p, outcomes, UNIT_COUNT(outcomes));

        for (size_t i = 0; i < took; i++) {
            assert_int_equal(outcomes[i].outcome.kind, pgq_done().kind);
            assert_true(outcomes[i].run_us >= 1);
            seen[outcomes[i].job->id]++;
        }
        assert_true(took <= count);
        count -= took;
        assert_true(clock_monotonic_us() < end_us);
        if (took > 0)
            continue;
        /* nothing is there: then a wake-up must announce what comes */
        (void)pthread_mutex_lock(&r->lock);
        while (r->wakes == wakes)
            wait_changed(r);
        wakes = r->wakes;
        (void)pthread_mutex_unlock(&r->lock);
    }
    assert_int_equal(pool_take(p, outcomes, UNIT_COUNT(outcomes)), 0);
}

static void one_thread_starts_jobs_in_their_order(void **state)
{
    room r;
    pool *p;
    pgq_job *jobs = make_jobs(CAPACITY), *pointers[CAPACITY];
    unsigned seen[CAPACITY] = {0};

    (void)state;
    init_room(&r, false);
    for (size_t i = 0; i < CAPACITY; i++)
        pointers[i] = &jobs[i];
    assert_int_equal(pool_new(1, CAPACITY, run, wake, &r, &p), PGQ_OK);
    pool_push(p, pointers, 10);
    pool_push(p, pointers + 10, 1);
    pool_push(p, pointers + 11, CAPACITY - 11);
    take_all(p, &r, CAPACITY, seen);
    for (size_t i = 0; i < CAPACITY; i++) {
        assert_int_equal(r.order[i], i);
        assert_int_equal(seen[i], 1);
    }
    assert_null(pool_free(p, false));
    free(jobs);
}

static void all_threads_work_at_once(void **state)
{
    room r;
    pool *p;
    pgq_job *jobs = make_jobs(8), *pointers[8];
    unsigned seen[8] = {0};

    (void)state;
    init_room(&r, true);
    for (size_t i = 0; i < 8; i++)
        pointers[i] = &jobs[i];
    assert_int_equal(pool_new(8, CAPACITY, run, wake, &r, &p), PGQ_OK);
    for (size_t i = 0; i < 8; i++)
        pool_push(p, &pointers[i], 1);
    wait_started(&r, 8); /* none of them can end before all have begun */
    open_room(&r);
    take_all(p, &r, 8, seen);
    (void)pool_free(p, false);
    free(jobs);
}

static void a_waiting_job_can_be_revoked_and_a_started_one_cannot(void **state)
{
    room r;
    pool *p;
    pgq_job *jobs = make_jobs(3), *pointers[3] = {&jobs[0], &jobs[1], &jobs[2]};
    unsigned seen[3] = {0};

    (void)state;
    init_room(&r, true);
    assert_int_equal(pool_new(1, CAPACITY, run, wake, &r, &p), PGQ_OK);
    pool_push(p, pointers, 3);
    wait_started(&r, 1);
    assert_false(pool_revoke(p, &jobs[0]));
    assert_true(pool_revoke(p, &jobs[1]));
    assert_false(pool_revoke(p, &jobs[1]));
    memset(&jobs[1], 0xEE, sizeof(jobs[1])); /* its owner may free it now */
    open_room(&r);
    take_all(p, &r, 2, seen);
    assert_int_equal(seen[0], 1);
    assert_int_equal(seen[2], 1);
    assert_int_equal(r.started, 2);
    (void)pool_free(p, false);
    free(jobs);
}

/* Start and revocation race over thousands of jobs: each is won by exactly one side. */
static void a_job_is_either_started_or_revoked_never_both(void **state)
{
    enum { ROUNDS = 400 };
    room r;
    pool *p;
    size_t revoked = 0, ran = 0;

    (void)state;
    init_room(&r, false);
    assert_int_equal(pool_new(4, CAPACITY, run, wake, &r, &p), PGQ_OK);
    for (int round = 0; round < ROUNDS; round++) {
        pgq_job *jobs = make_jobs(CAPACITY), *pointers[CAPACITY];
        unsigned seen[CAPACITY] = {0}, taken_back[CAPACITY] = {0};
        size_t back = 0;

        for (size_t i = 0; i < CAPACITY; i++)
            pointers[i] = &jobs[i];
        pool_push(p, pointers, CAPACITY);
        for (size_t i = CAPACITY; i > 0; i -= 2) {
            if (pool_revoke(p, &jobs[i - 1]))
                taken_back[i - 1] = 1, back++;
        }
        take_all(p, &r, CAPACITY - back, seen);
        for (size_t i = 0; i < CAPACITY; i++)
            assert_int_equal(seen[i] + taken_back[i], 1);
        revoked += back;
        ran += CAPACITY - back;
        free(jobs);
    }
    (void)pool_free(p, false);
    assert_true(ran > 0 && revoked > 0); /* the race took place */
}

static void closing_waits_for_running_handlers_and_starts_no_more(void **state)
{
    room r;
    pool *p;
    pgq_job *jobs = make_jobs(CAPACITY), *pointers[CAPACITY];

    (void)state;
    init_room(&r, false);
    for (size_t i = 0; i < CAPACITY; i++)
        pointers[i] = &jobs[i];
    for (int round = 0; round < 100; round++) {
        size_t started;

        for (size_t i = 0; i < CAPACITY; i++)
            atomic_store(&jobs[i].start, JOB_WAITING);
        assert_int_equal(pool_new(3, CAPACITY, run, wake, &r, &p), PGQ_OK);
        pool_push(p, pointers, CAPACITY);
        (void)pool_free(p, false);
        started = r.started;
        for (size_t i = 0; i < CAPACITY; i++)
            started -= atomic_load(&jobs[i].start) == JOB_STARTED;
        assert_int_equal(started, 0); /* no job was started without being run */
        r.started = 0;
    }
    free(jobs);
    assert_null(pool_free(NULL, false));
}

/* The abandoned handler ends with the process; so does what it uses. */
static void abandoning_does_not_wait_for_a_handler_that_hangs(void **state)
{
    static room r;
    static pgq_job job;
    pgq_job *pointer = &job;
    pool *p;

    (void)state;
    init_room(&r, true);
    atomic_init(&job.start, JOB_WAITING);
    assert_int_equal(pool_new(2, CAPACITY, run, wake, &r, &p), PGQ_OK);
    pool_push(p, &pointer, 1);
    wait_started(&r, 1);
    assert_null(pool_free(p, true));
}

/* ---- nobody is held up ---- */

/* All threads but one are taken by jobs that do not end, and everything else runs all the same. */
static void slow_jobs_hold_up_no_quick_one(void **state)
{
    enum { THREADS = 4 };

    (void)state;
    for (int round = 0; round < 100; round++) {
        room r;
        pool *p;
        pgq_job *jobs = make_jobs(CAPACITY), *pointers[CAPACITY];
        unsigned seen[CAPACITY] = {0};

        init_room(&r, true);
        r.slow_below = THREADS - 1;
        for (size_t i = 0; i < CAPACITY; i++)
            pointers[i] = &jobs[i];
        assert_int_equal(pool_new(THREADS, CAPACITY, run, wake, &r, &p), PGQ_OK);
        pool_push(p, pointers, CAPACITY);
        take_all(p, &r, CAPACITY - (THREADS - 1), seen);
        for (size_t i = 0; i < CAPACITY; i++)
            assert_int_equal(seen[i], i >= THREADS - 1);
        open_room(&r);
        take_all(p, &r, THREADS - 1, seen);
        (void)pool_free(p, false);
        free(jobs);
    }
}

static void every_waiting_job_gets_a_sleeping_thread(void **state)
{
    enum { THREADS = 16 };
    room r;
    pool *p;
    pgq_job *jobs = make_jobs(THREADS), *pointers[THREADS];
    unsigned seen[THREADS] = {0};

    (void)state;
    init_room(&r, true);
    for (size_t i = 0; i < THREADS; i++)
        pointers[i] = &jobs[i];
    assert_int_equal(pool_new(THREADS, CAPACITY, run, wake, &r, &p), PGQ_OK);
    pool_push(p, pointers, THREADS);
    wait_started(&r, THREADS); /* none of them can end before all have begun */
    open_room(&r);
    take_all(p, &r, THREADS, seen);
    (void)pool_free(p, false);
    free(jobs);
}

/* ---- revoked jobs ---- */

/* While the only thread is busy: many times as many jobs as the pool has room for come and go. */
static void revoked_jobs_leave_no_trace_and_the_others_keep_their_order(void **state)
{
    enum { STAY = 8 };
    room r;
    pool *p;
    pgq_job *jobs = make_jobs(STAY + 1), *pointer = &jobs[0];
    unsigned seen[STAY + 1] = {0};

    (void)state;
    init_room(&r, true);
    assert_int_equal(pool_new(1, CAPACITY, run, wake, &r, &p), PGQ_OK);
    pool_push(p, &pointer, 1);
    wait_started(&r, 1);
    for (size_t stay = 1; stay <= STAY; stay++) {
        pointer = &jobs[stay];
        pool_push(p, &pointer, 1);
        for (int round = 0; round < 50; round++) {
            pgq_job *visitors[CAPACITY - STAY];

            for (size_t i = 0; i < UNIT_COUNT(visitors); i++)
                visitors[i] = make_jobs(1);
            pool_push(p, visitors, UNIT_COUNT(visitors));
            for (size_t i = 0; i < UNIT_COUNT(visitors); i++) {
                assert_true(pool_revoke(p, visitors[i]));
                free(visitors[i]);
            }
        }
    }
    open_room(&r);
    take_all(p, &r, STAY + 1, seen);
    assert_int_equal(r.started, STAY + 1);
    for (size_t i = 0; i <= STAY; i++)
        assert_int_equal(r.order[i], i);
    (void)pool_free(p, false);
    free(jobs);
}

/* Each in memory of its own, freed at once by whoever learns that it is not needed any more. */
static void a_job_may_be_freed_when_it_was_revoked_or_has_ended(void **state)
{
    enum { ROUNDS = 300 };
    room r;
    pool *p;

    (void)state;
    init_room(&r, false);
    assert_int_equal(pool_new(3, CAPACITY, run, wake, &r, &p), PGQ_OK);
    for (int round = 0; round < ROUNDS; round++) {
        int64_t end_us = clock_monotonic_us() + DEADLINE_US;
        pgq_job *pointers[CAPACITY];
        size_t left = CAPACITY;

        for (size_t i = 0; i < CAPACITY; i++) {
            pointers[i] = make_jobs(1);
            pointers[i]->id = (int64_t)i;
        }
        pool_push(p, pointers, CAPACITY);
        for (size_t i = CAPACITY; i > CAPACITY / 2; i--) {
            if (pool_revoke(p, pointers[i - 1])) {
                free(pointers[i - 1]);
                left--;
            }
        }
        while (left > 0) {
            pool_outcome outcome;

            assert_true(clock_monotonic_us() < end_us);
            if (pool_take(p, &outcome, 1) == 1) {
                free(outcome.job);
                left--;
            }
        }
    }
    (void)pool_free(p, false);
}

/* ---- wake-ups ---- */

static unsigned wakes_of(room *r)
{
    unsigned wakes;

    (void)pthread_mutex_lock(&r->lock);
    wakes = r->wakes;
    (void)pthread_mutex_unlock(&r->lock);
    return wakes;
}

static void wait_woken(room *r, unsigned wakes)
{
    (void)pthread_mutex_lock(&r->lock);
    while (r->wakes < wakes)
        wait_changed(r);
    (void)pthread_mutex_unlock(&r->lock);
}

static void the_first_message_wakes_and_the_others_do_not(void **state)
{
    room r;
    pool *p;
    pgq_job *jobs = make_jobs(3), *pointers[] = {&jobs[0], &jobs[1], &jobs[2]};
    unsigned seen[3] = {0};

    (void)state;
    init_room(&r, true);
    r.slow_below = 1;
    assert_int_equal(pool_new(1, CAPACITY, run, wake, &r, &p), PGQ_OK);
    pool_push(p, pointers + 1, 2);
    pool_push(p, pointers, 1);
    wait_started(&r, 3); /* the outcomes of two of them are there */
    assert_int_equal(wakes_of(&r), 1);
    take_all(p, &r, 2, seen);
    open_room(&r);
    take_all(p, &r, 1, seen);
    (void)pool_free(p, false);
    free(jobs);
}

/* In quiet: the job that waits for the room to open is not the last of its chunk. */
static void in_quiet_a_chunk_wakes_once_with_its_last_job(void **state)
{
    room r;
    pool *p;
    pgq_job *jobs = make_jobs(CAPACITY), *pointers[CAPACITY];
    unsigned seen[CAPACITY] = {0};

    (void)state;
    init_room(&r, true);
    for (size_t i = 0; i < CAPACITY; i++)
        pointers[i] = &jobs[CAPACITY - 1 - i];
    r.slow_below = 2; /* the last but one, and the last */
    assert_int_equal(pool_new(1, CAPACITY, run, wake, &r, &p), PGQ_OK);
    pool_set_quiet(p, true, 0);
    pool_push(p, pointers, CAPACITY);
    wait_started(&r, CAPACITY - 1);
    assert_int_equal(wakes_of(&r), 0);
    open_room(&r);
    wait_woken(&r, 1);
    take_all(p, &r, CAPACITY, seen);
    assert_true(wakes_of(&r) <= 2); /* when it found nothing more to do, perhaps */
    (void)pool_free(p, false);
    free(jobs);
}

/* The only thread never has nothing to do. */
static void in_quiet_every_chunk_wakes(void **state)
{
    room r;
    pool *p;
    pgq_job *jobs = make_jobs(4), *pointers[] = {&jobs[1], &jobs[2], &jobs[3], &jobs[0]};
    unsigned seen[4] = {0};

    (void)state;
    init_room(&r, true);
    r.slow_below = 2;
    assert_int_equal(pool_new(1, CAPACITY, run, wake, &r, &p), PGQ_OK);
    pool_set_quiet(p, true, 0);
    pool_push(p, pointers, 1);
    wait_started(&r, 1);
    pool_push(p, pointers + 1, 2);
    pool_push(p, pointers + 3, 1);
    (void)pthread_mutex_lock(&r.lock);
    r.slow_below = 1; /* the first job ends, the last one waits */
    (void)pthread_cond_broadcast(&r.changed);
    (void)pthread_mutex_unlock(&r.lock);
    wait_started(&r, 4);
    assert_int_equal(wakes_of(&r), 2);
    open_room(&r);
    take_all(p, &r, 4, seen);
    (void)pool_free(p, false);
    free(jobs);
}

static void in_quiet_a_pool_that_has_nothing_more_to_do_wakes(void **state)
{
    room r;
    pool *p;
    pgq_job *jobs = make_jobs(2), *pointers[] = {&jobs[0], &jobs[1]};
    unsigned seen[2] = {0};

    (void)state;
    init_room(&r, true);
    assert_int_equal(pool_new(2, CAPACITY, run, wake, &r, &p), PGQ_OK);
    pool_set_quiet(p, true, 0);
    pool_push(p, pointers, 1);
    wait_started(&r, 1);
    pool_push(p, pointers + 1, 1);
    wait_started(&r, 2);
    jobs[0].last = jobs[1].last = false; /* as if the last of their chunk had been revoked */
    open_room(&r);
    wait_woken(&r, 1);
    take_all(p, &r, 2, seen);
    (void)pool_free(p, false);
    free(jobs);
}

/* One thread is enough for jobs that take no time, as the others said they do; the first does not.
 */
static void in_quiet_a_stirred_pool_goes_around_a_slow_job(void **state)
{
    room r;
    pool *p;
    pgq_job *jobs = make_jobs(2), *pointers[] = {&jobs[0], &jobs[1]};
    unsigned seen[2] = {0};

    (void)state;
    init_room(&r, true);
    r.slow_below = 1;
    assert_int_equal(pool_new(2, CAPACITY, run, wake, &r, &p), PGQ_OK);
    pool_set_quiet(p, true, 0);
    pool_push(p, pointers, 2);
    wait_started(&r, 1);
    pool_stir(p);
    wait_started(&r, 2);
    open_room(&r);
    take_all(p, &r, 2, seen);
    (void)pool_free(p, false);
    free(jobs);
}

static void after_quiet_the_next_message_wakes_again(void **state)
{
    room r;
    pool *p;
    pgq_job *jobs = make_jobs(4), *pointers[] = {&jobs[3], &jobs[2], &jobs[0], &jobs[1]};
    unsigned seen[4] = {0};

    (void)state;
    init_room(&r, true);
    r.slow_below = 2;
    assert_int_equal(pool_new(2, CAPACITY, run, wake, &r, &p), PGQ_OK);
    pool_set_quiet(p, true, 1000);
    pool_push(p, pointers, 4);
    wait_started(&r, 4);
    assert_int_equal(wakes_of(&r), 0);
    pool_set_quiet(p, false, 0);
    take_all(p, &r, 2, seen); /* without a wake-up */
    assert_int_equal(wakes_of(&r), 0);
    open_room(&r);
    wait_woken(&r, 1);
    take_all(p, &r, 2, seen);
    (void)pool_free(p, false);
    free(jobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_starts_jobs_in_their_order),
        cmocka_unit_test(all_threads_work_at_once),
        cmocka_unit_test(a_waiting_job_can_be_revoked_and_a_started_one_cannot),
        cmocka_unit_test(a_job_is_either_started_or_revoked_never_both),
        cmocka_unit_test(slow_jobs_hold_up_no_quick_one),
        cmocka_unit_test(every_waiting_job_gets_a_sleeping_thread),
        cmocka_unit_test(revoked_jobs_leave_no_trace_and_the_others_keep_their_order),
        cmocka_unit_test(a_job_may_be_freed_when_it_was_revoked_or_has_ended),
        cmocka_unit_test(the_first_message_wakes_and_the_others_do_not),
        cmocka_unit_test(in_quiet_a_chunk_wakes_once_with_its_last_job),
        cmocka_unit_test(in_quiet_every_chunk_wakes),
        cmocka_unit_test(in_quiet_a_pool_that_has_nothing_more_to_do_wakes),
        cmocka_unit_test(in_quiet_a_stirred_pool_goes_around_a_slow_job),
        cmocka_unit_test(after_quiet_the_next_message_wakes_again),
        cmocka_unit_test(closing_waits_for_running_handlers_and_starts_no_more),
        cmocka_unit_test(abandoning_does_not_wait_for_a_handler_that_hangs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
