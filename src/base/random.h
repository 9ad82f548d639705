/* Random numbers: a small generator with a state that is handed in, and real entropy for ids. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include "base/base.h"

/* splitmix64: one word of state, any seed is good. Not for secrets. */
typedef struct random_state {
    uint64_t state;
} random_state;

uint64_t random_next(random_state *r);

/* Uniform in [0, bound); 0 when bound is 0. */
uint64_t random_below(random_state *r, uint64_t bound);

/* Fills bytes from the kernel. PGQ_E_IO when it has none to give. */
pgq_code random_bytes(void *bytes, size_t len);

typedef struct uuid {
    unsigned char bytes[16];
} uuid;

enum { UUID_TEXT_BYTES = 37 };

/* A random (version 4) UUID. */
pgq_code uuid_new(uuid *ret_uuid);
/* Reads the 36 characters of a UUID; false: it is none. */
bool uuid_parse(const char *text, uuid *ret_uuid);

char *uuid_format(const uuid *id, char text[UUID_TEXT_BYTES]);

/* Exponential back-off with jitter: a value, so that it can be a setting.
 * delay(n) = min(initial * 2^n, max), of which the upper half is random: many workers that lost
 * the same server do not come back in the same instant. */
typedef struct backoff {
    int64_t initial_us, max_us;
    int attempt; /* attempts so far */
} backoff;

int64_t backoff_next(backoff *b, random_state *r);
static inline void backoff_reset(backoff *b)
{
    b->attempt = 0;
}

#endif
