/* bench: what is asked for, the rounds, and cleaning up whatever happens. */
#include "base/clock.h"
#include "base/error.h"
#include "cli/bench.h"
#include "cli/progress.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t signals;

/* The first one ends the measurement; the third one also the cleaning up. */
static void on_signal(int number)
{
    static const char message[] = "pgqueuer: third signal, leaving at once: the benchmark's schema "
                                  "stays\n";

    if (++signals < 3)
        return;
    if (write(STDERR_FILENO, message, sizeof(message) - 1) < 0)
        errno = 0;
    _exit(128 + number);
}

static void watch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal};

    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < BASE_COUNT(numbers); i++)
        (void)sigaction(numbers[i], &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGCHLD, SIG_DFL); /* whoever started us may have ignored it */
}

bool bench_interrupted(void)
{
    return signals != 0;
}

pgq_code bench_interruption(pgq_error *err)
{
    return error_set(err, PGQ_E_STATE, "interrupted");
}

static void read_options(bench *b)
{
    static const int64_t jobs[] = {
        [BENCH_DRAIN] = 100000,
        [BENCH_LATENCY] = 500,
        [BENCH_HORIZON] = 100000,
        [BENCH_BACKLOG] = 1000000,
    };
    const cli *c = b->c;

    b->jobs = cli_given(c, OPT_JOBS) ? cli_number(c, OPT_JOBS) : jobs[b->kind];
    b->rounds = (int)cli_number(c, OPT_ROUNDS);
    b->workers = (int)cli_number(c, OPT_WORKERS);
    b->batch_size = (int)cli_number(c, OPT_BATCH_SIZE);
    b->lanes = (int)cli_number(c, OPT_LANES);
    b->threads = (int)cli_number(c, OPT_THREADS);
    b->lease_ms = cli_number(c, OPT_LEASE);
    b->bare = cli_text(c, OPT_BARE);
}

static pgq_code check_options(const bench *b, pgq_error *err)
{
    if (b->kind == BENCH_LATENCY && b->jobs > BENCH_LATENCY_MAX)
        return error_set(err, PGQ_E_LIMIT, "latency takes %d jobs at most", BENCH_LATENCY_MAX);
    if (b->bare != NULL && access(b->bare, X_OK) != 0) {
        (void)error_set(err, PGQ_E_NOT_FOUND, "the bare loop cannot be run: %s", strerror(errno));
        error_where(err, "%s", b->bare);
        error_hint(err, "it is made from bench/bare.c, by 'make bench'");
        return PGQ_E_NOT_FOUND;
    }
    return PGQ_OK;
}

static pgq_code open_bench(bench *b, pgq_error *err)
{
    static const int queues[] = {[BENCH_DRAIN] = 1,
                                 [BENCH_LATENCY] = 1,
                                 [BENCH_HORIZON] = 1,
                                 [BENCH_BACKLOG] = 2,
                                 [BENCH_LIMITS] = 0};
    pgq_connect_options options;
    pgq_code code = cli_connect_options(b->c, &options, err);

    if (code != PGQ_OK)
        return code;
    b->db.dsn = options.dsn;
    b->db.connect_timeout_ms = options.connect_timeout_ms;
    b->argv = cli_own_arguments();
    if (b->argv == NULL)
        return error_nomem(err);
    code = bench_db_open(&b->db, err);
    if (code != PGQ_OK) {
        cli_explain_connection(b->c, err);
        return code;
    }
    code = bench_limits_measure(&b->db, &b->limits, err);
    for (int i = 0; code == PGQ_OK && i < queues[b->kind]; i++)
        code = bench_db_install(&b->db, err);
    return code;
}

static pgq_code run_rounds(bench *b, pgq_error *err)
{
    int64_t done = 0;
    progress bar;
    pgq_code code = PGQ_OK;

    progress_begin(&bar, "measuring", (int64_t)b->rounds * b->way_count);
    for (int round = 0; code == PGQ_OK && round < b->rounds; round++) {
        for (int i = 0; code == PGQ_OK && i < b->way_count; i++) {
            progress_show(&bar, done++);
            code = bench_measure(b, &b->ways[i], err);
        }
    }
    progress_end(&bar);
    return code;
}

static int report(const bench *b)
{
    const char *path = cli_text(b->c, OPT_OUTPUT);
    pgq_error err = PGQ_ERROR_INIT;
    pgq_code code = PGQ_OK;

    if (path != NULL)
        code = bench_write_json(b, path, &err);
    if (!cli_flag(b->c, OPT_JSON))
        bench_print_table(b);
    else if (code == PGQ_OK)
        code = bench_write_json(b, NULL, &err);
    return code == PGQ_OK ? EXIT_DONE : cli_report(&err);
}

/* Measures, and leaves nothing behind. */
static int measure(bench *b)
{
    pgq_error err = PGQ_ERROR_INIT, end_err = PGQ_ERROR_INIT;
    pgq_code code = check_options(b, &err), end_code;

    if (code == PGQ_OK)
        code = open_bench(b, &err);
    if (code == PGQ_OK && b->kind != BENCH_LIMITS) {
        bench_ways(b);
        code = run_rounds(b, &err);
    }
    end_code = bench_db_close(&b->db, &end_err);
    if (code == PGQ_OK && end_code == PGQ_OK)
        return report(b);
    if (code != PGQ_OK && end_code != PGQ_OK)
        (void)fprintf(stderr, "pgqueuer: %s; %s\n", end_err.message, end_err.hint);
    return cli_report(code != PGQ_OK ? &err : &end_err);
}

static int run(cli *c, bench_kind kind)
{
    bench *b;
    pgq_error err = PGQ_ERROR_INIT;
    int status = EXIT_FAILED;

    if (bench_worker_run(c, &status))
        return status;
    b = calloc(1, sizeof(*b));
    if (b == NULL) {
        (void)error_nomem(&err);
        return cli_report(&err);
    }
    b->c = c;
    b->kind = kind;
    if (kind != BENCH_LIMITS)
        read_options(b);
    watch_signals();
    status = measure(b);
    if (b->argv != NULL)
        free(b->argv[0]);
    free(b->argv);
    free(b);
    return status;
}

int cmd_bench_drain(cli *c)
{
    return run(c, BENCH_DRAIN);
}

int cmd_bench_latency(cli *c)
{
    return run(c, BENCH_LATENCY);
}

int cmd_bench_horizon(cli *c)
{
    return run(c, BENCH_HORIZON);
}

int cmd_bench_backlog(cli *c)
{
    return run(c, BENCH_BACKLOG);
}

int cmd_bench_limits(cli *c)
{
    return run(c, BENCH_LIMITS);
}
