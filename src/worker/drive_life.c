/* The driver's life: everything is made before it runs, and freed when no handler runs any more. */
#include "base/clock.h"
#include "base/error.h"
#include "queue/ledger.h"
#include "worker/drive_internal.h"

#include <stdlib.h>

enum { PULSE_MS = 1000 };

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
    if (uv_async_init(&d->loop, &d->wake, drive_on_wake) != 0 ||
        uv_poll_init(&d->loop, &d->control, d->config.control_fd) != 0 ||
        uv_poll_start(&d->control, UV_READABLE, drive_on_control) != 0)
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
            .log_policy = config->entrypoints[i].options.log_policy,
            .never = config->engine.entrypoints[i].rated && config->engine.entrypoints[i].rate <= 0,
        };
    code = speaker_init(&d->speaker, &config->worker, d->speaker_entrypoints,
                        config->entrypoint_count, config->engine.heartbeat_timeout_us, d->capacity);
    while (code == PGQ_OK && d->lane_count <= config->engine.lanes) {
        drive_lane *lane = &d->lanes[d->lane_count];

        lane->drive = d;
        lane->index = d->lane_count;
        code = pg_conn_new(config->target, config->statements, &lane->conn);
        if (code == PGQ_OK && lane->index > 0) /* the control lane says nothing often */
            pg_conn_fix_plans(lane->conn);
        if (code == PGQ_OK)
            d->lane_count++;
    }
    if (code == PGQ_OK)
        code =
            pool_new(config->engine.threads, d->capacity, drive_run_job, drive_wake, d, &d->pool);
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
    drive_carry_out(d);
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
        drive_unwatch(&d->lanes[i]);
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
