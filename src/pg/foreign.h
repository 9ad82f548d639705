/* Statements on a connection that belongs to the caller of the library. */
#ifndef PG_FOREIGN_H
#define PG_FOREIGN_H

#include <libpq-fe.h>

#include "pg/param.h"
#include "pg/result.h"
#include "pg/statement.h"

/* Whether a statement can be run there now. PGQ_E_INVALID (NULL), PGQ_E_CONNECTION_LOST,
 * PGQ_E_UNSUPPORTED (pipeline mode, another encoding), PGQ_E_STATE (a command is under way, or the
 * transaction has failed). */
pgq_code foreign_check(PGconn *conn, pgq_error *err);

/* Runs one statement, blocking. On PGQ_OK the result is the caller's to release. */
pgq_code foreign_call(PGconn *conn, const statement *s, const params *p, pg_result *ret_result,
                      char ret_constraint[64], pgq_error *err);

#endif
