#include "pg/param.h"

#include <assert.h>

enum { JSONB_VERSION = 1 };

static void begin(params *p)
{
    assert(p->count < STATEMENT_PARAMS_MAX && !p->open);
    p->at[p->count] = p->data.len;
}

static void end(params *p)
{
    size_t len = p->data.len - p->at[p->count];

    if (len > INT32_MAX)
        p->data.broken = true;
    else
        p->len[p->count] = (int32_t)len;
    p->count++;
}

void param_null(params *p)
{
    begin(p);
    p->len[p->count++] = -1;
}

void param_bool(params *p, bool value)
{
    begin(p);
    buffer_add_char(&p->data, value ? 1 : 0);
    end(p);
}

void param_int4(params *p, int32_t value)
{
    begin(p);
    buffer_add_i32(&p->data, value);
    end(p);
}

void param_int8(params *p, int64_t value)
{
    begin(p);
    buffer_add_i64(&p->data, value);
    end(p);
}

void param_bytes(params *p, pgq_bytes value)
{
    if (value.data == NULL) {
        param_null(p);
        return;
    }
    begin(p);
    buffer_add(&p->data, value.data, value.len);
    end(p);
}

void param_text(params *p, const char *value)
{
    param_bytes(p, (pgq_bytes){value, value != NULL ? strlen(value) : 0});
}

void param_jsonb(params *p, const char *json)
{
    if (json == NULL) {
        param_null(p);
        return;
    }
    begin(p);
    buffer_add_char(&p->data, JSONB_VERSION);
    buffer_add_text(&p->data, json);
    end(p);
}

void param_uuid(params *p, const uuid *value)
{
    param_bytes(p, (pgq_bytes){value->bytes, sizeof(value->bytes)});
}

void param_timestamp(params *p, int64_t server_us)
{
    param_int8(p, server_us);
}

void param_array_begin(params *p, pg_oid element_type, size_t count)
{
    begin(p);
    p->open = true;
    if (count > INT32_MAX) {
        p->data.broken = true;
        return;
    }
    buffer_add_i32(&p->data, count > 0 ? 1 : 0); /* dimensions */
    buffer_add_i32(&p->data, 1);                 /* there may be NULLs */
    buffer_add_i32(&p->data, (int32_t)element_type);
    if (count > 0) {
        buffer_add_i32(&p->data, (int32_t)count);
        buffer_add_i32(&p->data, 1); /* lower bound */
    }
}

void param_array_end(params *p)
{
    assert(p->open);
    p->open = false;
    end(p);
}

/* The length of an element, and room for its bytes; NULL without memory. */
static inline char *element(params *p, size_t len)
{
    char *at = buffer_reserve(&p->data, sizeof(int32_t) + len);

    if (at == NULL)
        return NULL;
    buffer_order(at, len, sizeof(int32_t));
    at += sizeof(int32_t);
    at[len] = '\0';
    p->data.len += sizeof(int32_t) + len;
    return at;
}

/* An element of `len` bytes in network order, which is known where this is called. */
static inline void element_order(params *p, uint64_t value, size_t len)
{
    char *at = element(p, len);

    if (at != NULL)
        buffer_order(at, value, len);
}

void element_null(params *p)
{
    buffer_add_i32(&p->data, -1);
}

void element_bool(params *p, bool value)
{
    element_order(p, value ? 1 : 0, 1);
}

/* The block, and the item in it. */
void element_tid(params *p, uint64_t place)
{
    element_order(p, place, 6);
}

void element_int4(params *p, int32_t value)
{
    element_order(p, (uint32_t)value, 4);
}

void element_int8(params *p, int64_t value)
{
    element_order(p, (uint64_t)value, 8);
}

void element_bytes(params *p, pgq_bytes value)
{
    if (value.data == NULL) {
        element_null(p);
    } else if (value.len > INT32_MAX) {
        p->data.broken = true;
    } else {
        char *at = element(p, value.len);

        if (at != NULL)
            memcpy(at, value.data, value.len);
    }
}

void element_text(params *p, const char *value)
{
    element_bytes(p, (pgq_bytes){value, value != NULL ? strlen(value) : 0});
}

void element_jsonb(params *p, const char *json, size_t len)
{
    if (len >= INT32_MAX) {
        p->data.broken = true;
        return;
    }
    buffer_add_i32(&p->data, (int32_t)len + 1);
    buffer_add_char(&p->data, JSONB_VERSION);
    buffer_add(&p->data, json, len);
}

void param_int8_array(params *p, const int64_t *values, size_t count)
{
    param_array_begin(p, PG_OID_INT8, count);
    for (size_t i = 0; i < count; i++)
        element_int8(p, values[i]);
    param_array_end(p);
}

bool params_bind(const params *p, const char *values[STATEMENT_PARAMS_MAX],
                 int formats[STATEMENT_PARAMS_MAX])
{
    if (p->data.broken)
        return false;
    for (int i = 0; i < p->count; i++) {
        formats[i] = 1; /* binary */
        if (p->len[i] < 0)
            values[i] = NULL;
        else
            values[i] = p->data.data != NULL ? p->data.data + p->at[i] : "";
    }
    return true;
}

void params_clear(params *p)
{
    buffer_clear(&p->data);
    p->count = 0;
    p->open = false;
}

void params_release(params *p)
{
    buffer_release(&p->data);
    p->count = 0;
    p->open = false;
}
