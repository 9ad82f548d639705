/* A worker process of a benchmark. It has the arguments of the parent; where it connects and what
 * it shall do is in the shared memory. Handlers run in threads of the worker. */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/bench_shared.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct bench_child {
    bench_shared *shared;
    bench_slot *slot;
    log_writer log;
} bench_child;

static pgq_worker *volatile signal_worker;

static void on_stop(int number)
{
    (void)number;
    pgq_worker_stop(signal_worker);
}

static int64_t cpu_us(void)
{
    struct rusage used;

    if (getrusage(RUSAGE_SELF, &used) != 0)
        return 0;
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec +
           used.ru_stime.tv_usec;
}

/* The largest resident size so far. Not ru_maxrss: that begins with the parent's. */
static int64_t peak_bytes(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    char line[256];
    long long kib = 0;

    while (status != NULL && fgets(line, sizeof(line), status) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtoll(line + 6, NULL, 10);
    }
    if (status != NULL)
        (void)fclose(status);
    return kib * 1024;
}

static void tell(bench_child *child, bench_state state)
{
    atomic_store(&child->slot->state, (int)state);
    (void)sem_post(&child->shared->news);
}

/* The first start of the process: from here on its work is measured. */
static void note_first(bench_slot *slot)
{
    long long none = 0;

    if (atomic_load_explicit(&slot->first_us, memory_order_relaxed) != 0)
        return;
    if (atomic_compare_exchange_strong(&slot->first_us, &none, clock_monotonic_us()))
        slot->first_cpu_us = cpu_us();
}

/* Until each worker has begun a job. */
static void count_begun(const bench_child *child)
{
    bench_shared *shared = child->shared;
    int64_t jobs = 0;

    if (atomic_fetch_add(&child->slot->begun, 1) > 0)
        return;
    if (atomic_fetch_add(&shared->workers_begun, 1) + 1 < shared->workers)
        return;
    for (int i = 0; i < shared->workers; i++)
        jobs += atomic_load(&shared->slots[i].begun);
    shared->all_jobs = jobs;
    atomic_store(&shared->all_us, clock_monotonic_us());
}

static pgq_outcome drain_one(pgq_job *job, void *user)
{
    const bench_child *child = user;
    bench_shared *shared = child->shared;

    (void)job;
    note_first(child->slot);
    if (shared->workers > 1 && atomic_load_explicit(&shared->all_us, memory_order_relaxed) == 0)
        count_begun(child);
    return pgq_done();
}

static pgq_outcome count_one(pgq_job *job, void *user)
{
    const bench_child *child = user;
    bench_shared *shared = child->shared;
    long long number = atomic_fetch_add(&shared->started, 1) + 1;

    (void)job;
    note_first(child->slot);
    if (number == atomic_load_explicit(&shared->base, memory_order_relaxed) + 1)
        atomic_store(&shared->base_us, clock_monotonic_us());
    if (number == atomic_load_explicit(&shared->target, memory_order_relaxed)) {
        atomic_store(&shared->target_us, clock_monotonic_us());
        (void)sem_post(&shared->news);
    }
    return pgq_done();
}

static pgq_outcome time_one(pgq_job *job, void *user)
{
    const bench_child *child = user;
    int64_t now_us = clock_monotonic_us(), number = -1;
    pgq_bytes payload = pgq_job_payload(job);
    char text[BENCH_NUMBER_BYTES];

    note_first(child->slot);
    if (payload.data == NULL || payload.len >= sizeof(text))
        return pgq_fail("ValueError", "the payload is not a number");
    memcpy(text, payload.data, payload.len);
    text[payload.len] = '\0';
    if (!setting_parse_int(text, 0, BENCH_SAMPLES_MAX - 1, &number))
        return pgq_fail("ValueError", "the payload is not a number");
    atomic_store(&child->shared->samples_us[number], now_us);
    atomic_fetch_add(&child->shared->started, 1);
    (void)sem_post(&child->shared->news);
    return pgq_done();
}

static void on_event(void *user, pgq_log_level level, const char *event,
                     const pgq_log_field *fields, size_t count)
{
    bench_child *child = user;

    if (base_streq(event, "worker.listening")) {
        tell(child, BENCH_STATE_LISTENING);
    } else if (base_streq(event, "worker.stopped")) {
        child->slot->end_cpu_us = cpu_us();
    }
    log_write(&child->log, level, event, fields, count);
}

static void write_stderr(void *user, const char *line, size_t len)
{
    (void)user;
    (void)cli_write(STDERR_FILENO, line, len);
}

static pgq_run_options run_options(bench_child *child)
{
    const bench_shared *shared = child->shared;
    pgq_run_options options = PGQ_RUN_OPTIONS_INIT;

    options.mode = shared->task == BENCH_TASK_DRAIN ? PGQ_MODE_DRAIN_NOW : PGQ_MODE_CONTINUOUS;
    options.lane = shared->lane;
    options.log_policy = shared->policy;
    options.lease_ms = shared->lease_ms;
    options.threads = shared->threads;
    if (shared->batch_size > 0)
        options.batch_size = shared->batch_size;
    if (shared->lanes > 0)
        options.lanes = shared->lanes;
    options.log_level = PGQ_LOG_INFO;
    options.log_sink = on_event;
    options.log_user = child;
    return options;
}

static pgq_code work(bench_child *child, pgq_worker *worker, pgq_error *err)
{
    static const pgq_handler handlers[] = {
        [BENCH_TASK_DRAIN] = drain_one,
        [BENCH_TASK_COUNT] = count_one,
        [BENCH_TASK_TIME] = time_one,
    };
    struct sigaction stop = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    pgq_run_options options = run_options(child);
    pgq_worker_counts counts;
    pgq_code code = pgq_worker_entrypoint(worker, BENCH_ENTRYPOINT, handlers[child->shared->task],
                                          child, NULL, err);

    if (code != PGQ_OK)
        return code;
    signal_worker = worker;
    (void)sigemptyset(&stop.sa_mask);
    (void)sigaction(SIGTERM, &stop, NULL);
    tell(child, BENCH_STATE_LOADED);
    while (sem_wait(&child->shared->go) != 0) {
        /* a signal: the worker that it stopped returns at once */
        if (errno != EINTR)
            break;
    }
    code = pgq_worker_run(worker, &options, err);
    (void)signal(SIGTERM, SIG_IGN);
    pgq_worker_get_counts(worker, &counts);
    child->slot->jobs = (int64_t)counts.successful;
    child->slot->end_us = counts.settled_us;
    if (code == PGQ_OK && counts.failed + counts.lost > 0)
        code = error_set(err, PGQ_E_INTERNAL, "%llu no-op jobs failed, %llu claims were lost",
                         (unsigned long long)counts.failed, (unsigned long long)counts.lost);
    return code;
}

static pgq_code serve(cli *c, bench_child *child, pgq_error *err)
{
    pgq_connect_options connect = PGQ_CONNECT_OPTIONS_INIT;
    pgq_names names = PGQ_NAMES_INIT;
    pgq_worker *worker = NULL;
    pgq_code code;

    names.schema = child->shared->schema;
    names.channel = child->shared->schema; /* as bench_db_names has it */
    connect.names = &names;
    connect.dsn = child->shared->has_dsn ? child->shared->dsn : NULL;
    connect.connect_timeout_ms = (int)cli_number(c, OPT_CONNECT_TIMEOUT);
    connect.application_name = BENCH_APPLICATION;
    code = pgq_worker_new(&connect, &worker, err);
    if (code != PGQ_OK)
        return code;
    log_open(&child->log, LOG_TEXT, PGQ_LOG_WARNING, write_stderr, NULL);
    code = work(child, worker, err);
    log_close(&child->log);
    (void)pgq_worker_free(worker);
    return code;
}

/* What the parent has said in the environment. */
static bool read_word(char *text, int64_t numbers[3])
{
    char *rest = text;

    for (int i = 0; i < 3; i++) {
        const char *word = strsep(&rest, ":");

        if (word == NULL || !setting_parse_int(word, 0, INT32_MAX, &numbers[i]))
            return false;
    }
    return rest == NULL && numbers[2] < BENCH_WORKERS_MAX;
}

bool bench_worker_run(cli *c, int *ret_status)
{
    const char *given = getenv(BENCH_VARIABLE);
    bench_child child = {.shared = NULL};
    char text[128];
    int64_t numbers[3];
    void *memory;

    if (given == NULL)
        return false;
    (void)snprintf(text, sizeof(text), "%s", given);
    *ret_status = EXIT_FAILED;
    if (!read_word(text, numbers))
        return true;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody else would end it */
    if (getppid() != (pid_t)numbers[0])
        return true;
    memory =
        mmap(NULL, sizeof(bench_shared), PROT_READ | PROT_WRITE, MAP_SHARED, (int)numbers[1], 0);
    (void)close((int)numbers[1]);
    if (memory == MAP_FAILED)
        return true;
    child.shared = memory;
    child.slot = &child.shared->slots[numbers[2]];
    child.slot->error = (pgq_error)PGQ_ERROR_INIT;
    child.slot->code = serve(c, &child, &child.slot->error);
    child.slot->peak_bytes = peak_bytes();
    tell(&child, BENCH_STATE_ENDED);
    *ret_status = child.slot->code == PGQ_OK ? EXIT_DONE : EXIT_FAILED;
    return true;
}
