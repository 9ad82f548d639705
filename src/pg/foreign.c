#include "pg/foreign.h"
#include "base/error.h"
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

pgq_code foreign_call(PGconn *conn, const statement *s, const params *p, pg_result *ret_result,
                      char ret_constraint[64], pgq_error *err)
{
    const char *values[STATEMENT_PARAMS_MAX];
    int formats[STATEMENT_PARAMS_MAX];
    PGresult *result;
    pgq_code code;

    if (!params_bind(p, values, formats))
        return error_nomem(err);
    result = PQexecParams(conn, s->text, p->count, s->param_types, values, p->len, formats, 1);
    if (result == NULL)
        return error_nomem(err);
    if (PQresultStatus(result) == PGRES_TUPLES_OK) {
        *ret_result = (pg_result){(struct pg_result_handle *)(void *)result, false};
        return PGQ_OK;
    }
    if (PQstatus(conn) != CONNECTION_OK) {
        code = error_set(err, PGQ_E_OUTCOME_UNKNOWN, "the caller's connection was lost");
        error_hint(err, "outside of a transaction the jobs may or may not be enqueued");
    } else {
        code = read_error(result, s->name, ret_constraint, err);
    }
    PQclear(result);
    return code;
}
