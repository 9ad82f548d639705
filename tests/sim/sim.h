/* The simulated world: one history of a fleet of engines on one model database, on one thread,
 * under a virtual clock and one stream of random numbers. Everything in it is a function of the
 * seed.
 *
 *   history.c  the plot: what is enqueued, which faults fall when, when it ends
 *   fleet.c    workers: an engine, a pool of pretended threads, jobs in memory
 *   network.c  connections between workers and the database, and their faults
 *   model.c    the database
 *   oracle.c   what must hold, checked at every step, from a journal of every claim and run
 *   event.c    the queue of what happens next
 *   trace.c    what happened, as a hash and as the last lines */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "base/arena.h"
#include "base/clock.h"
#include "base/random.h"
#include "worker/engine.h"

#include "fate.h"
#include "model.h"

enum { SIM_TRACE_LINES = 60, SIM_WORKERS_MAX = 256, SIM_FAILURE_BYTES = 400 };

/* After a fault an engine may hold back for its longest back-off. */
enum { BACKOFF_US = 6 * 1000 * 1000 };

typedef struct world world;
typedef struct worker worker;
typedef struct connection connection;
typedef struct body body;

/* ---- events ---- */

typedef enum event_kind {
    EVENT_CONNECTED,
    EVENT_EXECUTE, /* the server comes to the next sentence of a connection */
    EVENT_LATE,    /* it carries out a sentence of a lost connection */
    EVENT_REPLY,   /* the next reply arrives */
    EVENT_LOST,    /* the worker sees that its connection is gone */
    EVENT_NOTIFY,
    EVENT_TICK,
    EVENT_PICK, /* an idle thread looks for a job */
    EVENT_RUN_END,
    EVENT_TALE, /* what the history planned: `tale` */
    EVENT_CHECK
} event_kind;

typedef struct event {
    int64_t at_us;
    uint64_t serial; /* equal times: first come, first served */
    event_kind kind;
    int tale;
    worker *worker;
    connection *connection;
    void *what;
} event;

typedef struct event_queue {
    event *heap;
    size_t count, capacity;
    uint64_t serial;
} event_queue;

void event_add(world *w, event e);
bool event_next(world *w, event *ret_event);

/* ---- trace ---- */

typedef struct trace_line {
    int64_t at_us;
    const char *text; /* static */
    int worker, lane;
    int64_t a, b;
} trace_line;

typedef struct trace {
    bool print;
    uint64_t hash;
    uint64_t count;
    trace_line last[SIM_TRACE_LINES]; /* ring */
} trace;

void trace_add(world *w, const char *text, const worker *who, int lane, int64_t a, int64_t b);
void trace_print_last(const trace *t);

/* ---- the journal: every claim and every run, kept outside the database ---- */

typedef struct claim_record {
    struct claim_record *older; /* of the same job */
    claim_token token;
    worker *owner;
    int64_t sent_us;
    model_how how;
    bool late;          /* carried out after its connection was gone */
    bool reply_pending; /* its reply may still reach the owner */
    bool settled, released, release_refused;
    body *body; /* NULL until the owner has heard of it, or without memory */
} claim_record;

typedef struct job_record {
    claim_record *claims; /* newest first */
    int runs;
    int64_t passed_over_us; /* when a beat found the row locked */
    bool notified;          /* its latest enqueue or release notified the listening workers */
    int64_t retried_by;     /* serial of the worker that put it back */
} job_record;

/* ---- workers ---- */

typedef enum body_state {
    BODY_NEW,
    BODY_WAITING,
    BODY_RUNNING,
    BODY_ENDED,
    BODY_REVOKED
} body_state;

/* A claimed job in the memory of its worker. */
struct body {
    body *next; /* of the worker */
    worker *worker;
    claim_record *claim;
    claim_token token;
    void *job; /* the engine's name for it */
    body_state state;
    bool told;      /* to end early */
    bool told_lost; /* a beat said so while nothing of it was under way */
    bool flying;    /* in a settle or release that is not answered */
    bool uncertain; /* such a one was lost */
    bool forgotten;
    int64_t heard_us, began_us, ended_us;
    engine_outcome outcome;
};

struct connection {
    worker *owner;
    int lane;
    bool open;      /* as the worker sees it */
    bool ready;     /* connected, and the engine knows */
    bool cut;       /* nothing gets through any more */
    bool listening; /* on the server */
    int64_t ready_us, sent_us, last_arrival_us;
    sentence said[ENGINE_FLIGHT_MAX]; /* copies: the server has what was sent */
    sentence_reply answers[ENGINE_FLIGHT_MAX];
    size_t said_count, executed, heard;
};

struct worker {
    world *world;
    int64_t serial; /* from one; also its identity in the database */
    engine *engine;
    engine_config config;
    bool alive, ready, stopping, asked_to_stop;
    bool probe_said_empty;
    connection *lanes[ENGINE_LANES_MAX];
    int lane_count;
    body *bodies;
    size_t kept; /* bodies that are not forgotten */
    size_t in_pool;
    body **waiting; /* ring */
    size_t waiting_first, waiting_count, waiting_capacity;
    int busy;
    int64_t frozen_until_us, lanes_away_until_us;
    int lane_away;     /* -1: all of them */
    int64_t beaten_us; /* when the last beat that was answered was sent */
    int beats_refused; /* one after the other */
    int64_t tick_at_us;
    int tick_generation; /* earlier timers count no more */
    int64_t listening_since_us, missed_us;
    int64_t disturbed_us;  /* the latest fault that may cost it time or claims */
    int64_t hampered_us;   /* the latest that may only make its next statements wait */
    int64_t lanes_lost_us; /* since when no lane can claim or settle; CLOCK_NEVER: one can */
    int64_t idle_since_us; /* CLOCK_NEVER: it is not idle */
    int64_t stop_us;
    /* the same, for the time after the actions that the engine had decided on before */
    bool adopt_soon;
    bool adopt_due; /* the reply to a claim was lost */
    bool give_back_refused;
    /* of the second that began at window_us */
    int64_t window_us;
    int ticks, empty_claims, wakes, refusals;
    uint64_t heard_rows;
};

/* ---- the world ---- */

typedef struct tally {
    uint64_t faults[FAULT_COUNT], paths[PATH_COUNT];
    uint64_t histories, events, fewest_events, ticks;
    int64_t virtual_us;
} tally;

struct world {
    uint64_t seed;
    random_state random;
    arena memory;
    event_queue events;
    int64_t now_us;
    model model;
    job_record *jobs; /* by id - 1 */
    worker *workers[SIM_WORKERS_MAX];
    size_t worker_count;
    int fault_rates[FAULT_COUNT]; /* of 10 000; 0: this history does not know it */
    int64_t heartbeat_us, dequeue_us, longest_handler_us;
    bool slow; /* the longest waits of an engine can pass in it */
    bool long_handlers, locks;
    int64_t faults_end_us, enqueue_end_us, away_until_us;
    int64_t denied_until_us; /* outcomes may not be written */
    bool denied_claims;      /* nor jobs be claimed */
    int wanted_workers;
    size_t jobs_planned, enqueues_left;
    bool closing; /* everybody was asked to stop */
    int64_t closing_us;
    int64_t drained_us; /* since when nothing is queued or picked; CLOCK_NEVER: something is */
    trace trace;
    tally *tally;
    bool failed, over;
    char failure[SIM_FAILURE_BYTES];
};

/* Records the first violation; the history ends there. */
void violated(world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

int64_t between(world *w, int64_t low, int64_t high);
bool chance(world *w, int of_10000);
/* Whether a fault that the history knows falls now; counts it. */
bool befalls(world *w, fault f);
void count_fault(world *w, fault f);
void count_path(world *w, path p);
void *sim_array(world *w, size_t count, size_t size);

/* history.c */
typedef struct history_result {
    bool failed;
    uint64_t hash, events;
    char failure[SIM_FAILURE_BYTES];
} history_result;

/* Plays the history of a seed; prints it line by line if asked. A violation is reported with its
 * last lines unless `quiet`. */
history_result history_run(uint64_t seed, bool print, bool quiet, tally *t);

/* The history that runs, for a report of a crash; NULL between histories. */
const world *history_running(void);

/* fleet.c */
void fleet_begin(world *w, bool may_drain);
void fleet_carry_out(worker *who);
void fleet_event(world *w, const event *e);
void fleet_stop(worker *who);
void fleet_kill(worker *who);
body *fleet_hear_row(worker *who, claim_record *claim);
void fleet_update_idle(worker *who);
size_t fleet_alive(const world *w);

/* network.c */
void network_connect(worker *who, int lane);
void network_close(worker *who, int lane);
/* False: it could not be sent, and the lane is lost. */
bool network_fly(worker *who, int lane, const engine_flight *flight);
void network_event(world *w, const event *e);
void network_cut(connection *c, int64_t noticed_after_us);
/* The worker is gone; what it had sent may still be carried out. */
void network_drop(worker *who);
/* Tells the listening workers of the rows that were queued at this instant. */
void network_notify(world *w);

/* oracle_step.c: what was said, carried out and heard */
void oracle_sent(connection *c, const sentence *s);
void oracle_unanswered(worker *who, const sentence *s);
void oracle_claimed(connection *c, const sentence *s, const sentence_reply *r, bool late);
void oracle_settled(worker *who, const sentence *s, const sentence_reply *r);
void oracle_releasing(worker *who, const sentence *s);
void oracle_beaten(worker *who, const sentence *s);
void oracle_heard(connection *c, const sentence *s, const sentence_reply *r);
claim_record *oracle_claim_of(world *w, const claim_token *token);

/* oracle.c: memory, time and the end */
void oracle_began(body *b);
void oracle_forgot(body *b);
void oracle_ended(worker *who, const pgq_error *error);
void oracle_ticked(worker *who);
void oracle_counted(worker *who);
void oracle_check(world *w);
void oracle_end(world *w);
/* A fault that may cost the worker time or claims touches it now and until then. */
void oracle_disturb(worker *who, int64_t until_us);
bool oracle_disturbed_since(const worker *who, int64_t since_us);

#endif
