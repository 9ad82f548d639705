/* demo: a server, a queue, real work, and what one can see of it afterwards. */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/demo.h"
#include "cli/dev.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The server that the demo uses, its own or the folder's. */
typedef struct demo_server {
    char folder[64]; /* of its own server; "" when it found one */
    char *dsn;
    dev dev;
} demo_server;

static pgq_worker *volatile signal_worker;
static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    int saved = errno;

    interrupted = number;
    if (signal_worker != NULL)
        pgq_worker_stop(signal_worker);
    errno = saved;
}

/* A signal ends the demo early, but not without cleaning up. */
static void watch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal};

    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < BASE_COUNT(numbers); i++)
        (void)sigaction(numbers[i], &action, NULL);
}

static pgq_code own_server(demo_server *s, pgq_error *err)
{
    bool found;
    pgq_code code;

    (void)snprintf(s->folder, sizeof(s->folder), "/tmp/pgqueuer-demo-XXXXXX");
    if (mkdtemp(s->folder) == NULL || chmod(s->folder, 0755) != 0) {
        s->folder[0] = '\0';
        return error_set(err, PGQ_E_IO, "cannot make a temporary folder: %s", strerror(errno));
    }
    (void)printf("Starting a private PostgreSQL in %s ...\n", s->folder);
    (void)fflush(stdout);
    code = dev_lock(&s->dev, s->folder, err);
    if (code == PGQ_OK)
        code = dev_start(&s->dev, 0, &found, err);
    if (code == PGQ_OK) {
        s->dsn = dev_dsn(&s->dev, NULL);
        code = s->dsn != NULL ? PGQ_OK : error_nomem(err);
    }
    return code;
}

static pgq_code begin_server(demo_server *s, pgq_error *err)
{
    pgq_code code = dev_find_dsn(".", &s->dsn, err);

    if (code != PGQ_OK)
        return code;
    if (s->dsn == NULL)
        return own_server(s, err);
    (void)printf("Using the private PostgreSQL of ./%s\n", DEV_FOLDER);
    return PGQ_OK;
}

/* Leaves nothing behind, unless asked to. */
static pgq_code end_server(demo_server *s, bool keep, pgq_error *err)
{
    static const char *const names[] = {".gitignore", "lock", "server.log", "password"};
    char path[DEV_PATH_BYTES];
    pgq_code code = PGQ_OK;

    free(s->dsn);
    s->dsn = NULL;
    if (s->folder[0] != '\0' && !keep) {
        dev_probe(&s->dev);
        code = dev_stop(&s->dev, err);
        if (code == PGQ_OK)
            code = dev_delete(&s->dev, err);
        for (size_t i = 0; code == PGQ_OK && i < BASE_COUNT(names); i++) {
            if (dev_path(path, s->dev.root, names[i], NULL) == PGQ_OK)
                (void)unlink(path);
        }
        if (code == PGQ_OK && (rmdir(s->dev.root) != 0 || rmdir(s->folder) != 0))
            code = error_set(err, PGQ_E_IO, "cannot remove %s: %s", s->folder, strerror(errno));
    }
    dev_unlock(&s->dev);
    return code;
}

static pgq_code install_if_missing(const char *dsn, pgq_error *err)
{
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_client *client = NULL;
    pgq_code code;

    options.dsn = dsn;
    code = pgq_client_open(&options, &client, err);
    if (code != PGQ_OK)
        return code;
    code = pgq_schema_install(client, NULL, err);
    if (code == PGQ_OK)
        (void)puts("Installed the schema of PGQueuer.");
    else if (code == PGQ_E_SCHEMA_EXISTS)
        code = PGQ_OK;
    (void)pgq_client_free(client);
    return code;
}

static void write_stderr(void *user, const char *line, size_t len)
{
    (void)user;
    (void)cli_write(STDERR_FILENO, line, len);
}

/* Runs a worker in this process until the queue is empty. */
static pgq_code work(demo *d, pgq_error *err)
{
    pgq_connect_options connect = PGQ_CONNECT_OPTIONS_INIT;
    pgq_run_options run = PGQ_RUN_OPTIONS_INIT;
    pgq_worker *worker = NULL;
    log_writer log;
    pgq_code code;

    connect.dsn = d->dsn;
    code = pgq_worker_new(&connect, &worker, err);
    if (code != PGQ_OK)
        return code;
    log_open(&log, LOG_TEXT, PGQ_LOG_WARNING, write_stderr, NULL);
    run.mode = PGQ_MODE_DRAIN;
    run.batch_size = 50;
    run.log_level = PGQ_LOG_WARNING;
    run.log_sink = log_write;
    run.log_user = &log;
    code = demo_register(d, worker, err);
    if (code == PGQ_OK) {
        progress_begin(&d->bar, "hashing", (int64_t)d->count);
        signal_worker = worker;
        if (interrupted != 0)
            pgq_worker_stop(worker);
        code = pgq_worker_run(worker, &run, err);
        signal_worker = NULL;
        progress_end(&d->bar);
        (void)pthread_key_delete(d->connection);
    }
    log_close(&log);
    (void)pgq_worker_free(worker);
    return code;
}

enum { COLUMNS = 3 };

/* Prints the first columns of a query's rows as a small table, in these widths. */
static pgq_code print_query(PGconn *conn, const char *sql, const char *const *values, int count,
                            const int widths[COLUMNS], pgq_error *err)
{
    PGresult *result = PQexecParams(conn, sql, count, NULL, values, NULL, NULL, 0);
    pgq_code code = PGQ_OK;

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        code = demo_sql_error(conn, sql, err);
    for (int row = 0; code == PGQ_OK && row < PQntuples(result); row++) {
        for (int column = 0; column < COLUMNS && column < PQnfields(result); column++)
            (void)printf("  %*s", widths[column], PQgetvalue(result, row, column));
        (void)putchar('\n');
    }
    PQclear(result);
    return code;
}

static pgq_code print_results(const demo *d, PGconn *conn, int64_t took_us, pgq_error *err)
{
    static const int file_widths[COLUMNS] = {9, -16, 0}, log_widths[COLUMNS] = {-12, 6},
                     count_widths[COLUMNS] = {0};
    char first[24], last[24];
    const char *values[] = {first, last};
    double seconds = (double)(took_us > 0 ? took_us : 1) / 1e6;
    pgq_code code;

    (void)snprintf(first, sizeof(first), "%lld", (long long)d->first_id);
    (void)snprintf(last, sizeof(last), "%lld", (long long)d->last_id);
    (void)printf("\nThe largest files (SELECT bytes, sha256, path FROM demo_files):\n");
    code = print_query(conn,
                       "SELECT bytes, left(sha256, 16), CASE WHEN length(path) > 60 THEN '...' || "
                       "right(path, 57) ELSE path END FROM demo_files ORDER BY bytes DESC, id "
                       "LIMIT 5",
                       NULL, 0, file_widths, err);
    if (code != PGQ_OK)
        return code;
    (void)printf("\nWhat the jobs went through (SELECT status, count(*) FROM pgqueuer_log):\n");
    code = print_query(conn,
                       "SELECT status, count(*) FROM pgqueuer_log WHERE job_id BETWEEN $1 AND $2 "
                       "GROUP BY status ORDER BY status",
                       values, 2, log_widths, err);
    if (code != PGQ_OK)
        return code;
    (void)printf("\nHashed and stored, of all:\n");
    code = print_query(conn, "SELECT count(sha256) || ' of ' || count(*) FROM demo_files", NULL, 0,
                       count_widths, err);
    (void)printf("\n%zu jobs in %.2f s: %.0f jobs/s, %.1f MB/s\n", d->count, seconds,
                 (double)d->count / seconds, (double)d->bytes / seconds / 1e6);
    return code;
}

static pgq_code run_demo(demo *d, const demo_server *s, bool keep, pgq_error *err)
{
    PGconn *conn = PQconnectdb(s->dsn);
    int64_t begun_us;
    pgq_code code =
        PQstatus(conn) == CONNECTION_OK ? PGQ_OK : demo_sql_error(conn, "connecting", err);

    d->dsn = s->dsn;
    if (code == PGQ_OK)
        code = install_if_missing(s->dsn, err);
    if (code == PGQ_OK)
        code = demo_enqueue(d, conn, err);
    if (code == PGQ_OK) {
        (void)printf("Enqueued %zu jobs, one for each file%s, in one transaction with the rows of "
                     "demo_files.\n",
                     d->count, d->cut ? " (there are more: the demo takes no more)" : "");
        (void)fflush(stdout);
        begun_us = clock_monotonic_us();
        code = work(d, err);
        if (code == PGQ_OK && interrupted != 0)
            code = error_set(err, PGQ_E_STATE, "interrupted");
        if (code == PGQ_OK)
            code = print_results(d, conn, clock_monotonic_us() - begun_us, err);
    }
    if (!keep)
        PQclear(PQexec(conn, "DROP TABLE IF EXISTS demo_files"));
    PQfinish(conn);
    return code;
}

/* The program as it can be typed anywhere: its plain name when PATH has found it. */
static void program_name(const char *called, char name[PATH_MAX])
{
    if (strchr(called, '/') == NULL || realpath(called, name) == NULL)
        (void)snprintf(name, PATH_MAX, "pgqueuer");
}

static void print_next(const cli *c, const demo_server *s, bool keep)
{
    char name[PATH_MAX];

    program_name(c->program, name);
    (void)puts("\nNext:");
    if (s->folder[0] != '\0' && keep)
        (void)printf("  cd %s\n  %s dev psql -- -c 'SELECT * FROM demo_files LIMIT 10'\n"
                     "  %s dev stop\n",
                     s->folder, name, name);
    else if (s->folder[0] != '\0')
        (void)printf("  %s dev start           # a private PostgreSQL in this folder\n"
                     "  %s install             # the tables\n"
                     "  %s queue hello world   # a job\n"
                     "  %s demo --keep         # this again, to look around in it\n",
                     name, name, name, name);
    else
        (void)printf("  %s queue hello world\n  %s dev psql -- -c 'SELECT * FROM pgqueuer_log "
                     "ORDER BY id DESC LIMIT 10'\n",
                     name, name);
}

int cmd_demo(cli *c)
{
    demo d = {.memory = ARENA_INIT, .bar_lock = PTHREAD_MUTEX_INITIALIZER};
    demo_server s = {.folder = "", .dev = {.lock_fd = -1}};
    bool keep = cli_flag(c, OPT_KEEP);
    pgq_error err = PGQ_ERROR_INIT, end_err = PGQ_ERROR_INIT;
    pgq_code code = demo_collect(&d, c->arg_count > 0 ? c->args[0] : ".", &err);

    watch_signals();
    if (code == PGQ_OK)
        code = begin_server(&s, &err);
    if (interrupted != 0) /* whatever else went wrong then */
        code = error_set(&err, PGQ_E_STATE, "interrupted");
    if (code == PGQ_OK)
        code = run_demo(&d, &s, keep, &err);
    if (code == PGQ_OK)
        print_next(c, &s, keep);
    if (end_server(&s, keep, &end_err) != PGQ_OK && code == PGQ_OK) {
        code = end_err.code;
        err = end_err;
    }
    demo_release(&d);
    return code == PGQ_OK ? EXIT_DONE : cli_report(&err);
}
