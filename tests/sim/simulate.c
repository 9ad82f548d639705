/* simulate [--seed N] [--histories N] [--trace] [--mutant NAME]
 *
 * Plays histories of worker fleets, the seeds N, N + 1 ..., and checks what must hold in each.
 * Exit status: 0 when all of it held, 1 when something did not (with the seed, which repeats it
 * exactly), 2 for a wrong command line. With --mutant the engine in this program is known to be
 * broken, and 0 means that the simulator found out. */
#include "sim.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Minima are for a thousand histories, and judged in at least so many that chance cannot miss a
 * rare path that is there: a part of the histories, as a sanitizer runs, is not judged. */
enum { HISTORIES = 1000, EVENTS_AT_LEAST = 200, TWICE = 25, MINIMA_PER = 1000, JUDGED_FROM = 5000 };

static const char *mutant; /* its name; NULL: the engine is meant to be right */

static const char *const fault_texts[] = {
#define FAULT_TEXT(name, minimum, text) text,
    FAULTS(FAULT_TEXT)};
static const char *const path_texts[] = {
#define PATH_TEXT(name, minimum, text) text,
    PATHS(PATH_TEXT)};
static const uint64_t fault_minima[] = {
#define FAULT_MINIMUM(name, minimum, text) minimum,
    FAULTS(FAULT_MINIMUM)};
static const uint64_t path_minima[] = {
#define PATH_MINIMUM(name, minimum, text) minimum,
    PATHS(PATH_MINIMUM)};

/* An assertion of the engine, or worse: still say which history it was. */
static void on_crash(int number)
{
    const world *w = history_running();

    if (mutant != NULL) {
        (void)printf("mutant %s found: signal %d in the history of seed %llu\n", mutant, number,
                     w != NULL ? (unsigned long long)w->seed : 0);
        (void)fflush(stdout);
        _exit(0);
    }
    if (w != NULL) {
        trace_print_last(&w->trace);
        (void)printf("CRASHED by signal %d in the history of seed %llu\n"
                     "to see all of it: simulate --seed %llu --histories 1 --trace\n",
                     number, (unsigned long long)w->seed, (unsigned long long)w->seed);
    }
    (void)fflush(stdout);
    _exit(1);
}

static bool count_enough(const char *text, uint64_t count, uint64_t minimum, uint64_t histories)
{
    uint64_t wanted = histories >= JUDGED_FROM ? minimum * histories / MINIMA_PER : 0;
    bool enough = count >= wanted;

    (void)printf("%10llu  %s", (unsigned long long)count, text);
    if (!enough)
        (void)printf(": TOO FEW, at least %llu are wanted", (unsigned long long)wanted);
    (void)printf("\n");
    return enough;
}

static bool print_tally(const tally *t)
{
    bool enough = t->paths[PATH_RUN] > 0;

    for (int f = 0; f < FAULT_COUNT; f++)
        enough &= count_enough(fault_texts[f], t->faults[f], fault_minima[f], t->histories);
    (void)printf("\n");
    for (int p = 0; p < PATH_COUNT; p++)
        enough &= count_enough(path_texts[p], t->paths[p], path_minima[p], t->histories);
    (void)printf("\n%llu histories, %llu events (at least %llu each), %lld virtual seconds\n",
                 (unsigned long long)t->histories, (unsigned long long)t->events,
                 (unsigned long long)t->fewest_events, (long long)(t->virtual_us / 1000000));
    if (t->fewest_events < EVENTS_AT_LEAST) {
        (void)printf("a history had fewer than %d events\n", EVENTS_AT_LEAST);
        enough = false;
    }
    return enough;
}

/* The same seed gives the same history, whatever was played before it. */
static bool repeats(uint64_t seed, uint64_t hash)
{
    tally ignored = {.histories = 0};
    history_result again = history_run(seed, false, true, &ignored);

    if (again.hash == hash)
        return true;
    (void)printf("seed %llu gave two different histories\n", (unsigned long long)seed);
    return false;
}

static int simulate(uint64_t first, uint64_t histories, bool print)
{
    tally total = {.histories = 0};
    uint64_t hashes[TWICE];
    bool enough;

    for (uint64_t i = 0; i < histories; i++) {
        history_result result = history_run(first + i, print, mutant != NULL, &total);

        if (result.failed && mutant != NULL) {
            (void)printf("mutant %s found in history %llu: %s\n", mutant,
                         (unsigned long long)(i + 1), result.failure);
            return 0;
        }
        if (result.failed)
            return 1;
        if (i < TWICE)
            hashes[i] = result.hash;
    }
    if (mutant != NULL) {
        (void)printf("mutant %s SURVIVED %llu histories\n", mutant, (unsigned long long)histories);
        return 1;
    }
    enough = print_tally(&total);
    for (uint64_t i = 0; i < TWICE && i < histories && !print; i++)
        enough &= repeats(first + i, hashes[i]);
    return enough ? 0 : 1;
}

static bool read_number(const char *text, uint64_t *ret_number)
{
    char *end;

    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    *ret_number = strtoull(text, &end, 10);
    return *end == '\0';
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, histories = HISTORIES;
    bool print = false, good = true;

    for (int i = 1; i < argc && good; i++) {
        if (base_streq(argv[i], "--trace"))
            print = true;
        else if (base_streq(argv[i], "--seed"))
            good = read_number(argv[++i], &seed);
        else if (base_streq(argv[i], "--histories"))
            good = read_number(argv[++i], &histories) && histories > 0;
        else if (base_streq(argv[i], "--mutant"))
            good = (mutant = argv[++i]) != NULL;
        else
            good = false;
    }
    if (!good) {
        (void)fprintf(stderr,
                      "usage: simulate [--seed N] [--histories N] [--trace] [--mutant NAME]\n");
        return 2;
    }
    (void)signal(SIGABRT, on_crash);
    (void)signal(SIGSEGV, on_crash);
    return simulate(seed, histories, print);
}
