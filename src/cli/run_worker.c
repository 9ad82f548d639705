/* A worker in this process: its factory, its options, its log, its signals. */
#include "base/error.h"
#include "cli/factory.h"
#include "cli/run.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

/* What the signal handler needs: it is called with nothing but a number. */
static pgq_worker *volatile signal_worker;
static volatile sig_atomic_t signal_received, signals_to_end;
static int reload_fd = -1;

static void on_end_signal(int number)
{
    static const char message[] = "pgqueuer: third signal, leaving at once\n";
    int saved = errno;

    signal_received = number;
    signals_to_end = signals_to_end + 1;
    if (signals_to_end == 1) {
        pgq_worker_stop(signal_worker);
    } else if (signals_to_end == 2) {
        pgq_worker_hurry(signal_worker);
    } else {
        ssize_t ignored = write(STDERR_FILENO, message, sizeof(message) - 1);

        (void)ignored;
        _exit(128 + number);
    }
    errno = saved;
}

static void on_report_signal(int number)
{
    (void)number;
    pgq_worker_report(signal_worker);
}

/* The files are read by a thread: see reload_main. */
static void on_reload_signal(int number)
{
    uint64_t one = 1;
    int saved = errno;
    ssize_t ignored = write(reload_fd, &one, sizeof(one));

    (void)number;
    (void)ignored;
    errno = saved;
}

static void watch_signal(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};

    (void)sigemptyset(&action.sa_mask);
    (void)sigaddset(&action.sa_mask, SIGINT);
    (void)sigaddset(&action.sa_mask, SIGTERM);
    (void)sigaction(number, &action, NULL);
}

static void watch_signals(pgq_worker *worker)
{
    signal_worker = worker;
    watch_signal(SIGINT, on_end_signal);
    watch_signal(SIGTERM, on_end_signal);
    watch_signal(SIGUSR1, on_report_signal);
    watch_signal(SIGHUP, reload_fd >= 0 ? on_reload_signal : SIG_IGN);
    watch_signal(SIGPIPE, SIG_IGN); /* a reader of the log that left stops no worker */
}

static void unwatch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGUSR1, SIGHUP};

    for (size_t i = 0; i < BASE_COUNT(numbers); i++)
        (void)signal(numbers[i], SIG_DFL);
}

/* ---- the log ---- */

/* A signal is logged in the worker's thread, as soon as that has something to say, because a signal
 * handler may not format. */
typedef struct run_log {
    log_writer writer;
    pgq_log_level level; /* the writer itself passes everything: the worker's level may change */
    bool signal_logged, notifies;
} run_log;

static void write_stderr(void *user, const char *line, size_t len)
{
    (void)user;
    (void)cli_write(STDERR_FILENO, line, len);
}

void run_open_log(const cli *c, log_writer *writer)
{
    log_open(writer, (log_format)cli_number(c, OPT_LOG_FORMAT), PGQ_LOG_DEBUG, write_stderr, NULL);
}

void run_notify(const char *state)
{
#ifdef HAVE_SYSTEMD
    (void)sd_notify(0, state);
#else
    (void)state;
#endif
}

static void log_signal(run_log *l)
{
    const pgq_log_field fields[] = {
        {"signal", signal_received == SIGINT ? "SIGINT" : "SIGTERM", 0},
    };

    if (signal_received == 0 || l->signal_logged)
        return;
    l->signal_logged = true;
    if (l->level <= PGQ_LOG_INFO)
        log_write(&l->writer, PGQ_LOG_INFO, "signal.received", fields, BASE_COUNT(fields));
}

static void sink(void *user, pgq_log_level level, const char *event, const pgq_log_field *fields,
                 size_t count)
{
    run_log *l = user;

    log_signal(l);
    log_write(&l->writer, level, event, fields, count);
    if (l->notifies && base_streq(event, "worker.listening"))
        run_notify("READY=1\nSTATUS=listening");
    else if (l->notifies && base_streq(event, "worker.stopping"))
        run_notify("STOPPING=1\nSTATUS=stopping");
}

/* ---- SIGHUP ---- */

/* The level as the environment and the file say now; an argument stays. */
static bool read_level(const cli *c, pgq_log_level *ret_level)
{
    const char *file = cli_text(c, OPT_CONFIG);
    settings fresh;
    bool good = settings_init(&fresh, option_rows, OPTION_COUNT, NULL) == PGQ_OK;

    if (!good)
        return false;
    good = settings_read_environment(&fresh, NULL) == PGQ_OK &&
           (file == NULL || settings_read_file(&fresh, file, NULL) == PGQ_OK) &&
           settings_parse(&fresh, OPT_LOG_LEVEL, NULL) == PGQ_OK &&
           log_level_parse(fresh.values[OPT_LOG_LEVEL].text, ret_level);
    settings_release(&fresh);
    return good;
}

static void *reload_main(void *user)
{
    const cli *c = user;
    uint64_t count;

    while (read(reload_fd, &count, sizeof(count)) == (ssize_t)sizeof(count)) {
        pgq_log_level level;

        if (c->settings.values[OPT_LOG_LEVEL].origin != SETTING_ARGUMENT && read_level(c, &level))
            pgq_worker_set_log_level(signal_worker, level);
    }
    return NULL;
}

/* Without it SIGHUP is ignored: no reason not to work. The thread ends with the process. */
static void start_reloading(cli *c)
{
    pthread_t thread;
    sigset_t all, old;

    reload_fd = eventfd(0, EFD_CLOEXEC);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    if (reload_fd >= 0 && pthread_create(&thread, NULL, reload_main, c) == 0)
        (void)pthread_detach(thread);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* ---- the run ---- */

static pgq_run_options run_options(const cli *c, run_log *l)
{
    pgq_run_options options = PGQ_RUN_OPTIONS_INIT;

    options.mode = (pgq_run_mode)cli_number(c, OPT_MODE);
    options.batch_size = (int)cli_number(c, OPT_BATCH_SIZE);
    options.threads = (int)cli_number(c, OPT_THREADS);
    options.lanes = (int)cli_number(c, OPT_LANES);
    options.dequeue_timeout_ms = cli_number(c, OPT_DEQUEUE_TIMEOUT);
    options.heartbeat_timeout_ms = cli_number(c, OPT_HEARTBEAT_TIMEOUT);
    options.drain_timeout_ms = cli_number(c, OPT_DRAIN_TIMEOUT);
    options.max_concurrent_tasks = (int)cli_number(c, OPT_MAX_CONCURRENT_TASKS);
    options.shutdown_on_listener_failure = cli_flag(c, OPT_SHUTDOWN_ON_LISTENER_FAILURE);
    options.health_check_interval_ms = cli_number(c, OPT_HEALTH_CHECK_INTERVAL);
    options.health_check_timeout_ms = cli_number(c, OPT_HEALTH_CHECK_TIMEOUT);
    options.log_aggregation_interval_ms = cli_number(c, OPT_LOG_AGGREGATION_INTERVAL);
    options.log_level = l->level;
    options.log_sink = sink;
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

static pgq_code work(cli *c, pgq_factory factory, const run_child *child, pgq_error *err)
{
    pgq_connect_options connect;
    pgq_run_options options;
    pgq_worker *worker = NULL;
    run_log l = {.level = PGQ_LOG_INFO, .notifies = child == NULL};
    pgq_code code = cli_connect_options(c, &connect, err);

    if (code == PGQ_OK)
        code = pgq_worker_new(&connect, &worker, err);
    if (code != PGQ_OK) {
        cli_explain_connection(c, err);
        return code;
    }
    (void)log_level_parse(cli_text(c, OPT_LOG_LEVEL), &l.level);
    run_open_log(c, &l.writer);
    options = run_options(c, &l);
    code = take_role(child, worker, &options, err);
    start_reloading(c);
    watch_signals(worker);
    if (code == PGQ_OK)
        code = factory_call(c, factory, worker, err);
    if (code == PGQ_OK) {
        code = pgq_worker_run(worker, &options, err);
        cli_explain_connection(c, err);
    }
    log_signal(&l);
    log_close(&l.writer);
    if (code == PGQ_E_TIMEOUT) /* handlers still run, and use the worker: leave them everything */
        _exit(cli_report(err));
    unwatch_signals();
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
