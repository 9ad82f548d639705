/* Orphans: jobs whose lease was lost, with an outcome or still running. RESOLVE has to find out
 * whether they are ours. Source: engine.md 3. */
#include "worker/engine_internal.h"
#include "base/error.h"

enum {
    RESOLVE_LEASES = 2, /* so many of them a resolve waits for a lock */
    STOPPING_TURN_US = 100 * 1000
};

/* What was said of it may have been carried out: its end, or that it goes on as a picked job. */
static void doubt(engine_job *job)
{
    job->uncertain |= job->state == JOB_SETTLING;
    job->maybe_picked |= job->moving;
}

/* Nothing of it is under way any more; one that was found unstarted meanwhile is to be given back.
 */
static void stand_still(engine *e, engine_job *job)
{
    job->moving = false;
    if (job->dropped)
        engine_drop_leased(e, job);
}

void engine_lose_lease(engine *e, engine_lane *lane, bool sent)
{
    bool any = lane->lease.jobs.count > 0;

    engine_done_untold(e, lane);
    while (lane->lease.jobs.first != NULL) {
        engine_job *job = LIST_ENTRY(lane->lease.jobs.first, engine_job, member);

        engine_leave_lease(job);
        job->orphan = true;
        e->orphans++;
        if (sent)
            doubt(job);
        if (job->state == JOB_SETTLING)
            engine_finish_again(e, job);
        else if (job->state == JOB_HANDED && job->place == PLACE_POOL && !job->moving &&
                 !job->dropped)
            engine_revoke(e, job);
        stand_still(e, job);
    }
    lane->lease_count = 0;
    if (any) {
        e->orphan_fence = ++e->fences_said;
        (void)engine_act(e, ACTION_FENCE);
        engine_say(e, NOTE_LEASE_LOST, (int)(lane - e->lanes), 0, (int64_t)e->orphans, NULL);
    }
    engine_close_lease(e, lane);
    engine_want_sweep(e);
    engine_wake(e);
}

/* The first orphan whose turn it is: with an outcome, or running. */
static engine_job *first_orphan(const engine *e)
{
    for (list_link *link = e->jobs[JOB_DONE].first; link != NULL; link = link->next) {
        engine_job *job = LIST_ENTRY(link, engine_job, link);

        if (job->orphan && !job->moving && !job->put_off)
            return job;
    }
    for (list_link *link = e->jobs[JOB_HANDED].first; link != NULL; link = link->next) {
        engine_job *job = LIST_ENTRY(link, engine_job, link);

        if (job->orphan && !job->moving && !job->put_off)
            return job;
    }
    return NULL;
}

/* One at a time, and when the revocations are decided. */
bool engine_resolve_wanted(const engine *e, int64_t now_us)
{
    return e->orphans > 0 && now_us >= e->settle_not_before_us &&
           e->fences_heard >= e->orphan_fence && !engine_any_said(e, SENTENCE_RESOLVE) &&
           first_orphan(e) != NULL;
}

/* No claim that could bring one of them as a picked job may be under way. */
bool engine_resolve_due(const engine *e, int64_t now_us)
{
    return engine_outstanding(e, false) == 0 && engine_resolve_wanted(e, now_us);
}

bool engine_resolving(const engine *e, int64_t now_us)
{
    return e->orphans > 0 &&
           (e->fences_heard < e->orphan_fence || engine_any_said(e, SENTENCE_RESOLVE) ||
            engine_resolve_wanted(e, now_us));
}

void engine_add_resolve(engine *e, engine_lane *lane)
{
    const engine_job *first = first_orphan(e);
    job_state state = first->state;
    uint32_t group = first->group;
    sentence *s = engine_add_sentence(lane, SENTENCE_RESOLVE);
    size_t bytes = 0;

    lane->job_count = 0;
    for (list_link *link = e->jobs[state].first, *next; link != NULL; link = next) {
        engine_job *job = LIST_ENTRY(link, engine_job, link);

        next = link->next;
        if (!job->orphan || job->moving || job->put_off || job->group != group)
            continue;
        bytes += job->outcome.text_bytes;
        if (lane->job_count == ENGINE_SETTLE_MAX ||
            (lane->job_count > 0 && bytes > ENGINE_SETTLE_TEXT_BYTES))
            break;
        lane->items[lane->job_count] = engine_item_of(job, state == JOB_DONE && !job->refused);
        lane->jobs[lane->job_count++] = job;
        if (state == JOB_DONE && !job->refused)
            engine_move(e, job, JOB_SETTLING);
        else
            job->moving = true;
        job->stamp = 0;
    }
    s->of.settle.items = lane->items;
    s->of.settle.count = lane->job_count;
    s->of.settle.wait_us = RESOLVE_LEASES * e->config.lease_us;
}

/* Once, and it was the network. Twice, and it may be one of the rows, which kills the session or
 * which somebody keeps locked: by halves it is alone before long, and the others are written. */
void engine_suspect(engine *e, engine_lane *lane)
{
    size_t half = (lane->job_count + 1) / 2;
    bool again = false;

    for (size_t i = 0; i < lane->job_count; i++)
        again |= lane->jobs[i]->losses++ > 0;
    if (!again || lane->job_count < 2)
        return;
    e->groups += 2;
    for (size_t i = 0; i < lane->job_count; i++)
        lane->jobs[i]->group = i < half ? e->groups - 1 : e->groups;
}

void engine_unresolve(engine *e, engine_lane *lane, bool sent)
{
    if (sent)
        engine_suspect(e, lane);
    for (size_t i = 0; i < lane->job_count; i++) {
        engine_job *job = lane->jobs[i];

        if (sent)
            doubt(job);
        if (job->state == JOB_SETTLING)
            engine_finish_again(e, job);
        stand_still(e, job);
    }
    lane->job_count = 0;
}

/* The claim is gone, or what the lease's end wrote was carried out. Or a claim of ours has picked
 * the job, whose answer was lost: an adoption brings that one, which is then run once more. */
static void resolved_nothing(engine *e, engine_job *job)
{
    e->done_untold |= job->uncertain;
    engine_back_unseen(e);
    if (job->state != JOB_HANDED) {
        engine_settled_nothing(e, job);
        return;
    }
    engine_no_orphan(e, job);
    engine_lose_moving(e, job);
}

void engine_orphan_lost(engine *e, engine_job *job)
{
    resolved_nothing(e, job);
}

void engine_orphan_picked(engine *e, int64_t now_us, engine_lane *lane, engine_job *job,
                          int64_t stamp)
{
    job->stamp = stamp;
    engine_become_picked(e, now_us, lane, job);
}

/* Not even that they are picked can be written. */
static void despair_of(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    if (engine_may_pass(reply)) {
        engine_despair_later(e, now_us, lane, &reply->error);
        return;
    }
    for (size_t i = 0; i < lane->job_count; i++)
        engine_despair(e, lane->jobs[i], &reply->error);
}

/* A worker that stops waits for nothing else. */
static int64_t next_turn(engine *e, int64_t now_us)
{
    if (e->state == ENGINE_STOPPING)
        return now_us + STOPPING_TURN_US;
    return now_us + backoff_next(&e->orphan_backoff, &e->random);
}

/* A row of the resolve takes nothing, or somebody keeps it locked: it is said by halves, a group at
 * a time and with pauses, in which claims have the row lane and adoptions their turn. */
static void put_off(engine *e, int64_t now_us, engine_lane *lane, const pgq_error *error)
{
    size_t half = (lane->job_count + 1) / 2;

    e->groups += 2;
    for (size_t i = 0; i < lane->job_count; i++) {
        lane->jobs[i]->group = i < half ? e->groups - 1 : e->groups;
        lane->jobs[i]->put_off = true;
        lane->jobs[i]->timeouts++;
    }
    if (e->orphans_again_us == CLOCK_NEVER)
        e->orphans_again_us = next_turn(e, now_us);
    engine_say(e, NOTE_SETTLE_FAILED, -1, lane->job_count == 1 ? lane->jobs[0]->token.id : 0,
               (int64_t)lane->job_count, error);
}

/* The group that has waited longest: each that is put off gets a higher number. */
static const engine_job *longest_put_off(const engine *e, job_state state, const engine_job *other)
{
    for (list_link *link = e->jobs[state].first; link != NULL; link = link->next) {
        const engine_job *job = LIST_ENTRY(link, engine_job, link);

        if (job->orphan && job->put_off && (other == NULL || job->group < other->group))
            other = job;
    }
    return other;
}

static bool let_go(const engine *e, job_state state, uint32_t group)
{
    bool more = false;

    for (list_link *link = e->jobs[state].first; link != NULL; link = link->next) {
        engine_job *job = LIST_ENTRY(link, engine_job, link);

        job->put_off = job->put_off && job->group != group;
        more |= job->orphan && job->put_off;
    }
    return more;
}

void engine_orphans_again(engine *e, int64_t now_us)
{
    const engine_job *first;
    uint32_t group;
    bool more;

    if (now_us < e->orphans_again_us)
        return;
    e->orphans_again_us = CLOCK_NEVER;
    first = longest_put_off(e, JOB_HANDED, longest_put_off(e, JOB_DONE, NULL));
    if (first == NULL) {
        backoff_reset(&e->orphan_backoff);
        return;
    }
    group = first->group;
    more = let_go(e, JOB_DONE, group);
    more |= let_go(e, JOB_HANDED, group);
    if (more)
        e->orphans_again_us = next_turn(e, now_us);
}

void engine_hear_resolve(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    bool ends = lane->items[0].status != PGQ_STATUS_PICKED;
    size_t next = 0;

    if (reply->refused && ends && !engine_timed_out(reply)) {
        engine_refuse_settle(e, now_us, lane, reply);
        lane->job_count = 0;
        return;
    }
    if (reply->refused) {
        despair_of(e, now_us, lane, reply);
        if (engine_refused_for_row(reply))
            put_off(e, now_us, lane, &reply->error);
        else
            e->settle_not_before_us = now_us + backoff_next(&e->refusal_backoff, &e->random);
        engine_unresolve(e, lane, false);
        return;
    }
    if (lane->jobs[0]->timeouts > 0 && e->orphans_again_us != CLOCK_NEVER) {
        backoff_reset(&e->orphan_backoff); /* the next one need not wait */
        e->orphans_again_us = now_us;
    }
    backoff_reset(&e->refusal_backoff);
    e->unwritten_since_us = CLOCK_NEVER;
    if (reply->place_count > 0)
        engine_release_brake(e);
    engine_fold_wanted(e);
    for (size_t i = 0; i < lane->job_count; i++) {
        engine_job *job = lane->jobs[i];
        bool written = next < reply->place_count && reply->places[next] == i;

        if (!written) {
            resolved_nothing(e, job);
        } else if (ends) {
            engine_settled(e, now_us, job);
        } else {
            job->stamp = reply->stamps[next];
            engine_become_picked(e, now_us, lane, job);
        }
        next += written;
    }
    lane->job_count = 0;
}
