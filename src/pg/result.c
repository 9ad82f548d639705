#include "pg/result.h"
#include "pg/pq.h"

static PGresult *handle_of(const pg_result *r)
{
    return (PGresult *)(void *)r->handle;
}

size_t result_rows(const pg_result *r)
{
    return r->handle != NULL ? (size_t)PQntuples(handle_of(r)) : 0;
}

static bool has_value(const pg_result *r, size_t row, int column)
{
    return row < result_rows(r) && column < PQnfields(handle_of(r)) &&
           PQgetisnull(handle_of(r), (int)row, column) == 0;
}

bool result_is_null(const pg_result *r, size_t row, int column)
{
    return !has_value(r, row, column);
}

/* The value's bytes when it has exactly `len` of them, else NULL and the mark. */
static const unsigned char *fixed(pg_result *r, size_t row, int column, int len)
{
    if (has_value(r, row, column) && PQgetlength(handle_of(r), (int)row, column) == len)
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
static uint64_t integer(pg_result *r, size_t row, int column, int len)
{
    const unsigned char *bytes = fixed(r, row, column, len);
    uint64_t value = 0;

    for (int i = 0; bytes != NULL && i < len; i++)
        value = value << 8 | bytes[i];
    return value;
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

pgq_bytes result_bytes(pg_result *r, size_t row, int column)
{
    if (!has_value(r, row, column))
        return (pgq_bytes){NULL, 0};
    return (pgq_bytes){PQgetvalue(handle_of(r), (int)row, column),
                       (size_t)PQgetlength(handle_of(r), (int)row, column)};
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
