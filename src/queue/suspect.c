/* What a parent does with the jobs that a crashed worker ran: see supervise.h. Blocking calls. */
#include <pgqueuer/supervise.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "pg/client.h"
#include "queue/outcome.h"

static pgq_code read_id(const char *text, const char *what, uuid *ret_id, pgq_error *err)
{
    if (base_given(text) && uuid_parse(text, ret_id))
        return PGQ_OK;
    return error_set(err, PGQ_E_INVALID, "%s is not a UUID of 36 characters", what);
}

/* One statement; marks in ret_marks, of `count` elements, the places that it returns. */
static pgq_code call(pgq_client *client, statement_id what, const params *p, size_t count,
                     bool *ret_marks, pgq_error *err)
{
    pg_result r = PG_RESULT_INIT;
    int64_t deadline_us = 0;
    pgq_code code = p->data.broken ? error_nomem(err) : client_begin(client, &deadline_us, err);

    if (code == PGQ_OK)
        code = pg_conn_call(client->conn, what, p, deadline_us, &r, NULL, err);
    for (size_t row = 0; code == PGQ_OK && row < result_rows(&r); row++) {
        int64_t place = result_int8(&r, row, 0);

        if (place >= 1 && (uint64_t)place <= count)
            ret_marks[place - 1] = true;
    }
    result_release(&r);
    return code;
}

static pgq_code release_all(pgq_client *client, const uuid *id, pgq_error *err)
{
    params p = PARAMS_INIT;
    pgq_code code;

    param_null(&p);
    param_null(&p);
    param_uuid(&p, id);
    if (client->log_policy == PGQ_LOG_POLICY_FULL) {
        param_array_begin(&p, PG_OID_TEXT, 0);
        param_array_end(&p);
    } else {
        param_null(&p);
    }
    code = call(client, STATEMENT_RELEASE_ROW, &p, 0, NULL, err);
    params_release(&p);
    return code;
}

pgq_code pgq_suspects_take(pgq_client *client, const char *worker_id, const char *own_id,
                           const int64_t *ids, size_t count, bool *ret_taken, pgq_error *err)
{
    params p = PARAMS_INIT;
    uuid dead, own;
    pgq_code code = read_id(worker_id, "the id of the worker that has ended", &dead, err);

    if (code == PGQ_OK)
        code = read_id(own_id, "own_id", &own, err);
    if (code == PGQ_OK && count > PGQ_SUSPECTS_MAX)
        code = error_set(err, PGQ_E_LIMIT, "%zu suspects; at most %d are allowed", count,
                         PGQ_SUSPECTS_MAX);
    if (code != PGQ_OK)
        return code;
    for (size_t i = 0; i < count; i++)
        ret_taken[i] = false;
    param_uuid(&p, &dead);
    param_uuid(&p, &own);
    param_int8_array(&p, ids, count);
    param_bool(&p, client->log_policy == PGQ_LOG_POLICY_FULL);
    if (count > 0)
        code = call(client, STATEMENT_SUSPECT_TAKE, &p, count, ret_taken, err);
    params_release(&p);
    return code == PGQ_OK ? release_all(client, &dead, err) : code;
}

pgq_code pgq_suspects_beat(pgq_client *client, const char *own_id, pgq_error *err)
{
    params p = PARAMS_INIT;
    uuid own;
    pgq_code code = read_id(own_id, "own_id", &own, err);

    if (code != PGQ_OK)
        return code;
    param_uuid(&p, &own);
    code = call(client, STATEMENT_SUSPECT_BEAT, &p, 0, NULL, err);
    params_release(&p);
    return code;
}

pgq_code pgq_suspect_hold(pgq_client *client, const char *own_id, int64_t id, const char *type,
                          const char *message, int deaths, bool *ret_held, pgq_error *err)
{
    buffer json = BUFFER_INIT;
    params p = PARAMS_INIT;
    outcome_text text = {type, message};
    traceback_context context = {.job_id = id,
                                 .entrypoint = "",
                                 .worker_id = own_id,
                                 .wall_us = clock_wall_us(),
                                 .deaths = deaths};
    uuid own;
    pgq_code code = read_id(own_id, "own_id", &own, err);

    if (code != PGQ_OK)
        return code;
    *ret_held = false;
    outcome_add_traceback(&json, &context, &text);
    param_uuid(&p, &own);
    param_int8(&p, id);
    param_text(&p, json.data);
    code =
        json.broken ? error_nomem(err) : call(client, STATEMENT_SUSPECT_HOLD, &p, 1, ret_held, err);
    params_release(&p);
    buffer_release(&json);
    return code;
}

pgq_code pgq_suspects_release(pgq_client *client, const char *own_id, pgq_error *err)
{
    uuid own;
    pgq_code code = read_id(own_id, "own_id", &own, err);

    return code == PGQ_OK ? release_all(client, &own, err) : code;
}
