/* Fails the N-th call of each scenario, for N = 1, 2, ... until a run meets no fault.
 *
 *     sweep [--full] [SCENARIO [once|outage|always [N]]]
 *
 * Without --full not every N is run: the first and the last call of each place in our code, and
 * some between them. Afterwards, with the faults off: no leak of memory, descriptors or threads,
 * and what the scenario promises. A run that hangs or crashes ends the program. */
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "faults.h"
#include "scenarios.h"

enum {
    HANG_SECONDS = 40,
    OUTAGE_US = 120 * 1000,
    HITS_MAX = 3000, /* in one outage: more is a loop that spins */
    FIRST_RUNS = 4,  /* N from 1 on that are always run */
    STRIDE_RUNS = 8, /* and so many over the whole length */
    RUNS_SITES_MAX = 4096
};

/* In the builds with the sanitizer. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static const char *const mode_names[] = {[FAULT_COUNT] = "counting",
                                         [FAULT_ONCE] = "once",
                                         [FAULT_OUTAGE] = "outage",
                                         [FAULT_ALWAYS] = "always"};

/* What runs now, for the message of the watchdog. */
static char current[96];
static bool full;
static long runs_total, hits_total;

static void on_alarm(int number)
{
    static const char text[] = "Bail out! this run hangs: ";

    (void)number;
    (void)!write(STDOUT_FILENO, text, sizeof(text) - 1);
    (void)!write(STDOUT_FILENO, current, strlen(current));
    (void)!write(STDOUT_FILENO, "\n", 1);
    abort();
}

static long count_entries(const char *folder)
{
    DIR *directory = opendir(folder);
    long count = 0;

    while (directory != NULL && readdir(directory) != NULL)
        count++;
    if (directory != NULL)
        (void)closedir(directory);
    return count;
}

/* A thread that resolves a name may still be on its way out. */
static bool settles_at(const char *folder, long wanted)
{
    time_t deadline = time(NULL) + 5;

    while (count_entries(folder) > wanted) {
        if (time(NULL) > deadline)
            return false;
        (void)poll(NULL, 0, 1);
    }
    return true;
}

typedef struct before {
    long allocations, descriptors, threads;
} before;

static const char *find_leak(const before *was)
{
    if (!settles_at("/proc/self/task", was->threads))
        return "a thread stays";
    if (!settles_at("/proc/self/fd", was->descriptors))
        return "a descriptor stays open";
    if (fault_allocations() != was->allocations)
        return "memory stays";
    if (__lsan_do_recoverable_leak_check != NULL && __lsan_do_recoverable_leak_check() != 0)
        return "the sanitizer found a leak";
    return NULL;
}

/* One run; NULL, or what is wrong. */
static const char *run_one(const scenario *s, database *d, fault_mode mode, long n)
{
    static bool warm[64];
    pgq_error err = PGQ_ERROR_INIT;
    const char *wrong;
    before was;
    pgq_code code;
    long hits;

    (void)snprintf(current, sizeof(current), "%s %s %ld", s->name, mode_names[mode], n);
    if (!warm[s - scenarios]) { /* what is made once in a process is no leak: libuv's, libpq's */
        warm[s - scenarios] = true;
        s->prepare(d);
        code = s->run(d, &err);
        (void)s->check(d, code);
    }
    was = (before){fault_allocations(), count_entries("/proc/self/fd"),
                   count_entries("/proc/self/task")};
    s->prepare(d);
    (void)alarm(HANG_SECONDS);
    fault_arm(mode, n, OUTAGE_US);
    code = s->run(d, &err);
    fault_disarm();
    hits = fault_hits();
    runs_total++;
    hits_total += hits;
    wrong = s->check(d, code);
    (void)alarm(0);
    if (wrong == NULL)
        wrong = find_leak(&was);
    if (wrong == NULL && code != PGQ_OK && hits == 0)
        wrong = "it failed without a fault";
    if (wrong == NULL && code != PGQ_OK && (err.code != code || err.message[0] == '\0'))
        wrong = "the error does not say what happened";
    if (wrong == NULL && hits > HITS_MAX)
        wrong = "a loop spins";
    if (wrong != NULL)
        printf("# %s (fault at %s): %s; %s: %s\n", current, fault_name_of(n), wrong,
               pgq_code_name(code), err.message);
    return wrong;
}

/* Whether call n is worth a run of its own: see the head of this file. */
static bool is_chosen(long n, long calls)
{
    static long first[RUNS_SITES_MAX], last[RUNS_SITES_MAX];
    int site = fault_site_of(n);

    if (n == 1) {
        memset(first, 0, sizeof(first));
        memset(last, 0, sizeof(last));
        for (long i = calls; i > 0; i--) {
            int at = fault_site_of(i);

            if (at < 0 || at >= RUNS_SITES_MAX)
                continue;
            first[at] = i;
            last[at] = last[at] == 0 ? i : last[at];
        }
    }
    if (full || n <= FIRST_RUNS || n % (calls / STRIDE_RUNS + 1) == 0)
        return true;
    return site >= 0 && site < RUNS_SITES_MAX && (n == first[site] || n == last[site]);
}

/* The numbers of one sweep. The first run only counts; the last one meets no fault. */
static bool sweep(const scenario *s, database *d, fault_mode mode)
{
    static bool chosen[1 << 16];
    struct timespec began, ended;
    long calls, runs = 0, bad = 0, hits_before = hits_total, n;

    (void)clock_gettime(CLOCK_MONOTONIC, &began);
    if (run_one(s, d, FAULT_COUNT, 0) != NULL)
        return false;
    calls = fault_calls();
    for (n = 1; n <= calls; n++)
        chosen[n] = is_chosen(n, calls);
    for (n = 1; bad < 10; n++) {
        if (n <= calls && !chosen[n])
            continue;
        bad += run_one(s, d, mode, n) != NULL;
        runs++;
        if (fault_hits() == 0 && n > calls)
            break; /* a run may have fewer calls than the one that counted */
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("# %s, %s: %ld calls, %ld runs, %ld faults, %.1f s\n", s->name, mode_names[mode], calls,
           runs, hits_total - hits_before,
           (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9);
    return bad == 0;
}

/* The counters, and whether every wrapped function failed at least once; in a full sweep, at every
 * place that calls it. */
static bool report(void)
{
    fault_totals rows[64];
    size_t count = fault_report(rows, sizeof(rows) / sizeof(rows[0]));
    size_t sites = 0, faulted = 0;
    bool all = true;

    for (size_t i = 0; i < count; i++) {
        printf("# %-22s %8ld calls %6ld faults, %zu of %zu places\n", rows[i].function,
               rows[i].calls, rows[i].faults, rows[i].faulted_sites, rows[i].sites);
        sites += rows[i].sites;
        faulted += rows[i].faulted_sites;
        all = all && rows[i].faults > 0;
    }
    printf("# %ld runs, %ld faults, %zu of %zu places, %ld handlers ran\n", runs_total, hits_total,
           faulted, sites, scenario_handler_runs());
    return all && (!full || faulted == sites);
}

static const fault_mode modes[] = {FAULT_ONCE, FAULT_OUTAGE, FAULT_ALWAYS};

static int sweep_all(database *d, const char *only, const char *only_mode)
{
    int number = 0, bad = 0;
    bool ok;

    for (size_t i = 0; i < scenario_count; i++) {
        for (size_t m = 0; m < sizeof(modes) / sizeof(modes[0]); m++) {
            bool worker = strcmp(scenarios[i].name, "worker") == 0;

            /* a worker waits for a database that is away; the others give up */
            if (modes[m] == (worker ? FAULT_ALWAYS : FAULT_OUTAGE) ||
                (only != NULL && strcmp(only, scenarios[i].name) != 0) ||
                (only_mode != NULL && strcmp(only_mode, mode_names[modes[m]]) != 0))
                continue;
            ok = sweep(&scenarios[i], d, modes[m]);
            bad += !ok;
            printf("%sok %d - %s survives a fault at any call, %s\n", ok ? "" : "not ", ++number,
                   scenarios[i].name, mode_names[modes[m]]);
            (void)fflush(stdout);
        }
    }
    ok = report() || only != NULL;
    bad += !ok;
    printf("%sok %d - every call that can fail did\n1..%d\n", ok ? "" : "not ", number + 1,
           number + 1);
    return bad;
}

int main(int argc, char **argv)
{
    const char *words[3] = {NULL, NULL, NULL};
    size_t count = 0;
    database d;
    int bad;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--full") == 0)
            full = true;
        else if (count < 3)
            words[count++] = argv[i];
    }
    if (!server_start())
        return 0;
    (void)signal(SIGALRM, on_alarm);
    json_set_alloc_funcs(malloc, free);
    database_open(&d);
    if (words[2] != NULL) {
        size_t s = 0, m = 0;

        while (s + 1 < scenario_count && strcmp(scenarios[s].name, words[0]) != 0)
            s++;
        while (m + 1 < 3 && strcmp(mode_names[modes[m]], words[1]) != 0)
            m++;
        bad = run_one(&scenarios[s], &d, modes[m], strtol(words[2], NULL, 10)) != NULL;
    } else {
        bad = sweep_all(&d, words[0], words[1]);
    }
    database_close(&d);
    return bad == 0 ? 0 : 1;
}
