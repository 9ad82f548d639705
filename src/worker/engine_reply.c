/* What an answer means. */
#include "worker/engine_internal.h"
#include "base/error.h"

#include <assert.h>
#include <stdio.h>

enum {
    LOOK_AGAIN_FIRST_US = 250 * 1000, /* while due rows are locked by others */
    LOOK_AGAIN_MAX_US = 1000 * 1000
};

static void hear_check(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    (void)lane;
    if (reply->refused) {
        engine_fail(e, now_us, &reply->error);
        return;
    }
    e->checked = true;
    for (int i = 1; i < e->lane_count; i++) {
        engine_lane_set(e, &e->lanes[i], LANE_CONNECTING);
        engine_act(e, ACTION_CONNECT)->lane = i;
    }
}

static void hear_listen(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    if (reply->refused && e->state == ENGINE_STARTING) {
        engine_fail(e, now_us, &reply->error);
        return;
    }
    if (reply->refused) {
        engine_say(e, NOTE_STATEMENT_REFUSED, 0, 0, 0, &reply->error);
        lane->listening = true; /* that is: not now */
        e->deaf = true;
        return;
    }
    lane->listening = true;
    e->deaf = false;
    if (e->state == ENGINE_STARTING) {
        e->state = ENGINE_RUNNING;
        e->stale_look_at_us = now_us;
        e->beat_at_us = now_us + e->config.heartbeat_timeout_us / 2;
        engine_say(e, NOTE_LISTENING, 0, 0, 0, NULL);
    }
    engine_wake(e);
}

static void accept_row(engine *e, const claimed_row *row)
{
    engine_job *job = LIST_ENTRY(e->jobs[JOB_FREE].first, engine_job, link);
    engine_action *action;

    job->token = row->token;
    job->attempts = row->attempts;
    job->entrypoint = row->entrypoint;
    job->body = row->body;
    job->outcome = (engine_outcome){.status = PGQ_STATUS_QUEUED};
    job->group = 0;
    job->lost = job->uncertain = false;
    job->refused_text[0] = '\0';
    e->counts.claimed++;
    if (row->body == NULL || e->state != ENGINE_RUNNING) {
        engine_move(e, job, JOB_GIVEN); /* no memory for it, or no time any more */
        return;
    }
    engine_move(e, job, JOB_HANDED);
    action = engine_act(e, ACTION_START);
    action->body = row->body;
    action->job = job;
}

static void refuse_claim(engine *e, int64_t now_us, const sentence *said,
                         const sentence_reply *reply)
{
    if (said->of.claim.adopt)
        e->adopt_wanted = true;
    if (reply->class == SQLSTATE_TRANSIENT) {
        e->claim_not_before_us = now_us + backoff_next(&e->refusal_backoff, &e->random);
        engine_say(e, NOTE_CLAIM_REFUSED, -1, 0, (e->claim_not_before_us - now_us) / 1000,
                   &reply->error);
        return;
    }
    engine_fail(e, now_us, &reply->error);
}

static void hear_claim(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    const sentence *said = &lane->flight.sentences[lane->answered - 1];
    size_t wanted = (size_t)said->of.claim.batch;

    if (reply->refused) {
        refuse_claim(e, now_us, said, reply);
        return;
    }
    assert(reply->row_count <= e->jobs[JOB_FREE].count);
    backoff_reset(&e->refusal_backoff);
    e->claim_not_before_us = 0;
    for (size_t i = 0; i < reply->row_count; i++)
        accept_row(e, &reply->rows[i]);
    e->backlog = reply->row_count >= wanted;
    if (said->of.claim.adopt && reply->row_count > 0)
        engine_say(e, NOTE_CLAIM_ADOPTED, -1, 0, (int64_t)reply->row_count, NULL);
    if (said->of.claim.adopt && e->backlog)
        e->adopt_wanted = true; /* there may be more than one claim brings */
    if (said->of.claim.known != NULL && e->backlog)
        e->stale_look_at_us = now_us; /* a silent worker may have left more than one claim brings */
    if (reply->row_count > 0)
        e->look_again_us = 0;
    if (e->backlog)
        return;
    e->hungry = e->wakes != lane->wakes_seen;
    e->probe_wanted = true;
}

/* A job may have gone back to the queue, and a claim of ours that was lost with the reply may have
 * taken it again: an adoption in the meantime passed it over, since its id was known. */
static void back_unseen(engine *e)
{
    e->adopt_wanted = true;
    engine_wake(e);
}

/* The claim had gone, or the settle had been carried out before its reply was lost. */
static void settled_nothing(engine *e, engine_job *job)
{
    if (!job->uncertain)
        engine_lost_claim(e, job);
    else if (job->outcome.status == PGQ_STATUS_QUEUED)
        back_unseen(e);
    engine_forget(e, job);
}

/* Puts the jobs of a refused settle back, in their order, at the front of those that wait. */
static void unsettle(engine *e, engine_lane *lane, uint32_t first_group, uint32_t second_group)
{
    list *finished = &e->jobs[JOB_FINISHED];
    size_t waiting = finished->count, half = (lane->job_count + 1) / 2;

    for (size_t i = 0; i < lane->job_count; i++) {
        lane->jobs[i]->group = i < half ? first_group : second_group;
        engine_move(e, lane->jobs[i], JOB_FINISHED);
    }
    for (size_t i = 0; i < waiting; i++) {
        list_link *link = list_pop(finished);

        list_append(finished, link);
    }
}

/* A row that the database refuses whatever is written: it is tried again, but holds up nobody. */
static void bad_row(engine *e, int64_t now_us, engine_job *job, const pgq_error *error)
{
    engine_move(e, job, JOB_REFUSED);
    if (e->refused_again_us == CLOCK_NEVER)
        e->refused_again_us = now_us + backoff_next(&e->bad_row_backoff, &e->random);
    engine_say(e, NOTE_SETTLE_FAILED, -1, job->token.id, 1, error);
}

/* One bad row never blocks its batch: the batch is halved until the bad row is alone. */
static void refuse_settle(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    engine_job *only = lane->jobs[0];
    bool again = reply->class == SQLSTATE_TRANSIENT || reply->class == SQLSTATE_SCHEMA ||
                 reply->class == SQLSTATE_PERMISSION;

    if (!again && lane->job_count > 1) {
        e->groups += 2;
        unsettle(e, lane, e->groups - 1, e->groups);
        return;
    }
    if (!again && only->refused_text[0] == '\0') {
        (void)snprintf(only->refused_text, sizeof(only->refused_text), "%s", reply->error.message);
        only->outcome.status = PGQ_STATUS_EXCEPTION;
        engine_say(e, NOTE_SETTLE_REFUSED, -1, only->token.id, 0, &reply->error);
        unsettle(e, lane, only->group, only->group);
        return;
    }
    if (!again) {
        bad_row(e, now_us, only, &reply->error);
        return;
    }
    unsettle(e, lane, only->group, only->group);
    e->settle_not_before_us = now_us + backoff_next(&e->refusal_backoff, &e->random);
    engine_say(e, NOTE_SETTLE_FAILED, -1, 0, (int64_t)lane->job_count, &reply->error);
}

/* A job that went back to the queue is due again when its delay has passed; nothing will say so. */
static void expect_retry(engine *e, int64_t now_us, const engine_job *job)
{
    e->queue_empty = false;
    e->requeues++;
    if (job->outcome.delay_ms == 0)
        engine_wake(e);
    else
        e->poll_at_us = base_min_i64(e->poll_at_us, now_us + job->outcome.delay_ms * 1000);
}

static void hear_settle(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    size_t next = 0;

    if (reply->refused) {
        refuse_settle(e, now_us, lane, reply);
        lane->job_count = 0;
        return;
    }
    backoff_reset(&e->refusal_backoff);
    for (size_t place = 0; place < lane->job_count; place++) {
        bool written = next < reply->place_count && reply->places[next] == place;

        if (written) {
            next++;
            if (lane->jobs[place]->outcome.status == PGQ_STATUS_QUEUED)
                expect_retry(e, now_us, lane->jobs[place]);
            engine_forget(e, lane->jobs[place]);
        } else {
            settled_nothing(e, lane->jobs[place]);
        }
    }
    lane->job_count = 0;
}

static void hear_release(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    if (reply->refused) {
        engine_say(e, NOTE_STATEMENT_REFUSED, -1, 0, (int64_t)lane->job_count, &reply->error);
        e->claim_not_before_us = now_us + backoff_next(&e->refusal_backoff, &e->random);
    }
    if (lane->job_count > 0)
        engine_wake(e);
    for (size_t place = 0; place < lane->job_count; place++) {
        /* a release that was refused leaves the job to its heartbeat timeout */
        e->counts.released += !reply->refused;
        if (lane->jobs[place]->uncertain)
            back_unseen(e);
        engine_forget(e, lane->jobs[place]);
    }
    lane->job_count = 0;
}

/* A beat that found the claim gone. Between its saying and its answer the job may have been
 * settled, or its record may serve another job: only a claim that still waits here can be lost. */
static void hear_beat(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    if (reply->refused) {
        engine_say(e, NOTE_STATEMENT_REFUSED, -1, 0, (int64_t)lane->beat_count, &reply->error);
        /* the next regular one would be too late */
        e->beat_at_us = base_min_i64(e->beat_at_us, now_us + e->config.heartbeat_timeout_us / 8);
    }
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
            engine_act(e, ACTION_TELL)->body = job->body;
            engine_revoke(e, job); /* it may still wait for a thread, and must not start */
        } else if (job->state == JOB_FINISHED || job->state == JOB_REFUSED ||
                   job->state == JOB_GIVEN) {
            settled_nothing(e, job);
        }
    }
    lane->beat_count = 0;
}

/* How long a worker without anything to do may wait until it looks again. */
static int64_t plan_look(engine *e, int64_t now_us, const sentence_reply *reply)
{
    /* up to a tenth earlier, so that a fleet does not poll in step */
    int64_t wait_us = e->config.dequeue_timeout_us;

    wait_us -= (int64_t)random_below(&e->random, (uint64_t)(wait_us / 10 + 1));
    /* a retry that was settled while the probe was under way is not in what it saw; what a silent
     * worker left behind is to be drained too */
    e->queue_empty = !reply->queued && reply->next_stale_us != 0 && !e->hungry &&
                     e->requeues == e->probe_requeues;
    if (reply->next_stale_us != CLOCK_NEVER)
        e->stale_look_at_us = base_min_i64(e->stale_look_at_us, now_us + reply->next_stale_us);
    if (reply->due || reply->next_stale_us == 0) {
        /* the last claim could not have it: somebody has locked it */
        e->look_again_us = e->look_again_us == 0
                               ? LOOK_AGAIN_FIRST_US
                               : base_min_i64(2 * e->look_again_us, LOOK_AGAIN_MAX_US);
        wait_us = base_min_i64(wait_us, e->look_again_us);
    } else {
        e->look_again_us = 0;
        wait_us = base_min_i64(wait_us, reply->next_stale_us);
    }
    return base_min_i64(wait_us, reply->next_due_us);
}

static void hear_probe(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    int64_t wait_us = e->config.dequeue_timeout_us;

    (void)lane;
    e->probing = false;
    if (reply->refused)
        engine_say(e, NOTE_STATEMENT_REFUSED, -1, 0, 0, &reply->error);
    else
        wait_us = plan_look(e, now_us, reply);
    /* a retry of ours that was settled after the probe may be due sooner than the probe knew */
    e->poll_at_us = base_min_i64(e->poll_at_us, now_us + base_max_i64(wait_us, 1000));
}

static void (*const hearers[])(engine *e, int64_t now_us, engine_lane *lane,
                               const sentence_reply *reply) = {
    [SENTENCE_CHECK] = hear_check, [SENTENCE_LISTEN] = hear_listen,
    [SENTENCE_CLAIM] = hear_claim, [SENTENCE_SETTLE] = hear_settle,
    [SENTENCE_BEAT] = hear_beat,   [SENTENCE_RELEASE] = hear_release,
    [SENTENCE_PROBE] = hear_probe,
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
    if (e->state != ENGINE_FINISHED && lane->answered == lane->flight.count) {
        lane->flight.count = lane->answered = 0;
        engine_lane_set(e, lane, LANE_IDLE);
    }
    engine_plan(e, now_us);
}
