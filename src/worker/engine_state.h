/* What the engine knows: its jobs, its lanes, and what it has learned of the queue. */
#ifndef WORKER_ENGINE_STATE_H
#define WORKER_ENGINE_STATE_H

#include "base/clock.h"
#include "base/list.h"
#include "worker/engine.h"

typedef enum job_state {
    JOB_FREE,     /* no job */
    JOB_HANDED,   /* with the pool, started or not */
    JOB_FINISHED, /* has an outcome, waits to be settled */
    JOB_DONE,     /* has an outcome, waits for the end of its lease or, an orphan, to be resolved */
    JOB_SETTLING, /* in a settle that is not answered */
    JOB_REFUSED,  /* its settle is refused though it is alone; waits for refused_again_us */
    JOB_GIVEN,    /* revoked unstarted, waits to be released */
    JOB_RELEASING, /* in a release that is not answered */
    JOB_STATES
} job_state;

/* Where a job is that was handed to the pool. */
typedef enum job_place {
    PLACE_POOL,   /* it waits for a thread, or occupies one */
    PLACE_PARKED, /* its handler has returned, and somebody else will end it */
    PLACE_RESTING /* it is to be started again at alarm_us */
} job_place;

typedef struct engine_lane engine_lane;

typedef struct engine_job {
    list_link link;                /* in engine.jobs[state] */
    struct engine_job *same_place; /* in engine.by_id */
    list_link member;              /* in lease->lease.jobs */
    engine_lane *lease; /* the lane that has leased it; NULL: it is picked, or an orphan */
    bool orphan;        /* its lease was lost: see engine_lease.c */
    bool refused;       /* an orphan whose outcome is: it is picked first, to be kept */
    bool moving;        /* what makes a picked job of it is under way */
    bool dropped;       /* while it moves: it is to be given back */
    bool put_off;       /* an orphan: no resolve of its group until it is its turn again */
    bool passed_over;   /* an adoption has left it out, as it was known */
    bool large;         /* it was claimed by its id, for its size */
    row_place where;    /* of a leased one: its row */
    int64_t picked_us;  /* likewise, the server's time of the claim */
    int64_t stamp;      /* moving: its `updated` as a picked job; 0: not told yet */
    int32_t priority;
    job_state state;
    job_place place; /* while it is handed */
    claim_token token;
    int32_t attempts;
    uint32_t entrypoint;
    void *body;
    engine_outcome outcome;
    int64_t finished_us; /* when the outcome came */
    int64_t alarm_us;    /* handed: when its timeout, its grace or its rest ends; CLOCK_NEVER */
    uint32_t group;      /* of a settle that was refused or lost, and split; 0: none */
    unsigned losses;     /* so often a settle of it was lost with its connection */
    unsigned timeouts;   /* so often one was given up by the server, or its resolve was put off */
    unsigned blame;      /* so often only its own outcome was refused */
    uint64_t refused_at; /* engine_fortune.written then, and one more; 0: it was not refused */
    unsigned refusals;   /* of it alone */
    bool reworded;       /* it is tried with another text */
    bool lost;           /* the claim is gone: nothing may be written */
    bool uncertain;      /* a settle or release of it was sent and never answered */
    bool maybe_picked;   /* what makes a picked job of it, likewise */
    bool hopeless;       /* the worker stops, and its outcome was refused since */
    bool cancelled;      /* somebody cancelled it */
    bool timed_out;      /* it was told that its time is over */
    bool told_to_stop;   /* because the worker ends */
    const char *own_type, *own_message; /* the engine's reason for its outcome, or NULL */
    int text;                           /* slot of engine.texts that own_message is in; -1: none */
} engine_job;

/* Ids that were cancelled a short while ago: an event may come before the claim's reply. A hash
 * table that forgets the oldest of a neighbourhood when that is full. */
enum { MEMORY_SLOTS = 16384, MEMORY_NEIGHBOURS = 16 };
typedef struct cancel_memory {
    struct {
        int64_t id, until_us;
    } slots[MEMORY_SLOTS];
    int64_t until_us; /* when the last one is forgotten */
} cancel_memory;

/* What becomes of outcomes of one status. */
typedef struct engine_fortune {
    uint64_t written;
    int64_t refused_id; /* the job that was refused alone since one was written; 0: none */
    bool several;       /* or more than one */
    uint32_t round;     /* the last one in which one of several was tried again */
} engine_fortune;

/* How much of a rated entrypoint may be started: a bucket that the rate fills. */
typedef struct engine_bucket {
    double tokens;
    int64_t filled_us;
    uint32_t noted; /* bits of survey_kind: differences that were noted */
    /* on which lane its jobs are claimed */
    bool leased;
    bool limited_elsewhere; /* the last survey saw somebody else's slots */
    bool measured;
    double slow;           /* a decaying share of the runs that were too long for leases */
    claim_cursor *cursors; /* CURSORS_MAX; the highest priority first */
    size_t cursor_count;
    engine_fortune fortunes[PGQ_STATUS_FAILED + 1];
    int64_t plain_until_us; /* it has too many priorities for cursors */
} engine_bucket;

/* The server's side of a connection that was lost with a claim: it may carry it out yet. */
enum { ENGINE_GHOSTS = 16, ENGINE_TEXTS = 64, TIMEOUT_TEXT_BYTES = 48 };
typedef struct engine_ghost {
    int64_t backend, until_us;
    int32_t batch; /* as many jobs may be picked for us yet */
} engine_ghost;

typedef enum lane_state {
    LANE_DOWN, /* waits for retry_at_us */
    LANE_CONNECTING,
    LANE_IDLE,
    LANE_FLYING /* a flight is not fully answered */
} lane_state;

/* A transaction of a lane that has jobs locked. */
typedef struct engine_lease {
    bool open;     /* it has begun and has not ended; with every job of it below */
    bool failed;   /* it can only be rolled back */
    bool ending;   /* its end is sent, or waits for the fence */
    bool released; /* jobs of it were left unstarted */
    bool untold;   /* what it has settled sends no event */
    uint64_t fence;
    int64_t until_us;   /* when it is to end */
    int64_t stirred_us; /* when it began, or one of its jobs ended last */
    list jobs;
    size_t handed; /* of these */
} engine_lease;

/* What a claim that is under way will have looked at when it comes back full. */
typedef struct engine_reach {
    bool known;
    bool passed; /* it was; but what is behind it has to be looked at again */
    uint32_t entrypoint;
    int32_t priority;
    int64_t from, to; /* ids */
} engine_reach;

/* How much of the server a worker takes beside others: see engine_pace.c. */
typedef struct engine_pace {
    double lanes; /* that lease at a time; of less than one: it pauses */
    double settle_us, best_us, best_before_us; /* of a job: now, and at best in two spans */
    int64_t span_ends_us;
    int64_t burst_ends_us, again_us; /* the beginning and the end of a pause */
    int64_t look_at_us; /* when a lane that rests may lease; CLOCK_NEVER: none waits for a time */
} engine_pace;

/* How long the last two leases of a kind were under way, from the flight to the answer. */
typedef struct engine_took {
    int64_t last_us, before_us;
} engine_took;

#define ENGINE_FLEET_MIN 1.5 /* of engine.fleet: from here on there are others */

enum { LARGE_MAX = PGQ_BATCH_SIZE_MAX, CURSORS_MAX = 64, CURSORS_SENT_MAX = 256 };

struct engine_lane {
    lane_state state;
    engine_flight flight;
    size_t answered;
    int64_t retry_at_us;
    backoff backoff;
    int64_t backend;     /* the server's process */
    int64_t flown_us;    /* when the flight was sent */
    bool listening;      /* control lane: LISTEN was answered */
    uint64_t wakes_seen; /* engine.wakes when the claim was sent */
    /* the arrays of the flight's sentences; a lane has one settle or release, and one claim */
    settle_item *items;
    claim_token *tokens;
    engine_job **jobs; /* of items or tokens, by place */
    size_t job_count;
    claim_token *beat_tokens;
    engine_job **beat_jobs;
    size_t beat_count;
    int64_t *known;
    claim_share *shares;
    int64_t ghosts[ENGINE_GHOSTS];
    /* those of a lease: its end and the next one travel with all of the above */
    engine_lease lease;
    settle_item *lease_items;
    engine_job **lease_jobs;
    size_t lease_count;
    int64_t *except;
    claim_share *lease_shares;
    uint64_t lease_wakes_seen, brakes_seen; /* when the lease was said */
    int64_t large_ids[LARGE_MAX];
    claim_cursor cursors[CURSORS_SENT_MAX];
    engine_reach reach;
    int64_t heard_us;    /* when the flight was sent, or its last sentence was answered */
    int64_t patience_us; /* how long an answer of the flight may take */
    int64_t late_us;     /* since when the next answer is overdue; 0: it is not */
};

/* What is known of the queue for the entrypoints of one kind of lane. */
typedef struct engine_side {
    size_t entrypoints;
    bool hungry;       /* there may be due jobs that nobody has claimed */
    bool backlog;      /* the last claim came back full */
    int32_t priority;  /* and then, that of its last job */
    unsigned in_a_row; /* claims since the other side had one, which may have work as well */
} engine_side;

typedef enum engine_state {
    ENGINE_NEW,
    ENGINE_STARTING, /* connecting, checking, beginning to listen */
    ENGINE_RUNNING,
    ENGINE_STOPPING, /* no new claims */
    ENGINE_FINISHED
} engine_state;

/* What is folded into the statistics. */
enum { FOLD_LOG, FOLD_COUNTS, FOLD_KINDS };

typedef struct engine_fold {
    int64_t at_us;      /* not before; CLOCK_NEVER: never, or it is under way */
    int64_t last_at_us; /* the last round not before this either */
    int rounds;         /* how often, as far as is known */
} engine_fold;

struct engine {
    engine_config config;
    random_state random;
    engine_state state;
    pgq_error error;          /* with which the run will end */
    pgq_error note_errors[4]; /* of the latest notes: one event makes no more of them */
    unsigned note_error_count;
    pgq_worker_counts counts;

    engine_job *records; /* `capacity` of them */
    size_t capacity;
    list jobs[JOB_STATES];
    engine_job **by_id; /* hash table of the records that serve a job */
    int by_id_bits;     /* the table has two to the power of it places */

    engine_lane lanes[ENGINE_LANES_MAX]; /* 0: control */
    int lane_count;                      /* with the control lane */
    bool checked;                        /* the schema check passed */
    bool deaf;                           /* LISTEN was refused; with the next poll it is tried */
    bool outage;                         /* a lost connection was noted, no restored one yet */
    unsigned claims_given_up;            /* one after the other, as their answers did not come */

    /* what is known about the queue */
    engine_side rows, leases;
    bool stale_hungry; /* likewise, of silent workers */
    bool surveyed;     /* others' limits were looked at */
    bool stalled;      /* a lease has left jobs unstarted, and no thread has become free since */
    /* Jobs in one lease: few at first, and several times as many with each that was written. A job
     * that kills its process takes with it what was leased together; when the process is started
     * again and again, what comes before that job is written all the same. */
    size_t lease_most;
    /* The end of a lease was refused, and nothing has been written since: see engine_lease.c */
    bool braked;
    uint64_t brakes;             /* how often that was found out */
    int64_t lease_not_before_us; /* meanwhile: a small lease that tries it */
    backoff brake_backoff;
    bool drained_in_part;    /* a drain has given up, as only refused outcomes were left */
    uint64_t drain_requeues; /* engine.requeues then, and one more; 0: no drain has ended */
    size_t orphans;
    uint64_t fences_said, fences_heard, orphan_fence;
    int64_t orphans_again_us; /* when the next one that is put off has its turn; CLOCK_NEVER */
    backoff orphan_backoff;
    /* jobs that are to be claimed by their ids, for their size, and the lanes that had them locked
     */
    int64_t large[LARGE_MAX];
    const engine_lane *large_lanes[LARGE_MAX];
    size_t large_count;
    double payload_average; /* bytes, of leased jobs */
    double row_average;     /* of those that were claimed as picked ones */
    int64_t swept_us, sweep_at_us, sweep_cost_us, sweep_last_cost_us;
    bool sweep_put_off;      /* until sweep_at_us, as others look at the same time */
    bool sweep_partial;      /* the last one has not seen everything */
    bool late_last;          /* the last lease looked only at what cursors have passed */
    bool front;              /* claims can keep clear of other workers' */
    int64_t beside_until_us; /* and so long they do */
    engine_pace pace;
    double fleet;                   /* how many times our share the claims of all take, from 1 on */
    int64_t fleet_seen, fleet_last; /* ids, by which that is counted */
    double fleet_ours;
    int fleet_claims;
    bool front_begun; /* the first claim was said */
    bool front_free;  /* nobody has told anything yet */
    int64_t front_id; /* where it begins, of that entrypoint */
    uint32_t front_entrypoint;
    bool front_back;       /* what other workers have passed is to be looked at again */
    int32_t busy_priority; /* of the last job of the last full claim */
    int32_t cursor_floor;  /* the lowest priority that claims behind cursors take */
    int64_t claim_cost_us; /* of a claim behind cursors */
    engine_took claims_took, sweeps_took;
    int64_t horizon_at_us; /* not before: who holds back the removal of dead rows? */
    bool horizon_wanted;
    int64_t end_stuck_at_us; /* not before: sessions of frozen workers are ended */
    bool end_stuck_wanted;
    bool probe_wanted;
    int64_t probe_not_before_us; /* while a lease of our own would be seen */
    bool probing;
    bool queue_empty;        /* the last probe saw no queued job, and nothing woke us since */
    uint64_t requeues;       /* jobs that we sent back to the queue by a retry */
    uint64_t probe_requeues; /* as it was when the probe was sent: more make its answer old */
    uint64_t wakes;          /* how often something said that there may be work */
    bool gated;              /* some entrypoint has a limit, a rate or a retry timer */
    bool limited;            /* some have a limit */
    bool slot_wanted;        /* jobs are due whose entrypoint may be at its limit */
    bool queue_due;          /* the last probe saw due jobs */
    int64_t deferred;        /* what it counted */
    bool adopt_wanted;       /* the reply to a claim was lost */
    int64_t adopt_at_us;     /* not before */
    engine_ghost ghosts[ENGINE_GHOSTS];
    size_t ghost_count;
    backoff ghost_backoff, contention_backoff;
    engine_bucket *buckets; /* one an entrypoint */
    int64_t rate_at_us;     /* when a bucket that was empty has something again */
    int64_t freed_not_before_us;
    int64_t claim_not_before_us, settle_not_before_us;
    int64_t poll_at_us, stale_look_at_us, beat_at_us, survey_at_us;
    int64_t beat_again_us; /* a beat that is not answered by then is said on another lane, too */
    engine_fold folds[FOLD_KINDS];
    bool done_untold;      /* jobs are done, and no event has said so */
    int64_t tell_at_us;    /* when one is to say so */
    bool extras;           /* what is logged is counted, in our own table for that */
    bool last_fold;        /* it was said */
    int64_t silence_us;    /* the shortest after which a job of ours is stale to somebody */
    int64_t look_again_us; /* how long to wait while due rows are locked by others */
    backoff refusal_backoff;
    int64_t refused_again_us; /* when the settles of JOB_REFUSED are tried again */
    int64_t refused_tried_us; /* when they were */
    backoff bad_row_backoff;
    int64_t release_not_before_us;
    backoff release_backoff;
    pgq_error hopeless_error;   /* why the outcomes of jobs are refused */
    int64_t unwritten_since_us; /* a stopping worker's settles; CLOCK_NEVER: one was written */
    unsigned releases_refused;  /* one after the other, since the worker stops */

    engine_listener listener;
    int64_t ping_at_us, ping_deadline_us;
    int64_t
        ping_self_us; /* when the control lane says it, as no other lane could be heard saying it */
    int64_t deaf_poll_us; /* how often to look while the listener is not heard */

    cancel_memory *cancelled;
    int64_t alarm_at_us; /* no job's alarm is sooner */
    size_t away;         /* handed jobs that are parked or resting */
    size_t stragglers;   /* threads that are busy with abandoned jobs */
    char (*texts)[PGQ_MESSAGE_BYTES];
    int free_texts[ENGINE_TEXTS], free_text_count;
    char (*timeout_texts)[TIMEOUT_TEXT_BYTES]; /* one an entrypoint */

    int64_t run_us_average; /* of a handler; 0: nothing measured */
    uint32_t groups;        /* settle groups given out */

    int64_t drain_deadline_us, away_deadline_us;

    bool gathering, plan_wanted; /* between engine_events_begin and _end */

    engine_action *actions; /* ring */
    size_t action_first, action_count, action_capacity;
};

#endif
