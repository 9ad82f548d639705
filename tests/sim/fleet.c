/* Workers: each an engine, the jobs in its memory, and a pool of pretended threads that start
 * jobs, and leave them unstarted, as the real pool and driver do. */
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

void fleet_update_idle(worker *who)
{
    world *w = who->world;
    bool settles = false;
    bool idle = who->alive && who->ready && !who->stopping && w->now_us >= who->frozen_until_us &&
                who->in_pool < (size_t)who->config.threads;

    for (int i = 0; idle && i < who->lane_count; i++)
        idle = who->lanes[i] != NULL && who->lanes[i]->ready && !who->lanes[i]->cut;
    for (int i = 1; i < who->lane_count; i++)
        settles |= who->lanes[i] != NULL && who->lanes[i]->ready;
    if (settles)
        who->lanes_lost_us = CLOCK_NEVER;
    else if (who->lanes_lost_us == CLOCK_NEVER)
        who->lanes_lost_us = w->now_us;
    if (!idle)
        who->idle_since_us = CLOCK_NEVER;
    else if (who->idle_since_us == CLOCK_NEVER)
        who->idle_since_us = w->now_us;
}

/* ---- the pool ---- */

body *fleet_hear_row(worker *who, claim_record *claim)
{
    world *w = who->world;
    body *b = sim_array(w, 1, sizeof(*b));

    *b = (body){.next = who->bodies,
                .worker = who,
                .claim = claim,
                .token = claim->token,
                .heard_us = w->now_us};
    who->bodies = b;
    who->kept++;
    claim->body = b;
    return b;
}

static void start_job(worker *who, const engine_action *action)
{
    body *b = action->body;
    world *w = who->world;

    if (b->forgotten || b->state != BODY_NEW) {
        violated(w, "I2: job %lld was started twice or after it was forgotten",
                 (long long)b->token.id);
        return;
    }
    if (who->stopping) {
        violated(w, "I4: worker %d starts job %lld after it was asked to stop", (int)who->serial,
                 (long long)b->token.id);
        return;
    }
    if (who->waiting_count == who->waiting_capacity) {
        violated(w, "I7: more jobs in the pool than the engine has room for");
        return;
    }
    b->job = action->job;
    b->state = BODY_WAITING;
    who->waiting[(who->waiting_first + who->waiting_count++) % who->waiting_capacity] = b;
    who->in_pool++;
    event_add(w,
              (event){.at_us = w->now_us + between(w, 0, 100), .kind = EVENT_PICK, .worker = who});
}

static body *take_waiting(worker *who)
{
    while (who->waiting_count > 0) {
        body *b = who->waiting[who->waiting_first];

        who->waiting_first = (who->waiting_first + 1) % who->waiting_capacity;
        who->waiting_count--;
        if (b->state == BODY_WAITING)
            return b;
    }
    return NULL;
}

/* Whether the claim cannot have been lost by time alone: since a beat that knew the job, or since
 * the claim was sent. */
static bool proven(const body *b)
{
    const worker *who = b->worker;
    int64_t since_us = b->claim->sent_us;

    if (who->beaten_us > b->heard_us)
        since_us = who->beaten_us;
    return who->world->now_us < since_us + who->world->heartbeat_us;
}

static int64_t handler_time(world *w)
{
    int64_t kind = between(w, 0, 99);

    if (kind < 50)
        return between(w, 0, 2000);
    if (kind < 85 || !w->long_handlers)
        return between(w, 2000, 50 * 1000);
    return between(w, 50 * 1000, w->longest_handler_us);
}

static void begin_run(body *b)
{
    worker *who = b->worker;
    world *w = who->world;

    b->state = BODY_RUNNING;
    b->began_us = w->now_us;
    who->busy++;
    count_path(w, PATH_RUN);
    trace_add(w, "run begins", who, -1, b->token.id, b->token.updated);
    oracle_began(b);
    event_add(w, (event){.at_us = w->now_us + handler_time(w),
                         .kind = EVENT_RUN_END,
                         .worker = who,
                         .what = b});
}

static void begin_runs(worker *who)
{
    world *w = who->world;
    body *b;

    while (who->busy < who->config.threads && (b = take_waiting(who)) != NULL) {
        if (proven(b)) {
            begin_run(b);
            continue;
        }
        count_path(w, PATH_UNPROVEN);
        b->state = BODY_REVOKED;
        who->in_pool--;
        trace_add(w, "not started", who, -1, b->token.id, b->token.updated);
        engine_revoked(who->engine, w->now_us, b->job);
    }
    fleet_carry_out(who);
}

static engine_outcome draw_outcome(body *b)
{
    world *w = b->worker->world;
    int64_t kind = between(w, 0, 99);
    engine_outcome outcome = {
        .status = PGQ_STATUS_SUCCESSFUL,
        .text = chance(w, 7000) ? b : NULL,
        .run_us = base_max_i64(1, w->now_us - b->began_us),
    };

    if (b->told && chance(w, 6000)) {
        outcome.status = PGQ_STATUS_CANCELED;
    } else if (kind < 8) {
        outcome.status = PGQ_STATUS_EXCEPTION;
    } else if (kind < 11) {
        outcome.status = PGQ_STATUS_FAILED;
    } else if (kind < 20 && w->now_us < w->enqueue_end_us) {
        outcome.status = PGQ_STATUS_QUEUED;
        outcome.delay_ms = chance(w, 3000) ? 0 : between(w, 1, 2000);
    }
    return outcome;
}

static void on_run_end(worker *who, body *b)
{
    world *w = who->world;

    if (b->state != BODY_RUNNING)
        return; /* it was told, and ended earlier */
    b->state = BODY_ENDED;
    b->ended_us = w->now_us;
    b->outcome = draw_outcome(b);
    who->busy--;
    who->in_pool--;
    trace_add(w, "run ends", who, -1, b->token.id, (int64_t)b->outcome.status);
    engine_outcome_of(who->engine, w->now_us, b->job, &b->outcome);
    begin_runs(who);
}

/* ---- actions ---- */

static void revoke(worker *who, body *b)
{
    world *w = who->world;

    if (b->forgotten) {
        violated(w, "I7: job %lld was revoked after it was forgotten", (long long)b->token.id);
        return;
    }
    if (b->state != BODY_WAITING)
        return;
    count_path(w, PATH_REVOKED);
    b->state = BODY_REVOKED;
    who->in_pool--;
    trace_add(w, "revoked", who, -1, b->token.id, b->token.updated);
    engine_revoked(who->engine, w->now_us, b->job);
}

static void tell(worker *who, body *b)
{
    world *w = who->world;

    if (b->forgotten) {
        violated(w, "I7: the handler of job %lld was told after it was forgotten",
                 (long long)b->token.id);
        return;
    }
    count_path(w, PATH_TOLD_HANDLER);
    b->told = true;
    trace_add(w, "told to end", who, -1, b->token.id, b->token.updated);
    if (b->state == BODY_RUNNING && chance(w, 6000))
        event_add(w, (event){.at_us = w->now_us + between(w, 10, 10 * 1000),
                             .kind = EVENT_RUN_END,
                             .worker = who,
                             .what = b});
}

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
        break;
    default:
        break;
    }
}

static void end_worker(worker *who)
{
    world *w = who->world;

    for (body *b = who->bodies; b != NULL; b = b->next) {
        if (b->state == BODY_RUNNING) {
            b->state = BODY_ENDED; /* the process ends, and its handlers with it */
            b->ended_us = w->now_us;
        }
    }
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
        start_job(who, action);
        break;
    case ACTION_REVOKE:
        revoke(who, action->body);
        break;
    case ACTION_TELL:
        tell(who, action->body);
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

static engine_config draw_config(world *w, bool may_drain)
{
    engine_config config = {
        .lanes = (int)between(w, 1, 3),
        .threads = (int)between(w, 1, 6),
        .batch_size = (int)between(w, 1, 12),
        .drain = may_drain && chance(w, 5000),
        .dequeue_timeout_us = w->dequeue_us,
        .heartbeat_timeout_us = w->heartbeat_us,
        .seed = random_next(&w->random),
    };

    if (chance(w, 2500))
        config.drain_timeout_us = between(w, 50 * 1000, 2 * w->heartbeat_us);
    return config;
}

void fleet_begin(world *w, bool may_drain)
{
    worker *who;

    if (w->worker_count == SIM_WORKERS_MAX)
        return;
    who = sim_array(w, 1, sizeof(*who));
    *who = (worker){
        .world = w,
        .serial = (int64_t)w->worker_count + 1,
        .config = draw_config(w, may_drain),
        .alive = true,
        .lane_away = -1,
        .tick_at_us = CLOCK_NEVER,
        .idle_since_us = CLOCK_NEVER,
        .disturbed_us = -1,
        .hampered_us = -BACKOFF_US,
        .lanes_lost_us = CLOCK_NEVER,
        .missed_us = -1,
    };
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

void fleet_event(world *w, const event *e)
{
    (void)w;
    if (e->kind == EVENT_TICK)
        on_tick(e->worker, e);
    else if (e->kind == EVENT_PICK)
        begin_runs(e->worker);
    else
        on_run_end(e->worker, e->what);
}
