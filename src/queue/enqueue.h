/* The steps of an enqueue, shared by the ways to send it. */
#ifndef QUEUE_ENQUEUE_H
#define QUEUE_ENQUEUE_H

#include <pgqueuer/client.h>

#include "pg/param.h"
#include "pg/result.h"

/* Indexed by pgq_on_conflict. */
extern const statement_id enqueue_statements[];

/* Checks everything that can be checked before sending. */
pgq_code enqueue_check(const pgq_new_job *jobs, size_t count, pgq_on_conflict on_conflict,
                       pgq_error *err);

/* Adds the statement's parameters; the jobs were checked. */
void enqueue_add_params(params *p, const pgq_new_job *jobs, size_t count);

/* Reads the ids in input order; ret_ids may be NULL. */
pgq_code enqueue_read_ids(pg_result *r, size_t count, int64_t *ret_ids, pgq_error *err);

/* Puts an error of the database into the words of an enqueue; returns `code`. */
pgq_code enqueue_explain(pgq_code code, const char *constraint, pgq_error *err);

#endif
