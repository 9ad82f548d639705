/* What the engine does when the database lets it lock rows and does not let it write them. */
#include "worker/stage.h"

#include <stdio.h>

enum { LONG_S = 60, SHORT_MS = 1500 };

/* The database takes locks and refuses to write: with every lease jobs would be run in vain, and as
 * their rows are free again, by every worker. */
static void what_cannot_be_written_is_not_run(void **state)
{
    stage s;
    size_t started;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.lease_rows = BATCH;
    work(&s, SECOND, MS);
    s.unwritable = true;
    work(&s, 20 * MS, MS); /* each lane has heard the first refusal */
    started = s.all_started;
    work(&s, SHORT_MS * MS, MS);
    assert_true(s.all_started - started <= 2 * BATCH);
    work(&s, LONG_S * (int64_t)SECOND, MS);
    assert_true(s.all_started - started <= 4 * BATCH);

    s.unwritable = false;
    started = s.all_started;
    work(&s, 6 * SECOND, MS); /* a refused resolve is said again within 5 s */
    assert_true(s.all_started - started > 50 * BATCH);
    close_stage(&s);
}

/* One bad row costs its neighbours, and the next leases, a moment. */
static void one_bad_row_is_no_reason_to_stop(void **state)
{
    stage s;
    size_t started;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.lease_rows = BATCH;
    work(&s, SECOND, MS);
    started = s.all_started;
    work(&s, 3 * SECOND, MS);
    started = s.all_started - started; /* as many in the same time */
    s.poison_id = s.last_id + 3;
    work(&s, SECOND, MS);
    assert_true(s.last_id > s.poison_id);
    started = s.all_started + started / 2;
    work(&s, 3 * SECOND, MS);
    assert_true(s.all_started > started);
    close_stage(&s);
}

/* Nor is one that is leased alone, whose resolve shows nothing of others. */
static void a_bad_row_alone_is_no_reason_to_stop(void **state)
{
    stage s;
    size_t started;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.lease_rows = 1;
    s.stock = 1;
    s.poison_id = 1;
    work(&s, SECOND, MS);
    assert_int_equal(s.all_started, 1);
    started = s.all_started;
    s.lease_rows = BATCH;
    s.stock = SIZE_MAX;
    engine_notified(s.e, s.now_us);
    carry_out(&s);
    work(&s, 3 * SECOND, MS);
    assert_true(s.all_started - started > 50 * BATCH);
    close_stage(&s);
}

/* The jobs that a stopping worker gives back: with the pool, and none of them started. */
static void stop_with_unstarted_jobs(stage *s)
{
    open_stage_of(s, &entrypoints[PICKED], 1, 250 * MS, false);
    s->claim_rows = BATCH;
    s->revokes = true;
    for (int i = 0; i < 50 && s->started_count < THREADS; i++) {
        for (int lane = 0; lane < LANES; lane++)
            answer(s, lane);
        pass(s, MS);
    }
    assert_true(s->started_count >= THREADS);
    engine_stop(s->e, s->now_us);
    carry_out(s);
}

static void a_release_that_is_refused_for_a_moment(void **state)
{
    stage s;
    size_t claimed;

    (void)state;
    stop_with_unstarted_jobs(&s);
    s.release_refusals = 3;
    claimed = engine_counts(s.e)->claimed;
    for (int i = 0; i < 100 && !s.finished; i++)
        work(&s, 100 * MS, MS);
    assert_true(s.finished);
    assert_int_equal(engine_counts(s.e)->released, claimed);
    close_stage(&s);
}

static void a_release_that_is_refused_for_good_ends(void **state)
{
    stage s;

    (void)state;
    stop_with_unstarted_jobs(&s);
    s.release_refusals = SIZE_MAX;
    for (int i = 0; i < 600 && !s.finished; i++)
        work(&s, 100 * MS, MS);
    assert_true(s.finished);
    assert_int_equal(engine_counts(s.e)->released, 0);
    assert_in_range(s.said[SENTENCE_RELEASE], 2, 20);
    close_stage(&s);
}

/* One job runs, and of its row nothing can be written. */
static void open_poisoned(stage *s, uint32_t entrypoint, bool drain)
{
    open_stage_of(s, &entrypoints[entrypoint], 1, 250 * MS, drain);
    if (entrypoint == LEASED)
        s->lease_rows = s->stock = 1;
    else
        s->claim_rows = 1;
    for (int i = 0; i < 50 && s->started_count < 1; i++) {
        for (int lane = 0; lane < LANES; lane++)
            answer(s, lane);
        pass(s, MS);
    }
    assert_int_equal(s->started_count, 1);
    s->poison_id = s->started[0].id;
    s->lease_rows = s->claim_rows = 0;
}

static void assert_ends_naming(stage *s, int64_t within_us)
{
    char name[32];

    for (int64_t until_us = s->now_us + within_us; !s->finished && s->now_us < until_us;)
        work(s, 10 * MS, MS);
    assert_true(s->finished);
    assert_int_equal(s->end.code, PGQ_E_DATABASE);
    (void)snprintf(name, sizeof(name), "job %lld ", (long long)s->poison_id);
    assert_non_null(strstr(s->end.message, name));
    assert_non_null(strstr(s->end.message, "no such partition"));
    assert_string_not_equal(s->end.hint, "");
}

static void a_stop_with_a_job_that_cannot_be_settled(void **state)
{
    (void)state;
    for (uint32_t entrypoint = LEASED; entrypoint <= PICKED; entrypoint++) {
        stage s;

        open_poisoned(&s, entrypoint, false);
        work(&s, 20 * SECOND, MS);
        assert_int_equal(engine_held(s.e), 1);
        engine_stop(s.e, s.now_us);
        carry_out(&s);
        assert_ends_naming(&s, SECOND);
        close_stage(&s);
    }
}

/* It is tried once more. */
static void a_stop_with_a_job_that_can_be_settled_again(void **state)
{
    (void)state;
    for (uint32_t entrypoint = LEASED; entrypoint <= PICKED; entrypoint++) {
        stage s;

        open_poisoned(&s, entrypoint, false);
        work(&s, 20 * SECOND, MS);
        s.poison_id = 0;
        engine_stop(s.e, s.now_us);
        carry_out(&s);
        for (int i = 0; i < 100 && !s.finished; i++)
            work(&s, 10 * MS, MS);
        assert_true(s.finished);
        assert_int_equal(s.end.code, PGQ_OK);
        assert_int_equal(engine_held(s.e), 0);
        close_stage(&s);
    }
}

/* What is refused for a moment may be mended soon; but not for ever. */
static void a_stop_while_nothing_can_be_resolved(void **state)
{
    stage s;
    int64_t stop_us;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.lease_rows = BATCH;
    work(&s, SECOND, MS);
    s.unwritable = s.refuses = true;
    work(&s, SECOND, MS);
    assert_true(engine_held(s.e) > 0);
    engine_stop(s.e, s.now_us);
    carry_out(&s);
    stop_us = s.now_us;
    while (!s.finished && s.now_us < stop_us + 100 * SECOND)
        work(&s, 10 * MS, MS);
    assert_true(s.finished);
    assert_int_equal(s.end.code, PGQ_E_DATABASE);
    assert_in_range(s.now_us - stop_us, 30 * SECOND, 45 * SECOND);
    close_stage(&s);
}

static void a_drain_with_a_job_that_cannot_be_settled(void **state)
{
    (void)state;
    for (uint32_t entrypoint = LEASED; entrypoint <= PICKED; entrypoint++) {
        stage s;

        open_poisoned(&s, entrypoint, true);
        assert_ends_naming(&s, 10 * SECOND);
        close_stage(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_written_is_not_run),
        cmocka_unit_test(one_bad_row_is_no_reason_to_stop),
        cmocka_unit_test(a_bad_row_alone_is_no_reason_to_stop),
        cmocka_unit_test(a_stop_with_a_job_that_cannot_be_settled),
        cmocka_unit_test(a_stop_with_a_job_that_can_be_settled_again),
        cmocka_unit_test(a_stop_while_nothing_can_be_resolved),
        cmocka_unit_test(a_drain_with_a_job_that_cannot_be_settled),
        cmocka_unit_test(a_release_that_is_refused_for_a_moment),
        cmocka_unit_test(a_release_that_is_refused_for_good_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
