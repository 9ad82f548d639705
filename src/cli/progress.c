#include "cli/progress.h"
#include "base/clock.h"

#include <stdio.h>
#include <unistd.h>

#define QUIET_US 500000      /* shorter work shows nothing */
#define TERMINAL_US 100000   /* between two pictures */
#define ELSEWHERE_US 5000000 /* between two lines */

enum { BAR_CELLS = 30 };

void progress_begin(progress *p, const char *what, int64_t total)
{
    *p = (progress){.what = what, .total = total, .begun_us = clock_monotonic_us()};
    p->terminal = isatty(STDERR_FILENO) != 0;
    p->shown_us = p->begun_us;
}

static void draw(progress *p, int64_t done, int64_t now_us)
{
    static const char cells[] = "##############################";
    static const char gaps[] = "..............................";
    int full = p->total > 0 ? (int)(done * BAR_CELLS / p->total) : BAR_CELLS;
    double seconds = (double)(now_us - p->begun_us) / 1e6;

    _Static_assert(sizeof(cells) == BAR_CELLS + 1 && sizeof(gaps) == BAR_CELLS + 1, "bar");
    if (full > BAR_CELLS)
        full = BAR_CELLS;
    (void)fprintf(stderr, "\r%s [%.*s%.*s] %lld/%lld  %.0f/s \033[K", p->what, full, cells,
                  BAR_CELLS - full, gaps, (long long)done, (long long)p->total,
                  seconds > 0 ? (double)done / seconds : 0);
    p->shown = true;
}

void progress_show(progress *p, int64_t done)
{
    int64_t now_us = clock_monotonic_us();

    if (now_us - p->begun_us < QUIET_US ||
        now_us - p->shown_us < (p->terminal ? TERMINAL_US : ELSEWHERE_US))
        return;
    p->shown_us = now_us;
    if (p->terminal)
        draw(p, done, now_us);
    else
        (void)fprintf(stderr, "%s: %lld of %lld\n", p->what, (long long)done, (long long)p->total);
}

void progress_end(progress *p)
{
    if (p->shown)
        (void)fputs("\r\033[K", stderr);
    p->shown = false;
}
