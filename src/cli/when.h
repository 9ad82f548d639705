/* Times as people write them. */
#ifndef CLI_WHEN_H
#define CLI_WHEN_H

#include "base/base.h"

/* Reads an ISO 8601 time with an offset: 2026-11-24T09:00:00.5+01:00, with 'T' or a blank, seconds
 * and fraction left out at will, Z or an offset required. Microseconds since 1970-01-01 UTC.
 * False for another text, a day that does not exist, or a year outside 1970 to 9999. */
bool when_parse(const char *text, int64_t *ret_us);

#endif
