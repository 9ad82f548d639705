#include "queue/job.h"

#include <stdlib.h>

job_batch *job_batch_new(pg_result *result, size_t count)
{
    job_batch *batch = calloc(1, sizeof(*batch) + count * sizeof(batch->jobs[0]));

    if (batch == NULL)
        return NULL;
    batch->result = *result;
    *result = (pg_result)PG_RESULT_INIT;
    batch->living = count;
    for (size_t i = 0; i < count; i++) {
        batch->jobs[i].batch = batch;
        atomic_init(&batch->jobs[i].start, JOB_WAITING);
        atomic_init(&batch->jobs[i].why, WHY_NOT);
    }
    return batch;
}

void job_free(pgq_job *job)
{
    job_batch *batch = job->batch;

    free(job->text);
    job->text = NULL;
    if (--batch->living > 0)
        return;
    result_release(&batch->result);
    free(batch);
}

static const char *const status_names[] = {
    [PGQ_STATUS_QUEUED] = "queued",         [PGQ_STATUS_PICKED] = "picked",
    [PGQ_STATUS_SUCCESSFUL] = "successful", [PGQ_STATUS_EXCEPTION] = "exception",
    [PGQ_STATUS_CANCELED] = "canceled",     [PGQ_STATUS_DELETED] = "deleted",
    [PGQ_STATUS_FAILED] = "failed",
};

const char *pgq_status_name(pgq_status status)
{
    return (size_t)status < BASE_COUNT(status_names) ? status_names[status] : NULL;
}

int64_t pgq_job_id(const pgq_job *job)
{
    return job->id;
}

const char *pgq_job_entrypoint(const pgq_job *job)
{
    return job->entrypoint;
}

pgq_bytes pgq_job_payload(const pgq_job *job)
{
    return job->payload;
}

const char *pgq_job_headers(const pgq_job *job)
{
    return job->headers;
}

int32_t pgq_job_priority(const pgq_job *job)
{
    return job->priority;
}

int32_t pgq_job_attempts(const pgq_job *job)
{
    return job->attempts;
}

bool pgq_job_cancelled(const pgq_job *job)
{
    return atomic_load_explicit(&job->why, memory_order_relaxed) != WHY_NOT;
}

void *pgq_job_user(const pgq_job *job)
{
    return job->user;
}
