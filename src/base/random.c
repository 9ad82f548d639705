#include "base/random.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

uint64_t random_next(random_state *r)
{
    uint64_t z = (r->state += 0x9E3779B97F4A7C15u);

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t random_below(random_state *r, uint64_t bound)
{
    uint64_t limit, value;

    if (bound == 0)
        return 0;
    limit = UINT64_MAX - UINT64_MAX % bound;
    do {
        value = random_next(r);
    } while (value >= limit);
    return value % bound;
}

pgq_code random_bytes(void *bytes, size_t len)
{
    unsigned char *at = bytes;

    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return PGQ_E_IO;
        at += got;
        len -= (size_t)got;
    }
    return PGQ_OK;
}

pgq_code uuid_new(uuid *ret_uuid)
{
    uuid id;

    if (random_bytes(id.bytes, sizeof(id.bytes)) != PGQ_OK)
        return PGQ_E_IO;
    id.bytes[6] = (unsigned char)((id.bytes[6] & 0x0Fu) | 0x40u);
    id.bytes[8] = (unsigned char)((id.bytes[8] & 0x3Fu) | 0x80u);
    *ret_uuid = id;
    return PGQ_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool uuid_parse(const char *text, uuid *ret_uuid)
{
    size_t at = 0;

    if (strlen(text) != UUID_TEXT_BYTES - 1)
        return false;
    for (size_t i = 0; i < sizeof(ret_uuid->bytes); i++) {
        int high, low;

        if (i == 4 || i == 6 || i == 8 || i == 10) {
            if (text[at++] != '-')
                return false;
        }
        high = hex_digit(text[at++]);
        low = hex_digit(text[at++]);
        if (high < 0 || low < 0)
            return false;
        ret_uuid->bytes[i] = (unsigned char)(high * 16 + low);
    }
    return true;
}

char *uuid_format(const uuid *id, char text[UUID_TEXT_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    char *at = text;

    for (size_t i = 0; i < sizeof(id->bytes); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = digits[id->bytes[i] >> 4];
        *at++ = digits[id->bytes[i] & 0x0Fu];
    }
    *at = '\0';
    return text;
}

int64_t backoff_next(backoff *b, random_state *r)
{
    int64_t delay = b->initial_us;

    for (int i = 0; i < b->attempt && delay < b->max_us; i++)
        delay *= 2;
    if (delay > b->max_us)
        delay = b->max_us;
    if (b->attempt < 62)
        b->attempt++;
    return delay / 2 + (int64_t)random_below(r, (uint64_t)(delay / 2 + 1));
}
