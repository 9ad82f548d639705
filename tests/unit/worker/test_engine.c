/* What the engine must get to however busy it is: scripted, where the simulator's histories are too
 * short or too mild. */
#include "unit.h"

#include <stdint.h>
#include <string.h>

#include "base/clock.h"
#include "worker/engine.h"

enum {
    LANES = 4, /* with the control lane */
    THREADS = 4,
    BATCH = 10,
    MS = 1000,
    SECOND = 1000 * MS,
    LEASED = 0, /* the entrypoints */
    PICKED = 1,
    JOBS_MAX = 4096,
    LATE_MAX = 256
};

typedef struct stage {
    engine *e;
    int64_t now_us, last_id;
    const engine_flight *flights[LANES];
    size_t heard[LANES];
    int turn;
    struct {
        void *job;
        int64_t id;
    } started[JOBS_MAX];
    size_t started_count;
    size_t said[SENTENCE_HORIZON + 1];
    size_t stale_looks, row_claims, sweeps, whole_sweeps, cursor_claims;
    int64_t held; /* a leased job that does not end; 0: the next one; -1: none */
    bool finished;
    /* how the database answers */
    size_t lease_rows, claim_rows; /* at most */
    int64_t sweep_us;              /* what one takes longer than another claim */
    uint32_t picked;               /* the entrypoint of the row lane */
    bool large, deaf, front;
    int64_t next_behind; /* where the next claim that is said begins, if this is -1 */
    size_t urgent;       /* of the jobs of the next lease, so many are of a higher priority */
    int64_t others;      /* take so many ids between two of our leases */
    int64_t settle_us;   /* what the end of a lease takes */
    struct {
        int64_t up_to, last_id; /* and how far we were then */
    } late[LATE_MAX];           /* claims */
    size_t late_count;
} stage;

static const engine_entrypoint entrypoints[] = {
    [LEASED] = {.silence_us = 30 * SECOND, .lane = PGQ_LANE_LEASE},
    [PICKED] = {.silence_us = 30 * SECOND, .lane = PGQ_LANE_ROW},
};

/* Whether it looks at what cursors have passed. */
static bool sweeps(const sentence *said)
{
    return said->kind == SENTENCE_LEASE && (said->of.lease.cursors == NULL || said->of.lease.late);
}

/* Behind which id the claim looks for jobs of priority 0. */
static int64_t begins_behind(const sentence *claim)
{
    for (size_t i = 0; i < claim->of.lease.cursor_count; i++) {
        if (claim->of.lease.cursors[i].priority == 0)
            return claim->of.lease.cursors[i].id;
    }
    return -1;
}

static void carry_out(stage *s)
{
    engine_action action;

    while (engine_next(s->e, &action)) {
        if (action.kind == ACTION_CONNECT) {
            engine_lane_ready(s->e, s->now_us, action.lane, 100 + action.lane);
        } else if (action.kind == ACTION_FLY) {
            s->flights[action.lane] = action.flight;
            s->heard[action.lane] = 0;
            for (size_t i = 0; i < action.flight->count; i++) {
                const sentence *said = &action.flight->sentences[i];

                s->said[said->kind]++;
                s->sweeps += sweeps(said);
                s->whole_sweeps += sweeps(said) && said->of.lease.cursors == NULL;
                s->cursor_claims += said->kind == SENTENCE_LEASE && !sweeps(said);
                if (said->kind == SENTENCE_LEASE && said->of.lease.late &&
                    s->late_count < LATE_MAX) {
                    s->late[s->late_count].up_to = begins_behind(said);
                    s->late[s->late_count++].last_id = s->last_id;
                }
                if (said->kind == SENTENCE_LEASE && s->next_behind < 0)
                    s->next_behind = begins_behind(said);
                if (said->kind != SENTENCE_CLAIM)
                    continue;
                s->stale_looks += said->of.claim.known != NULL;
                s->row_claims += said->of.claim.ids == NULL;
            }
        } else if (action.kind == ACTION_START) {
            assert_true(s->started_count < JOBS_MAX);
            s->started[s->started_count].id = (intptr_t)action.body;
            s->started[s->started_count++].job = action.job;
        } else if (action.kind == ACTION_FENCE) {
            engine_fenced(s->e, s->now_us);
        } else if (action.kind == ACTION_FINISH) {
            s->finished = true;
        }
    }
}

static void open_stage_of(stage *s, const engine_entrypoint *first, size_t count, int64_t lease_us,
                          bool drain)
{
    engine_config config = {
        .lanes = LANES - 1,
        .threads = THREADS,
        .batch_size = BATCH,
        .dequeue_timeout_us = 30 * SECOND,
        .heartbeat_timeout_us = 30 * SECOND,
        .probe_interval_us = 10 * SECOND,
        .probe_timeout_us = 5 * SECOND,
        .lease_us = lease_us,
        .drain = drain,
        .entrypoints = first,
        .entrypoint_count = count,
    };

    *s = (stage){.now_us = SECOND, .held = -1, .picked = (uint32_t)(count - 1)};
    assert_int_equal(engine_new(&config, &s->e), PGQ_OK);
    engine_start(s->e, s->now_us);
    carry_out(s);
}

static void open_stage(stage *s, size_t entrypoint_count, int64_t lease_us)
{
    open_stage_of(s, entrypoints, entrypoint_count, lease_us, false);
}

static void close_stage(stage *s)
{
    s->e = engine_free(s->e);
}

/* New jobs. Their bodies are numbers. */
static size_t make_rows(stage *s, const sentence *said, claimed_row *rows)
{
    bool lease = said->kind == SENTENCE_LEASE, ids = !lease && said->of.claim.ids != NULL;
    size_t wanted = (size_t)(lease ? said->of.lease.batch : said->of.claim.batch);
    size_t most = lease ? s->lease_rows : s->claim_rows;
    bool fresh = lease || ids || said->of.claim.shares == NULL;

    for (size_t i = 0; !fresh && i < said->of.claim.share_count; i++)
        fresh |= said->of.claim.shares[i].most > 0;
    if (!fresh)
        return 0;
    if (!ids && wanted > most)
        wanted = most;
    if (lease && said->of.lease.late)
        return 0;
    if (lease)
        s->last_id += s->others;
    for (size_t i = 0; i < wanted; i++) {
        int64_t id = ids ? said->of.claim.ids[i] : 2 * ++s->last_id + lease;
        bool large = lease && s->large;

        rows[i] = (claimed_row){
            .token = {id, id},
            .entrypoint = lease || ids ? LEASED : s->picked,
            .priority = lease && i < s->urgent,
            .body = large ? NULL : (void *)(intptr_t)id,
            .large = large,
        };
    }
    if (lease)
        s->urgent = 0;
    return wanted;
}

/* Answers all that the lane has said, as a database that refuses nothing. */
static void answer(stage *s, int lane)
{
    size_t left = s->flights[lane] != NULL ? s->flights[lane]->count : 0;

    while (left-- > 0) {
        const sentence *said = &s->flights[lane]->sentences[s->heard[lane]++];
        sentence_reply reply = {.next_due_us = CLOCK_NEVER, .next_stale_us = CLOCK_NEVER};
        claimed_row rows[BATCH];
        uint32_t places[ENGINE_SETTLE_MAX];
        int64_t stamps[ENGINE_SETTLE_MAX];

        if (sweeps(said))
            s->now_us += s->sweep_us;
        if (said->kind == SENTENCE_CONCLUDE)
            s->now_us += s->settle_us;
        reply.front = said->kind == SENTENCE_CHECK && s->front;
        reply.front_id = reply.front ? 5000 : 0;
        reply.rows = rows;
        reply.places = places;
        reply.stamps = stamps;
        if (said->kind == SENTENCE_LEASE || said->kind == SENTENCE_CLAIM)
            reply.row_count = make_rows(s, said, rows);
        if (said->kind == SENTENCE_SETTLE || said->kind == SENTENCE_CONCLUDE ||
            said->kind == SENTENCE_RESOLVE) {
            for (size_t i = 0; i < said->of.settle.count; i++) {
                if (said->kind == SENTENCE_CONCLUDE &&
                    said->of.settle.items[i].status != PGQ_STATUS_PICKED)
                    continue;
                stamps[reply.place_count] = s->now_us;
                places[reply.place_count++] = (uint32_t)i;
            }
        }
        if (left == 0)
            s->flights[lane] = NULL;
        if (said->kind == SENTENCE_PING && !s->deaf)
            engine_heard(s->e, s->now_us);
        engine_reply(s->e, s->now_us, lane, &reply);
        carry_out(s);
    }
}

static void end_jobs(stage *s)
{
    engine_outcome outcome = {.status = PGQ_STATUS_SUCCESSFUL, .run_us = 100};
    size_t kept = 0, count = s->started_count;

    for (size_t i = 0; i < count; i++) {
        if (s->held == 0 && s->started[i].id % 2 == 1)
            s->held = s->started[i].id;
        if (s->started[i].id == s->held)
            s->started[kept++] = s->started[i];
        else
            engine_outcome_of(s->e, s->now_us, s->started[i].job, &outcome);
    }
    s->started_count = kept;
    carry_out(s);
}

static void pass(stage *s, int64_t us)
{
    s->now_us += us;
    if (s->now_us >= engine_deadline(s->e)) {
        engine_tick(s->e, s->now_us);
        carry_out(s);
    }
}

/* Everything is answered in turn, each lane's words a while after the other's. */
static void work(stage *s, int64_t for_us, int64_t step_us)
{
    int64_t end_us = s->now_us + for_us;

    while (s->now_us < end_us) {
        s->turn = (s->turn + 1) % LANES;
        answer(s, 0);
        answer(s, s->turn);
        end_jobs(s);
        pass(s, step_us);
    }
}

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

static void orphans_are_resolved_while_claims_come_back_full(void **state)
{
    pgq_error error = PGQ_ERROR_INIT;
    stage s;

    (void)state;
    open_stage(&s, 2, 250 * MS);
    s.lease_rows = s.claim_rows = BATCH;
    work(&s, SECOND, MS);
    s.held = 0;
    for (int i = 0; i < 100 && (s.held == 0 || silent_lane(&s) == 0); i++)
        work(&s, MS, MS);
    assert_true(silent_lane(&s) > 0); /* its lease has a job that runs */
    assert_int_equal(s.said[SENTENCE_RESOLVE], 0);
    engine_lane_lost(s.e, s.now_us, silent_lane(&s), &error);
    carry_out(&s);
    work(&s, 2 * SECOND, MS);
    assert_in_range(s.said[SENTENCE_RESOLVE], 1, 2); /* what has ended, and what runs */
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

/* What the lane has said of that kind and has no answer to; NULL: nothing. */
static const sentence *said_by(const stage *s, int lane, sentence_kind kind)
{
    const engine_flight *flight = s->flights[lane];

    for (size_t i = 0; flight != NULL && i < flight->count; i++) {
        if (flight->sentences[i].kind == kind)
            return &flight->sentences[i];
    }
    return NULL;
}

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
    for (size_t i = 1; i < s.late_count; i++) /* an id is twice the number */
        assert_in_range(s.late[i].up_to, i > 1 ? 1 : 0, 2 * s.late[i - 1].last_id + 1);
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
        cmocka_unit_test(a_lease_ends_before_a_worker_that_may_not_wait_any_longer_does),
        cmocka_unit_test(a_deaf_worker_looks_more_often_for_what_leases_bring),
        cmocka_unit_test(large_jobs_leave_room_for_claims_of_the_row_lane),
        cmocka_unit_test(a_drain_does_not_believe_a_probe_that_its_own_retry_overtook),
        cmocka_unit_test(a_worker_that_rests_behind_cursors_wakes_for_the_sweep),
        cmocka_unit_test(claims_that_are_under_way_together_keep_clear_of_each_other),
        cmocka_unit_test(what_a_claim_leaves_for_urgent_jobs_comes_next),
        cmocka_unit_test(what_a_lost_claim_may_have_left_comes_next),
        cmocka_unit_test(jobs_of_lower_priorities_are_looked_for_when_late_ones_are_at_an_end),
        cmocka_unit_test(a_worker_that_joins_others_begins_where_they_are),
        cmocka_unit_test(beside_others_what_was_passed_the_time_before_is_looked_at),
        cmocka_unit_test(of_a_fleet_each_sweeps_less_often),
        cmocka_unit_test(of_a_fleet_that_slows_its_settles_down_each_leases_less),
        cmocka_unit_test(a_worker_that_is_alone_leases_with_all_lanes_however_slow_its_settles_are),
        cmocka_unit_test(a_probe_comes_when_a_backlog_has_ended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
