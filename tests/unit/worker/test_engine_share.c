/* How the row lane and the leases divide the room in the pool while both have a backlog. */
#include "stage.h"

enum { ROUNDS = 4 }; /* of answers, in which what is said in the end is answered, too */

typedef struct ended {
    size_t leased, picked;
    size_t idle; /* so often a thread had nothing to do when everything was answered */
} ended;

/* All threads are busy: of the jobs, which take `run_us`, the oldest ends when a thread would. */
static ended work_busily(stage *s, int64_t for_us, int64_t run_us)
{
    engine_outcome outcome = {.status = PGQ_STATUS_SUCCESSFUL, .run_us = run_us};
    int64_t end_us = s->now_us + for_us;
    ended jobs = {0, 0, 0};

    while (s->now_us < end_us) {
        if (s->started_count > 0) {
            void *job = s->started[0].job;

            if (s->started[0].id % 2 == 1)
                jobs.leased++;
            else
                jobs.picked++;
            memmove(&s->started[0], &s->started[1], --s->started_count * sizeof(s->started[0]));
            engine_outcome_of(s->e, s->now_us, job, &outcome);
            carry_out(s);
        }
        for (int i = 0; i < ROUNDS * LANES; i++)
            answer(s, i % LANES);
        jobs.idle += s->started_count < THREADS;
        pass(s, run_us / THREADS);
    }
    return jobs;
}

/* Both have it. */
static ended share(int64_t run_us, int32_t lease_priority, int32_t claim_priority)
{
    ended jobs;
    stage s;

    open_stage(&s, 2, 250 * MS);
    s.lease_rows = s.claim_rows = BATCH;
    s.lease_priority = lease_priority;
    s.claim_priority = claim_priority;
    (void)work_busily(&s, 10 * SECOND, run_us);
    jobs = work_busily(&s, 60 * SECOND, run_us);
    close_stage(&s);
    assert_int_equal(jobs.idle, 0);
    print_message("# jobs of %lld us: %zu leased, %zu picked\n", (long long)run_us, jobs.leased,
                  jobs.picked);
    return jobs;
}

static const int64_t run_times_us[] = {2 * MS, 20 * MS, 63 * MS, 200 * MS, 800 * MS};

static void leases_get_their_share_beside_a_backlog_of_the_row_lane(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(run_times_us); i++) {
        ended jobs = share(run_times_us[i], 0, 0);

        assert_true(jobs.leased > (jobs.leased + jobs.picked) / 5);
    }
}

static void the_row_lane_gets_its_share_beside_a_backlog_of_leases(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(run_times_us); i++) {
        ended jobs = share(run_times_us[i], 0, 0);

        assert_true(jobs.picked > (jobs.leased + jobs.picked) / 5);
    }
}

/* And the other side is asked all the same: it may have something of a higher one by now. */
static void most_of_the_room_is_for_the_side_with_the_higher_priority(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(run_times_us); i++) {
        ended same = share(run_times_us[i], 0, 0), leases = share(run_times_us[i], 7, 0),
              rows = share(run_times_us[i], 0, 7);

        assert_in_range(leases.leased, same.leased + 1, 50 * leases.picked);
        assert_in_range(rows.picked, same.picked + 1, 50 * rows.leased);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leases_get_their_share_beside_a_backlog_of_the_row_lane),
        cmocka_unit_test(the_row_lane_gets_its_share_beside_a_backlog_of_leases),
        cmocka_unit_test(most_of_the_room_is_for_the_side_with_the_higher_priority),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
