#include "base/clock.h"

#include <limits.h>
#include <stdio.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec now;

    (void)clock_gettime(id, &now); /* cannot fail for these clocks */
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_monotonic_us(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t clock_wall_us(void)
{
    return read_clock(CLOCK_REALTIME);
}

char *clock_format(int64_t wall_us, bool millis, char text[CLOCK_TEXT_BYTES])
{
    int64_t seconds = wall_us / 1000000, rest = wall_us % 1000000;
    time_t time_seconds;
    struct tm parts;

    if (rest < 0) {
        rest += 1000000;
        seconds--;
    }
    time_seconds = (time_t)seconds;
    if (gmtime_r(&time_seconds, &parts) == NULL) {
        (void)snprintf(text, CLOCK_TEXT_BYTES, "?");
        return text;
    }
    (void)snprintf(text, CLOCK_TEXT_BYTES, "%04d-%02d-%02dT%02d:%02d:%02d.%0*dZ",
                   (parts.tm_year + 1900) % 100000, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
                   parts.tm_min, parts.tm_sec, millis ? 3 : 6, (int)(millis ? rest / 1000 : rest));
    return text;
}

int clock_poll_ms(int64_t now_us, int64_t deadline_us)
{
    int64_t wait_ms;

    if (deadline_us == CLOCK_NEVER)
        return -1;
    if (deadline_us <= now_us)
        return 0;
    wait_ms = (deadline_us - now_us + 999) / 1000;
    return wait_ms < INT_MAX ? (int)wait_ms : INT_MAX;
}
