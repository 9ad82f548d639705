#include "producer/flight.h"
#include "base/clock.h"
#include "base/error.h"
#include "queue/enqueue.h"

enum {
    TRIES_MAX = 5,    /* of what may pass; then the callers decide */
    TRY_AGAIN_MS = 20 /* times the number of tries */
};

static void drop_results(flight *f)
{
    for (size_t i = 0; i < f->result_count; i++)
        result_release(&f->results[i]);
    f->result_count = 0;
    f->error = (pgq_error)PGQ_ERROR_INIT;
    f->constraint[0] = '\0';
}

void flight_release(flight *f)
{
    drop_results(f);
    params_release(&f->params);
    (void)pg_conn_free(f->conn);
}

/* ---- what becomes of requests ---- */

static size_t batch_count(const batch *b)
{
    return b->inserts.count + b->upserts.count;
}

static void batch_join(batch *b)
{
    list_link *link;

    while ((link = list_pop(&b->upserts)) != NULL)
        list_append(&b->inserts, link);
}

void flight_refuse(flight *f, list *requests, pgq_code code, const pgq_error *err)
{
    for (list_link *at = requests->first; at != NULL; at = at->next) {
        REQUEST_OF(at)->code = code;
        REQUEST_OF(at)->error = *err;
    }
    intake_answer(f->in, requests);
}

void flight_settle(flight *f, group *g)
{
    pgq_error taken = PGQ_ERROR_INIT;

    (void)enqueue_explain(PGQ_E_DUPLICATE, f->constraint_name, &taken);
    for (list_link *at = g->b.inserts.first; at != NULL; at = at->next) {
        request *r = REQUEST_OF(at);

        r->code = PGQ_OK;
        if (r->id == 0 && r->on_conflict == PGQ_ON_CONFLICT_RAISE) {
            r->code = PGQ_E_DUPLICATE;
            r->error = taken;
        }
    }
    intake_answer(f->in, &g->b.inserts);
}

static void give_back(flight *f)
{
    batch_join(&f->current.b);
    intake_return(f->in, &f->current.b.inserts);
}

static void refuse_current(flight *f, pgq_code code, const pgq_error *err)
{
    batch_join(&f->current.b);
    flight_refuse(f, &f->current.b.inserts, code, err);
}

static void refuse_late(flight *f, list *late)
{
    for (list_link *at = late->first; at != NULL; at = at->next) {
        request *r = REQUEST_OF(at);
        const char *reason =
            r->parked ? ": a transaction that has not ended holds its dedupe key" : "";

        r->code = error_set(&r->error, PGQ_E_TIMEOUT, "the job was not sent in time%s", reason);
        if (!r->parked && f->trouble.code != PGQ_OK)
            (void)error_set(&r->error, PGQ_E_TIMEOUT, "the job was not sent in time: %.400s",
                            f->trouble.message);
        error_hint(&r->error, "it is not enqueued");
        r->error.retryable = true;
    }
    intake_answer(f->in, late);
}

/* ---- the connection ---- */

void flight_off(flight *f, const pgq_error *why, int64_t now_us)
{
    f->trouble = *why;
    if (pg_conn_state(f->conn) != PG_BROKEN)
        pg_conn_close(f->conn);
    drop_results(f);
    f->state = FLIGHT_OFF;
    f->asked = NULL;
    f->answer_us = CLOCK_NEVER;
    f->retry_us = now_us + backoff_next(&f->reconnect, &f->random);
}

static void lost(flight *f, const pgq_error *why, int64_t now_us)
{
    bool in_doubt = f->state == FLIGHT_COMMIT;

    flight_off(f, why, now_us);
    if (in_doubt)
        doubt_begin(f, now_us);
    else
        give_back(f);
}

static void lost_for(flight *f, pgq_code code, const char *reason, int64_t now_us)
{
    pgq_error err = PGQ_ERROR_INIT;

    (void)error_set(&err, code, "%s", reason);
    lost(f, &err, now_us);
}

void flight_sent(flight *f, pgq_code code, flight_state state, int64_t now_us)
{
    f->state = state;
    f->answer_us = now_us + f->answer_timeout_us;
    /* one that is lost says so itself, as its last reply */
    if (code != PGQ_OK && code != PGQ_E_CONNECTION_LOST)
        lost_for(f, code, "out of memory", now_us);
}

static void send_hello(flight *f, int64_t now_us)
{
    pgq_code code = pg_conn_send(f->conn, STATEMENT_SERVER_IDENTIFY, NULL);

    if (code == PGQ_OK)
        code = pg_conn_sync(f->conn);
    flight_sent(f, code, FLIGHT_HELLO, now_us);
}

void flight_read_identity(pg_result *r, server_identity *ret_server)
{
    *ret_server = (server_identity){.known = true};
    ret_server->standby = result_bool(r, 0, 3);
    if (ret_server->standby)
        return;
    ret_server->system = result_int8(r, 0, 0);
    ret_server->timeline = result_int8(r, 0, 1);
    ret_server->checkpoint = result_int8(r, 0, 2);
    ret_server->known = !r->malformed;
}

static void greeted(flight *f, int64_t now_us)
{
    f->server = (server_identity){.known = false};
    if (f->error.code == PGQ_OK && f->result_count == 1) {
        flight_read_identity(&f->results[0], &f->server);
    } else if (sqlstate_classify(f->error.sqlstate) != SQLSTATE_PERMISSION) {
        lost(f, &(pgq_error){.code = f->error.code, .message = "the server does not say who it is"},
             now_us);
        return;
    }
    f->state = FLIGHT_IDLE;
    f->answer_us = CLOCK_NEVER;
    if (f->server.standby)
        lost_for(f, PGQ_E_CONNECT,
                 "the server is a standby; target_session_attrs=read-write finds the primary",
                 now_us);
}

/* ---- a group ---- */

/* Adds the parameters of one list, and sends its statement. */
static pgq_code send_jobs(flight *f, const list *requests, pgq_on_conflict on_conflict)
{
    enqueue_batch jobs = {.jobs = f->jobs, .on_conflict = on_conflict, .log_policy = f->log_policy};
    statement_id id;

    if (requests->count == 0)
        return PGQ_OK;
    for (const list_link *at = requests->first; at != NULL; at = at->next)
        f->jobs[jobs.count++] = REQUEST_OF(at)->job;
    params_clear(&f->params);
    id = enqueue_add_params(&f->params, &jobs);
    return pg_conn_send(f->conn, id, &f->params);
}

static bool any_key(const list *requests)
{
    for (const list_link *at = requests->first; at != NULL; at = at->next) {
        if (REQUEST_OF(at)->job.dedupe_key != NULL)
            return true;
    }
    return false;
}

static bool has_keys(const batch *b)
{
    return any_key(&b->inserts) || b->upserts.count > 0;
}

/* A key that somebody's open transaction holds is waited for, and all jobs of the group with it:
 * not long, and shorter while the one is looked for that has it. */
static pgq_code send_begin(flight *f)
{
    pgq_code code = pg_conn_send(f->conn, STATEMENT_BEGIN, NULL);
    bool looking = f->jobs_max < FLIGHT_JOBS_MAX || f->current.b.inserts.count == 1;

    f->begin_count = 1;
    if (code != PGQ_OK || !has_keys(&f->current.b))
        return code;
    f->begin_count = 2;
    return pg_conn_send_sql(f->conn, looking ? "SET LOCAL lock_timeout = '20ms'"
                                             : "SET LOCAL lock_timeout = '200ms'");
}

/* A taken key of a job that is to raise leaves out that job only, and is told by the missing id.
 * Without keys the plain statement does, which is cheaper. */
static void send_group(flight *f, int64_t now_us)
{
    const list *inserts = &f->current.b.inserts;
    pgq_code code = send_begin(f);

    if (code == PGQ_OK)
        code =
            send_jobs(f, inserts, any_key(inserts) ? PGQ_ON_CONFLICT_SKIP : PGQ_ON_CONFLICT_RAISE);
    if (code == PGQ_OK)
        code = send_jobs(f, &f->current.b.upserts, PGQ_ON_CONFLICT_UPDATE_PRIORITY);
    if (code == PGQ_OK)
        code = pg_conn_send(f->conn, STATEMENT_XACT_ID, NULL);
    if (code == PGQ_OK)
        code = pg_conn_sync(f->conn);
    if (code == PGQ_E_NOMEM) {
        pgq_error err = PGQ_ERROR_INIT;

        (void)error_nomem(&err);
        refuse_current(f, PGQ_E_NOMEM, &err);
    }
    flight_sent(f, code, FLIGHT_INSERT, now_us);
}

static void send_plain(flight *f, const char *sql, flight_state state, int64_t now_us)
{
    pgq_code code = pg_conn_send_sql(f->conn, sql);

    if (code == PGQ_OK)
        code = pg_conn_sync(f->conn);
    flight_sent(f, code, state, now_us);
}

static pgq_code read_ids(flight *f, pg_result *r, list *requests, pgq_error *err)
{
    pgq_code code = enqueue_read_ids(r, requests->count, f->ids, err);
    size_t i = 0;

    for (list_link *at = requests->first; code == PGQ_OK && at != NULL; at = at->next) {
        REQUEST_OF(at)->id = f->ids[i++];
        f->current.rows += REQUEST_OF(at)->id != 0;
    }
    return code;
}

/* The answers to BEGIN, the jobs and the transaction's id. */
static pgq_code read_group(flight *f, pgq_error *err)
{
    group *g = &f->current;
    size_t at = f->begin_count;
    pgq_code code = PGQ_OK;
    pg_result *xid;

    g->rows = 0;
    if (f->result_count != at + 1 + (g->b.inserts.count > 0) + (g->b.upserts.count > 0))
        return error_set(err, PGQ_E_INTERNAL, "the answers to the jobs are not complete");
    if (g->b.inserts.count > 0)
        code = read_ids(f, &f->results[at++], &g->b.inserts, err);
    if (code == PGQ_OK && g->b.upserts.count > 0)
        code = read_ids(f, &f->results[at++], &g->b.upserts, err);
    if (code != PGQ_OK)
        return code;
    xid = &f->results[at];
    g->xid = result_int8(xid, 0, 0);
    g->began_us = result_timestamp(xid, 0, 1);
    g->server = f->server;
    if (xid->malformed)
        return error_set(err, PGQ_E_INTERNAL, "the transaction's id came back in another shape");
    return PGQ_OK;
}

/* Somebody holds a key: the job that wants it is looked for by halves, and put aside. */
static void waited(flight *f, size_t count, int64_t now_us)
{
    if (count == 1) {
        batch_join(&f->current.b);
        intake_park(f->in, &f->current.b.inserts, now_us);
        return;
    }
    give_back(f);
    f->jobs_max = count / 2;
}

/* What may pass is tried again, a few times; a row's own fault is looked for by halves. */
static void refused(flight *f, pgq_code code, const pgq_error *why, int64_t now_us)
{
    sqlstate_class class = sqlstate_classify(why->sqlstate);
    size_t count = batch_count(&f->current.b);
    pgq_error err = *why;

    if (base_streq(why->sqlstate, "55P03") && has_keys(&f->current.b)) {
        waited(f, count, now_us);
        return;
    }
    if (code == PGQ_E_INTERNAL || class == SQLSTATE_SCHEMA || class == SQLSTATE_PERMISSION) {
        refuse_current(f, enqueue_explain(code, f->constraint, &err), &err);
        return;
    }
    if (class == SQLSTATE_TRANSIENT && ++f->tries < TRIES_MAX) {
        f->retry_us = now_us + (int64_t)f->tries * TRY_AGAIN_MS * 1000;
        f->trouble = err;
        give_back(f);
    } else if (count == 1 || class == SQLSTATE_TRANSIENT) {
        f->tries = 0;
        refuse_current(f, enqueue_explain(code, f->constraint, &err), &err);
        return;
    } else {
        give_back(f);
    }
    if (count > 1)
        f->jobs_max = count / 2;
}

static void inserted(flight *f, int64_t now_us)
{
    pgq_error err = f->error;
    pgq_code code = err.code;

    if (sqlstate_classify(err.sqlstate) == SQLSTATE_CONNECTION) {
        lost(f, &err, now_us); /* COMMIT has not left */
        return;
    }
    if (code == PGQ_OK)
        code = read_group(f, &err);
    if (code == PGQ_OK) {
        batch_join(&f->current.b);
        send_plain(f, "COMMIT", FLIGHT_COMMIT, now_us);
    } else {
        refused(f, code, &err, now_us);
        send_plain(f, "ROLLBACK", FLIGHT_ROLLBACK, now_us);
    }
}

static void committed(flight *f, int64_t now_us)
{
    size_t count = f->current.b.inserts.count;
    pgq_error err = f->error;

    f->state = FLIGHT_IDLE;
    f->answer_us = CLOCK_NEVER;
    if (err.code == PGQ_OK &&
        (f->result_count != 1 || !base_streq(result_tag(&f->results[0]), "COMMIT")))
        (void)error_set(&err, PGQ_E_DATABASE, "the transaction was rolled back");
    if (err.code != PGQ_OK) {
        refused(f, err.code, &err, now_us);
        return;
    }
    flight_settle(f, &f->current);
    backoff_reset(&f->reconnect);
    f->trouble = (pgq_error)PGQ_ERROR_INIT;
    f->tries = 0;
    /* a smaller group was all that there was: the bad row that made groups small is gone */
    f->jobs_max =
        count == f->jobs_max ? base_min_size(2 * count, FLIGHT_JOBS_MAX) : FLIGHT_JOBS_MAX;
}

/* ---- the thread's turn ---- */

static void synced(flight *f, int64_t now_us)
{
    switch (f->state) {
    case FLIGHT_HELLO:
        greeted(f, now_us);
        break;
    case FLIGHT_INSERT:
        inserted(f, now_us);
        break;
    case FLIGHT_COMMIT:
        committed(f, now_us);
        break;
    case FLIGHT_ASK:
        doubt_asked(f, now_us);
        break;
    case FLIGHT_LOOK:
        doubt_looked(f, now_us);
        break;
    default:
        f->state = FLIGHT_IDLE;
        f->answer_us = CLOCK_NEVER;
        break;
    }
    drop_results(f);
}

static void keep(flight *f, pg_reply *reply)
{
    if (reply->kind == PG_REPLY_ERROR && f->error.code == PGQ_OK) {
        f->error = reply->error;
        memcpy(f->constraint, reply->constraint, sizeof(f->constraint));
    } else if (reply->kind == PG_REPLY_ROWS && f->result_count < FLIGHT_RESULTS_MAX) {
        f->results[f->result_count++] = reply->result;
    } else {
        result_release(&reply->result);
    }
}

static void read_replies(flight *f, int64_t now_us)
{
    pg_reply reply;

    for (;;) {
        pg_conn_next(f->conn, &reply);
        if (reply.kind == PG_REPLY_NONE)
            return;
        if (reply.kind == PG_REPLY_LOST)
            lost(f, &reply.error, now_us);
        else if (reply.kind == PG_REPLY_SYNC)
            synced(f, now_us);
        else
            keep(f, &reply);
    }
}

/* Says what is to be said next; false: nothing, or not now. */
static bool say_next(flight *f, int64_t now_us)
{
    list late = {NULL, NULL, 0};

    if (f->state == FLIGHT_OFF && pg_conn_state(f->conn) == PG_READY) {
        send_hello(f, now_us);
        return true;
    }
    if (f->state != FLIGHT_IDLE)
        return false;
    if (doubt_ask(f, now_us))
        return true;
    if (!flight_wants_work(f, now_us))
        return false;
    intake_take(f->in, f->jobs_max, now_us, &f->current.b, &late);
    refuse_late(f, &late);
    if (batch_count(&f->current.b) == 0)
        return false;
    send_group(f, now_us);
    return true;
}

void flight_step(flight *f, bool ready, int64_t now_us)
{
    list late = {NULL, NULL, 0};
    pg_state state = pg_conn_state(f->conn);

    if (f->state == FLIGHT_OFF && (state == PG_DOWN || state == PG_BROKEN) && now_us >= f->retry_us)
        pg_conn_connect(f->conn, now_us);
    else if (ready || now_us >= pg_conn_deadline_us(f->conn))
        (void)pg_conn_process(f->conn, now_us);
    do {
        read_replies(f, now_us);
    } while (say_next(f, now_us));
    if (now_us >= f->answer_us)
        lost_for(f, PGQ_E_TIMEOUT, "the database did not answer in time", now_us);
    doubt_expire(f, false, now_us);
    intake_expire(f->in, now_us, false, &late);
    refuse_late(f, &late);
}

int64_t flight_until_us(const flight *f, int64_t now_us)
{
    int64_t until_us = base_min_i64(doubt_until_us(f), f->answer_us);
    pg_state state = pg_conn_state(f->conn);

    if (state == PG_CONNECTING)
        return base_min_i64(until_us, pg_conn_deadline_us(f->conn));
    if (state != PG_READY || (f->state == FLIGHT_IDLE && now_us < f->retry_us))
        return base_min_i64(until_us, f->retry_us);
    return until_us;
}

bool flight_wants_work(const flight *f, int64_t now_us)
{
    return f->state == FLIGHT_IDLE && now_us >= f->retry_us && doubt_count(f) < FLIGHT_DOUBTS_MAX;
}

bool flight_is_quiet(const flight *f)
{
    return batch_count(&f->current.b) == 0 && doubt_count(f) == 0;
}

void flight_give_up(flight *f)
{
    int64_t now_us = clock_monotonic_us();
    pgq_error err = PGQ_ERROR_INIT;
    list left = {NULL, NULL, 0};

    lost_for(f, PGQ_E_STATE, "the producer was closed", now_us);
    for (size_t i = 0; i < FLIGHT_DOUBTS_MAX; i++)
        f->given_up += f->doubts[i].b.inserts.count;
    doubt_expire(f, true, now_us);
    intake_expire(f->in, now_us, true, &left);
    f->given_up += left.count;
    (void)error_set(&err, PGQ_E_STATE, "the producer was closed before the job was sent");
    error_hint(&err, "it is not enqueued");
    flight_refuse(f, &left, PGQ_E_STATE, &err);
}
