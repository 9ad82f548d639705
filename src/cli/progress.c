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

static void draw_bar(int64_t done, int64_t total)
{
    static const char cells[] = "##############################";
    static const char gaps[] = "..............................";
    int full = done < total ? (int)(done * BAR_CELLS / total) : BAR_CELLS;

    _Static_assert(sizeof(cells) == BAR_CELLS + 1 && sizeof(gaps) == BAR_CELLS + 1, "bar");
    (void)fprintf(stderr, " [%.*s%.*s]", full, cells, BAR_CELLS - full, gaps);
}

static void draw(progress *p, int64_t done, int64_t now_us)
{
    double seconds = (double)(now_us - p->begun_us) / 1e6;

    (void)fprintf(stderr, "\r%s", p->what);
    if (p->total > 0)
        draw_bar(done, p->total);
    else if (p->of_parts > 0)
        draw_bar(p->part, p->of_parts);
    (void)fprintf(stderr, " %lld", (long long)done);
    if (p->total > 0)
        (void)fprintf(stderr, "/%lld", (long long)p->total);
    (void)fprintf(stderr, "  %.0f/s \033[K", seconds > 0 ? (double)done / seconds : 0);
    p->shown = true;
}

static void write_line(const progress *p, int64_t done)
{
    (void)fprintf(stderr, "%s: %lld", p->what, (long long)done);
    if (p->total > 0)
        (void)fprintf(stderr, " of %lld", (long long)p->total);
    else if (p->of_parts > 0)
        (void)fprintf(stderr, " (%d%%)", (int)(p->part * 100 / p->of_parts));
    (void)fputc('\n', stderr);
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
        write_line(p, done);
}

void progress_show_part(progress *p, int64_t done, int64_t part, int64_t of_parts)
{
    p->part = part;
    p->of_parts = of_parts;
    progress_show(p, done);
}

void progress_end(progress *p)
{
    if (p->shown)
        (void)fputs("\r\033[K", stderr);
    p->shown = false;
}
