/* Whether the listener is heard: a probe goes out on another lane (see ping_due), and any event of
 * the channel must come in on the control lane before its time is over.
 *
 *   down --heard--> healthy --time over--> suspect --and still--> failed --heard--> healthy
 *     `-----------------------time over------^
 *
 * While it is not healthy the worker polls. A listener that fails ends the run if so configured; if
 * not, its lane is connected anew, and the probes go on. */
#include "worker/engine_internal.h"
#include "base/error.h"

enum {
    SUSPECT_US = 500 * 1000, /* for what is in the socket already: this process may have slept */
    DEAF_POLL_FIRST_US = 100 * 1000
};

void engine_listen_begin(engine *e, int64_t now_us)
{
    e->ping_at_us = now_us;
    e->ping_deadline_us = e->ping_self_us = CLOCK_NEVER;
    if (e->deaf_poll_us == 0)
        e->deaf_poll_us = DEAF_POLL_FIRST_US;
}

/* The last part of a probe's time, in which its listener is a suspect. */
static int64_t suspect_us(const engine *e)
{
    return base_min_i64(SUSPECT_US, e->config.probe_timeout_us / 4);
}

int64_t engine_suspect_at(const engine *e, int64_t said_us)
{
    return said_us + e->config.probe_timeout_us - suspect_us(e);
}

void engine_ping_begins(engine *e, int64_t now_us)
{
    if (e->ping_deadline_us != CLOCK_NEVER)
        return;
    e->ping_deadline_us = engine_suspect_at(e, now_us);
    e->ping_self_us = now_us + e->config.probe_timeout_us / 2;
}

/* If it was said in the time that runs: an answer that was long on its way says nothing of this
 * one. */
void engine_ping_carried_out(engine *e, const engine_lane *lane)
{
    int64_t begun_us = e->ping_self_us - e->config.probe_timeout_us / 2;

    if (lane->flown_us >= begun_us)
        e->ping_self_us = CLOCK_NEVER;
}

void engine_heard(engine *e, int64_t now_us)
{
    if (!e->lanes[0].listening || e->deaf)
        return; /* LISTEN itself is to be answered yet */
    e->ping_deadline_us = e->ping_self_us = CLOCK_NEVER;
    if (e->listener == LISTENER_FAILED && e->lanes[0].state != LANE_IDLE) {
        /* A pooler that swallowed everything lends the lane a listening session while it says
         * something. What has failed must be heard in silence to be in order again. */
        e->ping_at_us = base_min_i64(e->ping_at_us, now_us + SUSPECT_US);
        return;
    }
    if (e->listener == LISTENER_HEALTHY)
        return;
    if (e->listener == LISTENER_FAILED)
        engine_say(e, NOTE_LISTENER_RESTORED, -1, 0, 0, NULL);
    e->listener = LISTENER_HEALTHY;
    e->deaf_poll_us = DEAF_POLL_FIRST_US;
}

/* No silent failure: it is said, and ends the run or is mended. */
static void fail_listener(engine *e, int64_t now_us, const pgq_error *error)
{
    if (e->listener != LISTENER_FAILED)
        engine_say(e, NOTE_LISTENER_FAILED, -1, 0, e->config.probe_timeout_us / 1000, error);
    e->listener = LISTENER_FAILED;
    e->ping_at_us = e->ping_deadline_us = e->ping_self_us = CLOCK_NEVER;
    engine_wake(e);
    if (e->config.end_when_deaf && !e->config.drain)
        engine_fail(e, now_us, error);
}

void engine_listen_lost(engine *e, int64_t now_us, bool was_listening, const pgq_error *error)
{
    pgq_error failing = PGQ_ERROR_INIT;

    e->ping_at_us = e->ping_deadline_us = e->ping_self_us = CLOCK_NEVER;
    if (e->state != ENGINE_RUNNING)
        return;
    if (was_listening && e->config.end_when_deaf && !e->config.drain) {
        (void)error_set(&failing, PGQ_E_FAILING_LISTENER,
                        "FailingListenerError: the listener's connection was lost: %s",
                        error->message);
        fail_listener(e, now_us, &failing);
    } else if (e->listener != LISTENER_FAILED) {
        e->listener = LISTENER_DOWN;
        /* from now on it polls, and not when it would have looked with a listener */
        e->poll_at_us = base_min_i64(e->poll_at_us, now_us + e->deaf_poll_us);
    }
}

/* The time of the probe is over. */
static void probe_unanswered(engine *e, int64_t now_us)
{
    pgq_error error = PGQ_ERROR_INIT;

    if (e->listener == LISTENER_HEALTHY || e->listener == LISTENER_DOWN) {
        e->listener = LISTENER_SUSPECT;
        e->ping_deadline_us = now_us + suspect_us(e);
        return;
    }
    (void)error_set(&error, PGQ_E_FAILING_LISTENER,
                    "FailingListenerError: the health check did not come back within %lld ms",
                    (long long)(e->config.probe_timeout_us / 1000));
    error_hint(&error, "is there a pooler in transaction mode, or a network that drops packets, "
                       "between the worker and the database?");
    fail_listener(e, now_us, &error);
    if (e->state != ENGINE_RUNNING || e->lanes[0].state < LANE_IDLE)
        return;
    engine_act(e, ACTION_CLOSE)->lane = 0;
    engine_lane_down(e, now_us, 0);
}

void engine_listen_tick(engine *e, int64_t now_us)
{
    if (e->state != ENGINE_RUNNING)
        return;
    if (now_us >= e->ping_deadline_us)
        probe_unanswered(e, now_us);
    else if (now_us >= e->ping_at_us && e->ping_deadline_us == CLOCK_NEVER)
        /* said as soon as a lane is idle; if that takes too long, it is as good as dead */
        engine_ping_begins(e, now_us);
}
