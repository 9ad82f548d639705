/* From records to committed chunks. A chunk is one transaction, and what is held in memory. */
#include "cli/import_run.h"
#include "base/error.h"

#include <stdlib.h>
#include <unistd.h>

enum {
    CHUNK_JOBS = 10000,
    CHUNK_BYTES = 8 * 1024 * 1024, /* of records, good and bad */
    RECORD_BYTES = 64,             /* what each costs beside its text */
    RACES_MAX = 10
};

static void reject(import_run *run, const import_record *r, const char *reason)
{
    import_rejects_add(&run->rejects, r->line, reason, r->text, r->len, r->too_long);
}

/* ---- filling a chunk ---- */

static void clear_chunk(import_chunk *chunk)
{
    map_release(&chunk->keys);
    arena_release(&chunk->memory);
    chunk->count = 0;
    chunk->bytes = 0;
    chunk->merged = 0;
}

static bool is_blank(const import_record *r)
{
    for (size_t i = 0; i < r->len; i++) {
        if (r->text[i] != ' ' && r->text[i] != '\t' && r->text[i] != '\r')
            return false;
    }
    return true;
}

/* Makes the job of a record, or says why it is none. */
static bool read_record(import_run *run, const import_record *r, import_job *j)
{
    import_job_init(j, &run->options->defaults, &run->chunk.memory);
    if (r->too_long)
        return import_job_refuse(j, "it is longer than %zu bytes", run->in.record_max);
    if (r->unclosed)
        return import_job_refuse(j, "a quote is opened and never closed");
    if (run->options->format == IMPORT_JSONL)
        return import_read_json(j, r->text, r->len);
    return import_read_csv(j, &run->columns, r->text, r->len);
}

/* With update_priority a call takes each key once. A key that comes again raises the priority of
 * its first job, as it would in a call of its own. */
static pgq_code merge(import_chunk *chunk, const pgq_new_job *job, bool *ret_merged, pgq_error *err)
{
    size_t len = strlen(job->dedupe_key);
    map_entry *entry = map_find(&chunk->keys, job->dedupe_key, len);
    pgq_new_job *first;

    *ret_merged = entry != NULL;
    if (entry == NULL) {
        if (map_add(&chunk->keys, job->dedupe_key, len, &chunk->jobs[chunk->count]) != PGQ_OK)
            return error_nomem(err);
        return PGQ_OK;
    }
    first = entry->value;
    if (job->priority > first->priority)
        first->priority = job->priority;
    chunk->merged++;
    return PGQ_OK;
}

/* Adds the job of a record to the chunk, or the record to the rejects. */
static pgq_code take_record(import_run *run, const import_record *r, pgq_error *err)
{
    import_chunk *chunk = &run->chunk;
    import_job j;
    bool merged = false;
    pgq_code code = PGQ_OK;

    chunk->bytes += r->len + RECORD_BYTES;
    if (!read_record(run, r, &j)) {
        reject(run, r, j.reason);
        return PGQ_OK;
    }
    if (j.job.dedupe_key != NULL && run->options->on_conflict == PGQ_ON_CONFLICT_UPDATE_PRIORITY)
        code = merge(chunk, &j.job, &merged, err);
    if (code != PGQ_OK || merged)
        return code;
    chunk->jobs[chunk->count] = j.job;
    chunk->records[chunk->count] = *r;
    if (run->options->rejects != NULL) { /* the database may refuse it yet */
        chunk->records[chunk->count].text =
            arena_strndup(&chunk->memory, r->text, base_min_size(r->len, IMPORT_SHOWN_BYTES_MAX));
        if (chunk->records[chunk->count].text == NULL)
            return error_nomem(err);
    }
    chunk->count++;
    return PGQ_OK;
}

static bool is_full(const import_chunk *chunk)
{
    return chunk->count == CHUNK_JOBS || chunk->bytes >= CHUNK_BYTES;
}

static pgq_code fill_chunk(import_run *run, bool *ret_ended, pgq_error *err)
{
    import_record r = {.text = NULL};
    pgq_code code = PGQ_OK;

    while (code == PGQ_OK && !is_full(&run->chunk)) {
        code = import_source_next(&run->in, &r, err);
        if (code != PGQ_OK || r.text == NULL)
            break;
        if (r.too_long || !is_blank(&r))
            code = take_record(run, &r, err);
    }
    *ret_ended = code == PGQ_OK && !is_full(&run->chunk);
    return code;
}

/* ---- committing it ---- */

/* Enqueues the jobs of the chunk. `next` is what is committed then. */
static pgq_code enqueue(import_run *run, pgq_import *next, pgq_error *err)
{
    const import_chunk *chunk = &run->chunk;
    pgq_on_conflict on_conflict = run->options->on_conflict;
    pgq_code code;

    next->jobs += chunk->merged;
    if (run->recorded)
        return pgq_import_batch(run->client, next, chunk->jobs, chunk->count, on_conflict, err);
    code = pgq_enqueue_batch(run->client, chunk->jobs, chunk->count, on_conflict, chunk->ids, err);
    for (size_t i = 0; code == PGQ_OK && i < chunk->count; i++) {
        next->skipped += chunk->ids[i] == 0;
        next->jobs += chunk->ids[i] != 0;
    }
    return code;
}

/* Takes the jobs out of the chunk that were rejected; returns how many. */
static size_t drop_rejected(import_chunk *chunk, const bool *rejected)
{
    size_t kept = 0, count = chunk->count;

    for (size_t i = 0; i < count; i++) {
        if (!rejected[i]) {
            chunk->jobs[kept] = chunk->jobs[i];
            chunk->records[kept++] = chunk->records[i];
        }
    }
    chunk->count = kept;
    return count - kept;
}

/* Rejects the jobs whose dedupe key is taken. */
static pgq_code reject_taken(import_run *run, bool *taken, pgq_error *err)
{
    import_chunk *chunk = &run->chunk;
    pgq_code code = pgq_dedupe_taken(run->client, chunk->jobs, chunk->count, taken, err);

    for (size_t i = 0; code == PGQ_OK && i < chunk->count; i++) {
        import_job j = {.memory = NULL};

        if (!taken[i])
            continue;
        (void)import_job_refuse(&j, "the dedupe key %.180s is taken", chunk->jobs[i].dedupe_key);
        reject(run, &chunk->records[i], j.reason);
    }
    return code;
}

typedef struct refusing {
    import_run *run;
    bool *refused;
} refusing;

/* A pgq_refused_callback. */
static void note_refused(size_t index, const char *reason, void *user)
{
    refusing *r = user;

    r->refused[index] = true;
    reject(r->run, &r->run->chunk.records[index], reason);
}

/* Rejects the jobs that a rule of the database refuses. */
static pgq_code reject_refused(refusing *r, pgq_error *err)
{
    const import_run *run = r->run;

    return pgq_enqueue_refused(run->client, run->chunk.jobs, run->chunk.count,
                               run->options->on_conflict, note_refused, r, err);
}

/* Finds the jobs for which the chunk was refused. *ret_count is how many these are. */
static pgq_code reject_bad(import_run *run, pgq_code reason, size_t *ret_count, pgq_error *err)
{
    bool *bad = calloc(run->chunk.count + 1, sizeof(*bad));
    pgq_code code = PGQ_OK;

    *ret_count = 0;
    if (bad == NULL)
        return error_nomem(err);
    if (reason == PGQ_E_DUPLICATE) {
        code = reject_taken(run, bad, err);
        if (code == PGQ_OK)
            *ret_count = drop_rejected(&run->chunk, bad);
    }
    if (code == PGQ_OK && *ret_count == 0) {
        code = reject_refused(&(refusing){run, bad}, err);
        if (code == PGQ_OK)
            *ret_count = drop_rejected(&run->chunk, bad);
    }
    free(bad);
    return code;
}

/* The rejects are in their file before the commit that says how long the file is. */
static pgq_code try_commit(import_run *run, bool ended, pgq_error *err)
{
    pgq_import next = run->state;
    pgq_code code = import_rejects_write(&run->rejects, err);

    if (code != PGQ_OK)
        return code;
    next.position = run->in.position;
    next.digest = (int64_t)run->in.digest;
    next.lines = run->in.lines;
    next.finished = ended;
    next.rejected = run->rejected_before + run->rejects.count;
    next.rejects_bytes = run->rejects.bytes;
    code = enqueue(run, &next, err);
    if (code == PGQ_OK)
        run->state = next;
    return code;
}

/* Whether it may be the fault of single jobs, as the database sees it. */
static bool may_be_jobs(pgq_code code, const pgq_error *err)
{
    return (code == PGQ_E_DUPLICATE || code == PGQ_E_DATABASE || code == PGQ_E_LIMIT) &&
           err->sqlstate[0] != '\0' && !err->retryable;
}

static pgq_code commit_chunk(import_run *run, bool ended, pgq_error *err)
{
    int races = 0;

    for (;;) {
        pgq_error why = PGQ_ERROR_INIT;
        size_t rejected;
        pgq_code code = try_commit(run, ended, &why);

        if (may_be_jobs(code, &why) && races < RACES_MAX) {
            code = reject_bad(run, code, &rejected, err);
            if (code != PGQ_OK)
                return code;
            /* the job that had the key may have ended in between, but not again and again */
            races = rejected == 0 ? races + 1 : 0;
            continue;
        }
        if (code != PGQ_OK)
            *err = why;
        return code;
    }
}

pgq_code import_go(import_run *run, pgq_error *err)
{
    import_chunk *chunk = &run->chunk;
    pgq_code code = PGQ_OK;
    bool ended = false;

    chunk->jobs = calloc(CHUNK_JOBS, sizeof(*chunk->jobs));
    chunk->records = calloc(CHUNK_JOBS, sizeof(*chunk->records));
    chunk->ids = calloc(CHUNK_JOBS, sizeof(*chunk->ids));
    if (chunk->jobs == NULL || chunk->records == NULL || chunk->ids == NULL)
        return error_nomem(err);
    progress_begin(&run->bar, "importing", 0);
    while (code == PGQ_OK && !ended) {
        clear_chunk(chunk);
        code = fill_chunk(run, &ended, err);
        if (code == PGQ_OK)
            code = commit_chunk(run, ended, err);
        progress_show_part(&run->bar, run->state.lines, run->state.position, run->file_bytes);
    }
    progress_end(&run->bar);
    return code;
}

void import_run_release(import_run *run)
{
    clear_chunk(&run->chunk);
    free(run->chunk.jobs);
    free(run->chunk.records);
    free(run->chunk.ids);
    import_rejects_close(&run->rejects);
    import_source_release(&run->in);
    if (run->in.fd > STDIN_FILENO)
        (void)close(run->in.fd);
}
