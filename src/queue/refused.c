/* Which jobs of a batch the database refuses, for a rule of its own: found by trying them, in a
 * transaction that is rolled back. */
#include <pgqueuer/import.h>

#include "base/error.h"
#include "pg/sqlstate.h"
#include "queue/enqueue.h"

#include <stdlib.h>

typedef struct refusal {
    size_t index;
    char *reason;
} refusal;

typedef struct trial {
    client_way way;
    const pgq_new_job *jobs;
    size_t count;
    pgq_on_conflict on_conflict;
    pgq_log_policy log_policy;
    bool tried; /* all of them */
    refusal *refused;
    size_t refused_count, capacity;
} trial;

static void forget(trial *t)
{
    for (size_t i = 0; i < t->refused_count; i++)
        free(t->refused[i].reason);
    t->refused_count = 0;
}

static pgq_code remember(trial *t, size_t index, const char *reason)
{
    if (t->refused_count == t->capacity) {
        size_t capacity = t->capacity > 0 ? 2 * t->capacity : 16;
        refusal *grown = realloc(t->refused, capacity * sizeof(*grown));

        if (grown == NULL)
            return PGQ_E_NOMEM;
        t->refused = grown;
        t->capacity = capacity;
    }
    t->refused[t->refused_count].index = index;
    if (base_strdup(reason, &t->refused[t->refused_count].reason) != PGQ_OK)
        return PGQ_E_NOMEM;
    t->refused_count++;
    return PGQ_OK;
}

/* A value, a constraint, a trigger that raises; not what would meet every job, or pass. 25: the
 * transaction has failed for another reason. */
static bool is_a_jobs_fault(const trial *t, const pgq_error *err)
{
    sqlstate_class class = sqlstate_classify(err->sqlstate);

    return pg_conn_state(t->way.client->conn) == PG_READY && err->sqlstate[0] != '\0' &&
           strncmp(err->sqlstate, "25", 2) != 0 &&
           (class == SQLSTATE_DATA || class == SQLSTATE_UNIQUE || class == SQLSTATE_OTHER);
}

static pgq_code say(trial *t, const char *sql, pgq_error *err)
{
    return pg_conn_call_sql(t->way.client->conn, sql, t->way.deadline_us, NULL, err);
}

/* Tries some of the jobs, and keeps them for those that come after: a rule may be about two. */
static pgq_code try_some(trial *t, size_t first, size_t count, bool *ret_refused, pgq_error *err)
{
    const char *jobs = (const char *)t->jobs + first * t->jobs->struct_size;
    enqueue_batch batch = {(const pgq_new_job *)jobs, count, t->on_conflict, t->log_policy,
                           ENQUEUE_COPY_JOBS,         false};
    pgq_code code = say(t, "SAVEPOINT tried", err);

    *ret_refused = false;
    if (code != PGQ_OK)
        return code;
    code = enqueue_send(&t->way.way, &batch, NULL, err);
    if (code == PGQ_OK)
        return say(t, "RELEASE SAVEPOINT tried", err);
    if (!is_a_jobs_fault(t, err))
        return code;
    *ret_refused = true;
    return say(t, "ROLLBACK TO SAVEPOINT tried", NULL);
}

/* By halves, until the bad one is alone; behind it by doubling again. */
static pgq_code try_all(trial *t, pgq_error *err)
{
    size_t at = 0, size = t->count;
    pgq_code code = PGQ_OK;

    while (code == PGQ_OK && at < t->count) {
        pgq_error why = PGQ_ERROR_INIT;
        bool refused;

        size = base_min_size(size, t->count - at);
        code = try_some(t, at, size, &refused, &why);
        if (code != PGQ_OK) {
            if (err != NULL)
                *err = why;
        } else if (!refused) {
            at += size;
            size *= 2;
        } else if (size > 1) {
            size /= 2;
        } else if (remember(t, at++, why.message) != PGQ_OK) {
            code = error_nomem(err);
        }
    }
    return code;
}

/* A pg_body. It never succeeds, since nothing is to be committed. */
static pgq_code try_body(void *user, pgq_error *err)
{
    trial *t = user;
    pgq_code code;

    forget(t);
    code = say(t, "SET CONSTRAINTS ALL IMMEDIATE", err); /* they would wait for the COMMIT */
    if (code == PGQ_OK)
        code = try_all(t, err);
    t->tried = code == PGQ_OK;
    return code == PGQ_OK ? PGQ_E_STATE : code;
}

static pgq_code in_open_transaction(enqueue_way *way, pg_body body, void *user, pgq_error *err)
{
    (void)way;
    return body(user, err);
}

pgq_code pgq_enqueue_refused(pgq_client *client, const pgq_new_job *jobs, size_t count,
                             pgq_on_conflict on_conflict, pgq_refused_callback callback, void *user,
                             pgq_error *err)
{
    trial t = {.jobs = jobs, .count = count, .on_conflict = on_conflict};
    int64_t deadline_us;
    pgq_code code;

    if (count == 0)
        return PGQ_OK;
    if (callback == NULL)
        return error_set(err, PGQ_E_INVALID, "the callback is NULL");
    code = enqueue_check(jobs, count, on_conflict, err);
    if (code == PGQ_OK)
        code = client_begin(client, &deadline_us, err);
    if (code != PGQ_OK)
        return code;
    t.log_policy = client->log_policy;
    t.way = client_way_make(client, deadline_us);
    t.way.way.transaction = in_open_transaction;
    code = pg_conn_transaction(client->conn, try_body, &t, deadline_us, err);
    if (t.tried)
        code = PGQ_OK;
    for (size_t i = 0; code == PGQ_OK && i < t.refused_count; i++)
        callback(t.refused[i].index, t.refused[i].reason, user);
    forget(&t);
    free(t.refused);
    return code;
}
