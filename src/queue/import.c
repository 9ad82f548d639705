/* Imports: batches whose position is committed with them, in a table of the extras. */
#include <pgqueuer/import.h>

#include "base/error.h"
#include "base/map.h"
#include "base/utf8.h"
#include "queue/enqueue.h"

#include <stdlib.h>

static pgq_code check_text(const char *what, const char *text, pgq_error *err)
{
    size_t len = strlen(text);

    if (len > PGQ_IMPORT_TEXT_BYTES_MAX)
        return error_set(err, PGQ_E_LIMIT,
                         "the %s of the import has %zu bytes; at most %zu are "
                         "allowed",
                         what, len, PGQ_IMPORT_TEXT_BYTES_MAX);
    if (!utf8_valid(text, len))
        return error_set(err, PGQ_E_INVALID, "the %s of the import is not valid UTF-8", what);
    return PGQ_OK;
}

static pgq_code check_name(const char *name, const char *source, pgq_error *err)
{
    pgq_code code;

    if (!base_given(name))
        return error_set(err, PGQ_E_INVALID, "the import has no name");
    code = check_text("name", name, err);
    if (code == PGQ_OK && source != NULL)
        code = check_text("source", source, err);
    return code;
}

/* Says what is missing in the words of an import. */
static pgq_code explain(pgq_code code, pgq_error *err)
{
    if (code == PGQ_E_SCHEMA_MISSING || code == PGQ_E_SCHEMA_MISMATCH) {
        code = error_set(err, code,
                         "the table that remembers how far an import has come is not "
                         "there");
        error_hint(err, "pgqueuer install --extras adds it to an installation");
    }
    return code;
}

/* ---- finding ---- */

static char *keep(char **at, const char *text)
{
    char *copy = *at;

    if (text == NULL)
        return NULL;
    memcpy(copy, text, strlen(text) + 1);
    *at += strlen(text) + 1;
    return copy;
}

static size_t size_of(const char *text)
{
    return text != NULL ? strlen(text) + 1 : 0;
}

/* One block: the import, then its texts. */
static pgq_code read_import(pg_result *r, pgq_import **ret_import, pgq_error *err)
{
    const char *name = result_text(r, 0, 0), *source = result_text(r, 0, 1);
    const char *settings = result_text(r, 0, 2);
    pgq_import *found =
        malloc(sizeof(*found) + size_of(name) + size_of(source) + size_of(settings));
    char *texts;

    if (found == NULL)
        return error_nomem(err);
    texts = (char *)(found + 1);
    *found = (pgq_import)PGQ_IMPORT_INIT;
    found->name = keep(&texts, name);
    found->source = keep(&texts, source);
    found->settings = keep(&texts, settings);
    found->version = result_int8(r, 0, 3);
    found->finished = result_bool(r, 0, 4);
    found->position = result_int8(r, 0, 5);
    found->digest = result_int8(r, 0, 6);
    found->lines = result_int8(r, 0, 7);
    found->jobs = result_int8(r, 0, 8);
    found->skipped = result_int8(r, 0, 9);
    found->rejected = result_int8(r, 0, 10);
    found->rejects_bytes = result_int8(r, 0, 11);
    found->updated_us = result_timestamp(r, 0, 12) + PG_EPOCH_US;
    if (r->malformed || name == NULL || settings == NULL) {
        free(found);
        return error_set(err, PGQ_E_INTERNAL, "the import came back in another shape");
    }
    *ret_import = found;
    return PGQ_OK;
}

pgq_code pgq_import_find(pgq_client *client, const char *name, const char *source,
                         pgq_import **ret_import, pgq_error *err)
{
    params p = PARAMS_INIT;
    pg_result r = PG_RESULT_INIT;
    int64_t deadline_us;
    pgq_code code = check_name(name, source, err);

    if (code == PGQ_OK)
        code = client_begin(client, &deadline_us, err);
    if (code != PGQ_OK)
        return code;
    param_text(&p, name);
    param_text(&p, source);
    code = pg_conn_call(client->conn, STATEMENT_IMPORT_FIND, &p, deadline_us, &r, NULL, err);
    code = explain(code, err);
    if (code == PGQ_OK && result_rows(&r) == 0)
        code = error_set(err, PGQ_E_NOT_FOUND, "there is no import of this name");
    if (code == PGQ_OK)
        code = read_import(&r, ret_import, err);
    result_release(&r);
    params_release(&p);
    return code;
}

pgq_import *pgq_import_free(pgq_import *import)
{
    free(import);
    return NULL;
}

/* ---- a batch ---- */

typedef struct importing {
    client_way way;
    const enqueue_batch *batch;
    pgq_import next; /* what the row will say */
    int64_t *ids;    /* of the batch, to count what was skipped; NULL: not needed */
} importing;

static pgq_code record(importing *i, pgq_error *err)
{
    const pgq_import *next = &i->next;
    params p = PARAMS_INIT;
    pg_result r = PG_RESULT_INIT;
    pgq_code code;

    param_text(&p, next->name);
    param_text(&p, next->source);
    param_text(&p, next->settings);
    param_int8(&p, next->version);
    param_bool(&p, next->finished);
    param_int8(&p, next->position);
    param_int8(&p, next->digest);
    param_int8(&p, next->lines);
    param_int8(&p, next->jobs);
    param_int8(&p, next->skipped);
    param_int8(&p, next->rejected);
    param_int8(&p, next->rejects_bytes);
    code = i->way.way.call(&i->way.way, STATEMENT_IMPORT_RECORD, &p, &r, err);
    code = explain(code, err);
    if (code == PGQ_OK && result_rows(&r) != 1) {
        code = error_set(err, PGQ_E_STATE, "somebody else goes on with this import");
        error_hint(err, "only one of them can; the one that began last does");
    }
    result_release(&r);
    params_release(&p);
    return code;
}

static void count_jobs(importing *i)
{
    int64_t skipped = 0;

    for (size_t at = 0; i->ids != NULL && at < i->batch->count; at++)
        skipped += i->ids[at] == 0;
    i->next.skipped += skipped;
    i->next.jobs += (int64_t)i->batch->count - skipped;
}

/* A pg_body. The counts are those of a first try, if there was one: they are set anew. */
static pgq_code import_body(void *user, pgq_error *err)
{
    importing *i = user;
    int64_t jobs = i->next.jobs, skipped = i->next.skipped;
    pgq_code code = PGQ_OK;

    if (i->batch->count > 0)
        code = enqueue_send(&i->way.way, i->batch, i->ids, err);
    if (code == PGQ_OK) {
        count_jobs(i);
        code = record(i, err);
    }
    if (code != PGQ_OK) {
        i->next.jobs = jobs;
        i->next.skipped = skipped;
    }
    return code;
}

/* The enqueue inside of the transaction has none of its own. */
static pgq_code in_open_transaction(enqueue_way *way, pg_body body, void *user, pgq_error *err)
{
    (void)way;
    return body(user, err);
}

static pgq_code check_import(const pgq_import *import, pgq_error *err)
{
    pgq_code code;

    if (import->settings == NULL)
        return error_set(err, PGQ_E_INVALID, "the import has no settings");
    code = check_name(import->name, import->source, err);
    return code == PGQ_OK ? check_text("settings", import->settings, err) : code;
}

pgq_code pgq_import_batch(pgq_client *client, pgq_import *import, const pgq_new_job *jobs,
                          size_t count, pgq_on_conflict on_conflict, pgq_error *err)
{
    enqueue_batch batch = {jobs, count, on_conflict, client->log_policy, ENQUEUE_COPY_JOBS, false};
    importing i = {.batch = &batch, .next = PGQ_IMPORT_INIT};
    int64_t deadline_us;
    pgq_code code = base_copy_options(&i.next, sizeof(i.next), import, "pgq_import", err);

    if (code == PGQ_OK)
        code = check_import(&i.next, err);
    if (code == PGQ_OK && count > 0)
        code = enqueue_check(jobs, count, on_conflict, err);
    if (code == PGQ_OK && count > 0 && on_conflict == PGQ_ON_CONFLICT_SKIP) {
        i.ids = calloc(count, sizeof(*i.ids));
        if (i.ids == NULL)
            code = error_nomem(err);
    }
    if (code == PGQ_OK)
        code = client_begin(client, &deadline_us, err);
    if (code == PGQ_OK) {
        i.way = client_way_make(client, deadline_us);
        i.way.way.transaction = in_open_transaction;
        code = pg_conn_transaction(client->conn, import_body, &i, deadline_us, err);
    }
    if (code == PGQ_OK) {
        import->version = i.next.version + 1;
        import->jobs = i.next.jobs;
        import->skipped = i.next.skipped;
    }
    free(i.ids);
    return code;
}

/* ---- taken keys ---- */

/* Marks the jobs whose key an earlier one of the array has. */
static pgq_code mark_repeated(const pgq_new_job *jobs, size_t count, bool *taken, pgq_error *err)
{
    map keys = MAP_INIT;
    pgq_code code = PGQ_OK;

    for (size_t i = 0; code == PGQ_OK && i < count; i++) {
        pgq_new_job job;

        code = enqueue_read_job(jobs, i, &job, err);
        if (code != PGQ_OK || job.dedupe_key == NULL)
            continue;
        code = map_add(&keys, job.dedupe_key, strlen(job.dedupe_key), NULL);
        if (code == PGQ_E_STATE) {
            taken[i] = true;
            code = PGQ_OK;
        } else if (code != PGQ_OK) {
            code = error_nomem(err);
        }
    }
    map_release(&keys);
    return code;
}

static pgq_code mark_active(pgq_client *client, const pgq_new_job *jobs, size_t count, bool *taken,
                            int64_t deadline_us, pgq_error *err)
{
    params p = PARAMS_INIT;
    pg_result r = PG_RESULT_INIT;
    pgq_code code;

    param_array_begin(&p, PG_OID_TEXT, count);
    for (size_t i = 0; i < count; i++) {
        pgq_new_job job;

        if (enqueue_read_job(jobs, i, &job, NULL) == PGQ_OK)
            element_text(&p, job.dedupe_key);
    }
    param_array_end(&p);
    code = pg_conn_call(client->conn, STATEMENT_DEDUPE_TAKEN, &p, deadline_us, &r, NULL, err);
    for (size_t row = 0; code == PGQ_OK && row < result_rows(&r); row++) {
        int64_t ord = result_int8(&r, row, 0);

        if (ord < 1 || ord > (int64_t)count)
            code = error_set(err, PGQ_E_INTERNAL, "the taken keys came back in another shape");
        else
            taken[ord - 1] = true;
    }
    result_release(&r);
    params_release(&p);
    return code;
}

pgq_code pgq_dedupe_taken(pgq_client *client, const pgq_new_job *jobs, size_t count,
                          bool *ret_taken, pgq_error *err)
{
    bool *taken;
    int64_t deadline_us;
    pgq_code code;

    if (count == 0)
        return PGQ_OK;
    code = enqueue_check(jobs, count, PGQ_ON_CONFLICT_RAISE, err);
    if (code == PGQ_OK)
        code = client_begin(client, &deadline_us, err);
    if (code != PGQ_OK)
        return code;
    taken = calloc(count, sizeof(*taken));
    if (taken == NULL)
        return error_nomem(err);
    code = mark_repeated(jobs, count, taken, err);
    if (code == PGQ_OK)
        code = mark_active(client, jobs, count, taken, deadline_us, err);
    if (code == PGQ_OK)
        memcpy(ret_taken, taken, count * sizeof(*taken));
    free(taken);
    return code;
}
