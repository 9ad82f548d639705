/* Typed, checked reading of a result in the binary format. */
#ifndef PG_RESULT_H
#define PG_RESULT_H

#include <pgqueuer/job.h>

#include "base/random.h"

/* One result, with its own memory. A reader that meets NULL, another length or a column that is
 * not there returns zero and marks the result malformed; ask once, after reading. */
typedef struct pg_result_value {     /* the tag pg_result is libpq's */
    struct pg_result_handle *handle; /* libpq's; NULL: empty */
    int rows, columns;
    bool malformed;
} pg_result;

#define PG_RESULT_INIT    \
    {                     \
        NULL, 0, 0, false \
    }

size_t result_rows(const pg_result *r);
bool result_is_null(const pg_result *r, size_t row, int column);
bool result_bool(pg_result *r, size_t row, int column);
int32_t result_int4(pg_result *r, size_t row, int column);
int64_t result_int8(pg_result *r, size_t row, int column);

/* The microseconds since 2000-01-01 of a timestamptz. */
int64_t result_timestamp(pg_result *r, size_t row, int column);

/* A row's place in its table (its ctid), as one number. */
uint64_t result_tid(pg_result *r, size_t row, int column);

/* The first element, in network order and behind its length (ARRAY_INT8_BYTES for each of them), of
 * an int8[] that has exactly `count` elements, none of them NULL. Borrowed from the result. */
enum { ARRAY_INT8_BYTES = 12 };
const char *result_int8_array(pg_result *r, size_t row, int column, size_t count);

/* The i-th number of what result_int8_array gave. */
int64_t array_int8(const char *elements, size_t i);

/* Borrowed from the result; data NULL for SQL NULL. */
pgq_bytes result_bytes(pg_result *r, size_t row, int column);

/* NUL-terminated, borrowed from the result; NULL for SQL NULL. */
const char *result_text(pg_result *r, size_t row, int column);

/* The JSON text of a jsonb value, likewise. */
const char *result_jsonb(pg_result *r, size_t row, int column);

/* The command tag, such as "COMMIT" or "INSERT 0 3"; "" when there is none. */
const char *result_tag(const pg_result *r);

/* Frees the memory; the result is empty then. */
void result_release(pg_result *r);

#endif
