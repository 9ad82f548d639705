/* The worker processes of a benchmark, seen from their parent. */
#include "base/clock.h"
#include "base/error.h"
#include "cli/bench_shared.h"
#include "cli/spawn.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define END_US 3000000 /* for a worker to end after it was asked to */

enum { WAIT_MS = 100 };

static pgq_code make_shared(bench_fleet *fleet, pgq_error *err)
{
    void *memory = MAP_FAILED;

    fleet->fd = memfd_create("pgqueuer-bench", MFD_CLOEXEC);
    if (fleet->fd >= 0 && ftruncate(fleet->fd, (off_t)sizeof(bench_shared)) == 0)
        memory = mmap(NULL, sizeof(bench_shared), PROT_READ | PROT_WRITE, MAP_SHARED, fleet->fd, 0);
    if (memory == MAP_FAILED)
        return error_set(err, PGQ_E_IO, "no shared memory for the workers: %s", strerror(errno));
    fleet->shared = memory; /* all zero */
    (void)sem_init(&fleet->shared->go, 1, 0);
    (void)sem_init(&fleet->shared->news, 1, 0);
    return PGQ_OK;
}

/* The same program with the same arguments. What a worker prints is no part of the table. */
static int spawn(bench_fleet *fleet, int place, char *word)
{
    spawn_request request = SPAWN_REQUEST_INIT;

    request.path = SPAWN_SELF;
    request.argv = fleet->b->argv;
    request.word = word;
    request.kept = fleet->fd;
    request.out = STDERR_FILENO;
    return spawn_child(&request, &fleet->pids[place]);
}

static pgq_code start_one(bench_fleet *fleet, int place, pgq_error *err)
{
    char word[96];
    int status;

    (void)snprintf(word, sizeof(word), BENCH_VARIABLE "=%d:%d:%d", (int)getpid(), fleet->fd, place);
    status = spawn(fleet, place, word);
    if (status != 0)
        return error_set(err, PGQ_E_IO, "a worker cannot be started: %s", strerror(status));
    return PGQ_OK;
}

/* Takes the statuses of ended workers. One that did not say so first is an error. */
static pgq_code reap(bench_fleet *fleet, pgq_error *err)
{
    pgq_code code = PGQ_OK;

    for (int i = 0; i < fleet->count; i++) {
        const bench_slot *slot = &fleet->shared->slots[i];
        int status;

        if (fleet->pids[i] == 0 || waitpid(fleet->pids[i], &status, WNOHANG) != fleet->pids[i])
            continue;
        fleet->pids[i] = 0;
        if (atomic_load(&slot->state) != BENCH_STATE_ENDED)
            code = error_set(err, PGQ_E_IO, "a worker has ended with %s %d",
                             WIFSIGNALED(status) ? "signal" : "exit status",
                             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        else if (slot->code != PGQ_OK && err != NULL) {
            *err = slot->error;
            code = slot->code;
        }
    }
    return code;
}

static bool all_are(const bench_fleet *fleet, bench_state state)
{
    for (int i = 0; i < fleet->count; i++) {
        if (atomic_load(&fleet->shared->slots[i].state) < (int)state)
            return false;
    }
    return true;
}

static bool none_runs(const bench_fleet *fleet)
{
    for (int i = 0; i < fleet->count; i++) {
        if (fleet->pids[i] != 0)
            return false;
    }
    return true;
}

/* Waits for news, a little. */
static void wait_news(bench_fleet *fleet)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += WAIT_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    (void)sem_timedwait(&fleet->shared->news, &until);
}

/* What can go wrong while the workers work. */
static pgq_code look(bench_fleet *fleet, pgq_error *err)
{
    pgq_code code = bench_interrupted() ? bench_interruption(err) : reap(fleet, err);

    return code == PGQ_OK ? bench_db_check(&fleet->b->db, err) : code;
}

static pgq_code wait_state(bench_fleet *fleet, bench_state state, pgq_error *err)
{
    pgq_code code = PGQ_OK;

    while (code == PGQ_OK && !all_are(fleet, state)) {
        wait_news(fleet);
        code = look(fleet, err);
    }
    return code;
}

pgq_code bench_fleet_start(bench *b, const bench_way *way, bench_fleet *fleet, pgq_error *err)
{
    static const bench_task tasks[] = {
        [BENCH_DRAIN] = BENCH_TASK_DRAIN,
        [BENCH_LATENCY] = BENCH_TASK_TIME,
        [BENCH_HORIZON] = BENCH_TASK_COUNT,
        [BENCH_BACKLOG] = BENCH_TASK_COUNT,
    };
    const char *dsn = b->db.dsn;
    bench_shared *shared;
    pgq_code code;

    *fleet = (bench_fleet){.b = b, .fd = -1};
    code = make_shared(fleet, err);
    if (code != PGQ_OK)
        return code;
    shared = fleet->shared;
    shared->has_dsn = dsn != NULL;
    if (dsn != NULL &&
        snprintf(shared->dsn, sizeof(shared->dsn), "%s", dsn) >= (int)sizeof(shared->dsn))
        return error_set(err, PGQ_E_LIMIT, "the DSN is longer than %d bytes", BENCH_DSN_BYTES - 1);
    (void)snprintf(shared->schema, sizeof(shared->schema), "%s", b->db.schemas[way->place]);
    shared->task = tasks[b->kind];
    shared->workers = b->workers;
    shared->lane = way->lane;
    shared->policy = way->policy;
    if (!way->plain) {
        shared->batch_size = b->batch_size;
        shared->lanes = b->lanes;
        shared->threads = b->threads;
        shared->lease_ms = b->lease_ms;
    }
    while (code == PGQ_OK && fleet->count < b->workers) {
        code = start_one(fleet, fleet->count, err);
        if (code == PGQ_OK)
            fleet->count++;
    }
    return code == PGQ_OK ? wait_state(fleet, BENCH_STATE_LOADED, err) : code;
}

void bench_fleet_go(bench_fleet *fleet)
{
    for (int i = 0; i < fleet->count; i++)
        (void)sem_post(&fleet->shared->go);
}

pgq_code bench_fleet_wait(bench_fleet *fleet, pgq_error *err)
{
    pgq_code code = PGQ_OK;

    while (code == PGQ_OK && !none_runs(fleet)) {
        wait_news(fleet);
        code = look(fleet, err);
    }
    return code;
}

pgq_code bench_fleet_wait_listening(bench_fleet *fleet, pgq_error *err)
{
    return wait_state(fleet, BENCH_STATE_LISTENING, err);
}

void bench_fleet_step(bench_fleet *fleet, int64_t jobs)
{
    bench_shared *shared = fleet->shared;
    long long base = atomic_load(&shared->started);

    atomic_store(&shared->base_us, 0);
    atomic_store(&shared->target_us, 0);
    atomic_store(&shared->base, base);
    atomic_store(&shared->target, base + jobs);
}

pgq_code bench_fleet_wait_step(bench_fleet *fleet, double *ret_seconds, pgq_error *err)
{
    const bench_shared *shared = fleet->shared;
    pgq_code code = PGQ_OK;

    while (code == PGQ_OK && atomic_load(&shared->target_us) == 0) {
        wait_news(fleet);
        code = look(fleet, err);
    }
    *ret_seconds = (double)(atomic_load(&shared->target_us) - atomic_load(&shared->base_us)) / 1e6;
    return code;
}

pgq_code bench_fleet_wait_start(bench_fleet *fleet, int number, int64_t *ret_us, pgq_error *err)
{
    const bench_shared *shared = fleet->shared;
    pgq_code code = PGQ_OK;

    while (code == PGQ_OK && atomic_load(&shared->samples_us[number]) == 0) {
        wait_news(fleet);
        code = look(fleet, err);
    }
    *ret_us = atomic_load(&shared->samples_us[number]);
    return code;
}

static void signal_all(const bench_fleet *fleet, int number)
{
    for (int i = 0; i < fleet->count; i++) {
        if (fleet->pids[i] != 0)
            (void)kill(fleet->pids[i], number);
    }
}

/* A fleet's rate is that of all of it: while some of its workers still connect, the others have the
 * server to themselves, or wait for the connecting ones. So it is counted from the moment when each
 * has begun a job; unless most jobs were done by then. */
static void time_whole_fleet(const bench_fleet *fleet, int64_t end_us, bench_work *work)
{
    const bench_shared *shared = fleet->shared;
    int64_t all_us = atomic_load(&shared->all_us);

    if (all_us == 0 || end_us <= all_us || shared->all_jobs > work->jobs / 2)
        return;
    work->timed = work->jobs - shared->all_jobs;
    work->seconds = (double)(end_us - all_us) / 1e6;
}

static void add_work(const bench_fleet *fleet, bench_work *work)
{
    int64_t first_us = CLOCK_NEVER, end_us = 0;

    *work = (bench_work){0};
    for (int i = 0; i < fleet->count; i++) {
        const bench_slot *slot = &fleet->shared->slots[i];
        int64_t slot_first_us = atomic_load(&slot->first_us);

        work->jobs += slot->jobs;
        if (slot_first_us != 0) {
            first_us = base_min_i64(first_us, slot_first_us);
            end_us = base_max_i64(end_us, slot->end_us);
            work->cpu_us += (double)(slot->end_cpu_us - slot->first_cpu_us);
        }
        if ((double)slot->peak_bytes / 1048576 > work->rss_mib)
            work->rss_mib = (double)slot->peak_bytes / 1048576;
    }
    work->timed = work->jobs;
    if (end_us > first_us)
        work->seconds = (double)(end_us - first_us) / 1e6;
    time_whole_fleet(fleet, end_us, work);
}

void bench_fleet_end(bench_fleet *fleet, bench_work *work)
{
    int64_t deadline_us = clock_monotonic_us() + END_US;

    if (fleet->shared == NULL)
        return;
    bench_fleet_go(fleet); /* one that waits for it ends then */
    signal_all(fleet, SIGTERM);
    while (!none_runs(fleet)) {
        if (clock_monotonic_us() > deadline_us)
            signal_all(fleet, SIGKILL);
        wait_news(fleet);
        (void)reap(fleet, NULL);
    }
    if (work != NULL)
        add_work(fleet, work);
    (void)munmap(fleet->shared, sizeof(bench_shared));
    if (fleet->fd >= 0)
        (void)close(fleet->fd);
    *fleet = (bench_fleet){.fd = -1};
}
