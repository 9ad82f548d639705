/* What to say next: fills the idle lanes with flights, and says when to look again. */
#include "worker/engine_internal.h"
#include "base/error.h"

#include <assert.h>

enum {
    SOON_US = 50 * 1000,         /* no more is claimed than handlers begin in this time */
    SETTLE_LINGER_US = 2 * 1000, /* outcomes travel together if more are about to come */
    STALE_LOOK_US = 1000 * 1000  /* how often a busy worker looks for silent workers' jobs */
};

static size_t handed(const engine *e)
{
    return e->jobs[JOB_HANDED].count;
}

/* Jobs that claims under way may bring. */
static size_t outstanding(const engine *e)
{
    size_t count = 0;

    for (int i = 1; i < e->lane_count; i++) {
        const engine_lane *lane = &e->lanes[i];

        if (lane->state != LANE_FLYING)
            continue;
        for (size_t k = lane->answered; k < lane->flight.count; k++) {
            if (lane->flight.sentences[k].kind == SENTENCE_CLAIM)
                count += (size_t)lane->flight.sentences[k].of.claim.batch;
        }
    }
    return count;
}

/* How many jobs the pool should have: one a thread, and what can start soon. */
static size_t handed_target(const engine *e)
{
    int64_t most = 2 * (int64_t)e->config.batch_size, soon;

    if (e->run_us_average == 0)
        return (size_t)e->config.threads;
    soon = (int64_t)e->config.threads * SOON_US / base_max_i64(1, e->run_us_average);
    return (size_t)e->config.threads + (size_t)base_min_i64(soon, most);
}

static sentence *add_sentence(engine_lane *lane, sentence_kind kind)
{
    sentence *s;

    assert(lane->flight.count < ENGINE_FLIGHT_MAX);
    s = &lane->flight.sentences[lane->flight.count++];
    *s = (sentence){.kind = kind};
    return s;
}

/* More outcomes are about to come, and it pays to wait for them. */
static bool may_linger(const engine *e, int64_t now_us)
{
    const list *finished = &e->jobs[JOB_FINISHED];
    const engine_job *oldest = LIST_ENTRY(finished->first, engine_job, link);

    return e->state == ENGINE_RUNNING && handed(e) > 0 &&
           finished->count < (size_t)e->config.batch_size &&
           now_us < oldest->finished_us + SETTLE_LINGER_US;
}

static void add_settle(engine *e, engine_lane *lane)
{
    list *finished = &e->jobs[JOB_FINISHED];
    uint32_t group = LIST_ENTRY(finished->first, engine_job, link)->group;
    sentence *s = add_sentence(lane, SENTENCE_SETTLE);

    lane->job_count = 0;
    while (finished->first != NULL && lane->job_count < ENGINE_SETTLE_MAX) {
        engine_job *job = LIST_ENTRY(finished->first, engine_job, link);

        if (job->group != group)
            break;
        lane->items[lane->job_count] = (settle_item){
            .token = job->token,
            .status = job->outcome.status,
            .delay_ms = job->outcome.delay_ms,
            .attempts = job->attempts,
            .entrypoint = job->entrypoint,
            .text = job->outcome.text,
            .refused_text = job->refused_text[0] != '\0' ? job->refused_text : NULL,
        };
        lane->jobs[lane->job_count++] = job;
        engine_move(e, job, JOB_SETTLING);
    }
    s->of.settle.items = lane->items;
    s->of.settle.count = lane->job_count;
}

static void add_release(engine *e, engine_lane *lane)
{
    sentence *s = add_sentence(lane, SENTENCE_RELEASE);

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

/* Everything that is picked for us: a stale look must not take it from ourselves. */
static size_t collect_known(engine *e, int64_t *known)
{
    size_t count = 0;

    for (int state = JOB_HANDED; state < JOB_STATES; state++) {
        for (list_link *link = e->jobs[state].first; link != NULL; link = link->next)
            known[count++] = LIST_ENTRY(link, engine_job, link)->token.id;
    }
    return count;
}

/* Whether there is a job of which a settle or a release was never answered. */
static bool anything_uncertain(const engine *e)
{
    for (int state = JOB_FINISHED; state < JOB_STATES; state++) {
        for (list_link *link = e->jobs[state].first; link != NULL; link = link->next) {
            if (state != JOB_REFUSED && LIST_ENTRY(link, engine_job, link)->uncertain)
                return true;
        }
    }
    return false;
}

/* Adopting takes every job that is picked for us and that we do not know, so no other claim may
 * be under way whose reply would make some of them known. Nor may a job be uncertain: its retry may
 * have been carried out, and the claim whose reply was lost may have picked it again. */
static bool claim_allowed(const engine *e, size_t under_way)
{
    if (e->adopt_wanted)
        return under_way == 0 && !anything_uncertain(e);
    for (int i = 1; i < e->lane_count; i++) {
        const engine_lane *lane = &e->lanes[i];

        for (size_t k = lane->answered; lane->state == LANE_FLYING && k < lane->flight.count; k++) {
            const sentence *s = &lane->flight.sentences[k];

            if (s->kind == SENTENCE_CLAIM && s->of.claim.adopt)
                return false;
        }
    }
    return true;
}

static void add_claim(engine *e, int64_t now_us, engine_lane *lane)
{
    size_t under_way = outstanding(e), target = handed_target(e), room;
    size_t have = handed(e) + under_way, free_records = e->jobs[JOB_FREE].count;
    bool look_for_stale = now_us >= e->stale_look_at_us || e->adopt_wanted;
    sentence *s;

    if (e->state != ENGINE_RUNNING || !e->hungry || now_us < e->claim_not_before_us ||
        !claim_allowed(e, under_way))
        return;
    if (under_way > 0 && !e->backlog)
        return; /* one lane asks; the others join when it comes back full */
    room = have < target ? target - have : 0;
    if (room > (size_t)e->config.batch_size)
        room = (size_t)e->config.batch_size;
    if (room + under_way > free_records)
        room = free_records > under_way ? free_records - under_way : 0;
    if (room == 0 || (room < (size_t)e->config.batch_size && room < target / 2 &&
                      handed(e) >= (size_t)e->config.threads))
        return; /* a small claim is only worth it when a thread would be idle */
    s = add_sentence(lane, SENTENCE_CLAIM);
    s->of.claim.batch = (int32_t)room;
    s->of.claim.adopt = e->adopt_wanted;
    if (look_for_stale) {
        s->of.claim.known = lane->known;
        s->of.claim.known_count = collect_known(e, lane->known);
        e->stale_look_at_us = now_us + base_min_i64(STALE_LOOK_US, e->config.heartbeat_timeout_us);
    }
    e->adopt_wanted = false;
    lane->wakes_seen = e->wakes;
}

static void add_beat(engine *e, int64_t now_us, engine_lane *lane)
{
    sentence *s;

    lane->beat_count = 0;
    for (int state = JOB_HANDED; state < JOB_STATES; state++) {
        for (list_link *link = e->jobs[state].first; link != NULL; link = link->next) {
            engine_job *job = LIST_ENTRY(link, engine_job, link);

            if (job->lost)
                continue;
            lane->beat_tokens[lane->beat_count] = job->token;
            lane->beat_jobs[lane->beat_count++] = job;
        }
    }
    e->beat_at_us = now_us + e->config.heartbeat_timeout_us / 2;
    if (lane->beat_count == 0)
        return;
    s = add_sentence(lane, SENTENCE_BEAT);
    s->of.tokens.tokens = lane->beat_tokens;
    s->of.tokens.count = lane->beat_count;
}

static void add_probe(engine *e, engine_lane *lane)
{
    (void)add_sentence(lane, SENTENCE_PROBE);
    e->probe_wanted = false;
    e->probing = true;
    e->probe_requeues = e->requeues;
}

/* Beats and probes travel on the control lane, so that nothing can hold them up; while it is down
 * they go with the others. */
static void add_care(engine *e, int64_t now_us, engine_lane *lane)
{
    if (!e->checked || (lane != &e->lanes[0] && e->lanes[0].state >= LANE_IDLE))
        return;
    if (now_us >= e->beat_at_us)
        add_beat(e, now_us, lane);
    if (e->probe_wanted && !e->probing && e->state == ENGINE_RUNNING)
        add_probe(e, lane);
}

static void take_off(engine *e, int index)
{
    engine_lane *lane = &e->lanes[index];
    engine_action *action;

    if (lane->flight.count == 0)
        return;
    lane->answered = 0;
    engine_lane_set(e, lane, LANE_FLYING);
    action = engine_act(e, ACTION_FLY);
    action->lane = index;
    action->flight = &lane->flight;
}

static void plan_control(engine *e, int64_t now_us)
{
    engine_lane *lane = &e->lanes[0];

    if (lane->state != LANE_IDLE)
        return;
    if (!e->checked)
        (void)add_sentence(lane, SENTENCE_CHECK);
    else if (!lane->listening && e->state != ENGINE_STOPPING)
        (void)add_sentence(lane, SENTENCE_LISTEN);
    add_care(e, now_us, lane);
    take_off(e, 0);
}

static void plan_lane(engine *e, int64_t now_us, int index)
{
    engine_lane *lane = &e->lanes[index];

    if (lane->state != LANE_IDLE || e->state < ENGINE_RUNNING)
        return;
    lane->job_count = 0;
    if (e->jobs[JOB_FINISHED].count > 0 && now_us >= e->settle_not_before_us &&
        !may_linger(e, now_us))
        add_settle(e, lane);
    else if (e->jobs[JOB_GIVEN].count > 0)
        add_release(e, lane);
    add_claim(e, now_us, lane);
    add_care(e, now_us, lane);
    take_off(e, index);
}

static bool anything_flies(const engine *e)
{
    for (int i = 0; i < e->lane_count; i++) {
        if (e->lanes[i].state == LANE_FLYING)
            return true;
    }
    return false;
}

/* Jobs of a claim whose reply was lost may be picked for us: a stopping worker gives them back. */
static void plan_give_back(engine *e)
{
    for (int i = 1; i < e->lane_count; i++) {
        if (e->lanes[i].state != LANE_IDLE)
            continue;
        (void)add_sentence(&e->lanes[i], SENTENCE_RELEASE);
        e->adopt_wanted = false;
        take_off(e, i);
        return;
    }
}

/* Ends a drained or a stopped run when nothing is left that could change. */
static void plan_end(engine *e, int64_t now_us)
{
    if (engine_held(e) > 0 || anything_flies(e))
        return;
    if (e->state == ENGINE_RUNNING && e->config.drain && e->queue_empty && !e->hungry &&
        !e->adopt_wanted)
        engine_stop(e, now_us);
    else if (e->state == ENGINE_STOPPING && e->adopt_wanted)
        plan_give_back(e);
    else if (e->state == ENGINE_STOPPING) {
        e->state = ENGINE_FINISHED;
        engine_act(e, ACTION_FINISH)->note.error = &e->error;
    }
}

/* Each of them for itself, as it was refused. */
static void plan_refused(engine *e)
{
    list *refused = &e->jobs[JOB_REFUSED];

    e->refused_again_us = CLOCK_NEVER;
    if (refused->count == 0)
        backoff_reset(&e->bad_row_backoff);
    while (refused->first != NULL) {
        engine_job *job = LIST_ENTRY(refused->first, engine_job, link);

        job->group = ++e->groups;
        engine_move(e, job, JOB_FINISHED);
    }
}

void engine_plan(engine *e, int64_t now_us)
{
    if (e->state == ENGINE_NEW || e->state == ENGINE_FINISHED)
        return;
    if (now_us >= e->refused_again_us)
        plan_refused(e);
    plan_control(e, now_us);
    for (int i = 1; i < e->lane_count; i++)
        plan_lane(e, now_us, i);
    plan_end(e, now_us);
}

static bool idle_lane(const engine *e)
{
    for (int i = 1; i < e->lane_count; i++) {
        if (e->lanes[i].state == LANE_IDLE)
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

int64_t engine_deadline(const engine *e)
{
    int64_t at = base_min_i64(e->poll_at_us, e->drain_deadline_us);

    if (e->state == ENGINE_NEW || e->state == ENGINE_FINISHED)
        return CLOCK_NEVER;
    at = base_min_i64(at, e->away_deadline_us);
    at = base_min_i64(at, e->refused_again_us);
    for (int i = 0; i < e->lane_count; i++) {
        if (e->lanes[i].state == LANE_DOWN)
            at = base_min_i64(at, e->lanes[i].retry_at_us);
    }
    if (engine_held(e) > 0 && care_lane_idle(e))
        at = base_min_i64(at, e->beat_at_us);
    if (idle_lane(e) && e->jobs[JOB_FINISHED].count > 0) {
        const engine_job *oldest = LIST_ENTRY(e->jobs[JOB_FINISHED].first, engine_job, link);

        at = base_min_i64(
            at, base_max_i64(oldest->finished_us + SETTLE_LINGER_US, e->settle_not_before_us));
    }
    if (idle_lane(e) && e->hungry && e->state == ENGINE_RUNNING && e->claim_not_before_us > 0)
        at = base_min_i64(at, e->claim_not_before_us);
    return at;
}
