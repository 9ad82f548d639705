/* The inside of the engine: engine.c (states, events), engine_plan.c (what to say next),
 * engine_reply.c (what an answer means). */
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

typedef struct engine_job {
    list_link link; /* in engine.jobs[state] */
    job_state state;
    claim_token token;
    int32_t attempts;
    uint32_t entrypoint;
    void *body;
    engine_outcome outcome;
    int64_t finished_us; /* when the outcome came */
    uint32_t group;      /* of a settle that was refused and split; 0: none */
    bool lost;           /* the claim is gone: nothing may be written */
    bool uncertain;      /* a settle or release of it was sent and never answered */
    char refused_text[PGQ_MESSAGE_BYTES]; /* why the database refused its settle, or "" */
} engine_job;

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
    pgq_error error;      /* with which the run will end */
    pgq_error note_error; /* of the latest notes */
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
    bool adopt_wanted;       /* the reply to a claim was lost */
    int64_t claim_not_before_us, settle_not_before_us;
    int64_t poll_at_us, stale_look_at_us, beat_at_us;
    int64_t look_again_us; /* how long to wait while due rows are locked by others */
    backoff refusal_backoff;
    int64_t refused_again_us; /* when the settles of JOB_REFUSED are tried again */
    backoff bad_row_backoff;

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
/* The lane's connection is of no use any more. */
void engine_lane_broken(engine *e, int64_t now_us, int index, const pgq_error *error);
/* Asks the pool for a job back, which it may have started. */
void engine_revoke(engine *e, engine_job *job);
/* The outcome is known but must not or need not be written. */
void engine_lost_claim(engine *e, engine_job *job);

/* engine_plan.c */
void engine_plan(engine *e, int64_t now_us);

#endif
