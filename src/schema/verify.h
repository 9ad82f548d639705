/* The comparison of the live catalogue with the declared one, as lines for people. */
#ifndef SCHEMA_VERIFY_H
#define SCHEMA_VERIFY_H

#include "base/buffer.h"
#include "schema/live.h"

/* Adds one line for each divergence and returns their number. First what the Python release looks
 * for, in its words and order; then everything else. An allocation that fails breaks the buffer. */
size_t verify_present(const live_catalog *live, const names *n, buffer *report);
size_t verify_absent(const live_catalog *live, const names *n, buffer *report);

#endif
