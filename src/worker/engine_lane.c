/* Lanes: connected, lost, and what becomes of what was in flight. */
#include "worker/engine_internal.h"
#include "base/error.h"

enum {
    AWAY_US = 30 * 1000 * 1000, /* how long a stopping worker waits for a database that is gone */
    ALONE_MAX =
        2, /* so often a job's settle may be lost and be said again at once, if it is alone */
    ANSWER_MIN_US = 1000 * 1000,
    ANSWER_MAX_US = 30 * 1000 * 1000,
    ANSWER_DOUBLINGS = 4, /* of the patience with what is lost again and again */
    LATE_US = 500 * 1000  /* for what is in the socket already: this process may have slept */
};

void engine_connect_lane(engine *e, int index)
{
    engine_lane *lane = &e->lanes[index];

    lane->retry_at_us = CLOCK_NEVER;
    engine_lane_set(e, lane, LANE_CONNECTING);
    engine_act(e, ACTION_CONNECT)->lane = index;
}

void engine_lane_ready(engine *e, int64_t now_us, int lane, int64_t backend)
{
    engine_lane_set(e, &e->lanes[lane], LANE_IDLE);
    backoff_reset(&e->lanes[lane].backoff);
    e->lanes[lane].backend = backend;
    if (lane > 0)
        e->away_deadline_us = CLOCK_NEVER;
    if (e->outage) {
        e->outage = false;
        engine_say(e, NOTE_CONNECTION_RESTORED, lane, 0, 0, NULL);
    }
    if (e->state == ENGINE_RUNNING)
        engine_wake(e); /* notifications may have been missed */
    if (e->state >= ENGINE_RUNNING)
        e->beat_at_us = now_us; /* and a beat may have been lost */
    engine_plan(e, now_us);
}

/* The sentences that were not answered: whether they were carried out is not known. */
static void forget_flight(engine *e, int64_t now_us, engine_lane *lane)
{
    bool lease_end_sent = false;

    for (size_t i = lane->answered; i < lane->flight.count; i++) {
        const sentence *said = &lane->flight.sentences[i];
        sentence_kind kind = said->kind;

        if (kind == SENTENCE_CLAIM || kind == SENTENCE_ADOPT) {
            e->adopt_wanted = true;
            e->adopt_at_us = 0;
            engine_add_ghost(e, now_us, lane->backend,
                             kind == SENTENCE_CLAIM ? said->of.claim.batch : 0);
        }
        if (kind == SENTENCE_BEAT)
            e->beat_at_us = now_us; /* another lane says it */
        if (kind == SENTENCE_RESOLVE)
            engine_unresolve(e, lane, true);
        lease_end_sent |= kind == SENTENCE_CONCLUDE || kind == SENTENCE_COMMIT;
        if (kind == SENTENCE_SURVEY)
            e->survey_at_us = now_us;
        if (kind == SENTENCE_PROBE) {
            e->probing = false;
            e->probe_wanted = true;
        }
        if (kind == SENTENCE_PING && e->ping_deadline_us != CLOCK_NEVER)
            e->ping_at_us = now_us; /* another lane says it */
        if (kind == SENTENCE_AGGREGATE)
            engine_fold_lost(e, now_us, said);
        if (kind == SENTENCE_ANNOUNCE)
            e->done_untold |= said->of.announce.done;
        if (kind == SENTENCE_SETTLE)
            engine_suspect(e, lane);
        if (kind != SENTENCE_SETTLE && kind != SENTENCE_RELEASE)
            continue;
        for (size_t place = 0; place < lane->job_count; place++) {
            engine_job *job = lane->jobs[place];

            job->uncertain = true;
            if (kind == SENTENCE_SETTLE && lane->job_count == 1 && job->losses > ALONE_MAX) {
                engine_put_off(e, now_us, job);
                engine_despair(e, job, NULL);
            } else if (kind == SENTENCE_SETTLE)
                engine_finish_again(e, job);
            else
                engine_give_back(e, now_us, job);
        }
    }
    lane->flight.count = lane->answered = 0;
    lane->job_count = lane->beat_count = 0;
    engine_forget_reach(e, lane);
    if (lane->lease.open)
        engine_lose_lease(e, lane, lease_end_sent);
}

/* Outcomes can be written. */
static bool claiming_lane_up(const engine *e)
{
    for (int i = 1; i < e->lane_count; i++) {
        if (e->lanes[i].state >= LANE_IDLE)
            return true;
    }
    return false;
}

/* How long a stopping worker waits for a lane to answer: not long when it stops because the
 * database cannot be heard any more. */
static int64_t patience_us(const engine *e)
{
    if (e->error.code == PGQ_E_FAILING_LISTENER)
        return base_min_i64(AWAY_US, e->config.probe_timeout_us);
    return AWAY_US;
}

/* When the first flight of a stopping worker is given up, because the control lane has shown that
 * the network may swallow everything; a lane that waits for somebody's lock may take its time. */
int64_t engine_patience_ends(const engine *e)
{
    int64_t at = CLOCK_NEVER;

    if (e->state != ENGINE_STOPPING ||
        (e->lanes[0].state >= LANE_IDLE && e->error.code != PGQ_E_FAILING_LISTENER))
        return at;
    for (int i = 1; i < e->lane_count; i++) {
        if (e->lanes[i].state == LANE_FLYING)
            at = base_min_i64(at, e->lanes[i].flown_us + patience_us(e));
    }
    return at;
}

void engine_give_up_flights(engine *e, int64_t now_us)
{
    if (now_us < engine_patience_ends(e))
        return;
    for (int i = 1; i < e->lane_count; i++) {
        if (e->lanes[i].state != LANE_FLYING || now_us < e->lanes[i].flown_us + patience_us(e))
            continue;
        engine_act(e, ACTION_CLOSE)->lane = i;
        engine_lane_down(e, now_us, i);
    }
}

void engine_lane_down(engine *e, int64_t now_us, int index)
{
    engine_lane *lane = &e->lanes[index];

    forget_flight(e, now_us, lane);
    engine_lane_set(e, lane, LANE_DOWN);
    lane->listening = false;
    lane->retry_at_us = now_us + backoff_next(&lane->backoff, &e->random);
    if (e->state == ENGINE_STOPPING && !claiming_lane_up(e) && e->away_deadline_us == CLOCK_NEVER)
        e->away_deadline_us = now_us + AWAY_US;
}

void engine_lane_lost(engine *e, int64_t now_us, int index, const pgq_error *error)
{
    engine_lane *lane = &e->lanes[index];
    bool was_up = lane->state != LANE_CONNECTING, was_listening = lane->listening;

    if (e->state == ENGINE_FINISHED)
        return;
    if (e->state == ENGINE_STARTING) {
        forget_flight(e, now_us, lane);
        engine_lane_set(e, lane, LANE_DOWN);
        engine_fail(e, now_us, error);
        return;
    }
    engine_lane_down(e, now_us, index);
    if (!e->outage)
        engine_say(e, was_up ? NOTE_CONNECTION_LOST : NOTE_CONNECT_FAILED, index, 0,
                   (lane->retry_at_us - now_us) / 1000, error);
    e->outage = true;
    if (index == 0)
        engine_listen_lost(e, now_us, was_listening, error);
    engine_plan(e, now_us);
}

/* ---- answers that never come ---- */

static bool claims(sentence_kind kind)
{
    return kind == SENTENCE_CLAIM || kind == SENTENCE_LEASE || kind == SENTENCE_ADOPT;
}

/* The heartbeat timeout: what a claim brings later than that may not be started, and others take
 * it. Within bounds: heartbeats may be a day apart. The statement may only wait for somebody's
 * lock; so that not every such wait leaves one more of the server's processes behind, what was lost
 * before has twice the time of its last attempt. */
static int64_t patience_of(const engine *e, const engine_lane *lane)
{
    unsigned losses = 0;

    for (size_t i = 0; i < lane->job_count; i++)
        losses = lane->jobs[i]->losses > losses ? lane->jobs[i]->losses : losses;
    for (size_t i = 0; i < lane->flight.count; i++) {
        if (claims(lane->flight.sentences[i].kind) && e->claims_given_up > losses)
            losses = e->claims_given_up;
    }
    return base_max_i64(ANSWER_MIN_US, base_min_i64(e->config.heartbeat_timeout_us, ANSWER_MAX_US))
           << (losses < ANSWER_DOUBLINGS ? losses : ANSWER_DOUBLINGS);
}

void engine_flight_begins(engine *e, int64_t now_us, engine_lane *lane)
{
    lane->flown_us = lane->heard_us = now_us;
    lane->patience_us = patience_of(e, lane);
    lane->late_us = 0;
}

void engine_answered(engine *e, int64_t now_us, engine_lane *lane, sentence_kind kind)
{
    lane->heard_us = now_us;
    lane->late_us = 0;
    if (claims(kind))
        e->claims_given_up = 0;
}

static int64_t given_up_at(const engine_lane *lane)
{
    return lane->late_us != 0 ? lane->late_us + LATE_US : lane->heard_us + lane->patience_us;
}

int64_t engine_answers_deadline(const engine *e)
{
    int64_t at = CLOCK_NEVER;

    for (int i = 0; i < e->lane_count; i++) {
        if (e->lanes[i].state == LANE_FLYING)
            at = base_min_i64(at, given_up_at(&e->lanes[i]));
    }
    return at;
}

static void give_up_lane(engine *e, int64_t now_us, int index)
{
    const engine_lane *lane = &e->lanes[index];
    pgq_error error = PGQ_ERROR_INIT;

    (void)error_set(&error, PGQ_E_CONNECTION_LOST,
                    "the connection is open, but no answer has come for %lld ms",
                    (long long)(now_us - lane->heard_us) / 1000);
    error_hint(&error, "does something between the worker and the database swallow packets, or "
                       "does somebody keep rows or the table locked?");
    error.retryable = true;
    if (claims(lane->flight.sentences[lane->answered].kind))
        e->claims_given_up++;
    engine_act(e, ACTION_CLOSE)->lane = index;
    engine_lane_lost(e, now_us, index, &error);
}

void engine_answers_tick(engine *e, int64_t now_us)
{
    for (int i = 0; i < e->lane_count && e->state != ENGINE_FINISHED; i++) {
        engine_lane *lane = &e->lanes[i];

        if (lane->state != LANE_FLYING || now_us < given_up_at(lane))
            continue;
        if (lane->late_us == 0)
            lane->late_us = now_us;
        else
            give_up_lane(e, now_us, i);
    }
}
