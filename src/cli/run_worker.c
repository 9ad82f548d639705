/* A worker in this process: its factory, its options, what its parent has given it. */
#include "base/error.h"
#include "cli/factory.h"
#include "cli/run.h"
#include "cli/run_signals.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

void run_notify(const char *state)
{
#ifdef HAVE_SYSTEMD
    (void)sd_notify(0, state);
#else
    (void)state;
#endif
}

int64_t run_watchdog_us(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    int64_t watched_pid = getpid(), watchdog_us = 0;

    if (pid != NULL && !setting_parse_int(pid, 1, INT32_MAX, &watched_pid))
        return 0;
    if (usec == NULL || watched_pid != getpid() ||
        !setting_parse_int(usec, 1, INT64_MAX / 2, &watchdog_us))
        return 0;
    return watchdog_us;
}

/* A worker without a parent tells systemd itself. */
static void notify_of(const char *event)
{
    if (base_streq(event, "worker.listening"))
        run_notify("READY=1\nSTATUS=listening");
    else if (base_streq(event, "worker.stopping"))
        run_notify("STOPPING=1\nSTATUS=stopping");
}

static pgq_run_options run_options(const cli *c, run_log *l)
{
    pgq_run_options options = PGQ_RUN_OPTIONS_INIT;

    options.mode = (pgq_run_mode)cli_number(c, OPT_MODE);
    options.batch_size = (int)cli_number(c, OPT_BATCH_SIZE);
    options.threads = (int)cli_number(c, OPT_THREADS);
    options.lanes = (int)cli_number(c, OPT_LANES);
    options.lane = (pgq_lane)cli_number(c, OPT_LANE);
    options.lease_ms = cli_number(c, OPT_LEASE);
    options.log_policy = (pgq_log_policy)(cli_number(c, OPT_LOG_POLICY) + 1);
    options.dequeue_timeout_ms = cli_number(c, OPT_DEQUEUE_TIMEOUT);
    options.heartbeat_timeout_ms = cli_number(c, OPT_HEARTBEAT_TIMEOUT);
    options.drain_timeout_ms = cli_number(c, OPT_DRAIN_TIMEOUT);
    options.max_concurrent_tasks = (int)cli_number(c, OPT_MAX_CONCURRENT_TASKS);
    options.shutdown_on_listener_failure = cli_flag(c, OPT_SHUTDOWN_ON_LISTENER_FAILURE);
    options.health_check_interval_ms = cli_number(c, OPT_HEALTH_CHECK_INTERVAL);
    options.health_check_timeout_ms = cli_number(c, OPT_HEALTH_CHECK_TIMEOUT);
    options.log_aggregation_interval_ms = cli_number(c, OPT_LOG_AGGREGATION_INTERVAL);
    options.log_level = run_log_worker_level(l);
    options.log_sink = run_log_sink;
    options.log_user = l;
    return options;
}

/* What the parent has given this child. */
static pgq_code take_role(const run_child *child, pgq_worker *worker, pgq_run_options *options,
                          pgq_error *err)
{
    void *memory;

    if (child == NULL)
        return PGQ_OK;
    memory = mmap(NULL, pgq_ledger_size(), PROT_READ | PROT_WRITE, MAP_SHARED, child->ledger_fd, 0);
    (void)close(child->ledger_fd);
    if (memory == MAP_FAILED)
        return error_set(err, PGQ_E_IO, "the ledger cannot be mapped: %s", strerror(errno));
    options->ledger = memory;
    options->only_job = child->only_job;
    return child->worker_id[0] != '\0' ? pgq_worker_set_id(worker, child->worker_id, err) : PGQ_OK;
}

/* The worker's life, between the first signal that it can take and the last. */
static pgq_code serve(cli *c, pgq_factory factory, const run_child *child, pgq_worker *worker,
                      run_log *l, pgq_error *err)
{
    pgq_run_options options = run_options(c, l);
    pgq_code code = run_signals_begin(worker, l, err);

    if (code != PGQ_OK)
        return code;
    code = take_role(child, worker, &options, err);
    if (code == PGQ_OK)
        code = factory_call(c, factory, worker, err);
    if (code == PGQ_OK) {
        code = pgq_worker_run(worker, &options, err);
        cli_explain_connection(c, err);
    }
    run_signals_end();
    return code;
}

static pgq_code work(cli *c, pgq_factory factory, const run_child *child, pgq_error *err)
{
    pgq_worker_counts counts;
    pgq_connect_options connect;
    pgq_worker *worker = NULL;
    run_log l;
    pgq_code code = cli_connect_options(c, &connect, err);

    if (code == PGQ_OK)
        code = pgq_worker_new(&connect, &worker, err);
    if (code != PGQ_OK) {
        cli_explain_connection(c, err);
        return code;
    }
    run_log_open(&l, c);
    if (child == NULL)
        l.watch = notify_of;
    code = serve(c, factory, child, worker, &l, err);
    run_log_close(&l);
    pgq_worker_get_counts(worker, &counts);
    /* handlers may still run, and use the worker and the program: leave them everything */
    if (code == PGQ_E_TIMEOUT || counts.timed_out > 0)
        _exit(code == PGQ_OK ? EXIT_DONE : cli_report(err));
    (void)pgq_worker_free(worker);
    return code;
}

int run_worker(cli *c, const run_child *child)
{
    factory_path path = {NULL, NULL};
    pgq_factory factory = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_code code = factory_split(c->args[0], &path, &err);

    if (code == PGQ_OK)
        code = factory_load(&path, &factory, &err);
    if (code == PGQ_OK)
        code = work(c, factory, child, &err);
    free(path.file);
    return code == PGQ_OK ? EXIT_DONE : cli_report(&err);
}
