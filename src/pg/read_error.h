/* From libpq's error result to ours. */
#ifndef PG_READ_ERROR_H
#define PG_READ_ERROR_H

#include "base/base.h"
#include "pg/pq.h"

enum { CONSTRAINT_BYTES = 64 };

/* Fills the error (may be NULL) and the violated constraint's name; returns the code. The server's
 * DETAIL stays out: it may quote a payload. statement_name may be NULL. */
pgq_code read_error(const PGresult *result, const char *statement_name,
                    char ret_constraint[CONSTRAINT_BYTES], pgq_error *err);

/* The first line of a libpq message, without its end, at most `size` bytes with the NUL. */
void first_line(const char *message, char *line, size_t size);

#endif
