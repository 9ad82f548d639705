#include "base/buffer.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { FIRST_CAPACITY = 128 };

char *buffer_reserve(buffer *buf, size_t more)
{
    size_t needed, capacity;
    char *data;

    if (buf->broken)
        return NULL;
    if (more >= SIZE_MAX - buf->len) {
        buf->broken = true;
        return NULL;
    }
    needed = buf->len + more + 1;
    if (needed <= buf->capacity)
        return buf->data + buf->len;
    capacity = buf->capacity < SIZE_MAX / 2 ? buf->capacity * 2 : needed;
    if (capacity < needed)
        capacity = needed;
    if (capacity < FIRST_CAPACITY)
        capacity = FIRST_CAPACITY;
    data = realloc(buf->data, capacity);
    if (data == NULL) {
        buf->broken = true;
        return NULL;
    }
    buf->data = data;
    buf->capacity = capacity;
    return data + buf->len;
}

/* As buffer_reserve; most of the time there is room. */
static inline char *room(buffer *buf, size_t more)
{
    if (!buf->broken && buf->capacity - buf->len > more)
        return buf->data + buf->len;
    return buffer_reserve(buf, more);
}

void buffer_add(buffer *buf, const void *bytes, size_t len)
{
    char *at = room(buf, len);

    if (at == NULL)
        return;
    if (len > 0)
        memcpy(at, bytes, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void buffer_add_text(buffer *buf, const char *text)
{
    buffer_add(buf, text, strlen(text));
}

void buffer_add_char(buffer *buf, char c)
{
    buffer_add(buf, &c, 1);
}

void buffer_add_format(buffer *buf, const char *format, ...)
{
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0 || buffer_reserve(buf, (size_t)length) == NULL) {
        buf->broken = true;
        return;
    }
    va_start(args, format);
    (void)vsnprintf(buf->data + buf->len, (size_t)length + 1, format, args);
    va_end(args);
    buf->len += (size_t)length;
}

void buffer_add_utf8(buffer *buf, const char *text, size_t len)
{
    size_t at = 0;

    while (at < len) {
        size_t start = at, step;

        while (at < len && (step = utf8_next(text + at, len - at)) > 0)
            at += step;
        buffer_add(buf, text + start, at - start);
        if (at < len) {
            if (text[at] != '\0')
                buffer_add_text(buf, "\xEF\xBF\xBD");
            at++;
        }
    }
}

void buffer_add_json(buffer *buf, const char *text, size_t len)
{
    size_t at = 0;

    buffer_add_char(buf, '"');
    while (at < len) {
        size_t step = utf8_next(text + at, len - at);
        unsigned char c = (unsigned char)text[at];

        if (step == 0) {
            buffer_add_text(buf, c == '\0' ? "" : "\xEF\xBF\xBD");
            step = 1;
        } else if (c == '"' || c == '\\') {
            buffer_add_format(buf, "\\%c", c);
        } else if (c == '\n') {
            buffer_add_text(buf, "\\n");
        } else if (c < 0x20 || c == 0x7F) {
            buffer_add_format(buf, "\\u%04x", c);
        } else {
            buffer_add(buf, text + at, step);
        }
        at += step;
    }
    buffer_add_char(buf, '"');
}

static inline void add_network_order(buffer *buf, uint64_t value, size_t size)
{
    char *at = room(buf, size);

    if (at == NULL)
        return;
    buffer_order(at, value, size);
    buf->len += size;
    at[size] = '\0';
}

void buffer_add_i16(buffer *buf, int16_t value)
{
    add_network_order(buf, (uint16_t)value, 2);
}

void buffer_add_i32(buffer *buf, int32_t value)
{
    add_network_order(buf, (uint32_t)value, 4);
}

void buffer_add_i64(buffer *buf, int64_t value)
{
    add_network_order(buf, (uint64_t)value, 8);
}

void buffer_put_i32(buffer *buf, size_t at, int32_t value)
{
    if (!buf->broken)
        buffer_order(buf->data + at, (uint32_t)value, 4);
}

void buffer_clear(buffer *buf)
{
    buf->len = 0;
    buf->broken = false;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

void buffer_release(buffer *buf)
{
    free(buf->data);
    *buf = (buffer)BUFFER_INIT;
}

char *buffer_steal(buffer *buf)
{
    char *data;

    buffer_add(buf, "", 0);
    data = buf->broken ? NULL : buf->data;
    if (data == NULL)
        free(buf->data);
    *buf = (buffer)BUFFER_INIT;
    return data;
}
