/* Filling a pgq_error. Lower rooms return codes and fill the caller's error; they never log. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "base/base.h"

/* Sets code and message, clears the rest, and returns `code`, so that a caller can write
 * `return error_set(...)`. err may be NULL. */
pgq_code error_set(pgq_error *err, pgq_code code, const char *format, ...) BASE_PRINTF(3, 4);

/* These add to an error that was set; err may be NULL. */
void error_hint(pgq_error *err, const char *format, ...) BASE_PRINTF(2, 3);
void error_where(pgq_error *err, const char *format, ...) BASE_PRINTF(2, 3);

static inline pgq_code error_nomem(pgq_error *err)
{
    return error_set(err, PGQ_E_NOMEM, "out of memory");
}

#endif
