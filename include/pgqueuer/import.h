/* Importing a stream of jobs in chunks, with a position that is committed together with each chunk:
 * whoever goes on after a crash finds exactly what is in the queue.
 *
 * The position is a row of a table of the extras (pgq_schema_install); nothing here works without
 * them. What the stream is, and what a position in it means, is the caller's affair. The functions
 * block, and belong to the client's thread. */
#ifndef PGQUEUER_IMPORT_H
#define PGQUEUER_IMPORT_H

#include <pgqueuer/client.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PGQ_IMPORT_TEXT_BYTES_MAX ((size_t)4096) /* of name, source and settings, each */

/* How far an import has come. */
typedef struct pgq_import {
    size_t struct_size;
    const char *name;      /* what it goes by; required, not empty, UTF-8 */
    const char *source;    /* where it comes from, to be found by that too; NULL: not known */
    const char *settings;  /* what shapes its jobs, in the caller's words; required */
    int64_t version;       /* of the row; 0: there is none. Counted by pgq_import_batch */
    bool finished;         /* and the members below are for the caller to set before each batch: */
    int64_t position;      /* bytes of the stream that are dealt with */
    int64_t digest;        /* of these bytes */
    int64_t lines;         /* that they have */
    int64_t rejected;      /* lines that became no job */
    int64_t rejects_bytes; /* what was written about these */
    int64_t jobs;          /* enqueued, or with update_priority there before; counted by
                              pgq_import_batch, as is the next one */
    int64_t skipped;       /* left out by on_conflict skip */
    int64_t updated_us;    /* when: microseconds since 1970-01-01 UTC; filled by pgq_import_find */
} pgq_import;

#define PGQ_IMPORT_INIT                                                        \
    {                                                                          \
        sizeof(pgq_import), NULL, NULL, NULL, 0, false, 0, 0, 0, 0, 0, 0, 0, 0 \
    }

/* Finds the import of this name, or else the last one from `source` (may be NULL). Waits for a
 * session that is just committing a batch of it. *ret_import is to be freed with pgq_import_free.
 * Errors: PGQ_E_NOT_FOUND, PGQ_E_INVALID, PGQ_E_LIMIT, PGQ_E_SCHEMA_MISSING (the extras are not
 * installed), PGQ_E_PERMISSION, connection errors, PGQ_E_NOMEM. */
PGQ_API PGQ_CHECKED pgq_code pgq_import_find(pgq_client *client, const char *name,
                                             const char *source, pgq_import **ret_import,
                                             pgq_error *err);

/* Frees what pgq_import_find returned. Takes NULL; returns NULL. */
PGQ_API pgq_import *pgq_import_free(pgq_import *import);

/* Enqueues jobs, as pgq_enqueue_batch does, and records how far the import has come, in one
 * transaction: both or neither. No jobs: only records. On success `version`, `jobs` and `skipped`
 * of the import are brought up to date, on failure they are as before; the other members are the
 * caller's. Errors: as pgq_enqueue_batch and pgq_import_find; PGQ_E_STATE: somebody else has gone
 * on with this import since it was found. */
PGQ_API PGQ_CHECKED pgq_code pgq_import_batch(pgq_client *client, pgq_import *import,
                                              const pgq_new_job *jobs, size_t count,
                                              pgq_on_conflict on_conflict, pgq_error *err);

/* Says of each job whether its dedupe key is taken: by an active job, or by an earlier one of the
 * array. ret_taken has room for `count` values. A moment later this may be otherwise.
 * Errors: as pgq_enqueue_batch. */
PGQ_API PGQ_CHECKED pgq_code pgq_dedupe_taken(pgq_client *client, const pgq_new_job *jobs,
                                              size_t count, bool *ret_taken, pgq_error *err);

/* Told of one job that the database refuses: its place in the array, from 0, and why. */
typedef void (*pgq_refused_callback)(size_t index, const char *reason, void *user);

/* Finds out which jobs of an array the database refuses for a rule of its own, such as a constraint
 * or a trigger that somebody added to the queue: all are tried, in a transaction that is rolled
 * back, and the callback is called for each that is refused, in their order. Of two that exclude
 * each other the second one is refused. A bad job costs about as much as the whole array twice.
 * Errors: as pgq_enqueue_batch; then no callback was called. */
PGQ_API PGQ_CHECKED pgq_code pgq_enqueue_refused(pgq_client *client, const pgq_new_job *jobs,
                                                 size_t count, pgq_on_conflict on_conflict,
                                                 pgq_refused_callback callback, void *user,
                                                 pgq_error *err);

#ifdef __cplusplus
}
#endif
#endif
