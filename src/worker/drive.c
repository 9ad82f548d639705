#include "worker/drive_internal.h"
#include "base/clock.h"
#include "base/error.h"
#include "queue/ledger.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum { PULSE_MS = 1000 };

static void carry_out(drive *d);
static void serve(drive_lane *lane);

/* ---- watching descriptors ---- */

static void free_watch(uv_handle_t *handle)
{
    free(handle->data);
}

static void unwatch(drive_lane *lane)
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
        unwatch(lane);
    (void)pg_conn_process(lane->conn, clock_monotonic_us());
    serve(lane);
    carry_out(lane->drive);
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
        unwatch(lane);
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

    unwatch(lane);
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

static void set_claim_times(void *body, int64_t sent_us, int64_t heard_us)
{
    pgq_job *job = body;

    if (job == NULL)
        return;
    job->claimed_us = sent_us;
    job->heard_us = heard_us;
}

/* The sentence is answered and, now that its sync has come, committed. */
static void hear(drive_lane *lane)
{
    drive *d = lane->drive;
    const sentence *said;
    sentence_reply reply;

    assert(lane->flight != NULL && lane->heard < lane->flight->count);
    said = &lane->flight->sentences[lane->heard];
    speaker_hear(&d->speaker, said, &lane->reply, &reply);
    if (said->kind == SENTENCE_BEAT && !reply.refused && !reply.incomplete)
        atomic_store(&d->beaten_us, lane->flown_us);
    for (size_t i = 0; i < reply.row_count; i++)
        set_claim_times(reply.rows[i].body, lane->flown_us, clock_monotonic_us());
    if (++lane->heard == lane->flight->count)
        lane->flight = NULL;
    engine_reply(d->engine, clock_monotonic_us(), lane->index, &reply);
    carry_out(d);
}

static void take_reply(drive_lane *lane, pg_reply *reply)
{
    switch (reply->kind) {
    case PG_REPLY_ROWS:
    case PG_REPLY_ERROR:
    case PG_REPLY_SKIPPED:
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
    if (work)
        engine_notified(d->engine, now_us);
    else if (freed)
        engine_freed(d->engine, now_us);
    if (heard)
        carry_out(d);
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
        carry_out(d);
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
    unwatch(lane);
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

static void push_starts(drive *d)
{
    if (d->start_count > 0)
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
        unwatch(lane);
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
    wait_ms = clock_poll_ms(clock_monotonic_us(), at);
    if (wait_ms < 0) {
        (void)uv_timer_stop(&d->timer);
        return;
    }
    uv_update_time(&d->loop);
    (void)uv_timer_start(&d->timer, on_timer, (uint64_t)wait_ms, 0);
}

/* Carries out all actions, also those that carrying out brings about. */
static void carry_out(drive *d)
{
    engine_action action;

    while (!d->finished && engine_next(d->engine, &action))
        act(d, &action);
    if (d->finished)
        return;
    push_starts(d);
    set_timer(d);
}

static void on_timer(uv_timer_t *timer)
{
    drive *d = timer->data;
    int64_t now_us = clock_monotonic_us();

    for (int i = 0; i < d->lane_count; i++) {
        if (now_us < pg_conn_deadline_us(d->lanes[i].conn))
            continue;
        unwatch(&d->lanes[i]);
        (void)pg_conn_process(d->lanes[i].conn, now_us);
        serve(&d->lanes[i]);
    }
    if (now_us >= engine_deadline(d->engine))
        engine_tick(d->engine, now_us);
    carry_out(d);
}

/* ---- what others ask for, what the pool says ---- */

static void wake_for_outcomes(void *user)
{
    drive *d = user;

    (void)uv_async_send(&d->wake);
}

/* Somebody asks for something: pgq_worker_stop and its like. */
static void on_control(uv_poll_t *handle, int status, int events)
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
    carry_out(d);
}

static void on_wake(uv_async_t *async)
{
    drive *d = async->data;
    size_t count;

    while (!d->finished && (count = pool_take(d->pool, d->outcomes, d->capacity)) > 0) {
        int64_t now_us = clock_monotonic_us();

        for (size_t i = 0; i < count; i++)
            drive_take_outcome(d, now_us, &d->outcomes[i]);
        carry_out(d);
    }
}

/* ---- life ---- */

const pgq_worker_counts *drive_counts(const drive *d)
{
    return engine_counts(d->engine);
}

static pgq_code open_loop(drive *d)
{
    if (uv_loop_init(&d->loop) != 0)
        return PGQ_E_NOMEM;
    d->loop_open = true;
    (void)uv_timer_init(&d->loop, &d->timer); /* cannot fail */
    (void)uv_timer_init(&d->loop, &d->pulse);
    d->timer.data = d->pulse.data = d;
    d->wake.data = d;
    d->control.data = d;
    if (uv_async_init(&d->loop, &d->wake, on_wake) != 0 ||
        uv_poll_init(&d->loop, &d->control, d->config.control_fd) != 0 ||
        uv_poll_start(&d->control, UV_READABLE, on_control) != 0)
        return PGQ_E_IO;
    return PGQ_OK;
}

static pgq_code open_parts(drive *d)
{
    const drive_config *config = &d->config;
    pgq_code code = open_loop(d);

    if (code == PGQ_OK)
        code = engine_new(&config->engine, &d->engine);
    if (code != PGQ_OK)
        return code;
    d->capacity = engine_capacity(d->engine);
    d->starts = calloc(d->capacity, sizeof(*d->starts));
    d->outcomes = calloc(d->capacity, sizeof(*d->outcomes));
    d->speaker_entrypoints = calloc(config->entrypoint_count, sizeof(*d->speaker_entrypoints));
    if (d->starts == NULL || d->outcomes == NULL || d->speaker_entrypoints == NULL)
        return PGQ_E_NOMEM;
    for (size_t i = 0; i < config->entrypoint_count; i++)
        d->speaker_entrypoints[i] = (speaker_entrypoint){
            .name = config->entrypoints[i].name,
            .user = config->entrypoints[i].user,
            .limit = config->engine.entrypoints[i].limit,
            .silence_ms = config->engine.entrypoints[i].silence_us / 1000,
            .never = config->engine.entrypoints[i].rated && config->engine.entrypoints[i].rate <= 0,
        };
    code = speaker_init(&d->speaker, &config->worker, d->speaker_entrypoints,
                        config->entrypoint_count, config->engine.heartbeat_timeout_us, d->capacity);
    while (code == PGQ_OK && d->lane_count <= config->engine.lanes) {
        drive_lane *lane = &d->lanes[d->lane_count];

        lane->drive = d;
        lane->index = d->lane_count;
        code = pg_conn_new(config->target, config->statements, &lane->conn);
        if (code == PGQ_OK)
            d->lane_count++;
    }
    if (code == PGQ_OK)
        code = pool_new(config->engine.threads, d->capacity, drive_run_job, wake_for_outcomes, d,
                        &d->pool);
    return code;
}

pgq_code drive_open(const drive_config *config, drive **ret_drive, pgq_error *err)
{
    drive *d = calloc(1, sizeof(*d));
    pgq_code code;

    if (d == NULL)
        return error_nomem(err);
    d->config = *config;
    code = open_parts(d);
    if (code != PGQ_OK) {
        (void)drive_close(d);
        return error_set(err, code, "the worker cannot be set up: %s", pgq_strerror(code));
    }
    *ret_drive = d;
    return PGQ_OK;
}

static void on_pulse(uv_timer_t *timer)
{
    drive *d = timer->data;

    ledger_alive(d->config.ledger, clock_monotonic_us());
}

pgq_code drive_run(drive *d, pgq_error *err)
{
    char id_text[UUID_TEXT_BYTES];

    ledger_name(d->config.ledger, uuid_format(&d->config.worker, id_text));
    on_pulse(&d->pulse);
    if (d->config.ledger != NULL)
        (void)uv_timer_start(&d->pulse, on_pulse, PULSE_MS, PULSE_MS);
    engine_start(d->engine, clock_monotonic_us());
    carry_out(d);
    while (!d->finished)
        (void)uv_run(&d->loop, UV_RUN_DEFAULT);
    ledger_clear(d->config.ledger);
    if (d->error.code != PGQ_OK && err != NULL)
        *err = d->error;
    return d->error.code;
}

static void close_handle(uv_handle_t *handle, void *unused)
{
    (void)unused;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

bool drive_handlers_run(const drive *d)
{
    return d->engine != NULL && d->finished && (engine_running(d->engine) > 0 || d->abandoned > 0);
}

drive *drive_close(drive *d)
{
    bool abandon;

    if (d == NULL)
        return NULL;
    abandon = drive_handlers_run(d);
    d->pool = pool_free(d->pool, abandon);
    for (int i = 0; i < d->lane_count; i++) {
        unwatch(&d->lanes[i]);
        result_release(&d->lanes[i].reply.result);
        (void)pg_conn_free(d->lanes[i].conn);
    }
    if (abandon)
        return NULL; /* the handlers' threads use the rest */
    if (d->loop_open) {
        uv_walk(&d->loop, close_handle, NULL);
        /* a uv_stop before the loop ever ran ends the first of these at once */
        do
            (void)uv_run(&d->loop, UV_RUN_DEFAULT);
        while (uv_loop_close(&d->loop) == UV_EBUSY);
    }
    speaker_release(&d->speaker);
    free(d->speaker_entrypoints);
    (void)engine_free(d->engine);
    free(d->starts);
    free(d->outcomes);
    free(d);
    return NULL;
}
