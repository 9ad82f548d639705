#include "pg/foreign.h"
#include "base/clock.h"
#include "base/error.h"
#include "pg/copy.h"
#include "pg/read_error.h"

pgq_code foreign_check(PGconn *conn, pgq_error *err)
{
    const char *encoding;

    if (conn == NULL)
        return error_set(err, PGQ_E_INVALID, "the connection is NULL");
    if (PQstatus(conn) != CONNECTION_OK)
        return error_set(err, PGQ_E_CONNECTION_LOST, "the caller's connection is not open");
    if (PQpipelineStatus(conn) != PQ_PIPELINE_OFF) {
        (void)error_set(err, PGQ_E_UNSUPPORTED, "the caller's connection is in pipeline mode");
        error_hint(err, "leave pipeline mode before enqueueing on this connection");
        return PGQ_E_UNSUPPORTED;
    }
    encoding = PQparameterStatus(conn, "client_encoding");
    if (encoding != NULL && !base_streq(encoding, "UTF8")) {
        (void)error_set(err, PGQ_E_UNSUPPORTED, "the caller's connection has client_encoding %.40s",
                        encoding);
        error_hint(err, "set client_encoding to UTF8");
        return PGQ_E_UNSUPPORTED;
    }
    switch (PQtransactionStatus(conn)) {
    case PQTRANS_IDLE:
    case PQTRANS_INTRANS:
        return PGQ_OK;
    case PQTRANS_INERROR:
        return error_set(err, PGQ_E_STATE, "the caller's transaction has failed; roll it back");
    case PQTRANS_ACTIVE:
    case PQTRANS_UNKNOWN:
        break;
    }
    return error_set(err, PGQ_E_STATE, "the caller's connection is busy with another command");
}

/* The connection went away. Inside of a transaction nothing can have been committed. */
static pgq_code connection_lost(bool in_transaction, pgq_error *err)
{
    pgq_code code = in_transaction ? PGQ_E_CONNECTION_LOST : PGQ_E_OUTCOME_UNKNOWN;

    (void)error_set(err, code, "the caller's connection was lost");
    error_hint(err, in_transaction ? "nothing of the transaction was committed"
                                   : "the jobs may or may not be enqueued");
    return code;
}

pgq_code foreign_call(PGconn *conn, const statement *s, const params *p, pg_result *ret_result,
                      char ret_constraint[64], char **ret_detail, pgq_error *err)
{
    const char *values[STATEMENT_PARAMS_MAX];
    int formats[STATEMENT_PARAMS_MAX];
    bool in_transaction = foreign_in_transaction(conn);
    PGresult *result;
    pgq_code code;

    if (!params_bind(p, values, formats))
        return error_nomem(err);
    result = PQexecParams(conn, s->text, p->count, s->param_types, values, p->len, formats, 1);
    if (result == NULL)
        return error_nomem(err);
    if (PQresultStatus(result) == PGRES_TUPLES_OK) {
        *ret_result = result_of(result);
        return PGQ_OK;
    }
    if (PQstatus(conn) != CONNECTION_OK)
        code = connection_lost(in_transaction, err);
    else
        code = read_error(result, s->name, ret_constraint, err);
    if (code == PGQ_E_DUPLICATE)
        (void)base_strdup(PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL), ret_detail);
    PQclear(result);
    return code;
}

pgq_code foreign_copy(PGconn *conn, const statement *s, rows_source source, void *user,
                      char ret_constraint[64], char **ret_detail, pgq_error *err)
{
    return copy_in(conn, s, source, user, CLOCK_NEVER, ret_constraint, ret_detail, err);
}

bool foreign_in_transaction(PGconn *conn)
{
    return PQtransactionStatus(conn) == PQTRANS_INTRANS;
}

/* Runs BEGIN, COMMIT or ROLLBACK; the tag tells a COMMIT from what a failed transaction makes of
 * it. */
static pgq_code command(PGconn *conn, const char *sql, pgq_error *err)
{
    PGresult *result = PQexec(conn, sql);
    char constraint[CONSTRAINT_BYTES];
    pgq_code code = PGQ_OK;

    if (result == NULL)
        return error_nomem(err);
    if (PQstatus(conn) != CONNECTION_OK)
        code = connection_lost(!base_streq(sql, "COMMIT"), err);
    else if (PQresultStatus(result) != PGRES_COMMAND_OK)
        code = read_error(result, NULL, constraint, err);
    else if (!base_streq(PQcmdStatus(result), sql))
        code = error_set(err, PGQ_E_DATABASE, "the transaction was rolled back");
    PQclear(result);
    return code;
}

pgq_code foreign_transaction(PGconn *conn, pg_body body, void *user, pgq_error *err)
{
    pgq_code code;

    if (foreign_in_transaction(conn))
        return body(user, err);
    code = command(conn, "BEGIN", err);
    if (code != PGQ_OK)
        return code;
    code = body(user, err);
    if (code == PGQ_OK)
        return command(conn, "COMMIT", err);
    if (PQstatus(conn) == CONNECTION_OK)
        (void)command(conn, "ROLLBACK", NULL);
    return code;
}
