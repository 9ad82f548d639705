/* COPY FROM STDIN in the binary format, on any connection that is outside of pipeline mode. */
#ifndef PG_COPY_H
#define PG_COPY_H

#include "pg/param.h"
#include "pg/pq.h"
#include "pg/read_error.h"

/* Runs the statement, a COPY, with the rows of `source`. Waits by poll(), whether the connection
 * blocks or not, at most until `deadline_us` (CLOCK_NEVER: for ever).
 * On an error of the server the constraint's name is filled, and *ret_detail (may be NULL) is its
 * DETAIL of a unique violation, the caller's to free, or NULL. After PGQ_E_CONNECTION_LOST and
 * PGQ_E_TIMEOUT the connection is of no use any more; how the transaction stands follows from
 * what was sent before, for nothing is committed here where one is open. */
pgq_code copy_in(PGconn *pq, const statement *s, rows_source source, void *user,
                 int64_t deadline_us, char ret_constraint[CONSTRAINT_BYTES], char **ret_detail,
                 pgq_error *err);

#endif
