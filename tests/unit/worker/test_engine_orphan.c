/* What becomes of jobs whose outcomes the database does not take at once: scripted, where the
 * simulator's locks and refusals are too short or too few. */
#include "stage.h"

/* One whose flight ends a lease of several jobs; 0: there is none. */
static int lane_that_concludes(const stage *s)
{
    for (int lane = 1; lane < LANES; lane++) {
        const sentence *end = said_by(s, lane, SENTENCE_CONCLUDE);

        if (end != NULL && end->of.settle.count > 2)
            return lane;
    }
    return 0;
}

static int await_end(stage *s)
{
    for (int i = 0; i < 10000 && lane_that_concludes(s) == 0; i++)
        work(s, MS, MS);
    assert_true(lane_that_concludes(s) > 0);
    return lane_that_concludes(s);
}

static int64_t first_of_end(const stage *s, int lane)
{
    return said_by(s, lane, SENTENCE_CONCLUDE)->of.settle.items[0].token.id;
}

static void lose(stage *s, int lane)
{
    pgq_error error = PGQ_ERROR_INIT;

    s->flights[lane] = NULL;
    engine_lane_lost(s->e, s->now_us, lane, &error);
    carry_out(s);
}

/* Loses the end of a lease. Returns how many jobs are to be resolved. */
static size_t lose_end(stage *s)
{
    int lane = await_end(s);
    size_t count = said_by(s, lane, SENTENCE_CONCLUDE)->of.settle.count;

    lose(s, lane);
    return count;
}

/* Likewise; somebody keeps the row of one of them locked. */
static size_t lose_end_with_locked(stage *s)
{
    s->locked_id = first_of_end(s, await_end(s));
    return lose_end(s);
}

static void one_locked_row_does_not_hold_up_the_other_orphans(void **state)
{
    size_t count, resolved, leases, claims, resolves;
    bool lost = false;
    stage s;

    (void)state;
    open_stage(&s, 2, 250 * MS);
    s.lease_rows = s.claim_rows = BATCH;
    work(&s, SECOND, MS);
    count = lose_end_with_locked(&s);
    for (int i = 0; i < 1000 && !lost; i++) {
        for (int lane = 1; lane < LANES && !lost; lane++) {
            lost = said_by(&s, lane, SENTENCE_CLAIM) != NULL;
            if (lost)
                lose(&s, lane);
        }
        work(&s, MS, MS);
    }
    assert_true(lost);
    work(&s, 5 * SECOND, MS);
    assert_true(s.resolved >= count - 1); /* and those of the lane that was lost */
    resolved = s.resolved;
    leases = s.said[SENTENCE_LEASE], claims = s.row_claims, resolves = s.said[SENTENCE_RESOLVE];
    work(&s, 30 * SECOND, MS);
    assert_in_range(s.said[SENTENCE_LEASE] - leases, 100, 100000);
    assert_in_range(s.row_claims - claims, 100, 100000);
    assert_in_range(s.said[SENTENCE_RESOLVE] - resolves, 3, 20);
    s.locked_id = 0;
    work(&s, 6 * SECOND, MS);
    assert_int_equal(s.resolved, resolved + 1);
    close_stage(&s);
}

static void orphans_beside_a_locked_one(void **state)
{
    size_t count;
    stage s;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.lease_rows = BATCH;
    work(&s, SECOND, MS);
    count = lose_end_with_locked(&s);
    work(&s, 5 * SECOND, MS);
    assert_int_equal(s.resolved, count - 1);
    count += lose_end(&s);
    work(&s, SECOND, MS);
    assert_int_equal(s.resolved, count - 1);
    close_stage(&s);
}

/* It cannot even be written that it goes on as a picked one. */
static void orphans_behind_a_poisoned_one(void **state)
{
    size_t count;
    stage s;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.lease_rows = BATCH;
    work(&s, SECOND, MS);
    s.poison_id = first_of_end(&s, await_end(&s));
    work(&s, 20 * SECOND, MS);
    count = s.resolved + lose_end(&s);
    work(&s, SECOND, MS);
    assert_int_equal(s.resolved, count);
    s.poison_id = 0;
    work(&s, 6 * SECOND, MS);
    assert_int_equal(s.resolved, count + 1);
    close_stage(&s);
}

static void running_orphans_beside_a_locked_one(void **state)
{
    size_t count;
    stage s;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.lease_rows = BATCH;
    work(&s, SECOND, MS);
    for (int lane = 1; lane < LANES && s.started_count < THREADS; lane++)
        answer(&s, lane);
    assert_in_range(s.started_count, THREADS, JOBS_MAX);
    count = engine_held(s.e);
    s.locked_id = s.started[0].id;
    s.stock = 0;
    for (int lane = 1; lane < LANES; lane++)
        lose(&s, lane);
    for (int i = 0; i < 5000; i++) {
        for (int lane = 0; lane < LANES; lane++)
            answer(&s, lane);
        pass(&s, MS);
    }
    assert_int_equal(s.resolved, count - 1);
    s.locked_id = 0;
    work(&s, 6 * SECOND, MS);
    assert_int_equal(s.resolved, count);
    assert_int_equal(engine_held(s.e), 0);
    close_stage(&s);
}

/* The role has a lock_timeout, or a statement_timeout. */
static void outcomes_beside_a_locked_one(void **state)
{
    size_t held, settles;
    stage s;

    (void)state;
    open_stage_of(&s, &entrypoints[PICKED], 1, 250 * MS, false);
    s.claim_rows = BATCH;
    for (int i = 0; i < 1000 && s.started_count < THREADS; i++) {
        answer(&s, 0);
        answer(&s, 1 + i % (LANES - 1));
        pass(&s, MS);
    }
    assert_true(s.started_count >= THREADS);
    s.locked_id = s.started[1].id;
    s.claim_rows = 0;
    work(&s, 2 * SECOND, MS);
    held = engine_held(s.e);
    assert_int_equal(held, 1);
    settles = s.said[SENTENCE_SETTLE];
    work(&s, 30 * SECOND, MS);
    assert_in_range(s.said[SENTENCE_SETTLE] - settles, 3, 20);
    s.locked_id = 0;
    work(&s, 6 * SECOND, MS);
    assert_int_equal(engine_held(s.e), 0);
    assert_int_equal(s.exceptions, 0);
    close_stage(&s);
}

/* A log that takes nothing for two seconds, as when a partition is missing. */
static void breaks_for_a_while(const engine_entrypoint *entrypoint)
{
    stage s;

    open_stage_of(&s, entrypoint, 1, 250 * MS, false);
    s.lease_rows = s.claim_rows = BATCH;
    work(&s, SECOND, MS);
    s.unwritable = true;
    work(&s, 2 * SECOND, MS);
    s.unwritable = false;
    work(&s, 20 * SECOND, MS);
    s.lease_rows = s.claim_rows = 0;
    work(&s, SECOND, MS);
    assert_int_equal(engine_held(s.e), 0);
    assert_int_equal(s.exceptions, 0);
    assert_true(engine_counts(s.e)->successful > 1000);
    close_stage(&s);
}

static void successes_stay_successes_while_the_log_takes_nothing(void **state)
{
    (void)state;
    breaks_for_a_while(&entrypoints[PICKED]);
    breaks_for_a_while(&entrypoints[LEASED]);
}

static void a_job_that_alone_is_refused_ends_as_an_exception(void **state)
{
    stage s;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.lease_rows = BATCH;
    work(&s, SECOND, MS);
    s.unlucky_id = first_of_end(&s, await_end(&s)) + 5;
    work(&s, MS, MS);
    for (int i = 0; i < 10 * 1000 && s.exceptions == 0; i++)
        work(&s, MS, MS);
    assert_int_equal(s.exceptions, 1);
    work(&s, SECOND, MS);
    assert_int_equal(s.exceptions, 1);
    close_stage(&s);
}

/* The others were written before, and there are no more. */
static void the_last_job_of_a_queue_ends_likewise(void **state)
{
    stage s;

    (void)state;
    open_stage_of(&s, &entrypoints[PICKED], 1, 250 * MS, false);
    s.claim_rows = BATCH;
    work(&s, SECOND, MS);
    s.unlucky_id = s.last_id + 3;
    work(&s, 250 * MS, MS);
    s.claim_rows = 0;
    work(&s, 10 * SECOND, MS);
    assert_int_equal(s.exceptions, 1);
    assert_int_equal(engine_held(s.e), 0);
    close_stage(&s);
}

/* All that can be known of one of two entrypoints says nothing of the other. */
static void what_is_refused_of_one_entrypoint_only_stays_successful(void **state)
{
    size_t held;
    stage s;

    (void)state;
    open_stage(&s, 2, 250 * MS);
    s.lease_rows = s.claim_rows = BATCH;
    work(&s, SECOND, MS);
    s.broken_one = true;
    s.broken_entrypoint = PICKED;
    work(&s, 5 * SECOND, MS);
    s.claim_rows = 0;
    held = engine_held(s.e);
    work(&s, 60 * SECOND, MS);
    assert_in_range(engine_held(s.e), held / 2, held);
    assert_int_equal(s.exceptions, 0);
    s.broken_one = false;
    work(&s, 10 * SECOND, MS);
    s.lease_rows = 0;
    work(&s, SECOND, MS);
    assert_int_equal(engine_held(s.e), 0);
    assert_int_equal(s.exceptions, 0);
    close_stage(&s);
}

/* A retry stays one, though its text cannot be written. */
static void a_text_that_is_refused_changes_no_status(void **state)
{
    engine_outcome retry = {.status = PGQ_STATUS_QUEUED, .text = "?", .run_us = 100};
    stage s;

    (void)state;
    open_stage_of(&s, &entrypoints[PICKED], 1, 250 * MS, false);
    s.claim_rows = 1;
    for (int i = 0; i < 1000 && s.started_count == 0; i++) {
        answer(&s, 0);
        answer(&s, 1 + i % (LANES - 1));
        pass(&s, MS);
    }
    assert_int_equal(s.started_count, 1);
    s.claim_rows = 0;
    s.text_refused = true;
    engine_outcome_of(s.e, s.now_us, s.started[0].job, &retry);
    s.started_count = 0;
    carry_out(&s);
    work(&s, SECOND, MS);
    assert_int_equal(engine_held(s.e), 0);
    assert_int_equal(s.exceptions, 0);
    assert_int_equal(s.said[SENTENCE_SETTLE], 2);
    close_stage(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_locked_row_does_not_hold_up_the_other_orphans),
        cmocka_unit_test(orphans_beside_a_locked_one),
        cmocka_unit_test(orphans_behind_a_poisoned_one),
        cmocka_unit_test(running_orphans_beside_a_locked_one),
        cmocka_unit_test(outcomes_beside_a_locked_one),
        cmocka_unit_test(successes_stay_successes_while_the_log_takes_nothing),
        cmocka_unit_test(a_job_that_alone_is_refused_ends_as_an_exception),
        cmocka_unit_test(the_last_job_of_a_queue_ends_likewise),
        cmocka_unit_test(what_is_refused_of_one_entrypoint_only_stays_successful),
        cmocka_unit_test(a_text_that_is_refused_changes_no_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
