/* What to say next: fills the idle lanes with flights, and says when to look again. */
#include "worker/engine_internal.h"
#include "base/error.h"

#include <assert.h>

enum {
    SETTLE_TEXT_BYTES =
        2 * 1024 * 1024,                /* of one settle; JSON may make six times as much of them */
    SETTLE_LINGER_US = 2 * 1000,        /* outcomes travel together if more are about to come */
    HORIZON_INTERVAL_US = 60 * 1000000, /* between two looks at who holds it */
    END_STUCK_INTERVAL_US = 2 * 1000000, /* between two looks for frozen workers' sessions */
    STUCK_LEASES = 8,                    /* a session that is not idle for so long is stuck */
    STUCK_MIN_US = 2 * 1000000,
    SURVEY_INTERVAL_US = 30 * 1000000, /* how often others' limits are looked at */
    PROBE_PAUSE_US = 250 * 1000,       /* jobs that we have leased ourselves are due to a probe */
    BEAT_LATE = 8                      /* a beat may be late by such a part of a claim's silence */
};

sentence *engine_add_sentence(engine_lane *lane, sentence_kind kind)
{
    sentence *s;

    assert(lane->flight.count < ENGINE_FLIGHT_MAX);
    s = &lane->flight.sentences[lane->flight.count++];
    *s = (sentence){.kind = kind};
    return s;
}

const sentence *engine_next_said(const engine *e, engine_said *at)
{
    for (; at->lane < e->lane_count; at->lane++, at->place = 0) {
        const engine_lane *lane = &e->lanes[at->lane];

        if (at->lane > 0 && lane->answered + at->place < lane->flight.count)
            return &lane->flight.sentences[lane->answered + at->place++];
    }
    return NULL;
}

bool engine_lane_said(const engine_lane *lane, sentence_kind kind)
{
    for (size_t i = lane->answered; i < lane->flight.count; i++) {
        if (lane->flight.sentences[i].kind == kind)
            return true;
    }
    return false;
}

bool engine_any_said(const engine *e, sentence_kind kind)
{
    engine_said at = {0, 0};
    const sentence *s;

    while ((s = engine_next_said(e, &at)) != NULL) {
        if (s->kind == kind)
            return true;
    }
    return false;
}

/* More outcomes are about to come, and it pays to wait for them. */
static bool may_linger(const engine *e, int64_t now_us)
{
    const list *finished = &e->jobs[JOB_FINISHED];
    const engine_job *oldest = LIST_ENTRY(finished->first, engine_job, link);

    return e->state == ENGINE_RUNNING && e->jobs[JOB_HANDED].count > e->away &&
           finished->count < (size_t)e->config.batch_size &&
           now_us < oldest->finished_us + SETTLE_LINGER_US;
}

static void add_settle(engine *e, engine_lane *lane)
{
    list *finished = &e->jobs[JOB_FINISHED];
    uint32_t group = LIST_ENTRY(finished->first, engine_job, link)->group;
    sentence *s = engine_add_sentence(lane, SENTENCE_SETTLE);
    size_t bytes = 0;

    lane->job_count = 0;
    while (finished->first != NULL && lane->job_count < ENGINE_SETTLE_MAX) {
        engine_job *job = LIST_ENTRY(finished->first, engine_job, link);

        bytes += job->outcome.text_bytes;
        if (job->group != group || (lane->job_count > 0 && bytes > ENGINE_SETTLE_TEXT_BYTES))
            break;
        if (e->slot_wanted && e->config.entrypoints[job->entrypoint].limit > 0)
            engine_wake(e); /* the claim behind this settle may have its seat */
        lane->items[lane->job_count] = (settle_item){
            .token = job->token,
            .status = job->outcome.status,
            .delay_ms = job->outcome.delay_ms,
            .attempts = job->attempts,
            .entrypoint = job->entrypoint,
            .text = job->outcome.text,
            .own_type = job->own_type,
            .own_message = job->own_message,
        };
        lane->jobs[lane->job_count++] = job;
        engine_move(e, job, JOB_SETTLING);
    }
    s->of.settle.items = lane->items;
    s->of.settle.count = lane->job_count;
}

static void add_release(engine *e, engine_lane *lane)
{
    sentence *s = engine_add_sentence(lane, SENTENCE_RELEASE);

    lane->job_count = 0;
    while (e->jobs[JOB_GIVEN].first != NULL && lane->job_count < ENGINE_SETTLE_MAX) {
        engine_job *job = LIST_ENTRY(e->jobs[JOB_GIVEN].first, engine_job, link);

        lane->tokens[lane->job_count] = job->token;
        lane->jobs[lane->job_count++] = job;
        engine_move(e, job, JOB_RELEASING);
    }
    s->of.tokens.tokens = lane->tokens;
    s->of.tokens.count = lane->job_count;
}

static void add_beat(engine *e, int64_t now_us, engine_lane *lane)
{
    sentence *s;

    lane->beat_count = 0;
    for (int state = JOB_HANDED; state < JOB_STATES; state++) {
        for (list_link *link = e->jobs[state].first; link != NULL; link = link->next) {
            engine_job *job = LIST_ENTRY(link, engine_job, link);

            if (job->lost || job->lease != NULL || job->orphan)
                continue;
            lane->beat_tokens[lane->beat_count] = job->token;
            lane->beat_jobs[lane->beat_count++] = job;
        }
    }
    e->beat_at_us = now_us + e->silence_us / 2;
    e->beat_again_us = CLOCK_NEVER;
    if (lane->beat_count == 0)
        return;
    e->beat_again_us = now_us + e->silence_us / BEAT_LATE;
    s = engine_add_sentence(lane, SENTENCE_BEAT);
    s->of.tokens.tokens = lane->beat_tokens;
    s->of.tokens.count = lane->beat_count;
}

static void add_probe(engine *e, int64_t now_us, engine_lane *lane)
{
    engine_add_sentence(lane, SENTENCE_PROBE)->of.probe.count_deferred = e->config.drain_now;
    e->probe_wanted = false;
    e->probing = true;
    e->probe_not_before_us = now_us + PROBE_PAUSE_US;
    e->probe_requeues = e->requeues;
}

static void add_ping(engine *e, int64_t now_us, engine_lane *lane)
{
    sentence *s = engine_add_sentence(lane, SENTENCE_PING);

    for (size_t i = 0; i < sizeof(s->of.ping.id.bytes); i++)
        s->of.ping.id.bytes[i] = (unsigned char)random_next(&e->random);
    s->of.ping.id.bytes[6] = (unsigned char)((s->of.ping.id.bytes[6] & 0x0F) | 0x40);
    s->of.ping.id.bytes[8] = (unsigned char)((s->of.ping.id.bytes[8] & 0x3F) | 0x80);
    e->ping_at_us = now_us + e->config.probe_interval_us;
    engine_ping_begins(e, now_us);
    if (lane == &e->lanes[0])
        e->ping_self_us = CLOCK_NEVER;
}

/* The control lane pings itself only when no other lane was answered in half of the time: what a
 * session sends to itself arrives with the answer, also behind a pooler that swallows all else. */
static bool ping_due(const engine *e, int64_t now_us, const engine_lane *lane)
{
    if (!e->lanes[0].listening || e->deaf || e->state != ENGINE_RUNNING)
        return false;
    return now_us >= (lane == &e->lanes[0] ? e->ping_self_us : e->ping_at_us);
}

/* A probe walks the dead rows at the queue's front, which a backlog leaves by the hundred thousand,
 * and would only show that jobs are due: where leases take everything, their claims show it. */
static bool probe_due(const engine *e)
{
    bool shown = e->leases.hungry && e->leases.backlog && e->rows.entrypoints == 0;

    return e->probe_wanted && !e->probing && e->state == ENGINE_RUNNING && !shown;
}

/* The control lane has something under way for so long that a beat is late, or it is the beat. */
static int64_t beat_late_at(const engine *e)
{
    if (e->lanes[0].state != LANE_FLYING || e->beat_at_us == CLOCK_NEVER)
        return CLOCK_NEVER;
    return base_min_i64(e->beat_again_us, e->beat_at_us + e->silence_us / BEAT_LATE);
}

/* Beats and probes travel on the control lane, so that nothing can hold them up; while it is down
 * they go with the others, and so do beats while it is silent. */
static void add_care(engine *e, int64_t now_us, engine_lane *lane)
{
    bool leases_show = engine_any_lease(e) && now_us < e->probe_not_before_us;

    if (!e->checked)
        return;
    if (lane != &e->lanes[0] && e->lanes[0].state >= LANE_IDLE) {
        if (now_us >= beat_late_at(e))
            add_beat(e, now_us, lane);
        return;
    }
    if (now_us >= e->beat_at_us)
        add_beat(e, now_us, lane);
    if (probe_due(e) && !leases_show)
        add_probe(e, now_us, lane);
}

static void take_off(engine *e, int64_t now_us, int index)
{
    engine_lane *lane = &e->lanes[index];
    engine_action *action;

    if (lane->flight.count == 0)
        return;
    lane->answered = 0;
    engine_flight_begins(e, now_us, lane);
    engine_lane_set(e, lane, LANE_FLYING);
    action = engine_act(e, ACTION_FLY);
    action->lane = index;
    action->flight = &lane->flight;
}

static void add_listen(engine *e, int64_t now_us, engine_lane *lane)
{
    (void)engine_add_sentence(lane, SENTENCE_LISTEN);
    if (e->state == ENGINE_RUNNING) /* it has as long as a probe */
        e->ping_deadline_us = base_min_i64(e->ping_deadline_us, engine_suspect_at(e, now_us));
}

/* What helps where something is wrong. */
static void add_rare(engine *e, int64_t now_us, engine_lane *lane)
{
    if (e->horizon_wanted) {
        e->horizon_wanted = false;
        e->horizon_at_us = now_us + HORIZON_INTERVAL_US;
        (void)engine_add_sentence(lane, SENTENCE_HORIZON);
    }
    if (e->end_stuck_wanted) {
        e->end_stuck_wanted = false;
        e->end_stuck_at_us = now_us + END_STUCK_INTERVAL_US;
        engine_add_sentence(lane, SENTENCE_END_STUCK)->of.end_stuck.age_us =
            base_max_i64(STUCK_LEASES * e->config.lease_us, STUCK_MIN_US);
    }
}

static void plan_control(engine *e, int64_t now_us)
{
    engine_lane *lane = &e->lanes[0];

    if (lane->state != LANE_IDLE)
        return;
    if (!e->checked)
        (void)engine_add_sentence(lane, SENTENCE_CHECK);
    else if (!lane->listening && e->state != ENGINE_STOPPING)
        add_listen(e, now_us, lane);
    add_care(e, now_us, lane);
    if (ping_due(e, now_us, lane))
        add_ping(e, now_us, lane);
    if (e->state == ENGINE_RUNNING && now_us >= e->survey_at_us) {
        (void)engine_add_sentence(lane, SENTENCE_SURVEY);
        e->survey_at_us = now_us + SURVEY_INTERVAL_US;
    }
    if (e->state == ENGINE_RUNNING)
        add_rare(e, now_us, lane);
    take_off(e, now_us, 0);
}

static void plan_lane(engine *e, int64_t now_us, int index)
{
    engine_lane *lane = &e->lanes[index];

    if (lane->state != LANE_IDLE || e->state < ENGINE_RUNNING)
        return;
    if (lane->lease.open && !engine_end_lease(e, now_us, lane))
        return;
    engine_add_tell(e, now_us, lane);
    lane->job_count = 0;
    if (engine_resolve_due(e, now_us))
        engine_add_resolve(e, lane);
    else if (e->jobs[JOB_FINISHED].count > 0 && now_us >= e->settle_not_before_us &&
             !may_linger(e, now_us))
        add_settle(e, lane);
    else if (e->jobs[JOB_GIVEN].count > 0 && now_us >= e->release_not_before_us)
        add_release(e, lane);
    engine_add_claim(e, now_us, lane);
    add_care(e, now_us, lane);
    /* alone: behind a settle that waits for somebody's lock it would come too late */
    if (lane->flight.count == 0 && ping_due(e, now_us, lane))
        add_ping(e, now_us, lane);
    if (lane->flight.count == 0)
        engine_add_fold(e, now_us, lane);
    if (!engine_fold_due(e, now_us) && !engine_folds(lane))
        engine_add_lease(e, now_us, lane); /* last: it begins a transaction */
    take_off(e, now_us, index);
}

/* What could still change something. A stopping worker that holds nothing does not wait for the
 * control lane, whose packets may be dropped: no answer to a beat or a probe matters any more. */
static bool anything_flies(const engine *e)
{
    for (int i = e->state == ENGINE_STOPPING ? 1 : 0; i < e->lane_count; i++) {
        if (e->lanes[i].state == LANE_FLYING)
            return true;
    }
    return false;
}

/* Jobs of a claim whose reply was lost may be picked for us: a stopping worker looks for them, to
 * give them back. */
static void plan_give_back(engine *e, int64_t now_us)
{
    for (int i = 1; i < e->lane_count; i++) {
        if (e->lanes[i].state != LANE_IDLE)
            continue;
        engine_add_adopt(e, now_us, &e->lanes[i]);
        take_off(e, now_us, i);
        return;
    }
}

static bool drained(const engine *e)
{
    if (e->adopt_wanted)
        return false;
    if (e->config.only_job != 0)
        return true; /* whatever else there may be to do */
    return !engine_hungry(e) && (e->queue_empty || (e->config.drain_now && !e->queue_due));
}

/* What is still held is refused. The rows of orphans are in the queue, so that it does not become
 * empty, and what else there is nobody knows. */
static bool drained_in_part(const engine *e)
{
    return e->config.drain && !e->adopt_wanted && !engine_hungry(e) && e->orphans > 0;
}

/* True when it has taken off. */
static bool plan_last_fold(engine *e, int64_t now_us)
{
    for (int i = 1; i < e->lane_count; i++) {
        if (e->lanes[i].state != LANE_IDLE || e->lanes[i].lease.open ||
            !engine_add_last_fold(e, &e->lanes[i]))
            continue;
        take_off(e, now_us, i);
        return true;
    }
    return false;
}

/* Ends a drained or a stopped run when nothing is left that could change. */
static void plan_end(engine *e, int64_t now_us)
{
    /* a lease without jobs may wait for the fence of its revocations */
    if (anything_flies(e) || engine_any_lease(e) ||
        (engine_held(e) > 0 && engine_held(e) > engine_unsettleable(e)))
        return;
    if (e->state == ENGINE_RUNNING && (e->config.drain || e->config.only_job != 0) &&
        (drained(e) || drained_in_part(e))) {
        e->drained_in_part = !drained(e);
        e->drain_requeues = e->requeues + 1;
        if (e->deferred > 0)
            engine_say(e, NOTE_DEFERRED, -1, 0, e->deferred, NULL);
        engine_stop(e, now_us);
    } else if (e->state == ENGINE_STOPPING && e->adopt_wanted) {
        plan_give_back(e, now_us);
    } else if (e->state == ENGINE_STOPPING && !plan_last_fold(e, now_us)) {
        engine_leave_unsettled(e);
        e->state = ENGINE_FINISHED;
        engine_act(e, ACTION_FINISH)->note.error = &e->error;
    }
}

/* Each of them for itself, as it was put off. */
static void plan_refused(engine *e, int64_t now_us)
{
    list *refused = &e->jobs[JOB_REFUSED];
    uint32_t round = ++e->groups;

    e->refused_again_us = CLOCK_NEVER;
    e->refused_tried_us = now_us;
    if (refused->count == 0)
        backoff_reset(&e->bad_row_backoff);
    for (size_t left = refused->count; left > 0; left--) {
        engine_job *job = LIST_ENTRY(refused->first, engine_job, link);

        if (e->state == ENGINE_STOPPING || engine_worth_a_try(e, job, round))
            engine_finish_again(e, job);
        else
            list_append(refused, list_pop(refused));
    }
    if (refused->count > 0)
        e->refused_again_us = now_us + backoff_next(&e->bad_row_backoff, &e->random);
}

void engine_plan(engine *e, int64_t now_us)
{
    uint64_t wakes;

    e->plan_wanted = true;
    if (e->gathering || e->state == ENGINE_NEW || e->state == ENGINE_FINISHED)
        return;
    engine_give_up_flights(e, now_us);
    if (now_us >= e->refused_again_us)
        plan_refused(e, now_us);
    engine_orphans_again(e, now_us);
    plan_control(e, now_us);
    e->pace.look_at_us = CLOCK_NEVER;
    do { /* what a lane settles may free a seat, for which another ends its lease */
        wakes = e->wakes;
        for (int i = 1; i < e->lane_count; i++)
            plan_lane(e, now_us, i);
    } while (wakes != e->wakes);
    plan_control(e, now_us); /* lanes may have found that a probe is wanted */
    plan_end(e, now_us);
}

void engine_events_begin(engine *e)
{
    e->gathering = true;
    e->plan_wanted = false;
}

void engine_events_end(engine *e, int64_t now_us)
{
    e->gathering = false;
    if (e->plan_wanted)
        engine_plan(e, now_us);
}

static bool idle_lane(const engine *e)
{
    for (int i = 1; i < e->lane_count; i++) {
        if (e->lanes[i].state == LANE_IDLE && !e->lanes[i].lease.open)
            return true;
    }
    return false;
}

/* Whether a beat that is due now would be said now. */
static bool care_lane_idle(const engine *e)
{
    if (e->lanes[0].state >= LANE_IDLE)
        return e->lanes[0].state == LANE_IDLE;
    return idle_lane(e);
}

/* What waits for the control lane. */
static int64_t control_deadline(const engine *e)
{
    const engine_lane *lane = &e->lanes[0];
    int64_t at = e->ping_deadline_us;

    if (e->state != ENGINE_RUNNING)
        return CLOCK_NEVER;
    if (lane->listening && !e->deaf) {
        /* a ping that cannot be said has its time all the same */
        if (at == CLOCK_NEVER || idle_lane(e))
            at = base_min_i64(at, e->ping_at_us);
        if (lane->state == LANE_IDLE)
            at = base_min_i64(at, e->ping_self_us);
    }
    if (lane->state == LANE_IDLE)
        at = base_min_i64(at, e->survey_at_us);
    return at;
}

static int64_t leases_deadline(const engine *e)
{
    int64_t at = CLOCK_NEVER;

    for (int i = 1; i < e->lane_count; i++) {
        if (e->lanes[i].state == LANE_IDLE && e->lanes[i].lease.open)
            at = base_min_i64(at, engine_lease_deadline(e, &e->lanes[i]));
    }
    if (at != CLOCK_NEVER && probe_due(e) && care_lane_idle(e))
        at = base_min_i64(at, e->probe_not_before_us);
    return at;
}

/* What waits for a lane that claims. */
static int64_t lane_deadline(const engine *e)
{
    int64_t at = leases_deadline(e);

    if (!idle_lane(e))
        return at;
    if (engine_held(e) > 0)
        at = base_min_i64(at, beat_late_at(e));
    if (e->orphans > 0 && e->settle_not_before_us > 0)
        at = base_min_i64(at, e->settle_not_before_us);
    if (e->jobs[JOB_FINISHED].count > 0) {
        const engine_job *oldest = LIST_ENTRY(e->jobs[JOB_FINISHED].first, engine_job, link);

        at = base_min_i64(
            at, base_max_i64(oldest->finished_us + SETTLE_LINGER_US, e->settle_not_before_us));
    }
    if (e->jobs[JOB_GIVEN].count > 0 && e->release_not_before_us > 0)
        at = base_min_i64(at, e->release_not_before_us);
    if (e->adopt_wanted && base_max_i64(e->adopt_at_us, e->claim_not_before_us) > 0)
        at = base_min_i64(at, base_max_i64(e->adopt_at_us, e->claim_not_before_us));
    at = base_min_i64(at, engine_tell_deadline(e));
    if (e->state != ENGINE_RUNNING)
        return at;
    at = base_min_i64(at, e->pace.look_at_us);
    if (engine_hungry(e) && e->claim_not_before_us > 0)
        at = base_min_i64(at, e->claim_not_before_us);
    if (e->leases.hungry && e->lease_not_before_us > 0)
        at = base_min_i64(at, e->lease_not_before_us);
    return base_min_i64(at, engine_fold_deadline(e));
}

int64_t engine_deadline(const engine *e)
{
    int64_t at = base_min_i64(e->poll_at_us, e->drain_deadline_us);

    if (e->state == ENGINE_NEW || e->state == ENGINE_FINISHED)
        return CLOCK_NEVER;
    at = base_min_i64(at, e->away_deadline_us);
    at = base_min_i64(at, engine_patience_ends(e));
    at = base_min_i64(at, engine_answers_deadline(e));
    at = base_min_i64(at, base_min_i64(e->refused_again_us, e->orphans_again_us));
    at = base_min_i64(at, e->alarm_at_us);
    if (e->state == ENGINE_RUNNING)
        at = base_min_i64(at, e->rate_at_us);
    for (int i = 0; i < e->lane_count; i++) {
        if (e->lanes[i].state == LANE_DOWN)
            at = base_min_i64(at, e->lanes[i].retry_at_us);
    }
    if (engine_held(e) > 0 && care_lane_idle(e))
        at = base_min_i64(at, e->beat_at_us);
    return base_min_i64(base_min_i64(at, lane_deadline(e)), control_deadline(e));
}
