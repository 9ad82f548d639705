/* Time. Durations and instants are int64_t microseconds unless a name says otherwise. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/base.h"

#define CLOCK_NEVER INT64_MAX

/* Microseconds of a clock that never steps; for deadlines. */
int64_t clock_monotonic_us(void);

/* Microseconds since 1970-01-01 UTC; for texts. */
int64_t clock_wall_us(void);

enum { CLOCK_TEXT_BYTES = 40 };

/* Writes "2026-11-24T09:00:00.123456Z" (or with three digits, when `millis`). Returns `text`. */
char *clock_format(int64_t wall_us, bool millis, char text[CLOCK_TEXT_BYTES]);

/* The wait in whole milliseconds until `deadline_us`, rounded up, as poll() wants it: 0 when it
 * has passed, -1 for CLOCK_NEVER. */
int clock_poll_ms(int64_t now_us, int64_t deadline_us);

#endif
