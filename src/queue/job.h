/* The jobs of one claim, and where their memory is.
 *
 * A batch is the server's answer to a claim: the jobs point into it, nothing is copied. It is
 * freed with its last job. The I/O thread makes and frees; handler threads read. */
#ifndef QUEUE_JOB_H
#define QUEUE_JOB_H

#include <stdatomic.h>

#include <pgqueuer/executor.h>

#include "pg/result.h"
#include "queue/sentence.h"

/* Start and revocation of a job meet in one word: whoever moves it out of JOB_WAITING has it. */
typedef enum job_start { JOB_WAITING, JOB_STARTED, JOB_REVOKED } job_start;

typedef struct job_batch job_batch;

/* Where a job is whose handler may end after it has returned; the pool's lock guards it. */
typedef enum job_later {
    LATER_NOT,     /* its handler runs, or has not begun */
    LATER_EARLY,   /* pgq_job_finish came before the handler returned */
    LATER_PARKED,  /* the handler has returned pgq_later */
    LATER_FINISHED /* its outcome was posted */
} job_later;

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
    atomic_int why;     /* job_why: whether and why its handler should end early */
    void *engine_job;   /* the engine's record of it */
    size_t place;       /* of that record: no other job of the worker has it */
    void *text;         /* of its outcome; owned */

    /* its run; set by whoever hands it to the pool */
    pgq_executor *executor;
    void *pool;
    int64_t timeout_ms; /* 0: none; otherwise the pool says when the handler begins */

    /* the pool's */
    job_later later;
    pgq_outcome early; /* LATER_EARLY: what it is to end with */
    int64_t began_us;
    /* guarded by the pool's lock for telling: its executor runs it; was told to end; the run is
     * over */
    bool tellable, told, ended;
    bool listens; /* a callback was registered in this run; the handler's thread reads it */
    pgq_cancel_callback on_cancel;
    void *on_cancel_user;

    /* of runs in the process, one after the other: the backoff executor's */
    int32_t failures;
    int64_t first_began_us;

    /* the driver's: the engine has given it up; its thread is free */
    bool abandoned, parked;
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
