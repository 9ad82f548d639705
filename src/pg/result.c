#include "pg/result.h"
#include "pg/pq.h"

#include <endian.h>
#include <string.h>

static PGresult *handle_of(const pg_result *r)
{
    return (PGresult *)(void *)r->handle;
}

size_t result_rows(const pg_result *r)
{
    return (size_t)r->rows;
}

/* libpq complains of what is not there, on stderr where nobody has told it otherwise. */
static bool is_there(const pg_result *r, size_t row, int column)
{
    return row < result_rows(r) && column < r->columns;
}

static bool has_value(const pg_result *r, size_t row, int column)
{
    return is_there(r, row, column) && PQgetisnull(handle_of(r), (int)row, column) == 0;
}

bool result_is_null(const pg_result *r, size_t row, int column)
{
    return !has_value(r, row, column);
}

/* The value's bytes when it has exactly `len` of them, at least one, else NULL and the mark. To
 * libpq NULL has none. */
static const unsigned char *fixed(pg_result *r, size_t row, int column, int len)
{
    if (is_there(r, row, column) && PQgetlength(handle_of(r), (int)row, column) == len)
        return (const unsigned char *)PQgetvalue(handle_of(r), (int)row, column);
    r->malformed = true;
    return NULL;
}

bool result_bool(pg_result *r, size_t row, int column)
{
    const unsigned char *bytes = fixed(r, row, column, 1);

    return bytes != NULL && bytes[0] != 0;
}

/* An integer of `len` bytes in network order, its bits in the low end. */
static inline uint64_t integer(pg_result *r, size_t row, int column, int len)
{
    const unsigned char *bytes = fixed(r, row, column, len);
    uint64_t wire = 0;

    if (bytes == NULL)
        return 0;
    memcpy(&wire, bytes, (size_t)len);
    return be64toh(wire) >> (8 * (8 - len));
}

int32_t result_int4(pg_result *r, size_t row, int column)
{
    return (int32_t)(uint32_t)integer(r, row, column, 4);
}

int64_t result_int8(pg_result *r, size_t row, int column)
{
    return (int64_t)integer(r, row, column, 8);
}

int64_t result_timestamp(pg_result *r, size_t row, int column)
{
    return result_int8(r, row, column);
}

uint64_t result_tid(pg_result *r, size_t row, int column)
{
    return integer(r, row, column, 6);
}

pgq_bytes result_bytes(pg_result *r, size_t row, int column)
{
    int len = is_there(r, row, column) ? PQgetlength(handle_of(r), (int)row, column) : 0;

    if (len == 0 && !has_value(r, row, column))
        return (pgq_bytes){NULL, 0};
    return (pgq_bytes){PQgetvalue(handle_of(r), (int)row, column), (size_t)len};
}

const char *result_int8_array(pg_result *r, size_t row, int column, size_t count)
{
    enum { HEAD_BYTES = 20 }; /* dimensions, whether there are NULLs, type, count, lower bound */
    pgq_bytes value = result_bytes(r, row, column);

    if (value.data != NULL && value.len == HEAD_BYTES + count * ARRAY_INT8_BYTES)
        return (const char *)value.data + HEAD_BYTES;
    r->malformed = true;
    return NULL;
}

int64_t array_int8(const char *elements, size_t i)
{
    uint64_t wire;

    memcpy(&wire, elements + i * ARRAY_INT8_BYTES + sizeof(int32_t), sizeof(wire));
    return (int64_t)be64toh(wire);
}

const char *result_text(pg_result *r, size_t row, int column)
{
    return result_bytes(r, row, column).data;
}

const char *result_jsonb(pg_result *r, size_t row, int column)
{
    pgq_bytes value = result_bytes(r, row, column);
    const char *text = value.data;

    if (text == NULL)
        return NULL;
    if (value.len < 2 || text[0] != 1) { /* the format's version */
        r->malformed = true;
        return NULL;
    }
    return text + 1;
}

const char *result_tag(const pg_result *r)
{
    return r->handle != NULL ? PQcmdStatus(handle_of(r)) : "";
}

void result_release(pg_result *r)
{
    PQclear(handle_of(r));
    *r = (pg_result)PG_RESULT_INIT;
}
