/* The jobs of one claim, and where their memory is.
 *
 * A batch is the server's answer to a claim: the jobs point into it, nothing is copied. With its
 * last job it goes back to the stock it came from, to be used again. The I/O thread makes and
 * frees; handler threads read. */
#ifndef QUEUE_JOB_H
#define QUEUE_JOB_H

#include <stdatomic.h>

#include <pgqueuer/executor.h>

#include "pg/result.h"
#include "queue/sentence.h"

/* Whether a job was started. It is decided by who takes it out of its slot of the pool, its owner
 * or a thread; the word says who did. */
typedef enum job_start { JOB_WAITING, JOB_STARTED, JOB_REVOKED } job_start;

typedef struct job_batch job_batch;

/* Where a job is whose handler may end after it has returned. */
typedef enum job_later {
    LATER_NOT,     /* its handler runs, or has not begun */
    LATER_EARLY,   /* pgq_job_finish came before the handler returned; `early` is set */
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
    /* The proof of its claim: a job that has just been started may read it while it is renewed. */
    _Atomic int64_t claimed_us;     /* monotonic, before the claim was sent */
    _Atomic int64_t lease_until_us; /* a leased job is not started later; 0: it is picked */
    _Atomic int64_t heard_us;       /* when its reply was heard: earlier beats lack the job */
    atomic_int start;               /* job_start */
    atomic_int why;                 /* job_why: whether and why its handler should end early */
    void *engine_job;               /* the engine's record of it */
    size_t place;                   /* of that record: no other job of the worker has it */
    void *text;                     /* of its outcome; owned */

    /* its run; set by whoever hands it to the pool */
    pgq_executor *executor;
    void *pool;
    int64_t timeout_ms; /* 0: none; otherwise the pool says when the handler begins */

    /* the pool's */
    size_t slot;        /* where it waits */
    bool last;          /* of its chunk */
    atomic_uint news;   /* what is to be said of it; while it is not 0 the job is in the list */
    pgq_job *next;      /* in the list of those of which something is to be said */
    pgq_outcome ending; /* its outcome, until that is said */
    pgq_outcome early;  /* LATER_EARLY: what it was finished with */
    int64_t began_us;
    int64_t ran_us;   /* how long it occupied its thread, until that is said */
    atomic_int later; /* job_later */
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

enum { JOB_STOCK_BATCHES = 4 };

/* Batches that are not used; all zeroes: none. */
typedef struct job_stock {
    job_batch *spare[JOB_STOCK_BATCHES];
    size_t count;
} job_stock;

struct job_batch {
    job_stock *stock; /* borrowed */
    pg_result result; /* owned */
    size_t living;    /* jobs that are not freed yet */
    size_t room;      /* how many jobs it can hold */
    pgq_job jobs[];
};

/* Takes over the result. Without memory: NULL, and the result stays the caller's. The stock must
 * live as long as the jobs. */
job_batch *job_batch_new(job_stock *stock, pg_result *result, size_t count);

/* Counts a job as gone, frees its text, and the batch with the last one. */
void job_free(pgq_job *job);

/* Frees what is not used. */
void job_stock_release(job_stock *stock);

#endif
