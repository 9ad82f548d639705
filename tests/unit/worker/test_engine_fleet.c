/* What a worker does beside others: its lanes beside each other, and it beside the workers of a
 * fleet, whose claims, sweeps and settles it shares the server with. */
#include "stage.h"

/* A lease that does not sweep; NULL: there is none. */
static const sentence *claim_of(const stage *s, int lane)
{
    const sentence *said = said_by(s, lane, SENTENCE_LEASE);

    return said != NULL && !sweeps(said) ? said : NULL;
}

/* Until two lanes, and no more, have said claims behind cursors that are not answered. */
static void fill_lanes(stage *s, int pair[2])
{
    for (int i = 0; i < 1000; i++) {
        int count = 0;

        for (int lane = 1; lane < LANES; lane++) {
            if (claim_of(s, lane) != NULL && count++ < 2)
                pair[count - 1] = lane;
        }
        if (count == 2)
            return;
        work(s, MS, MS);
    }
    fail_msg("two lanes never claim at the same time");
}

static void claims_that_are_under_way_together_keep_clear_of_each_other(void **state)
{
    int64_t one, other;
    int pair[2];
    stage s;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.lease_rows = BATCH;
    work(&s, 50 * MS, MS);
    for (int i = 0; i < 20; i++) {
        fill_lanes(&s, pair);
        one = begins_behind(claim_of(&s, pair[0]));
        other = begins_behind(claim_of(&s, pair[1]));
        assert_true(one >= other + claim_of(&s, pair[1])->of.lease.batch ||
                    other >= one + claim_of(&s, pair[0])->of.lease.batch);
        work(&s, 3 * MS, MS);
    }
    close_stage(&s);
}

/* Of two claims that are under way `lane` has said the one that begins behind `from`, and `other`
 * one that begins further on. */
typedef struct two_claims {
    int lane, other;
    int64_t from;
} two_claims;

static two_claims open_stage_with_two(stage *s)
{
    int64_t begins[2];
    int pair[2], first;

    open_stage(s, 1, 250 * MS);
    s->lease_rows = BATCH;
    work(s, 50 * MS, MS);
    fill_lanes(s, pair);
    for (int i = 0; i < 2; i++)
        begins[i] = begins_behind(claim_of(s, pair[i]));
    first = begins[0] < begins[1] ? 0 : 1;
    s->next_behind = -1;
    return (two_claims){pair[first], pair[1 - first], begins[first]};
}

static void what_a_claim_leaves_for_urgent_jobs_comes_next(void **state)
{
    stage s;
    two_claims two = open_stage_with_two(&s);

    (void)state;
    s.urgent = BATCH; /* all of them */
    answer(&s, two.lane);
    answer(&s, two.other); /* which does not lead others past it */
    work(&s, 20 * MS, MS);
    assert_int_equal(s.next_behind, two.from);
    close_stage(&s);
}

static void what_a_lost_claim_may_have_left_comes_next(void **state)
{
    pgq_error error = PGQ_ERROR_INIT;
    stage s;
    two_claims two = open_stage_with_two(&s);

    (void)state;
    s.flights[two.lane] = NULL;
    engine_lane_lost(s.e, s.now_us, two.lane, &error);
    carry_out(&s);
    answer(&s, two.other);
    work(&s, 20 * MS, MS);
    assert_int_equal(s.next_behind, two.from);
    close_stage(&s);
}

static void a_worker_that_joins_others_begins_where_they_are(void **state)
{
    stage s;

    (void)state;
    open_stage(&s, 1, 250 * MS);
    s.front = true;
    s.next_behind = -1;
    for (int i = 0; i < 100 && s.said[SENTENCE_LEASE] == 0; i++)
        work(&s, MS, MS);
    assert_int_equal(s.cursor_claims, 1);
    assert_int_equal(s.sweeps, 0);
    assert_int_equal(s.next_behind, 5000);
    work(&s, 100 * MS, MS); /* there was nothing */
    assert_int_equal(s.cursor_claims, 1);
    assert_in_range(s.sweeps, 1, 100);
    close_stage(&s);
}

static void open_stage_of_fleet(stage *s, int64_t others)
{
    open_stage(s, 1, 250 * MS);
    s->front = true;
    s->lease_rows = BATCH;
    s->others = others;
}

static void beside_others_what_was_passed_the_time_before_is_looked_at(void **state)
{
    stage s;

    (void)state;
    open_stage_of_fleet(&s, 10 * BATCH);
    work(&s, 20 * SECOND, MS);
    assert_in_range(s.late_count, 3, 100);
    for (size_t i = 1; i < s.late_count; i++)
        assert_in_range(s.late[i].up_to, i > 1 ? 1 : 0, s.late[i - 1].last_id);
    close_stage(&s);
}

static void of_a_fleet_each_sweeps_less_often(void **state)
{
    size_t sweeps[2];
    stage s;

    (void)state;
    for (int i = 0; i < 2; i++) {
        open_stage_of_fleet(&s, i * 10 * BATCH);
        s.sweep_us = 5 * MS;
        work(&s, 5 * SECOND, MS);
        sweeps[i] = s.sweeps;
        close_stage(&s);
    }
    assert_true(sweeps[1] > 0 && sweeps[1] < sweeps[0] / 3);
}

/* In a second: how many lanes claim at a time at most, and how often none does anything. */
typedef struct bustle {
    size_t most, rests, leases;
} bustle;

static bustle watch(stage *s)
{
    bustle seen = {.leases = s->said[SENTENCE_LEASE]};
    int64_t end_us = s->now_us + SECOND;

    while (s->now_us < end_us) {
        size_t claiming = 0, busy = 0;

        work(s, MS, MS);
        for (int lane = 1; lane < LANES; lane++) {
            claiming += said_by(s, lane, SENTENCE_LEASE) != NULL;
            busy += s->flights[lane] != NULL;
        }
        seen.most = claiming > seen.most ? claiming : seen.most;
        seen.rests += busy == 0;
    }
    seen.leases = s->said[SENTENCE_LEASE] - seen.leases;
    return seen;
}

static void of_a_fleet_that_slows_its_settles_down_each_leases_less(void **state)
{
    bustle slow, quick;
    stage s;

    (void)state;
    open_stage_of_fleet(&s, 10 * BATCH);
    work(&s, 5 * SECOND, MS);
    quick = watch(&s);
    assert_true(quick.most > 1);
    s.settle_us = 20 * MS;
    work(&s, 5 * SECOND, MS);
    slow = watch(&s);
    assert_int_equal(slow.most, 1);
    assert_in_range(slow.rests, 50, 400); /* milliseconds; and it goes on after each */
    assert_in_range(slow.leases, 25, 45);
    s.settle_us = 0;
    work(&s, 5 * SECOND, MS);
    quick = watch(&s);
    assert_true(quick.most > 1);
    close_stage(&s);
}

static void a_worker_that_is_alone_leases_with_all_lanes_however_slow_its_settles_are(void **state)
{
    stage s;

    (void)state;
    open_stage_of_fleet(&s, 0);
    work(&s, SECOND, MS);
    s.settle_us = 20 * MS;
    work(&s, 5 * SECOND, MS);
    assert_true(watch(&s).most > 1);
    close_stage(&s);
}

/* So many jobs at a time, and nothing to do between. */
static void bring_bursts(stage *s, size_t jobs, int times)
{
    for (int i = 0; i < times; i++) {
        s->stock = jobs;
        engine_notified(s->e, s->now_us);
        carry_out(s);
        for (int k = 0; k < 1000 && s->stock > 0; k++)
            work(s, MS, MS);
        assert_int_equal(s->stock, 0);
        work(s, 8 * MS, MS);
    }
}

/* That in a backlog a worker looks for late jobs as one that has met no others: in front of all
 * that it has passed until then. */
static void expect_alone(stage *s, int64_t for_us)
{
    size_t first = s->late_count;

    s->stock = SIZE_MAX;
    engine_notified(s->e, s->now_us);
    carry_out(s);
    work(s, for_us, MS);
    assert_in_range(s->late_count - first, 2, 100);
    for (size_t i = first; i < s->late_count; i++)
        assert_int_equal(s->late[i].up_to, s->late[i].last_id);
}

static void bursts_with_sweeps_between_are_no_fleet(void **state)
{
    stage s;

    (void)state;
    open_stage_of_fleet(&s, 0);
    bring_bursts(&s, 2 * BATCH + BATCH / 2, 40);
    expect_alone(&s, SECOND);
    close_stage(&s);
}

static void open_stage_of_dear_sweeps(stage *s)
{
    open_stage_of_fleet(s, 0);
    s->sweep_us = 100 * MS;
    work(s, 3 * SECOND, MS);
}

static void bursts_without_sweeps_between_are_no_fleet(void **state)
{
    stage s;

    (void)state;
    open_stage_of_dear_sweeps(&s);
    bring_bursts(&s, 5 * BATCH, 40);
    expect_alone(&s, 4 * SECOND);
    close_stage(&s);
}

static void short_bursts_without_sweeps_between_are_no_fleet(void **state)
{
    stage s;

    (void)state;
    open_stage_of_dear_sweeps(&s);
    bring_bursts(&s, 2 * BATCH + BATCH / 2, 40);
    expect_alone(&s, 4 * SECOND);
    close_stage(&s);
}

/* A claim that brings one leaves jobs to the next, and those that are under way are not counted. */
static void urgent_jobs_among_the_others_are_no_fleet(void **state)
{
    bustle seen;
    stage s;

    (void)state;
    open_stage_of_fleet(&s, 0);
    s.urgent_each = 2;
    work(&s, SECOND, MS);
    s.others = 2 * BATCH; /* once: it looks whether there are more of them */
    work(&s, LANES * MS, MS);
    s.others = 0;
    work(&s, 5 * SECOND, MS);
    s.settle_us = 20 * MS;
    work(&s, 5 * SECOND, MS);
    seen = watch(&s);
    assert_true(seen.most > 1);
    assert_int_equal(seen.rests, 0);
    close_stage(&s);
}

/* Until they are connected again others go on. */
static void lose_lanes(stage *s)
{
    pgq_error error = PGQ_ERROR_INIT;
    size_t before = s->connects;

    for (int lane = 1; lane < LANES; lane++) {
        s->flights[lane] = NULL;
        engine_lane_lost(s->e, s->now_us, lane, &error);
        carry_out(s);
    }
    for (int i = 0; i < 1000 && s->connects < before + LANES - 1; i++)
        pass(s, MS);
    assert_int_equal(s->connects, before + LANES - 1);
    s->last_id += 100 * 1000;
}

static void what_others_take_while_a_worker_is_cut_off_makes_no_fleet_larger(void **state)
{
    size_t before;
    int64_t ended_us;
    stage s;

    (void)state;
    open_stage_of_fleet(&s, 2 * BATCH);
    work(&s, 2 * SECOND, MS);
    lose_lanes(&s);
    before = s.cursor_claims;
    for (int i = 0; i < 1000 && s.cursor_claims < before + 8; i++)
        work(&s, MS, MS);
    s.lease_rows = 0; /* each of a fleet waits a while, by its size, until it looks for more */
    before = s.whole_sweeps;
    ended_us = s.now_us;
    for (int i = 0; i < 20000 && s.whole_sweeps == before; i++)
        work(&s, MS, MS);
    assert_in_range(s.now_us - ended_us, 0, 200 * MS);
    close_stage(&s);
}

static void late_jobs_do_not_hide_a_fleet(void **state)
{
    size_t sweeps[2];
    stage s;

    (void)state;
    for (int i = 0; i < 2; i++) {
        open_stage_of_fleet(&s, i * 10 * BATCH);
        s.late_rows = 1;
        s.settle_us = 30 * MS; /* so a few claims lie between two sweeps */
        work(&s, 10 * SECOND, MS);
        sweeps[i] = s.sweeps;
        close_stage(&s);
    }
    assert_true(sweeps[1] > 0 && sweeps[1] < sweeps[0] / 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claims_that_are_under_way_together_keep_clear_of_each_other),
        cmocka_unit_test(what_a_claim_leaves_for_urgent_jobs_comes_next),
        cmocka_unit_test(what_a_lost_claim_may_have_left_comes_next),
        cmocka_unit_test(a_worker_that_joins_others_begins_where_they_are),
        cmocka_unit_test(beside_others_what_was_passed_the_time_before_is_looked_at),
        cmocka_unit_test(of_a_fleet_each_sweeps_less_often),
        cmocka_unit_test(of_a_fleet_that_slows_its_settles_down_each_leases_less),
        cmocka_unit_test(a_worker_that_is_alone_leases_with_all_lanes_however_slow_its_settles_are),
        cmocka_unit_test(bursts_with_sweeps_between_are_no_fleet),
        cmocka_unit_test(bursts_without_sweeps_between_are_no_fleet),
        cmocka_unit_test(short_bursts_without_sweeps_between_are_no_fleet),
        cmocka_unit_test(urgent_jobs_among_the_others_are_no_fleet),
        cmocka_unit_test(what_others_take_while_a_worker_is_cut_off_makes_no_fleet_larger),
        cmocka_unit_test(late_jobs_do_not_hide_a_fleet),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
