/* What the engine learns of the database, and not of a job: what is installed, whether it is heard,
 * when there may be something to do, who else works with which limits. */
#include "worker/engine_internal.h"
#include "base/error.h"

#include <stdio.h>

enum {
    LOOK_AGAIN_FIRST_US = 250 * 1000, /* while due rows are locked by others, or over their limit */
    LOOK_AGAIN_MAX_US = 1000 * 1000,
    DEAF_POLL_MIN_US = 10 * 1000, /* while the listener is not heard */
    DEAF_POLL_MAX_US = 1000 * 1000,
    HORIZON_AGE = 10, /* transactions: nothing younger than that has made sweeps dear */
    PING_AGAIN_US = 100 * 1000,
    SURVEY_AGAIN_US = 1000 * 1000
};

static void say_no_extras(engine *e)
{
    pgq_error error = PGQ_ERROR_INIT;

    (void)error_set(&error, PGQ_E_SCHEMA_MISSING,
                    "the extras are not installed, or this role may not use them: the log policy "
                    "failures counts as terminal; pgqueuer install --extras adds them");
    engine_say(e, NOTE_NO_EXTRAS, -1, 0, 0, &error);
}

void engine_hear_check(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    (void)lane;
    if (reply->refused) {
        engine_fail(e, now_us, &reply->error);
        return;
    }
    e->checked = true;
    e->extras = reply->extras;
    e->front = reply->front;
    e->front_free = reply->front_free;
    e->front_id = reply->front_id;
    e->front_entrypoint = reply->front_entrypoint;
    if (!reply->extras && e->config.extras_wanted)
        say_no_extras(e);
    for (int i = 1; i < e->lane_count; i++) {
        engine_lane_set(e, &e->lanes[i], LANE_CONNECTING);
        engine_act(e, ACTION_CONNECT)->lane = i;
    }
}

void engine_hear_listen(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    if (reply->refused && e->state == ENGINE_STARTING) {
        engine_fail(e, now_us, &reply->error);
        return;
    }
    if (reply->refused) {
        engine_say(e, NOTE_STATEMENT_REFUSED, 0, 0, 0, &reply->error);
        lane->listening = true; /* that is: not now */
        e->deaf = true;
        /* with the next poll it is said again, which must not wait for a claim that comes back
         * short; and if it cannot be said then, the lane is as good as dead */
        e->poll_at_us = base_min_i64(
            e->poll_at_us, now_us + base_min_i64(DEAF_POLL_MAX_US, e->config.probe_interval_us));
        e->ping_deadline_us = engine_suspect_at(e, e->poll_at_us);
        return;
    }
    lane->listening = true;
    e->deaf = false;
    if (e->state == ENGINE_STARTING) {
        e->state = ENGINE_RUNNING;
        e->stale_look_at_us = now_us;
        e->beat_at_us = now_us + e->silence_us / 2;
        e->survey_at_us = now_us;
        engine_fold_begin(e, now_us);
        e->adopt_wanted = e->config.only_job != 0;
        engine_say(e, NOTE_LISTENING, 0, 0, 0, NULL);
    }
    engine_listen_begin(e, now_us);
    engine_wake(e);
}

/* How often to look while the listener is not heard follows how often there is something. */
void engine_learn_arrivals(engine *e, size_t rows)
{
    int64_t most_us = base_min_i64(e->config.dequeue_timeout_us, DEAF_POLL_MAX_US);

    e->deaf_poll_us = rows > 0 ? base_max_i64(e->deaf_poll_us / 2, DEAF_POLL_MIN_US)
                               : base_min_i64(2 * e->deaf_poll_us, most_us);
}

/* How long a worker without anything to do may wait until it looks again. */
static int64_t plan_look(engine *e, int64_t now_us, const sentence_reply *reply)
{
    /* up to a tenth earlier, so that a fleet does not poll in step */
    int64_t wait_us = e->config.dequeue_timeout_us;
    bool current =
        reply->next_stale_us != 0 && !engine_hungry(e) && e->requeues == e->probe_requeues;

    wait_us -= (int64_t)random_below(&e->random, (uint64_t)(wait_us / 10 + 1));
    /* a retry that was settled while the probe was under way is not in what it saw; what a silent
     * worker left behind is to be drained too */
    e->queue_empty = current && !reply->queued;
    e->queue_due = !current || reply->due;
    e->slot_wanted = e->limited && reply->due;
    e->deferred = reply->deferred;
    if (reply->next_stale_us != CLOCK_NEVER)
        e->stale_look_at_us = base_min_i64(e->stale_look_at_us, now_us + reply->next_stale_us);
    if (reply->due || reply->next_stale_us == 0) {
        /* the last claim could not have it: somebody has locked it */
        e->look_again_us = e->look_again_us == 0
                               ? LOOK_AGAIN_FIRST_US
                               : base_min_i64(2 * e->look_again_us, LOOK_AGAIN_MAX_US);
        wait_us = base_min_i64(wait_us, e->look_again_us);
        e->end_stuck_wanted |= e->look_again_us >= LOOK_AGAIN_MAX_US &&
                               now_us >= e->end_stuck_at_us && e->leases.entrypoints > 0;
    } else {
        e->look_again_us = 0;
        wait_us = base_min_i64(wait_us, reply->next_stale_us);
    }
    if (e->listener != LISTENER_HEALTHY)
        wait_us = base_min_i64(wait_us, e->deaf_poll_us);
    return base_min_i64(wait_us, reply->next_due_us);
}

void engine_hear_probe(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    int64_t wait_us = e->config.dequeue_timeout_us;

    (void)lane;
    e->probing = false;
    if (reply->refused)
        engine_say(e, NOTE_STATEMENT_REFUSED, -1, 0, 0, &reply->error);
    else
        wait_us = plan_look(e, now_us, reply);
    /* a retry of ours that was settled after the probe may be due sooner than the probe knew */
    e->poll_at_us = base_min_i64(e->poll_at_us, now_us + base_max_i64(wait_us, 1000));
}

void engine_hear_ping(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    if (!reply->refused) {
        engine_ping_carried_out(e, lane);
        return;
    }
    engine_say(e, NOTE_STATEMENT_REFUSED, (int)(lane - e->lanes), 0, 0, &reply->error);
    if (e->ping_deadline_us != CLOCK_NEVER)
        e->ping_at_us = now_us + PING_AGAIN_US; /* its time goes on */
}

/* Once for each entrypoint and kind of difference. */
void engine_hear_survey(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    (void)lane;
    if (reply->refused) {
        engine_say(e, NOTE_STATEMENT_REFUSED, 0, 0, 0, &reply->error);
        e->survey_at_us = now_us + SURVEY_AGAIN_US;
        return;
    }
    for (size_t i = 0; i < e->config.entrypoint_count; i++)
        e->buckets[i].limited_elsewhere = false;
    for (size_t i = 0; i < reply->survey_count; i++) {
        const survey_row *row = &reply->survey[i];
        uint32_t bit = 1u << row->kind;

        e->buckets[row->entrypoint].limited_elsewhere |= row->kind == SURVEY_LIMITED;
        if ((e->buckets[row->entrypoint].noted & bit) != 0)
            continue;
        e->buckets[row->entrypoint].noted |= bit;
        engine_say(e, NOTE_LIMITS_DIFFER, -1, (int64_t)row->entrypoint + 1, (int64_t)row->kind,
                   NULL);
    }
    e->surveyed = true;
    engine_learn_sides(e);
}

/* Without it others look again in their own time. */
void engine_hear_announce(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    (void)now_us;
    if (!reply->refused)
        return;
    engine_say(e, NOTE_STATEMENT_REFUSED, (int)(lane - e->lanes), 0, 0, &reply->error);
    if (e->state == ENGINE_RUNNING) /* a worker that ends says it once */
        e->done_untold |= lane->flight.sentences[lane->answered - 1].of.announce.done;
}

/* Without the right to do so, the server's own timeouts are what is left. */
void engine_hear_end_stuck(engine *e, int64_t now_us, engine_lane *lane,
                           const sentence_reply *reply)
{
    (void)now_us;
    (void)lane;
    if (reply->refused || reply->number == 0)
        return;
    engine_say(e, NOTE_LEASE_ENDED, -1, 0, reply->number, NULL);
    engine_wake(e);
}

void engine_hear_horizon(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    pgq_error holder = PGQ_ERROR_INIT;

    (void)now_us;
    (void)lane;
    if (reply->refused || reply->holder == NULL || reply->number < HORIZON_AGE)
        return;
    (void)snprintf(holder.message, sizeof(holder.message), "%s", reply->holder);
    engine_say(e, NOTE_HORIZON_HELD, -1, 0, reply->number, &holder);
}
