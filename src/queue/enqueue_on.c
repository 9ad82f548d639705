/* Enqueueing inside the caller's own transaction. */
#include <pgqueuer/libpq.h>

#include "base/error.h"
#include "pg/foreign.h"
#include "queue/enqueue.h"

pgq_code pgq_enqueue_on(PGconn *conn, const pgq_names *given_names, const pgq_new_job *jobs,
                        size_t count, pgq_on_conflict on_conflict, int64_t *ret_ids, pgq_error *err)
{
    names n = {.memory = ARENA_INIT};
    arena memory = ARENA_INIT;
    statement s;
    params p = PARAMS_INIT;
    pg_result r = PG_RESULT_INIT;
    char constraint[64] = "";
    pgq_code code;

    if (count == 0)
        return PGQ_OK;
    code = foreign_check(conn, err);
    if (code == PGQ_OK)
        code = enqueue_check(jobs, count, on_conflict, err);
    if (code == PGQ_OK)
        code = names_resolve(given_names, &n, err);
    if (code == PGQ_OK)
        code = statement_expand(&n, enqueue_statements[on_conflict], &memory, &s, err);
    if (code == PGQ_OK) {
        enqueue_add_params(&p, jobs, count);
        code = foreign_call(conn, &s, &p, &r, constraint, err);
        code = code == PGQ_OK ? enqueue_read_ids(&r, count, ret_ids, err)
                              : enqueue_explain(code, constraint, err);
    }
    result_release(&r);
    params_release(&p);
    arena_release(&memory);
    names_release(&n);
    return code;
}
