/* The steps of an enqueue, shared by the ways to send it. */
#ifndef QUEUE_ENQUEUE_H
#define QUEUE_ENQUEUE_H

#include <pgqueuer/client.h>

#include "pg/client.h"
#include "pg/param.h"
#include "pg/result.h"

/* From so many jobs on COPY is faster than arrays; docs/internals/queue.md has the figures. */
enum { ENQUEUE_COPY_JOBS = 2000 };

/* What one call enqueues. */
typedef struct enqueue_batch {
    const pgq_new_job *jobs;
    size_t count;
    pgq_on_conflict on_conflict;
    pgq_log_policy log_policy; /* of the jobs that have none; not DEFAULT */
    size_t copy_jobs;          /* ENQUEUE_COPY_JOBS */
    bool plain;                /* one job may go by enqueue_one: the role may see its id */
} enqueue_batch;

/* Where the statements go: to a client's connection, or to the caller's own. */
typedef struct enqueue_way {
    pgq_code (*call)(struct enqueue_way *way, statement_id id, const params *p,
                     pg_result *ret_result, pgq_error *err);
    pgq_code (*copy)(struct enqueue_way *way, statement_id id, rows_source source, void *user,
                     pgq_error *err);
    /* Runs a body in a transaction, the one that is open or one of its own. */
    pgq_code (*transaction)(struct enqueue_way *way, pg_body body, void *user, pgq_error *err);
    char constraint[64]; /* of the last violation */
    const char *detail;  /* of the last unique violation: which key; NULL: not known */
} enqueue_way;

/* A client's connection. */
typedef struct client_way {
    enqueue_way way;
    pgq_client *client;
    int64_t deadline_us;
} client_way;

client_way client_way_make(pgq_client *client, int64_t deadline_us);

/* The index-th job of a caller's array, whose stride is the caller's struct_size. */
pgq_code enqueue_read_job(const pgq_new_job *jobs, size_t index, pgq_new_job *ret_job,
                          pgq_error *err);

/* Checks everything that can be checked before sending. */
pgq_code enqueue_check(const pgq_new_job *jobs, size_t count, pgq_on_conflict on_conflict,
                       pgq_error *err);

/* Adds the parameters of the statement that enqueues this batch, which was checked, and returns
 * which one it is. */
statement_id enqueue_add_params(params *p, const enqueue_batch *batch);

/* Reads its ids in input order; ret_ids may be NULL. */
pgq_code enqueue_read_ids(pg_result *r, size_t count, int64_t *ret_ids, pgq_error *err);

/* Puts an error of the database into the words of an enqueue; returns `code`. */
pgq_code enqueue_explain(pgq_code code, const char *constraint, pgq_error *err);

/* Enqueues a batch that was checked, with one statement or with COPY: all of it or nothing, in the
 * transaction that is open or in one of its own. ret_ids (may be NULL) gets the ids in input
 * order. */
pgq_code enqueue_send(enqueue_way *way, const enqueue_batch *batch, int64_t *ret_ids,
                      pgq_error *err);

/* enqueue_copy.c */

/* Whether the batch goes by COPY. */
bool enqueue_copies(const enqueue_batch *batch);
pgq_code enqueue_send_copy(enqueue_way *way, const enqueue_batch *batch, int64_t *ret_ids,
                           pgq_error *err);

/* Whether the job is to have a `queued` row in the log. */
bool enqueue_logged(const pgq_new_job *job, pgq_log_policy log_policy);

/* With one statement, whatever the size. */
pgq_code enqueue_send_statement(enqueue_way *way, const enqueue_batch *batch, int64_t *ret_ids,
                                pgq_error *err);

/* The job of the batch whose dedupe key the server named, the second one where two have it;
 * batch->count when there is none. */
size_t enqueue_find_duplicate(const enqueue_batch *batch, const char *detail);

#endif
