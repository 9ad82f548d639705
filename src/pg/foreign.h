/* Statements on a connection that belongs to the caller of the library. */
#ifndef PG_FOREIGN_H
#define PG_FOREIGN_H

#include <libpq-fe.h>

#include "pg/conn.h"

/* Whether a statement can be run there now. PGQ_E_INVALID (NULL), PGQ_E_CONNECTION_LOST,
 * PGQ_E_UNSUPPORTED (pipeline mode, another encoding), PGQ_E_STATE (a command is under way, or the
 * transaction has failed). */
pgq_code foreign_check(PGconn *conn, pgq_error *err);

/* Runs one statement, blocking. On PGQ_OK the result is the caller's to release; on an error
 * *ret_detail is the server's DETAIL of a unique violation, the caller's to free, or NULL. */
pgq_code foreign_call(PGconn *conn, const statement *s, const params *p, pg_result *ret_result,
                      char ret_constraint[64], char **ret_detail, pgq_error *err);

/* Runs a COPY with the rows of `source`, likewise. */
pgq_code foreign_copy(PGconn *conn, const statement *s, rows_source source, void *user,
                      char ret_constraint[64], char **ret_detail, pgq_error *err);

/* Whether a transaction of the caller is open. */
bool foreign_in_transaction(PGconn *conn);

/* Runs `body` in the caller's transaction, or in one of its own where none is open. */
pgq_code foreign_transaction(PGconn *conn, pg_body body, void *user, pgq_error *err);

#endif
