/* Executors: how they are made, and what the retry wrappers make of an outcome. A job here is only
 * what an executor looks at; nothing of a database. */
#include "unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pgqueuer/pgqueuer.h>

#include "base/clock.h"
#include "executor/executor.h"

/* What the pretended handler does next. */
static pgq_outcome (*next)(void);
static int destroyed;

static pgq_outcome handle(pgq_job *job, void *user)
{
    (void)job;
    assert_string_equal(user, "user");
    return next();
}

static pgq_outcome fails(void)
{
    return pgq_fail("ValueError", "boom");
}

static pgq_outcome fails_without_words(void)
{
    return pgq_fail("ValueError", NULL);
}

static pgq_outcome asks_for_a_retry(void)
{
    return pgq_retry(77, "asked to");
}

static pgq_executor_parameters parameters_of(const void *config)
{
    return (pgq_executor_parameters){
        .struct_size = sizeof(pgq_executor_parameters),
        .entrypoint = "e",
        .handler = handle,
        .user = (void *)(uintptr_t) "user",
        .config = config,
    };
}

static pgq_executor *make(pgq_executor_factory factory, const void *config)
{
    pgq_executor_parameters parameters = parameters_of(config);
    pgq_executor *made = NULL;
    pgq_error err = PGQ_ERROR_INIT;

    expect_ok(executor_make(&parameters, factory, &made, &err), &err);
    return made;
}

static pgq_job make_job(int32_t attempts)
{
    return (pgq_job){.id = 1, .attempts = attempts, .entrypoint = "e", .timeout_ms = 250};
}

static pgq_outcome run(pgq_executor *executor, pgq_job *job, pgq_outcome (*what)(void))
{
    next = what;
    return executor->operations->execute(executor, job);
}

static const char *type_of(const pgq_outcome *outcome)
{
    return ((const outcome_text *)outcome->text)->type;
}

static const char *message_of(const pgq_outcome *outcome)
{
    return ((const outcome_text *)outcome->text)->message;
}

/* ---- making ---- */

static void without_a_factory_the_handler_is_called(void **state)
{
    pgq_executor *executor = make(NULL, NULL);
    pgq_job job = make_job(0);
    pgq_outcome outcome = run(executor, &job, fails);

    (void)state;
    assert_int_equal(outcome.kind, OUTCOME_FAIL);
    assert_string_equal(type_of(&outcome), "ValueError");
    pgq_outcome_discard(&outcome);
    assert_null(executor_free(executor));
    assert_null(executor_free(NULL));
}

static pgq_code failing_factory(const pgq_executor_parameters *p, pgq_executor **ret,
                                pgq_error *err)
{
    assert_non_null(p->inner);
    (void)ret;
    (void)err;
    return PGQ_E_LIMIT;
}

static pgq_code empty_factory(const pgq_executor_parameters *p, pgq_executor **ret, pgq_error *err)
{
    (void)err;
    (void)executor_free(p->inner);
    *ret = NULL;
    return PGQ_OK;
}

static pgq_code incomplete_factory(const pgq_executor_parameters *p, pgq_executor **ret,
                                   pgq_error *err)
{
    static const pgq_executor_operations none = {.struct_size = sizeof(none)};
    static pgq_executor executor = {&none};

    (void)err;
    (void)executor_free(p->inner);
    *ret = &executor;
    return PGQ_OK;
}

static void a_factory_that_fails_or_makes_nothing_is_refused(void **state)
{
    static const struct {
        pgq_executor_factory factory;
        pgq_code code;
    } rows[] = {{failing_factory, PGQ_E_LIMIT},
                {empty_factory, PGQ_E_FACTORY},
                {incomplete_factory, PGQ_E_FACTORY}};

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        pgq_executor_parameters parameters = parameters_of(NULL);
        pgq_executor *made = NULL;
        pgq_error err = PGQ_ERROR_INIT;

        expect_code(rows[i].code, executor_make(&parameters, rows[i].factory, &made, &err), &err);
        assert_non_null(strstr(err.message, "executor"));
        assert_null(made);
    }
}

/* ---- retry in the database ---- */

static int64_t retry_delay(const pgq_retry_config *config, int32_t attempts)
{
    pgq_executor *executor = make(pgq_retry_executor, config);
    pgq_job job = make_job(attempts);
    pgq_outcome outcome = run(executor, &job, fails);
    int64_t delay_ms = outcome.kind == OUTCOME_RETRY ? outcome.delay_ms : -1;

    assert_true(outcome.kind == OUTCOME_RETRY || outcome.kind == OUTCOME_FAIL);
    assert_string_equal(type_of(&outcome), "ValueError");
    assert_string_equal(message_of(&outcome), "boom");
    pgq_outcome_discard(&outcome);
    (void)executor_free(executor);
    return delay_ms;
}

static void a_failure_is_retried_with_growing_delays_and_counts_at_last(void **state)
{
    static const int64_t wanted[] = {1000, 2000, 4000, 8000, 16000, -1, -1};

    (void)state;
    for (int32_t i = 0; i < (int32_t)UNIT_COUNT(wanted); i++)
        assert_int_equal(retry_delay(NULL, i), wanted[i]);
}

static void delays_stay_within_their_bounds(void **state)
{
    pgq_retry_config config = PGQ_RETRY_CONFIG_INIT;
    bool differ = false;
    int64_t first;

    (void)state;
    config.max_retries = 1000000;
    assert_int_equal(retry_delay(&config, 999999), 300000);
    config.multiplier = 1000;
    config.max_delay_ms = PGQ_DELAY_MS_MAX;
    assert_int_equal(retry_delay(&config, 999999), PGQ_DELAY_MS_MAX);
    config.initial_delay_ms = 0;
    assert_int_equal(retry_delay(&config, 999999), 0);
    config.max_retries = 0;
    assert_int_equal(retry_delay(&config, 0), -1);
    config = (pgq_retry_config)PGQ_RETRY_CONFIG_INIT;
    config.jitter = 0.5;
    first = retry_delay(&config, 0);
    for (int i = 0; i < 200; i++) {
        int64_t delay_ms = retry_delay(&config, 0);

        assert_in_range(delay_ms, 500, 1000);
        differ |= delay_ms != first;
    }
    assert_true(differ);
}

static void what_is_no_failure_passes_unchanged(void **state)
{
    static const pgq_executor_factory factories[] = {pgq_retry_executor, pgq_backoff_executor};
    static pgq_outcome (*const whats[])(void) = {pgq_done, pgq_cancelled, pgq_later};

    (void)state;
    for (size_t f = 0; f < UNIT_COUNT(factories); f++) {
        pgq_executor *executor = make(factories[f], NULL);
        pgq_job job = make_job(0);
        pgq_outcome outcome = run(executor, &job, asks_for_a_retry);

        assert_int_equal(outcome.kind, OUTCOME_RETRY);
        assert_int_equal(outcome.delay_ms, 77);
        assert_string_equal(type_of(&outcome), "RetryRequested");
        pgq_outcome_discard(&outcome);
        for (size_t i = 0; i < UNIT_COUNT(whats); i++)
            assert_int_equal(run(executor, &job, whats[i]).kind, whats[i]().kind);
        (void)executor_free(executor);
    }
}

static void a_job_that_ends_later_is_retried_as_well(void **state)
{
    pgq_executor *executor = make(pgq_retry_executor, NULL);
    pgq_job job = make_job(1);
    pgq_outcome outcome;

    (void)state;
    assert_int_equal(run(executor, &job, pgq_later).kind, OUTCOME_LATER);
    outcome = executor->operations->finished(executor, &job, fails_without_words());
    assert_int_equal(outcome.kind, OUTCOME_RETRY);
    assert_int_equal(outcome.delay_ms, 2000);
    assert_string_equal(outcome_reason(&outcome), "ValueError");
    pgq_outcome_discard(&outcome);
    outcome = executor->operations->finished(executor, &job, pgq_done());
    assert_int_equal(outcome.kind, OUTCOME_DONE);
    (void)executor_free(executor);
}

static void a_handler_that_gives_up_because_its_time_is_over_has_failed(void **state)
{
    pgq_executor *executor = make(pgq_retry_executor, NULL);
    pgq_job job = make_job(0);
    pgq_outcome outcome;

    (void)state;
    atomic_store(&job.why, WHY_TIMEOUT);
    outcome = run(executor, &job, pgq_cancelled);
    assert_int_equal(outcome.kind, OUTCOME_RETRY);
    assert_string_equal(type_of(&outcome), "JobTimeout");
    assert_string_equal(message_of(&outcome), "ran longer than 250 ms");
    pgq_outcome_discard(&outcome);
    atomic_store(&job.why, WHY_CANCELLED);
    assert_int_equal(run(executor, &job, pgq_cancelled).kind, OUTCOME_CANCELLED);
    (void)executor_free(executor);
}

/* ---- retry in the process ---- */

static void runs_in_the_process_follow_each_other_until_all_are_used_up(void **state)
{
    pgq_executor *executor = make(pgq_backoff_executor, NULL);
    pgq_job job = make_job(0);
    pgq_outcome outcome;

    (void)state;
    for (int n = 1; n < 5; n++) {
        outcome = run(executor, &job, fails);
        assert_int_equal(outcome.kind, OUTCOME_AGAIN);
        /* 0.1 to 0.15 s, 0.2 to 0.25, 0.4 to 0.45, 0.8 to 0.85 */
        assert_in_range(outcome.delay_ms, 50 << n, (50 << n) + 50);
        pgq_outcome_discard(&outcome);
    }
    outcome = run(executor, &job, fails);
    assert_int_equal(outcome.kind, OUTCOME_FAIL);
    assert_string_equal(type_of(&outcome), "MaxRetriesExceeded");
    assert_non_null(strstr(message_of(&outcome), "5: boom"));
    pgq_outcome_discard(&outcome);
    (void)executor_free(executor);
}

static void delays_in_the_process_have_a_limit(void **state)
{
    pgq_backoff_config config = PGQ_BACKOFF_CONFIG_INIT;
    pgq_executor *executor;
    pgq_job job = make_job(0);
    pgq_outcome outcome;

    (void)state;
    config.max_attempts = 0;
    config.multiplier = 1000;
    executor = make(pgq_backoff_executor, &config);
    job.failures = 1000000;
    outcome = run(executor, &job, fails);
    assert_int_equal(outcome.kind, OUTCOME_AGAIN);
    assert_int_equal(outcome.delay_ms, 10000);
    pgq_outcome_discard(&outcome);
    (void)executor_free(executor);
}

static void time_in_the_process_has_a_limit(void **state)
{
    pgq_executor *executor = make(pgq_backoff_executor, NULL);
    pgq_job job = make_job(0);
    pgq_outcome outcome;

    (void)state;
    job.first_began_us = clock_monotonic_us() - (int64_t)301 * 1000 * 1000;
    outcome = run(executor, &job, fails);
    assert_int_equal(outcome.kind, OUTCOME_FAIL);
    assert_string_equal(type_of(&outcome), "MaxTimeExceeded");
    pgq_outcome_discard(&outcome);
    (void)executor_free(executor);
}

static void a_job_that_was_told_to_end_is_not_run_again(void **state)
{
    static const job_why whys[] = {WHY_LOST, WHY_CANCELLED, WHY_STOP};
    pgq_executor *executor = make(pgq_backoff_executor, NULL);

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(whys); i++) {
        pgq_job job = make_job(0);
        pgq_outcome outcome;

        atomic_store(&job.why, (int)whys[i]);
        outcome = run(executor, &job, fails);
        assert_int_equal(outcome.kind, OUTCOME_FAIL);
        assert_string_equal(type_of(&outcome), "ValueError");
        pgq_outcome_discard(&outcome);
    }
    (void)executor_free(executor);
}

/* ---- composing, refusing ---- */

static pgq_code backoff_in_retry(const pgq_executor_parameters *p, pgq_executor **ret,
                                 pgq_error *err)
{
    pgq_backoff_config config = PGQ_BACKOFF_CONFIG_INIT;
    pgq_executor_parameters own = *p;
    pgq_code code;

    config.max_attempts = 2;
    own.config = &config;
    code = pgq_backoff_executor(&own, &own.inner, err);
    own.config = NULL;
    return code == PGQ_OK ? pgq_retry_executor(&own, ret, err) : code;
}

static void wrappers_compose(void **state)
{
    pgq_executor *executor = make(backoff_in_retry, NULL);
    pgq_job job = make_job(0);
    pgq_outcome outcome = run(executor, &job, fails);

    (void)state;
    assert_int_equal(outcome.kind, OUTCOME_AGAIN);
    pgq_outcome_discard(&outcome);
    outcome = run(executor, &job, fails);
    assert_int_equal(outcome.kind, OUTCOME_RETRY);
    assert_string_equal(type_of(&outcome), "MaxRetriesExceeded");
    pgq_outcome_discard(&outcome);
    (void)executor_free(executor);
}

static void cancelled_by_wrapper(pgq_executor *self, pgq_job *job)
{
    (void)self;
    job->failures = 1000;
}

static void counted_destroy(pgq_executor *self)
{
    (void)self;
    destroyed++;
}

static void wrappers_pass_cancel_and_destroy_on(void **state)
{
    static const pgq_executor_operations operations = {.struct_size = sizeof(operations),
                                                       .cancel = cancelled_by_wrapper,
                                                       .destroy = counted_destroy};
    static const pgq_executor_factory factories[] = {pgq_retry_executor, pgq_backoff_executor};

    (void)state;
    for (size_t f = 0; f < UNIT_COUNT(factories); f++) {
        pgq_executor inner = {&operations}, *executor = NULL;
        pgq_executor_parameters parameters = parameters_of(NULL);
        pgq_error err = PGQ_ERROR_INIT;
        pgq_job job = make_job(0);

        parameters.inner = &inner;
        expect_ok(factories[f](&parameters, &executor, &err), &err);
        executor->operations->cancel(executor, &job);
        assert_int_equal(job.failures, 1000);
        destroyed = 0;
        (void)executor_free(executor);
        assert_int_equal(destroyed, 1);
    }
}

static void refuse(pgq_executor_factory factory, const void *config, const char *name)
{
    pgq_executor_parameters parameters = parameters_of(config);
    pgq_executor *made = NULL;
    pgq_error err = PGQ_ERROR_INIT;

    expect_code(PGQ_E_INVALID, executor_make(&parameters, factory, &made, &err), &err);
    assert_non_null(strstr(err.message, name));
}

#define REFUSE_RETRY(member, value)                      \
    do {                                                 \
        pgq_retry_config config = PGQ_RETRY_CONFIG_INIT; \
        config.member = value;                           \
        refuse(pgq_retry_executor, &config, #member);    \
    } while (0)

#define REFUSE_BACKOFF(member, value)                        \
    do {                                                     \
        pgq_backoff_config config = PGQ_BACKOFF_CONFIG_INIT; \
        config.member = value;                               \
        refuse(pgq_backoff_executor, &config, #member);      \
    } while (0)

static void every_setting_of_the_wrappers_has_its_limits(void **state)
{
    (void)state;
    REFUSE_RETRY(max_retries, -1);
    REFUSE_RETRY(max_retries, 1000001);
    REFUSE_RETRY(initial_delay_ms, -1);
    REFUSE_RETRY(initial_delay_ms, PGQ_DELAY_MS_MAX + 1);
    REFUSE_RETRY(max_delay_ms, -1);
    REFUSE_RETRY(max_delay_ms, PGQ_DELAY_MS_MAX + 1);
    REFUSE_RETRY(multiplier, 0.999);
    REFUSE_RETRY(multiplier, 1000.5);
    REFUSE_RETRY(multiplier, NAN);
    REFUSE_RETRY(jitter, -0.1);
    REFUSE_RETRY(jitter, 1.1);
    REFUSE_RETRY(jitter, NAN);
    REFUSE_BACKOFF(max_attempts, -1);
    REFUSE_BACKOFF(max_attempts, 1000001);
    REFUSE_BACKOFF(max_delay_ms, -1);
    REFUSE_BACKOFF(max_delay_ms, PGQ_DELAY_MS_MAX + 1);
    REFUSE_BACKOFF(max_time_ms, -1);
    REFUSE_BACKOFF(max_time_ms, PGQ_DELAY_MS_MAX + 1);
    REFUSE_BACKOFF(initial_delay_ms, -1);
    REFUSE_BACKOFF(initial_delay_ms, PGQ_DELAY_MS_MAX + 1);
    REFUSE_BACKOFF(multiplier, 0.5);
    REFUSE_BACKOFF(multiplier, 1001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_factory_the_handler_is_called),
        cmocka_unit_test(a_factory_that_fails_or_makes_nothing_is_refused),
        cmocka_unit_test(a_failure_is_retried_with_growing_delays_and_counts_at_last),
        cmocka_unit_test(delays_stay_within_their_bounds),
        cmocka_unit_test(what_is_no_failure_passes_unchanged),
        cmocka_unit_test(a_job_that_ends_later_is_retried_as_well),
        cmocka_unit_test(a_handler_that_gives_up_because_its_time_is_over_has_failed),
        cmocka_unit_test(runs_in_the_process_follow_each_other_until_all_are_used_up),
        cmocka_unit_test(delays_in_the_process_have_a_limit),
        cmocka_unit_test(time_in_the_process_has_a_limit),
        cmocka_unit_test(a_job_that_was_told_to_end_is_not_run_again),
        cmocka_unit_test(wrappers_compose),
        cmocka_unit_test(wrappers_pass_cancel_and_destroy_on),
        cmocka_unit_test(every_setting_of_the_wrappers_has_its_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
