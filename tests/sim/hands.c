/* A worker's pretended threads: they start jobs, and leave them unstarted, as the real pool and
 * driver do; and what its handlers do: end, park, rest, run out of time, never end. */
#include "sim.h"

body *hands_hear_row(worker *who, claim_record *claim, uint32_t entrypoint)
{
    world *w = who->world;
    body *b = sim_array(w, 1, sizeof(*b));
    int64_t heard_us = who->cancel_heard[claim->token.id - 1];

    *b = (body){.next = who->bodies,
                .worker = who,
                .claim = claim,
                .token = claim->token,
                .entrypoint = entrypoint,
                .heard_us = w->now_us,
                .cancelled_us = CLOCK_NEVER,
                .timeout_told_us = CLOCK_NEVER};
    if (heard_us > 0 && w->now_us < heard_us + REMEMBER_US) {
        b->cancelled_us = w->now_us;
        count_path(w, PATH_CANCEL_REMEMBERED);
    }
    who->bodies = b;
    who->kept++;
    claim->body = b;
    return b;
}

void hands_start(worker *who, const engine_action *action)
{
    body *b = action->body;
    world *w = who->world;

    if (b->forgotten || b->abandoned || (b->state != BODY_NEW && b->state != BODY_RESTING)) {
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
    if (b->state == BODY_RESTING && w->now_us < b->rests_until_us)
        violated(w, "I4: job %lld is started again before its rest is over",
                 (long long)b->token.id);
    oracle_lease_handed(b);
    if (b->state == BODY_RESTING) {
        who->resting--;
        count_path(w, PATH_RESTED);
    } else {
        who->in_pool++;
    }
    b->job = action->job;
    b->state = BODY_WAITING;
    b->timeout_told_us = CLOCK_NEVER;
    who->waiting[(who->waiting_first + who->waiting_count++) % who->waiting_capacity] = b;
    who->waiting_live++;
    event_add(w,
              (event){.at_us = w->now_us + between(w, 0, 100), .kind = EVENT_PICK, .worker = who});
}

void hands_leave_rest(body *b)
{
    if (b->state != BODY_RESTING)
        return;
    count_path(b->worker->world, PATH_REST_BROKEN);
    b->state = BODY_REVOKED;
    b->worker->resting--;
    b->worker->in_pool--;
}

static body *take_waiting(worker *who)
{
    while (who->waiting_count > 0) {
        body *b = who->waiting[who->waiting_first];

        who->waiting_first = (who->waiting_first + 1) % who->waiting_capacity;
        who->waiting_count--;
        if (b->state == BODY_WAITING) {
            who->waiting_live--;
            return b;
        }
    }
    return NULL;
}

/* Whether the claim cannot have been lost by time alone: since a beat that knew the job, or since
 * the claim was sent. */
static bool proven(const body *b)
{
    const worker *who = b->worker;
    int64_t since_us = b->kept ? b->kept_us : b->claim->sent_us;

    if (b->claim->lease != NULL && !b->kept)
        return who->world->now_us < b->claim->lease->deadline_us;
    if (who->beaten_us > b->heard_us)
        since_us = who->beaten_us;
    return who->world->now_us < since_us + who->entries[b->entrypoint].silence_us;
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

static void end_in(body *b, int64_t after_us)
{
    world *w = b->worker->world;

    event_add(w, (event){.at_us = w->now_us + after_us,
                         .kind = EVENT_RUN_END,
                         .worker = b->worker,
                         .tale = b->runs,
                         .what = b});
}

static void begin_run(body *b)
{
    worker *who = b->worker;
    world *w = who->world;

    b->state = BODY_RUNNING;
    b->began_us = w->now_us;
    b->runs++;
    who->busy++;
    count_path(w, PATH_RUN);
    trace_add(w, "run begins", who, -1, b->token.id, b->token.updated);
    oracle_began(b);
    if (w->entries[b->entrypoint].endless && w->endless_left > 0 && befalls(w, FAULT_ENDLESS))
        w->endless_left--;
    else
        end_in(b, handler_time(w));
    if (who->entries[b->entrypoint].timeout_us > 0)
        engine_started(who->engine, w->now_us, b->job);
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
        count_path(w, b->claim->lease != NULL && !b->kept ? PATH_LEASE_UNPROVEN : PATH_UNPROVEN);
        b->state = BODY_REVOKED;
        who->in_pool--;
        trace_add(w, "not started", who, -1, b->token.id, b->token.updated);
        engine_revoked(who->engine, w->now_us, b->job);
    }
    fleet_carry_out(who);
}

void hands_pick(worker *who)
{
    begin_runs(who);
}

/* ---- how handlers end ---- */

static engine_outcome draw_outcome(body *b)
{
    world *w = b->worker->world;
    int64_t kind = between(w, 0, 99);
    engine_outcome outcome = {
        .status = PGQ_STATUS_SUCCESSFUL,
        .text = chance(w, 7000) ? b : NULL,
        .run_us = base_max_i64(1, w->now_us - b->began_us),
    };

    if (outcome.text != NULL && b->token.updated % 32 == 0)
        outcome.text_bytes = (size_t)(b->token.updated * 7919 % ENGINE_SETTLE_TEXT_BYTES);

    if (b->told && chance(w, 6000)) {
        outcome.status = PGQ_STATUS_CANCELED;
    } else if (kind < 8) {
        outcome.status = PGQ_STATUS_EXCEPTION;
    } else if (kind < 11) {
        outcome.status = PGQ_STATUS_FAILED;
    } else if (kind < 11 + w->retry_share && w->now_us < w->enqueue_end_us) {
        outcome.status = PGQ_STATUS_QUEUED;
        outcome.delay_ms = chance(w, 3000) ? 0 : between(w, 1, 2000);
    }
    return outcome;
}

static void end_straggler(worker *who, body *b)
{
    world *w = who->world;

    b->state = BODY_ENDED;
    if (!b->in_thread)
        return;
    who->busy--;
    if (who->stragglers-- == (size_t)who->config.threads)
        who->exhausted_us = w->now_us;
    count_path(w, PATH_STRAGGLER_ENDED);
    trace_add(w, "straggler ends", who, -1, b->token.id, 0);
    engine_straggler_ended(who->engine, w->now_us);
    begin_runs(who);
}

static void park(worker *who, body *b)
{
    world *w = who->world;

    b->state = BODY_PARKED;
    count_path(w, PATH_PARKED);
    trace_add(w, "parks", who, -1, b->token.id, 0);
    end_in(b, handler_time(w));
    engine_parked(who->engine, w->now_us, b->job);
}

static void rest(worker *who, body *b)
{
    world *w = who->world;
    int64_t delay_us = between(w, 0, 300 * 1000);

    b->state = BODY_RESTING;
    b->rests_until_us = w->now_us + delay_us;
    who->resting++;
    trace_add(w, "rests", who, -1, b->token.id, delay_us);
    engine_resting(who->engine, w->now_us, b->job, delay_us);
}

void hands_run_end(worker *who, body *b, int run)
{
    world *w = who->world;
    bool parked = b->state == BODY_PARKED;

    if ((b->state != BODY_RUNNING && !parked) || b->runs != run)
        return; /* it was told, and ended earlier */
    if (b->abandoned) {
        end_straggler(who, b);
        return;
    }
    who->busy -= !parked;
    if (!parked && w->parks && chance(w, 1500)) {
        park(who, b);
    } else if (!parked && w->rests && b->runs < 4 && chance(w, 1500)) {
        rest(who, b);
    } else {
        b->state = BODY_ENDED;
        b->ended_us = w->now_us;
        b->outcome = draw_outcome(b);
        b->cancelled_first = b->cancelled_us != CLOCK_NEVER;
        who->in_pool--;
        trace_add(w, "run ends", who, -1, b->token.id, (int64_t)b->outcome.status);
        engine_outcome_of(who->engine, w->now_us, b->job, &b->outcome);
    }
    begin_runs(who);
}

/* ---- actions ---- */

static void leave_ring(worker *who, const body *b)
{
    size_t kept = 0, count = who->waiting_count;

    for (size_t i = 0; i < count; i++) {
        body *at = who->waiting[(who->waiting_first + i) % who->waiting_capacity];

        if (at == b)
            who->waiting_count--;
        else
            who->waiting[(who->waiting_first + kept++) % who->waiting_capacity] = at;
    }
}

static void take_back(worker *who, body *b)
{
    world *w = who->world;

    count_path(w, b->cancelled_us != CLOCK_NEVER ? PATH_CANCEL_UNSTARTED : PATH_REVOKED);
    b->state = BODY_REVOKED;
    leave_ring(who, b);
    who->in_pool--;
    who->waiting_live--;
    trace_add(w, "revoked", who, -1, b->token.id, b->token.updated);
    engine_revoked(who->engine, w->now_us, b->job);
}

void hands_revoke(worker *who, body *b)
{
    world *w = who->world;

    if (b->forgotten || b->abandoned) {
        violated(w, "I7: job %lld was revoked after it was forgotten", (long long)b->token.id);
        return;
    }
    if (b->state != BODY_WAITING)
        return;
    if (b->claim->lease != NULL && b->cancelled_us == CLOCK_NEVER && !b->told_lost &&
        chance(w, 5000)) {
        b->revoking = true;
        who->undecided++;
        event_add(w, (event){.at_us = w->now_us + between(w, 0, 150),
                             .kind = EVENT_REVOKE,
                             .worker = who,
                             .what = b});
        who->fence_us = base_max_i64(who->fence_us, w->now_us + 150);
        return;
    }
    take_back(who, b);
}

void hands_come_to(worker *who, body *b)
{
    b->revoking = false;
    who->undecided--;
    if (b->state == BODY_WAITING && !b->forgotten)
        take_back(who, b);
    fleet_carry_out(who);
}

void hands_fence(worker *who)
{
    world *w = who->world;

    if (who->undecided == 0 && chance(w, 5000)) {
        engine_fenced(who->engine, w->now_us);
        return;
    }
    who->fence_us = base_max_i64(who->fence_us, w->now_us) + between(w, 0, 50);
    if (who->undecided++ > 0) /* not before what a freeze has put off */
        who->fence_us = base_max_i64(who->fence_us, who->frozen_until_us + 101);
    event_add(w, (event){.at_us = who->fence_us, .kind = EVENT_FENCE, .worker = who});
}

void hands_keep(worker *who, body *b, int lane)
{
    oracle_kept(b);
    b->kept = true;
    b->token = b->claim->token;
    b->heard_us = who->world->now_us;
    b->kept_us = who->lanes[lane]->sent_us;
}

void hands_tell(worker *who, body *b, job_why why)
{
    world *w = who->world;

    if (b->forgotten || b->abandoned) {
        violated(w, "I7: the handler of job %lld was told after it was forgotten",
                 (long long)b->token.id);
        return;
    }
    oracle_told(b, why);
    count_path(w, PATH_TOLD_HANDLER);
    if (why == WHY_CANCELLED)
        count_path(w, PATH_CANCEL_TOLD);
    if (why == WHY_TIMEOUT) {
        count_path(w, PATH_TIMED_OUT);
        b->timeout_told_us = w->now_us;
    }
    b->told = true;
    b->told_stop |= why == WHY_STOP;
    trace_add(w, "told to end", who, -1, b->token.id, (int64_t)why);
    if ((b->state == BODY_RUNNING || b->state == BODY_PARKED) && chance(w, 6000) &&
        !w->entries[b->entrypoint].endless)
        end_in(b, between(w, 10, 10 * 1000));
}

void hands_abandon(worker *who, body *b)
{
    world *w = who->world;

    oracle_abandoned(b);
    if (w->failed)
        return;
    count_path(w, b->state == BODY_PARKED ? PATH_ABANDONED_PARKED : PATH_ABANDONED);
    trace_add(w, "gives up", who, -1, b->token.id, 0);
    b->abandoned = true;
    b->cancelled_first = b->cancelled_us != CLOCK_NEVER;
    b->ended_us = w->now_us;
    b->in_thread = b->state == BODY_RUNNING;
    who->stragglers += b->in_thread;
    if (who->stragglers == (size_t)who->config.threads) {
        count_path(w, PATH_EXHAUSTED);
        who->exhausted_us = CLOCK_NEVER;
    }
    who->in_pool--;
    who->kept--;
    who->gave_up++;
}
