/* Whose fault it is that the database does not take an outcome: that of its row, or of something
 * that concerns all. A row has to be ruled out before its outcome is changed, for whoever reads
 * that a job failed, though it was successful, does its work once more. */
#include "worker/engine_internal.h"
#include "base/error.h"

enum {
    BLAME_MIN = 7, /* refusals of an outcome alone, while others like it are written */
    PRAISED_AGAIN_US = 250 * 1000, /* between two attempts since one like them was written */
    TEXT_EVERY = 2 /* of so many refusals one is followed by a settle with another text */
};

bool engine_may_pass(const sentence_reply *reply)
{
    return reply->class == SQLSTATE_TRANSIENT || reply->class == SQLSTATE_SCHEMA ||
           reply->class == SQLSTATE_PERMISSION;
}

bool engine_timed_out(const sentence_reply *reply)
{
    return reply->class == SQLSTATE_TRANSIENT && reply->error.code == PGQ_E_TIMEOUT;
}

bool engine_refused_for_row(const sentence_reply *reply)
{
    return engine_timed_out(reply) || !engine_may_pass(reply);
}

void engine_await_lock(engine *e, int64_t now_us, engine_lane *lane, const pgq_error *error)
{
    size_t half = (lane->job_count + 1) / 2;
    bool alone = lane->job_count == 1;

    e->groups += 2;
    for (size_t i = 0; i < lane->job_count; i++) {
        lane->jobs[i]->group = i < half ? e->groups - 1 : e->groups;
        lane->jobs[i]->timeouts++;
        if (alone)
            engine_put_off(e, now_us, lane->jobs[i]);
        else
            engine_finish_again(e, lane->jobs[i]);
    }
    engine_despair_later(e, now_us, lane, error);
    engine_say(e, NOTE_SETTLE_FAILED, -1, alone ? lane->jobs[0]->token.id : 0,
               (int64_t)lane->job_count, error);
}

static engine_fortune *fortune_of(engine *e, const engine_job *job)
{
    return &e->buckets[job->entrypoint].fortunes[job->outcome.status];
}

void engine_praise(engine *e, const engine_job *job)
{
    engine_fortune *fortune = fortune_of(e, job);

    if (fortune->several) /* those that wait for this; not at each of many */
        e->refused_again_us =
            base_min_i64(e->refused_again_us, e->refused_tried_us + PRAISED_AGAIN_US);
    fortune->written++;
    fortune->refused_id = 0;
    fortune->several = false;
}

void engine_refused_together(engine *e, engine_job *job)
{
    if (job->refused_at == 0)
        job->refused_at = fortune_of(e, job)->written + 1;
}

bool engine_worth_a_try(engine *e, const engine_job *job, uint32_t round)
{
    engine_fortune *fortune = fortune_of(e, job);
    bool tried = fortune->several && fortune->round == round;

    fortune->round = round;
    return !tried;
}

/* Like it are the outcomes of the same entrypoint with the same status. */
static void note_refused(engine *e, const engine_job *job)
{
    engine_fortune *fortune = fortune_of(e, job);

    fortune->several |= fortune->refused_id != 0 && fortune->refused_id != job->token.id;
    fortune->refused_id = job->token.id;
}

/* One like it was written since this one was refused the time before, so it is not all of them; and
 * if others have been refused since, it may be all of them again, which does not count. */
static bool blamed(engine *e, engine_job *job)
{
    const engine_fortune *fortune = fortune_of(e, job);
    bool others = job->refused_at != 0 && fortune->written + 1 > job->refused_at;

    job->refused_at = fortune->written + 1;
    if (!fortune->several && (others || job->blame > 0))
        job->blame++;
    return job->blame >= BLAME_MIN;
}

/* Its text was replaced, and that was not the reason. */
static void restore_text(engine *e, engine_job *job)
{
    if (job->text >= 0)
        e->free_texts[e->free_text_count++] = job->text;
    job->text = -1;
    job->own_type = job->own_message = NULL;
    job->reworded = false;
}

/* What has a text is tried with another one: the first time, and again, as all may have been
 * refused then: now and then, or always while only one of several is tried at all. */
bool engine_reword(engine *e, engine_job *job, const pgq_error *error)
{
    bool tried = job->reworded, text;

    if (tried)
        restore_text(e, job);
    if (job->own_type != NULL)
        return false; /* it has no text of its handler's */
    note_refused(e, job);
    job->refusals += !tried;
    text = job->outcome.text != NULL && !tried;
    if (text && job->refusals % TEXT_EVERY != 1 && !fortune_of(e, job)->several)
        return false;
    if (!text && !blamed(e, job))
        return false;
    if (!text && job->outcome.status != PGQ_STATUS_CANCELED)
        job->outcome.status = PGQ_STATUS_EXCEPTION;
    job->reworded = text;
    engine_own_text(e, job, "SettleRefused", error->message);
    if (!text || job->refusals == 1)
        engine_say(e, NOTE_SETTLE_REFUSED, -1, job->token.id, 0, error);
    return true;
}
