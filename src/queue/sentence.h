/* What a worker says to the database, as typed sentences, and what it hears.
 *
 * The engine makes sentences and understands replies; it knows no SQL. This room renders them for
 * a connection; the simulator's model database carries them out. */
#ifndef QUEUE_SENTENCE_H
#define QUEUE_SENTENCE_H

#include <pgqueuer/job.h>

#include "base/error.h"
#include "base/random.h"
#include "pg/sqlstate.h"

typedef enum sentence_kind {
    SENTENCE_CHECK,     /* does the database have what a worker needs? */
    SENTENCE_LISTEN,    /* receive notifications on this connection */
    SENTENCE_CLAIM,     /* take due jobs, and those of silent workers */
    SENTENCE_ADOPT,     /* take what is picked for us and not known to us */
    SENTENCE_SETTLE,    /* write outcomes */
    SENTENCE_BEAT,      /* renew heartbeats */
    SENTENCE_RELEASE,   /* give jobs back unstarted */
    SENTENCE_PROBE,     /* what will there be to do? */
    SENTENCE_PING,      /* send a health_check_event, which must come back to the listener */
    SENTENCE_SURVEY,    /* do others limit our entrypoints as we do? */
    SENTENCE_AGGREGATE, /* fold log rows, or counts, into the statistics */
    SENTENCE_LEASE,     /* begin a transaction and lock due jobs in it: ours until it ends */
    SENTENCE_CONCLUDE,  /* write what became of leased jobs, in their transaction */
    SENTENCE_COMMIT,    /* end that transaction; refused if it was rolled back instead */
    SENTENCE_RESOLVE,   /* as CONCLUDE, by itself, for jobs whose lease was lost */
    SENTENCE_ANNOUNCE,  /* tell the fleet that jobs have become free, or are done */
    SENTENCE_END_STUCK, /* end sessions of frozen workers that hold leases and are not idle */
    SENTENCE_HORIZON    /* who holds back the removal of dead rows? */
} sentence_kind;

/* Why a handler should end early. */
typedef enum job_why {
    WHY_NOT,
    WHY_LOST,      /* another worker has the job, or it is gone */
    WHY_CANCELLED, /* somebody cancelled it */
    WHY_TIMEOUT,   /* it ran longer than its timeout */
    WHY_STOP       /* the worker ends and does not wait any longer */
} job_why;

/* The proof of a claim: the server's `updated` of the row when it was claimed, in microseconds
 * since 2000-01-01. Of a picked row nobody else has it, together with the worker's id. A leased row
 * keeps the `updated` that it had; its lock is the proof. */
typedef struct claim_token {
    int64_t id;
    int64_t updated;
} claim_token;

/* Where a locked row lies in its table; nothing of it is to be understood. */
typedef uint64_t row_place;

typedef struct settle_item {
    claim_token token;
    pgq_status status; /* QUEUED: retry. PICKED (conclude, resolve): it runs on, as a picked job */
    int64_t delay_ms;  /* of a retry */
    int32_t attempts;
    uint32_t entrypoint; /* index of the registration */
    const void *text;    /* outcome_text of the handler, or NULL */
    /* the engine's own reason, which takes the place of the text; NULL: none */
    const char *own_type, *own_message;
    row_place place;   /* conclude: as the lease's reply gave it */
    int64_t picked_us; /* conclude, resolve: when it was claimed, as `picked_us` of its row */
    int32_t priority;
    bool uncertain; /* resolve: it may have been written already */
} settle_item;

/* How much of an entrypoint a claim may bring. */
typedef struct claim_share {
    uint32_t entrypoint;
    int32_t most; /* fresh jobs; 0: only those of silent workers */
} claim_share;

/* Of a priority of an entrypoint, all jobs up to this id were claimed once. */
typedef struct claim_cursor {
    uint32_t share; /* index in the lease's shares */
    int32_t priority;
    int64_t id;
    int64_t passed; /* the engine's: up to where it was when it was last looked in front of */
} claim_cursor;

/* The arrays are borrowed until the sentence is answered. */
typedef struct sentence {
    sentence_kind kind;
    union {
        struct {
            int32_t batch;
            const claim_share *shares; /* the entrypoints that may be claimed; NULL: all of them,
                                          without limits, rates or retry timers */
            size_t share_count;
            const int64_t *known; /* ids that we have; NULL: fresh jobs only, no stale ones */
            size_t known_count;
            const int64_t *ids; /* only these jobs, if they are queued and due; NULL: any */
            size_t id_count;
        } claim;
        struct {
            int32_t batch;
            int64_t only;         /* only this job; 0: all */
            const int64_t *known; /* ids that we have: those are left alone */
            size_t known_count;
            const int64_t *ghosts; /* backends of connections that were lost with a claim */
            size_t ghost_count;
        } adopt;
        struct {
            bool count_deferred;
        } probe;
        struct {
            bool counts; /* the counts of settles, not the log */
        } aggregate;
        struct {
            uuid id;
        } ping;
        struct {
            const settle_item *items;
            size_t count;
            int64_t wait_us;  /* resolve: for locks */
            bool event_later; /* conclude: where all were successful, the event of their deletes
                                 may be left to an ANNOUNCE */
        } settle;
        struct {
            const claim_token *tokens;
            size_t count;
        } tokens;
        struct {
            int32_t batch;
            const claim_share *shares; /* the entrypoints that may be leased; `most` is not used */
            size_t share_count;
            int64_t hold_us;       /* the server ends the session if it is idle for longer */
            int32_t payload_max;   /* bytes, with headers; larger ones stay in the database: see
                                      claimed_row */
            bool try_all;          /* without cursors: also rows that seem to be locked */
            const int64_t *except; /* jobs that are not to be leased */
            size_t except_count;
            /* By entrypoint, the highest priority first. Of an entrypoint that has any, only rows
             * behind them and of higher priorities than all of them; NULL: everything. */
            const claim_cursor *cursors;
            size_t cursor_count;
            /* With cursors of one entrypoint, and not with `front`: instead of what is behind the
             * cursors, what is in front of them or between them. */
            bool late;
            /* Behind cursors[front_at] of one entrypoint most jobs are. Beside other workers the
             * claim begins further on there, where theirs that are under way will end. */
            bool front;
            size_t front_at;
            bool front_back; /* others are to look behind it again, too */
        } lease;
        struct {
            bool done; /* jobs are done, not free */
        } announce;
        struct {
            int64_t age_us; /* of a transaction that is stuck */
        } end_stuck;
    } of;
} sentence;

/* A limit of ours that others do not share, as rows show it that they have picked. */
typedef enum survey_kind {
    SURVEY_HIGHER,    /* a slot beyond our limit is taken: somebody's limit is higher */
    SURVEY_UNLIMITED, /* we limit it, somebody else does not */
    SURVEY_LIMITED    /* we do not limit it, somebody else does */
} survey_kind;

typedef struct survey_row {
    uint32_t entrypoint;
    survey_kind kind;
} survey_row;

typedef struct claimed_row {
    claim_token token;
    int32_t priority, attempts;
    uint32_t entrypoint;
    void *body; /* the pgq_job; NULL: no memory for it, so give the job back */
    /* lease */
    row_place place;
    int64_t picked_us; /* the server's time of the claim, since 2000-01-01 */
    bool large;        /* its payload was left behind, and `body` is NULL: it is to be claimed as a
                          picked job */
} claimed_row;

/* The reply to one sentence. Arrays are borrowed for the time of the call that hands it over. */
typedef struct sentence_reply {
    bool refused; /* the database said no: `class` and `error`; nothing was done. A claim that
                     lost a race for a slot has class SQLSTATE_CONTENDED */
    sqlstate_class class;
    pgq_error error;
    const claimed_row *rows; /* claim, adopt, lease */
    size_t row_count;
    int64_t payload_bytes;  /* lease: of all rows but the large ones */
    const uint32_t *places; /* settle, resolve: items that were written. conclude: those that run
                               on as picked jobs; all others were written. beat: tokens that are
                               lost. adopt: ghosts that still live */
    size_t place_count;
    const int64_t *stamps; /* conclude, resolve: for each place, the new `updated` */
    bool incomplete;       /* beat: rows were passed over, since somebody had locked them */
    bool extras;           /* check: settles can count */
    bool front;            /* check: claims can keep clear of other workers' */
    /* check: up to which id others have come with the jobs of priority 0 of an entrypoint; 0: not
     * known */
    bool front_free; /* nobody has told anything since it was made */
    int64_t front_id;
    uint32_t front_entrypoint;
    bool due, queued;                   /* probe */
    int64_t next_due_us, next_stale_us; /* probe: from now; CLOCK_NEVER: none */
    int64_t deferred;                   /* probe, when asked for: jobs that are not due yet */
    const survey_row *survey;
    size_t survey_count;
    int64_t number;     /* end_stuck: sessions. horizon: transactions since */
    const char *holder; /* horizon; NULL: nobody */
} sentence_reply;

#endif
