/* Workers: each an engine, and what it wants done. */
#include "sim.h"
#include "base/error.h"

static void set_tick(worker *who)
{
    world *w = who->world;
    int64_t at_us = engine_deadline(who->engine);

    if (at_us == CLOCK_NEVER)
        return;
    /* the driver's timer counts whole milliseconds */
    at_us = w->now_us + base_max_i64(0, (at_us - w->now_us + 999) / 1000 * 1000);
    if (at_us >= who->tick_at_us)
        return;
    who->tick_at_us = at_us;
    if (befalls(w, FAULT_LATE_TICK))
        at_us += between(w, 1000, 50 * 1000);
    event_add(
        w,
        (event){.at_us = at_us, .kind = EVENT_TICK, .worker = who, .tale = ++who->tick_generation});
}

static void on_tick(worker *who, const event *e)
{
    world *w = who->world;

    if (e->tale != who->tick_generation)
        return;
    who->tick_at_us = CLOCK_NEVER;
    if (w->now_us >= engine_deadline(who->engine)) {
        trace_add(w, "tick", who, -1, 0, 0);
        engine_tick(who->engine, w->now_us);
        fleet_carry_out(who);
        oracle_ticked(who);
    } else {
        set_tick(who);
    }
}

/* Whether it may claim: a thread is free, and it may hold one more. */
static bool has_room(const worker *who)
{
    const engine_config *config = &who->config;

    return who->alive && who->ready && !who->stopping && config->only_job == 0 &&
           who->world->now_us >= who->frozen_until_us &&
           who->waiting_live + (size_t)who->busy < (size_t)config->threads &&
           (config->held_max == 0 || engine_held(who->engine) < (size_t)config->held_max);
}

static bool lane_good(const worker *who, int lane)
{
    const connection *c = who->lanes[lane];

    return c != NULL && c->ready && !c->cut && !network_silent(c);
}

static void update_since(int64_t *since_us, bool holds, int64_t now_us)
{
    if (!holds)
        *since_us = CLOCK_NEVER;
    else if (*since_us == CLOCK_NEVER)
        *since_us = now_us;
}

void fleet_update_idle(worker *who)
{
    world *w = who->world;
    bool settles = false, claims = has_room(who),
         done = who->stopping && oracle_all_refused(who, 2); /* the first time with its own text */

    for (int i = 1; i < who->lane_count; i++) {
        const connection *c = who->lanes[i];

        claims = claims && lane_good(who, i);
        settles |= c != NULL && c->ready;
        done = done && lane_good(who, i) && c->heard == c->said_count;
    }
    for (const body *b = who->bodies; b != NULL; b = b->next)
        done = done && !b->abandoned; /* its job is settled without it */
    update_since(&who->done_since_us, done, w->now_us);
    update_since(&who->lanes_lost_us, !settles, w->now_us);
    update_since(&who->control_lost_us, who->lanes[0] == NULL || !who->lanes[0]->ready, w->now_us);
    update_since(&who->claims_since_us, claims, w->now_us);
    update_since(&who->idle_since_us, claims && lane_good(who, 0), w->now_us);
}

/* ---- actions ---- */

static void note(worker *who, const engine_note *n)
{
    world *w = who->world;

    trace_add(w, "notes", who, n->lane, (int64_t)n->kind, n->job_id != 0 ? n->job_id : n->number);
    switch (n->kind) {
    case NOTE_LISTENING:
        who->ready = true;
        break;
    case NOTE_STOPPING:
        who->stopping = true;
        who->stop_us = w->now_us;
        for (const body *b = who->bodies; b != NULL; b = b->next)
            who->stopped_unsettled |= !b->forgotten && !b->abandoned && b->claim->refused;
        break;
    case NOTE_LISTENER_FAILED:
    case NOTE_LISTENER_RESTORED:
        oracle_listen_noted(who, n);
        break;
    case NOTE_LIMITS_DIFFER:
        oracle_surveyed(who, n);
        break;
    case NOTE_DEFERRED:
        if (n->number != who->probe_deferred)
            violated(w, "I6: worker %d says that %lld jobs are deferred; its probe saw %lld",
                     (int)who->serial, (long long)n->number, (long long)who->probe_deferred);
        break;
    default:
        break;
    }
}

static void end_worker(worker *who)
{
    world *w = who->world;

    for (body *b = who->bodies; b != NULL; b = b->next) {
        if (b->state == BODY_RUNNING || b->state == BODY_PARKED) {
            b->state = BODY_ENDED; /* the process ends, and its handlers with it */
            b->ended_us = w->now_us;
        }
    }
    oracle_check_rates(who);
    network_drop(who);
    who->alive = false;
    who->engine = engine_free(who->engine);
    fleet_update_idle(who);
}

static void act(worker *who, const engine_action *action)
{
    world *w = who->world;
    pgq_error error = PGQ_ERROR_INIT;

    switch (action->kind) {
    case ACTION_CONNECT:
        network_connect(who, action->lane);
        break;
    case ACTION_CLOSE:
        network_close(who, action->lane);
        break;
    case ACTION_FLY:
        if (network_fly(who, action->lane, action->flight))
            break;
        (void)error_set(&error, PGQ_E_NOMEM, "it could not be sent");
        engine_lane_lost(who->engine, w->now_us, action->lane, &error);
        break;
    case ACTION_START:
        hands_start(who, action);
        break;
    case ACTION_KEEP:
        hands_keep(who, action->body, action->lane);
        break;
    case ACTION_FENCE:
        hands_fence(who);
        break;
    case ACTION_REVOKE:
        hands_revoke(who, action->body);
        break;
    case ACTION_TELL:
        hands_tell(who, action->body, action->why);
        break;
    case ACTION_ABANDON:
        hands_abandon(who, action->body);
        break;
    case ACTION_FORGET:
        oracle_forgot(action->body);
        break;
    case ACTION_NOTE:
        note(who, &action->note);
        break;
    case ACTION_FINISH:
        trace_add(w, "ends", who, -1, (int64_t)action->note.error->code,
                  (int64_t)engine_held(who->engine));
        oracle_ended(who, action->note.error);
        end_worker(who);
        break;
    }
}

void fleet_carry_out(worker *who)
{
    engine_action action;

    while (who->alive && !who->world->failed && engine_next(who->engine, &action))
        act(who, &action);
    if (!who->alive || who->world->failed)
        return;
    who->adopt_due |= who->adopt_soon;
    who->adopt_soon = false;
    oracle_counted(who);
    set_tick(who);
    fleet_update_idle(who);
}

/* ---- life ---- */

static int32_t draw_limit(world *w)
{
    return chance(w, 4500) ? 0 : (int32_t)between(w, 1, 3);
}

static pgq_lane draw_lane(world *w)
{
    int64_t kind = between(w, 0, 99);

    if (w->lease_us == 0)
        return PGQ_LANE_ROW;
    return kind < 50 ? PGQ_LANE_AUTO : kind < 88 ? PGQ_LANE_LEASE : PGQ_LANE_ROW;
}

static engine_entrypoint draw_entry(world *w, bool plain)
{
    static const double rates[] = {0.8, 3, 12, 40, 200};
    engine_entrypoint entry = {
        .limit = plain ? 0 : draw_limit(w),
        .rated = !plain && chance(w, 2000),
        .silence_us = w->heartbeat_us,
        .failure = chance(w, 5000) ? PGQ_STATUS_EXCEPTION : PGQ_STATUS_FAILED,
        .lane = draw_lane(w),
    };

    if (entry.rated)
        entry.rate = chance(w, 1000) ? 0 : rates[between(w, 0, (int64_t)BASE_COUNT(rates) - 1)];
    if (!plain && chance(w, 2500) && w->heartbeat_us >= 1000 * 1000)
        entry.silence_us = chance(w, 7000) ? w->heartbeat_us / 2 : 2 * w->heartbeat_us;
    if (chance(w, 2500)) {
        entry.timeout_us = between(w, 5 * 1000, 300 * 1000);
        entry.grace_us = between(w, 0, 200 * 1000);
    }
    return entry;
}

void fleet_draw_entries(world *w)
{
    /* without limits, rates and retry timers a job waits for nothing but a worker that looks */
    bool plain = chance(w, 4500);

    w->entry_count = (size_t)between(w, 1, MODEL_ENTRIES_MAX);
    w->same_limits = plain || !chance(w, 1500);
    for (size_t i = 0; i < w->entry_count; i++) {
        entry_plan *entry = &w->entries[i];

        entry->options = draw_entry(w, plain);
        entry->never = entry->options.rated && entry->options.rate <= 0;
        entry->endless = entry->options.timeout_us > 0 && chance(w, 3000);
    }
}

model_caller fleet_caller(const worker *who)
{
    return (model_caller){
        .manager = who->serial, .entries = who->registered, .entry_count = who->world->entry_count};
}

static void learn_entries(worker *who)
{
    world *w = who->world;

    for (size_t i = 0; i < w->entry_count; i++) {
        who->entries[i] = w->entries[i].options;
        if (!w->same_limits && chance(w, 4000))
            who->entries[i].limit = draw_limit(w);
        who->registered[i] = (model_entry){who->entries[i].limit, who->entries[i].silence_us};
    }
    who->config.entrypoints = who->entries;
    who->config.entrypoint_count = w->entry_count;
}

static engine_config draw_config(world *w, bool may_drain, int64_t only_job)
{
    engine_config config = {
        .lanes = (int)between(w, 1, 3),
        .threads = (int)between(w, 1, 6),
        .batch_size = (int)between(w, 1, 12),
        .drain = may_drain && chance(w, 5000),
        .end_when_deaf = may_drain && chance(w, 2000),
        .only_job = only_job,
        .dequeue_timeout_us = w->dequeue_us,
        .heartbeat_timeout_us = w->heartbeat_us,
        .lease_us = w->lease_us > 0 ? w->lease_us : 250 * 1000,
        .probe_interval_us = w->probe_interval_us,
        .probe_timeout_us = w->probe_timeout_us,
        .aggregate_interval_us = w->aggregate_us,
        .held_max = chance(w, 1500) ? (int)between(w, 1, 8) : (int)between(w, 60, 200),
        .seed = random_next(&w->random),
    };

    config.drain_now = config.drain && chance(w, 4000);
    if (chance(w, 500))
        config.held_max = 0;
    if (chance(w, 2500))
        config.drain_timeout_us = between(w, 50 * 1000, 2 * w->heartbeat_us);
    return config;
}

void fleet_begin(world *w, bool may_drain, int64_t only_job)
{
    worker *who;

    if (w->worker_count == SIM_WORKERS_MAX)
        return;
    who = sim_array(w, 1, sizeof(*who));
    *who = (worker){
        .world = w,
        .serial = (int64_t)w->worker_count + 1,
        .config = draw_config(w, may_drain, only_job),
        .alive = true,
        .lane_away = -1,
        .tick_at_us = CLOCK_NEVER,
        .idle_since_us = CLOCK_NEVER,
        .claims_since_us = CLOCK_NEVER,
        .done_since_us = CLOCK_NEVER,
        .disturbed_us = -1,
        .hampered_us = -BACKOFF_US,
        .held_up_us = -BACKOFF_US,
        .claim_lost_us = -GHOST_US - BACKOFF_US,
        .adopt_refused_us = -BACKOFF_US,
        .vain_us = CLOCK_NEVER,
        .unwritten_us = CLOCK_NEVER,
        .lanes_lost_us = CLOCK_NEVER,
        .control_lost_us = CLOCK_NEVER,
        .deaf_noted_us = CLOCK_NEVER,
        .settled_us = {CLOCK_NEVER, CLOCK_NEVER},
        .announce_us = CLOCK_NEVER,
        .untold_us = CLOCK_NEVER,
        .announced_us = -1,
        .hurried_us = CLOCK_NEVER,
        .missed_us = -1,
        .exhausted_us = -1,
        .listen_hurt_us = -1,
    };
    learn_entries(who);
    who->cancel_heard = sim_array(w, w->jobs_planned, sizeof(int64_t));
    who->lane_count = who->config.lanes + 1;
    if (engine_new(&who->config, &who->engine) != PGQ_OK) {
        violated(w, "no memory for an engine");
        return;
    }
    who->waiting_capacity = engine_capacity(who->engine);
    who->waiting = sim_array(w, who->waiting_capacity, sizeof(body *));
    w->workers[w->worker_count++] = who;
    trace_add(w, "worker begins: lanes, threads", who, -1, who->config.lanes, who->config.threads);
    engine_start(who->engine, w->now_us);
    fleet_carry_out(who);
}

void fleet_stop(worker *who)
{
    trace_add(who->world, "is asked to stop", who, -1, 0, 0);
    who->asked_to_stop = true;
    engine_stop(who->engine, who->world->now_us);
    fleet_carry_out(who);
}

void fleet_hurry(worker *who)
{
    world *w = who->world;

    trace_add(w, "is asked to end at once", who, -1, 0, 0);
    who->asked_to_stop = true;
    who->hurried_us = base_min_i64(who->hurried_us, w->now_us);
    engine_hurry(who->engine, w->now_us);
    fleet_carry_out(who);
    for (const body *b = who->bodies; who->alive && b != NULL; b = b->next) {
        if (!b->told && !b->forgotten && !b->abandoned &&
            (b->state == BODY_RUNNING || b->state == BODY_PARKED))
            violated(w, "I4: worker %d hurries and has not told job %lld", (int)who->serial,
                     (long long)b->token.id);
    }
}

void fleet_kill(worker *who)
{
    trace_add(who->world, "is killed", who, -1, 0, (int64_t)engine_held(who->engine));
    end_worker(who);
}

size_t fleet_alive(const world *w)
{
    size_t count = 0;

    for (size_t i = 0; i < w->worker_count; i++)
        count += w->workers[i]->alive;
    return count;
}

static void on_fence(worker *who)
{
    trace_add(who->world, "fenced", who, -1, 0, 0);
    who->undecided--;
    engine_fenced(who->engine, who->world->now_us);
    fleet_carry_out(who);
}

void fleet_event(world *w, const event *e)
{
    (void)w;
    if (e->kind == EVENT_TICK)
        on_tick(e->worker, e);
    else if (e->kind == EVENT_PICK)
        hands_pick(e->worker);
    else if (e->kind == EVENT_REVOKE)
        hands_come_to(e->worker, e->what);
    else if (e->kind == EVENT_FENCE)
        on_fence(e->worker);
    else
        hands_run_end(e->worker, e->what, e->tale);
}
