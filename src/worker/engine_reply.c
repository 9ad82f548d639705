/* What an answer about jobs means. */
#include "worker/engine_internal.h"

#include <assert.h>

/* A stopping worker says a release again so often: for about a quarter of a minute. */
enum { RELEASES_MAX = 8 };

void engine_refuse_claim(engine *e, int64_t now_us, const sentence_reply *reply)
{
    if (reply->class == SQLSTATE_CONTENDED) {
        /* as good as an empty one: somebody else has taken the seat a moment ago */
        e->claim_not_before_us = now_us + backoff_next(&e->contention_backoff, &e->random);
        return;
    }
    if (reply->class == SQLSTATE_TRANSIENT) {
        e->claim_not_before_us = now_us + backoff_next(&e->refusal_backoff, &e->random);
        engine_say(e, NOTE_CLAIM_REFUSED, -1, 0, (e->claim_not_before_us - now_us) / 1000,
                   &reply->error);
        return;
    }
    engine_fail(e, now_us, &reply->error);
}

static void drop_body(engine *e, const claimed_row *row)
{
    if (row->body != NULL)
        engine_act(e, ACTION_FORGET)->body = row->body;
}

/* A claim has brought a job of which we have a record, as it was when we leased it: that lease was
 * lost, whether its lane knows or not. As a picked job it is ours again; leased once more it stays
 * locked until that lease ends, and its resolve waits. False: the row is to be begun, since the
 * record's outcome was written, or somebody has tried the job meanwhile. */
static bool take_back(engine *e, int64_t now_us, engine_lane *lane, bool leased,
                      const claimed_row *row)
{
    engine_job *job = engine_leased_of(e, row->token.id);
    bool same = job != NULL && job->attempts == row->attempts &&
                (!leased || job->token.updated == row->token.updated);

    if (job == NULL)
        return false;
    if (!same && !leased && job->orphan)
        engine_orphan_lost(e, job);
    if (!same)
        return false;
    drop_body(e, row);
    if (job->lease != NULL)
        engine_lose_lease(e, job->lease, job->lease->lease.ending);
    if (!leased)
        engine_orphan_picked(e, now_us, lane, job, row->token.updated);
    return true;
}

void engine_accept_rows(engine *e, int64_t now_us, engine_lane *lane, bool leased,
                        const sentence_reply *reply)
{
    const sentence *said = &lane->flight.sentences[lane->answered - 1];
    bool large = said->kind == SENTENCE_CLAIM && said->of.claim.ids != NULL;

    assert(reply->row_count <= e->jobs[JOB_FREE].count);
    backoff_reset(&e->refusal_backoff);
    backoff_reset(&e->contention_backoff);
    e->claim_not_before_us = 0;
    for (size_t i = 0; i < reply->row_count; i++) {
        const claimed_row *row = &reply->rows[i];

        if (row->large)
            continue;
        if (!take_back(e, now_us, lane, leased, row))
            engine_job_begin(e, now_us, leased ? lane : NULL, large, row);
    }
}

static void hear_claim(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    const sentence *said = &lane->flight.sentences[lane->answered - 1];
    size_t wanted = (size_t)said->of.claim.batch;

    engine_refund(e, lane, reply, now_us);
    if (reply->refused) {
        engine_refuse_claim(e, now_us, reply);
        return;
    }
    engine_accept_rows(e, now_us, lane, false, reply);
    if (reply->row_count > 0 || e->rows.entrypoints > 0)
        engine_learn_arrivals(e, reply->row_count);
    engine_learn_rows(e, reply);
    if (said->of.claim.ids != NULL)
        return;
    e->rows.backlog = reply->row_count >= wanted;
    if (said->of.claim.known != NULL && e->rows.backlog)
        e->stale_look_at_us = now_us; /* a silent worker may have left more than one claim brings */
    if (reply->row_count > 0)
        e->look_again_us = 0;
    if (e->rows.backlog) {
        e->rows.priority = reply->rows[reply->row_count - 1].priority;
        return;
    }
    engine_side_ate(e, &e->rows, lane->wakes_seen);
    e->stale_hungry = e->wakes != lane->wakes_seen;
    e->slot_wanted = e->limited;
}

/* The ghosts that the reply does not name are gone; what they have done shows the next look. */
static bool bury_ghosts(engine *e, int64_t now_us, const sentence *said,
                        const sentence_reply *reply)
{
    size_t kept = 0;
    bool gone = false;

    for (size_t i = 0; i < e->ghost_count; i++) {
        bool asked = false, lives = false;

        for (size_t k = 0; k < said->of.adopt.ghost_count; k++)
            asked |= said->of.adopt.ghosts[k] == e->ghosts[i].backend;
        for (size_t k = 0; k < reply->place_count; k++)
            lives |= said->of.adopt.ghosts[reply->places[k]] == e->ghosts[i].backend;
        if ((lives || !asked) && now_us < e->ghosts[i].until_us)
            e->ghosts[kept++] = e->ghosts[i];
        else
            gone = true;
    }
    e->ghost_count = kept;
    return gone;
}

/* A stopping worker that may not do it leaves the jobs to their heartbeat timeout. */
static void refuse_adopt(engine *e, int64_t now_us, const sentence_reply *reply)
{
    bool for_good = reply->class != SQLSTATE_TRANSIENT && reply->class != SQLSTATE_CONTENDED;

    if (for_good && e->state == ENGINE_STOPPING) {
        e->ghost_count = 0;
        engine_say(e, NOTE_STATEMENT_REFUSED, -1, 0, 0, &reply->error);
        return;
    }
    e->adopt_wanted = true;
    e->adopt_at_us = 0;
    engine_refuse_claim(e, now_us, reply);
}

static void hear_adopt(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    const sentence *said = &lane->flight.sentences[lane->answered - 1];

    if (reply->refused) {
        refuse_adopt(e, now_us, reply);
        return;
    }
    engine_accept_rows(e, now_us, lane, false, reply);
    if (reply->row_count > 0)
        engine_say(e, NOTE_CLAIM_ADOPTED, -1, 0, (int64_t)reply->row_count, NULL);
    if (bury_ghosts(e, now_us, said, reply) || reply->row_count >= (size_t)said->of.adopt.batch) {
        e->adopt_wanted = true;
        e->adopt_at_us = 0;
    } else if (e->ghost_count > 0) {
        e->adopt_wanted = true;
        e->adopt_at_us = now_us + backoff_next(&e->ghost_backoff, &e->random);
    }
}

/* A job may have gone back to the queue, and a claim of ours that was lost with the reply may have
 * taken it again: an adoption in the meantime passed it over, since its id was known. */
void engine_back_unseen(engine *e)
{
    e->adopt_wanted = true;
    e->adopt_at_us = 0;
    engine_wake(e);
}

/* The claim had gone, or the settle had been carried out before its reply was lost. */
void engine_settled_nothing(engine *e, engine_job *job)
{
    if (!job->uncertain)
        engine_lost_claim(e, job);
    else if (job->outcome.status == PGQ_STATUS_QUEUED)
        engine_back_unseen(e);
    engine_forget(e, job);
}

/* Puts the jobs of a refused settle back, in their order, at the front of those that wait. */
static void unsettle(engine *e, engine_lane *lane, uint32_t first_group, uint32_t second_group)
{
    list *finished = &e->jobs[lane->jobs[0]->orphan ? JOB_DONE : JOB_FINISHED];
    size_t waiting = finished->count, half = (lane->job_count + 1) / 2;

    for (size_t i = 0; i < lane->job_count; i++) {
        lane->jobs[i]->group = i < half ? first_group : second_group;
        engine_finish_again(e, lane->jobs[i]);
    }
    for (size_t i = 0; i < waiting; i++) {
        list_link *link = list_pop(finished);

        list_append(finished, link);
    }
}

void engine_put_off(engine *e, int64_t now_us, engine_job *job)
{
    job->group = ++e->groups;
    engine_move(e, job, JOB_REFUSED);
    if (e->refused_again_us == CLOCK_NEVER)
        e->refused_again_us = now_us + backoff_next(&e->bad_row_backoff, &e->random);
}

/* It is tried again, but holds up nobody. */
static void bad_row(engine *e, int64_t now_us, engine_job *job, const pgq_error *error)
{
    if (job->orphan) { /* as it is, every worker in turn would lease it, run it and be refused */
        job->refused = true;
        job->group = ++e->groups;
        engine_finish_again(e, job);
        return;
    }
    engine_put_off(e, now_us, job);
    engine_despair(e, job, error);
    engine_say(e, NOTE_SETTLE_FAILED, -1, job->token.id, 1, error);
}

/* One bad row never blocks its batch: the batch is halved until the bad row is alone. */
void engine_refuse_settle(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    engine_job *only = lane->jobs[0];
    bool again = !engine_refused_for_row(reply);

    if (engine_timed_out(reply)) {
        engine_await_lock(e, now_us, lane, &reply->error);
        return;
    }
    if (!again && lane->job_count > 1) {
        for (size_t i = 0; i < lane->job_count; i++)
            engine_refused_together(e, lane->jobs[i]);
        e->groups += 2;
        unsettle(e, lane, e->groups - 1, e->groups);
        return;
    }
    if (!again && !only->orphan && engine_reword(e, only, &reply->error)) {
        unsettle(e, lane, only->group, only->group);
        return;
    }
    if (!again) {
        bad_row(e, now_us, only, &reply->error);
        return;
    }
    unsettle(e, lane, only->group, only->group);
    engine_despair_later(e, now_us, lane, &reply->error);
    e->settle_not_before_us = now_us + backoff_next(&e->refusal_backoff, &e->random);
    engine_say(e, NOTE_SETTLE_FAILED, -1, 0, (int64_t)lane->job_count, &reply->error);
}

/* A job that went back to the queue is due again when its delay has passed; nothing will say so. */
static void expect_retry(engine *e, int64_t now_us, const engine_job *job)
{
    e->queue_empty = false;
    e->requeues++;
    engine_want_sweep(e);
    if (job->outcome.delay_ms == 0)
        engine_wake(e);
    else
        e->poll_at_us = base_min_i64(e->poll_at_us, now_us + job->outcome.delay_ms * 1000);
}

/* The outcome is written. */
void engine_settled(engine *e, int64_t now_us, engine_job *job)
{
    e->counts.settled_us = now_us;
    engine_praise(e, job);
    if (job->outcome.status == PGQ_STATUS_QUEUED)
        expect_retry(e, now_us, job);
    engine_forget(e, job);
}

static void hear_settle(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    size_t next = 0;

    if (reply->refused) {
        engine_refuse_settle(e, now_us, lane, reply);
        lane->job_count = 0;
        return;
    }
    backoff_reset(&e->refusal_backoff);
    e->unwritten_since_us = CLOCK_NEVER;
    if (lane->job_count > 0)
        engine_fold_wanted(e);
    for (size_t place = 0; place < lane->job_count; place++) {
        bool written = next < reply->place_count && reply->places[next] == place;

        if (written) {
            next++;
            engine_settled(e, now_us, lane->jobs[place]);
        } else {
            engine_settled_nothing(e, lane->jobs[place]);
        }
    }
    lane->job_count = 0;
}

/* They are given back a little later: what has to wait for its heartbeat timeout waits long, and
 * keeps its seat. */
static bool release_again(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    if (!reply->refused || reply->class != SQLSTATE_TRANSIENT)
        return false;
    if (e->state == ENGINE_STOPPING && ++e->releases_refused >= RELEASES_MAX)
        return false;
    e->release_not_before_us = now_us + backoff_next(&e->release_backoff, &e->random);
    for (size_t place = 0; place < lane->job_count; place++)
        engine_give_back(e, now_us, lane->jobs[place]);
    lane->job_count = 0;
    return true;
}

static void hear_release(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    if (reply->refused) {
        engine_say(e, NOTE_STATEMENT_REFUSED, -1, 0, (int64_t)lane->job_count, &reply->error);
        e->claim_not_before_us = now_us + backoff_next(&e->refusal_backoff, &e->random);
    }
    if (release_again(e, now_us, lane, reply))
        return;
    if (!reply->refused) {
        backoff_reset(&e->release_backoff);
        e->releases_refused = 0;
    }
    if (lane->job_count > 0)
        engine_wake(e);
    for (size_t place = 0; place < lane->job_count; place++) {
        /* a release that is refused for good leaves the job to its heartbeat timeout */
        e->counts.released += !reply->refused;
        if (lane->jobs[place]->uncertain)
            engine_back_unseen(e);
        engine_forget(e, lane->jobs[place]);
    }
    lane->job_count = 0;
}

/* It may still wait for a thread, or rest, and must not start. */
void engine_tell_lost(engine *e, engine_job *job)
{
    engine_action *action;

    if (job->place == PLACE_RESTING || job->dropped) {
        engine_forget(e, job);
        return;
    }
    action = engine_act(e, ACTION_TELL);
    action->body = job->body;
    action->why = WHY_LOST;
    if (job->place == PLACE_POOL)
        engine_revoke(e, job);
}

/* A beat that found the claim gone. Between its saying and its answer the job may have been
 * settled, or its record may serve another job: only a claim that still waits here can be lost. */
static void hear_beat(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    if (reply->refused) {
        engine_say(e, NOTE_STATEMENT_REFUSED, -1, 0, (int64_t)lane->beat_count, &reply->error);
        /* the next regular one would be too late */
        e->beat_at_us = base_min_i64(e->beat_at_us, now_us + e->silence_us / 8);
    }
    e->beat_again_us = CLOCK_NEVER;
    for (size_t i = 0; !reply->refused && i < reply->place_count; i++) {
        size_t place = reply->places[i];
        engine_job *job = lane->beat_jobs[place];
        bool same = job->token.id == lane->beat_tokens[place].id &&
                    job->token.updated == lane->beat_tokens[place].updated;

        if (!same || job->lost)
            continue;
        if (job->state == JOB_HANDED) {
            job->lost = true;
            engine_lost_claim(e, job);
            engine_tell_lost(e, job);
        } else if (job->state == JOB_FINISHED || job->state == JOB_REFUSED ||
                   job->state == JOB_GIVEN) {
            engine_settled_nothing(e, job);
        }
    }
    lane->beat_count = 0;
}

static void (*const hearers[])(engine *e, int64_t now_us, engine_lane *lane,
                               const sentence_reply *reply) = {
    [SENTENCE_CHECK] = engine_hear_check,
    [SENTENCE_LISTEN] = engine_hear_listen,
    [SENTENCE_CLAIM] = hear_claim,
    [SENTENCE_SETTLE] = hear_settle,
    [SENTENCE_BEAT] = hear_beat,
    [SENTENCE_RELEASE] = hear_release,
    [SENTENCE_PROBE] = engine_hear_probe,
    [SENTENCE_ADOPT] = hear_adopt,
    [SENTENCE_PING] = engine_hear_ping,
    [SENTENCE_SURVEY] = engine_hear_survey,
    [SENTENCE_AGGREGATE] = engine_hear_fold,
    [SENTENCE_LEASE] = engine_hear_lease,
    [SENTENCE_CONCLUDE] = engine_hear_conclude,
    [SENTENCE_COMMIT] = engine_hear_commit,
    [SENTENCE_RESOLVE] = engine_hear_resolve,
    [SENTENCE_ANNOUNCE] = engine_hear_announce,
    [SENTENCE_END_STUCK] = engine_hear_end_stuck,
    [SENTENCE_HORIZON] = engine_hear_horizon,
};

void engine_reply(engine *e, int64_t now_us, int index, const sentence_reply *reply)
{
    engine_lane *lane = &e->lanes[index];
    sentence_kind kind;

    if (e->state == ENGINE_FINISHED)
        return;
    assert(lane->state == LANE_FLYING && lane->answered < lane->flight.count);
    if (reply->refused && reply->class == SQLSTATE_CONNECTION) {
        /* the session is of no use, though its socket lives */
        engine_act(e, ACTION_CLOSE)->lane = index;
        engine_lane_lost(e, now_us, index, &reply->error);
        return;
    }
    kind = lane->flight.sentences[lane->answered++].kind;
    hearers[kind](e, now_us, lane, reply);
    engine_answered(e, now_us, lane, kind);
    if (e->state != ENGINE_FINISHED && lane->answered == lane->flight.count) {
        lane->flight.count = lane->answered = 0;
        engine_lane_set(e, lane, LANE_IDLE);
    }
    engine_plan(e, now_us);
}
