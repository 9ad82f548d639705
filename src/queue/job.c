#include "queue/job.h"

#include <stdlib.h>
#include <string.h>

enum { ROOM_MIN = 16 };

/* The smallest spare batch that is large enough; `count` of the stock when there is none. */
static size_t fitting(const job_stock *stock, size_t jobs)
{
    size_t best = stock->count;

    for (size_t i = 0; i < stock->count; i++) {
        if (stock->spare[i]->room >= jobs &&
            (best == stock->count || stock->spare[i]->room < stock->spare[best]->room))
            best = i;
    }
    return best;
}

/* A power of two, so that batches of like sizes use the same ones. */
static job_batch *make_batch(job_stock *stock, size_t jobs)
{
    size_t room = ROOM_MIN;
    job_batch *batch;

    while (room < jobs)
        room *= 2;
    batch = malloc(sizeof(*batch) + room * sizeof(batch->jobs[0]));
    if (batch == NULL)
        return NULL;
    batch->stock = stock;
    batch->room = room;
    return batch;
}

job_batch *job_batch_new(job_stock *stock, pg_result *result, size_t count)
{
    size_t at = fitting(stock, count);
    job_batch *batch;

    if (at < stock->count) {
        batch = stock->spare[at];
        stock->spare[at] = stock->spare[--stock->count];
    } else {
        batch = make_batch(stock, count);
    }
    if (batch == NULL)
        return NULL;
    batch->result = *result;
    *result = (pg_result)PG_RESULT_INIT;
    batch->living = count;
    memset(batch->jobs, 0, count * sizeof(batch->jobs[0]));
    for (size_t i = 0; i < count; i++) {
        batch->jobs[i].batch = batch;
        atomic_init(&batch->jobs[i].start, JOB_WAITING);
        atomic_init(&batch->jobs[i].why, WHY_NOT);
    }
    return batch;
}

/* Puts a batch into the stock; when that is full, the smallest one goes. */
static void give_back(job_batch *batch)
{
    job_stock *stock = batch->stock;

    for (size_t i = 0; stock->count == JOB_STOCK_BATCHES && i < stock->count; i++) {
        job_batch *spare = stock->spare[i];

        if (spare->room < batch->room) {
            stock->spare[i] = batch;
            batch = spare;
        }
    }
    if (stock->count < JOB_STOCK_BATCHES)
        stock->spare[stock->count++] = batch;
    else
        free(batch);
}

void job_free(pgq_job *job)
{
    job_batch *batch = job->batch;

    free(job->text);
    job->text = NULL;
    if (--batch->living > 0)
        return;
    result_release(&batch->result);
    give_back(batch);
}

void job_stock_release(job_stock *stock)
{
    while (stock->count > 0)
        free(stock->spare[--stock->count]);
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
