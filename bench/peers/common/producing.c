#include "producing.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MS_NS 1000000LL

typedef struct lane {
    const producing_way *way;
    void *handle;
    pthread_t thread;
    int64_t warm_ms, run_ms;
    int many;
    int64_t total, counted, span_ns;
} lane;

static int64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000LL + now.tv_nsec;
}

_Noreturn void producing_die(const char *what, const char *why)
{
    (void)fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

void producing_note_start(const char *number, int length)
{
    (void)printf("start %.*s %lld\n", length, number, (long long)now_ns());
    (void)fflush(stdout);
}

/* Measured is what came between the first end of an action after the warm-up and the last one. */
static void *repeat(void *argument)
{
    lane *a = argument;
    int64_t begin = now_ns() + a->warm_ms * MS_NS, end = begin + a->run_ms * MS_NS, first = 0, now;
    int added = a->many ? PRODUCING_BATCH : 1;

    a->total = a->counted = 0;
    do {
        if (a->many)
            a->way->add_many(a->handle, added);
        else
            a->way->add_one(a->handle, NULL);
        now = now_ns();
        a->total += added;
        if (first != 0)
            a->counted += added;
        else if (now >= begin)
            first = now;
    } while (now < end || a->counted == 0);
    a->span_ns = now - first;
    return NULL;
}

static void open_lane(const producing_way *way, lane *a)
{
    if (a->handle != NULL)
        return;
    a->way = way;
    a->handle = way->open();
}

static void measure(const producing_way *way, lane *lanes, int count, int many,
                    const long long *times_ms)
{
    int64_t total = 0, counted = 0, span_ns = 0;

    for (int i = 0; i < count; i++)
        open_lane(way, &lanes[i]);
    for (int i = 0; i < count; i++) {
        lanes[i].many = many;
        lanes[i].warm_ms = times_ms[0];
        lanes[i].run_ms = times_ms[1];
        if (pthread_create(&lanes[i].thread, NULL, repeat, &lanes[i]) != 0)
            producing_die("produce", "no thread");
    }
    for (int i = 0; i < count; i++) {
        (void)pthread_join(lanes[i].thread, NULL);
        total += lanes[i].total;
        counted += lanes[i].counted;
        span_ns += lanes[i].span_ns;
    }
    (void)printf("done %lld %lld %lld\n", (long long)total, (long long)counted,
                 (long long)(span_ns / count));
}

static void fill(const lane *a, long long count)
{
    int64_t start = now_ns();

    for (long long left = count; left > 0;) {
        int now = left < PRODUCING_BATCH ? (int)left : PRODUCING_BATCH;

        a->way->add_many(a->handle, now);
        left -= now;
    }
    (void)printf("done %lld %lld %lld\n", count, count, (long long)(now_ns() - start));
}

static void add_one(const lane *a, long long number)
{
    char payload[24];

    (void)snprintf(payload, sizeof(payload), "%lld", number);
    a->way->add_one(a->handle, payload);
    (void)printf("sent %lld %lld\n", number, (long long)now_ns());
}

static void obey(const producing_way *way, lane *lanes, char *line)
{
    const char *verb = strtok(line, " \n"), *word;
    long long numbers[3] = {0};
    int count = 0;

    while (count < 3 && (word = strtok(NULL, " \n")) != NULL)
        numbers[count++] = strtoll(word, NULL, 10);
    if (verb == NULL || count == 0)
        producing_die("produce", "no verb, or no number");
    if (strcmp(verb, "fill") == 0)
        fill(&lanes[0], numbers[0]);
    else if (strcmp(verb, "bulk") == 0)
        measure(way, lanes, 1, 1, numbers);
    else if (strcmp(verb, "single") == 0 && numbers[0] > 0 && numbers[0] <= PRODUCING_LANES_MAX)
        measure(way, lanes, (int)numbers[0], 0, numbers + 1);
    else if (strcmp(verb, "one") == 0)
        add_one(&lanes[0], numbers[0]);
    else
        producing_die("produce: cannot obey", verb);
}

void producing_serve(const producing_way *way)
{
    static lane lanes[PRODUCING_LANES_MAX];
    char line[128];

    open_lane(way, &lanes[0]);
    (void)puts("ready");
    (void)fflush(stdout);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        obey(way, lanes, line);
        (void)fflush(stdout);
    }
}
