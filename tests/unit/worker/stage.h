/* What the engine's tests share: a stage on which an engine plays, with a clock that only they set,
 * and a database that answers as they say. */
#ifndef TESTS_STAGE_H
#define TESTS_STAGE_H

#include "unit.h"

#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "pg/sqlstate.h"
#include "worker/engine.h"

enum {
    LANES = 4, /* with the control lane */
    THREADS = 4,
    BATCH = 10,
    MS = 1000,
    SECOND = 1000 * MS,
    LEASED = 0, /* the entrypoints */
    PICKED = 1,
    JOBS_MAX = 4096,
    LATE_MAX = 256
};

typedef struct stage {
    engine *e;
    int64_t now_us, last_id;
    const engine_flight *flights[LANES];
    size_t heard[LANES];
    int turn;
    struct {
        void *job;
        int64_t id;
    } started[JOBS_MAX];
    size_t started_count;
    size_t said[SENTENCE_HORIZON + 1];
    size_t all_started;
    size_t stale_looks, row_claims, sweeps, whole_sweeps, cursor_claims, leases, connects;
    int64_t held; /* a leased job that does not end; 0: the next one; -1: none */
    bool finished;
    pgq_error end;
    /* how the database answers */
    size_t lease_rows, claim_rows; /* at most */
    size_t stock;                  /* likewise, of all leases; SIZE_MAX: without an end */
    int64_t sweep_us;              /* what one takes longer than another claim */
    uint32_t picked;               /* the entrypoint of the row lane */
    bool large, deaf, front;
    bool lost;               /* the jobs of a lost lease are another's */
    bool refuses;            /* to resolve them */
    bool unwritable;         /* no outcome can be written, and nobody's lease ends */
    int64_t poison_id;       /* likewise of this job alone; 0: of none */
    size_t release_refusals; /* so many releases are refused for a moment */
    bool revokes;            /* what the pool was given has not started when it is revoked */
    int64_t next_behind;     /* where the next claim that is said begins, if this is -1 */
    size_t urgent;           /* of the jobs of the next lease, so many are of a higher priority */
    int32_t lease_priority, claim_priority; /* of all other jobs */
    size_t urgent_each; /* of so many leases one brings such a job; 0: none does */
    size_t late_rows;   /* that a late claim finds */
    int64_t others;     /* take so many ids between two of our leases */
    int64_t settle_us;  /* what the end of a lease takes */
    int64_t claim_wait_us, sweep_wait_us; /* so long a lease of that kind is not answered */
    bool sweeps_refused;                  /* by a timeout of the role */
    bool no_control;                      /* the control lane cannot connect again */
    int64_t beat_us;                      /* when the last beat was said */
    int64_t flown_us[LANES];
    size_t leases_alive, leases_dead; /* whose jobs could and could not start when they came */
    bool failed;                      /* the transaction whose end is being answered */
    bool broken_one;                  /* no outcome of this entrypoint can be written, */
    uint32_t broken_entrypoint;
    bool text_refused;  /* or none with a text of its own */
    int64_t unlucky_id; /* not that it was successful */
    int64_t locked_id;  /* somebody keeps its row locked */
    size_t resolved;
    size_t exceptions; /* that were written */
    struct {
        int64_t up_to, last_id; /* and how far we were then */
    } late[LATE_MAX];           /* claims */
    size_t late_count;
} stage;

static const engine_entrypoint entrypoints[] = {
    [LEASED] = {.silence_us = 30 * SECOND, .lane = PGQ_LANE_LEASE},
    [PICKED] = {.silence_us = 30 * SECOND, .lane = PGQ_LANE_ROW},
};

/* Whether it looks at what cursors have passed. */
static inline bool sweeps(const sentence *said)
{
    return said->kind == SENTENCE_LEASE && (said->of.lease.cursors == NULL || said->of.lease.late);
}

/* Behind which id the claim looks for jobs of priority 0. */
static inline int64_t begins_behind(const sentence *claim)
{
    for (size_t i = 0; i < claim->of.lease.cursor_count; i++) {
        if (claim->of.lease.cursors[i].priority == 0)
            return claim->of.lease.cursors[i].id;
    }
    return -1;
}

static inline void note_said(stage *s, const sentence *said)
{
    s->said[said->kind]++;
    if (said->kind == SENTENCE_BEAT)
        s->beat_us = s->now_us;
    if (said->kind == SENTENCE_CLAIM) {
        s->stale_looks += said->of.claim.known != NULL;
        s->row_claims += said->of.claim.ids == NULL;
    }
    if (said->kind != SENTENCE_LEASE)
        return;
    s->sweeps += sweeps(said);
    s->whole_sweeps += sweeps(said) && said->of.lease.cursors == NULL;
    s->cursor_claims += !sweeps(said);
    if (said->of.lease.late && s->late_count < LATE_MAX) {
        s->late[s->late_count].up_to = begins_behind(said);
        s->late[s->late_count++].last_id = s->last_id;
    }
    if (s->next_behind < 0)
        s->next_behind = begins_behind(said);
}

static inline void revoke(stage *s, void *job)
{
    for (size_t i = 0; i < s->started_count; i++) {
        if (s->started[i].job != job)
            continue;
        s->started[i] = s->started[--s->started_count];
        engine_revoked(s->e, s->now_us, job);
        return;
    }
}

static inline void carry_out(stage *s)
{
    engine_action action;

    while (engine_next(s->e, &action)) {
        if (action.kind == ACTION_CONNECT && action.lane == 0 && s->no_control)
            continue;
        if (action.kind == ACTION_CONNECT) {
            s->connects++;
            engine_lane_ready(s->e, s->now_us, action.lane, 100 + action.lane);
        } else if (action.kind == ACTION_FLY) {
            s->flights[action.lane] = action.flight;
            s->heard[action.lane] = 0;
            s->flown_us[action.lane] = s->now_us;
            for (size_t i = 0; i < action.flight->count; i++)
                note_said(s, &action.flight->sentences[i]);
        } else if (action.kind == ACTION_START) {
            assert_true(s->started_count < JOBS_MAX);
            s->all_started++;
            s->started[s->started_count].id = (intptr_t)action.body;
            s->started[s->started_count++].job = action.job;
        } else if (action.kind == ACTION_REVOKE && s->revokes) {
            revoke(s, action.job);
        } else if (action.kind == ACTION_FENCE) {
            engine_fenced(s->e, s->now_us);
        } else if (action.kind == ACTION_FINISH) {
            s->finished = true;
            s->end = *action.note.error;
        }
    }
}

static inline void open_stage_of(stage *s, const engine_entrypoint *first, size_t count,
                                 int64_t lease_us, bool drain)
{
    engine_config config = {
        .lanes = LANES - 1,
        .threads = THREADS,
        .batch_size = BATCH,
        .dequeue_timeout_us = 30 * SECOND,
        .heartbeat_timeout_us = 30 * SECOND,
        .probe_interval_us = 10 * SECOND,
        .probe_timeout_us = 5 * SECOND,
        .lease_us = lease_us,
        .drain = drain,
        .entrypoints = first,
        .entrypoint_count = count,
    };

    *s = (stage){.now_us = SECOND, .stock = SIZE_MAX, .held = -1, .picked = (uint32_t)(count - 1)};
    assert_int_equal(engine_new(&config, &s->e), PGQ_OK);
    engine_start(s->e, s->now_us);
    carry_out(s);
}

static inline void open_stage(stage *s, size_t entrypoint_count, int64_t lease_us)
{
    open_stage_of(s, entrypoints, entrypoint_count, lease_us, false);
}

static inline void close_stage(stage *s)
{
    s->e = engine_free(s->e);
}

/* Those of leases are odd where there are others, too. */
static inline int64_t make_id(stage *s, bool lease)
{
    s->last_id++;
    return s->picked == LEASED ? s->last_id : 2 * s->last_id + lease;
}

/* The first jobs, once more. */
static inline size_t make_late_rows(const stage *s, claimed_row *rows)
{
    for (size_t i = 0; i < s->late_rows; i++) {
        int64_t id = (int64_t)i + 1;

        rows[i] = (claimed_row){.token = {id, s->now_us}, .body = (void *)(intptr_t)id};
    }
    return s->late_rows;
}

/* New jobs. Their bodies are numbers. */
static inline size_t make_rows(stage *s, const sentence *said, claimed_row *rows)
{
    bool lease = said->kind == SENTENCE_LEASE, ids = !lease && said->of.claim.ids != NULL;
    size_t wanted = (size_t)(lease ? said->of.lease.batch : said->of.claim.batch);
    size_t most = lease ? s->lease_rows : s->claim_rows;
    bool fresh = lease || ids || said->of.claim.shares == NULL;

    for (size_t i = 0; !fresh && i < said->of.claim.share_count; i++)
        fresh |= said->of.claim.shares[i].most > 0;
    if (!fresh)
        return 0;
    if (!ids && wanted > most)
        wanted = most;
    if (lease && said->of.lease.late)
        return make_late_rows(s, rows);
    if (lease) {
        wanted = base_min_size(wanted, s->stock);
        s->stock -= s->stock < SIZE_MAX ? wanted : 0;
        s->last_id += s->others;
    }
    for (size_t i = 0; i < wanted; i++) {
        int64_t id = ids ? said->of.claim.ids[i] : make_id(s, lease);
        bool large = lease && s->large;

        rows[i] = (claimed_row){
            .token = {id, id},
            .entrypoint = lease || ids ? LEASED : s->picked,
            .priority = lease ? s->lease_priority + (i < s->urgent) : s->claim_priority,
            .body = large ? NULL : (void *)(intptr_t)id,
            .large = large,
        };
    }
    if (lease)
        s->urgent = s->urgent_each > 0 && ++s->leases % s->urgent_each == 0;
    return wanted;
}

/* The lane's next words are answered later. */
static inline bool waits(const stage *s, int lane)
{
    const sentence *said = &s->flights[lane]->sentences[s->heard[lane]];

    return said->kind == SENTENCE_LEASE &&
           s->now_us < s->flown_us[lane] + (sweeps(said) ? s->sweep_wait_us : s->claim_wait_us);
}

static inline void count_lease(stage *s, int lane, const sentence *said)
{
    static const engine_config config = {.lease_us = 250 * MS};

    if (engine_lease_until(&config, said, s->flown_us[lane], s->now_us) > s->now_us)
        s->leases_alive++;
    else
        s->leases_dead++;
}

static inline bool writes(const sentence *said)
{
    return said->kind == SENTENCE_SETTLE || said->kind == SENTENCE_CONCLUDE ||
           said->kind == SENTENCE_RESOLVE;
}

static inline void refuse_as(sentence_reply *reply, sqlstate_class class, pgq_code code)
{
    reply->refused = true;
    reply->class = class;
    (void)error_set(&reply->error, code, "no such partition");
}

static inline void refuse_item(const stage *s, const sentence *said, const settle_item *item,
                               sentence_reply *reply)
{
    int64_t id = item->token.id;

    if ((s->poison_id != 0 && id == s->poison_id) ||
        (s->broken_one && item->entrypoint == s->broken_entrypoint) ||
        (s->text_refused && item->text != NULL && item->own_type == NULL) ||
        (id == s->unlucky_id && item->status == PGQ_STATUS_SUCCESSFUL))
        refuse_as(reply, SQLSTATE_OTHER, PGQ_E_DATABASE); /* by a trigger */
    else if (id == s->locked_id && said->kind != SENTENCE_CONCLUDE && !reply->refused)
        refuse_as(reply, SQLSTATE_TRANSIENT, PGQ_E_TIMEOUT);
}

/* Whether the sentence is refused, and as what. */
static inline void refuse(stage *s, const sentence *said, sentence_reply *reply)
{
    bool release = said->kind == SENTENCE_RELEASE && s->release_refusals > 0;

    s->release_refusals -= release;
    if (release || (said->kind == SENTENCE_RESOLVE && s->refuses) ||
        (sweeps(said) && s->sweeps_refused))
        refuse_as(reply, SQLSTATE_TRANSIENT, PGQ_E_DATABASE);
    else if (s->unwritable && writes(said))
        refuse_as(reply, SQLSTATE_DATA, PGQ_E_DATABASE);
    for (size_t i = 0; writes(said) && i < said->of.settle.count; i++)
        refuse_item(s, said, &said->of.settle.items[i], reply);
    if (said->kind == SENTENCE_COMMIT && s->failed)
        reply->refused = true;
    if (said->kind == SENTENCE_CONCLUDE || said->kind == SENTENCE_COMMIT)
        s->failed = said->kind == SENTENCE_CONCLUDE && reply->refused;
}

static inline void count_written(stage *s, const sentence *said)
{
    if (said->kind == SENTENCE_RESOLVE)
        s->resolved += said->of.settle.count;
    for (size_t i = 0; writes(said) && i < said->of.settle.count; i++)
        s->exceptions += said->of.settle.items[i].status == PGQ_STATUS_EXCEPTION;
}

/* Answers all that the lane has said, as a database that refuses nothing but what it is told to. */
static inline void answer(stage *s, int lane)
{
    size_t left = s->flights[lane] != NULL ? s->flights[lane]->count - s->heard[lane] : 0;

    while (left-- > 0 && !waits(s, lane)) {
        const sentence *said = &s->flights[lane]->sentences[s->heard[lane]++];
        sentence_reply reply = {.next_due_us = CLOCK_NEVER, .next_stale_us = CLOCK_NEVER};
        claimed_row rows[BATCH];
        uint32_t places[ENGINE_SETTLE_MAX];
        int64_t stamps[ENGINE_SETTLE_MAX];

        if (said->kind == SENTENCE_LEASE)
            count_lease(s, lane, said);
        if (sweeps(said))
            s->now_us += s->sweep_us;
        if (said->kind == SENTENCE_CONCLUDE)
            s->now_us += s->settle_us;
        reply.front = said->kind == SENTENCE_CHECK && s->front;
        reply.front_id = reply.front ? 5000 : 0;
        reply.rows = rows;
        reply.places = places;
        reply.stamps = stamps;
        refuse(s, said, &reply);
        if (!reply.refused)
            count_written(s, said);
        if (said->kind == SENTENCE_LEASE || said->kind == SENTENCE_CLAIM)
            reply.row_count = make_rows(s, said, rows);
        if (!reply.refused && writes(said) && (said->kind != SENTENCE_RESOLVE || !s->lost)) {
            for (size_t i = 0; i < said->of.settle.count; i++) {
                if (said->kind == SENTENCE_CONCLUDE &&
                    said->of.settle.items[i].status != PGQ_STATUS_PICKED)
                    continue;
                stamps[reply.place_count] = s->now_us;
                places[reply.place_count++] = (uint32_t)i;
            }
        }
        if (left == 0)
            s->flights[lane] = NULL;
        if (said->kind == SENTENCE_PING && !s->deaf)
            engine_heard(s->e, s->now_us);
        engine_reply(s->e, s->now_us, lane, &reply);
        carry_out(s);
    }
}

static inline void end_jobs(stage *s)
{
    engine_outcome outcome = {.status = PGQ_STATUS_SUCCESSFUL, .run_us = 100};
    size_t kept = 0, count = s->started_count;

    for (size_t i = 0; i < count; i++) {
        if (s->held == 0 && s->started[i].id % 2 == 1)
            s->held = s->started[i].id;
        if (s->started[i].id == s->held)
            s->started[kept++] = s->started[i];
        else
            engine_outcome_of(s->e, s->now_us, s->started[i].job, &outcome);
    }
    s->started_count = kept;
    carry_out(s);
}

static inline void pass(stage *s, int64_t us)
{
    s->now_us += us;
    if (s->now_us >= engine_deadline(s->e)) {
        engine_tick(s->e, s->now_us);
        carry_out(s);
    }
}

/* Everything is answered in turn, each lane's words a while after the other's. */
static inline void work(stage *s, int64_t for_us, int64_t step_us)
{
    int64_t end_us = s->now_us + for_us;

    while (s->now_us < end_us) {
        s->turn = (s->turn + 1) % LANES;
        answer(s, 0);
        answer(s, s->turn);
        end_jobs(s);
        pass(s, step_us);
    }
}

/* Each lane for itself. */
static inline void work_apart(stage *s, int64_t for_us)
{
    int64_t end_us = s->now_us + for_us;

    while (s->now_us < end_us) {
        for (int lane = 0; lane < LANES; lane++)
            answer(s, lane);
        end_jobs(s);
        pass(s, MS);
    }
}

/* What the lane has said of that kind and has no answer to; NULL: nothing. */
static inline const sentence *said_by(const stage *s, int lane, sentence_kind kind)
{
    const engine_flight *flight = s->flights[lane];

    for (size_t i = 0; flight != NULL && i < flight->count; i++) {
        if (flight->sentences[i].kind == kind)
            return &flight->sentences[i];
    }
    return NULL;
}

#endif
