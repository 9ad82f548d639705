/* Host names to addresses without blocking: getaddrinfo() in a thread of its own.
 *
 * The thread may outlive whoever started it (nothing can stop getaddrinfo), so what they share is
 * counted, and the last one frees it. */
#ifndef PG_RESOLVE_H
#define PG_RESOLVE_H

#include "base/base.h"

enum { RESOLVE_ADDRESSES_MAX = 16, RESOLVE_ADDRESS_BYTES = 64 };

typedef struct resolution {
    char addresses[RESOLVE_ADDRESSES_MAX][RESOLVE_ADDRESS_BYTES]; /* numeric, in order */
    size_t count;
    char reason[128]; /* when count is 0 */
} resolution;

typedef struct resolver resolver;

/* Whether `host` needs no resolving: a socket directory, an abstract socket or an address. */
bool resolve_is_numeric(const char *host);

/* Starts a thread. PGQ_E_NOMEM covers every failure to start one. */
pgq_code resolver_start(const char *host, resolver **ret_resolver);

/* Readable when the answer is there. */
int resolver_fd(const resolver *r);

/* Copies the answer; false while there is none. */
bool resolver_answer(resolver *r, resolution *ret_resolution);

/* Lets go of it, whether it has answered or not. Takes NULL; returns NULL. */
resolver *resolver_free(resolver *r);

#endif
