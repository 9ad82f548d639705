/* run: a worker with the handlers of a shared object. Signals, logging and the loading of the
 * object are here; the work is the library's. */
#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* What the signal handler needs: it is called with nothing but a number. */
static pgq_worker *volatile signal_worker;
static volatile sig_atomic_t signal_received;

static void on_signal(int number)
{
    static const char message[] = "pgqueuer: second signal, leaving at once\n";
    int saved = errno;

    if (signal_received != 0) {
        ssize_t ignored = write(STDERR_FILENO, message, sizeof(message) - 1);

        (void)ignored;
        _exit(128 + number);
    }
    signal_received = number;
    pgq_worker_stop(signal_worker);
    errno = saved;
}

static void watch_signals(pgq_worker *worker)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    signal_worker = worker;
    (void)sigemptyset(&action.sa_mask);
    (void)sigaddset(&action.sa_mask, SIGINT);
    (void)sigaddset(&action.sa_mask, SIGTERM);
    (void)sigemptyset(&ignore.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL); /* a reader of the log that left stops no worker */
}

/* The log of the process. A signal is logged here, in the worker's thread, as soon as that has
 * something to say, because a signal handler may not format. */
typedef struct run_log {
    log_writer writer;
    bool signal_logged;
} run_log;

static void write_stderr(void *user, const char *line, size_t len)
{
    (void)user;
    (void)cli_write(STDERR_FILENO, line, len);
}

static void log_signal(run_log *l)
{
    const pgq_log_field fields[] = {
        {"signal", signal_received == SIGINT ? "SIGINT" : "SIGTERM", 0},
    };

    if (signal_received == 0 || l->signal_logged)
        return;
    l->signal_logged = true;
    log_write(&l->writer, PGQ_LOG_INFO, "signal.received", fields, BASE_COUNT(fields));
}

static void sink(void *user, pgq_log_level level, const char *event, const pgq_log_field *fields,
                 size_t count)
{
    run_log *l = user;

    log_signal(l);
    log_write(&l->writer, level, event, fields, count);
}

/* FILE:SYMBOL, taken apart. */
typedef struct factory_path {
    char *file; /* with a '/', so that dlopen does not search */
    const char *symbol;
} factory_path;

static pgq_code no_colon(const char *text, pgq_error *err)
{
    const char *dot = strrchr(text, '.');

    (void)error_set(err, PGQ_E_FACTORY, "the factory must be FILE:SYMBOL, not '%.128s'", text);
    if (text[0] == '\0' || strchr(text, ':') != NULL)
        error_hint(err, "for example ./libjobs.so:factory");
    else if (dot == NULL || strchr(text, '/') != NULL || base_streq(dot, ".so"))
        error_hint(err, "for example %s%.128s:factory", strchr(text, '/') != NULL ? "" : "./",
                   text);
    else
        error_hint(err, "write ./%.*s.so:%.64s, with a file and a colon", (int)(dot - text), text,
                   dot + 1);
    return PGQ_E_FACTORY;
}

static pgq_code split_factory(const char *text, factory_path *path, pgq_error *err)
{
    const char *colon = strrchr(text, ':');
    buffer file = BUFFER_INIT;

    if (colon == NULL || colon == text || colon[1] == '\0')
        return no_colon(text, err);
    path->symbol = colon + 1;
    if (memchr(text, '/', (size_t)(colon - text)) == NULL)
        buffer_add_text(&file, "./");
    buffer_add(&file, text, (size_t)(colon - text));
    path->file = buffer_steal(&file);
    return path->file != NULL ? PGQ_OK : error_nomem(err);
}

/* dlerror without the file name in front, which the message has already. */
static const char *load_reason(const char *file)
{
    const char *reason = dlerror();
    size_t length = strlen(file);

    if (reason == NULL)
        return "unknown reason";
    if (strncmp(reason, file, length) == 0 && strncmp(reason + length, ": ", 2) == 0)
        return reason + length + 2;
    return reason;
}

static pgq_code load_factory(const factory_path *path, pgq_factory *ret_factory, pgq_error *err)
{
    void *object, *symbol;

    if (access(path->file, F_OK) != 0) {
        (void)error_set(err, PGQ_E_NOT_FOUND, "cannot find the file of the factory: %s",
                        strerror(errno));
        error_where(err, "%s", path->file);
        error_hint(err, "FILE is a shared object of handlers, such as ./libjobs.so; build one with "
                        "cc -shared -fPIC");
        return PGQ_E_NOT_FOUND;
    }
    object = dlopen(path->file, RTLD_NOW | RTLD_LOCAL);
    if (object == NULL) {
        (void)error_set(err, PGQ_E_FACTORY, "cannot load the factory: %.300s",
                        load_reason(path->file));
        error_where(err, "%s", path->file);
        error_hint(err,
                   "the file must be a shared object, built with cc -shared -fPIC $(pkg-config "
                   "--cflags --libs pgqueuer)");
        return PGQ_E_FACTORY;
    }
    symbol = dlsym(object, path->symbol);
    if (symbol == NULL) {
        (void)error_set(err, PGQ_E_NOT_FOUND, "the file has no symbol '%.128s'", path->symbol);
        error_where(err, "%s", path->file);
        error_hint(err, "the factory must be a function that is neither static nor hidden; 'nm -D "
                        "FILE' lists them");
        return PGQ_E_NOT_FOUND;
    }
    memcpy(ret_factory, &symbol, sizeof(symbol)); /* POSIX allows it, ISO C has no cast for it */
    return PGQ_OK;
}

static pgq_code call_factory(const cli *c, pgq_factory factory, pgq_worker *worker, pgq_error *err)
{
    pgq_code code = factory(worker, (int)c->rest_count, c->rest, err);

    if (code != PGQ_OK && err->code == PGQ_OK)
        (void)error_set(err, code, "the factory failed: %s", pgq_strerror(code));
    if (code != PGQ_OK && err->where[0] == '\0')
        error_where(err, "%s", c->args[0]);
    return code;
}

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
    options.log_level = l->writer.level;
    options.log_sink = sink;
    options.log_user = l;
    return options;
}

static pgq_code work(cli *c, pgq_factory factory, pgq_error *err)
{
    pgq_log_level level = PGQ_LOG_INFO;
    pgq_connect_options connect;
    pgq_run_options options;
    pgq_worker *worker = NULL;
    run_log l = {.signal_logged = false};
    pgq_code code = cli_connect_options(c, &connect, err);

    if (code == PGQ_OK)
        code = pgq_worker_new(&connect, &worker, err);
    if (code != PGQ_OK) {
        cli_explain_connection(c, err);
        return code;
    }
    (void)log_level_parse(cli_text(c, OPT_LOG_LEVEL), &level);
    log_open(&l.writer, (log_format)cli_number(c, OPT_LOG_FORMAT), level, write_stderr, NULL);
    watch_signals(worker);
    code = call_factory(c, factory, worker, err);
    if (code == PGQ_OK) {
        options = run_options(c, &l);
        code = pgq_worker_run(worker, &options, err);
        cli_explain_connection(c, err);
    }
    log_signal(&l);
    log_close(&l.writer);
    if (code == PGQ_E_TIMEOUT) /* handlers still run, and use the worker: leave them everything */
        _exit(cli_report(err));
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    (void)pgq_worker_free(worker);
    return code;
}

int cmd_run(cli *c)
{
    factory_path path = {NULL, NULL};
    pgq_factory factory = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_code code = split_factory(c->args[0], &path, &err);

    if (code == PGQ_OK)
        code = load_factory(&path, &factory, &err);
    if (code == PGQ_OK)
        code = work(c, factory, &err);
    free(path.file);
    return code == PGQ_OK ? EXIT_DONE : cli_report(&err);
}
