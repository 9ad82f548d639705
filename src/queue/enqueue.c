/* Enqueueing: checks, parameters and ids, over a client's connection or the caller's own. */
#include <pgqueuer/client.h>

#include "base/error.h"
#include "base/map.h"
#include "base/utf8.h"
#include "pg/client.h"
#include "queue/enqueue.h"

#include <jansson.h>
#include <stdlib.h>

const statement_id enqueue_statements[] = {
    [PGQ_ON_CONFLICT_RAISE] = STATEMENT_ENQUEUE_RAISE,
    [PGQ_ON_CONFLICT_SKIP] = STATEMENT_ENQUEUE_SKIP,
    [PGQ_ON_CONFLICT_UPDATE_PRIORITY] = STATEMENT_ENQUEUE_UPDATE_PRIORITY,
};

/* The i-th job of a caller's array, whose stride is the caller's struct_size. */
static pgq_code read_job(const pgq_new_job *jobs, size_t index, pgq_new_job *ret_job,
                         pgq_error *err)
{
    const char *bytes = (const char *)jobs + index * jobs->struct_size;

    *ret_job = (pgq_new_job)PGQ_NEW_JOB_INIT;
    return base_copy_options(ret_job, sizeof(*ret_job), bytes, "pgq_new_job", err);
}

static pgq_code check_text(const char *what, const char *text, size_t len_max, pgq_error *err)
{
    size_t len = strlen(text);

    if (len > len_max)
        return error_set(err, PGQ_E_LIMIT, "the %s has %zu bytes; at most %zu are allowed", what,
                         len, len_max);
    if (!utf8_valid(text, len))
        return error_set(err, PGQ_E_INVALID, "the %s is not valid UTF-8", what);
    return PGQ_OK;
}

static pgq_code check_headers(const char *headers, pgq_error *err)
{
    json_error_t reason;
    json_t *parsed;
    bool object;
    pgq_code code = check_text("headers text", headers, PGQ_HEADERS_BYTES_MAX, err);

    if (code != PGQ_OK)
        return code;
    parsed = json_loads(headers, JSON_DECODE_INT_AS_REAL | JSON_DECODE_ANY, &reason);
    object = json_is_object(parsed);
    json_decref(parsed);
    if (parsed == NULL && json_error_code(&reason) == json_error_out_of_memory)
        return error_nomem(err);
    if (parsed == NULL)
        (void)error_set(err, PGQ_E_INVALID, "the headers are not JSON: line %d, column %d",
                        reason.line, reason.column);
    else if (!object)
        (void)error_set(err, PGQ_E_INVALID, "the headers are JSON, but not an object");
    else
        return PGQ_OK;
    error_hint(err, "headers are one JSON object, such as {\"trace\": \"abc\"}");
    return PGQ_E_INVALID;
}

static pgq_code check_job(const pgq_new_job *job, pgq_error *err)
{
    pgq_code code;

    if (!base_given(job->entrypoint))
        return error_set(err, PGQ_E_INVALID, "the entrypoint is empty");
    code = check_text("entrypoint", job->entrypoint, PGQ_ENTRYPOINT_BYTES_MAX, err);
    if (code == PGQ_OK && job->dedupe_key != NULL)
        code = check_text("dedupe key", job->dedupe_key, PGQ_DEDUPE_KEY_BYTES_MAX, err);
    if (code == PGQ_OK && job->headers != NULL)
        code = check_headers(job->headers, err);
    if (code != PGQ_OK)
        return code;
    if (job->payload.len > PGQ_PAYLOAD_BYTES_MAX)
        return error_set(err, PGQ_E_LIMIT, "the payload has %zu bytes; at most %zu are allowed",
                         job->payload.len, PGQ_PAYLOAD_BYTES_MAX);
    if (job->payload.data == NULL && job->payload.len > 0)
        return error_set(err, PGQ_E_INVALID, "the payload has a length but no data");
    if (job->delay_ms < 0 || job->delay_ms > PGQ_DELAY_MS_MAX)
        return error_set(err, PGQ_E_LIMIT, "the delay must be from 0 to %lld ms, is %lld",
                         (long long)PGQ_DELAY_MS_MAX, (long long)job->delay_ms);
    if (job->run_at_us < 0 || job->run_at_us / 1000 > PGQ_DELAY_MS_MAX * 2)
        return error_set(err, PGQ_E_LIMIT, "the absolute time is out of range: %lld us since 1970",
                         (long long)job->run_at_us);
    if (job->run_at_us != 0 && job->delay_ms != 0)
        return error_set(err, PGQ_E_INVALID, "a delay and an absolute time are given; use one");
    return PGQ_OK;
}

/* Checks every job, and the batch as a whole. */
static pgq_code check_batch(const pgq_new_job *jobs, size_t count, bool unique_keys, pgq_error *err)
{
    map keys = MAP_INIT;
    size_t bytes = 0;
    pgq_code code = PGQ_OK;

    if (count > PGQ_BATCH_JOBS_MAX)
        return error_set(err, PGQ_E_LIMIT, "the batch has %zu jobs; at most %zu are allowed", count,
                         PGQ_BATCH_JOBS_MAX);
    for (size_t i = 0; code == PGQ_OK && i < count; i++) {
        pgq_new_job job;

        code = read_job(jobs, i, &job, err);
        if (code == PGQ_OK)
            code = check_job(&job, err);
        if (code == PGQ_OK) {
            bytes += job.payload.len + (job.headers != NULL ? strlen(job.headers) : 0);
            if (bytes > PGQ_BATCH_BYTES_MAX)
                code = error_set(err, PGQ_E_LIMIT, "the batch has more than %zu bytes",
                                 PGQ_BATCH_BYTES_MAX);
        }
        if (code == PGQ_OK && unique_keys && job.dedupe_key != NULL) {
            code = map_add(&keys, job.dedupe_key, strlen(job.dedupe_key), NULL);
            if (code == PGQ_E_NOMEM)
                (void)error_nomem(err);
            else if (code != PGQ_OK)
                code = error_set(err, PGQ_E_INVALID,
                                 "update_priority needs each dedupe key at most once in a call");
        }
        if (code != PGQ_OK && count > 1)
            error_where(err, "job %zu of the batch, counted from 0", i);
    }
    map_release(&keys);
    return code;
}

static pgq_bytes text_bytes(const char *text)
{
    return (pgq_bytes){text, text != NULL ? strlen(text) : 0};
}

enum { COLUMN_COUNT = 7 };

static const pg_oid column_types[COLUMN_COUNT] = {PG_OID_TEXT, PG_OID_BYTEA, PG_OID_JSONB,
                                                  PG_OID_INT4, PG_OID_INT8,  PG_OID_TIMESTAMPTZ,
                                                  PG_OID_TEXT};

static void add_element(params *p, int column, const pgq_new_job *job)
{
    switch (column) {
    case 0:
        element_text(p, job->entrypoint);
        break;
    case 1:
        element_bytes(p, job->payload);
        break;
    case 2:
        if (job->headers == NULL)
            element_null(p);
        else
            element_jsonb(p, job->headers, text_bytes(job->headers).len);
        break;
    case 3:
        element_int4(p, job->priority);
        break;
    case 4:
        element_int8(p, job->delay_ms);
        break;
    case 5:
        if (job->run_at_us == 0)
            element_null(p);
        else
            element_int8(p, job->run_at_us - PG_EPOCH_US);
        break;
    default:
        element_text(p, job->dedupe_key);
        break;
    }
}

/* The statement's parameters are columns, the caller's jobs are rows. */
void enqueue_add_params(params *p, const pgq_new_job *jobs, size_t count)
{
    for (int column = 0; column < COLUMN_COUNT; column++) {
        param_array_begin(p, column_types[column], count);
        for (size_t i = 0; i < count; i++) {
            pgq_new_job job;

            if (read_job(jobs, i, &job, NULL) == PGQ_OK)
                add_element(p, column, &job);
        }
        param_array_end(p);
    }
}

pgq_code enqueue_read_ids(pg_result *r, size_t count, int64_t *ret_ids, pgq_error *err)
{
    bool complete = result_rows(r) == count;

    for (size_t i = 0; complete && i < count; i++) {
        int64_t id = result_is_null(r, i, 1) ? 0 : result_int8(r, i, 1);

        complete = result_int8(r, i, 0) == (int64_t)i + 1;
        if (ret_ids != NULL)
            ret_ids[i] = id;
    }
    if (complete && !r->malformed)
        return PGQ_OK;
    return error_set(err, PGQ_E_INTERNAL, "the ids of the jobs came back in another shape");
}

/* Puts the callers' view on the database's errors. */
pgq_code enqueue_explain(pgq_code code, const char *constraint, pgq_error *err)
{
    if (code == PGQ_E_DUPLICATE) {
        (void)error_set(err, PGQ_E_DUPLICATE,
                        "a dedupe key is taken by a job that is queued or running");
        error_hint(err, "use on_conflict skip or update_priority if that is expected");
        if (err != NULL)
            memcpy(err->sqlstate, "23505", sizeof("23505"));
        error_where(err, "%s", constraint);
    } else if (code == PGQ_E_SCHEMA_MISSING || code == PGQ_E_SCHEMA_MISMATCH) {
        error_hint(err, "run `pgqueuer install`, or check --prefix, --schema and the database's "
                        "name");
    }
    return code;
}

pgq_code enqueue_check(const pgq_new_job *jobs, size_t count, pgq_on_conflict on_conflict,
                       pgq_error *err)
{
    if ((size_t)on_conflict >= BASE_COUNT(enqueue_statements))
        return error_set(err, PGQ_E_INVALID, "on_conflict is none of the choices: %d",
                         (int)on_conflict);
    return check_batch(jobs, count, on_conflict == PGQ_ON_CONFLICT_UPDATE_PRIORITY, err);
}

pgq_code pgq_enqueue_batch(pgq_client *client, const pgq_new_job *jobs, size_t count,
                           pgq_on_conflict on_conflict, int64_t *ret_ids, pgq_error *err)
{
    params p = PARAMS_INIT;
    pg_result r = PG_RESULT_INIT;
    char constraint[64] = "";
    int64_t deadline_us;
    pgq_code code;

    if (count == 0)
        return PGQ_OK;
    code = enqueue_check(jobs, count, on_conflict, err);
    if (code == PGQ_OK)
        code = client_begin(client, &deadline_us, err);
    if (code != PGQ_OK)
        return code;
    enqueue_add_params(&p, jobs, count);
    code = pg_conn_call(client->conn, enqueue_statements[on_conflict], &p, deadline_us, &r,
                        constraint, err);
    code = code == PGQ_OK ? enqueue_read_ids(&r, count, ret_ids, err)
                          : enqueue_explain(code, constraint, err);
    result_release(&r);
    params_release(&p);
    return code;
}

pgq_code pgq_enqueue(pgq_client *client, const pgq_new_job *job, pgq_on_conflict on_conflict,
                     int64_t *ret_id, pgq_error *err)
{
    return pgq_enqueue_batch(client, job, 1, on_conflict, ret_id, err);
}
