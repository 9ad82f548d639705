/* Where callers and the producer's thread meet: the bounded queue, and the way back.
 *
 * One lock guards all of it. A request is in the queue, in the hands of the thread, or answered.
 * A caller that waits owns its request, on its stack; a submitted one is the intake's. */
#ifndef PRODUCER_INTAKE_H
#define PRODUCER_INTAKE_H

#include <pgqueuer/producer.h>

#include "base/list.h"

#include <pthread.h>
#include <semaphore.h>

typedef struct request {
    list_link link;
    pgq_new_job job; /* its texts are the caller's, or follow the request */
    pgq_on_conflict on_conflict;
    size_t bytes;
    int64_t deadline_us; /* for being sent */
    bool parked;         /* it was, at least once */
    /* the outcome, written by the thread before it tells */
    pgq_code code;
    int64_t id;
    pgq_error error;
    /* a submitted one */
    pgq_producer_callback callback; /* NULL: somebody waits */
    void *user;
    sem_t answered; /* of one that somebody waits for */
} request;

#define REQUEST_OF(list_link_) LIST_ENTRY(list_link_, request, link)

typedef struct intake {
    pthread_mutex_t lock;
    pthread_cond_t room; /* also: nobody waits for it any more */
    size_t jobs_max, bytes_max;
    size_t jobs, bytes;  /* taken in, and not answered */
    size_t waiting;      /* callers that wait for room */
    list queue;          /* not sent, the oldest first */
    list parked;         /* not sent: their keys are held by transactions that have not ended */
    int64_t unpark_us;   /* when the next of those is tried */
    int64_t earliest_us; /* no request of these two has an earlier deadline */
    bool closing;
    int64_t close_us; /* when the thread gives up what is left */
    /* the thread's sleep */
    int bell; /* an eventfd that wakes it */
    bool rung;
    bool wants_work;  /* it waits for a request */
    int64_t awake_us; /* when it wakes by itself */
    /* submitted requests that were answered */
    list told;
    int told_fd; /* readable while there are some */
} intake;

pgq_code intake_open(intake *in, size_t jobs_max, size_t bytes_max, pgq_error *err);
void intake_release(intake *in);

/* ---- callers, any thread ---- */

/* Takes a request in. `wait`: until its deadline for room. PGQ_E_BACKPRESSURE, PGQ_E_LIMIT,
 * PGQ_E_STATE. */
pgq_code intake_add(intake *in, request *r, bool wait, pgq_error *err);

/* Calls the callbacks of what was answered, and frees it. Returns how many. */
size_t intake_call_back(intake *in);

/* No request is taken from now on; returns when nobody waits for room. */
void intake_close(intake *in, int64_t close_us);

/* ---- the producer's thread ---- */

/* What goes in one transaction. */
typedef struct batch {
    list inserts;
    list upserts; /* update_priority with a key; no key twice */
} batch;

/* Moves the oldest requests to an empty batch, `jobs_max` of them at most, and those that are too
 * late to `late`. A parked one that is to be tried goes alone. */
void intake_take(intake *in, size_t jobs_max, int64_t now_us, batch *b, list *late);

/* Puts requests that were not carried out back to the front, in their order. */
void intake_return(intake *in, list *requests);

/* Puts requests aside whose keys are held by somebody's open transaction. */
void intake_park(intake *in, list *requests, int64_t now_us);

/* Moves every request whose deadline has passed to `late`, or (always) all of them. */
void intake_expire(intake *in, int64_t now_us, bool always, list *late);

/* Tells the callers what stands in the requests, which are theirs then. */
void intake_answer(intake *in, list *requests);

/* About to sleep until `until_us` or, `wants_work`, until a request comes. Gives the instant to
 * sleep to, which is earlier when a deadline of the queue is; false: there is work already. */
bool intake_doze(intake *in, bool wants_work, int64_t until_us, int64_t *ret_until_us);

/* The bell was heard. */
void intake_awake(intake *in);

/* Whether it is to be closed, and when what is left is given up. */
bool intake_is_closing(intake *in, int64_t *ret_close_us);

/* Whether nothing that was taken in is left unanswered. */
bool intake_is_empty(intake *in);

#endif
