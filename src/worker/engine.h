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
 * What must hold (reliability.md): I1 a job is in one list until the database has answered for
 * it; I2 a claim is never started twice, and what is not known to be ours is not started; I3 what
 * is written carries the claim's token. */
#ifndef WORKER_ENGINE_H
#define WORKER_ENGINE_H

#include <pgqueuer/worker.h>

#include "base/random.h"
#include "queue/sentence.h"

enum { ENGINE_LANES_MAX = PGQ_LANES_MAX + 1, ENGINE_FLIGHT_MAX = 4, ENGINE_SETTLE_MAX = 1000 };

typedef struct engine engine;

typedef struct engine_config {
    int lanes; /* claiming ones, without the control lane */
    int threads;
    int batch_size;
    bool drain; /* end when no queued job is left */
    int64_t dequeue_timeout_us, heartbeat_timeout_us;
    int64_t drain_timeout_us; /* 0: none */
    uint64_t seed;            /* of the jitter */
} engine_config;

/* What a handler's run ended with, for the engine. */
typedef struct engine_outcome {
    pgq_status status; /* SUCCESSFUL, EXCEPTION, FAILED (hold), CANCELED, QUEUED (retry) */
    int64_t delay_ms;  /* of a retry */
    const void *text;  /* outcome_text; the driver's, until the job is forgotten */
    int64_t run_us;    /* how long the handler took */
} engine_outcome;

typedef enum engine_action_kind {
    ACTION_CONNECT, /* connect lane `lane` */
    ACTION_CLOSE,   /* close lane `lane`: nothing of it is to be heard any more */
    ACTION_FLY,     /* say the sentences of `flight` on lane `lane` */
    ACTION_START,   /* hand `body` to the pool; `job` is the engine's name for it */
    ACTION_REVOKE,  /* if `body` has not started, see that it never does, and say so by
                       engine_revoked */
    ACTION_TELL,    /* tell the handler of `body` to end early */
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
void engine_lane_ready(engine *e, int64_t now_us, int lane);
/* The connection was lost, or could not be made. What was in flight there is unanswered. */
void engine_lane_lost(engine *e, int64_t now_us, int lane, const pgq_error *error);
/* The next sentence of the lane's flight was answered. */
void engine_reply(engine *e, int64_t now_us, int index, const sentence_reply *reply);
void engine_notified(engine *e, int64_t now_us);
void engine_outcome_of(engine *e, int64_t now_us, void *name, const engine_outcome *outcome);
void engine_revoked(engine *e, int64_t now_us, void *name);
void engine_tick(engine *e, int64_t now_us); /* engine_deadline has come */
void engine_stop(engine *e, int64_t now_us);

/* Takes the next action; false: none. Call it until then after every event. */
bool engine_next(engine *e, engine_action *ret_action);

/* When engine_tick wants to be called; CLOCK_NEVER: not by itself. */
int64_t engine_deadline(const engine *e);

const pgq_worker_counts *engine_counts(const engine *e);

/* How many jobs the engine holds, whatever their state. */
size_t engine_held(const engine *e);

/* How many jobs are with the pool. */
size_t engine_running(const engine *e);

#endif
