/* What happens to jobs between their claim and their settle. */
#include "worker/engine_internal.h"
#include "base/error.h"

#include <assert.h>
#include <stdio.h>

enum { REMEMBER_US = 10 * 1000 * 1000, POSTPONE_US = 10 * 1000 };

void engine_revoke(engine *e, engine_job *job)
{
    engine_action *action = engine_act(e, ACTION_REVOKE);

    action->body = job->body;
    action->job = job;
}

void engine_lost_claim(engine *e, engine_job *job)
{
    if (job->cancelled)
        return; /* whoever cancelled it has taken the row away */
    e->counts.lost++;
    engine_say(e, NOTE_CLAIM_LOST, -1, job->token.id, 0, NULL);
}

static void tell(engine *e, engine_job *job, job_why why)
{
    engine_action *action = engine_act(e, ACTION_TELL);

    action->body = job->body;
    action->why = why;
}

void engine_tell_all(engine *e, job_why why)
{
    for (list_link *link = e->jobs[JOB_HANDED].first; link != NULL; link = link->next) {
        engine_job *job = LIST_ENTRY(link, engine_job, link);

        job->told_to_stop |= why == WHY_STOP;
        if (!job->dropped)
            tell(e, job, why);
    }
}

void engine_own_text(engine *e, engine_job *job, const char *type, const char *text)
{
    job->own_type = type;
    job->own_message = "the reason was lost: too many jobs have one of their own";
    if (job->text < 0 && e->free_text_count > 0)
        job->text = e->free_texts[--e->free_text_count];
    if (job->text < 0)
        return;
    (void)snprintf(e->texts[job->text], sizeof(e->texts[0]), "%s", text);
    job->own_message = e->texts[job->text];
}

/* ---- outcomes ---- */

static void count_outcome(engine *e, const engine_job *job)
{
    switch (job->outcome.status) {
    case PGQ_STATUS_SUCCESSFUL:
        e->counts.successful++;
        break;
    case PGQ_STATUS_EXCEPTION:
    case PGQ_STATUS_FAILED:
        e->counts.failed++;
        break;
    case PGQ_STATUS_QUEUED:
        e->counts.retried++;
        break;
    default:
        e->counts.cancelled++;
        break;
    }
}

static void finish_job(engine *e, int64_t now_us, engine_job *job)
{
    job->finished_us = now_us;
    job->alarm_us = CLOCK_NEVER;
    count_outcome(e, job);
    if (job->lease != NULL)
        job->lease->lease.stirred_us = now_us;
    engine_move(e, job, job->lease != NULL || job->orphan ? JOB_DONE : JOB_FINISHED);
}

static void finish_cancelled(engine *e, int64_t now_us, engine_job *job)
{
    job->outcome.status = PGQ_STATUS_CANCELED;
    finish_job(e, now_us, job);
}

void engine_finish_again(engine *e, engine_job *job)
{
    /* it was cancelled meanwhile, and must not go back to the queue */
    if (job->cancelled && job->outcome.status == PGQ_STATUS_QUEUED)
        job->outcome.status = PGQ_STATUS_CANCELED;
    engine_move(e, job, job->orphan ? JOB_DONE : JOB_FINISHED);
}

void engine_drop_leased(engine *e, engine_job *job)
{
    if (job->moving || job->uncertain || job->maybe_picked) {
        job->dropped = true; /* it may be picked by now, or will be */
        job->alarm_us = CLOCK_NEVER;
        return;
    }
    e->counts.released++;
    if (job->lease != NULL)
        job->lease->lease.released = true;
    else
        engine_want_sweep(e);
    if (job->orphan && job->passed_over)
        engine_back_unseen(e); /* a claim may have picked it whose reply was lost */
    engine_forget(e, job);
}

void engine_give_back(engine *e, int64_t now_us, engine_job *job)
{
    if (job->lost)
        engine_forget(e, job);
    else if (job->cancelled)
        finish_cancelled(e, now_us, job);
    else if (job->lease != NULL || job->orphan)
        engine_drop_leased(e, job);
    else
        engine_move(e, job, JOB_GIVEN);
}

void engine_outcome_of(engine *e, int64_t now_us, void *name, const engine_outcome *outcome)
{
    engine_job *job = name;

    if (e->state == ENGINE_FINISHED)
        return;
    assert(job->state == JOB_HANDED);
    e->stalled = false;
    job->outcome = *outcome;
    if (outcome->run_us > 0) {
        int64_t average = e->run_us_average;

        e->run_us_average = average == 0 ? outcome->run_us : (7 * average + outcome->run_us) / 8;
        if (average == 0)
            engine_learn_sides(e); /* the worker has survived a job */
        engine_observe_run(e, job->entrypoint, outcome->run_us > e->config.lease_us / 4);
    }
    if (job->lost) {
        engine_forget(e, job);
    } else if (job->cancelled) {
        finish_cancelled(e, now_us, job); /* whatever it says: it was asked to end so */
    } else if (job->told_to_stop && !job->timed_out && outcome->status == PGQ_STATUS_CANCELED) {
        engine_give_back(e, now_us, job); /* nobody has cancelled it: another worker runs it */
    } else {
        if (job->timed_out && outcome->status == PGQ_STATUS_CANCELED) {
            job->outcome.status = e->config.entrypoints[job->entrypoint].failure;
            job->own_type = "JobTimeout";
            job->own_message = e->timeout_texts[job->entrypoint];
        }
        finish_job(e, now_us, job);
    }
    engine_plan(e, now_us);
}

void engine_revoked(engine *e, int64_t now_us, void *name)
{
    engine_give_back(e, now_us, name);
    engine_plan(e, now_us);
}

/* ---- jobs that occupy no thread ---- */

static void leave_pool(engine *e, engine_job *job, job_place place)
{
    assert(job->state == JOB_HANDED);
    e->away += job->place == PLACE_POOL;
    e->stalled = false;
    job->place = place;
}

void engine_parked(engine *e, int64_t now_us, void *name)
{
    if (e->state == ENGINE_FINISHED)
        return;
    leave_pool(e, name, PLACE_PARKED);
    engine_plan(e, now_us);
}

void engine_resting(engine *e, int64_t now_us, void *name, int64_t delay_us)
{
    engine_job *job = name;

    if (e->state == ENGINE_FINISHED)
        return;
    leave_pool(e, job, PLACE_RESTING);
    job->timed_out = false;
    job->alarm_us = now_us + delay_us;
    e->alarm_at_us = base_min_i64(e->alarm_at_us, job->alarm_us);
    if (job->lost || job->cancelled || e->state != ENGINE_RUNNING)
        engine_give_back(e, now_us, job);
    engine_plan(e, now_us);
}

/* ---- time ---- */

void engine_started(engine *e, int64_t now_us, void *name)
{
    engine_job *job = name;
    int64_t timeout_us = e->config.entrypoints[job->entrypoint].timeout_us;

    if (e->state == ENGINE_FINISHED || timeout_us == 0)
        return;
    job->alarm_us = now_us + timeout_us;
    e->alarm_at_us = base_min_i64(e->alarm_at_us, job->alarm_us);
}

/* Every thread is stuck: what waits for one would wait for ever. */
static bool exhausted(const engine *e)
{
    return e->stragglers >= (size_t)e->config.threads;
}

static void revoke_waiting(engine *e)
{
    for (list_link *link = e->jobs[JOB_HANDED].first; link != NULL; link = link->next) {
        engine_job *job = LIST_ENTRY(link, engine_job, link);

        if (job->place == PLACE_POOL)
            engine_revoke(e, job);
    }
}

/* The job fails, though its handler still runs and keeps its thread. */
static void abandon(engine *e, int64_t now_us, engine_job *job)
{
    bool in_thread = job->place == PLACE_POOL;

    engine_act(e, ACTION_ABANDON)->body = job->body;
    job->body = NULL;
    e->stragglers += in_thread;
    e->counts.timed_out++;
    engine_say(e, NOTE_JOB_STUCK, -1, job->token.id, (int64_t)e->stragglers, NULL);
    if (in_thread && exhausted(e))
        engine_say(e, NOTE_POOL_EXHAUSTED, -1, 0, (int64_t)e->stragglers, NULL);
    job->outcome =
        (engine_outcome){.status = job->cancelled ? PGQ_STATUS_CANCELED
                                                  : e->config.entrypoints[job->entrypoint].failure};
    job->own_type = "JobTimeout";
    job->own_message = e->timeout_texts[job->entrypoint];
    if (job->lost)
        engine_forget(e, job);
    else
        finish_job(e, now_us, job);
    if (in_thread && exhausted(e))
        revoke_waiting(e);
}

static void ring(engine *e, int64_t now_us, engine_job *job)
{
    const engine_entrypoint *entry = &e->config.entrypoints[job->entrypoint];
    engine_action *action;

    if (job->place == PLACE_RESTING &&
        (job->moving || job->orphan || (job->lease != NULL && job->lease->lease.ending))) {
        /* whose it is will be known soon; all of them are looked at together */
        job->alarm_us = (now_us / POSTPONE_US + 1) * POSTPONE_US;
        return;
    }
    if (job->place == PLACE_RESTING && exhausted(e)) {
        engine_give_back(e, now_us, job);
        return;
    }
    if (job->place == PLACE_RESTING) {
        job->place = PLACE_POOL;
        job->alarm_us = CLOCK_NEVER;
        e->away--;
        action = engine_act(e, ACTION_START);
        action->body = job->body;
        action->job = job;
        return;
    }
    if (job->timed_out) {
        abandon(e, now_us, job);
        return;
    }
    job->timed_out = true;
    job->alarm_us = now_us + entry->grace_us;
    tell(e, job, WHY_TIMEOUT);
    engine_say(e, NOTE_JOB_TIMEOUT, -1, job->token.id, entry->timeout_us / 1000, NULL);
}

void engine_alarms(engine *e, int64_t now_us)
{
    e->alarm_at_us = CLOCK_NEVER;
    for (list_link *link = e->jobs[JOB_HANDED].first, *next; link != NULL; link = next) {
        engine_job *job = LIST_ENTRY(link, engine_job, link);

        next = link->next;
        if (now_us >= job->alarm_us)
            ring(e, now_us, job);
        if (job->state == JOB_HANDED)
            e->alarm_at_us = base_min_i64(e->alarm_at_us, job->alarm_us);
    }
}

void engine_straggler_ended(engine *e, int64_t now_us)
{
    if (e->state == ENGINE_FINISHED)
        return;
    assert(e->stragglers > 0);
    e->stragglers--;
    engine_wake(e);
    engine_plan(e, now_us);
}

/* ---- cancellation ---- */

static size_t memory_place(int64_t id)
{
    return (size_t)(((uint64_t)id * 0x9E3779B97F4A7C15u) >> 40) % MEMORY_SLOTS;
}

static void remember(cancel_memory *memory, int64_t now_us, int64_t id)
{
    size_t first = memory_place(id), oldest = first;

    for (size_t i = 0; i < MEMORY_NEIGHBOURS; i++) {
        size_t at = (first + i) % MEMORY_SLOTS;

        if (memory->slots[at].id == id) {
            oldest = at;
            break;
        }
        if (memory->slots[at].until_us < memory->slots[oldest].until_us)
            oldest = at;
    }
    memory->slots[oldest].id = id;
    memory->slots[oldest].until_us = memory->until_us = now_us + REMEMBER_US;
}

static bool remembered(const cancel_memory *memory, int64_t now_us, int64_t id)
{
    size_t first = memory_place(id);

    if (now_us >= memory->until_us)
        return false;
    for (size_t i = 0; i < MEMORY_NEIGHBOURS; i++) {
        size_t at = (first + i) % MEMORY_SLOTS;

        if (memory->slots[at].id == id)
            return now_us < memory->slots[at].until_us;
    }
    return false;
}

static void cancel(engine *e, int64_t now_us, engine_job *job)
{
    job->cancelled = true;
    if (job->state == JOB_HANDED)
        engine_say(e, NOTE_JOB_CANCELLED, -1, job->token.id, 0, NULL);
    switch (job->state) {
    case JOB_HANDED:
        if (job->place == PLACE_RESTING || job->dropped) {
            engine_give_back(e, now_us, job);
            break;
        }
        tell(e, job, WHY_CANCELLED);
        if (job->place == PLACE_POOL)
            engine_revoke(e, job);
        break;
    case JOB_FINISHED:
    case JOB_DONE:
    case JOB_REFUSED:
        if (job->outcome.status == PGQ_STATUS_QUEUED)
            job->outcome.status = PGQ_STATUS_CANCELED;
        break;
    case JOB_GIVEN:
        engine_give_back(e, now_us, job);
        break;
    default: /* what is under way decides; see engine_finish_again and engine_give_back */
        break;
    }
}

void engine_cancelled(engine *e, int64_t now_us, const int64_t *ids, size_t count)
{
    engine_heard(e, now_us);
    for (size_t i = 0; i < count; i++)
        remember(e->cancelled, now_us, ids[i]);
    for (int state = JOB_HANDED; state < JOB_STATES; state++) {
        for (list_link *link = e->jobs[state].first, *next; link != NULL; link = next) {
            engine_job *job = LIST_ENTRY(link, engine_job, link);

            next = link->next;
            if (!job->cancelled && !job->lost && remembered(e->cancelled, now_us, job->token.id))
                cancel(e, now_us, job);
        }
    }
    engine_plan(e, now_us);
}

/* ---- the beginning ---- */

static void join_lease(engine_job *job, engine_lane *lease, const claimed_row *row)
{
    job->lease = lease;
    job->where = row->place;
    job->picked_us = row->picked_us;
    if (lease != NULL)
        list_append(&lease->lease.jobs, &job->member);
}

void engine_job_begin(engine *e, int64_t now_us, engine_lane *lease, bool large,
                      const claimed_row *row)
{
    engine_job *job = LIST_ENTRY(e->jobs[JOB_FREE].first, engine_job, link);
    bool vain = lease != NULL && engine_leased_in_vain(e, lease);
    engine_action *action;

    job->token = row->token;
    engine_record_add(e, job);
    job->attempts = row->attempts;
    job->entrypoint = row->entrypoint;
    job->body = row->body;
    job->outcome = (engine_outcome){.status = PGQ_STATUS_QUEUED};
    job->group = 0;
    job->losses = job->timeouts = job->blame = 0;
    job->refused_at = 0;
    job->refusals = 0;
    job->reworded = false;
    job->place = PLACE_POOL;
    job->alarm_us = CLOCK_NEVER;
    job->lost = job->uncertain = job->timed_out = job->told_to_stop = false;
    job->hopeless = job->refused = job->moving = job->dropped = job->maybe_picked = false;
    job->passed_over = job->put_off = false;
    job->large = large;
    job->priority = row->priority;
    join_lease(job, lease, row);
    job->own_type = job->own_message = NULL;
    job->text = -1;
    job->cancelled = remembered(e->cancelled, now_us, row->token.id);
    e->counts.claimed++;
    if (job->cancelled)
        engine_say(e, NOTE_JOB_CANCELLED, -1, job->token.id, 0, NULL);
    if (row->body == NULL || job->cancelled || e->state != ENGINE_RUNNING || exhausted(e) || vain) {
        if (lease != NULL && !job->cancelled)
            engine_move(e, job, JOB_HANDED); /* from where it is dropped */
        engine_give_back(e, now_us, job);    /* cancelled, or no memory, time or thread for it */
        return;
    }
    engine_move(e, job, JOB_HANDED);
    action = engine_act(e, ACTION_START);
    action->body = row->body;
    action->job = job;
}
