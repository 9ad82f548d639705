/* The simulated world: one history of a fleet of engines on one model database, on one thread,
 * under a virtual clock and one stream of random numbers. Everything in it is a function of the
 * seed.
 *
 *   history.c  the history: what is drawn at its beginning, how it is played, when it ends
 *   plot.c     what happens in it at planned times: enqueues, faults, cancellations
 *   fleet.c    workers: an engine, what it wants done, jobs in memory
 *   hands.c    a worker's pretended threads, and what its handlers do
 *   network.c  connections between workers and the database, and their faults
 *   server.c, server_lease.c  the other end of them, and its transactions
 *   model.c, model_claim.c, model_lease.c  the database
 *   oracle*.c  what must hold, checked at every step, from a journal of every claim and run:
 *              of sentences (_step), jobs in memory and the end (no suffix), time (_time),
 *              limits and rates (_limits), outcomes and cancellations (_outcome), listeners
 *              (_listen), leases as they are said and ended (_lease)
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
enum { NOTICE_IDS_MAX = 4 };

enum {
    BACKOFF_US = 6 * 1000 * 1000,   /* after a fault an engine may hold back so long */
    GHOST_US = 10 * 1000 * 1000,    /* so long it looks for what a lost connection may bring */
    REMEMBER_US = 10 * 1000 * 1000, /* so long it remembers a cancelled id */
    TCP_TIMEOUT_US = 60 * 1000 * 1000
};

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
    EVENT_PICK,    /* an idle thread looks for a job */
    EVENT_RUN_END, /* of the body's run number `tale` */
    EVENT_REVOKE,  /* the pool comes to a revocation */
    EVENT_FENCE,   /* all before it are decided */
    EVENT_IDLE,    /* a session was idle in its transaction: number `tale` of its waits */
    EVENT_GONE,    /* the server notices that a connection is lost */
    EVENT_TALE,    /* what the history planned: `tale` */
    EVENT_CANCEL,  /* a canceller goes on */
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

typedef enum lease_state {
    LEASE_OPEN,
    LEASE_COMMITTED,
    LEASE_LOST /* rolled back: its connection, its conclusion or its commit */
} lease_state;

/* A transaction that has locked jobs. */
typedef struct lease_record {
    worker *owner;
    connection *connection;
    lease_state state; /* as the server has it */
    struct claim_record *claims;
    int64_t sent_us, deadline_us; /* the owner starts nothing of it later */
    int64_t answered_us;          /* when the reply was or will be there */
    int64_t committed_us;
    bool heard, lost_heard;   /* by its owner */
    bool ending, ended_heard; /* its end was said, answered */
    bool landed;              /* what was said of its end is answered, or never will be */
    bool concluding, refused; /* a conclusion was said, refused */
    bool vain; /* it was said before, and answered after nothing could be written any more */
} lease_record;

typedef struct claim_record {
    struct claim_record *older; /* of the same job */
    claim_token token;          /* a lease's: of the row, which others may have had before */
    worker *owner;
    lease_record *lease; /* NULL: claimed as a row */
    struct claim_record *next_leased;
    int64_t picked_us; /* tells leases of one row from each other */
    int32_t attempts, priority;
    bool large;
    bool bad;          /* its outcome was refused alone, when it was resolved */
    int refused_alone; /* so often its settle was */
    size_t company;    /* with so many its resolve met a lock; 0: it has not */
    bool spare;        /* not to be begun: its owner has a record of the job */
    bool concluding;   /* a conclusion of it was said */
    bool demoted;      /* it is a row's now, with a token of its own */
    bool resolved;     /* a resolve of it was answered */
    int64_t sent_us;
    model_how how;
    bool late;          /* carried out after its connection was gone */
    bool hopeless;      /* so late, or of a job so well known, that nobody would look for it */
    bool reply_pending; /* its reply may still reach the owner */
    bool settled, released;
    bool tried;         /* it was begun in vain */
    bool refused;       /* its outcome, once at least */
    int refused_at_end; /* so often, as if for good, since its owner stops */
    unsigned losses;    /* of its settles, with their connections */
    body *body;         /* NULL until the owner has heard of it, or without memory */
} claim_record;

typedef struct job_record {
    claim_record *claims; /* newest first */
    int runs;
    int64_t passed_over_us; /* when a beat found the row locked */
    bool notified;        /* its latest enqueue, retry or release notified the listening workers */
    int64_t retried_by;   /* serial of the worker that put it back */
    int64_t retried_us;   /* and when */
    int64_t released_by;  /* of the one that gave it back unstarted, and nobody has claimed it */
    int64_t announced_us; /* when it was said that it has become free */
    int idle_leases;      /* in which it was not started, one after the other */
} job_record;

/* ---- workers ---- */

typedef enum body_state {
    BODY_NEW,
    BODY_WAITING, /* for a thread */
    BODY_RUNNING,
    BODY_PARKED,  /* somebody else will end it */
    BODY_RESTING, /* it is to be started again */
    BODY_ENDED,   /* has an outcome */
    BODY_REVOKED  /* its worker gives it back, or writes it as cancelled */
} body_state;

/* A claimed job in the memory of its worker. */
struct body {
    body *next; /* of the worker */
    worker *worker;
    claim_record *claim;
    claim_token token;
    uint32_t entrypoint;
    void *job; /* the engine's name for it */
    body_state state;
    int runs;       /* beginnings, of this claim */
    bool told;      /* to end early */
    bool told_stop; /* because its worker ends */
    bool told_lost; /* a beat said so while nothing of it was under way */
    bool flying;    /* in a settle or release that is not answered */
    bool uncertain; /* such a one was lost */
    bool forgotten; /* by the engine */
    bool abandoned; /* it gave its handler up */
    bool in_thread; /* the handler that it gave up keeps one */
    bool revoking;  /* the pool has not come to it yet */

    bool kept;            /* its claim was a lease, and the driver knows the row's */
    int64_t kept_us;      /* when the flight was sent that is its proof */
    bool cancelled_first; /* it was cancelled before it had an outcome */
    int64_t heard_us, began_us, ended_us; /* of the latest run */
    int64_t cancelled_us;                 /* when the worker has heard so; CLOCK_NEVER: not */
    int64_t timeout_told_us;
    int64_t rests_until_us;
    engine_outcome outcome;
};

struct connection {
    connection *older; /* of the worker */
    worker *owner;
    int lane;
    int64_t backend;
    bool open;                /* as the worker sees it */
    bool ready;               /* connected, and the engine knows */
    bool cut;                 /* nothing gets through any more */
    bool dropped;             /* the same, and nobody will see it */
    bool mute;                /* the server gets what is sent; no answer gets through, ever */
    bool listening;           /* on the server */
    bool swallowed;           /* a LISTEN that only seemed to be carried out */
    int late;                 /* sentences that will be carried out though it is lost */
    int64_t lingers_until_us; /* as a ghost without anything to do */
    int64_t lost_us;          /* when the worker saw it */
    int64_t deaf_us;          /* since when it hears nothing of the channel; CLOCK_NEVER: it does */
    int64_t ready_us, sent_us, last_arrival_us;
    model_tx tx;
    bool ended;          /* by another session */
    bool stuck;          /* its answer does not fit into the socket of a worker that sleeps */
    int waits;           /* how often the server began to wait for the next sentence */
    int64_t blocked_us;  /* since when a resolve waits for locks; 0: it does not */
    lease_record *lease; /* of the transaction */
    lease_record *known; /* the one whose reply the worker has heard, until its end is answered */
    sentence said[ENGINE_FLIGHT_MAX]; /* copies: the server has what was sent */
    sentence_reply answers[ENGINE_FLIGHT_MAX];
    size_t said_count, executed, heard;
};

/* Claims of a rated entrypoint, by the time at which they were sent. */
typedef struct start_record {
    struct start_record *next;
    int64_t sent_us;
    uint32_t entrypoint;
    size_t count;
} start_record;

struct worker {
    world *world;
    int64_t serial; /* from one; also its identity in the database */
    engine *engine;
    engine_config config;
    engine_entrypoint entries[MODEL_ENTRIES_MAX];
    model_entry registered[MODEL_ENTRIES_MAX]; /* what its statements carry of them */
    bool alive, ready, stopping, asked_to_stop;
    bool stopped_unsettled; /* when it began to stop an outcome had been refused */
    bool probe_said_empty, probe_said_due;
    int64_t probe_deferred;
    connection *lanes[ENGINE_LANES_MAX];
    connection *backends; /* all that it ever made, newest first */
    int lane_count;
    body *bodies;
    size_t kept;    /* bodies that are not forgotten */
    size_t in_pool; /* waiting, running, parked or resting */
    size_t resting; /* of those */
    size_t waiting_live;
    size_t stragglers;    /* threads that are busy with jobs that were given up */
    int undecided;        /* revocations and fences that the pool has not come to */
    int64_t fence_us;     /* when the pool has come to all revocations */
    int64_t announced_us; /* when it last announced some */
    int64_t announce_us;  /* since when freed jobs are to be announced; CLOCK_NEVER: none are */
    int64_t untold_us; /* since when jobs are done of which no event says so; CLOCK_NEVER: none */
    bool surveyed_once, limited_elsewhere[MODEL_ENTRIES_MAX];
    body **waiting; /* ring */
    size_t waiting_first, waiting_count, waiting_capacity;
    int busy;              /* threads */
    int64_t exhausted_us;  /* until when all of them were stuck; CLOCK_NEVER: they are */
    int64_t *cancel_heard; /* by id - 1: when; 0: never */
    start_record *starts;
    int64_t frozen_until_us, lanes_away_until_us;
    int lane_away; /* -1: all of them */
    int64_t
        claims_took_us[2]; /* the last two claims behind cursors, from the flight to the answer */
    int64_t beaten_us;     /* when the last beat that was answered was sent */
    int beats_refused;     /* one after the other */
    int64_t tick_at_us;
    int tick_generation; /* earlier timers count no more */
    int64_t listening_since_us, missed_us;
    int64_t disturbed_us;     /* the latest fault that may cost it time or claims */
    int64_t hampered_us;      /* the latest that may only make its next statements wait */
    int64_t listen_hurt_us;   /* until then its listener may rightly be thought deaf */
    int64_t held_up_us;       /* until when a claiming lane of it waits, or something was refused */
    int64_t claim_lost_us;    /* when the reply to a claim was lost */
    int64_t adopt_refused_us; /* for a while only */
    int64_t lanes_lost_us;    /* since when no lane can claim or settle; CLOCK_NEVER: one can */
    int64_t idle_since_us;    /* CLOCK_NEVER: it is not idle */
    int64_t claims_since_us;  /* the same, without regard to the control lane */
    int64_t stop_us, hurried_us;
    int64_t unwritten_us; /* since when its outcomes are refused; CLOCK_NEVER: they are not */
    int64_t vain_us; /* since when nothing of its leases is written; CLOCK_NEVER: something is */
    int trial_jobs;  /* that it has begun since, of leases that it said later */
    int64_t done_since_us; /* it stops and has nothing left that it can settle; CLOCK_NEVER: it has,
                              or does not */
    int64_t control_lost_us; /* since when it has no control lane; CLOCK_NEVER: it has one */
    int64_t deaf_noted_us;   /* CLOCK_NEVER: its listener has not failed, or is restored */
    int64_t settled_us[2];   /* the first settle since the last fold of the log, and of the counts;
                              * CLOCK_NEVER: none */
    bool was_deaf;           /* its listener has failed */
    bool may_end;            /* something was refused that ends a run */
    /* the same, for the time after the actions that the engine had decided on before */
    bool adopt_soon;
    bool adopt_due;     /* the reply to a claim was lost, or a resolve has shown it */
    bool adopt_refused; /* while it was stopping */
    /* of the second that began at window_us */
    int64_t window_us;
    int ticks, empty_claims, wakes, rows, refusals, probes;
    uint64_t heard_rows, gave_up;
    engine_note surveyed[3 * MODEL_ENTRIES_MAX];
    size_t survey_count;
};

/* ---- the world ---- */

typedef struct tally {
    uint64_t faults[FAULT_COUNT], paths[PATH_COUNT];
    uint64_t histories, events, fewest_events, ticks;
    int64_t virtual_us;
} tally;

/* What a notification says. */
typedef enum notice_kind { NOTICE_WORK, NOTICE_FREED, NOTICE_CANCEL, NOTICE_HEALTH } notice_kind;
typedef struct notice {
    notice_kind kind;
    int64_t ids[NOTICE_IDS_MAX];
    size_t count;
} notice;

/* What all workers of a history agree on, and what they do not. */
typedef struct entry_plan {
    engine_entrypoint options;
    bool never;         /* its rate is 0 */
    bool endless;       /* some of its handlers do not end */
    int64_t changed_us; /* when rows of it were last claimed, settled, queued or unlocked */
} entry_plan;

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
    entry_plan entries[MODEL_ENTRIES_MAX];
    size_t entry_count;
    bool same_limits;  /* for all workers */
    bool parks, rests; /* its handlers may */
    bool extras;       /* its database counts: there are two kinds of folds */
    bool has_front;    /* its database tells how far the claims of all workers have come */
    int retry_share;   /* of 100 runs */
    int64_t probe_interval_us, probe_timeout_us, aggregate_us;
    int64_t heartbeat_us, dequeue_us, longest_handler_us;
    int64_t lease_us; /* 0: every entrypoint is on the row lane */
    bool slow;        /* the longest waits of an engine can pass in it */
    bool long_handlers, locks;
    int64_t faults_end_us, enqueue_end_us, away_until_us;
    int64_t denied_until_us; /* outcomes may not be written */
    int64_t broken_until_us; /* they cannot be */
    bool denied_claims;      /* nor jobs be claimed */
    int wanted_workers, endless_left;
    int64_t backends;
    int64_t seated_us; /* when a claim last took a seat, and whose it was */
    const worker *seated_by;
    uint64_t journal[MODEL_STATUSES]; /* what the log must hold */
    size_t jobs_planned, enqueues_left, uncommitted;
    int64_t walk_us; /* what a lease without cursors costs, while somebody holds the horizon */
    bool closing;    /* everybody was asked to stop */
    int64_t closing_us;
    int64_t drained_us; /* since when nothing is left to do; CLOCK_NEVER: something is */
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

void plan(world *w, int64_t at_us, int what);

/* plot.c */
typedef enum tale {
    TALE_ENQUEUE,
    TALE_ENQUEUE_SILENTLY, /* the notification came before */
    TALE_COMMIT,           /* of the rows that were inserted and not committed */
    TALE_BEGIN,
    TALE_REQUEUE,
    TALE_ONLY, /* a supervisor starts a worker for one job of a dead one */
    TALE_FAULT /* + the fault */
} tale;
void plot_tale(world *w, int what);
/* The next step of a cancellation. */
void plot_cancel(world *w, void *what);
bool plot_unfinished(const world *w);
/* Stops a worker for a while. */
void plot_freeze(world *w, worker *who);

/* fleet.c */
void fleet_begin(world *w, bool may_drain, int64_t only_job);
void fleet_carry_out(worker *who);
void fleet_event(world *w, const event *e);
void fleet_stop(worker *who);
void fleet_hurry(worker *who);
void fleet_kill(worker *who);
void fleet_update_idle(worker *who);
size_t fleet_alive(const world *w);
model_caller fleet_caller(const worker *who);
void fleet_draw_entries(world *w);

/* hands.c */
body *hands_hear_row(worker *who, claim_record *claim, uint32_t entrypoint);
void hands_start(worker *who, const engine_action *action);
void hands_revoke(worker *who, body *b);
void hands_tell(worker *who, body *b, job_why why);
void hands_abandon(worker *who, body *b);
void hands_pick(worker *who);
void hands_run_end(worker *who, body *b, int run);
/* The engine has given the resting body back: it was said or dropped. */
void hands_leave_rest(body *b);
/* The pool comes to a revocation. */
void hands_come_to(worker *who, body *b);
void hands_keep(worker *who, body *b, int lane);
void hands_fence(worker *who);

/* network.c */
void network_connect(worker *who, int lane);
void network_close(worker *who, int lane);
/* False: it could not be sent, and the lane is lost. */
bool network_fly(worker *who, int lane, const engine_flight *flight);
void network_event(world *w, const event *e);
void network_cut(connection *c, int64_t noticed_after_us);
/* Packets of the connection are dropped from now on, and nobody sees it. */
void network_silence(connection *c, int64_t noticed_after_us);
/* No answer of what is under way, or is sent later, will come, and nobody sees it. `carried_out`:
 * the server gets the statements all the same. */
void network_swallow(connection *c, bool carried_out);
/* Whether neither side knows that the other hears nothing of it. */
bool network_silent(const connection *c);
/* The worker is gone; what it had sent may still be carried out. */
void network_drop(worker *who);
void network_schedule(connection *c, event_kind kind, int64_t at_us, void *what);
/* The sentence the server would have come to next may be carried out after all. */
void network_maybe_late(connection *c, bool surely);

/* server.c */
void server_execute(connection *c);
void server_carry_out(connection *c, const sentence *s, sentence_reply *reply, bool late);
/* Locks of others: the sentence waits for their end. */
bool server_blocked(connection *c, const sentence *s, event_kind kind, void *what);

/* server_lease.c */
/* The first `count` sentences that were not carried out will be, though the connection is lost. */
void server_carry_late(connection *c, size_t count);
void server_late(connection *c, void *what);
/* Whether there is something of a lease in what is not carried out of its flight. */
bool server_of_lease(const connection *c);
/* The connection is lost to the worker; the server notices now or later, and ends its transaction.
 */
void server_left(connection *c, bool at_once);
void server_rollback(connection *c);
/* Whether a resolve has to wait, which makes it come again; *ret_timeout: for too long. */
bool server_resolve_waits(connection *c, const sentence *s, event_kind kind, void *what,
                          bool *ret_timeout);
/* Ends sessions that are in a transaction for so long and not idle; how many. */
int64_t server_end_stuck(world *w, int64_t age_us);
/* Whether the transaction forbids the sentence. */
bool server_tx_refuses(connection *c, const sentence *s);
/* The server has nothing to do until the next flight. */
void server_waits(connection *c);
void server_event(const event *e);
/* Faults that are known by what a flight has done so far. */
void server_count_cut(connection *c);
/* Tells the listening workers. NOTICE_WORK: of the rows that were queued at this instant. */
void server_notify(world *w, const notice *n);
/* The same for what the model's latest statements brought with them. */
void server_notify_changes(world *w);

/* oracle_step.c: what was said, carried out and heard */
void oracle_executing(connection *c, const sentence *s);
void oracle_executed(connection *c, const sentence *s, const sentence_reply *r, bool late);
void oracle_sent(connection *c, const sentence *s);
void oracle_unanswered(worker *who, const sentence *s);
void oracle_handed(worker *who, const model_row *row);
void oracle_heard(connection *c, const sentence *s, const sentence_reply *r);
claim_record *oracle_claim_of(world *w, const claim_token *token);
void oracle_count_settled(world *w, const settle_item *item);
void oracle_take_off(body *b, const char *verb);
/* Its handler ended early only because its worker does. */
bool oracle_gave_up_to_stop(const body *b);
claim_record *oracle_claimed_row(world *w, const claimed_row *row);
bool oracle_stands(world *w, const claim_record *claim);

/* oracle_lease.c, oracle_lease_heard.c: leases */
claim_record *oracle_leased_claim(world *w, int64_t id, int64_t picked_us);
void oracle_lease_sent(connection *c, const sentence *s);
void oracle_leased(connection *c, const sentence *s, const sentence_reply *r, bool late);
/* Before its transaction is committed. */
void oracle_committing(connection *c, const model_tx *tx);
void oracle_rolled_back(connection *c);
void oracle_resolving(worker *who, const sentence *s);
void oracle_announced(worker *who, const sentence *s);
void oracle_resolved(worker *who, const sentence *s, const sentence_reply *r);
void oracle_lease_heard(connection *c, const sentence *s, const sentence_reply *r);
/* A settle of it went well: both kinds of folds are due. */
void oracle_to_fold(worker *who);
void oracle_lease_unanswered(connection *c);
void oracle_lease_began(const body *b);
/* Whether a claim has brought a job of which the worker has a record, since its lease was lost. */
bool oracle_spare(worker *who, claim_record *claim);
/* Whether the end of the body's lease is not answered, or it was lost and is not resolved. */
bool oracle_in_doubt(const body *b);
/* Whether the worker has a job whose lease was lost, to be resolved. */
bool oracle_has_orphan(const worker *who, int64_t id);
void oracle_lease_handed(const body *b);
/* False: the rules for picked jobs hold. */
bool oracle_lease_forgot(const body *b);
void oracle_kept(const body *b);
void oracle_check_leases(worker *who);
/* Whether the outcome of a job whose lease was lost could still be written. */
bool oracle_orphaned(world *w, const claim_record *claim);

/* oracle_outcome.c: outcomes, cancellations, timeouts */
void oracle_outcome_sent(const body *b, const settle_item *item);
void oracle_cancel_heard(worker *who, const notice *n);
void oracle_told(const body *b, job_why why);
void oracle_abandoned(const body *b);
void oracle_check_bodies(worker *who);

/* oracle_limits.c: limits, seats, rates, order; after every statement that may change them */
void oracle_check_limits(world *w);
void oracle_check_claim(connection *c, const sentence *s, const sentence_reply *r);
void oracle_check_rates(const worker *who);
void oracle_surveyed(worker *who, const engine_note *n);

/* oracle_listen.c: is the listener heard? */
void oracle_listen_hurt(worker *who, int64_t until_us);
void oracle_listen_frozen(worker *who, int64_t until_us);
void oracle_listen_noted(worker *who, const engine_note *n);
void oracle_check_listener(const worker *who);

/* oracle_time.c: who waits too long */
void oracle_check_waiting(world *w);
bool oracle_left_behind(world *w, const claim_record *claim);

/* oracle.c: memory, and the end */
void oracle_began(body *b);
void oracle_forgot(body *b);
/* The outcomes of all jobs that it has, as the worker stops and as if for good. */
/* Its outcomes so often at least. */
bool oracle_all_refused(const worker *who, int times);
void oracle_ended(worker *who, const pgq_error *error);
void oracle_ticked(worker *who);
void oracle_counted(worker *who);
void oracle_check(world *w);
void oracle_end(world *w);
/* A fault that may cost the worker time or claims touches it now and until then. */
void oracle_disturb(worker *who, int64_t until_us);
bool oracle_disturbed_since(const worker *who, int64_t since_us);

#endif
