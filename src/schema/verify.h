/* The comparison of the live catalogue with the declared one, as lines for people. */
#ifndef SCHEMA_VERIFY_H
#define SCHEMA_VERIFY_H

#include "base/buffer.h"
#include "schema/live.h"

/* Adds one line for each divergence and returns their number. First what the Python release looks
 * for, in its words and order; then everything else. An allocation that fails breaks the buffer. */
size_t verify_present(const live_catalog *live, const names *n, buffer *report);
size_t verify_absent(const live_catalog *live, const names *n, buffer *report);

/* Whether a column has its declared default, whose filled text is `wanted` (NULL: none). Where ids
 * come from matters, not how: a sequence that the server owns, or an identity. */
bool verify_default(const catalog_column *declared, const live_column *live, const char *wanted);

/* What is wrong with a function of the extras, as bits; 0: nothing. `schema` is that of the tables.
 * An allocation that fails sets *broken. */
enum {
    ROUTINE_MISSING = 1,
    ROUTINE_OTHER = 2,  /* a body of another release */
    ROUTINE_RIGHTS = 4, /* its owner's instead of its caller's, or the other way round */
    ROUTINE_UNPINNED = 8
};
unsigned verify_routine(arena *a, const names *n, const char *schema,
                        const catalog_routine *declared, const live_routine *live, bool *broken);

/* Whether the trigger's function does its work. The body may be another one, the Python release's
 * or the user's; but one that does not hold the channel's name as a literal (`channel`, quoted)
 * wakes nobody who listens there. */
bool verify_notifies(const char *body, const char *channel);

#endif
