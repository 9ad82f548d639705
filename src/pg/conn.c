/* The pipeline: statements out, replies in, and every way in which a connection can end. */
#include "pg/conn_internal.h"
#include "base/clock.h"
#include "base/error.h"
#include "pg/read_error.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>

/* Which state may follow which. */
static const bool allowed[4][4] = {
    /* to:           down   connecting ready  broken */
    [PG_DOWN] = {true, true, false, false},
    [PG_CONNECTING] = {true, true, true, true},
    [PG_READY] = {true, false, false, true},
    [PG_BROKEN] = {true, true, false, false},
};

void conn_set_state(pg_conn *conn, pg_state state)
{
    assert(allowed[conn->state][state]);
    conn->state = state;
}

pgq_code pg_conn_new(const target *t, const statements *s, pg_conn **ret_conn)
{
    pg_conn *conn = calloc(1, sizeof(*conn));

    if (conn == NULL)
        return PGQ_E_NOMEM;
    conn->target = t;
    conn->statements = s;
    *ret_conn = conn;
    return PGQ_OK;
}

void conn_set_detail(pg_conn *conn, char *detail)
{
    free(conn->detail);
    conn->detail = detail;
}

const char *pg_conn_detail(const pg_conn *conn)
{
    return conn->detail;
}

void conn_drop(pg_conn *conn)
{
    conn->attempt.resolver = resolver_free(conn->attempt.resolver);
    if (conn->notification != NULL)
        PQfreemem(conn->notification);
    conn->notification = NULL;
    result_release(&conn->held.result);
    conn_set_detail(conn, NULL);
    PQfinish(conn->pq);
    conn->pq = NULL;
    conn->dying = conn->write_pending = conn->front_answered = conn->prepare_failed = false;
    conn->expected_first = conn->expected_count = 0;
    memset(conn->used, 0, sizeof(conn->used));
    memset(conn->prepared, 0, sizeof(conn->prepared));
}

void conn_break(pg_conn *conn)
{
    conn_drop(conn);
    conn->lost_told = false;
    conn_set_state(conn, PG_BROKEN);
}

/* Ends a connection that was ready, for the reason that libpq gives. */
static void lose(pg_conn *conn)
{
    char line[PGQ_MESSAGE_BYTES / 2];

    if (conn->error.code == PGQ_OK) {
        first_line(PQerrorMessage(conn->pq), line, sizeof(line));
        (void)error_set(&conn->error, PGQ_E_CONNECTION_LOST, "the connection was lost: %s",
                        line[0] != '\0' ? line : "the server closed it");
        conn->error.retryable = true;
    }
    conn_break(conn);
}

pg_conn *pg_conn_free(pg_conn *conn)
{
    if (conn != NULL) {
        conn_drop(conn);
        free(conn->expected);
        free(conn);
    }
    return NULL;
}

void pg_conn_connect(pg_conn *conn, int64_t now_us)
{
    conn_drop(conn);
    conn->error = (pgq_error)PGQ_ERROR_INIT;
    conn_start_attempts(conn, now_us);
}

void pg_conn_close(pg_conn *conn)
{
    conn_drop(conn);
    conn_set_state(conn, PG_DOWN);
}

pg_state pg_conn_state(const pg_conn *conn)
{
    return conn->state;
}

int64_t pg_conn_backend(const pg_conn *conn)
{
    return conn->state == PG_READY ? PQbackendPID(conn->pq) : 0;
}

bool pg_conn_is_pooled(const pg_conn *conn)
{
    return conn->unprepared;
}

void pg_conn_set_pooled(pg_conn *conn)
{
    conn->unprepared = true;
}

void pg_conn_fix_plans(pg_conn *conn)
{
    conn->fixed_plans = true;
}

const pgq_error *pg_conn_error(const pg_conn *conn)
{
    return &conn->error;
}

int pg_conn_fd(const pg_conn *conn)
{
    if (conn->attempt.resolver != NULL)
        return resolver_fd(conn->attempt.resolver);
    return conn->pq != NULL ? PQsocket(conn->pq) : -1;
}

short pg_conn_events(const pg_conn *conn)
{
    if (conn->state == PG_CONNECTING && conn->attempt.resolver == NULL)
        return conn->attempt.polling == PGRES_POLLING_WRITING ? POLLOUT : POLLIN;
    return conn->write_pending ? POLLIN | POLLOUT : POLLIN;
}

int64_t pg_conn_deadline_us(const pg_conn *conn)
{
    return conn->state == PG_CONNECTING ? conn->attempt.deadline_us : CLOCK_NEVER;
}

static void flush(pg_conn *conn)
{
    int status = PQflush(conn->pq);

    if (status < 0)
        conn->dying = true;
    conn->write_pending = status > 0;
}

pg_state pg_conn_process(pg_conn *conn, int64_t now_us)
{
    if (conn->state == PG_CONNECTING) {
        conn_process_attempt(conn, now_us);
    } else if (conn->state == PG_READY && !conn->dying) {
        if (PQconsumeInput(conn->pq) == 0) {
            conn->dying = true;
        } else {
            (void)PQisBusy(conn->pq); /* parses, also while nothing is expected: see conn_notice */
            flush(conn);
        }
    }
    return conn->state;
}

static pgq_code expect(pg_conn *conn, size_t more)
{
    if (conn->expected_count + more > conn->expected_capacity) {
        size_t capacity = conn->expected_capacity > 0 ? conn->expected_capacity * 2 : 16;
        expected *grown = calloc(capacity, sizeof(*grown));

        if (grown == NULL)
            return PGQ_E_NOMEM;
        for (size_t i = 0; i < conn->expected_count; i++) {
            size_t at = conn->expected_first + i;

            if (at >= conn->expected_capacity)
                at -= conn->expected_capacity;
            grown[i] = conn->expected[at];
        }
        free(conn->expected);
        conn->expected = grown;
        conn->expected_capacity = capacity;
        conn->expected_first = 0;
    }
    return PGQ_OK;
}

static void push_expected(pg_conn *conn, expected_kind kind, statement_id id)
{
    size_t at = (conn->expected_first + conn->expected_count) % conn->expected_capacity;

    conn->expected[at] = (expected){kind, id, false};
    conn->expected_count++;
}

/* libpq refuses to queue only when the connection is broken or memory is out; in both cases the
 * pipeline cannot be trusted any more. */
static pgq_code send_failed(pg_conn *conn)
{
    conn->dying = true;
    return PGQ_E_CONNECTION_LOST;
}

static pgq_code prepare_once(pg_conn *conn, statement_id id)
{
    const statement *s = &conn->statements->all[id];

    if (conn->prepared[id])
        return PGQ_OK;
    if (PQsendPrepare(conn->pq, s->prepared, s->text, s->param_count, s->param_types) == 0)
        return send_failed(conn);
    push_expected(conn, EXPECT_PREPARE, id);
    conn->prepared[id] = true;
    return PGQ_OK;
}

/* Sends the statement by name from its second use on, and never where a pooler in transaction mode
 * gives every transaction another session. */
static pgq_code send_statement(pg_conn *conn, statement_id id, const char *const *values,
                               const int *lengths, const int *formats)
{
    const statement *s = &conn->statements->all[id];
    int sent;

    if (conn->unprepared || !conn->used[id]) {
        conn->used[id] = true;
        sent = PQsendQueryParams(conn->pq, s->text, s->param_count, s->param_types, values, lengths,
                                 formats, 1);
    } else {
        if (prepare_once(conn, id) != PGQ_OK)
            return PGQ_E_CONNECTION_LOST;
        sent =
            PQsendQueryPrepared(conn->pq, s->prepared, s->param_count, values, lengths, formats, 1);
    }
    return sent != 0 ? PGQ_OK : send_failed(conn);
}

pgq_code pg_conn_send(pg_conn *conn, statement_id id, const params *p)
{
    const statement *s = &conn->statements->all[id];
    const char *values[STATEMENT_PARAMS_MAX];
    int formats[STATEMENT_PARAMS_MAX];
    int count = p != NULL ? p->count : 0;

    if (conn->state != PG_READY || count != s->param_count)
        return PGQ_E_STATE;
    if ((p != NULL && !params_bind(p, values, formats)) || expect(conn, 2) != PGQ_OK)
        return PGQ_E_NOMEM;
    if (conn->dying)
        return PGQ_E_CONNECTION_LOST;
    if (send_statement(conn, id, values, p != NULL ? p->len : NULL, formats) != PGQ_OK)
        return PGQ_E_CONNECTION_LOST;
    push_expected(conn, EXPECT_STATEMENT, id);
    return PGQ_OK;
}

pgq_code pg_conn_send_sql(pg_conn *conn, const char *sql)
{
    if (conn->state != PG_READY)
        return PGQ_E_STATE;
    if (expect(conn, 1) != PGQ_OK)
        return PGQ_E_NOMEM;
    if (conn->dying || PQsendQueryParams(conn->pq, sql, 0, NULL, NULL, NULL, NULL, 1) == 0)
        return send_failed(conn);
    push_expected(conn, EXPECT_STATEMENT, STATEMENT_COUNT);
    return PGQ_OK;
}

pgq_code pg_conn_sync(pg_conn *conn)
{
    if (conn->state != PG_READY)
        return PGQ_E_STATE;
    if (expect(conn, 1) != PGQ_OK)
        return PGQ_E_NOMEM;
    if (conn->dying || PQpipelineSync(conn->pq) == 0)
        return send_failed(conn);
    push_expected(conn, EXPECT_SYNC, 0);
    flush(conn);
    return conn->dying ? PGQ_E_CONNECTION_LOST : PGQ_OK;
}

/* Where it is refused, plans are made anew each time, which is only slower. */
void conn_greet(pg_conn *conn)
{
    params p = PARAMS_INIT;

    if (!conn->fixed_plans || conn->unprepared)
        return;
    param_int4(&p, PQbackendPID(conn->pq));
    if (pg_conn_send(conn, STATEMENT_FIXED_PLANS, &p) == PGQ_OK)
        (void)pg_conn_sync(conn);
    for (size_t i = 0; i < conn->expected_count; i++)
        conn->expected[i].own = true; /* nothing else was said in this session */
    params_release(&p);
}

/* A FATAL error is the session's last word. */
static bool is_fatal(const PGresult *result)
{
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

    return severity == NULL || base_streq(severity, "FATAL") || base_streq(severity, "PANIC");
}

/* A prepared statement is not there, or somebody else's is: the session is not ours alone. */
static bool is_of_pooler(const PGresult *result)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    return sqlstate != NULL && (base_streq(sqlstate, "26000") || base_streq(sqlstate, "42P05"));
}

/* Without memory there is no detail. */
static void note_detail(pg_conn *conn, const PGresult *result)
{
    char *detail = NULL;

    (void)base_strdup(PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL), &detail);
    conn_set_detail(conn, detail);
}

static void note_fatal(pg_conn *conn, const PGresult *result)
{
    pg_reply last = {.kind = PG_REPLY_NONE};

    conn->dying = true;
    if (PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED) == NULL)
        return; /* it is libpq's own, and its text is the connection's too: see lose */
    (void)read_error(result, NULL, last.constraint, &last.error);
    conn->error = last.error;
    conn->error.code = PGQ_E_CONNECTION_LOST;
    conn->error.retryable = true;
}

/* NULL for plain SQL and for a sync. */
static const char *statement_name(const pg_conn *conn, const expected *front)
{
    if (front->kind == EXPECT_SYNC || front->id == STATEMENT_COUNT)
        return NULL;
    return conn->statements->all[front->id].name;
}

void conn_notice(void *user, const PGresult *notice)
{
    const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
    pg_conn *conn = user;

    if (conn->state == PG_READY && severity != NULL && is_fatal(notice))
        note_fatal(conn, notice);
}

/* Turns libpq's result for the front of the queue into conn->held. False: the connection is lost.
 */
static bool take_result(pg_conn *conn, const expected *front, PGresult *result)
{
    pg_reply *held = &conn->held;
    bool usable = true;

    *held = (pg_reply){.kind = PG_REPLY_NONE};
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
        held->kind = PG_REPLY_ROWS;
        held->result = result_of(result);
        return front->kind != EXPECT_SYNC;
    case PGRES_PIPELINE_SYNC:
        held->kind = PG_REPLY_SYNC;
        usable = front->kind == EXPECT_SYNC;
        break;
    case PGRES_PIPELINE_ABORTED:
        held->kind = PG_REPLY_SKIPPED;
        break;
    case PGRES_FATAL_ERROR:
        if (is_fatal(result)) {
            note_fatal(conn, result);
            usable = false;
            break;
        }
        held->kind = PG_REPLY_ERROR;
        conn->unprepared |= is_of_pooler(result);
        if (read_error(result, statement_name(conn, front), held->constraint, &held->error) ==
            PGQ_E_DUPLICATE)
            note_detail(conn, result);
        break;
    default:
        usable = false; /* COPY and the like: not something that we ever ask for */
        break;
    }
    PQclear(result);
    return usable;
}

static void pop_expected(pg_conn *conn)
{
    conn->expected_first = (conn->expected_first + 1) % conn->expected_capacity;
    conn->expected_count--;
}

/* Hands out what was held for the front; a prepare is nobody's business unless it fails, and then
 * it is the failure of the statement that follows it. */
static void deliver(pg_conn *conn, pg_reply *reply)
{
    expected front = conn->expected[conn->expected_first];
    pg_reply held = conn->held;

    conn->held = (pg_reply){.kind = PG_REPLY_NONE};
    conn->front_answered = false;
    if (front.kind == EXPECT_SYNC && held.kind == PG_REPLY_ERROR) {
        if (!front.own)
            *reply = held; /* the commit failed; the sync itself is still to come */
        return;
    }
    pop_expected(conn);
    if (front.own) {
        result_release(&held.result);
        return;
    }
    if (front.kind == EXPECT_PREPARE) {
        if (held.kind != PG_REPLY_ROWS)
            conn->prepared[front.id] = false;
        if (held.kind == PG_REPLY_ERROR) {
            conn->prepare_failed = true;
            conn->prepare_error = held.error;
        }
        result_release(&held.result);
        return;
    }
    if (conn->prepare_failed && held.kind == PG_REPLY_SKIPPED) {
        held.kind = PG_REPLY_ERROR;
        held.error = conn->prepare_error;
    }
    conn->prepare_failed = false;
    *reply = held;
}

/* Reads one step of libpq's sequence: a result, or the NULL that ends a statement's results.
 * False: nothing more can be read now. */
static bool read_step(pg_conn *conn, pg_reply *reply, int *empty_reads)
{
    const expected *front = &conn->expected[conn->expected_first];
    PGresult *result;

    if (PQisBusy(conn->pq) != 0)
        return false;
    result = PQgetResult(conn->pq);
    if (conn->front_answered) {
        if (result != NULL) { /* a second result for one statement: we never ask for it */
            PQclear(result);
            conn->dying = true;
            return false;
        }
        deliver(conn, reply);
        return true;
    }
    if (result == NULL) {
        if (++*empty_reads > 2)
            conn->dying = true;
        return !conn->dying;
    }
    if (!take_result(conn, front, result)) {
        conn->dying = true;
        return false;
    }
    conn->front_answered = true;
    if (front->kind == EXPECT_SYNC)
        deliver(conn, reply); /* no NULL follows a sync */
    return true;
}

void pg_conn_next(pg_conn *conn, pg_reply *reply)
{
    int empty_reads = 0;

    *reply = (pg_reply){.kind = PG_REPLY_NONE};
    if (conn->state == PG_READY) {
        while (conn->expected_count > 0 && read_step(conn, reply, &empty_reads)) {
            if (reply->kind != PG_REPLY_NONE)
                return;
        }
        if (!conn->dying)
            return;
        lose(conn);
    }
    if (conn->state == PG_BROKEN && !conn->lost_told) {
        conn->lost_told = true;
        reply->kind = PG_REPLY_LOST;
        reply->error = conn->error;
    }
}

bool pg_conn_notification(pg_conn *conn, const char **ret_channel, const char **ret_payload)
{
    if (conn->state != PG_READY)
        return false;
    if (conn->notification != NULL)
        PQfreemem(conn->notification);
    conn->notification = PQnotifies(conn->pq);
    if (conn->notification == NULL)
        return false;
    *ret_channel = conn->notification->relname;
    *ret_payload = conn->notification->extra;
    return true;
}
