/* The public face of the worker: registration, checks of options, run and stop. */
#include <pgqueuer/worker.h>

#include "base/error.h"
#include "base/utf8.h"
#include "pg/names.h"
#include "pg/statement.h"
#include "pg/target.h"
#include "worker/drive.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { LEASE_MIN_MS = 20, LEASE_MAX_MS = 5000, LEASE_MS = 250 };

static const int64_t day_ms = 86400000;

struct pgq_worker {
    target target;
    names names;
    statements *statements;
    entrypoint *entrypoints;
    size_t entrypoint_count, entrypoint_capacity;
    uuid id;
    char id_text[UUID_TEXT_BYTES];
    engine_entrypoint *rules; /* one an entrypoint, while it runs */
    int control_fd;           /* an eventfd: `asked` has changed */
    atomic_int asked;         /* bits of drive_ask */
    atomic_int log_level;     /* of the running worker; -1: as its options say */
    drive *drive;             /* while it runs */
    bool used;                /* pgq_worker_run was called */
    bool abandoned;           /* handlers still run, and may use the entrypoints */
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
    atomic_init(&w->asked, 0);
    atomic_init(&w->log_level, -1);
    w->control_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->control_fd < 0)
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
    if (w == NULL || w->abandoned) /* handlers still run, and may use all of it until the end */
        return NULL;
    for (size_t i = 0; i < w->entrypoint_count; i++) {
        (void)executor_free(w->entrypoints[i].executor);
        free(w->entrypoints[i].name);
    }
    free(w->entrypoints);
    free(w->rules);
    if (w->control_fd >= 0)
        (void)close(w->control_fd);
    (void)statements_free(w->statements);
    target_release(&w->target);
    names_release(&w->names);
    free(w);
    return NULL;
}

static pgq_code check_range(const char *what, int64_t value, int64_t min, int64_t max,
                            pgq_error *err)
{
    if (value >= min && value <= max)
        return PGQ_OK;
    return error_set(err, PGQ_E_INVALID, "%s must be from %lld to %lld, is %lld", what,
                     (long long)min, (long long)max, (long long)value);
}

static pgq_code check_rules(const char *name, const pgq_entrypoint_options *o, pgq_error *err)
{
    pgq_code code;

    if (isnan(o->requests_per_second) || o->requests_per_second < 0)
        code = error_set(err, PGQ_E_INVALID, "Rate must be greater or eq. to zero.");
    else if (o->concurrency_limit < 0)
        code = error_set(err, PGQ_E_INVALID, "Concurrency limit must be greater or eq. to zero.");
    else
        code = check_range("concurrency_limit", o->concurrency_limit, 0, PGQ_CONCURRENCY_LIMIT_MAX,
                           err);
    if (code == PGQ_OK)
        code = check_range("lane", o->lane, PGQ_LANE_AUTO, PGQ_LANE_LEASE, err);
    if (code == PGQ_OK)
        code = check_range("log_policy", o->log_policy, PGQ_LOG_POLICY_DEFAULT,
                           PGQ_LOG_POLICY_FAILURES, err);
    if (code == PGQ_OK && o->retry_timer_ms != 0)
        code = check_range("retry_timer_ms", o->retry_timer_ms, 100, day_ms, err);
    if (code == PGQ_OK)
        code = check_range("timeout_ms", o->timeout_ms, 0, day_ms, err);
    if (code == PGQ_OK)
        code = check_range("timeout_grace_ms", o->timeout_grace_ms, 0, day_ms, err);
    if (code != PGQ_OK)
        error_where(err, "entrypoint %.100s", name);
    return code;
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
    return check_rules(name, options, err);
}

static pgq_code make_room(pgq_worker *w, pgq_error *err)
{
    size_t capacity = w->entrypoint_capacity > 0 ? w->entrypoint_capacity * 2 : 8;
    entrypoint *grown;

    if (w->entrypoint_count >= PGQ_ENTRYPOINTS_MAX)
        return error_set(err, PGQ_E_LIMIT, "a worker has at most %d entrypoints",
                         PGQ_ENTRYPOINTS_MAX);
    if (w->entrypoint_count < w->entrypoint_capacity)
        return PGQ_OK;
    grown = realloc(w->entrypoints, capacity * sizeof(*grown));
    if (grown == NULL)
        return error_nomem(err);
    w->entrypoints = grown;
    w->entrypoint_capacity = capacity;
    return PGQ_OK;
}

pgq_code pgq_worker_entrypoint(pgq_worker *w, const char *name, pgq_handler handler, void *user,
                               const pgq_entrypoint_options *options, pgq_error *err)
{
    pgq_entrypoint_options own = PGQ_ENTRYPOINT_OPTIONS_INIT;
    entrypoint made = {.user = user};
    pgq_executor_parameters parameters = {
        .struct_size = sizeof(parameters), .worker = w, .handler = handler, .user = user};
    pgq_code code = base_copy_options(&own, sizeof(own), options, "pgq_entrypoint_options", err);

    if (code == PGQ_OK && w->used)
        code = error_set(err, PGQ_E_STATE, "entrypoints are registered before the worker runs");
    if (code == PGQ_OK)
        code = check_entrypoint(w, name, handler, &own, err);
    if (code == PGQ_OK)
        code = make_room(w, err);
    if (code == PGQ_OK && base_strdup(name, &made.name) != PGQ_OK)
        code = error_nomem(err);
    if (code != PGQ_OK)
        return code;
    parameters.entrypoint = made.name;
    parameters.config = own.executor_config;
    code = executor_make(&parameters, own.executor_factory, &made.executor, err);
    if (code != PGQ_OK) {
        if (err != NULL && err->where[0] == '\0')
            error_where(err, "entrypoint %.100s", name);
        free(made.name);
        return code;
    }
    own.executor_config = NULL; /* the caller's, and the factory has copied it */
    made.options = own;
    w->entrypoints[w->entrypoint_count++] = made;
    return PGQ_OK;
}

static int default_threads(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return (int)base_min_i64(base_max_i64(cores, 4), PGQ_THREADS_MAX);
}

static int64_t lease_max_ms(const pgq_run_options *o)
{
    return base_max_i64(LEASE_MIN_MS, base_min_i64(LEASE_MAX_MS, o->heartbeat_timeout_ms / 4));
}

static pgq_code check_run_options(const pgq_run_options *o, pgq_error *err)
{
    const struct {
        const char *name;
        int64_t value, min, max;
    } ranges[] = {
        {"mode", o->mode, PGQ_MODE_CONTINUOUS, PGQ_MODE_DRAIN_NOW},
        {"batch_size", o->batch_size, 1, PGQ_BATCH_SIZE_MAX},
        {"threads", o->threads, 1, PGQ_THREADS_MAX},
        {"lanes", o->lanes, 1, PGQ_LANES_MAX},
        {"dequeue_timeout_ms", o->dequeue_timeout_ms, 1, day_ms},
        {"heartbeat_timeout_ms", o->heartbeat_timeout_ms, 100, day_ms},
        {"drain_timeout_ms", o->drain_timeout_ms, 0, day_ms},
        {"max_concurrent_tasks", o->max_concurrent_tasks, 0, PGQ_CONCURRENT_TASKS_MAX},
        {"health_check_interval_ms", o->health_check_interval_ms, 10, day_ms},
        {"health_check_timeout_ms", o->health_check_timeout_ms, 10, day_ms},
        {"only_job", o->only_job, 0, INT64_MAX},
        {"lane", o->lane, PGQ_LANE_AUTO, PGQ_LANE_LEASE},
        {"lease_ms", o->lease_ms, LEASE_MIN_MS, lease_max_ms(o)},
        {"log_policy", o->log_policy, PGQ_LOG_POLICY_DEFAULT, PGQ_LOG_POLICY_FAILURES},
    };
    pgq_code code = PGQ_OK;

    for (size_t i = 0; code == PGQ_OK && i < BASE_COUNT(ranges); i++)
        code = check_range(ranges[i].name, ranges[i].value, ranges[i].min, ranges[i].max, err);
    if (code == PGQ_OK && o->log_aggregation_interval_ms != 0)
        code = check_range("log_aggregation_interval_ms", o->log_aggregation_interval_ms, 10,
                           day_ms, err);
    return code;
}

/* Reads and checks the caller's options into the engine's. */
static pgq_code read_options(const pgq_run_options *given, pgq_run_options *own,
                             engine_config *config, pgq_error *err)
{
    pgq_code code;

    *own = (pgq_run_options)PGQ_RUN_OPTIONS_INIT;
    code = base_copy_options(own, sizeof(*own), given, "pgq_run_options", err);
    if (code != PGQ_OK)
        return code;
    if (own->threads == 0)
        own->threads = default_threads();
    /* the parent finds the job that has killed a process by its row */
    if (own->ledger != NULL && own->lane == PGQ_LANE_AUTO)
        own->lane = PGQ_LANE_ROW;
    if (own->lease_ms == 0)
        own->lease_ms = base_min_i64(LEASE_MS, lease_max_ms(own));
    code = check_run_options(own, err);
    *config = (engine_config){
        .lanes = own->lanes,
        .threads = own->threads,
        .batch_size = own->batch_size,
        .drain = own->mode != PGQ_MODE_CONTINUOUS,
        .drain_now = own->mode == PGQ_MODE_DRAIN_NOW,
        .end_when_deaf = own->shutdown_on_listener_failure,
        .only_job = own->only_job,
        .dequeue_timeout_us = own->dequeue_timeout_ms * 1000,
        .heartbeat_timeout_us = own->heartbeat_timeout_ms * 1000,
        .drain_timeout_us = own->drain_timeout_ms * 1000,
        .probe_interval_us = own->health_check_interval_ms * 1000,
        .probe_timeout_us = own->health_check_timeout_ms * 1000,
        .aggregate_interval_us = own->log_aggregation_interval_ms * 1000,
        .lease_us = own->lease_ms * 1000,
        .held_max = own->max_concurrent_tasks,
    };
    if (code == PGQ_OK && random_bytes(&config->seed, sizeof(config->seed)) != PGQ_OK)
        code = error_set(err, PGQ_E_IO, "the kernel has no random numbers");
    return code;
}

/* The rules of the entrypoints, as the engine needs them. */
static pgq_code read_rules(pgq_worker *w, const pgq_run_options *run, engine_config *config,
                           pgq_error *err)
{
    pgq_log_policy log_policy =
        run->log_policy != PGQ_LOG_POLICY_DEFAULT ? run->log_policy : PGQ_LOG_POLICY_FULL;

    free(w->rules);
    w->rules = calloc(w->entrypoint_count, sizeof(*w->rules));
    if (w->rules == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < w->entrypoint_count; i++) {
        pgq_entrypoint_options *o = &w->entrypoints[i].options;

        if (o->lane == PGQ_LANE_AUTO)
            o->lane = run->lane;
        if (o->log_policy == PGQ_LOG_POLICY_DEFAULT)
            o->log_policy = log_policy;
        config->extras_wanted |= o->log_policy == PGQ_LOG_POLICY_FAILURES;
        w->rules[i] = (engine_entrypoint){
            .limit = o->serialized_dispatch ? 1 : o->concurrency_limit,
            .rated = o->requests_per_second<PGQ_RATE_MAX, .rate = o->requests_per_second,
                                            .silence_us = o->retry_timer_ms> 0
                         ? o->retry_timer_ms * 1000
                         : config->heartbeat_timeout_us,
            .timeout_us = o->timeout_ms * 1000,
            .grace_us = o->timeout_grace_ms * 1000,
            .failure =
                o->on_failure == PGQ_ON_FAILURE_HOLD ? PGQ_STATUS_FAILED : PGQ_STATUS_EXCEPTION,
            .lane = o->lane,
        };
    }
    config->entrypoints = w->rules;
    config->entrypoint_count = w->entrypoint_count;
    return PGQ_OK;
}

static void log_start(const pgq_worker *w, const pgq_run_options *options, const note_log *log)
{
    static const char *const modes[] = {"continuous", "drain", "drain-now"};
    const pgq_log_field fields[] = {
        {"worker", w->id_text, 0},
        {"mode", modes[options->mode], 0},
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
        {"timed_out", NULL, (int64_t)c->timed_out},
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
        .control_fd = w->control_fd,
        .asked = &w->asked,
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
    if (code == PGQ_OK)
        code = read_rules(w, &own, &config.engine, err);
    if (code != PGQ_OK)
        return code;
    if (atomic_load(&w->log_level) < 0)
        atomic_store(&w->log_level, (int)own.log_level);
    config.ledger = own.ledger;
    config.log = (note_log){own.log_sink, own.log_user, &w->log_level};
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

/* Async-signal-safe. */
static void ask(pgq_worker *w, drive_ask what)
{
    uint64_t one = 1;
    int kept = errno; /* a signal handler leaves it as it was */

    atomic_fetch_or(&w->asked, (int)what);
    if (write(w->control_fd, &one, sizeof(one)) < 0) {
        /* only when it is full, and then it is readable too */
    }
    errno = kept;
}

void pgq_worker_stop(pgq_worker *w)
{
    ask(w, DRIVE_STOP);
}

void pgq_worker_hurry(pgq_worker *w)
{
    ask(w, DRIVE_HURRY);
}

void pgq_worker_report(pgq_worker *w)
{
    ask(w, DRIVE_REPORT);
}

void pgq_worker_set_log_level(pgq_worker *w, pgq_log_level level)
{
    atomic_store(&w->log_level, (int)level);
}

pgq_code pgq_worker_set_id(pgq_worker *w, const char *id, pgq_error *err)
{
    uuid parsed;

    if (w->used)
        return error_set(err, PGQ_E_STATE, "a worker's id is set before it runs");
    if (!base_given(id) || !uuid_parse(id, &parsed))
        return error_set(err, PGQ_E_INVALID, "the worker's id is not a UUID of 36 characters");
    w->id = parsed;
    (void)uuid_format(&w->id, w->id_text);
    return PGQ_OK;
}

const char *pgq_worker_id(const pgq_worker *w)
{
    return w->id_text;
}

void pgq_worker_get_counts(const pgq_worker *w, pgq_worker_counts *ret_counts)
{
    *ret_counts = w->drive != NULL ? *drive_counts(w->drive) : w->counts;
}
