/* The inside of the engine; docs/internals/worker.md says what each engine_*.c owns. */
#ifndef WORKER_ENGINE_INTERNAL_H
#define WORKER_ENGINE_INTERNAL_H

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
    bool drained_in_part;    /* a drain has given up, as only refused outcomes were left */
    uint64_t drain_requeues; /* engine.requeues then, and one more; 0: no drain has ended */
    uint64_t brakes;         /* how often that was found out */
    int64_t
        lease_not_before_us; /* meanwhile: a small lease that finds out whether it still is so */
    backoff brake_backoff;
    size_t orphans;
    uint64_t fences_said, fences_heard, orphan_fence;
    int64_t
        orphans_again_us; /* when the next of those that are put off has its turn; CLOCK_NEVER */
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

/* There may be due jobs that nobody has claimed, on any lane. */
static inline bool engine_hungry(const engine *e)
{
    return e->rows.hungry || e->leases.hungry;
}

/* A claim came back short: only what has been said since makes hungry again. */
static inline void engine_side_ate(engine *e, engine_side *side, uint64_t wakes_seen)
{
    side->hungry = side->entrypoints > 0 && e->wakes != wakes_seen;
    e->probe_wanted = true;
}

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

/* engine_lane.c */
void engine_connect_lane(engine *e, int index);
/* The lane is down, without a word. */
int64_t engine_patience_ends(const engine *e);
void engine_give_up_flights(engine *e, int64_t now_us);
void engine_lane_down(engine *e, int64_t now_us, int index);
/* Answers that never come, though their connections are open. */
void engine_flight_begins(engine *e, int64_t now_us, engine_lane *lane);
void engine_answered(engine *e, int64_t now_us, engine_lane *lane, sentence_kind kind);
int64_t engine_answers_deadline(const engine *e);
void engine_answers_tick(engine *e, int64_t now_us);

/* engine_job.c */
/* `lease`: the lane that has leased it, or NULL. */
void engine_job_begin(engine *e, int64_t now_us, engine_lane *lease, bool large,
                      const claimed_row *row);
/* It stays queued: its row is free when its lease ends, or already; or that is seen later, as it
 * may be picked. */
void engine_drop_leased(engine *e, engine_job *job);
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
/* The server has carried out the ping that the lane has said. */
void engine_ping_carried_out(engine *e, const engine_lane *lane);
void engine_listen_lost(engine *e, int64_t now_us, bool was_listening, const pgq_error *error);
/* When the listener becomes a suspect if what was said at `said_us`, a probe or LISTEN, has not
 * been answered. */
int64_t engine_suspect_at(const engine *e, int64_t said_us);
void engine_listen_tick(engine *e, int64_t now_us);

/* engine_share.c */
/* The leases go first: both sides are hungry. */
bool engine_leases_turn(const engine *e);
/* How many jobs the row lane may claim now, if the lane that is planned has not leased yet. */
size_t engine_room_of_rows(engine *e, int64_t now_us, const engine_lane *lane);
/* A claim of a side was said. */
void engine_took_turn(engine_side *side, engine_side *other);

/* engine_lease.c */
/* Whether the lane would lease if there were room for jobs and a thread soon. */
bool engine_could_lease(engine *e, int64_t now_us, const engine_lane *lane);
void engine_add_lease(engine *e, int64_t now_us, engine_lane *lane);
/* Adds the end of the lane's lease to its flight. False: it goes on. */
bool engine_end_lease(engine *e, int64_t now_us, engine_lane *lane);
/* When an idle lane's lease is to be looked at. */
int64_t engine_lease_deadline(const engine *e, const engine_lane *lane);
/* What is said of a job at the end of its lease: what became of it, or that it runs on. */
settle_item engine_item_of(const engine_job *job, bool ends);
void engine_lose_moving(engine *e, engine_job *job);
void engine_leave_lease(engine_job *job);
void engine_close_lease(engine *e, engine_lane *lane);

/* Outcomes of leased jobs can be written. */
void engine_release_brake(engine *e);
/* What the lane is just told of was leased before that was found to be in vain. */
bool engine_leased_in_vain(const engine *e, const engine_lane *lane);

/* engine_orphan.c */
/* Some of the orphans may be resolved before anything else is known of them. */
bool engine_resolving(const engine *e, int64_t now_us);
void engine_no_orphan(engine *e, engine_job *job);
/* The job runs on, or ended meanwhile, as a picked one. */
void engine_become_picked(engine *e, int64_t now_us, engine_lane *lane, engine_job *job);
/* The transaction is gone. `sent`: its end may have been carried out. */
void engine_lose_lease(engine *e, engine_lane *lane, bool sent);
bool engine_resolve_wanted(const engine *e, int64_t now_us);
bool engine_resolve_due(const engine *e, int64_t now_us);
void engine_add_resolve(engine *e, engine_lane *lane);
/* One group of the orphans that are put off has its turn, if it is time. */
void engine_orphans_again(engine *e, int64_t now_us);
/* A resolve was not answered, or refused; `sent`: it may have been carried out. */
void engine_unresolve(engine *e, engine_lane *lane, bool sent);
/* What was to be settled on the lane was lost with its connection. */
void engine_suspect(engine *e, engine_lane *lane);
/* An orphan that is another's, or that we have picked anew. */
void engine_orphan_lost(engine *e, engine_job *job);
void engine_orphan_picked(engine *e, int64_t now_us, engine_lane *lane, engine_job *job,
                          int64_t stamp);
void engine_hear_lease(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_hear_conclude(engine *e, int64_t now_us, engine_lane *lane,
                          const sentence_reply *reply);
void engine_hear_commit(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_hear_resolve(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
bool engine_any_lease(const engine *e);

/* engine_cursor.c */
void engine_add_cursors(engine *e, int64_t now_us, engine_lane *lane, sentence *s);
/* The claim brings nothing, or its answer will not come. */
void engine_forget_reach(engine *e, engine_lane *lane);
/* Whether a LEASE looks at what cursors have passed. */
bool engine_sweeps(const sentence *lease);
/* After engine_forget_reach. */
void engine_sweep_refused(engine *e, int64_t now_us, const engine_lane *lane, const sentence *said);
void engine_learn_cursors(engine *e, int64_t now_us, engine_lane *lane, const sentence *said,
                          const sentence_reply *reply);
bool engine_sweep_next(engine *e, int64_t now_us, const sentence *said);
/* A job lies in front of the cursors. */
void engine_want_sweep(engine *e);

/* engine_record.c */
bool engine_records_new(engine *e);
void engine_record_add(engine *e, engine_job *job);
void engine_record_remove(engine *e, engine_job *job);
/* The record of a leased job, or of an orphan; NULL: there is none of that id. */
engine_job *engine_leased_of(const engine *e, int64_t id);

/* engine_side.c */
void engine_learn_sides(engine *e);
/* Whether the lane may lease. */
bool engine_may_lease(const engine *e, const engine_lane *lane);
void engine_observe_run(engine *e, uint32_t entrypoint, bool slow);

/* engine_reply.c, for engine_lease.c */
void engine_refuse_claim(engine *e, int64_t now_us, const sentence_reply *reply);
void engine_accept_rows(engine *e, int64_t now_us, engine_lane *lane, bool leased,
                        const sentence_reply *reply);
void engine_settled(engine *e, int64_t now_us, engine_job *job);
void engine_back_unseen(engine *e);
void engine_settled_nothing(engine *e, engine_job *job);
/* Its settle is tried again in a while, alone. */
void engine_put_off(engine *e, int64_t now_us, engine_job *job);
void engine_refuse_settle(engine *e, int64_t now_us, engine_lane *lane,
                          const sentence_reply *reply);
void engine_tell_lost(engine *e, engine_job *job);

/* engine_unsettled.c */
/* The outcome of the job was refused, for good as far as one can see. */
void engine_despair(engine *e, engine_job *job, const pgq_error *error);
/* So were those of the lane's jobs, for a reason that may be gone later. */
void engine_despair_later(engine *e, int64_t now_us, engine_lane *lane, const pgq_error *error);
/* How many jobs are all that a worker still holds when nothing is left that it can settle. */
size_t engine_unsettleable(const engine *e);
/* The run ends, and leaves them. */
void engine_leave_unsettled(engine *e);

/* engine_refusal.c */
/* What is refused is one of the rows, for all that is known, and not everything. */
bool engine_refused_for_row(const sentence_reply *reply);
/* The server waited for something, as a row that somebody keeps locked, and gave it up. */
bool engine_timed_out(const sentence_reply *reply);
/* A settle was given up by the server. Said again at once it would meet the same lock: first comes
 * what else there is. */
void engine_await_lock(engine *e, int64_t now_us, engine_lane *lane, const pgq_error *error);
/* An outcome was written. */
void engine_praise(engine *e, const engine_job *job);
/* A settle of it and others was refused. */
void engine_refused_together(engine *e, engine_job *job);
/* Of several that were refused since one like them was written only one is tried again a round. */
bool engine_worth_a_try(engine *e, const engine_job *job, uint32_t round);
/* An outcome was refused alone. Whether another is to be tried in its place: the same without its
 * text, or, when it is certain to be this row that is refused, that the job has failed. */
bool engine_reword(engine *e, engine_job *job, const pgq_error *error);

/* engine_probe.c */
void engine_learn_arrivals(engine *e, size_t rows);
void engine_hear_check(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_hear_listen(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_hear_probe(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_hear_ping(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_hear_survey(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_hear_announce(engine *e, int64_t now_us, engine_lane *lane,
                          const sentence_reply *reply);
void engine_hear_end_stuck(engine *e, int64_t now_us, engine_lane *lane,
                           const sentence_reply *reply);
void engine_hear_horizon(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);

/* engine_event.c */
/* Whether the event of so many jobs that are settled now may come later, in an announcement. */
bool engine_event_later(const engine *e, size_t jobs);
/* The lane's lease was committed, or that is not known. */
void engine_done_untold(engine *e, engine_lane *lane);
/* Somebody has said that jobs are done. */
void engine_done_told(engine *e, int64_t now_us);
int64_t engine_tell_deadline(const engine *e);
void engine_add_tell(engine *e, int64_t now_us, engine_lane *lane); /* if it is time */

/* engine_pace.c */

/* A settle of so many leased jobs was answered. */
void engine_pace_settled(engine *e, int64_t now_us, size_t jobs, int64_t took_us);
/* The lane may not lease now. */
bool engine_pace_rests(engine *e, int64_t now_us, const engine_lane *lane);

/* engine_fold.c */
void engine_fold_init(engine *e);
void engine_fold_begin(engine *e, int64_t now_us);
void engine_fold_wanted(engine *e); /* something was settled */
/* A fold may take a second, so it goes alone: it is added to an empty flight, if one is due. */
bool engine_fold_due(const engine *e, int64_t now_us);
void engine_add_fold(engine *e, int64_t now_us, engine_lane *lane);
bool engine_folds(const engine_lane *lane); /* it is in the flight */
/* The last one of a worker that ends: nobody else may be left who would fold its counts. Once. */
bool engine_add_last_fold(engine *e, engine_lane *lane);
void engine_hear_fold(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_fold_lost(engine *e, int64_t now_us, const sentence *said);
int64_t engine_fold_deadline(const engine *e);

/* engine_plan.c */
/* The sentences that are not answered, of all lanes that claim; of a lane that does not fly, what
 * its next flight has so far. Begin with all zeroes; NULL: that was the last one. */
typedef struct engine_said {
    int lane;
    size_t place;
} engine_said;
const sentence *engine_next_said(const engine *e, engine_said *at);
bool engine_any_said(const engine *e, sentence_kind kind);

/* engine_claim.c */
/* What the payloads of picked jobs are like. */
void engine_learn_rows(engine *e, const sentence_reply *reply);
size_t engine_room(engine *e);
/* Claims, adoptions and, if asked, leases that are under way, as the jobs they may bring. */
size_t engine_outstanding(const engine *e, bool leases);
size_t engine_free_threads(const engine *e);
void engine_add_claim(engine *e, int64_t now_us, engine_lane *lane);
void engine_add_adopt(engine *e, int64_t now_us, engine_lane *lane);
void engine_refund(engine *e, engine_lane *lane, const sentence_reply *reply, int64_t now_us);
void engine_add_ghost(engine *e, int64_t now_us, int64_t backend, int32_t batch);

/* engine_plan.c */
void engine_plan(engine *e, int64_t now_us);
sentence *engine_add_sentence(engine_lane *lane, sentence_kind kind);

#endif
