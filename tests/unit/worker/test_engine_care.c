/* What a slow or silent server must not do to a worker: beats that come too late, leases that are
 * over when they begin, lanes that all look back at once. */
#include "stage.h"

/* Answers all lanes but one, until it has said another beat. */
static void work_until_beat(stage *s, int silent_lane)
{
    size_t beats = s->said[SENTENCE_BEAT];

    while (s->said[SENTENCE_BEAT] == beats) {
        for (int lane = 0; lane < LANES; lane++) {
            if (lane != silent_lane)
                answer(s, lane);
        }
        pass(s, 10 * MS);
    }
}

/* A stage on which a job runs that does not end, with a beat of it that was answered. */
static int64_t open_stage_with_a_running_job(stage *s, int64_t silence_us)
{
    const engine_entrypoint own[] = {{.silence_us = silence_us, .lane = PGQ_LANE_ROW}};

    open_stage_of(s, own, 1, 250 * MS, false);
    s->claim_rows = 1;
    while (s->started_count == 0) {
        for (int lane = 0; lane < LANES; lane++)
            answer(s, lane);
        pass(s, MS);
    }
    s->claim_rows = 0;
    work_until_beat(s, -1);
    answer(s, 0);
    return s->beat_us;
}

static void a_beat_that_was_lost_with_its_connection_is_said_again(void **state)
{
    enum { SILENCE_US = 5 * SECOND };
    pgq_error error = PGQ_ERROR_INIT;
    stage s;
    int64_t good_us;

    (void)state;
    good_us = open_stage_with_a_running_job(&s, SILENCE_US);
    work_until_beat(&s, -1);
    assert_non_null(said_by(&s, 0, SENTENCE_BEAT));
    s.no_control = true;
    s.flights[0] = NULL;
    engine_lane_lost(s.e, s.now_us, 0, &error);
    carry_out(&s);
    if (said_by(&s, 1, SENTENCE_BEAT) == NULL && said_by(&s, 2, SENTENCE_BEAT) == NULL)
        work_until_beat(&s, -1);
    assert_in_range(s.beat_us - good_us, SILENCE_US / 2, SILENCE_US / 2 + SILENCE_US / 8);
    close_stage(&s);
}

/* The health check finds it later than the job may be without a beat. */
static void a_silent_control_lane_does_not_hold_up_beats(void **state)
{
    enum { SILENCE_US = 5 * SECOND };
    stage s;
    int64_t good_us;

    (void)state;
    good_us = open_stage_with_a_running_job(&s, SILENCE_US);
    s.deaf = true;
    work_until_beat(&s, 0); /* the lane's own, which is not answered */
    assert_non_null(said_by(&s, 0, SENTENCE_BEAT));
    for (int i = 0; i < 3; i++) {
        work_until_beat(&s, 0);
        assert_in_range(s.beat_us - good_us, SILENCE_US / 4, 3 * SILENCE_US / 4);
        good_us = s.beat_us;
    }
    close_stage(&s);
}

static void begin_backlog(stage *s, size_t entrypoint_count)
{
    static const engine_entrypoint two[] = {
        {.silence_us = 30 * SECOND, .lane = PGQ_LANE_LEASE},
        {.silence_us = 30 * SECOND, .lane = PGQ_LANE_LEASE},
    };

    open_stage_of(s, two, entrypoint_count, 250 * MS, false);
    s->picked = LEASED;
    s->lease_rows = BATCH;
    work(s, SECOND, MS);
}

/* A lease is held for half of the time after which the server ends its session. */
static void jobs_of_slow_claims_have_time_to_start(void **state)
{
    (void)state;
    for (int64_t claim_us = 500 * MS; claim_us <= 8 * SECOND; claim_us *= 2) {
        stage s;

        begin_backlog(&s, 1);
        s.claim_wait_us = s.sweep_wait_us = claim_us;
        work_apart(&s, 60 * SECOND);
        s.leases_alive = s.leases_dead = 0;
        work_apart(&s, 60 * SECOND);
        assert_true(s.leases_alive > 0);
        assert_int_equal(s.leases_dead, 0);
        close_stage(&s);
    }
}

static void sweeps_that_are_refused_leave_the_lanes_to_claims(void **state)
{
    stage s;
    size_t sweeps_said;

    (void)state;
    begin_backlog(&s, 1);
    s.sweeps_refused = true;
    s.claim_wait_us = MS;
    s.sweep_wait_us = 5 * SECOND;
    work_apart(&s, 60 * SECOND);
    sweeps_said = s.sweeps;
    work_apart(&s, 600 * SECOND);
    /* the lanes have 1800 seconds; a sweep is due again 5 s after it */
    assert_in_range(s.sweeps - sweeps_said, 30, 130);
    close_stage(&s);
}

static void one_lane_sweeps_at_a_time(void **state)
{
    (void)state;
    for (size_t entrypoint_count = 1; entrypoint_count <= 2; entrypoint_count++) {
        stage s;
        size_t sweeps_said;

        begin_backlog(&s, entrypoint_count);
        s.sweep_wait_us = SECOND;
        s.claim_wait_us = 5 * MS;
        work_apart(&s, 60 * SECOND);
        sweeps_said = s.sweeps;
        for (int i = 0; i < 60 * 1000; i++) {
            int under_way = 0;

            for (int lane = 1; lane < LANES; lane++) {
                const sentence *lease = said_by(&s, lane, SENTENCE_LEASE);

                under_way += lease != NULL && sweeps(lease);
            }
            assert_true(under_way <= 1);
            work_apart(&s, MS);
        }
        assert_true(s.sweeps > sweeps_said);
        close_stage(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_beat_that_was_lost_with_its_connection_is_said_again),
        cmocka_unit_test(a_silent_control_lane_does_not_hold_up_beats),
        cmocka_unit_test(jobs_of_slow_claims_have_time_to_start),
        cmocka_unit_test(sweeps_that_are_refused_leave_the_lanes_to_claims),
        cmocka_unit_test(one_lane_sweeps_at_a_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
