/* The inside of the engine: engine.c (life, lanes), engine_job.c (what happens to jobs),
 * engine_listen.c (is the listener heard?), engine_plan.c (what to say next), engine_claim.c (how
 * much to claim), engine_reply.c (what an answer means). */
#ifndef WORKER_ENGINE_INTERNAL_H
#define WORKER_ENGINE_INTERNAL_H

#include "base/clock.h"
#include "base/list.h"
#include "worker/engine.h"

typedef enum job_state {
    JOB_FREE,      /* no job */
    JOB_HANDED,    /* with the pool, started or not */
    JOB_FINISHED,  /* has an outcome, waits to be settled */
    JOB_SETTLING,  /* in a settle that is not answered */
    JOB_REFUSED,   /* its settle is refused whatever is written; waits for refused_again_us */
    JOB_GIVEN,     /* revoked unstarted, waits to be released */
    JOB_RELEASING, /* in a release that is not answered */
    JOB_STATES
} job_state;

/* Where a job is that was handed to the pool. */
typedef enum job_place {
    PLACE_POOL,   /* it waits for a thread, or occupies one */
    PLACE_PARKED, /* its handler has returned, and somebody else will end it */
    PLACE_RESTING /* it is to be started again at alarm_us */
} job_place;

typedef struct engine_job {
    list_link link; /* in engine.jobs[state] */
    job_state state;
    job_place place; /* while it is handed */
    claim_token token;
    int32_t attempts;
    uint32_t entrypoint;
    void *body;
    engine_outcome outcome;
    int64_t finished_us; /* when the outcome came */
    int64_t alarm_us;    /* handed: when its timeout, its grace or its rest ends; CLOCK_NEVER */
    uint32_t group;      /* of a settle that was refused and split; 0: none */
    bool lost;           /* the claim is gone: nothing may be written */
    bool uncertain;      /* a settle or release of it was sent and never answered */
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

/* How much of a rated entrypoint may be started: a bucket that the rate fills. */
typedef struct engine_bucket {
    double tokens;
    int64_t filled_us;
    uint32_t noted; /* bits of survey_kind: differences that were noted */
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

typedef struct engine_lane {
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
} engine_lane;

typedef enum engine_state {
    ENGINE_NEW,
    ENGINE_STARTING, /* connecting, checking, beginning to listen */
    ENGINE_RUNNING,
    ENGINE_STOPPING, /* no new claims */
    ENGINE_FINISHED
} engine_state;

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

    engine_lane lanes[ENGINE_LANES_MAX]; /* 0: control */
    int lane_count;                      /* with the control lane */
    bool checked;                        /* the schema check passed */
    bool deaf;                           /* LISTEN was refused; with the next poll it is tried */
    bool outage;                         /* a lost connection was noted, no restored one yet */

    /* what is known about the queue */
    bool hungry;  /* there may be due jobs that nobody has claimed */
    bool backlog; /* the last claim came back full */
    bool probe_wanted;
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
    int64_t poll_at_us, stale_look_at_us, beat_at_us, survey_at_us, aggregate_at_us;
    int64_t silence_us;    /* the shortest after which a job of ours is stale to somebody */
    bool settled_since;    /* the last aggregation was said */
    int64_t look_again_us; /* how long to wait while due rows are locked by others */
    backoff refusal_backoff;
    int64_t refused_again_us; /* when the settles of JOB_REFUSED are tried again */
    backoff bad_row_backoff;

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

    engine_action *actions; /* ring */
    size_t action_first, action_count, action_capacity;
};

/* engine.c */
void engine_move(engine *e, engine_job *job, job_state state);
engine_action *engine_act(engine *e, engine_action_kind kind);
void engine_say(engine *e, engine_note_kind kind, int lane, int64_t job_id, int64_t number,
                const pgq_error *error);
void engine_forget(engine *e, engine_job *job);
void engine_lane_set(engine *e, engine_lane *lane, lane_state state);
/* Ends the run with an error: gracefully, or at once while it is still starting. */
void engine_fail(engine *e, int64_t now_us, const pgq_error *error);
/* There may be work that nobody has claimed. */
void engine_wake(engine *e);
/* Asks the pool for a job back, which it may have started. */
void engine_revoke(engine *e, engine_job *job);
/* The outcome is known but must not or need not be written. */
void engine_lost_claim(engine *e, engine_job *job);

/* The lane is down, without a word. */
int64_t engine_patience_ends(const engine *e);
void engine_give_up_flights(engine *e, int64_t now_us);
void engine_lane_down(engine *e, int64_t now_us, int index);

/* engine_job.c */
void engine_job_begin(engine *e, int64_t now_us, const claimed_row *row);
/* Revoked or never started: it waits to be released, or is written as cancelled. */
void engine_give_back(engine *e, int64_t now_us, engine_job *job);
/* A settle was not carried out, or nobody knows: the outcome waits again. */
void engine_finish_again(engine *e, engine_job *job);
void engine_alarms(engine *e, int64_t now_us);
void engine_tell_all(engine *e, job_why why);
/* Keeps a copy of a text as the reason for a job's outcome. */
void engine_own_text(engine *e, engine_job *job, const char *type, const char *text);

/* engine_listen.c */
void engine_listen_begin(engine *e, int64_t now_us);
/* From now on a ping has its time. */
void engine_ping_begins(engine *e, int64_t now_us);
void engine_listen_lost(engine *e, int64_t now_us, bool was_listening, const pgq_error *error);
/* When the listener becomes a suspect if what was said at `said_us`, a probe or LISTEN, has not
 * been answered. */
int64_t engine_suspect_at(const engine *e, int64_t said_us);
void engine_listen_tick(engine *e, int64_t now_us);

/* engine_claim.c */
void engine_add_claim(engine *e, int64_t now_us, engine_lane *lane);
void engine_add_adopt(engine *e, int64_t now_us, engine_lane *lane);
void engine_refund(engine *e, engine_lane *lane, const sentence_reply *reply, int64_t now_us);
void engine_add_ghost(engine *e, int64_t now_us, int64_t backend, int32_t batch);

/* engine_plan.c */
void engine_plan(engine *e, int64_t now_us);
sentence *engine_add_sentence(engine_lane *lane, sentence_kind kind);

#endif
