/* What a worker says to the database, as typed sentences, and what it hears.
 *
 * The engine makes sentences and understands replies; it knows no SQL. This room renders them for
 * a connection; the simulator's model database carries them out. */
#ifndef QUEUE_SENTENCE_H
#define QUEUE_SENTENCE_H

#include <pgqueuer/job.h>

#include "base/error.h"
#include "pg/sqlstate.h"

typedef enum sentence_kind {
    SENTENCE_CHECK,   /* does the database have what a worker needs? */
    SENTENCE_LISTEN,  /* receive notifications on this connection */
    SENTENCE_CLAIM,   /* take due jobs */
    SENTENCE_SETTLE,  /* write outcomes */
    SENTENCE_BEAT,    /* renew heartbeats */
    SENTENCE_RELEASE, /* give jobs back unstarted */
    SENTENCE_PROBE    /* what will there be to do? */
} sentence_kind;

/* The proof of a claim: the server's `updated` of the row when it was claimed, in microseconds
 * since 2000-01-01. Together with the worker's id nobody else has it. */
typedef struct claim_token {
    int64_t id;
    int64_t updated;
} claim_token;

typedef struct settle_item {
    claim_token token;
    pgq_status status; /* QUEUED: retry */
    int64_t delay_ms;  /* of a retry */
    int32_t attempts;
    uint32_t entrypoint;      /* index of the registration */
    const void *text;         /* outcome_text of the handler, or NULL */
    const char *refused_text; /* the database's error, which takes the place of the text, or NULL */
} settle_item;

/* The arrays are borrowed until the sentence is answered. */
typedef struct sentence {
    sentence_kind kind;
    union {
        struct {
            int32_t batch;
            bool adopt;           /* also jobs that we have picked and do not know */
            const int64_t *known; /* ids that we have; NULL: fresh jobs only, no stale ones */
            size_t known_count;
        } claim;
        struct {
            const settle_item *items;
            size_t count;
        } settle;
        struct {
            const claim_token *tokens; /* NULL in a release: all that this worker has picked */
            size_t count;
        } tokens;
    } of;
} sentence;

typedef struct claimed_row {
    claim_token token;
    int32_t priority, attempts;
    uint32_t entrypoint;
    void *body; /* the pgq_job; NULL: no memory for it, so give the job back */
} claimed_row;

/* The reply to one sentence. Arrays are borrowed for the time of the call that hands it over. */
typedef struct sentence_reply {
    bool refused; /* the database said no: `class` and `error`; nothing was done */
    sqlstate_class class;
    pgq_error error;
    const claimed_row *rows; /* claim */
    size_t row_count;
    const uint32_t *places; /* settle: items that were written. beat: tokens that are lost */
    size_t place_count;
    bool due, queued;                   /* probe */
    int64_t next_due_us, next_stale_us; /* probe: from now; CLOCK_NEVER: none */
} sentence_reply;

#endif
