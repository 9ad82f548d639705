/* What happened: every line goes into the hash, the last ones are kept for a failure's report. */
#include "sim.h"

#include <stdio.h>

static void mix(trace *t, uint64_t value)
{
    for (int i = 0; i < 8; i++) {
        t->hash ^= value >> (8 * i) & 0xFFu;
        t->hash *= 0x100000001B3u; /* FNV-1a */
    }
}

static void print_line(const trace_line *line)
{
    (void)printf("%12.6f  ", (double)line->at_us / 1e6);
    if (line->worker > 0)
        (void)printf("worker %-2d ", line->worker);
    else
        (void)printf("%-10s", "");
    if (line->lane >= 0)
        (void)printf("lane %d  ", line->lane);
    else
        (void)printf("%-8s", "");
    (void)printf("%s %lld %lld\n", line->text, (long long)line->a, (long long)line->b);
}

void trace_add(world *w, const char *text, const worker *who, int lane, int64_t a, int64_t b)
{
    trace *t = &w->trace;
    trace_line *line = &t->last[t->count++ % SIM_TRACE_LINES];

    *line = (trace_line){w->now_us, text, who != NULL ? (int)who->serial : 0, lane, a, b};
    for (const char *at = text; *at != '\0'; at++)
        t->hash = (t->hash ^ (unsigned char)*at) * 0x100000001B3u;
    mix(t, (uint64_t)line->at_us);
    mix(t, (uint64_t)line->worker << 8 | (uint64_t)(line->lane + 1));
    mix(t, (uint64_t)a);
    mix(t, (uint64_t)b);
    if (t->print)
        print_line(line);
}

void trace_print_last(const trace *t)
{
    uint64_t from = t->count > SIM_TRACE_LINES ? t->count - SIM_TRACE_LINES : 0;

    for (uint64_t i = from; i < t->count; i++)
        print_line(&t->last[i % SIM_TRACE_LINES]);
}
