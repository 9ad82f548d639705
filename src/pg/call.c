/* Blocking calls over the same connection, for clients and administration. */
#include "base/clock.h"
#include "base/error.h"
#include "pg/conn_internal.h"

#include <errno.h>
#include <poll.h>

/* Waits until the connection has something to do or the deadline passes, then does it. */
static pgq_code turn(pg_conn *conn, int64_t deadline_us)
{
    struct pollfd wait = {.fd = pg_conn_fd(conn), .events = pg_conn_events(conn)};
    int64_t own_deadline_us = base_min_i64(deadline_us, pg_conn_deadline_us(conn));
    int64_t now_us = clock_monotonic_us();

    if (now_us >= deadline_us)
        return PGQ_E_TIMEOUT;
    if (poll(&wait, 1, clock_poll_ms(now_us, own_deadline_us)) < 0 && errno != EINTR)
        return PGQ_E_INTERNAL;
    (void)pg_conn_process(conn, clock_monotonic_us());
    return PGQ_OK;
}

/* An idle connection may have been closed since the last call: looks before anything is sent. The
 * server's last words come before the end of the stream, so one read is not enough. */
static void look_for_end(pg_conn *conn)
{
    struct pollfd wait = {.fd = pg_conn_fd(conn), .events = POLLIN};
    pg_reply reply;

    while (pg_conn_state(conn) == PG_READY && poll(&wait, 1, 0) > 0) {
        (void)pg_conn_process(conn, clock_monotonic_us());
        pg_conn_next(conn, &reply);
        result_release(&reply.result);
    }
}

pgq_code pg_conn_open(pg_conn *conn, int64_t deadline_us, pgq_error *err)
{
    pgq_code code;

    look_for_end(conn);
    if (pg_conn_state(conn) == PG_READY)
        return PGQ_OK;
    pg_conn_connect(conn, clock_monotonic_us());
    while (pg_conn_state(conn) == PG_CONNECTING) {
        code = turn(conn, deadline_us);
        if (code != PGQ_OK) {
            pg_conn_close(conn);
            return error_set(err, code, "no connection was made in time");
        }
    }
    if (pg_conn_state(conn) == PG_READY)
        return PGQ_OK;
    if (err != NULL)
        *err = *pg_conn_error(conn);
    return pg_conn_error(conn)->code;
}

/* As turn; while nothing has come, the watch looks when it is time. */
static pgq_code watched_turn(pg_conn *conn, int64_t deadline_us, pg_watch *watch)
{
    pgq_code code;

    if (watch == NULL || watch->next_us >= deadline_us)
        return turn(conn, deadline_us);
    code = turn(conn, watch->next_us);
    if (code != PGQ_E_TIMEOUT)
        return code;
    watch->look(watch->user);
    watch->next_us = clock_monotonic_us() + watch->every_us;
    return PGQ_OK;
}

/* Waits for the next reply; a timeout closes the connection, for its pipeline is not empty. */
static pgq_code next_reply(pg_conn *conn, int64_t deadline_us, pg_watch *watch, pg_reply *reply,
                           pgq_error *err)
{
    for (;;) {
        pgq_code code;

        pg_conn_next(conn, reply);
        if (reply->kind != PG_REPLY_NONE)
            return PGQ_OK;
        code = watched_turn(conn, deadline_us, watch);
        if (code == PGQ_OK)
            continue;
        pg_conn_close(conn);
        (void)error_set(err, code, "the database did not answer in time");
        error_hint(err, "what was sent may still be carried out");
        return code;
    }
}

static pgq_code outcome_unknown(const pg_reply *reply, pgq_error *err)
{
    (void)error_set(err, PGQ_E_OUTCOME_UNKNOWN, "%.400s", reply->error.message);
    error_hint(err, "what was sent may or may not have been carried out");
    return PGQ_E_OUTCOME_UNKNOWN;
}

/* Reads replies up to the sync. The first error counts; the last rows are kept. */
static pgq_code drain(pg_conn *conn, int64_t deadline_us, pg_watch *watch, pg_result *ret_result,
                      char *ret_constraint, pgq_error *err)
{
    pg_result rows = PG_RESULT_INIT;
    pgq_error first = PGQ_ERROR_INIT;
    pg_reply reply;
    pgq_code code;

    do {
        code = next_reply(conn, deadline_us, watch, &reply, err);
        if (code == PGQ_OK && reply.kind == PG_REPLY_LOST)
            code = outcome_unknown(&reply, err);
        if (code != PGQ_OK) {
            result_release(&rows);
            return code;
        }
        if (reply.kind == PG_REPLY_ROWS) {
            result_release(&rows);
            rows = reply.result;
        } else if (reply.kind == PG_REPLY_ERROR && first.code == PGQ_OK) {
            first = reply.error;
            if (ret_constraint != NULL)
                memcpy(ret_constraint, reply.constraint, sizeof(reply.constraint));
        }
    } while (reply.kind != PG_REPLY_SYNC);
    if (first.code != PGQ_OK || ret_result == NULL)
        result_release(&rows);
    if (first.code != PGQ_OK) {
        if (err != NULL)
            *err = first;
        return first.code;
    }
    if (ret_result != NULL)
        *ret_result = rows;
    return PGQ_OK;
}

/* A send that failed leaves half a unit queued: only a new connection is clean again. */
static pgq_code not_sent(pg_conn *conn, pgq_code code, pgq_error *err)
{
    pg_conn_close(conn);
    if (code == PGQ_E_NOMEM)
        return error_nomem(err);
    return error_set(err, code, "the statement could not be sent");
}

static pgq_code call_once(pg_conn *conn, statement_id id, const params *p, int64_t deadline_us,
                          pg_result *ret_result, char *ret_constraint, pgq_error *err)
{
    pgq_code code = pg_conn_send(conn, id, p);

    if (code != PGQ_OK)
        return not_sent(conn, code, err);
    /* from here on the server may have it, whatever fails */
    code = pg_conn_sync(conn);
    if (code == PGQ_E_NOMEM)
        return not_sent(conn, code, err);
    return drain(conn, deadline_us, NULL, ret_result, ret_constraint, err);
}

pgq_code pg_conn_call(pg_conn *conn, statement_id id, const params *p, int64_t deadline_us,
                      pg_result *ret_result, char *ret_constraint, pgq_error *err)
{
    bool unprepared = conn->unprepared;
    pgq_code code = call_once(conn, id, p, deadline_us, ret_result, ret_constraint, err);

    /* it was refused for its name only, and from now on it has none */
    if (code != PGQ_OK && conn->unprepared != unprepared && pg_conn_state(conn) == PG_READY)
        code = call_once(conn, id, p, deadline_us, ret_result, ret_constraint, err);
    return code;
}

static pgq_code call_sql(pg_conn *conn, const char *sql, int64_t deadline_us, pg_watch *watch,
                         pg_result *ret_result, pgq_error *err)
{
    pgq_code code = pg_conn_send_sql(conn, sql);

    if (code != PGQ_OK)
        return not_sent(conn, code, err);
    code = pg_conn_sync(conn);
    if (code == PGQ_E_NOMEM)
        return not_sent(conn, code, err);
    return drain(conn, deadline_us, watch, ret_result, NULL, err);
}

pgq_code pg_conn_call_sql(pg_conn *conn, const char *sql, int64_t deadline_us,
                          pg_result *ret_result, pgq_error *err)
{
    return call_sql(conn, sql, deadline_us, NULL, ret_result, err);
}

/* The COMMIT of a failed transaction succeeds, with another tag. */
static pgq_code commit(pg_conn *conn, int64_t deadline_us, pgq_error *err)
{
    pg_result committed = PG_RESULT_INIT;
    pgq_code code = pg_conn_call_sql(conn, "COMMIT", deadline_us, &committed, err);

    if (code == PGQ_OK && !base_streq(result_tag(&committed), "COMMIT"))
        code = error_set(err, PGQ_E_DATABASE, "the transaction was rolled back");
    result_release(&committed);
    return code;
}

/* After a failure inside a transaction: it is ended, or the connection is. */
static void roll_back(pg_conn *conn, int64_t deadline_us)
{
    if (pg_conn_state(conn) == PG_READY &&
        pg_conn_call_sql(conn, "ROLLBACK", deadline_us, NULL, NULL) != PGQ_OK)
        pg_conn_close(conn);
}

static pgq_code nothing_done(pgq_code code, pgq_error *err)
{
    if (code != PGQ_E_OUTCOME_UNKNOWN && code != PGQ_E_TIMEOUT && code != PGQ_E_CONNECTION_LOST)
        return code;
    if (code == PGQ_E_OUTCOME_UNKNOWN)
        code = PGQ_E_CONNECTION_LOST;
    if (err != NULL)
        err->code = code;
    error_hint(err, "nothing of it was committed");
    return code;
}

pgq_code pg_conn_transaction(pg_conn *conn, pg_body body, void *user, int64_t deadline_us,
                             pgq_error *err)
{
    bool unprepared = conn->unprepared, again;
    pgq_code code;

    do {
        code = pg_conn_call_sql(conn, "BEGIN", deadline_us, NULL, err);
        if (code == PGQ_OK)
            code = body(user, err);
        if (code == PGQ_OK)
            return commit(conn, deadline_us, err);
        code = nothing_done(code, err);
        roll_back(conn, deadline_us);
        again = conn->unprepared != unprepared && pg_conn_state(conn) == PG_READY;
        unprepared = conn->unprepared;
    } while (again);
    return code;
}

static pgq_code run_script(pg_conn *conn, const char *const *sqls, size_t count,
                           int64_t deadline_us, pg_watch *watch, pgq_error *err)
{
    pgq_code code = pg_conn_send_sql(conn, "BEGIN");

    for (size_t i = 0; code == PGQ_OK && i < count; i++)
        code = pg_conn_send_sql(conn, sqls[i]);
    if (code == PGQ_OK)
        code = pg_conn_sync(conn);
    if (code != PGQ_OK)
        return not_sent(conn, code, err);
    code = drain(conn, deadline_us, watch, NULL, NULL, err);
    if (pg_conn_state(conn) != PG_READY)
        return code;
    if (code == PGQ_OK)
        return commit(conn, deadline_us, err);
    roll_back(conn, deadline_us);
    return code;
}

pgq_code pg_conn_run_script(pg_conn *conn, const char *const *sqls, size_t count,
                            int64_t deadline_us, pgq_error *err)
{
    return run_script(conn, sqls, count, deadline_us, NULL, err);
}

pgq_code pg_conn_run_watched(pg_conn *conn, const char *const *sqls, size_t count, pg_watch *watch,
                             pgq_error *err)
{
    watch->next_us = clock_monotonic_us() + watch->every_us;
    if (count == 1)
        return call_sql(conn, sqls[0], CLOCK_NEVER, watch, NULL, err);
    return run_script(conn, sqls, count, CLOCK_NEVER, watch, err);
}
