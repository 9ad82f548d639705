/* A growable byte buffer. An allocation that fails makes it "broken": later calls do nothing, and
 * the one check at the end sees it. The content is followed by a NUL that does not count. */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include "base/base.h"

#include <endian.h>

typedef struct buffer {
    char *data; /* NULL while nothing was added */
    size_t len;
    size_t capacity;
    bool broken;
} buffer;

#define BUFFER_INIT       \
    {                     \
        NULL, 0, 0, false \
    }

/* Makes room for `more` bytes beyond len, and returns where they go; NULL when broken. */
char *buffer_reserve(buffer *buf, size_t more);

void buffer_add(buffer *buf, const void *bytes, size_t len);
void buffer_add_text(buffer *buf, const char *text);
void buffer_add_char(buffer *buf, char c);
void buffer_add_format(buffer *buf, const char *format, ...) BASE_PRINTF(2, 3);

/* Adds text with every byte that is not valid UTF-8 replaced by U+FFFD, and NUL left out. */
void buffer_add_utf8(buffer *buf, const char *text, size_t len);

/* Adds text as a JSON string, quotes included; invalid UTF-8 becomes U+FFFD. */
void buffer_add_json(buffer *buf, const char *text, size_t len);

/* Writes the low `size` bytes of value, one to eight, the highest first. */
static inline void buffer_order(char *at, uint64_t value, size_t size)
{
    uint64_t wire = htobe64(value << (8 * (sizeof(value) - size)));

    memcpy(at, &wire, size);
}

/* Network byte order, as the server's binary formats want it. */
void buffer_add_i16(buffer *buf, int16_t value);
void buffer_add_i32(buffer *buf, int32_t value);
void buffer_add_i64(buffer *buf, int64_t value);

/* Overwrites four bytes that were added at `at`. */
void buffer_put_i32(buffer *buf, size_t at, int32_t value);

/* Empties the buffer and mends it, keeping its memory. */
void buffer_clear(buffer *buf);

/* Frees the memory; the buffer can be used again. */
void buffer_release(buffer *buf);

/* Hands the content over to the caller, who frees it; NULL when broken. An empty buffer gives "".
 */
char *buffer_steal(buffer *buf);

#endif
