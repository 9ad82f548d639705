#include "pg/read_error.h"
#include "base/error.h"
#include "base/utf8.h"
#include "pg/sqlstate.h"

void first_line(const char *message, char *line, size_t size)
{
    size_t len = message != NULL ? strcspn(message, "\n") : 0;

    if (len >= size)
        len = utf8_cut(message, size - 1);
    if (len > 0)
        memcpy(line, message, len);
    line[len] = '\0';
}

pgq_code read_error(const PGresult *result, const char *statement_name,
                    char ret_constraint[CONSTRAINT_BYTES], pgq_error *err)
{
    char sqlstate[6], message[PGQ_MESSAGE_BYTES / 2];
    sqlstate_class class;
    pgq_code code;

    first_line(PQresultErrorField(result, PG_DIAG_SQLSTATE), sqlstate, sizeof(sqlstate));
    first_line(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY), message, sizeof(message));
    first_line(PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME), ret_constraint,
               CONSTRAINT_BYTES);
    class = sqlstate_classify(sqlstate);
    code = error_set(err, sqlstate_code(sqlstate), "the database refused it: %s", message);
    if (err == NULL)
        return code;
    memcpy(err->sqlstate, sqlstate, sizeof(sqlstate));
    err->retryable = class == SQLSTATE_TRANSIENT || class == SQLSTATE_CONNECTION;
    if (statement_name != NULL)
        error_where(err, "%s", statement_name);
    if (class == SQLSTATE_PERMISSION)
        error_hint(err, "grant the role what it needs, or use another one");
    return code;
}
