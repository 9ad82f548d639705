/* Where to connect: a DSN taken apart into attempts.
 *
 * libpq 15 resolves names while it blocks and has no deadline for a single host, so each host of
 * a DSN becomes an attempt of its own, and target_session_attrs is checked by us. Where the DSN or
 * the environment names a service file's entry, libpq does it all in one attempt. */
#ifndef PG_TARGET_H
#define PG_TARGET_H

#include <pgqueuer/client.h>

#include "base/arena.h"

enum { TARGET_HOSTS_MAX = 32, TARGET_OPTIONS_MAX = 64 };

typedef enum session_attrs {
    SESSION_ANY,
    SESSION_READ_WRITE,
    SESSION_READ_ONLY,
    SESSION_PRIMARY,
    SESSION_STANDBY,
    SESSION_PREFER_STANDBY
} session_attrs;

typedef struct target_host {
    const char *host;     /* name, address or socket directory; NULL: libpq's default */
    const char *hostaddr; /* given address: nothing to resolve; or NULL */
    const char *port;     /* or NULL */
} target_host;

/* Immutable after it is made; owned by `memory`. */
typedef struct target {
    arena memory;
    target_host hosts[TARGET_HOSTS_MAX];
    size_t host_count;
    session_attrs attrs;
    int64_t connect_timeout_us; /* for each host */
    /* Everything else, for PQconnectStartParams; NULL-terminated. */
    const char *keywords[TARGET_OPTIONS_MAX];
    const char *values[TARGET_OPTIONS_MAX];
    size_t option_count;
} target;

/* PGQ_E_INVALID: the DSN cannot be parsed (its text is not repeated), or has too many hosts. */
pgq_code target_parse(const pgq_connect_options *options, target *ret_target, pgq_error *err);

void target_release(target *t);

#endif
