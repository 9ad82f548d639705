/* What the engine must get to however busy it is: scripted, where the simulator's histories are too
 * short or too mild. */
#include "stage.h"

static void silent_workers_jobs_are_looked_for_while_leases_come_back_full(void **state)
{
    stage s;
    size_t before;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.lease_rows = BATCH;
    work(&s, 2 * SECOND, MS);
    before = s.stale_looks;
    work(&s, 10 * SECOND, MS);
    assert_in_range(s.stale_looks - before, 4, 20);
    close_stage(&s);
}

/* One that has nothing to say; 0: there is none. */
static int silent_lane(const stage *s)
{
    for (int lane = 1; lane < LANES; lane++) {
        if (s->flights[lane] == NULL)
            return lane;
    }
    return 0;
}

/* Both kinds of claims come back full. Loses a lease of which a job runs on. */
static void lose_lease(stage *s)
{
    pgq_error error = PGQ_ERROR_INIT;

    open_stage(s, 2, 250 * MS);
    s->lease_rows = s->claim_rows = BATCH;
    work(s, SECOND, MS);
    s->held = 0;
    for (int i = 0; i < 100 && (s->held == 0 || silent_lane(s) == 0); i++)
        work(s, MS, MS);
    assert_true(silent_lane(s) > 0); /* its lease has a job that runs */
    assert_int_equal(s->said[SENTENCE_RESOLVE], 0);
    engine_lane_lost(s->e, s->now_us, silent_lane(s), &error);
    carry_out(s);
}

static void orphans_are_resolved_while_claims_come_back_full(void **state)
{
    stage s;

    (void)state;
    lose_lease(&s);
    work(&s, 2 * SECOND, MS);
    assert_in_range(s.said[SENTENCE_RESOLVE], 1, 2); /* what has ended, and what runs */
    close_stage(&s);
}

/* Whether an adoption that was said by any lane passes over the job; false while there is none. */
static bool adopts_but(const stage *s, int64_t id, bool *ret_passes)
{
    const sentence *said = NULL;

    for (int lane = 1; said == NULL && lane < LANES; lane++)
        said = said_by(s, lane, SENTENCE_ADOPT);
    for (size_t i = 0; said != NULL && i < said->of.adopt.known_count; i++)
        *ret_passes |= said->of.adopt.known[i] == id;
    return said != NULL;
}

/* A claim may have picked it whose reply was lost as well. */
static void a_job_that_runs_on_and_that_a_resolve_does_not_find_is_adopted(void **state)
{
    bool passes = false, adopted = false;
    stage s;

    (void)state;
    lose_lease(&s);
    s.lost = true;
    for (int i = 0; i < 2000 && !adopted; i++) {
        adopted = s.said[SENTENCE_RESOLVE] == 2 && adopts_but(&s, s.held, &passes);
        work(&s, MS, MS);
    }
    assert_true(adopted);
    assert_false(passes);
    close_stage(&s);
}

/* Likewise; and the job that rests is given back unresolved, as the worker ends. */
static void an_orphan_that_an_adoption_has_passed_over_is_looked_for_when_it_is_given_back(
    void **state)
{
    pgq_error error = PGQ_ERROR_INIT;
    bool passes = false, adopted = false;
    size_t before;
    stage s;

    (void)state;
    lose_lease(&s);
    s.refuses = true;
    for (size_t i = 0; i < s.started_count; i++) {
        if (s.started[i].id == s.held)
            engine_resting(s.e, s.now_us, s.started[i].job, 60 * SECOND);
    }
    for (int lane = 1; lane < LANES && !adopted; lane++) {
        for (int i = 0; i < 1000 && said_by(&s, lane, SENTENCE_CLAIM) == NULL; i++)
            work(&s, MS, MS);
        s.flights[lane] = NULL;
        engine_lane_lost(s.e, s.now_us, lane, &error);
        carry_out(&s);
        for (int i = 0; i < 1000 && !adopted; i++) {
            adopted = adopts_but(&s, s.held, &passes);
            work(&s, MS, MS);
        }
    }
    assert_true(adopted && passes);
    work(&s, SECOND, MS);
    before = s.said[SENTENCE_ADOPT];
    engine_stop(s.e, s.now_us);
    carry_out(&s);
    s.refuses = false;
    for (int i = 0; i < 1000 && !s.finished; i++)
        work(&s, MS, MS);
    assert_in_range(s.said[SENTENCE_ADOPT] - before, 1, 2);
    close_stage(&s);
}

static void a_lease_ends_before_a_worker_that_may_not_wait_any_longer_does(void **state)
{
    stage s;

    (void)state;
    open_stage(&s, 1, 5 * SECOND);
    s.lease_rows = 2;
    for (int i = 0; i < 20 && s.started_count < 2; i++) {
        for (int lane = 0; lane < LANES; lane++)
            answer(&s, lane);
        pass(&s, MS);
    }
    assert_int_equal(s.started_count, 2);
    s.held = s.started[0].id;
    end_jobs(&s);
    assert_int_equal(s.said[SENTENCE_CONCLUDE], 0);
    engine_hurry(s.e, s.now_us);
    carry_out(&s);
    for (int i = 0; i < 2000 && !s.finished; i++) {
        for (int lane = 0; lane < LANES; lane++)
            answer(&s, lane);
        pass(&s, MS);
    }
    assert_true(s.finished);
    assert_int_equal(s.said[SENTENCE_CONCLUDE], 1);
    close_stage(&s);
}

static void a_deaf_worker_looks_more_often_for_what_leases_bring(void **state)
{
    stage s;
    size_t before;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.lease_rows = 1;
    s.deaf = true;
    work(&s, 2 * SECOND, MS);
    before = s.said[SENTENCE_LEASE];
    work(&s, SECOND, MS);
    assert_in_range(s.said[SENTENCE_LEASE] - before, 20, 400);
    close_stage(&s);
}

static void large_jobs_leave_room_for_claims_of_the_row_lane(void **state)
{
    stage s;
    size_t before;

    (void)state;
    open_stage(&s, 2, 250 * MS);
    s.lease_rows = BATCH;
    s.large = true;
    work(&s, SECOND, MS);
    before = s.row_claims;
    for (int i = 0; i < 10; i++) {
        engine_notified(s.e, s.now_us);
        carry_out(&s);
        work(&s, 100 * MS, MS);
    }
    assert_in_range(s.row_claims - before, 5, 1000);
    close_stage(&s);
}

static void a_drain_does_not_believe_a_probe_that_its_own_retry_overtook(void **state)
{
    engine_outcome retry = {.status = PGQ_STATUS_QUEUED, .run_us = 100, .delay_ms = 60 * 1000};
    stage s;

    (void)state;
    open_stage_of(&s, &entrypoints[PICKED], 1, 250 * MS, true);
    s.claim_rows = 1;
    for (int i = 0; i < 1000 && s.said[SENTENCE_PROBE] == 0; i++) {
        for (int lane = 0; lane < LANES && s.said[SENTENCE_PROBE] == 0; lane++)
            answer(&s, lane);
        if (s.started_count > 0)
            s.claim_rows = 0;
        pass(&s, MS);
    }
    assert_int_equal(s.said[SENTENCE_PROBE], 1);
    assert_int_equal(s.started_count, 1);
    engine_outcome_of(s.e, s.now_us, s.started[0].job, &retry);
    carry_out(&s);
    for (int i = 0; i < 1000; i++) {
        for (int lane = 1; lane < LANES; lane++)
            answer(&s, lane);
        pass(&s, MS);
    }
    assert_int_equal(s.said[SENTENCE_SETTLE], 1);
    assert_int_equal(s.said[SENTENCE_PROBE], 1);
    answer(&s, 0); /* it saw the job picked, and no other */
    for (int i = 0; i < 100 && !s.finished; i++)
        pass(&s, MS);
    assert_false(s.finished);
    close_stage(&s);
}

static void a_worker_that_rests_behind_cursors_wakes_for_the_sweep(void **state)
{
    stage s;
    size_t before;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.lease_rows = BATCH;
    s.sweep_us = 50 * MS;
    work(&s, 3 * SECOND, MS);
    before = s.sweeps;
    for (int i = 0; i < 1000 && s.sweeps == before; i++)
        work(&s, MS, MS);
    before = s.cursor_claims;
    for (int i = 0; i < 100 && s.cursor_claims == before; i++)
        work(&s, MS, MS);
    s.lease_rows = 0; /* the queue ends, as far as claims behind cursors see */
    before = s.sweeps;
    work(&s, 20 * MS, MS);
    assert_int_equal(s.sweeps, before); /* four times what it costs lie between two */
    work(&s, 2 * SECOND, MS);
    assert_in_range(s.sweeps - before, 1, 10);
    close_stage(&s);
}

static void a_probe_comes_when_a_backlog_has_ended(void **state)
{
    stage s;
    size_t before, looks;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.lease_rows = BATCH;
    work(&s, 100 * MS, MS);
    before = s.said[SENTENCE_PROBE];
    looks = s.stale_looks;
    work(&s, 3 * SECOND, MS);
    assert_in_range(s.stale_looks - looks, 2, 4);
    assert_int_equal(s.said[SENTENCE_PROBE], before);
    s.lease_rows = 0;
    work(&s, SECOND, MS);
    assert_in_range(s.said[SENTENCE_PROBE] - before, 1, 20);
    close_stage(&s);
}

static bool any_late_claim(const stage *s)
{
    for (int lane = 1; lane < LANES; lane++) {
        const sentence *said = said_by(s, lane, SENTENCE_LEASE);

        if (said != NULL && said->of.lease.late)
            return true;
    }
    return false;
}

static void jobs_of_lower_priorities_are_looked_for_when_late_ones_are_at_an_end(void **state)
{
    size_t before;
    stage s;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.lease_rows = BATCH;
    s.sweep_us = 200 * MS; /* so the next one would be long after */
    work(&s, 3 * SECOND, MS);
    for (int i = 0; i < 10000 && !any_late_claim(&s); i++)
        work(&s, MS, MS);
    assert_true(any_late_claim(&s));
    s.lease_rows = 0;
    before = s.whole_sweeps;
    work(&s, SECOND, MS);
    assert_in_range(s.whole_sweeps - before, 1, 10);
    close_stage(&s);
}

/* Answers everything but pings that were said by lanes that claim, until so many were said. */
static void withhold_pings(stage *s, size_t count, int64_t most_us)
{
    int64_t end_us = s->now_us + most_us;

    while (s->now_us < end_us && s->said[SENTENCE_PING] < count) {
        for (int lane = 0; lane < LANES; lane++) {
            if (lane == 0 || said_by(s, lane, SENTENCE_PING) == NULL)
                answer(s, lane);
        }
        pass(s, MS);
    }
    assert_int_equal(s->said[SENTENCE_PING], count);
}

static void an_old_answer_says_nothing_of_the_ping_that_is_under_way(void **state)
{
    int old = 1;
    stage s;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.deaf = true;
    withhold_pings(&s, 1, SECOND);
    while (said_by(&s, old, SENTENCE_PING) == NULL)
        old++;
    engine_heard(s.e, s.now_us); /* it has arrived, but its lane's answer has not */
    withhold_pings(&s, 2, 11 * SECOND);
    answer(&s, old);
    withhold_pings(&s, 3, 3 * SECOND); /* by the control lane, in time */
    assert_non_null(said_by(&s, 0, SENTENCE_PING));
    close_stage(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_old_answer_says_nothing_of_the_ping_that_is_under_way),
        cmocka_unit_test(silent_workers_jobs_are_looked_for_while_leases_come_back_full),
        cmocka_unit_test(orphans_are_resolved_while_claims_come_back_full),
        cmocka_unit_test(a_job_that_runs_on_and_that_a_resolve_does_not_find_is_adopted),
        cmocka_unit_test(
            an_orphan_that_an_adoption_has_passed_over_is_looked_for_when_it_is_given_back),
        cmocka_unit_test(a_lease_ends_before_a_worker_that_may_not_wait_any_longer_does),
        cmocka_unit_test(a_deaf_worker_looks_more_often_for_what_leases_bring),
        cmocka_unit_test(large_jobs_leave_room_for_claims_of_the_row_lane),
        cmocka_unit_test(a_drain_does_not_believe_a_probe_that_its_own_retry_overtook),
        cmocka_unit_test(a_worker_that_rests_behind_cursors_wakes_for_the_sweep),
        cmocka_unit_test(jobs_of_lower_priorities_are_looked_for_when_late_ones_are_at_an_end),
        cmocka_unit_test(a_probe_comes_when_a_backlog_has_ended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
