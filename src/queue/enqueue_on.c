/* Enqueueing inside the caller's own transaction. */
#include <pgqueuer/libpq.h>

#include "base/error.h"
#include "pg/foreign.h"
#include "queue/enqueue.h"

#include <stdlib.h>

/* The caller's connection, and what lives for the time of the call. */
typedef struct foreign_way {
    enqueue_way way;
    PGconn *conn;
    names names;
    arena memory;
    char *detail; /* owned; way.detail points to it */
} foreign_way;

static pgq_code expand(foreign_way *w, statement_id id, statement *ret_statement, pgq_error *err)
{
    free(w->detail);
    w->detail = NULL;
    return statement_expand(&w->names, id, &w->memory, ret_statement, err);
}

static pgq_code call(enqueue_way *way, statement_id id, const params *p, pg_result *ret_result,
                     pgq_error *err)
{
    foreign_way *w = (foreign_way *)way;
    statement s;
    pgq_code code = expand(w, id, &s, err);

    if (code == PGQ_OK)
        code = foreign_call(w->conn, &s, p, ret_result, way->constraint, &w->detail, err);
    way->detail = w->detail;
    return code;
}

static pgq_code copy(enqueue_way *way, statement_id id, rows_source source, void *user,
                     pgq_error *err)
{
    foreign_way *w = (foreign_way *)way;
    statement s;
    pgq_code code = expand(w, id, &s, err);

    if (code == PGQ_OK)
        code = foreign_copy(w->conn, &s, source, user, way->constraint, &w->detail, err);
    way->detail = w->detail;
    return code;
}

static pgq_code transaction(enqueue_way *way, pg_body body, void *user, pgq_error *err)
{
    return foreign_transaction(((foreign_way *)way)->conn, body, user, err);
}

pgq_code pgq_enqueue_on(PGconn *conn, const pgq_names *given_names, const pgq_new_job *jobs,
                        size_t count, pgq_on_conflict on_conflict, int64_t *ret_ids, pgq_error *err)
{
    /* not plain: a refusal would fail the caller's transaction */
    enqueue_batch batch = {jobs, count, on_conflict, PGQ_LOG_POLICY_FULL, ENQUEUE_COPY_JOBS, false};
    foreign_way w = {.way = {.call = call, .copy = copy, .transaction = transaction},
                     .conn = conn,
                     .names = {.memory = ARENA_INIT},
                     .memory = ARENA_INIT};
    pgq_code code;

    if (count == 0)
        return PGQ_OK;
    code = foreign_check(conn, err);
    if (code == PGQ_OK)
        code = enqueue_check(jobs, count, on_conflict, err);
    if (code == PGQ_OK)
        code = names_resolve(given_names, &w.names, err);
    if (code == PGQ_OK)
        code = enqueue_send(&w.way, &batch, ret_ids, err);
    free(w.detail);
    arena_release(&w.memory);
    names_release(&w.names);
    return code;
}
