/* The engine's life: made, started, connected, stopped, ended. */
#include "worker/engine_internal.h"
#include "base/error.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    RECONNECT_FIRST_US = 100 * 1000,
    RECONNECT_MAX_US = 5 * 1000 * 1000,
    REFUSAL_FIRST_US = 100 * 1000,
    REFUSAL_MAX_US = 5 * 1000 * 1000,
    BRAKE_MAX_US = 30 * 1000 * 1000, /* it is a resolve that finds out sooner */
    CONTENTION_FIRST_US = 2 * 1000,  /* another claim took the seat */
    CONTENTION_MAX_US = 100 * 1000,
    FREED_JITTER_US = 4 * 1000, /* not the whole fleet at once */
    GHOST_FIRST_US = 20 * 1000, /* until a lost claim is looked for again */
    GHOST_MAX_US = 500 * 1000,
    HURRY_US = 1000 * 1000,
    PARKED_MAX = 4096,         /* jobs that occupy no thread, where nobody has set a bound */
    AWAY_US = 30 * 1000 * 1000 /* how long a stopping worker waits for a database that is gone */
};

/* Jobs in the pool at most: one for each thread, and what the measured speed of the handlers lets
 * them begin soon. */
static size_t handed_max(const engine_config *config)
{
    return (size_t)config->threads + 2 * (size_t)config->batch_size;
}

static bool make_lane(engine_lane *lane, size_t capacity, size_t entrypoints)
{
    lane->shares = calloc(entrypoints, sizeof(*lane->shares));
    lane->items = calloc(ENGINE_SETTLE_MAX, sizeof(*lane->items));
    lane->tokens = calloc(ENGINE_SETTLE_MAX, sizeof(*lane->tokens));
    lane->jobs = calloc(ENGINE_SETTLE_MAX, sizeof(*lane->jobs));
    lane->beat_tokens = calloc(capacity, sizeof(*lane->beat_tokens));
    lane->beat_jobs = calloc(capacity, sizeof(*lane->beat_jobs));
    lane->known = calloc(capacity, sizeof(*lane->known));
    lane->except = calloc(2 * capacity + LARGE_MAX, sizeof(*lane->except));
    lane->lease_shares = calloc(entrypoints, sizeof(*lane->lease_shares));
    lane->lease_items = calloc(ENGINE_SETTLE_MAX, sizeof(*lane->lease_items));
    lane->lease_jobs = calloc(ENGINE_SETTLE_MAX, sizeof(*lane->lease_jobs));
    lane->retry_at_us = CLOCK_NEVER;
    lane->backoff = (backoff){RECONNECT_FIRST_US, RECONNECT_MAX_US, 0};
    return lane->items != NULL && lane->tokens != NULL && lane->jobs != NULL &&
           lane->beat_tokens != NULL && lane->beat_jobs != NULL && lane->known != NULL &&
           lane->shares != NULL && lane->except != NULL && lane->lease_shares != NULL &&
           lane->lease_items != NULL && lane->lease_jobs != NULL;
}

/* All arrays; false without memory. */
static bool make_arrays(engine *e)
{
    size_t entrypoints = e->config.entrypoint_count;
    bool complete;

    e->records = calloc(e->capacity, sizeof(*e->records));
    e->actions = calloc(e->action_capacity, sizeof(*e->actions));
    e->cancelled = calloc(1, sizeof(*e->cancelled));
    e->buckets = calloc(entrypoints, sizeof(*e->buckets));
    e->texts = calloc(ENGINE_TEXTS, sizeof(*e->texts));
    e->timeout_texts = calloc(entrypoints, sizeof(*e->timeout_texts));
    complete = e->records != NULL && e->actions != NULL && e->cancelled != NULL &&
               e->buckets != NULL && e->texts != NULL && e->timeout_texts != NULL;
    complete = complete && engine_records_new(e);
    for (int i = 0; complete && i < e->lane_count; i++)
        complete = make_lane(&e->lanes[i], e->capacity, entrypoints);
    for (size_t i = 0; complete && i < entrypoints; i++) {
        e->buckets[i].cursors = calloc(CURSORS_MAX, sizeof(claim_cursor));
        complete = e->buckets[i].cursors != NULL;
    }
    return complete;
}

static void learn_entrypoints(engine *e)
{
    e->silence_us = e->config.heartbeat_timeout_us;
    for (size_t i = 0; i < e->config.entrypoint_count; i++) {
        const engine_entrypoint *entry = &e->config.entrypoints[i];

        e->limited |= entry->limit > 0;
        e->gated |=
            entry->limit > 0 || entry->rated || entry->silence_us != e->config.heartbeat_timeout_us;
        e->silence_us = base_min_i64(e->silence_us, entry->silence_us);
        (void)snprintf(e->timeout_texts[i], sizeof(e->timeout_texts[i]), "ran longer than %lld ms",
                       (long long)entry->timeout_us / 1000);
    }
}

pgq_code engine_new(const engine_config *config, engine **ret_engine)
{
    engine *e = calloc(1, sizeof(*e));
    size_t parked = config->held_max > 0 ? (size_t)config->held_max : PARKED_MAX;

    if (e == NULL)
        return PGQ_E_NOMEM;
    e->config = *config;
    e->random.state = config->seed;
    e->lane_count = config->lanes + 1;
    /* those with the pool, as many that wait to be settled, a claim and a lease's end on every
     * lane, and those that are parked */
    e->capacity =
        2 * handed_max(config) + 2 * (size_t)config->lanes * (size_t)config->batch_size + parked;
    e->action_capacity = 3 * e->capacity + 64;
    if (!make_arrays(e)) {
        (void)engine_free(e);
        return PGQ_E_NOMEM;
    }
    for (size_t i = 0; i < e->capacity; i++)
        list_append(&e->jobs[JOB_FREE], &e->records[i].link);
    while (e->free_text_count < ENGINE_TEXTS) {
        e->free_texts[e->free_text_count] = e->free_text_count;
        e->free_text_count++;
    }
    learn_entrypoints(e);
    engine_learn_sides(e);
    e->lease_most = (size_t)config->threads;
    e->fleet = 1;
    e->pace = (engine_pace){.lanes = 1, .look_at_us = CLOCK_NEVER};
    e->poll_at_us = e->beat_at_us = e->beat_again_us = e->stale_look_at_us = CLOCK_NEVER;
    e->survey_at_us = e->rate_at_us = e->alarm_at_us = CLOCK_NEVER;
    engine_fold_init(e);
    e->ping_at_us = e->ping_deadline_us = e->ping_self_us = CLOCK_NEVER;
    e->queue_due = true;
    e->cursor_floor = INT32_MIN;
    e->ghost_backoff = (backoff){GHOST_FIRST_US, GHOST_MAX_US, 0};
    e->contention_backoff = (backoff){CONTENTION_FIRST_US, CONTENTION_MAX_US, 0};
    e->drain_deadline_us = e->away_deadline_us = CLOCK_NEVER;
    e->refusal_backoff = (backoff){REFUSAL_FIRST_US, REFUSAL_MAX_US, 0};
    e->bad_row_backoff = e->release_backoff = e->orphan_backoff = e->refusal_backoff;
    e->brake_backoff = (backoff){REFUSAL_FIRST_US, BRAKE_MAX_US, 0};
    e->refused_again_us = e->orphans_again_us = e->unwritten_since_us = CLOCK_NEVER;
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
        free(e->lanes[i].shares);
        free(e->lanes[i].except);
        free(e->lanes[i].lease_shares);
        free(e->lanes[i].lease_items);
        free(e->lanes[i].lease_jobs);
    }
    free(e->cancelled);
    for (size_t i = 0; e->buckets != NULL && i < e->config.entrypoint_count; i++)
        free(e->buckets[i].cursors);
    free(e->by_id);
    free(e->buckets);
    free(e->texts);
    free(e->timeout_texts);
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

size_t engine_stragglers(const engine *e)
{
    return e->stragglers;
}

size_t engine_place(const engine *e, const void *name)
{
    return (size_t)((const engine_job *)name - e->records);
}

/* Which state of a job may follow which: the whole life of a record. */
static const bool job_moves[JOB_STATES][JOB_STATES] = {
    [JOB_FREE] =
        {[JOB_HANDED] = true, [JOB_GIVEN] = true, [JOB_FINISHED] = true, [JOB_DONE] = true},
    [JOB_HANDED] =
        {[JOB_FINISHED] = true, [JOB_DONE] = true, [JOB_GIVEN] = true, [JOB_FREE] = true},
    [JOB_FINISHED] = {[JOB_SETTLING] = true, [JOB_FREE] = true},
    [JOB_DONE] = {[JOB_SETTLING] = true, [JOB_FINISHED] = true, [JOB_FREE] = true},
    [JOB_SETTLING] =
        {[JOB_FINISHED] = true, [JOB_DONE] = true, [JOB_REFUSED] = true, [JOB_FREE] = true},
    [JOB_REFUSED] = {[JOB_FINISHED] = true, [JOB_DONE] = true, [JOB_FREE] = true},
    [JOB_GIVEN] = {[JOB_RELEASING] = true, [JOB_FINISHED] = true, [JOB_FREE] = true},
    [JOB_RELEASING] = {[JOB_GIVEN] = true, [JOB_FINISHED] = true, [JOB_FREE] = true},
};

void engine_move(engine *e, engine_job *job, job_state state)
{
    assert(job_moves[job->state][state]);
    if (job->state == JOB_HANDED && job->place != PLACE_POOL) {
        job->place = PLACE_POOL;
        e->away--;
    }
    if (job->lease != NULL)
        job->lease->lease.handed += (size_t)(state == JOB_HANDED) - (job->state == JOB_HANDED);
    list_remove(&e->jobs[job->state], &job->link);
    job->state = state;
    if (state == JOB_FREE)
        list_prepend(&e->jobs[state], &job->link); /* the caches still have it */
    else
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
    pgq_error *kept = &e->note_errors[e->note_error_count % BASE_COUNT(e->note_errors)];

    if (error != NULL) {
        *kept = *error;
        e->note_error_count++;
    }
    action->note = (engine_note){kind, lane, job_id, number, error != NULL ? kept : NULL};
}

void engine_forget(engine *e, engine_job *job)
{
    if (job->body != NULL)
        engine_act(e, ACTION_FORGET)->body = job->body;
    job->body = NULL;
    if (job->lease != NULL) {
        job->lease->lease.handed -= job->state == JOB_HANDED;
        list_remove(&job->lease->lease.jobs, &job->member);
        job->lease = NULL;
    }
    e->orphans -= job->orphan;
    job->orphan = false;
    if (job->text >= 0)
        e->free_texts[e->free_text_count++] = job->text;
    job->text = -1;
    job->own_type = job->own_message = NULL;
    engine_record_remove(e, job);
    engine_move(e, job, JOB_FREE);
}

void engine_wake(engine *e)
{
    e->wakes++;
    e->rows.hungry = e->rows.entrypoints > 0;
    e->leases.hungry = e->leases.entrypoints > 0;
    e->stale_hungry = true;
    e->queue_empty = false;
    e->queue_due = true;
}

void engine_start(engine *e, int64_t now_us)
{
    assert(e->state == ENGINE_NEW);
    e->state = ENGINE_STARTING;
    /* the control lane first: when it cannot connect, one error is enough */
    engine_connect_lane(e, 0);
    engine_plan(e, now_us);
}

/* ---- the end ---- */

static void finish(engine *e)
{
    e->state = ENGINE_FINISHED;
    engine_act(e, ACTION_FINISH)->note.error = &e->error;
}

static void begin_stop(engine *e, int64_t now_us)
{
    list *handed = &e->jobs[JOB_HANDED];

    e->state = ENGINE_STOPPING;
    if (e->jobs[JOB_REFUSED].count > 0)
        e->refused_again_us = now_us; /* once more, before they are left */
    if (e->orphans_again_us != CLOCK_NEVER)
        e->orphans_again_us = now_us;
    e->settle_not_before_us = 0;
    if (e->config.drain_timeout_us > 0)
        e->drain_deadline_us = now_us + e->config.drain_timeout_us;
    engine_say(e, NOTE_STOPPING, -1, 0, (int64_t)engine_held(e), NULL);
    for (list_link *link = handed->first, *next; link != NULL; link = next) {
        engine_job *job = LIST_ENTRY(link, engine_job, link);

        next = link->next;
        if (job->place == PLACE_POOL)
            engine_revoke(e, job);
        else if (job->place == PLACE_RESTING)
            engine_give_back(e, now_us, job);
    }
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

void engine_hurry(engine *e, int64_t now_us)
{
    engine_stop(e, now_us);
    if (e->state != ENGINE_STOPPING)
        return;
    engine_tell_all(e, WHY_STOP);
    e->drain_deadline_us = base_min_i64(e->drain_deadline_us, now_us + HURRY_US);
    engine_plan(e, now_us);
}

/* Handlers still run and may not be waited for any longer. */
static void drain_timeout(engine *e)
{
    size_t left = engine_held(e);

    engine_say(e, NOTE_DRAIN_TIMEOUT, -1, 0, (int64_t)e->jobs[JOB_HANDED].count, NULL);
    engine_tell_all(e, WHY_STOP);
    if (e->error.code == PGQ_OK) {
        (void)error_set(&e->error, PGQ_E_TIMEOUT,
                        "%zu %s still held when the time to drain was over: %zu of them running",
                        left, left == 1 ? "job was" : "jobs were", e->jobs[JOB_HANDED].count);
        error_hint(&e->error, "they are picked again after the heartbeat timeout");
    }
}

/* ---- notifications and time ---- */

void engine_notified(engine *e, int64_t now_us)
{
    engine_heard(e, now_us);
    engine_wake(e);
    e->look_again_us = 0;
    engine_plan(e, now_us);
}

/* A seat may be free. A whole fleet waits for it, and settles come in quick succession. */
void engine_freed(engine *e, int64_t now_us)
{
    engine_heard(e, now_us);
    engine_done_told(e, now_us);
    if (!e->slot_wanted)
        return;
    if (now_us < e->freed_not_before_us) {
        e->poll_at_us = base_min_i64(e->poll_at_us, e->freed_not_before_us);
        return;
    }
    e->freed_not_before_us =
        now_us + CONTENTION_FIRST_US + (int64_t)random_below(&e->random, FREED_JITTER_US);
    engine_wake(e);
    engine_plan(e, now_us);
}

static void poll_again(engine *e)
{
    e->poll_at_us = CLOCK_NEVER;
    engine_wake(e);
    e->lanes[0].listening = e->lanes[0].listening && !e->deaf; /* tries again */
    e->deaf = false;
}

static bool out_of_time(engine *e, int64_t now_us)
{
    if (now_us >= e->drain_deadline_us) {
        e->drain_deadline_us = CLOCK_NEVER;
        drain_timeout(e);
        return true;
    }
    if (now_us < e->away_deadline_us)
        return false;
    if (e->error.code == PGQ_OK)
        (void)error_set(&e->error, PGQ_E_CONNECTION_LOST,
                        "the database did not come back while %zu jobs were unsettled",
                        engine_held(e));
    return true;
}

void engine_tick(engine *e, int64_t now_us)
{
    if (e->state == ENGINE_FINISHED)
        return;
    for (int i = 0; i < e->lane_count; i++) {
        if (e->lanes[i].state == LANE_DOWN && now_us >= e->lanes[i].retry_at_us)
            engine_connect_lane(e, i);
    }
    if (now_us >= e->claim_not_before_us)
        e->claim_not_before_us = 0;
    if (now_us >= e->lease_not_before_us)
        e->lease_not_before_us = 0;
    if (now_us >= e->release_not_before_us)
        e->release_not_before_us = 0;
    if (now_us >= e->settle_not_before_us)
        e->settle_not_before_us = 0;
    if (now_us >= e->adopt_at_us)
        e->adopt_at_us = 0;
    if (now_us >= e->poll_at_us)
        poll_again(e);
    if (now_us >= e->rate_at_us) {
        e->rate_at_us = CLOCK_NEVER;
        engine_wake(e);
    }
    if (now_us >= e->alarm_at_us)
        engine_alarms(e, now_us);
    engine_listen_tick(e, now_us);
    engine_answers_tick(e, now_us);
    if (e->state != ENGINE_FINISHED && out_of_time(e, now_us))
        finish(e);
    else
        engine_plan(e, now_us);
}
