/* The engine: decides what a worker does, and does nothing else.
 *
 * Events go in by the functions below, each with the time at which it happened; actions come out
 * of engine_next, to be carried out in order. The engine has no clock, socket, thread or random
 * number of its own: the driver hands them in, and so does the simulator. It allocates only in
 * engine_new. One thread.
 *
 * Lanes are the worker's connections. Lane 0 is the control lane: it listens, beats and probes.
 * The others claim, settle and release. A lane carries one flight at a time: sentences that
 * travel together and are answered in order.
 *
 * A job's way through the engine, each state a list:
 *
 *   free -> handed (to the pool) -> finished (has an outcome) -> settling -> free
 *              `---revoked---> given (back, waits) -> releasing -> free
 *
 * A leased job is `done` instead of finished, until its lease ends, and free when it is revoked.
 *
 * What must hold (reliability.md): I1 a job is in one list until the database has answered for
 * it; I2 a claim is never started twice, and what is not known to be ours is not started; I3 what
 * is written carries the claim's token. */
#ifndef WORKER_ENGINE_H
#define WORKER_ENGINE_H

#include <pgqueuer/worker.h>

#include "base/random.h"
#include "queue/sentence.h"

enum {
    ENGINE_LANES_MAX = PGQ_LANES_MAX + 1,
    ENGINE_FLIGHT_MAX = 10,
    ENGINE_SETTLE_MAX = 1000,
    /* texts of one settle; JSON may make six times as much of them */
    ENGINE_SETTLE_TEXT_BYTES = 2 * 1024 * 1024
};

typedef struct engine engine;

typedef struct engine_entrypoint {
    int32_t limit;      /* over the fleet; 0: none */
    bool rated;         /* `rate` counts */
    double rate;        /* starts a second of this worker */
    int64_t silence_us; /* a job without a beat for so long is stale */
    int64_t timeout_us; /* of a run; 0: none */
    int64_t grace_us;   /* from there to giving it up */
    pgq_status failure; /* EXCEPTION or FAILED: what a job becomes that times out */
    pgq_lane lane;      /* AUTO: leased while its jobs are quick */
} engine_entrypoint;

typedef struct engine_config {
    int lanes; /* claiming ones, without the control lane */
    int threads;
    int batch_size;
    bool drain;         /* end when no queued job is left */
    bool drain_now;     /* with it: deferred jobs may be left */
    bool end_when_deaf; /* a failed listener ends the run (shutdown_on_listener_failure) */
    int64_t only_job;   /* adopt only this job, claim nothing, and end; 0: work as usual */
    int64_t dequeue_timeout_us, heartbeat_timeout_us;
    int64_t drain_timeout_us;                    /* 0: none */
    int64_t probe_interval_us, probe_timeout_us; /* of the listener */
    int64_t lease_us;                            /* how long jobs may be leased */
    int64_t aggregate_interval_us;               /* 0: never */
    bool extras_wanted; /* some entrypoint's successes are to be counted, and not logged */
    int held_max;       /* max_concurrent_tasks; 0: none */
    uint64_t seed;      /* of the jitter and of the pings' ids */
    const engine_entrypoint *entrypoints; /* borrowed for the engine's life */
    size_t entrypoint_count;
} engine_config;

/* What a handler's run ended with, for the engine. */
typedef struct engine_outcome {
    pgq_status status; /* SUCCESSFUL, EXCEPTION, FAILED (hold), CANCELED, QUEUED (retry) */
    int64_t delay_ms;  /* of a retry */
    const void *text;  /* outcome_text; the driver's, until the job is forgotten */
    size_t text_bytes; /* of its texts */
    int64_t run_us;    /* how long the handler took */
} engine_outcome;

typedef enum engine_action_kind {
    ACTION_CONNECT, /* connect lane `lane` */
    ACTION_CLOSE,   /* close lane `lane`: nothing of it is to be heard any more */
    ACTION_FLY,     /* say the sentences of `flight` on lane `lane` */
    ACTION_START,   /* hand `body` to the pool, perhaps once again; `job` is the engine's name
                       for it */
    ACTION_KEEP,    /* the claim of `body` was a lease and is a picked row's now: its proof is the
                       flight of lane `lane` that is just being answered */
    ACTION_FENCE,   /* call engine_fenced when every ACTION_REVOKE before this one is decided */
    ACTION_REVOKE,  /* if `body` has not started, see that it never does, and say so by
                       engine_revoked */
    ACTION_TELL,    /* tell the handler of `body` to end early, because of `why` */
    ACTION_ABANDON, /* `body` still runs, but the engine has given it up: it is the driver's, who
                       frees it when its handler ends. If it was in a thread (not parked), the
                       driver calls engine_straggler_ended when that is free again */
    ACTION_FORGET,  /* the engine has no further use for `body` */
    ACTION_NOTE,    /* something for the log: `note` */
    ACTION_FINISH   /* the end: close everything; `note.error` says why */
} engine_action_kind;

/* What is worth a log line; the names of the events are in note.c. */
typedef enum engine_note_kind {
    NOTE_LISTENING,
    NOTE_CONNECTION_LOST,
    NOTE_CONNECTION_RESTORED,
    NOTE_CONNECT_FAILED,
    NOTE_CLAIM_LOST,
    NOTE_CLAIM_REFUSED,
    NOTE_CLAIM_ADOPTED,
    NOTE_SETTLE_REFUSED,
    NOTE_SETTLE_FAILED,
    NOTE_STATEMENT_REFUSED,
    NOTE_STOPPING,
    NOTE_DRAIN_TIMEOUT,
    NOTE_LISTENER_FAILED, /* number: ms without an answer */
    NOTE_LISTENER_RESTORED,
    NOTE_JOB_CANCELLED,
    NOTE_JOB_TIMEOUT,    /* told to end; number: its timeout in ms */
    NOTE_JOB_STUCK,      /* given up; number: handlers that are stuck now */
    NOTE_POOL_EXHAUSTED, /* every thread is stuck */
    NOTE_LIMITS_DIFFER,  /* number: a survey_kind; job_id: the entrypoint's index + 1 */
    NOTE_AGGREGATE_REFUSED,
    NOTE_LEASE_ENDED,  /* number: sessions of frozen workers that we have ended */
    NOTE_HORIZON_HELD, /* number: transactions since; the error's message: who holds it */
    NOTE_LEASE_LOST,   /* number: jobs whose outcome or run has to be secured again */
    NOTE_NO_EXTRAS,
    NOTE_DEFERRED, /* number: jobs that a drain leaves deferred */
    NOTE_COUNT
} engine_note_kind;

typedef struct engine_note {
    engine_note_kind kind;
    int lane;               /* -1: none */
    int64_t job_id;         /* 0: none */
    int64_t number;         /* a count or a delay, by kind */
    const pgq_error *error; /* or NULL; valid until the next call of an engine function */
} engine_note;

typedef struct engine_flight {
    sentence sentences[ENGINE_FLIGHT_MAX];
    size_t count;
} engine_flight;

typedef struct engine_action {
    engine_action_kind kind;
    int lane;
    void *body;
    void *job;
    job_why why;
    const engine_flight *flight; /* valid until it is answered or its lane is lost */
    engine_note note;
} engine_action;

/* PGQ_E_NOMEM. The configuration was checked by the caller. */
pgq_code engine_new(const engine_config *config, engine **ret_engine);

/* Takes NULL; returns NULL. Jobs that are still known are the driver's to free. */
engine *engine_free(engine *e);

/* The most jobs that a reply can hold: the size of the driver's scratch memory. */
size_t engine_capacity(const engine *e);

/* Events. `index` is a lane's, `name` is the `job` of the action that started it. */
void engine_start(engine *e, int64_t now_us);
/* `backend` names the server's process behind the connection (a pid); 0: not known. */
void engine_lane_ready(engine *e, int64_t now_us, int lane, int64_t backend);
/* The connection was lost, or could not be made. What was in flight there is unanswered. */
void engine_lane_lost(engine *e, int64_t now_us, int index, const pgq_error *error);
/* The next sentence of the lane's flight was answered. */
void engine_reply(engine *e, int64_t now_us, int index, const sentence_reply *reply);
/* Notifications of the control lane. Each of them also proves that it can be heard, as does any
 * other event of the channel, for which there is engine_heard. */
void engine_heard(engine *e, int64_t now_us);
void engine_notified(engine *e, int64_t now_us); /* rows were added, or may have become free */
void engine_freed(engine *e, int64_t now_us);    /* rows were deleted: slots may be free */
void engine_cancelled(engine *e, int64_t now_us, const int64_t *ids, size_t count);
/* The handler of a job has begun. Needed for the jobs of entrypoints with a timeout only. */
void engine_started(engine *e, int64_t now_us, void *name);
/* Its handler has returned, but the job goes on and occupies no thread. */
void engine_parked(engine *e, int64_t now_us, void *name);
/* It occupies no thread and wants to be started again in `delay_us`. */
void engine_resting(engine *e, int64_t now_us, void *name, int64_t delay_us);
void engine_outcome_of(engine *e, int64_t now_us, void *name, const engine_outcome *outcome);
void engine_revoked(engine *e, int64_t now_us, void *name);
/* What the revocations before ACTION_FENCE found unstarted was said by engine_revoked; the other
 * jobs have started. */
void engine_fenced(engine *e, int64_t now_us);
void engine_tick(engine *e, int64_t now_us); /* engine_deadline has come */
/* The thread of a job that was abandoned is free again. */
void engine_straggler_ended(engine *e, int64_t now_us);
void engine_stop(engine *e, int64_t now_us);
/* Stops, tells the running handlers to end, and ends at most a second later. */
void engine_hurry(engine *e, int64_t now_us);

/* Events between the two are told together: what is to be said is decided once, at the end. Take no
 * action in between, and end before the sum of the events is more than engine_capacity. */
void engine_events_begin(engine *e);
void engine_events_end(engine *e, int64_t now_us);

/* Takes the next action; false: none. Call it until then after every event. */
bool engine_next(engine *e, engine_action *ret_action);

/* When engine_tick wants to be called; CLOCK_NEVER: not by itself. */
int64_t engine_deadline(const engine *e);

const pgq_worker_counts *engine_counts(const engine *e);

/* How many jobs the engine holds, whatever their state. */
size_t engine_held(const engine *e);

/* How many jobs are with the pool, parked or resting. */
size_t engine_running(const engine *e);

/* How many threads are busy with jobs that were given up. */
size_t engine_stragglers(const engine *e);

typedef enum engine_listener {
    LISTENER_DOWN,    /* not listening, or not yet proven: the worker polls */
    LISTENER_HEALTHY, /* the last probe came back, or has time left */
    LISTENER_SUSPECT, /* it had its time; what is on the way may still come */
    LISTENER_FAILED   /* it did not come back: a new connection is made, the worker polls */
} engine_listener;

/* The state, for people. */
typedef struct engine_report {
    const char *state, *listener; /* static */
    size_t waiting_or_running, parked, finished, settling, refused, releasing, stragglers;
    size_t leased; /* of all of these */
    int lanes_up, lanes;
    int leasing; /* entrypoints on the lease lane */
    bool hungry, backlog;
} engine_report;
void engine_get_report(const engine *e, engine_report *ret_report);

/* Until when jobs of a lease may be started: a lease from its answer, while the server is sure to
 * keep them for twice as long from its saying. */
int64_t engine_lease_until(const engine_config *config, const sentence *said, int64_t said_us,
                           int64_t heard_us);

/* The index of a job's record, below engine_capacity: no other job that the engine holds has it. */
size_t engine_place(const engine *e, const void *name);

#endif
