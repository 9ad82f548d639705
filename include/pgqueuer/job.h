/* A job as its handler sees it, and the life of a job.
 *
 *                   enqueue
 *                      |
 *                      v       claim                 done: row deleted, log row `successful`
 *      +----------> queued ------------> picked ---+ fail: row deleted, log row `exception`
 *      |               ^                    |      | fail, on_failure hold: row kept as `failed`
 *      |               |   retry, release   |      | cancelled: row deleted, log row `canceled`
 *      |               +--------------------+      |
 *      |   requeue                                 v
 *      +-------------------------------------- `failed`
 *
 * A job is in the queue table until its outcome is committed. A job is run at least once: if its
 * worker dies, another one runs it again after the heartbeat timeout. */
#ifndef PGQUEUER_JOB_H
#define PGQUEUER_JOB_H

#include <stddef.h>
#include <stdint.h>

#include <pgqueuer/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Borrowed bytes. data NULL means "no value" (SQL NULL); an empty value has data and len 0. */
typedef struct pgq_bytes {
    const void *data;
    size_t len;
} pgq_bytes;

typedef enum pgq_status {
    PGQ_STATUS_QUEUED = 0,
    PGQ_STATUS_PICKED = 1,
    PGQ_STATUS_SUCCESSFUL = 2,
    PGQ_STATUS_EXCEPTION = 3,
    PGQ_STATUS_CANCELED = 4,
    PGQ_STATUS_DELETED = 5,
    PGQ_STATUS_FAILED = 6
} pgq_status;

/* The label of a status in the database, such as "queued"; NULL for a number that is none. */
PGQ_API const char *pgq_status_name(pgq_status status);

/* A claimed job. It is valid in its handler until the handler returns (for pgq_later: until
 * pgq_job_finish), and so is everything that its functions return. The functions may be called
 * from the thread that runs the handler and from threads that the handler hands the job to. */
typedef struct pgq_job pgq_job;

PGQ_API int64_t pgq_job_id(const pgq_job *job);
PGQ_API const char *pgq_job_entrypoint(const pgq_job *job);

/* The payload, byte for byte as it was enqueued. */
PGQ_API pgq_bytes pgq_job_payload(const pgq_job *job);

/* The headers as the text of one JSON object, or NULL when the job has none. */
PGQ_API const char *pgq_job_headers(const pgq_job *job);

PGQ_API int32_t pgq_job_priority(const pgq_job *job);

/* How often the job went back to the queue by a retry: 0 in its first run. */
PGQ_API int32_t pgq_job_attempts(const pgq_job *job);

/* Whether the handler should end early: the job was cancelled, its claim was lost, or the worker
 * must stop. Cheap; a long handler asks it in its loop. */
PGQ_API bool pgq_job_cancelled(const pgq_job *job);

/* The user pointer that was given with the entrypoint. */
PGQ_API void *pgq_job_user(const pgq_job *job);

#ifdef __cplusplus
}
#endif
#endif
