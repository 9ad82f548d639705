/* Errors of the schema's functions, in the words of who asked. */
#ifndef SCHEMA_EXPLAIN_H
#define SCHEMA_EXPLAIN_H

#include "schema/live.h"

/* Completes an error of the server with what to do about it; `action` is the command's name. */
pgq_code explain_error(pgq_code code, const char *action, pgq_error *err);

/* The schema is not there, or none was found: PGQ_E_DATABASE. */
pgq_code explain_no_schema(const live_catalog *live, pgq_error *err);

/* The right to make objects in the schema of the tables is missing: PGQ_E_PERMISSION. */
pgq_code explain_may_not_create(const live_catalog *live, pgq_error *err);

#endif
