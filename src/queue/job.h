/* The jobs of one claim, and where their memory is.
 *
 * A batch is the server's answer to a claim: the jobs point into it, nothing is copied. It is
 * freed with its last job. The I/O thread makes and frees; handler threads read. */
#ifndef QUEUE_JOB_H
#define QUEUE_JOB_H

#include <stdatomic.h>

#include <pgqueuer/job.h>

#include "pg/result.h"

/* Start and revocation of a job meet in one word: whoever moves it out of JOB_WAITING has it. */
typedef enum job_start { JOB_WAITING, JOB_STARTED, JOB_REVOKED } job_start;

typedef struct job_batch job_batch;

struct pgq_job {
    job_batch *batch;
    int64_t id;
    int32_t priority, attempts;
    uint32_t entrypoint_index;
    const char *entrypoint; /* borrowed from the registration, like `user` */
    void *user;
    pgq_bytes payload;
    const char *headers;
    const char *defect; /* why no handler may see it, or NULL */
    int64_t claimed_us; /* monotonic, before the claim was sent */
    int64_t heard_us;   /* when its reply was heard: beats that were sent earlier lack the job */
    atomic_int start;   /* job_start */
    atomic_bool cancelled;
    void *engine_job; /* the engine's record of it */
    void *text;       /* of its outcome; owned */
};

struct job_batch {
    pg_result result; /* owned */
    size_t living;    /* jobs that are not freed yet */
    pgq_job jobs[];
};

/* Takes over the result. Without memory: NULL, and the result stays the caller's. */
job_batch *job_batch_new(pg_result *result, size_t count);

/* Counts a job as gone, frees its text, and the batch with the last one. */
void job_free(pgq_job *job);

#endif
