/* The one place that speaks COPY. Rows go out in chunks of a buffer that is used again and again,
 * and libpq's own buffer is emptied before the next chunk, so that a million rows need no more
 * memory than the first thousand. */
#include "pg/copy.h"
#include "base/clock.h"
#include "base/error.h"
#include "pg/conn_internal.h"

#include <errno.h>
#include <poll.h>

enum { CHUNK_BYTES = 256 * 1024 };

/* The head of the format: its signature, no flags, no extension. */
static const char head[] = "PGCOPY\n\377\r\n\0"
                           "\0\0\0\0"
                           "\0\0\0\0";
static const char tail[] = "\377\377";

static pgq_code lost(PGconn *pq, pgq_error *err)
{
    char line[PGQ_MESSAGE_BYTES / 2];

    first_line(PQerrorMessage(pq), line, sizeof(line));
    (void)error_set(err, PGQ_E_CONNECTION_LOST, "the connection was lost: %s",
                    line[0] != '\0' ? line : "the server closed it");
    if (err != NULL)
        err->retryable = true;
    return PGQ_E_CONNECTION_LOST;
}

/* Waits for the socket, and takes what has arrived. */
static pgq_code wait_for(PGconn *pq, short events, int64_t deadline_us, pgq_error *err)
{
    struct pollfd wait = {.fd = PQsocket(pq), .events = events};
    int64_t now_us = clock_monotonic_us();

    if (now_us >= deadline_us)
        return error_set(err, PGQ_E_TIMEOUT, "the database did not take the rows in time");
    if (poll(&wait, 1, clock_poll_ms(now_us, deadline_us)) < 0 && errno != EINTR)
        return error_set(err, PGQ_E_INTERNAL, "poll: %s", strerror(errno));
    if ((wait.revents & ~POLLOUT) != 0 && PQconsumeInput(pq) == 0)
        return lost(pq, err);
    return PGQ_OK;
}

/* Empties libpq's buffer. Reads meanwhile: a server that has much to say does not read. */
static pgq_code flush(PGconn *pq, int64_t deadline_us, pgq_error *err)
{
    for (;;) {
        int status = PQflush(pq);
        pgq_code code;

        if (status == 0)
            return PGQ_OK;
        code = status < 0 ? lost(pq, err) : wait_for(pq, POLLIN | POLLOUT, deadline_us, err);
        if (code != PGQ_OK)
            return code;
    }
}

/* The next result of what was sent; NULL after the last one. */
static pgq_code next_result(PGconn *pq, int64_t deadline_us, PGresult **ret_result, pgq_error *err)
{
    pgq_code code = flush(pq, deadline_us, err);

    while (code == PGQ_OK && PQisBusy(pq) != 0)
        code = wait_for(pq, POLLIN, deadline_us, err);
    if (code == PGQ_OK)
        *ret_result = PQgetResult(pq);
    return code;
}

/* What the server says of a statement that it refused; the connection may be gone with it. */
static pgq_code refused(PGconn *pq, const PGresult *result, const statement *s,
                        char ret_constraint[CONSTRAINT_BYTES], char **ret_detail, pgq_error *err)
{
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    pgq_code code;

    if (severity == NULL)
        return lost(pq, err);
    code = read_error(result, s->name, ret_constraint, err);
    if (base_streq(severity, "ERROR")) {
        if (ret_detail != NULL && code == PGQ_E_DUPLICATE)
            (void)base_strdup(PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL), ret_detail);
        return code;
    }
    if (err != NULL) {
        err->code = PGQ_E_CONNECTION_LOST;
        err->retryable = true;
    }
    return PGQ_E_CONNECTION_LOST;
}

/* Reads results up to the end, or up to the server's wish for rows. */
static pgq_code read_results(PGconn *pq, const statement *s, int64_t deadline_us,
                             ExecStatusType wanted, char ret_constraint[CONSTRAINT_BYTES],
                             char **ret_detail, pgq_error *err)
{
    pgq_code code, answer = PGQ_OK;

    for (;;) {
        PGresult *result = NULL;
        ExecStatusType status;

        code = next_result(pq, deadline_us, &result, err);
        if (code != PGQ_OK || result == NULL)
            break;
        status = PQresultStatus(result);
        if (status == PGRES_FATAL_ERROR && answer == PGQ_OK)
            answer = refused(pq, result, s, ret_constraint, ret_detail, err);
        else if (status != wanted && answer == PGQ_OK)
            answer = error_set(err, PGQ_E_INTERNAL, "%s was answered in another way", s->name);
        PQclear(result);
        if (status == PGRES_COPY_IN && wanted == PGRES_COPY_IN)
            break; /* no NULL comes before the rows were sent */
        if (PQstatus(pq) != CONNECTION_OK)
            break;
    }
    if (code != PGQ_OK && answer == PGQ_OK)
        return code;
    if (answer == PGQ_OK && PQstatus(pq) != CONNECTION_OK)
        return lost(pq, err);
    return answer;
}

static pgq_code send_rows(PGconn *pq, rows_source source, void *user, int64_t deadline_us,
                          pgq_error *err)
{
    buffer chunk = BUFFER_INIT;
    pgq_code code = PGQ_OK;
    bool more = true;

    buffer_add(&chunk, head, sizeof(head) - 1);
    while (code == PGQ_OK && more) {
        while (more && chunk.len < CHUNK_BYTES)
            more = source(user, &chunk) && !chunk.broken;
        if (!more)
            buffer_add(&chunk, tail, sizeof(tail) - 1);
        if (chunk.broken || chunk.len > INT32_MAX)
            code = error_nomem(err);
        else if (PQputCopyData(pq, chunk.data, (int)chunk.len) != 1)
            code = PQstatus(pq) == CONNECTION_OK ? error_nomem(err) : lost(pq, err);
        else
            code = flush(pq, deadline_us, err);
        buffer_clear(&chunk);
    }
    buffer_release(&chunk);
    return code;
}

pgq_code copy_in(PGconn *pq, const statement *s, rows_source source, void *user,
                 int64_t deadline_us, char ret_constraint[CONSTRAINT_BYTES], char **ret_detail,
                 pgq_error *err)
{
    pgq_code sent, code;

    if (PQsendQuery(pq, s->text) == 0)
        return lost(pq, err);
    code = read_results(pq, s, deadline_us, PGRES_COPY_IN, ret_constraint, ret_detail, err);
    if (code != PGQ_OK)
        return code;
    sent = send_rows(pq, source, user, deadline_us, err);
    if (sent == PGQ_E_TIMEOUT || sent == PGQ_E_CONNECTION_LOST)
        return sent;
    if (PQputCopyEnd(pq, sent != PGQ_OK ? "the client gave up" : NULL) != 1)
        return lost(pq, err);
    if (sent != PGQ_OK) { /* the server's complaint repeats what is known */
        code = read_results(pq, s, deadline_us, PGRES_COMMAND_OK, ret_constraint, NULL, NULL);
        return code == PGQ_E_TIMEOUT || code == PGQ_E_CONNECTION_LOST
                   ? error_set(err, code, "the rows were not sent, and the connection is lost")
                   : sent;
    }
    return read_results(pq, s, deadline_us, PGRES_COMMAND_OK, ret_constraint, ret_detail, err);
}

pgq_code pg_conn_copy(pg_conn *conn, statement_id id, rows_source source, void *user,
                      int64_t deadline_us, char *ret_constraint, pgq_error *err)
{
    char constraint[CONSTRAINT_BYTES] = "";
    pgq_code code;

    if (conn->state != PG_READY || conn->expected_count > 0)
        return error_set(err, PGQ_E_STATE, "the connection is not free for a COPY");
    conn_set_detail(conn, NULL);
    if (PQexitPipelineMode(conn->pq) == 0)
        code = lost(conn->pq, err);
    else
        code = copy_in(conn->pq, &conn->statements->all[id], source, user, deadline_us, constraint,
                       &conn->detail, err);
    if (code == PGQ_E_CONNECTION_LOST || code == PGQ_E_TIMEOUT || code == PGQ_E_INTERNAL ||
        PQenterPipelineMode(conn->pq) == 0)
        pg_conn_close(conn);
    if (ret_constraint != NULL)
        memcpy(ret_constraint, constraint, sizeof(constraint));
    return code;
}
