/* Jobs that go on after their handler has returned, and handlers that are told to end: what the
 * pool says of them, in which order, and whom it calls. */
#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "queue/outcome.h"
#include "worker/pool.h"

enum { DEADLINE_US = 20 * 1000 * 1000, MESSAGES_MAX = 16 };

typedef pgq_outcome (*step)(pgq_job *job);

static pool *the_pool;
static step the_step;
static atomic_int calls, executor_calls, inside;
static atomic_bool go;

static pgq_outcome run(void *user, pgq_job *job)
{
    (void)user;
    return the_step(job);
}

static void wake(void *user)
{
    (void)user;
}

static void wait_for(atomic_int *what, int value)
{
    int64_t end_us = clock_monotonic_us() + DEADLINE_US;

    while (atomic_load(what) != value)
        assert_true(clock_monotonic_us() < end_us);
}

static void until_go(void)
{
    atomic_fetch_add(&inside, 1);
    while (!atomic_load(&go))
        continue;
}

static void executor_cancel_called(pgq_executor *self, pgq_job *job)
{
    (void)self;
    (void)job;
    atomic_fetch_add(&executor_calls, 1);
}

static const pgq_executor_operations operations = {.struct_size = sizeof(operations),
                                                   .cancel = executor_cancel_called};
static pgq_executor executor = {&operations};

static void called(pgq_job *job, void *user)
{
    assert_ptr_equal(user, &calls);
    assert_true(pgq_job_cancelled(job));
    atomic_fetch_add(&calls, 1);
}

static void called_and_finishes(pgq_job *job, void *user)
{
    called(job, user);
    pgq_job_finish(job, pgq_cancelled());
}

/* One job in a pool of one thread. */
static pgq_job *begin(step what, bool with_executor)
{
    static pgq_job job;
    pgq_job *pointer = &job;

    job = (pgq_job){.id = 1};
    if (with_executor)
        job.executor = &executor;
    the_step = what;
    atomic_store(&calls, 0);
    atomic_store(&executor_calls, 0);
    atomic_store(&inside, 0);
    atomic_store(&go, false);
    assert_int_equal(pool_new(1, 4, run, wake, NULL, &the_pool), PGQ_OK);
    pool_push(the_pool, &pointer, 1);
    return &job;
}

/* The next message, and no other. */
static void expect_message(uint32_t kind)
{
    int64_t end_us = clock_monotonic_us() + DEADLINE_US;
    pool_outcome message;

    while (pool_take(the_pool, &message, 1) == 0)
        assert_true(clock_monotonic_us() < end_us);
    assert_int_equal(message.outcome.kind, kind);
    pgq_outcome_discard(&message.outcome);
}

static void end(void)
{
    assert_null(pool_free(the_pool, false));
}

static void expect_nothing_more(void)
{
    pool_outcome message;

    assert_int_equal(pool_take(the_pool, &message, 1), 0);
}

/* ---- later ---- */

static pgq_outcome parks(pgq_job *job)
{
    (void)job;
    return pgq_later();
}

static void a_job_may_be_finished_after_its_handler(void **state)
{
    pgq_job *job = begin(parks, false);

    (void)state;
    expect_message(OUTCOME_LATER);
    pgq_job_finish(job, pgq_done());
    expect_message(OUTCOME_DONE);
    end();
}

static pgq_outcome finishes_first(pgq_job *job)
{
    pgq_job_finish(job, pgq_fail("E", "early"));
    return pgq_later();
}

static void a_job_may_be_finished_before_its_handler_returns(void **state)
{
    (void)begin(finishes_first, false);
    (void)state;
    expect_message(OUTCOME_FAIL);
    expect_nothing_more();
    end();
}

static void *finish_elsewhere(void *job)
{
    pgq_job_finish(job, pgq_done());
    return NULL;
}

static pgq_outcome finished_elsewhere(pgq_job *job)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, finish_elsewhere, job), 0);
    (void)pthread_detach(thread);
    return pgq_later();
}

/* Either order of the two threads ends in one outcome. */
static void a_job_may_be_finished_by_another_thread_at_any_moment(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        int64_t end_us = clock_monotonic_us() + DEADLINE_US;
        pool_outcome message = {.job = NULL};
        int ends = 0;

        (void)begin(finished_elsewhere, false);
        while (ends == 0) {
            assert_true(clock_monotonic_us() < end_us);
            if (pool_take(the_pool, &message, 1) == 1)
                ends += message.outcome.kind == OUTCOME_DONE;
        }
        expect_nothing_more();
        end();
    }
}

static pthread_t rival;

static void *fail_elsewhere(void *job)
{
    until_go();
    pgq_job_finish(job, pgq_fail("Finished", "by another thread"));
    return NULL;
}

static pgq_outcome rivalled(pgq_job *job)
{
    assert_int_equal(pthread_create(&rival, NULL, fail_elsewhere, job), 0);
    wait_for(&inside, 1);
    atomic_store(&go, true);
    return pgq_fail("Returned", "by the handler");
}

/* A mistake of its author, which must cost one of the two texts and nothing else. */
static void a_job_may_be_finished_at_the_moment_at_which_its_handler_returns_an_outcome(
    void **state)
{
    (void)state;
    for (int i = 0; i < 500; i++) {
        (void)begin(rivalled, false);
        expect_message(OUTCOME_FAIL);
        assert_int_equal(pthread_join(rival, NULL), 0);
        expect_nothing_more();
        end();
    }
}

static pgq_outcome finishes_twice(pgq_job *job)
{
    pgq_job_finish(job, pgq_done());
    pgq_job_finish(job, pgq_fail("E", "second"));
    return pgq_later();
}

static void the_first_finish_counts(void **state)
{
    (void)begin(finishes_twice, false);
    (void)state;
    expect_message(OUTCOME_DONE);
    expect_nothing_more();
    end();
}

static pgq_outcome finishes_with_later(pgq_job *job)
{
    pgq_job_finish(job, pgq_later());
    return pgq_later();
}

static void to_finish_with_later_is_a_failure(void **state)
{
    (void)begin(finishes_with_later, false);
    (void)state;
    expect_message(OUTCOME_FAIL);
    end();
}

/* ---- timeouts, again ---- */

static pgq_outcome again(pgq_job *job)
{
    return job->failures++ == 0 ? (pgq_outcome){.kind = OUTCOME_AGAIN} : pgq_done();
}

static void only_a_job_with_a_timeout_says_that_it_starts(void **state)
{
    pgq_job *job = begin(again, false);

    (void)state;
    expect_message(OUTCOME_AGAIN);
    job->timeout_ms = 5;
    pool_push(the_pool, &job, 1);
    expect_message(OUTCOME_STARTED);
    expect_message(OUTCOME_DONE);
    end();
}

static void another_run_forgets_that_the_last_one_took_too_long_and_nothing_else(void **state)
{
    static const struct {
        job_why before, after;
    } rows[] = {{WHY_TIMEOUT, WHY_NOT}, {WHY_CANCELLED, WHY_CANCELLED}, {WHY_LOST, WHY_LOST}};

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        pgq_job *job = begin(again, false);

        expect_message(OUTCOME_AGAIN);
        pool_tell(the_pool, job, rows[i].before);
        pool_push(the_pool, &job, 1);
        expect_message(OUTCOME_DONE);
        assert_int_equal(atomic_load(&job->why), rows[i].after);
        end();
    }
}

/* With a timeout, and finished by another thread, a job has up to three messages. */
static void all_messages_of_all_jobs_arrive(void **state)
{
    pgq_job jobs[4], *pointers[4];
    pool_outcome messages[MESSAGES_MAX];
    int64_t end_us = clock_monotonic_us() + DEADLINE_US;
    unsigned seen[4] = {0};
    size_t count = 0;

    (void)state;
    the_step = finished_elsewhere;
    assert_int_equal(pool_new(1, 4, run, wake, NULL, &the_pool), PGQ_OK);
    for (size_t i = 0; i < 4; i++) {
        jobs[i] = (pgq_job){.id = (int64_t)i, .timeout_ms = 1};
        pointers[i] = &jobs[i];
    }
    pool_push(the_pool, pointers, 4);
    while (seen[0] + seen[1] + seen[2] + seen[3] < 4) {
        assert_true(clock_monotonic_us() < end_us);
        count = pool_take(the_pool, messages, MESSAGES_MAX);
        for (size_t i = 0; i < count; i++)
            seen[messages[i].job->id] += messages[i].outcome.kind == OUTCOME_DONE;
    }
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(seen[i], 1);
    expect_nothing_more();
    end();
}

/* ---- told to end ---- */

static pgq_outcome registers_and_waits(pgq_job *job)
{
    pgq_job_on_cancel(job, called, &calls);
    until_go();
    return pgq_cancelled();
}

static void callback_and_executor_are_called_once(void **state)
{
    pgq_job *job = begin(registers_and_waits, true);

    (void)state;
    wait_for(&inside, 1);
    pool_tell(the_pool, job, WHY_TIMEOUT);
    pool_tell(the_pool, job, WHY_CANCELLED);
    assert_int_equal(atomic_load(&calls), 1);
    assert_int_equal(atomic_load(&executor_calls), 1);
    assert_int_equal(atomic_load(&job->why), WHY_TIMEOUT); /* the first reason stays */
    atomic_store(&go, true);
    expect_message(OUTCOME_CANCELLED);
    end();
}

static void nobody_is_called_when_the_handler_has_ended(void **state)
{
    pgq_job *job = begin(registers_and_waits, true);

    (void)state;
    atomic_store(&go, true);
    expect_message(OUTCOME_CANCELLED);
    pool_tell(the_pool, job, WHY_LOST);
    assert_int_equal(atomic_load(&calls) + atomic_load(&executor_calls), 0);
    assert_true(pgq_job_cancelled(job));
    end();
}

static pgq_outcome waits_and_registers(pgq_job *job)
{
    until_go();
    pgq_job_on_cancel(job, called, &calls);
    return pgq_cancelled();
}

static void a_callback_that_comes_too_late_is_called_at_once(void **state)
{
    pgq_job *job = begin(waits_and_registers, false);

    (void)state;
    wait_for(&inside, 1);
    pool_tell(the_pool, job, WHY_CANCELLED);
    assert_int_equal(atomic_load(&calls), 0);
    atomic_store(&go, true);
    expect_message(OUTCOME_CANCELLED);
    assert_int_equal(atomic_load(&calls), 1);
    end();
}

static pgq_outcome takes_it_back(pgq_job *job)
{
    pgq_job_on_cancel(job, called, &calls);
    pgq_job_on_cancel(job, NULL, NULL);
    until_go();
    return pgq_done();
}

static void a_callback_can_be_taken_away(void **state)
{
    pgq_job *job = begin(takes_it_back, false);

    (void)state;
    wait_for(&inside, 1);
    pool_tell(the_pool, job, WHY_CANCELLED);
    assert_int_equal(atomic_load(&calls), 0);
    atomic_store(&go, true);
    expect_message(OUTCOME_DONE);
    end();
}

static pgq_outcome parks_with_callback(pgq_job *job)
{
    pgq_job_on_cancel(job, called_and_finishes, &calls);
    return pgq_later();
}

static void a_callback_may_finish_its_job(void **state)
{
    pgq_job *job = begin(parks_with_callback, true);

    (void)state;
    expect_message(OUTCOME_LATER);
    pool_tell(the_pool, job, WHY_CANCELLED);
    expect_message(OUTCOME_CANCELLED);
    assert_int_equal(atomic_load(&calls), 1);
    assert_int_equal(atomic_load(&executor_calls), 0); /* it has ended before it could be told */
    end();
}

static void slow_callback(pgq_job *job, void *user)
{
    (void)job;
    (void)user;
    until_go();
    atomic_store(&calls, 1);
}

static pgq_outcome parks_with_slow_callback(pgq_job *job)
{
    pgq_job_on_cancel(job, slow_callback, NULL);
    return pgq_later();
}

static void *finish_when_inside(void *job)
{
    wait_for(&inside, 1);
    pgq_job_finish(job, pgq_done());
    assert_int_equal(atomic_load(&calls), 1); /* the callback has ended */
    return NULL;
}

static void *let_go(void *unused)
{
    static const struct timespec pause = {0, 50 * 1000 * 1000};

    (void)unused;
    wait_for(&inside, 1);
    (void)nanosleep(&pause, NULL); /* not a wait: gives the other thread time to break the rule */
    atomic_store(&go, true);
    return NULL;
}

static void to_finish_waits_for_a_callback_that_runs(void **state)
{
    pgq_job *job = begin(parks_with_slow_callback, false);
    pthread_t finisher, releaser;

    (void)state;
    expect_message(OUTCOME_LATER);
    assert_int_equal(pthread_create(&releaser, NULL, let_go, NULL), 0);
    assert_int_equal(pthread_create(&finisher, NULL, finish_when_inside, job), 0);
    pool_tell(the_pool, job, WHY_CANCELLED);
    assert_int_equal(pthread_join(finisher, NULL), 0);
    assert_int_equal(pthread_join(releaser, NULL), 0);
    expect_message(OUTCOME_DONE);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_may_be_finished_after_its_handler),
        cmocka_unit_test(a_job_may_be_finished_before_its_handler_returns),
        cmocka_unit_test(
            a_job_may_be_finished_at_the_moment_at_which_its_handler_returns_an_outcome),
        cmocka_unit_test(a_job_may_be_finished_by_another_thread_at_any_moment),
        cmocka_unit_test(the_first_finish_counts),
        cmocka_unit_test(to_finish_with_later_is_a_failure),
        cmocka_unit_test(only_a_job_with_a_timeout_says_that_it_starts),
        cmocka_unit_test(another_run_forgets_that_the_last_one_took_too_long_and_nothing_else),
        cmocka_unit_test(all_messages_of_all_jobs_arrive),
        cmocka_unit_test(callback_and_executor_are_called_once),
        cmocka_unit_test(nobody_is_called_when_the_handler_has_ended),
        cmocka_unit_test(a_callback_that_comes_too_late_is_called_at_once),
        cmocka_unit_test(a_callback_can_be_taken_away),
        cmocka_unit_test(a_callback_may_finish_its_job),
        cmocka_unit_test(to_finish_waits_for_a_callback_that_runs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
