/* Leases: jobs that are locked in an open transaction of a lane while they run.
 *
 * A lease ends in one flight: CONCLUDE (what became of its jobs), COMMIT, and the next LEASE.
 * Before, what has not started is revoked, and a fence tells when that is decided. A lease that is
 * lost leaves orphans: jobs with an outcome, or that still run, of which RESOLVE has to find out
 * whether they are ours. Source: engine.md 1 and 3. */
#include "worker/engine_internal.h"
#include "base/error.h"

#include <assert.h>
#include <string.h>

enum {
    HOLD_LEASES = 4, /* the server ends a session that is idle in a lease for so many of them */
    HOLD_MIN_US = 2 * 1000 * 1000,
    HOLD_CLAIMS = 4, /* or of what a claim takes: its jobs must have time when its answer comes */
    HOLD_MAX_US = 20 * 1000 * 1000,
    LEASE_GROWTH = 4,         /* see engine.lease_most */
    CROWDED_US = 5 * 1000,    /* nothing ended for so long while a thread is free: head of line */
    CLAIM_BYTES = 128 * 1024, /* of payloads in one claim: what a frozen client cannot take keeps
                                 the server's process busy, and its locks held */
    PAYLOAD_SHARE = 2,        /* payloads may be so many times the average */
    TRIAL_JOBS = 2            /* of a lease that only finds out whether outcomes can be written */
};

/* ---- the brake ---- */

/* To lease only takes locks, so it succeeds where nothing can be written: without a partition of
 * the log for today, with a full disk, without a privilege. The handlers run, the end of the lease
 * is refused, and their rows are free: every worker of a fleet would run all jobs, and none would
 * be done. So when the end of a lease was refused nothing more is leased until something was
 * written: what the lease has left behind is resolved, which tells whether it was one bad row,
 * whose neighbours are written, or everything. As it may have been nothing but bad rows, two jobs
 * are leased once in a while all the same. */
static void brake(engine *e, int64_t now_us, const engine_lane *lane)
{
    if (lane->lease_count == 0 || engine_leased_in_vain(e, lane))
        return;
    if (!e->braked) /* else it was a trial, which has begun a wait */
        e->lease_not_before_us = now_us + backoff_next(&e->brake_backoff, &e->random);
    e->braked = true;
    e->brakes++;
    e->lease_most = (size_t)e->config.threads;
}

void engine_release_brake(engine *e)
{
    e->braked = false;
    e->lease_not_before_us = 0;
    backoff_reset(&e->brake_backoff);
}

bool engine_leased_in_vain(const engine *e, const engine_lane *lane)
{
    return e->braked && lane->brakes_seen != e->brakes;
}

static bool brake_holds(const engine *e, int64_t now_us)
{
    return e->braked && (now_us < e->lease_not_before_us || engine_any_lease(e) ||
                         engine_any_said(e, SENTENCE_LEASE) || engine_resolving(e, now_us));
}

/* ---- beginning ---- */

/* Orphans may be in the queue again, but nobody but their resolve may take them. Large jobs are
 * claimed by their ids, which may have to wait. */
static size_t collect_except(const engine *e, int64_t *ids)
{
    engine_said at = {0, 0};
    const sentence *s;
    size_t count = 0;

    for (int state = JOB_HANDED; count < e->orphans && state < JOB_STATES; state++) {
        for (list_link *link = e->jobs[state].first; link != NULL; link = link->next) {
            const engine_job *job = LIST_ENTRY(link, engine_job, link);

            if (job->orphan)
                ids[count++] = job->token.id;
        }
    }
    for (size_t i = 0; i < e->large_count; i++)
        ids[count++] = e->large[i];
    while ((s = engine_next_said(e, &at)) != NULL) {
        if (s->kind != SENTENCE_CLAIM || s->of.claim.ids == NULL)
            continue;
        memcpy(&ids[count], s->of.claim.ids, s->of.claim.id_count * sizeof(ids[0]));
        count += s->of.claim.id_count;
    }
    return count;
}

/* How many jobs fit into one claim by what their payloads have been, and how large one may be. */
static void limit_bytes(const engine *e, sentence *s)
{
    double fit = e->payload_average > 0 ? CLAIM_BYTES / (PAYLOAD_SHARE * e->payload_average)
                                        : (double)PGQ_BATCH_SIZE_MAX;

    if (fit < s->of.lease.batch)
        s->of.lease.batch = fit > 1 ? (int32_t)fit : 1;
    s->of.lease.payload_max = CLAIM_BYTES / s->of.lease.batch;
}

/* Picked jobs have all threads: what is leased now would not be started before its lease ends. */
static bool no_thread_soon(const engine *e)
{
    size_t leased = e->away;

    for (int i = 1; i < e->lane_count; i++)
        leased += e->lanes[i].lease.handed;
    return e->jobs[JOB_HANDED].count >= leased + engine_free_threads(e);
}

/* How long the server waits in silence until it ends a session that has jobs locked. */
static int64_t hold_us(const engine *e, const sentence *s)
{
    int64_t least_us = base_max_i64(HOLD_LEASES * e->config.lease_us, HOLD_MIN_US);
    const engine_took *took = engine_sweeps(s) ? &e->sweeps_took : &e->claims_took;
    int64_t cost_us = base_min_i64(took->last_us, took->before_us);

    if (engine_sweeps(s)) /* one that was dear is feared at once */
        cost_us = base_max_i64(cost_us, e->sweep_last_cost_us);
    return base_max_i64(least_us, base_min_i64(HOLD_CLAIMS * cost_us, HOLD_MAX_US));
}

static void learn_took(engine *e, const sentence *said, int64_t took_us)
{
    engine_took *took = engine_sweeps(said) ? &e->sweeps_took : &e->claims_took;

    took->before_us = took->last_us;
    took->last_us = took_us;
}

int64_t engine_lease_until(const engine_config *config, const sentence *said, int64_t said_us,
                           int64_t heard_us)
{
    return base_min_i64(heard_us + config->lease_us, said_us + said->of.lease.hold_us / 2);
}

/* What waited for a thread in vain is not leased again for as long as none is free: others have
 * one. */
static size_t room_of(engine *e)
{
    size_t room = engine_room(e), threads = engine_free_threads(e);
    size_t busy = e->jobs[JOB_HANDED].count - e->away + engine_outstanding(e, true);

    if (!e->stalled)
        return room;
    return busy < threads ? (size_t)base_min_i64((int64_t)room, (int64_t)(threads - busy)) : 0;
}

bool engine_could_lease(engine *e, int64_t now_us, const engine_lane *lane)
{
    if (e->state != ENGINE_RUNNING || e->config.only_job != 0 || !e->leases.hungry ||
        now_us < e->claim_not_before_us || !engine_may_lease(e, lane) ||
        engine_any_said(e, SENTENCE_ADOPT) || (e->adopt_wanted && now_us >= e->adopt_at_us) ||
        (engine_any_said(e, SENTENCE_LEASE) && !e->leases.backlog))
        return false;
    /* while many large jobs wait to be claimed it would leave more of them */
    return e->large_count <= LARGE_MAX / 2 && !brake_holds(e, now_us) &&
           !engine_pace_rests(e, now_us, lane);
}

void engine_add_lease(engine *e, int64_t now_us, engine_lane *lane)
{
    size_t room, count = 0;
    sentence *s;

    if (no_thread_soon(e) || !engine_could_lease(e, now_us, lane))
        return;
    room = room_of(e);
    if (room == 0)
        return;
    if (room > e->lease_most)
        room = e->lease_most;
    if (e->braked && room > TRIAL_JOBS)
        room = TRIAL_JOBS;
    s = engine_add_sentence(lane, SENTENCE_LEASE);
    s->of.lease.batch = (int32_t)room;
    limit_bytes(e, s);
    for (size_t i = 0; i < e->config.entrypoint_count; i++) {
        if (e->buckets[i].leased)
            lane->lease_shares[count++] = (claim_share){(uint32_t)i, s->of.lease.batch};
    }
    s->of.lease.shares = lane->lease_shares;
    s->of.lease.share_count = count;
    s->of.lease.except = lane->except;
    s->of.lease.except_count = collect_except(e, lane->except);
    engine_add_cursors(e, now_us, lane, s);
    s->of.lease.try_all = s->of.lease.cursors == NULL && !e->leases.backlog;
    s->of.lease.hold_us = hold_us(e, s);
    e->late_last = s->of.lease.late;
    if (!s->of.lease.late)
        engine_took_turn(&e->leases, &e->rows);
    lane->lease_wakes_seen = e->wakes;
    lane->brakes_seen = e->brakes;
}

/* What the payloads are like decides how many jobs a claim may bring. */
static void learn_payloads(engine *e, const sentence *said, const sentence_reply *reply,
                           size_t large)
{
    double bytes = (double)reply->payload_bytes +
                   (double)large * PAYLOAD_SHARE * (double)said->of.lease.payload_max;

    if (reply->row_count == 0)
        return;
    bytes /= (double)reply->row_count;
    if (e->payload_average > 0)
        bytes = e->payload_average + (bytes - e->payload_average) / 4;
    e->payload_average = bytes;
}

static void remember_large(engine *e, const engine_lane *lane, const claimed_row *row)
{
    for (size_t i = 0; i < e->large_count; i++) {
        if (e->large[i] == row->token.id)
            return;
    }
    if (e->large_count == LARGE_MAX)
        return;
    e->large_lanes[e->large_count] = lane;
    e->large[e->large_count++] = row->token.id;
}

void engine_hear_lease(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    const sentence *said = &lane->flight.sentences[lane->answered - 1];
    size_t large = 0;

    lane->lease.open = true;
    lane->lease.failed = reply->refused;
    lane->lease.until_us = engine_lease_until(&e->config, said, lane->flown_us, now_us);
    lane->lease.stirred_us = now_us;
    learn_took(e, said, now_us - lane->flown_us);
    if (reply->refused) {
        engine_forget_reach(e, lane);
        engine_sweep_refused(e, now_us, lane, said);
        engine_refuse_claim(e, now_us, reply);
        return;
    }
    if (e->braked && reply->row_count > 0 && !engine_leased_in_vain(e, lane)) /* a trial */
        e->lease_not_before_us = now_us + backoff_next(&e->brake_backoff, &e->random);
    engine_accept_rows(e, now_us, lane, true, reply);
    for (size_t i = 0; i < reply->row_count; i++) {
        if (!reply->rows[i].large)
            continue;
        large++;
        remember_large(e, lane, &reply->rows[i]);
    }
    learn_payloads(e, said, reply, large);
    engine_learn_cursors(e, now_us, lane, said, reply);
    engine_learn_arrivals(e, reply->row_count);
    if (reply->row_count > 0) {
        e->look_again_us = 0;
        e->stale_hungry = true; /* a worker with a backlog looks for them as well, once a second */
    }
    if (said->of.lease.late)
        return; /* which does not say what there is behind the cursors */
    e->leases.backlog = reply->row_count >= (size_t)said->of.lease.batch;
    if (e->leases.backlog)
        e->leases.priority = reply->rows[reply->row_count - 1].priority;
    if (e->leases.backlog || engine_sweep_next(e, now_us, said) ||
        (said->of.lease.cursors == NULL && !said->of.lease.try_all))
        return; /* it has not seen everything */
    engine_side_ate(e, &e->leases, lane->lease_wakes_seen);
}

/* ---- ending ---- */

bool engine_any_lease(const engine *e)
{
    for (int i = 1; i < e->lane_count; i++) {
        if (e->lanes[i].lease.open)
            return true;
    }
    return false;
}

/* Every lane that leases has one, a thread is free and there is work: the oldest lease ends now. */
static bool crowds(const engine *e, const engine_lane *lane)
{
    size_t busy = e->jobs[JOB_HANDED].count - e->away;

    if (e->lane_count == 2 && e->jobs[JOB_FINISHED].count > 0)
        return true; /* there is no other lane for them */
    if (e->state != ENGINE_RUNNING || busy >= engine_free_threads(e) || !engine_hungry(e))
        return false;
    for (int i = 1; i < e->lane_count; i++) {
        const engine_lane *other = &e->lanes[i];

        if (!engine_may_lease(e, other) || other->state < LANE_IDLE)
            continue;
        if (other->state != LANE_IDLE || !other->lease.open ||
            other->lease.until_us < lane->lease.until_us)
            return false;
    }
    return true;
}

int64_t engine_lease_deadline(const engine *e, const engine_lane *lane)
{
    if (lane->lease.fence > e->fences_heard)
        return CLOCK_NEVER; /* the fence comes first */
    if (crowds(e, lane) || (e->state == ENGINE_STOPPING && e->drain_deadline_us != CLOCK_NEVER))
        return base_min_i64(lane->lease.until_us, lane->lease.stirred_us + CROWDED_US);
    return lane->lease.until_us;
}

/* Revokes what has not started; false while that is not decided. */
static bool fenced(engine *e, engine_lane *lane)
{
    engine_lease *lease = &lane->lease;

    if (lease->ending)
        return e->fences_heard >= lease->fence;
    lease->ending = true;
    if (lease->handed == 0)
        return true;
    for (list_link *link = lease->jobs.first; link != NULL; link = link->next) {
        engine_job *job = LIST_ENTRY(link, engine_job, member);

        if (job->state == JOB_HANDED && job->place == PLACE_POOL)
            engine_revoke(e, job);
    }
    lease->fence = ++e->fences_said;
    (void)engine_act(e, ACTION_FENCE);
    return false;
}

void engine_fenced(engine *e, int64_t now_us)
{
    e->fences_heard++;
    engine_plan(e, now_us);
}

settle_item engine_item_of(const engine_job *job, bool ends)
{
    return (settle_item){
        .token = job->token,
        .status = ends ? job->outcome.status : PGQ_STATUS_PICKED,
        .delay_ms = ends ? job->outcome.delay_ms : 0,
        .attempts = job->attempts,
        .entrypoint = job->entrypoint,
        .text = ends ? job->outcome.text : NULL,
        .own_type = ends ? job->own_type : NULL,
        .own_message = ends ? job->own_message : NULL,
        .place = job->where,
        .picked_us = job->picked_us,
        .priority = job->priority,
        .uncertain = job->uncertain || job->maybe_picked,
    };
}

/* Outcomes whose texts are too many for one sentence are settled later, as those of picked jobs. */
static void add_conclude(engine *e, int64_t now_us, engine_lane *lane)
{
    sentence *s = engine_add_sentence(lane, SENTENCE_CONCLUDE);
    size_t bytes = 0;

    lane->lease_count = 0;
    for (list_link *link = lane->lease.jobs.first; link != NULL; link = link->next) {
        engine_job *job = LIST_ENTRY(link, engine_job, member);
        bool ends = job->state == JOB_DONE;

        bytes += ends ? job->outcome.text_bytes : 0;
        ends = ends && (bytes <= ENGINE_SETTLE_TEXT_BYTES || job->outcome.text_bytes == 0);
        lane->lease_items[lane->lease_count] = engine_item_of(job, ends);
        lane->lease_jobs[lane->lease_count++] = job;
        if (ends) {
            engine_move(e, job, JOB_SETTLING);
            continue;
        }
        job->moving = true;
        job->stamp = 0;
        if (job->state == JOB_HANDED && now_us >= lane->lease.until_us)
            engine_observe_run(e, job->entrypoint, true);
    }
    s->of.settle.items = lane->lease_items;
    s->of.settle.count = lane->lease_count;
    s->of.settle.event_later = lane->lease.untold = engine_event_later(e, lane->lease_count);
}

bool engine_end_lease(engine *e, int64_t now_us, engine_lane *lane)
{
    engine_lease *lease = &lane->lease;

    if (!lease->ending && lease->handed > 0 && now_us < engine_lease_deadline(e, lane))
        return false;
    if (!fenced(e, lane))
        return false;
    lane->lease_count = 0;
    if (lease->jobs.count > 0 && !lease->failed)
        add_conclude(e, now_us, lane);
    (void)engine_add_sentence(lane, SENTENCE_COMMIT);
    if (lease->released) {
        (void)engine_add_sentence(lane, SENTENCE_ANNOUNCE);
        e->stalled = true;
    }
    return true;
}

void engine_leave_lease(engine_job *job)
{
    list_remove(&job->lease->lease.jobs, &job->member);
    job->lease->lease.handed -= job->state == JOB_HANDED;
    job->lease = NULL;
}

void engine_no_orphan(engine *e, engine_job *job)
{
    e->orphans -= job->orphan;
    job->orphan = job->moving = job->put_off = false;
}

/* The job runs on, or ended meanwhile, as a picked one. */
void engine_become_picked(engine *e, int64_t now_us, engine_lane *lane, engine_job *job)
{
    engine_action *action;

    engine_no_orphan(e, job);
    job->token.updated = job->stamp;
    job->uncertain = job->maybe_picked = job->hopeless = false;
    if (job->state == JOB_DONE) {
        engine_move(e, job, JOB_FINISHED);
        return;
    }
    if (job->body != NULL) {
        action = engine_act(e, ACTION_KEEP);
        action->lane = (int)(lane - e->lanes);
        action->body = job->body;
    }
    if (job->dropped)
        engine_give_back(e, now_us, job);
}

/* What was to become a picked job has no row of ours. One that was found unstarted meanwhile is
 * with nobody any more: telling it, or revoking it again, would never be answered. */
void engine_lose_moving(engine *e, engine_job *job)
{
    if (job->dropped) {
        engine_forget(e, job);
        return;
    }
    job->lost = true;
    engine_lost_claim(e, job);
    if (job->state == JOB_HANDED)
        engine_tell_lost(e, job);
    else
        engine_forget(e, job);
}

/* The reply counts when the commit is answered. */
void engine_hear_conclude(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    if (reply->refused) {
        lane->lease.failed = true;
        brake(e, now_us, lane);
        engine_say(e, NOTE_SETTLE_FAILED, (int)(lane - e->lanes), 0, (int64_t)lane->lease_count,
                   &reply->error);
        return;
    }
    engine_pace_settled(e, now_us, lane->lease_count, now_us - lane->heard_us);
    for (size_t i = 0; lane->lease_count > 0 && i < reply->place_count; i++)
        lane->lease_jobs[reply->places[i]]->stamp = reply->stamps[i];
}

void engine_close_lease(engine *e, engine_lane *lane)
{
    if (lane->lease.released) {
        engine_want_sweep(e);
        engine_wake(e);
    }
    assert(lane->lease.jobs.count == 0);
    lane->lease = (engine_lease){.open = false};
}

void engine_hear_commit(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    if (reply->refused || lane->lease.failed) {
        brake(e, now_us, lane);
        engine_lose_lease(e, lane, false);
        return;
    }
    engine_done_untold(e, lane);
    if (lane->lease_count > 0) {
        engine_release_brake(e);
        engine_fold_wanted(e);
    }
    if (lane->lease_count > 0 && e->lease_most < (size_t)e->config.batch_size)
        e->lease_most *= LEASE_GROWTH;
    for (size_t i = 0; i < lane->lease_count; i++) {
        engine_job *job = lane->lease_jobs[i];

        engine_leave_lease(job);
        if (job->state == JOB_SETTLING) {
            engine_settled(e, now_us, job);
        } else if (job->stamp != 0) {
            engine_become_picked(e, now_us, lane, job);
        } else { /* its row was not there, though it was locked */
            job->moving = false;
            engine_lose_moving(e, job);
        }
    }
    lane->lease_count = 0;
    engine_close_lease(e, lane);
}
