/* Many jobs by COPY: ids are drawn first, then the rows go into queue and log as they are, in one
 * transaction. The server plans nothing and unpacks no arrays, and neither side holds all rows. */
#include "base/error.h"
#include "queue/enqueue.h"

/* One batch on its way. */
typedef struct copying {
    enqueue_way *way;
    const enqueue_batch *batch;
    int64_t *ret_ids; /* of the caller; for arrays */
    pg_result drawn;  /* the answer of enqueue_ids */
    const char *ids;  /* in it, as result_int8_array gives them */
    int64_t now_us;   /* the transaction's time, of the server's epoch */
    size_t next;      /* the next job to be written */
} copying;

bool enqueue_copies(const enqueue_batch *batch)
{
    return batch->on_conflict == PGQ_ON_CONFLICT_RAISE && batch->count >= batch->copy_jobs;
}

static inline char *put(char *at, const void *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

static inline char *put_number(char *at, uint64_t value, size_t len)
{
    buffer_order(at, value, len);
    return at + len;
}

/* A value of a row is its length and its bytes. */
static inline char *put_field(char *at, const void *bytes, size_t len)
{
    return put(put_number(at, len, sizeof(int32_t)), bytes, len);
}

static inline char *put_null(char *at)
{
    return put_number(at, UINT32_MAX, sizeof(int32_t));
}

static const char queued[] = "queued"; /* a label's binary format is its text */

enum { QUEUE_FIELDS = 8, LOG_FIELDS = 4, JSONB_VERSION = 1 };

static int64_t due_us(const copying *c, const pgq_new_job *job)
{
    if (job->run_at_us != 0)
        return job->run_at_us - PG_EPOCH_US;
    return c->now_us + job->delay_ms * 1000;
}

/* A rows_source: the queue row of the next job. */
static bool queue_row(void *user, buffer *rows)
{
    copying *c = user;
    pgq_new_job job;
    size_t entrypoint_len, key_len, headers_len, fixed = 2 + QUEUE_FIELDS * 4 + 64;
    char *at;

    if (enqueue_read_job(c->batch->jobs, c->next, &job, NULL) != PGQ_OK)
        return false;
    entrypoint_len = strlen(job.entrypoint);
    key_len = job.dedupe_key != NULL ? strlen(job.dedupe_key) : 0;
    headers_len = job.headers != NULL ? strlen(job.headers) : 0;
    at = buffer_reserve(rows, fixed + entrypoint_len + key_len + headers_len + job.payload.len);
    if (at == NULL)
        return false;
    at = put_number(at, QUEUE_FIELDS, sizeof(int16_t));
    at = put(at, c->ids + c->next * ARRAY_INT8_BYTES, ARRAY_INT8_BYTES);
    at = put_number(at, sizeof(int32_t), sizeof(int32_t));
    at = put_number(at, (uint32_t)job.priority, sizeof(int32_t));
    at = put_number(at, sizeof(int64_t), sizeof(int32_t));
    at = put_number(at, (uint64_t)due_us(c, &job), sizeof(int64_t));
    at = put_field(at, queued, sizeof(queued) - 1);
    at = put_field(at, job.entrypoint, entrypoint_len);
    at = job.dedupe_key != NULL ? put_field(at, job.dedupe_key, key_len) : put_null(at);
    at = job.payload.data != NULL ? put_field(at, job.payload.data, job.payload.len) : put_null(at);
    if (job.headers != NULL) {
        at = put_number(at, headers_len + 1, sizeof(int32_t));
        *at++ = JSONB_VERSION;
        at = put(at, job.headers, headers_len);
    } else {
        at = put_null(at);
    }
    rows->len = (size_t)(at - rows->data);
    return ++c->next < c->batch->count;
}

/* A rows_source: the log row of the next job, if it is to have one. */
static bool log_row(void *user, buffer *rows)
{
    copying *c = user;
    pgq_new_job job;
    size_t entrypoint_len;
    char *at;

    if (enqueue_read_job(c->batch->jobs, c->next, &job, NULL) != PGQ_OK)
        return false;
    if (enqueue_logged(&job, c->batch->log_policy)) {
        entrypoint_len = strlen(job.entrypoint);
        at = buffer_reserve(rows, 64 + entrypoint_len);
        if (at == NULL)
            return false;
        at = put_number(at, LOG_FIELDS, sizeof(int16_t));
        at = put(at, c->ids + c->next * ARRAY_INT8_BYTES, ARRAY_INT8_BYTES);
        at = put_field(at, queued, sizeof(queued) - 1);
        at = put_number(at, sizeof(int32_t), sizeof(int32_t));
        at = put_number(at, (uint32_t)job.priority, sizeof(int32_t));
        at = put_field(at, job.entrypoint, entrypoint_len);
        rows->len = (size_t)(at - rows->data);
    }
    return ++c->next < c->batch->count;
}

static bool any_logged(const enqueue_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        pgq_new_job job;

        if (enqueue_read_job(batch->jobs, i, &job, NULL) == PGQ_OK &&
            enqueue_logged(&job, batch->log_policy))
            return true;
    }
    return false;
}

static pgq_code draw_ids(copying *c, bool *ret_may_copy, pgq_error *err)
{
    params p = PARAMS_INIT;
    pgq_code code;

    result_release(&c->drawn); /* of a first try */
    param_int8(&p, (int64_t)c->batch->count);
    code = c->way->call(c->way, STATEMENT_ENQUEUE_IDS, &p, &c->drawn, err);
    params_release(&p);
    if (code != PGQ_OK)
        return code;
    c->ids = result_int8_array(&c->drawn, 0, 0, c->batch->count);
    c->now_us = result_timestamp(&c->drawn, 0, 1);
    *ret_may_copy = result_bool(&c->drawn, 0, 2);
    if (c->drawn.malformed)
        return error_set(err, PGQ_E_INTERNAL, "the ids of the jobs came back in another shape");
    return PGQ_OK;
}

/* What happens inside the transaction. */
static pgq_code copy_body(void *user, pgq_error *err)
{
    copying *c = user;
    bool may_copy = false;
    pgq_code code = draw_ids(c, &may_copy, err);

    if (code == PGQ_OK && !may_copy) { /* row security, or ids of an old release */
        c->ids = NULL;
        return enqueue_send_statement(c->way, c->batch, c->ret_ids, err);
    }
    c->next = 0;
    if (code == PGQ_OK)
        code = c->way->copy(c->way, STATEMENT_ENQUEUE_COPY, queue_row, c, err);
    c->next = 0;
    if (code == PGQ_OK && any_logged(c->batch))
        code = c->way->copy(c->way, STATEMENT_ENQUEUE_COPY_LOG, log_row, c, err);
    return code;
}

pgq_code enqueue_send_copy(enqueue_way *way, const enqueue_batch *batch, int64_t *ret_ids,
                           pgq_error *err)
{
    copying c = {.way = way, .batch = batch, .ret_ids = ret_ids};
    pgq_code code = way->transaction(way, copy_body, &c, err);

    for (size_t i = 0; code == PGQ_OK && c.ids != NULL && ret_ids != NULL && i < batch->count; i++)
        ret_ids[i] = array_int8(c.ids, i);
    result_release(&c.drawn);
    return code;
}
