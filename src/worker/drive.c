#include "worker/drive_internal.h"
#include "base/clock.h"
#include "base/error.h"
#include "queue/ledger.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum { LOOK_US = 1000 }; /* so long a quick job's outcome may wait for others */

static bool take_outcomes(drive *d);
static void serve(drive_lane *lane);

/* ---- watching descriptors ---- */

static void free_watch(uv_handle_t *handle)
{
    free(handle->data);
}

void drive_unwatch(drive_lane *lane)
{
    watch *w = lane->watch;

    if (w == NULL)
        return;
    lane->watch = NULL;
    (void)uv_poll_stop(&w->poll);
    w->poll.data = w;
    uv_close((uv_handle_t *)&w->poll, free_watch);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    drive_lane *lane = handle->data;

    (void)events;
    /* While it connects, libpq may close the descriptor and open another with its number. After
     * an error, which shows when the connection is used, libuv has stopped watching. */
    if (status < 0 || pg_conn_state(lane->conn) == PG_CONNECTING)
        drive_unwatch(lane);
    (void)take_outcomes(lane->drive); /* they travel with what is said next */
    (void)pg_conn_process(lane->conn, clock_monotonic_us());
    serve(lane);
    drive_carry_out(lane->drive);
}

/* Watches what the connection waits for. False: it cannot be watched. */
static bool watch_again(drive_lane *lane)
{
    int fd = pg_conn_fd(lane->conn), events = 0;
    int wanted = fd >= 0 ? pg_conn_events(lane->conn) : 0;
    watch *w = lane->watch;

    events |= (wanted & POLLIN) != 0 ? UV_READABLE : 0;
    events |= (wanted & POLLOUT) != 0 ? UV_WRITABLE : 0;
    if (w != NULL && w->fd == fd && w->events == events)
        return true;
    if (w == NULL || w->fd != fd) {
        drive_unwatch(lane);
        if (fd < 0)
            return true;
        w = calloc(1, sizeof(*w));
        if (w == NULL)
            return false;
        if (uv_poll_init(&lane->drive->loop, &w->poll, fd) != 0) {
            free(w);
            return false;
        }
        w->poll.data = lane;
        w->fd = fd;
        lane->watch = w;
    }
    w->events = events;
    return uv_poll_start(&w->poll, events, on_poll) == 0;
}

/* ---- lanes ---- */

static void lose_lane(drive_lane *lane, const pgq_error *error)
{
    pgq_error copy = *error;

    drive_unwatch(lane);
    if (pg_conn_state(lane->conn) != PG_BROKEN)
        pg_conn_close(lane->conn);
    result_release(&lane->reply.result);
    lane->flight = NULL;
    lane->ready_told = false;
    engine_lane_lost(lane->drive->engine, clock_monotonic_us(), lane->index, &copy);
}

static void lose_lane_by_ourselves(drive_lane *lane, pgq_code code)
{
    pgq_error error = PGQ_ERROR_INIT;

    (void)error_set(&error, code, "%s", pgq_strerror(code));
    error.retryable = true;
    lose_lane(lane, &error);
}

static void set_claim_times(pgq_job *job, int64_t sent_us, int64_t heard_us, int64_t until_us)
{
    if (job == NULL)
        return;
    atomic_store_explicit(&job->claimed_us, sent_us, memory_order_relaxed);
    atomic_store_explicit(&job->heard_us, heard_us, memory_order_relaxed);
    atomic_store_explicit(&job->lease_until_us, until_us, memory_order_relaxed);
}

/* What one lane has found out, each of the others would find out by losing its session. */
static void spread_pooled(drive *d)
{
    for (int i = 0; i < d->lane_count; i++)
        pg_conn_set_pooled(d->lanes[i].conn);
}

/* The sentence is answered and, now that its sync has come, committed. */
static void hear(drive_lane *lane)
{
    drive *d = lane->drive;
    const sentence *said;
    sentence_reply reply;
    int64_t now_us = clock_monotonic_us(), until_us = 0;

    assert(lane->flight != NULL && lane->heard < lane->flight->count);
    said = &lane->flight->sentences[lane->heard];
    speaker_hear(&d->speaker, said, &lane->reply, &reply);
    if (reply.refused && pg_conn_is_pooled(lane->conn))
        spread_pooled(d);
    if (said->kind == SENTENCE_BEAT && !reply.refused && !reply.incomplete)
        atomic_store(&d->beaten_us, lane->flown_us);
    if (said->kind == SENTENCE_LEASE)
        until_us = engine_lease_until(&d->config.engine, said, lane->flown_us, now_us);
    for (size_t i = 0; i < reply.row_count; i++)
        set_claim_times(reply.rows[i].body, lane->flown_us, now_us, until_us);
    if (++lane->heard == lane->flight->count)
        lane->flight = NULL;
    engine_reply(d->engine, now_us, lane->index, &reply);
    drive_carry_out(d);
}

static void take_reply(drive_lane *lane, pg_reply *reply)
{
    switch (reply->kind) {
    case PG_REPLY_SKIPPED:
        break; /* an earlier statement of the sentence has failed, and says why */
    case PG_REPLY_ROWS:
    case PG_REPLY_ERROR:
        result_release(&lane->reply.result);
        lane->reply = *reply;
        break;
    case PG_REPLY_SYNC:
        hear(lane);
        break;
    case PG_REPLY_LOST:
        lose_lane(lane, &reply->error);
        break;
    case PG_REPLY_NONE:
        break;
    }
}

/* Tells the engine what the notifications of the channel say. Those of one kind that arrive
 * together are one; any of them shows that the listener is heard. */
static void take_notifications(drive_lane *lane)
{
    drive *d = lane->drive;
    const char *channel, *payload;
    bool heard = false, work = false, freed = false;
    int64_t now_us;

    while (pg_conn_notification(lane->conn, &channel, &payload)) {
        /* A lane that does not listen gets notifications only when a pooler lends it a session
         * that does. They must not pass for a sign that the listener is heard. */
        if (lane->index != 0 || !base_streq(channel, d->config.names->channel))
            continue;
        heard = true;
        switch (event_read(payload, &d->event)) {
        case EVENT_WORK:
            work = true;
            break;
        case EVENT_FREED:
            freed = true;
            break;
        case EVENT_CANCELLED:
            engine_cancelled(d->engine, clock_monotonic_us(), d->event.ids, d->event.id_count);
            break;
        case EVENT_HEALTH:
        case EVENT_NOTHING:
            break;
        }
    }
    now_us = clock_monotonic_us();
    if (heard)
        engine_heard(d->engine, now_us);
    if (freed)
        engine_freed(d->engine, now_us);
    if (work)
        engine_notified(d->engine, now_us);
    if (heard)
        drive_carry_out(d);
}

/* Takes everything that a connection has for us, and watches it again. */
static void serve(drive_lane *lane)
{
    drive *d = lane->drive;
    pg_reply reply;

    if (pg_conn_state(lane->conn) == PG_READY && !lane->ready_told) {
        lane->ready_told = true;
        engine_lane_ready(d->engine, clock_monotonic_us(), lane->index,
                          pg_conn_backend(lane->conn));
        drive_carry_out(d);
    }
    do {
        pg_conn_next(lane->conn, &reply);
        take_notifications(lane); /* what came before a sync is told before it: see engine_heard */
        take_reply(lane, &reply);
    } while (reply.kind != PG_REPLY_NONE && reply.kind != PG_REPLY_LOST);
    if (!watch_again(lane))
        lose_lane_by_ourselves(lane, PGQ_E_NOMEM);
}

/* ---- actions ---- */

static void connect_lane(drive_lane *lane)
{
    drive_unwatch(lane);
    lane->flight = NULL;
    lane->ready_told = false;
    pg_conn_connect(lane->conn, clock_monotonic_us());
    serve(lane);
}

static void fly(drive_lane *lane, const engine_flight *flight)
{
    lane->flight = flight;
    lane->flown_us = clock_monotonic_us();
    lane->heard = 0;
    for (size_t i = 0; i < flight->count; i++) {
        pgq_code code = speaker_say(&lane->drive->speaker, lane->conn, &flight->sentences[i]);

        if (code != PGQ_OK) {
            /* half a flight is queued: only a new connection is clean again */
            lose_lane_by_ourselves(lane, code);
            return;
        }
    }
    if (!watch_again(lane))
        lose_lane_by_ourselves(lane, PGQ_E_NOMEM);
}

/* Outcomes of quick jobs are taken by chunks: the pool does not wake us for each of them. */
static void hush(drive *d)
{
    d->hushed = true;
    d->look_at_us = engine_running(d->engine) > 0 ? clock_monotonic_us() + LOOK_US : CLOCK_NEVER;
    pool_set_quiet(d->pool, true, d->run_us);
}

static void push_starts(drive *d)
{
    if (d->start_count == 0)
        return;
    if (d->quick)
        hush(d);
    pool_push(d->pool, d->starts, d->start_count);
    d->start_count = 0;
}

static void revoke_job(drive *d, pgq_job *job)
{
    push_starts(d);
    if (pool_revoke(d->pool, job))
        engine_revoked(d->engine, clock_monotonic_us(), job->engine_job);
}

static void finish(drive *d, const pgq_error *error)
{
    d->finished = true;
    d->error = *error;
    uv_stop(&d->loop);
}

static void note(drive *d, const engine_note *what)
{
    if (what->kind == NOTE_LIMITS_DIFFER)
        note_limits(&d->config.log, d->config.entrypoints[what->job_id - 1].name,
                    (survey_kind)what->number);
    else
        note_engine(&d->config.log, what);
    if (what->kind == NOTE_LISTENING || what->kind == NOTE_STOPPING)
        ledger_listening(d->config.ledger, what->kind == NOTE_LISTENING);
}

static void act(drive *d, const engine_action *action)
{
    drive_lane *lane = &d->lanes[base_max_i64(action->lane, 0)]; /* of actions that have one */
    pgq_job *job = action->body;

    switch (action->kind) {
    case ACTION_CONNECT:
        connect_lane(lane);
        break;
    case ACTION_CLOSE:
        drive_unwatch(lane);
        pg_conn_close(lane->conn);
        lane->flight = NULL;
        lane->ready_told = false;
        break;
    case ACTION_FLY:
        fly(lane, action->flight);
        break;
    case ACTION_START:
        drive_start_job(d, action);
        break;
    case ACTION_REVOKE:
        revoke_job(d, job);
        break;
    case ACTION_KEEP:
        set_claim_times(job, lane->flown_us, clock_monotonic_us(), 0);
        break;
    case ACTION_FENCE: /* a revocation is decided when it is carried out */
        engine_fenced(d->engine, clock_monotonic_us());
        break;
    case ACTION_TELL:
        push_starts(d);
        pool_tell(d->pool, job, action->why);
        break;
    case ACTION_ABANDON:
        job->abandoned = true;
        d->abandoned++;
        break;
    case ACTION_FORGET:
        ledger_end(d->config.ledger, job->place, job->id);
        job_free(job);
        break;
    case ACTION_NOTE:
        note(d, &action->note);
        break;
    case ACTION_FINISH:
        finish(d, action->note.error);
        break;
    }
}

static void on_timer(uv_timer_t *timer);

static void set_timer(drive *d)
{
    int64_t at = engine_deadline(d->engine);
    int wait_ms;

    for (int i = 0; i < d->lane_count; i++)
        at = base_min_i64(at, pg_conn_deadline_us(d->lanes[i].conn));
    if (d->hushed)
        at = base_min_i64(at, d->look_at_us);
    wait_ms = clock_poll_ms(clock_monotonic_us(), at);
    if (wait_ms < 0) {
        (void)uv_timer_stop(&d->timer);
        return;
    }
    uv_update_time(&d->loop);
    (void)uv_timer_start(&d->timer, on_timer, (uint64_t)wait_ms, 0);
}

/* Carries out all actions, also those that carrying out brings about. */
void drive_carry_out(drive *d)
{
    engine_action action;

    while (!d->finished && engine_next(d->engine, &action))
        act(d, &action);
    if (d->finished)
        return;
    push_starts(d);
    set_timer(d);
}

static bool take_outcomes(drive *d)
{
    bool any = false;

    while (!d->finished && drive_take_outcomes(d)) {
        any = true;
        drive_carry_out(d);
    }
    return any;
}

/* Takes what the pool says, and decides how it is to be heard from now on. */
static void look(drive *d)
{
    if (take_outcomes(d) && d->quick) {
        hush(d);
        if (pool_stands_still(d->pool)) /* whose thread has a slow job beside parked ones */
            pool_stir(d->pool);
    } else if (d->hushed) {
        d->hushed = false;
        pool_set_quiet(d->pool, false, 0);
        pool_stir(d->pool);     /* the one thread that has been woken has a slow job */
        (void)take_outcomes(d); /* what was said meanwhile woke nobody */
    }
}

static void on_timer(uv_timer_t *timer)
{
    drive *d = timer->data;
    int64_t now_us;

    if (d->hushed)
        look(d);
    now_us = clock_monotonic_us();
    for (int i = 0; i < d->lane_count; i++) {
        if (now_us < pg_conn_deadline_us(d->lanes[i].conn))
            continue;
        drive_unwatch(&d->lanes[i]);
        (void)pg_conn_process(d->lanes[i].conn, now_us);
        serve(&d->lanes[i]);
    }
    if (now_us >= engine_deadline(d->engine))
        engine_tick(d->engine, now_us);
    drive_carry_out(d);
}

/* ---- what others ask for, what the pool says ---- */

void drive_wake(void *user)
{
    drive *d = user;

    (void)uv_async_send(&d->wake);
}

/* Somebody asks for something: pgq_worker_stop and its like. */
void drive_on_control(uv_poll_t *handle, int status, int events)
{
    drive *d = handle->data;
    uint64_t count;
    int asked;

    (void)status;
    (void)events;
    if (read(d->config.control_fd, &count, sizeof(count)) < 0) {
        /* somebody else has: it is only a bell */
    }
    asked = atomic_fetch_and(d->config.asked, ~(int)DRIVE_REPORT);
    if ((asked & DRIVE_REPORT) != 0) {
        engine_report report;

        engine_get_report(d->engine, &report);
        note_report(&d->config.log, &report, engine_counts(d->engine));
    }
    if ((asked & DRIVE_HURRY) != 0 && !d->hurried) {
        d->hurried = true;
        engine_hurry(d->engine, clock_monotonic_us());
    } else if ((asked & DRIVE_STOP) != 0 && !d->stopped) {
        engine_stop(d->engine, clock_monotonic_us());
    }
    d->stopped |= (asked & (DRIVE_STOP | DRIVE_HURRY)) != 0;
    drive_carry_out(d);
}

void drive_on_wake(uv_async_t *async)
{
    drive *d = async->data;

    look(d);
    if (!d->finished)
        set_timer(d);
}
