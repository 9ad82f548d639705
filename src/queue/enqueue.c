/* Enqueueing: checks, parameters and ids, over a client's connection or the caller's own. */
#include <pgqueuer/client.h>

#include "base/error.h"
#include "base/map.h"
#include "base/utf8.h"
#include "queue/enqueue.h"

#include <jansson.h>
#include <stdlib.h>

static const statement_id statements_of_arrays[] = {
    [PGQ_ON_CONFLICT_RAISE] = STATEMENT_ENQUEUE_RAISE,
    [PGQ_ON_CONFLICT_SKIP] = STATEMENT_ENQUEUE_SKIP,
    [PGQ_ON_CONFLICT_UPDATE_PRIORITY] = STATEMENT_ENQUEUE_UPDATE_PRIORITY,
};

pgq_code enqueue_read_job(const pgq_new_job *jobs, size_t index, pgq_new_job *ret_job,
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
    if ((unsigned)job->log_policy > PGQ_LOG_POLICY_FAILURES)
        return error_set(err, PGQ_E_INVALID, "there is no log policy %d", (int)job->log_policy);
    return PGQ_OK;
}

pgq_code pgq_new_job_check(const pgq_new_job *job, pgq_error *err)
{
    pgq_new_job own;
    pgq_code code = enqueue_read_job(job, 0, &own, err);

    return code == PGQ_OK ? check_job(&own, err) : code;
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

        code = enqueue_read_job(jobs, i, &job, err);
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

enum { COLUMN_COUNT = 8 };

static const pg_oid column_types[COLUMN_COUNT] = {PG_OID_TEXT, PG_OID_BYTEA, PG_OID_JSONB,
                                                  PG_OID_INT4, PG_OID_INT8,  PG_OID_TIMESTAMPTZ,
                                                  PG_OID_TEXT, PG_OID_BOOL};

static void add_element(params *p, int column, const pgq_new_job *job, pgq_log_policy log_policy)
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
    case 6:
        element_text(p, job->dedupe_key);
        break;
    default:
        element_bool(p, enqueue_logged(job, log_policy));
        break;
    }
}

bool enqueue_logged(const pgq_new_job *job, pgq_log_policy log_policy)
{
    if (job->log_policy != PGQ_LOG_POLICY_DEFAULT)
        log_policy = job->log_policy;
    return log_policy == PGQ_LOG_POLICY_FULL;
}

/* The parameters of enqueue_one. */
static void add_one(params *p, const pgq_new_job *job, pgq_log_policy log_policy)
{
    param_text(p, job->entrypoint);
    param_bytes(p, job->payload);
    param_jsonb(p, job->headers);
    param_int4(p, job->priority);
    param_int8(p, job->delay_ms);
    if (job->run_at_us == 0)
        param_null(p);
    else
        param_timestamp(p, job->run_at_us - PG_EPOCH_US);
    param_text(p, job->dedupe_key);
    param_bool(p, enqueue_logged(job, log_policy));
}

/* The statement's parameters are columns, the caller's jobs are rows. */
static void add_arrays(params *p, const pgq_new_job *jobs, size_t count, pgq_log_policy log_policy)
{
    for (int column = 0; column < COLUMN_COUNT; column++) {
        param_array_begin(p, column_types[column], count);
        for (size_t i = 0; i < count; i++) {
            pgq_new_job job;

            if (enqueue_read_job(jobs, i, &job, NULL) == PGQ_OK)
                add_element(p, column, &job, log_policy);
        }
        param_array_end(p);
    }
}

statement_id enqueue_add_params(params *p, const enqueue_batch *batch)
{
    pgq_new_job job;

    if (batch->plain && batch->count == 1 &&
        enqueue_read_job(batch->jobs, 0, &job, NULL) == PGQ_OK &&
        (batch->on_conflict == PGQ_ON_CONFLICT_RAISE || job.dedupe_key == NULL)) {
        add_one(p, &job, batch->log_policy);
        return STATEMENT_ENQUEUE_ONE;
    }
    add_arrays(p, batch->jobs, batch->count, batch->log_policy);
    return statements_of_arrays[batch->on_conflict];
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

size_t enqueue_find_duplicate(const enqueue_batch *batch, const char *detail)
{
    static const char before[] = "(dedupe_key)=(";
    const char *key = detail != NULL ? strstr(detail, before) : NULL;
    size_t found = batch->count, found_len = 0;

    if (key == NULL)
        return found;
    key += sizeof(before) - 1;
    for (size_t i = 0; i < batch->count; i++) {
        pgq_new_job job;
        size_t len;

        if (enqueue_read_job(batch->jobs, i, &job, NULL) != PGQ_OK || job.dedupe_key == NULL)
            continue;
        len = strlen(job.dedupe_key);
        /* of two that fit, such as a and a)b, it is the longer one */
        if (len < found_len || strncmp(key, job.dedupe_key, len) != 0 || key[len] != ')')
            continue;
        found = i;
        found_len = len;
    }
    return found;
}

/* Puts the callers' view on the database's errors. */
pgq_code enqueue_explain(pgq_code code, const char *constraint, pgq_error *err)
{
    if (code == PGQ_E_DUPLICATE) {
        (void)error_set(err, PGQ_E_DUPLICATE,
                        "a dedupe key is taken by a job that is queued or running");
        error_hint(err, "use on_conflict skip or update_priority if that is expected");
        error_where(err, "%s", constraint);
        if (err != NULL)
            memcpy(err->sqlstate, "23505", sizeof("23505"));
    } else if (code == PGQ_E_SCHEMA_MISSING || code == PGQ_E_SCHEMA_MISMATCH) {
        error_hint(err, "run `pgqueuer install`, or check --prefix, --schema, the database's name, "
                        "and that the role has USAGE on the schema");
    }
    return code;
}

static pgq_code explain(pgq_code code, const enqueue_way *way, const enqueue_batch *batch,
                        pgq_error *err)
{
    size_t index = batch->count;

    code = enqueue_explain(code, way->constraint, err);
    if (code == PGQ_E_DUPLICATE && batch->count > 1)
        index = enqueue_find_duplicate(batch, way->detail);
    if (index < batch->count)
        error_where(err, "job %zu of the batch, counted from 0", index);
    return code;
}

pgq_code enqueue_check(const pgq_new_job *jobs, size_t count, pgq_on_conflict on_conflict,
                       pgq_error *err)
{
    if ((size_t)on_conflict >= BASE_COUNT(statements_of_arrays))
        return error_set(err, PGQ_E_INVALID, "on_conflict is none of the choices: %d",
                         (int)on_conflict);
    return check_batch(jobs, count, on_conflict == PGQ_ON_CONFLICT_UPDATE_PRIORITY, err);
}

pgq_code enqueue_send_statement(enqueue_way *way, const enqueue_batch *batch, int64_t *ret_ids,
                                pgq_error *err)
{
    params p = PARAMS_INIT;
    pg_result r = PG_RESULT_INIT;
    statement_id id = enqueue_add_params(&p, batch);
    pgq_code code = way->call(way, id, &p, &r, err);

    if (code == PGQ_OK)
        code = enqueue_read_ids(&r, batch->count, ret_ids, err);
    result_release(&r);
    params_release(&p);
    return code;
}

pgq_code enqueue_send(enqueue_way *way, const enqueue_batch *batch, int64_t *ret_ids,
                      pgq_error *err)
{
    pgq_code code;

    if (enqueue_copies(batch))
        code = enqueue_send_copy(way, batch, ret_ids, err);
    else
        code = enqueue_send_statement(way, batch, ret_ids, err);
    return explain(code, way, batch, err);
}

static pgq_code client_call(enqueue_way *way, statement_id id, const params *p,
                            pg_result *ret_result, pgq_error *err)
{
    client_way *w = (client_way *)way;
    pgq_code code =
        pg_conn_call(w->client->conn, id, p, w->deadline_us, ret_result, way->constraint, err);

    way->detail = pg_conn_detail(w->client->conn);
    return code;
}

static pgq_code client_copy(enqueue_way *way, statement_id id, rows_source source, void *user,
                            pgq_error *err)
{
    client_way *w = (client_way *)way;
    pgq_code code =
        pg_conn_copy(w->client->conn, id, source, user, w->deadline_us, way->constraint, err);

    way->detail = pg_conn_detail(w->client->conn);
    return code;
}

static pgq_code client_transaction(enqueue_way *way, pg_body body, void *user, pgq_error *err)
{
    client_way *w = (client_way *)way;

    return pg_conn_transaction(w->client->conn, body, user, w->deadline_us, err);
}

client_way client_way_make(pgq_client *client, int64_t deadline_us)
{
    client_way w = {.client = client, .deadline_us = deadline_us};

    w.way =
        (enqueue_way){.call = client_call, .copy = client_copy, .transaction = client_transaction};
    return w;
}

/* A role that may insert and not see the id is refused once, and goes by arrays from then on. */
static pgq_code send_batch(pgq_client *client, enqueue_batch *batch, int64_t deadline_us,
                           int64_t *ret_ids, pgq_error *err)
{
    client_way way = client_way_make(client, deadline_us);
    pgq_code code = enqueue_send(&way.way, batch, ret_ids, err);

    if (code != PGQ_E_PERMISSION || batch->count != 1 || !batch->plain)
        return code;
    client->sees_no_ids = true;
    batch->plain = false;
    way = client_way_make(client, deadline_us);
    return enqueue_send(&way.way, batch, ret_ids, err);
}

pgq_code pgq_enqueue_batch(pgq_client *client, const pgq_new_job *jobs, size_t count,
                           pgq_on_conflict on_conflict, int64_t *ret_ids, pgq_error *err)
{
    enqueue_batch batch = {
        jobs, count, on_conflict, client->log_policy, ENQUEUE_COPY_JOBS, !client->sees_no_ids};
    int64_t deadline_us;
    pgq_code code;

    if (count == 0)
        return PGQ_OK;
    code = enqueue_check(jobs, count, on_conflict, err);
    if (code == PGQ_OK)
        code = client_begin(client, &deadline_us, err);
    if (code != PGQ_OK)
        return code;
    return send_batch(client, &batch, deadline_us, ret_ids, err);
}

pgq_code pgq_enqueue(pgq_client *client, const pgq_new_job *job, pgq_on_conflict on_conflict,
                     int64_t *ret_id, pgq_error *err)
{
    return pgq_enqueue_batch(client, job, 1, on_conflict, ret_id, err);
}
