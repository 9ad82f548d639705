/* Acting on jobs that are there: cancel and requeue, over a client's connection. */
#include <pgqueuer/client.h>

#include "base/clock.h"
#include "base/error.h"
#include "pg/client.h"
#include "queue/act.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    SECOND_LOOK_US = 300 * 1000, /* a claim or a retry that is under way has ended by then */
    IDS_PER_LOOK = 1000          /* a transaction, so that no lock is held for long */
};

/* What is known of an id. */
enum { ID_SEEN = 1, ID_GONE = 2 };

/* One call of pgq_cancel. */
typedef struct cancelling {
    pg_conn *conn;
    int64_t deadline_us;
    int64_t heartbeat_timeout_ms;
    int64_t *ids;         /* in order, each once */
    unsigned char *known; /* of each */
    size_t count;
    int64_t *left; /* those that have to be taken; after a look, those that a live worker has */
    size_t left_count;
} cancelling;

/* ---- ids ---- */

static int compare_ids(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

    return (left > right) - (left < right);
}

/* A copy of the ids in order, each once; the caller frees it. */
static pgq_code copy_ids(const int64_t *ids, size_t count, int64_t **ret_ids, size_t *ret_count,
                         pgq_error *err)
{
    int64_t *copy = calloc(count, sizeof(*copy));
    size_t kept = 0;

    if (copy == NULL)
        return error_nomem(err);
    memcpy(copy, ids, count * sizeof(*copy));
    qsort(copy, count, sizeof(*copy), compare_ids);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || copy[kept - 1] != copy[i])
            copy[kept++] = copy[i];
    }
    *ret_ids = copy;
    *ret_count = kept;
    return PGQ_OK;
}

static pgq_code check_ids(const int64_t *ids, size_t count, size_t max, pgq_error *err)
{
    if (count > max)
        return error_set(err, PGQ_E_LIMIT, "%zu jobs are named; at most %zu are allowed", count,
                         max);
    if (ids == NULL)
        return error_set(err, PGQ_E_INVALID, "there is a number of ids, but no ids");
    return PGQ_OK;
}

size_t act_write_list(const int64_t *ids, size_t count, buffer *list)
{
    size_t written = 0;

    buffer_clear(list);
    while (written < count) {
        char text[24];
        size_t len = (size_t)snprintf(text, sizeof(text), "%c%" PRId64, written == 0 ? '[' : ',',
                                      ids[written]);

        if (written > 0 && list->len + len + 1 > ACT_LIST_BYTES)
            break;
        buffer_add(list, text, len);
        written++;
    }
    buffer_add_char(list, ']');
    return written;
}

/* Puts the callers' view on the database's errors. */
static pgq_code explain(pgq_code code, pgq_error *err)
{
    if (code == PGQ_E_SCHEMA_MISSING || code == PGQ_E_SCHEMA_MISMATCH)
        error_hint(err, "run `pgqueuer install`, or check --prefix, --schema, the database's name, "
                        "and that the role has USAGE on the schema");
    return code;
}

/* ---- cancel ---- */

static pgq_code know(cancelling *c, int64_t id, int what, pgq_error *err)
{
    int64_t *at = bsearch(&id, c->ids, c->count, sizeof(id), compare_ids);

    if (at == NULL)
        return error_set(err, PGQ_E_INTERNAL, "the database names a job that was not asked for");
    c->known[at - c->ids] |= (unsigned char)what;
    return PGQ_OK;
}

static pgq_code malformed(pgq_error *err)
{
    return error_set(err, PGQ_E_INTERNAL, "the cancelled jobs came back in another shape");
}

/* The rows of the telling: a worker may be so quick that its job is gone at the first look. */
static pgq_code note_present(cancelling *c, pg_result *r, pgq_error *err)
{
    size_t rows = result_rows(r);
    pgq_code code = PGQ_OK;

    for (size_t i = 0; code == PGQ_OK && i < rows; i++) {
        if (!result_is_null(r, i, 0))
            code = know(c, result_int8(r, i, 0), ID_SEEN, err);
    }
    return code == PGQ_OK && r->malformed ? malformed(err) : code;
}

/* Adds what is left as texts of JSON arrays, each short enough for one event. */
static pgq_code add_lists(params *p, const cancelling *c, pgq_error *err)
{
    buffer list = BUFFER_INIT;
    size_t lists = 0;
    pgq_code code = PGQ_OK;

    for (size_t at = 0; code == PGQ_OK && at < c->left_count; lists++) {
        at += act_write_list(c->left + at, c->left_count - at, &list);
        if (list.broken)
            code = error_nomem(err);
    }
    param_array_begin(p, PG_OID_TEXT, lists);
    for (size_t at = 0; code == PGQ_OK && at < c->left_count;) {
        at += act_write_list(c->left + at, c->left_count - at, &list);
        element_text(p, list.data);
    }
    param_array_end(p);
    buffer_release(&list);
    return code;
}

/* Tells the workers of what is left, in as many events as that needs, in one transaction. */
static pgq_code tell(cancelling *c, pgq_error *err)
{
    params p = PARAMS_INIT;
    pg_result r = PG_RESULT_INIT;
    pgq_code code = add_lists(&p, c, err);

    if (code == PGQ_OK) {
        param_int8_array(&p, c->left, c->left_count);
        code = pg_conn_call(c->conn, STATEMENT_CANCEL_EVENT, &p, c->deadline_us, &r, NULL, err);
        code = code == PGQ_OK ? note_present(c, &r, err) : explain(code, err);
    }
    result_release(&r);
    params_release(&p);
    return code;
}

/* Takes what it can of `count` ids of c->left, from `at` on, and puts those that a worker has
 * behind the first *left. These places are free: there are never more than were read. */
static pgq_code take(cancelling *c, size_t at, size_t count, size_t *left, pgq_error *err)
{
    params p = PARAMS_INIT;
    pg_result r = PG_RESULT_INIT;
    size_t rows;
    pgq_code code;

    param_int8_array(&p, c->left + at, count);
    param_int8(&p, c->heartbeat_timeout_ms);
    code = pg_conn_call(c->conn, STATEMENT_CANCEL_ROWS, &p, c->deadline_us, &r, NULL, err);
    params_release(&p);
    if (code != PGQ_OK)
        return explain(code, err);
    rows = result_rows(&r);
    if (rows > count)
        code = malformed(err);
    for (size_t i = 0; code == PGQ_OK && i < rows; i++) {
        int64_t id = result_int8(&r, i, 0);
        bool gone = result_bool(&r, i, 1);

        if (!gone)
            c->left[(*left)++] = id;
        code = know(c, id, gone ? ID_SEEN | ID_GONE : ID_SEEN, err);
    }
    if (code == PGQ_OK && r.malformed)
        code = malformed(err);
    result_release(&r);
    return code;
}

static pgq_code look(cancelling *c, pgq_error *err)
{
    size_t left = 0;
    pgq_code code = PGQ_OK;

    for (size_t at = 0; code == PGQ_OK && at < c->left_count; at += IDS_PER_LOOK) {
        size_t rest = c->left_count - at;

        code = take(c, at, rest < IDS_PER_LOOK ? rest : IDS_PER_LOOK, &left, err);
    }
    c->left_count = left;
    return code;
}

/* False when the call's time ends first. */
static bool pause_before_second_look(int64_t deadline_us)
{
    struct timespec rest = {.tv_nsec = SECOND_LOOK_US * 1000L};

    if (deadline_us != CLOCK_NEVER && clock_monotonic_us() + SECOND_LOOK_US >= deadline_us)
        return false;
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR) {
    }
    return true;
}

/* A row that a worker has may be queued again a moment later, by a retry or because it was given
 * back. And a worker of the Python release forgets an event about a job that it does not have yet,
 * so one that claimed between the event and the first look has to be told again. */
static pgq_code look_again(cancelling *c, pgq_error *err)
{
    pgq_code code;

    if (!pause_before_second_look(c->deadline_us)) {
        (void)error_set(err, PGQ_E_TIMEOUT, "no time was left to look again at the running jobs");
        error_hint(err, "their workers have been told; cancelling needs a third of a second more");
        return PGQ_E_TIMEOUT;
    }
    code = tell(c, err);
    return code == PGQ_OK ? look(c, err) : code;
}

static pgq_code cancel(cancelling *c, pgq_error *err)
{
    pgq_code code;

    memcpy(c->left, c->ids, c->count * sizeof(*c->ids));
    c->left_count = c->count;
    code = tell(c, err);
    if (code == PGQ_OK)
        code = look(c, err);
    if (code == PGQ_OK && c->left_count > 0)
        code = look_again(c, err);
    return code;
}

static pgq_cancel_counts count_known(const cancelling *c, bool complete)
{
    pgq_cancel_counts counts = {0};

    for (size_t i = 0; i < c->count; i++) {
        counts.cancelled += (c->known[i] & ID_GONE) != 0;
        counts.told += c->known[i] == ID_SEEN;
        counts.unknown += complete && c->known[i] == 0;
    }
    return counts;
}

/* The part with memory of its own. */
static pgq_code cancel_ids(cancelling *c, const int64_t *ids, size_t count,
                           pgq_cancel_counts *ret_counts, pgq_error *err)
{
    pgq_code code = copy_ids(ids, count, &c->ids, &c->count, err);

    if (code != PGQ_OK)
        return code;
    c->left = calloc(c->count, sizeof(*c->left));
    c->known = calloc(c->count, sizeof(*c->known));
    if (c->left == NULL || c->known == NULL) {
        code = error_nomem(err);
    } else {
        code = cancel(c, err);
        if (ret_counts != NULL)
            *ret_counts = count_known(c, code == PGQ_OK);
    }
    free(c->ids);
    free(c->left);
    free(c->known);
    return code;
}

pgq_code pgq_cancel(pgq_client *client, const int64_t *ids, size_t count,
                    const pgq_cancel_options *options, pgq_cancel_counts *ret_counts,
                    pgq_error *err)
{
    pgq_cancel_options own = PGQ_CANCEL_OPTIONS_INIT;
    cancelling c = {0};
    pgq_code code = base_copy_options(&own, sizeof(own), options, "pgq_cancel_options", err);

    if (ret_counts != NULL)
        *ret_counts = (pgq_cancel_counts){0};
    if (code != PGQ_OK)
        return code;
    if (own.heartbeat_timeout_ms < 100 || own.heartbeat_timeout_ms > 86400000)
        return error_set(err, PGQ_E_INVALID,
                         "heartbeat_timeout_ms must be from 100 to 86400000, is %lld",
                         (long long)own.heartbeat_timeout_ms);
    if (count == 0)
        return PGQ_OK;
    code = check_ids(ids, count, PGQ_CANCEL_IDS_MAX, err);
    if (code == PGQ_OK)
        code = client_begin(client, &c.deadline_us, err);
    if (code != PGQ_OK)
        return code;
    c.conn = client->conn;
    c.heartbeat_timeout_ms = own.heartbeat_timeout_ms;
    return cancel_ids(&c, ids, count, ret_counts, err);
}

/* ---- requeue ---- */

static pgq_code explain_requeue(pgq_code code, const char *constraint, pgq_error *err)
{
    if (code != PGQ_E_DUPLICATE)
        return explain(code, err);
    (void)error_set(err, PGQ_E_DUPLICATE,
                    "the dedupe key of one of the jobs is taken by a job that is queued or "
                    "running; none was requeued");
    error_hint(err, "requeue the others, or wait until that job has ended");
    if (err != NULL)
        memcpy(err->sqlstate, "23505", sizeof("23505"));
    error_where(err, "%s", constraint);
    return code;
}

pgq_code pgq_requeue(pgq_client *client, const int64_t *ids, size_t count, size_t *ret_requeued,
                     pgq_error *err)
{
    params p = PARAMS_INIT;
    pg_result r = PG_RESULT_INIT;
    char constraint[64] = "";
    int64_t deadline_us;
    pgq_code code;

    if (ret_requeued != NULL)
        *ret_requeued = 0;
    if (count == 0)
        return PGQ_OK;
    code = check_ids(ids, count, PGQ_REQUEUE_IDS_MAX, err);
    if (code == PGQ_OK)
        code = client_begin(client, &deadline_us, err);
    if (code != PGQ_OK)
        return code;
    param_int8_array(&p, ids, count);
    param_bool(&p, client->log_policy == PGQ_LOG_POLICY_FULL);
    code = pg_conn_call(client->conn, STATEMENT_REQUEUE, &p, deadline_us, &r, constraint, err);
    if (code == PGQ_OK && ret_requeued != NULL)
        *ret_requeued = result_rows(&r);
    code = explain_requeue(code, constraint, err);
    result_release(&r);
    params_release(&p);
    return code;
}
