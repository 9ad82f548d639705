/* Sentences to SQL and replies back: the translator between the engine and a connection. */
#ifndef QUEUE_SPEAK_H
#define QUEUE_SPEAK_H

#include "base/map.h"
#include "pg/conn.h"
#include "queue/job.h"
#include "queue/outcome.h"
#include "queue/sentence.h"

#include <pgqueuer/worker.h>

/* An entrypoint as the translator needs it. */
typedef struct speaker_entrypoint {
    const char *name;
    void *user;
    int32_t limit;             /* over the fleet; 0: none */
    int64_t silence_ms;        /* its jobs are stale after so long without a heartbeat */
    bool never;                /* its rate is zero: it is neither claimed nor waited for */
    pgq_log_policy log_policy; /* not DEFAULT */
} speaker_entrypoint;

enum { SPEAKER_HOLDER_BYTES = 256 };

/* What all sentences of one worker share, and scratch memory for reading. Immutable but for the
 * scratch; belongs to the I/O thread. */
typedef struct speaker {
    uuid worker;
    char worker_text[UUID_TEXT_BYTES];
    int64_t heartbeat_timeout_us;
    bool extras;       /* the database has them, and has not refused them since the check */
    bool front;        /* likewise, the sequence by which claims keep clear of other workers' */
    int64_t queue_oid; /* if so, the queue's */
    int doubts, front_doubts;              /* refusals that may have been theirs */
    int malformed;                         /* claims in a row whose rows were no jobs */
    const speaker_entrypoint *entrypoints; /* borrowed */
    size_t entrypoint_count;
    map by_name; /* entrypoint's name to its index plus one */
    params params;
    buffer json;
    job_stock stock;
    claimed_row *rows; /* room for `capacity` */
    uint32_t *places;
    int64_t *stamps;
    survey_row *survey;
    char holder[SPEAKER_HOLDER_BYTES];
    size_t capacity; /* at least entrypoint_count */
} speaker;

/* capacity: the most rows or places of one reply. Room in the map and scratch is made here. */
pgq_code speaker_init(speaker *s, const uuid *worker, const speaker_entrypoint *entrypoints,
                      size_t entrypoint_count, int64_t heartbeat_timeout_us, size_t capacity);
void speaker_release(speaker *s);

/* Queues a sentence and its sync on a connection. Errors as pg_conn_send; after any of them the
 * connection is not to be used any more. */
pgq_code speaker_say(speaker *s, pg_conn *conn, const sentence *what);

/* Understands the server's reply (ROWS or ERROR) to `what`; takes over the reply's result. */
void speaker_hear(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *ret_reply);

#endif
