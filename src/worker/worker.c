/* The public face of the worker: registration, checks of options, run and stop. */
#include <pgqueuer/worker.h>

#include "base/error.h"
#include "base/utf8.h"
#include "pg/names.h"
#include "pg/statement.h"
#include "pg/target.h"
#include "worker/drive.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct pgq_worker {
    target target;
    names names;
    statements *statements;
    entrypoint *entrypoints;
    size_t entrypoint_count, entrypoint_capacity;
    uuid id;
    char id_text[UUID_TEXT_BYTES];
    int stop_fd;    /* an eventfd: written once, never read */
    drive *drive;   /* while it runs */
    bool used;      /* pgq_worker_run was called */
    bool abandoned; /* handlers still run, and may use the entrypoints */
    pgq_worker_counts counts;
};

pgq_code pgq_worker_new(const pgq_connect_options *options, pgq_worker **ret_worker, pgq_error *err)
{
    pgq_connect_options own = PGQ_CONNECT_OPTIONS_INIT;
    pgq_worker *w;
    pgq_code code = base_copy_options(&own, sizeof(own), options, "pgq_connect_options", err);

    if (code != PGQ_OK)
        return code;
    w = calloc(1, sizeof(*w));
    if (w == NULL)
        return error_nomem(err);
    w->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->stop_fd < 0)
        code = error_set(err, PGQ_E_IO, "no descriptor is left for the worker");
    else if (uuid_new(&w->id) != PGQ_OK)
        code = error_set(err, PGQ_E_IO, "the kernel has no random numbers");
    (void)uuid_format(&w->id, w->id_text);
    if (code == PGQ_OK)
        code = names_resolve(own.names, &w->names, err);
    if (code == PGQ_OK)
        code = target_parse(&own, &w->target, err);
    if (code == PGQ_OK)
        code = statements_new(&w->names, &w->statements, err);
    if (code != PGQ_OK) {
        (void)pgq_worker_free(w);
        return code;
    }
    *ret_worker = w;
    return PGQ_OK;
}

pgq_worker *pgq_worker_free(pgq_worker *w)
{
    if (w == NULL)
        return NULL;
    for (size_t i = 0; !w->abandoned && i < w->entrypoint_count; i++)
        free(w->entrypoints[i].name);
    if (!w->abandoned)
        free(w->entrypoints);
    if (w->stop_fd >= 0)
        (void)close(w->stop_fd);
    (void)statements_free(w->statements);
    target_release(&w->target);
    names_release(&w->names);
    free(w);
    return NULL;
}

static pgq_code check_entrypoint(const pgq_worker *w, const char *name, pgq_handler handler,
                                 const pgq_entrypoint_options *options, pgq_error *err)
{
    if (!base_given(name))
        return error_set(err, PGQ_E_INVALID, "the entrypoint's name is empty");
    if (strlen(name) > PGQ_ENTRYPOINT_BYTES_MAX)
        return error_set(err, PGQ_E_LIMIT,
                         "the entrypoint's name has %zu bytes; at most %zu are "
                         "allowed",
                         strlen(name), PGQ_ENTRYPOINT_BYTES_MAX);
    if (!utf8_valid(name, strlen(name)))
        return error_set(err, PGQ_E_INVALID, "the entrypoint's name is not valid UTF-8");
    if (handler == NULL)
        return error_set(err, PGQ_E_INVALID, "the handler of %.200s is NULL", name);
    if (options->on_failure != PGQ_ON_FAILURE_DELETE && options->on_failure != PGQ_ON_FAILURE_HOLD)
        return error_set(err, PGQ_E_INVALID, "on_failure of %.200s is none of the choices: %d",
                         name, (int)options->on_failure);
    for (size_t i = 0; i < w->entrypoint_count; i++) {
        if (base_streq(w->entrypoints[i].name, name))
            return error_set(err, PGQ_E_INVALID, "%.200s already in registry, name must be unique.",
                             name);
    }
    return PGQ_OK;
}

pgq_code pgq_worker_entrypoint(pgq_worker *w, const char *name, pgq_handler handler, void *user,
                               const pgq_entrypoint_options *options, pgq_error *err)
{
    pgq_entrypoint_options own = PGQ_ENTRYPOINT_OPTIONS_INIT;
    pgq_code code = base_copy_options(&own, sizeof(own), options, "pgq_entrypoint_options", err);
    char *copy;

    if (code == PGQ_OK && w->used)
        code = error_set(err, PGQ_E_STATE, "entrypoints are registered before the worker runs");
    if (code == PGQ_OK)
        code = check_entrypoint(w, name, handler, &own, err);
    if (code != PGQ_OK)
        return code;
    if (w->entrypoint_count >= PGQ_ENTRYPOINTS_MAX)
        return error_set(err, PGQ_E_LIMIT, "a worker has at most %d entrypoints",
                         PGQ_ENTRYPOINTS_MAX);
    if (w->entrypoint_count == w->entrypoint_capacity) {
        size_t capacity = w->entrypoint_capacity > 0 ? w->entrypoint_capacity * 2 : 8;
        entrypoint *grown = realloc(w->entrypoints, capacity * sizeof(*grown));

        if (grown == NULL)
            return error_nomem(err);
        w->entrypoints = grown;
        w->entrypoint_capacity = capacity;
    }
    if (base_strdup(name, &copy) != PGQ_OK)
        return error_nomem(err);
    w->entrypoints[w->entrypoint_count++] = (entrypoint){copy, handler, user, own};
    return PGQ_OK;
}

static pgq_code check_range(const char *what, int64_t value, int64_t min, int64_t max,
                            pgq_error *err)
{
    if (value >= min && value <= max)
        return PGQ_OK;
    return error_set(err, PGQ_E_INVALID, "%s must be from %lld to %lld, is %lld", what,
                     (long long)min, (long long)max, (long long)value);
}

static int default_threads(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return (int)base_min_i64(base_max_i64(cores, 4), PGQ_THREADS_MAX);
}

/* Reads and checks the caller's options into the engine's. */
static pgq_code read_options(const pgq_run_options *given, pgq_run_options *own,
                             engine_config *config, pgq_error *err)
{
    const int64_t day_ms = 86400000;
    pgq_code code;

    *own = (pgq_run_options)PGQ_RUN_OPTIONS_INIT;
    code = base_copy_options(own, sizeof(*own), given, "pgq_run_options", err);
    if (code != PGQ_OK)
        return code;
    if (own->threads == 0)
        own->threads = default_threads();
    if (own->mode != PGQ_MODE_CONTINUOUS && own->mode != PGQ_MODE_DRAIN)
        return error_set(err, PGQ_E_INVALID, "mode is none of the choices: %d", (int)own->mode);
    code = check_range("batch_size", own->batch_size, 1, PGQ_BATCH_SIZE_MAX, err);
    if (code == PGQ_OK)
        code = check_range("threads", own->threads, 1, PGQ_THREADS_MAX, err);
    if (code == PGQ_OK)
        code = check_range("lanes", own->lanes, 1, PGQ_LANES_MAX, err);
    if (code == PGQ_OK)
        code = check_range("dequeue_timeout_ms", own->dequeue_timeout_ms, 1, day_ms, err);
    if (code == PGQ_OK)
        code = check_range("heartbeat_timeout_ms", own->heartbeat_timeout_ms, 100, day_ms, err);
    if (code == PGQ_OK)
        code = check_range("drain_timeout_ms", own->drain_timeout_ms, 0, day_ms, err);
    *config = (engine_config){
        .lanes = own->lanes,
        .threads = own->threads,
        .batch_size = own->batch_size,
        .drain = own->mode == PGQ_MODE_DRAIN,
        .dequeue_timeout_us = own->dequeue_timeout_ms * 1000,
        .heartbeat_timeout_us = own->heartbeat_timeout_ms * 1000,
        .drain_timeout_us = own->drain_timeout_ms * 1000,
    };
    if (code == PGQ_OK && random_bytes(&config->seed, sizeof(config->seed)) != PGQ_OK)
        code = error_set(err, PGQ_E_IO, "the kernel has no random numbers");
    return code;
}

static void log_start(const pgq_worker *w, const pgq_run_options *options, const note_log *log)
{
    const pgq_log_field fields[] = {
        {"worker", w->id_text, 0},
        {"mode", options->mode == PGQ_MODE_DRAIN ? "drain" : "continuous", 0},
        {"entrypoints", NULL, (int64_t)w->entrypoint_count},
        {"threads", NULL, options->threads},
        {"lanes", NULL, options->lanes},
        {"batch_size", NULL, options->batch_size},
    };

    note_event(log, PGQ_LOG_INFO, "worker.started", fields, BASE_COUNT(fields));
}

static void log_end(const pgq_worker *w, const note_log *log)
{
    const pgq_worker_counts *c = &w->counts;
    const pgq_log_field fields[] = {
        {"worker", w->id_text, 0},
        {"claimed", NULL, (int64_t)c->claimed},
        {"successful", NULL, (int64_t)c->successful},
        {"failed", NULL, (int64_t)c->failed},
        {"retried", NULL, (int64_t)c->retried},
        {"cancelled", NULL, (int64_t)c->cancelled},
        {"released", NULL, (int64_t)c->released},
        {"lost", NULL, (int64_t)c->lost},
    };

    note_event(log, PGQ_LOG_INFO, "worker.stopped", fields, BASE_COUNT(fields));
}

pgq_code pgq_worker_run(pgq_worker *w, const pgq_run_options *options, pgq_error *err)
{
    pgq_run_options own;
    drive_config config = {
        .target = &w->target,
        .statements = w->statements,
        .names = &w->names,
        .entrypoints = w->entrypoints,
        .entrypoint_count = w->entrypoint_count,
        .worker = w->id,
        .stop_fd = w->stop_fd,
    };
    drive *d;
    pgq_code code;

    if (w->used)
        return error_set(err, PGQ_E_STATE, "a worker runs once; make another one");
    if (w->entrypoint_count == 0) {
        (void)error_set(err, PGQ_E_INVALID, "the worker has no entrypoint");
        error_hint(err, "register at least one with pgq_worker_entrypoint");
        return PGQ_E_INVALID;
    }
    code = read_options(options, &own, &config.engine, err);
    if (code != PGQ_OK)
        return code;
    config.log = (note_log){own.log_sink, own.log_user, own.log_level};
    code = drive_open(&config, &d, err);
    if (code != PGQ_OK)
        return code;
    w->used = true;
    w->drive = d;
    log_start(w, &own, &config.log);
    code = drive_run(d, err);
    w->counts = *drive_counts(d);
    log_end(w, &config.log);
    w->drive = NULL;
    w->abandoned = drive_handlers_run(d);
    (void)drive_close(d);
    return code;
}

void pgq_worker_stop(pgq_worker *w)
{
    uint64_t one = 1;
    int kept = errno; /* a signal handler leaves it as it was */

    if (write(w->stop_fd, &one, sizeof(one)) < 0) {
        /* only when it is full, and then it is readable too */
    }
    errno = kept;
}

const char *pgq_worker_id(const pgq_worker *w)
{
    return w->id_text;
}

void pgq_worker_get_counts(const pgq_worker *w, pgq_worker_counts *ret_counts)
{
    *ret_counts = w->drive != NULL ? *drive_counts(w->drive) : w->counts;
}
