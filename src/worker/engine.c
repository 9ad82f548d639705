#include "worker/engine_internal.h"
#include "base/error.h"

#include <assert.h>
#include <stdlib.h>

enum {
    RECONNECT_FIRST_US = 100 * 1000,
    RECONNECT_MAX_US = 5 * 1000 * 1000,
    REFUSAL_FIRST_US = 100 * 1000,
    REFUSAL_MAX_US = 5 * 1000 * 1000,
    AWAY_US = 30 * 1000 * 1000 /* how long a stopping worker waits for a database that is gone */
};

/* Jobs in the pool at most: one for each thread, and what the measured speed of the handlers lets
 * them begin soon. */
static size_t handed_max(const engine_config *config)
{
    return (size_t)config->threads + 2 * (size_t)config->batch_size;
}

static bool make_lane(engine_lane *lane, size_t capacity)
{
    lane->items = calloc(ENGINE_SETTLE_MAX, sizeof(*lane->items));
    lane->tokens = calloc(ENGINE_SETTLE_MAX, sizeof(*lane->tokens));
    lane->jobs = calloc(ENGINE_SETTLE_MAX, sizeof(*lane->jobs));
    lane->beat_tokens = calloc(capacity, sizeof(*lane->beat_tokens));
    lane->beat_jobs = calloc(capacity, sizeof(*lane->beat_jobs));
    lane->known = calloc(capacity, sizeof(*lane->known));
    lane->retry_at_us = CLOCK_NEVER;
    lane->backoff = (backoff){RECONNECT_FIRST_US, RECONNECT_MAX_US, 0};
    return lane->items != NULL && lane->tokens != NULL && lane->jobs != NULL &&
           lane->beat_tokens != NULL && lane->beat_jobs != NULL && lane->known != NULL;
}

pgq_code engine_new(const engine_config *config, engine **ret_engine)
{
    engine *e = calloc(1, sizeof(*e));
    bool complete;

    if (e == NULL)
        return PGQ_E_NOMEM;
    e->config = *config;
    e->random.state = config->seed;
    e->lane_count = config->lanes + 1;
    /* those with the pool, as many that wait to be settled, and a claim on every lane */
    e->capacity = 2 * handed_max(config) + (size_t)config->lanes * (size_t)config->batch_size;
    e->action_capacity = 3 * e->capacity + 64;
    e->records = calloc(e->capacity, sizeof(*e->records));
    e->actions = calloc(e->action_capacity, sizeof(*e->actions));
    complete = e->records != NULL && e->actions != NULL;
    for (int i = 0; complete && i < e->lane_count; i++)
        complete = make_lane(&e->lanes[i], e->capacity);
    if (!complete) {
        (void)engine_free(e);
        return PGQ_E_NOMEM;
    }
    for (size_t i = 0; i < e->capacity; i++)
        list_append(&e->jobs[JOB_FREE], &e->records[i].link);
    e->poll_at_us = e->beat_at_us = e->stale_look_at_us = CLOCK_NEVER;
    e->drain_deadline_us = e->away_deadline_us = CLOCK_NEVER;
    e->refusal_backoff = (backoff){REFUSAL_FIRST_US, REFUSAL_MAX_US, 0};
    e->bad_row_backoff = e->refusal_backoff;
    e->refused_again_us = CLOCK_NEVER;
    *ret_engine = e;
    return PGQ_OK;
}

engine *engine_free(engine *e)
{
    if (e == NULL)
        return NULL;
    for (int i = 0; i < ENGINE_LANES_MAX; i++) {
        free(e->lanes[i].items);
        free(e->lanes[i].tokens);
        free(e->lanes[i].jobs);
        free(e->lanes[i].beat_tokens);
        free(e->lanes[i].beat_jobs);
        free(e->lanes[i].known);
    }
    free(e->records);
    free(e->actions);
    free(e);
    return NULL;
}

size_t engine_capacity(const engine *e)
{
    return e->capacity > ENGINE_SETTLE_MAX ? e->capacity : ENGINE_SETTLE_MAX;
}

const pgq_worker_counts *engine_counts(const engine *e)
{
    return &e->counts;
}

size_t engine_held(const engine *e)
{
    return e->capacity - e->jobs[JOB_FREE].count;
}

size_t engine_running(const engine *e)
{
    return e->jobs[JOB_HANDED].count;
}

/* Which state of a job may follow which: the whole life of a record. */
static const bool job_moves[JOB_STATES][JOB_STATES] = {
    [JOB_FREE] = {[JOB_HANDED] = true, [JOB_GIVEN] = true},
    [JOB_HANDED] = {[JOB_FINISHED] = true, [JOB_GIVEN] = true, [JOB_FREE] = true},
    [JOB_FINISHED] = {[JOB_SETTLING] = true, [JOB_FREE] = true},
    [JOB_SETTLING] = {[JOB_FINISHED] = true, [JOB_REFUSED] = true, [JOB_FREE] = true},
    [JOB_REFUSED] = {[JOB_FINISHED] = true, [JOB_FREE] = true},
    [JOB_GIVEN] = {[JOB_RELEASING] = true, [JOB_FREE] = true},
    [JOB_RELEASING] = {[JOB_GIVEN] = true, [JOB_FREE] = true},
};

void engine_move(engine *e, engine_job *job, job_state state)
{
    assert(job_moves[job->state][state]);
    list_remove(&e->jobs[job->state], &job->link);
    job->state = state;
    list_append(&e->jobs[state], &job->link);
}

static const bool lane_moves[4][4] = {
    [LANE_DOWN] = {[LANE_CONNECTING] = true},
    [LANE_CONNECTING] = {[LANE_IDLE] = true, [LANE_DOWN] = true},
    [LANE_IDLE] = {[LANE_FLYING] = true, [LANE_DOWN] = true},
    [LANE_FLYING] = {[LANE_IDLE] = true, [LANE_DOWN] = true},
};

void engine_lane_set(engine *e, engine_lane *lane, lane_state state)
{
    (void)e;
    assert(lane_moves[lane->state][state]);
    lane->state = state;
}

engine_action *engine_act(engine *e, engine_action_kind kind)
{
    engine_action *action;

    /* one event makes a bounded number of actions, and the driver takes them all before the next */
    assert(e->action_count < e->action_capacity);
    action = &e->actions[(e->action_first + e->action_count) % e->action_capacity];
    e->action_count++;
    *action = (engine_action){.kind = kind, .lane = -1, .note = {.lane = -1}};
    return action;
}

bool engine_next(engine *e, engine_action *ret_action)
{
    if (e->action_count == 0)
        return false;
    *ret_action = e->actions[e->action_first];
    e->action_first = (e->action_first + 1) % e->action_capacity;
    e->action_count--;
    return true;
}

void engine_say(engine *e, engine_note_kind kind, int lane, int64_t job_id, int64_t number,
                const pgq_error *error)
{
    engine_action *action = engine_act(e, ACTION_NOTE);

    if (error != NULL)
        e->note_error = *error;
    action->note = (engine_note){kind, lane, job_id, number, error != NULL ? &e->note_error : NULL};
}

void engine_forget(engine *e, engine_job *job)
{
    if (job->body != NULL)
        engine_act(e, ACTION_FORGET)->body = job->body;
    job->body = NULL;
    engine_move(e, job, JOB_FREE);
}

void engine_revoke(engine *e, engine_job *job)
{
    engine_action *action = engine_act(e, ACTION_REVOKE);

    action->body = job->body;
    action->job = job;
}

void engine_lost_claim(engine *e, engine_job *job)
{
    e->counts.lost++;
    engine_say(e, NOTE_CLAIM_LOST, -1, job->token.id, 0, NULL);
}

void engine_wake(engine *e)
{
    e->wakes++;
    e->hungry = true;
    e->queue_empty = false;
}

static void connect_lane(engine *e, int index)
{
    engine_lane *lane = &e->lanes[index];

    lane->retry_at_us = CLOCK_NEVER;
    engine_lane_set(e, lane, LANE_CONNECTING);
    engine_act(e, ACTION_CONNECT)->lane = index;
}

void engine_start(engine *e, int64_t now_us)
{
    assert(e->state == ENGINE_NEW);
    e->state = ENGINE_STARTING;
    /* the control lane first: when it cannot connect, one error is enough */
    connect_lane(e, 0);
    engine_plan(e, now_us);
}

void engine_lane_ready(engine *e, int64_t now_us, int lane)
{
    engine_lane_set(e, &e->lanes[lane], LANE_IDLE);
    backoff_reset(&e->lanes[lane].backoff);
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
static void forget_flight(engine *e, engine_lane *lane)
{
    for (size_t i = lane->answered; i < lane->flight.count; i++) {
        sentence_kind kind = lane->flight.sentences[i].kind;

        if (kind == SENTENCE_CLAIM ||
            (kind == SENTENCE_RELEASE && lane->flight.sentences[i].of.tokens.tokens == NULL))
            e->adopt_wanted = true;
        if (kind == SENTENCE_PROBE) {
            e->probing = false;
            e->probe_wanted = true;
        }
        if (kind != SENTENCE_SETTLE && kind != SENTENCE_RELEASE)
            continue;
        for (size_t place = 0; place < lane->job_count; place++) {
            engine_job *job = lane->jobs[place];

            job->uncertain = true;
            engine_move(e, job, kind == SENTENCE_SETTLE ? JOB_FINISHED : JOB_GIVEN);
        }
    }
    lane->flight.count = lane->answered = 0;
    lane->job_count = lane->beat_count = 0;
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

void engine_lane_broken(engine *e, int64_t now_us, int index, const pgq_error *error)
{
    engine_lane *lane = &e->lanes[index];
    bool was_up = lane->state != LANE_CONNECTING;

    forget_flight(e, lane);
    engine_lane_set(e, lane, LANE_DOWN);
    lane->listening = false;
    lane->retry_at_us = now_us + backoff_next(&lane->backoff, &e->random);
    if (!e->outage)
        engine_say(e, was_up ? NOTE_CONNECTION_LOST : NOTE_CONNECT_FAILED, index, 0,
                   (lane->retry_at_us - now_us) / 1000, error);
    e->outage = true;
    if (e->state == ENGINE_STOPPING && !claiming_lane_up(e) && e->away_deadline_us == CLOCK_NEVER)
        e->away_deadline_us = now_us + AWAY_US;
}

void engine_lane_lost(engine *e, int64_t now_us, int lane, const pgq_error *error)
{
    if (e->state == ENGINE_FINISHED)
        return;
    if (e->state == ENGINE_STARTING) {
        forget_flight(e, &e->lanes[lane]);
        engine_lane_set(e, &e->lanes[lane], LANE_DOWN);
        engine_fail(e, now_us, error);
        return;
    }
    engine_lane_broken(e, now_us, lane, error);
    engine_plan(e, now_us);
}

static void finish(engine *e)
{
    e->state = ENGINE_FINISHED;
    engine_act(e, ACTION_FINISH)->note.error = &e->error;
}

static void begin_stop(engine *e, int64_t now_us)
{
    e->state = ENGINE_STOPPING;
    if (e->config.drain_timeout_us > 0)
        e->drain_deadline_us = now_us + e->config.drain_timeout_us;
    engine_say(e, NOTE_STOPPING, -1, 0, (int64_t)engine_held(e), NULL);
    for (list_link *link = e->jobs[JOB_HANDED].first; link != NULL; link = link->next)
        engine_revoke(e, LIST_ENTRY(link, engine_job, link));
}

void engine_fail(engine *e, int64_t now_us, const pgq_error *error)
{
    if (e->error.code == PGQ_OK)
        e->error = *error;
    if (e->state == ENGINE_STARTING)
        finish(e);
    else if (e->state == ENGINE_RUNNING)
        begin_stop(e, now_us);
}

void engine_stop(engine *e, int64_t now_us)
{
    if (e->state == ENGINE_STARTING)
        finish(e);
    else if (e->state == ENGINE_RUNNING)
        begin_stop(e, now_us);
    engine_plan(e, now_us);
}

void engine_notified(engine *e, int64_t now_us)
{
    engine_wake(e);
    e->look_again_us = 0;
    engine_plan(e, now_us);
}

static void count_outcome(engine *e, const engine_job *job)
{
    switch (job->outcome.status) {
    case PGQ_STATUS_SUCCESSFUL:
        e->counts.successful++;
        break;
    case PGQ_STATUS_EXCEPTION:
    case PGQ_STATUS_FAILED:
        e->counts.failed++;
        break;
    case PGQ_STATUS_QUEUED:
        e->counts.retried++;
        break;
    default:
        e->counts.cancelled++;
        break;
    }
}

void engine_outcome_of(engine *e, int64_t now_us, void *name, const engine_outcome *outcome)
{
    engine_job *job = name;

    if (e->state == ENGINE_FINISHED)
        return;
    job->outcome = *outcome;
    job->finished_us = now_us;
    if (outcome->run_us > 0) {
        int64_t average = e->run_us_average;

        e->run_us_average = average == 0 ? outcome->run_us : (7 * average + outcome->run_us) / 8;
    }
    if (job->lost) {
        engine_forget(e, job);
    } else {
        count_outcome(e, job);
        engine_move(e, job, JOB_FINISHED);
    }
    engine_plan(e, now_us);
}

void engine_revoked(engine *e, int64_t now_us, void *name)
{
    engine_job *job = name;

    if (job->lost)
        engine_forget(e, job);
    else
        engine_move(e, job, JOB_GIVEN);
    engine_plan(e, now_us);
}

/* Handlers still run and may not be waited for any longer. */
static void drain_timeout(engine *e)
{
    engine_say(e, NOTE_DRAIN_TIMEOUT, -1, 0, (int64_t)e->jobs[JOB_HANDED].count, NULL);
    for (list_link *link = e->jobs[JOB_HANDED].first; link != NULL; link = link->next)
        engine_act(e, ACTION_TELL)->body = LIST_ENTRY(link, engine_job, link)->body;
    if (e->error.code == PGQ_OK) {
        (void)error_set(&e->error, PGQ_E_TIMEOUT,
                        "%zu handlers were still running when the drain timeout passed",
                        e->jobs[JOB_HANDED].count);
        error_hint(&e->error, "their jobs are picked again after the heartbeat timeout");
    }
}

void engine_tick(engine *e, int64_t now_us)
{
    if (e->state == ENGINE_FINISHED)
        return;
    for (int i = 0; i < e->lane_count; i++) {
        if (e->lanes[i].state == LANE_DOWN && now_us >= e->lanes[i].retry_at_us)
            connect_lane(e, i);
    }
    if (now_us >= e->claim_not_before_us)
        e->claim_not_before_us = 0;
    if (now_us >= e->poll_at_us) {
        e->poll_at_us = CLOCK_NEVER;
        engine_wake(e);
        e->lanes[0].listening = e->lanes[0].listening && !e->deaf; /* tries again */
        e->deaf = false;
    }
    if (now_us >= e->drain_deadline_us) {
        e->drain_deadline_us = CLOCK_NEVER;
        drain_timeout(e);
        finish(e);
        return;
    }
    if (now_us >= e->away_deadline_us) {
        if (e->error.code == PGQ_OK)
            (void)error_set(&e->error, PGQ_E_CONNECTION_LOST,
                            "the database did not come back while %zu jobs were unsettled",
                            engine_held(e));
        finish(e);
        return;
    }
    engine_plan(e, now_us);
}
