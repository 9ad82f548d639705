/* The parameters of one statement, encoded in the server's binary formats. A failed allocation
 * makes the set broken, which pg_conn_send reports. */
#ifndef PG_PARAM_H
#define PG_PARAM_H

#include <pgqueuer/job.h>

#include "base/buffer.h"
#include "base/random.h"
#include "pg/statement.h"

/* Microseconds between 1970-01-01 and 2000-01-01, the server's epoch. */
#define PG_EPOCH_US ((int64_t)946684800 * 1000000)

/* Gives the rows of a COPY, in the server's binary format: a few more at the end of `rows`, at each
 * call. False: there are no more after these. */
typedef bool (*rows_source)(void *user, buffer *rows);

typedef struct params {
    buffer data;
    size_t at[STATEMENT_PARAMS_MAX]; /* where each value begins; its length follows from the next */
    int32_t len[STATEMENT_PARAMS_MAX]; /* -1: NULL */
    int count;
    bool open; /* inside an array */
} params;

#define PARAMS_INIT         \
    {                       \
        .data = BUFFER_INIT \
    }

void param_null(params *p);
void param_bool(params *p, bool value);
void param_int4(params *p, int32_t value);
void param_int8(params *p, int64_t value);
void param_text(params *p, const char *value); /* NULL: SQL NULL */
void param_bytes(params *p, pgq_bytes value);
void param_jsonb(params *p, const char *json); /* NULL: SQL NULL */
void param_uuid(params *p, const uuid *value);
void param_timestamp(params *p, int64_t server_us); /* microseconds since 2000-01-01 */

/* A one-dimensional array: begin with the number of elements, add exactly so many, end. */
void param_array_begin(params *p, pg_oid element_type, size_t count);
void param_array_end(params *p);

/* A whole int8[]. */
void param_int8_array(params *p, const int64_t *values, size_t count);
void element_null(params *p);
void element_bool(params *p, bool value);
void element_tid(params *p, uint64_t place); /* as result_tid gives it */
void element_int4(params *p, int32_t value);
void element_int8(params *p, int64_t value);
void element_text(params *p, const char *value); /* NULL: SQL NULL */
void element_bytes(params *p, pgq_bytes value);
void element_jsonb(params *p, const char *json, size_t len);

/* Fills libpq's arrays, which point into the set; false when the set is broken. */
bool params_bind(const params *p, const char *values[STATEMENT_PARAMS_MAX],
                 int formats[STATEMENT_PARAMS_MAX]);

/* Empties the set for the next statement, keeping its memory. */
void params_clear(params *p);
void params_release(params *p);

#endif
