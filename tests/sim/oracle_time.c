/* What must hold of time: who waits too long beside somebody who could help. */
#include "sim.h"

enum {
    SECOND_US = 1000 * 1000,
    PROMPT_US = 120 * 1000,      /* a job somebody idle knows of starts within */
    DEFERRED_US = 300 * 1000,    /* one that becomes due, perhaps between a claim and its probe */
    LOOK_AGAIN_US = 1600 * 1000, /* the same where others lock rows */
    CONTENDED_US = 300 * 1000,   /* more, where claims meet */
    DEAF_POLL_US = 1300 * 1000,  /* a worker that knows itself deaf finds a job within */
    SWEPT_US = 200 * 1000,     /* of sweeps whose replies took as long as those of a good network */
    ORPHAN_US = 2 * SECOND_US, /* within this an idle worker adopts what it lost */
    AWAY_US = 36 * SECOND_US,  /* a stopping worker waits so long for a lost database */
    HURRY_US = 1200 * 1000,
    DONE_US = 2000 * 1000 /* the end of a worker that has nothing left */
};

/* Whether a claim that its owner does not know of has to wait for the heartbeat timeout: it was
 * made after the owner had stopped to look, or a lock hid it from adoption. */
bool oracle_left_behind(world *w, const claim_record *claim)
{
    const model_row *row = model_row_of(&w->model, claim->token.id);

    return claim->hopeless || row->locked_until_us >= claim->token.updated;
}

/* Whether the worker must have heard that the queued row is there, or will be due, or that its
 * entrypoint has a seat again. */
static bool knows_of(const worker *who, const model_row *row, const job_record *job)
{
    const world *w = who->world;
    int64_t since_us = row->queued_us;
    bool limited = who->entries[row->entrypoint].limit > 0;

    if (limited)
        since_us = base_max_i64(since_us, w->entries[row->entrypoint].changed_us);
    if (who->hampered_us >= row->queued_us - BACKOFF_US ||
        oracle_disturbed_since(who, row->queued_us - BACKOFF_US))
        return false;
    if (job->retried_by == who->serial && !limited)
        return true; /* it needs no notification of what it did itself */
    if (who->missed_us >= row->queued_us)
        return false;
    return (job->notified || job->retried_by == who->serial) && who->lanes[0]->listening &&
           who->listening_since_us <= row->queued_us && who->missed_us < since_us;
}

/* A limited entrypoint: whether the row is the first that is due, and a seat is free for it. */
static bool has_seat(world *w, const model_row *row)
{
    int32_t limit = w->entries[row->entrypoint].options.limit;

    if (!w->same_limits)
        return false; /* nobody knows whom it waits for */
    if (limit == 0)
        return true;
    for (size_t i = 0; i < w->model.row_count; i++) {
        const model_row *other = &w->model.rows[i];

        if (other->present && other->status == PGQ_STATUS_QUEUED &&
            other->execute_after <= w->now_us && other->entrypoint == row->entrypoint &&
            model_compare(&other, &row) < 0)
            return false;
    }
    return model_picked(&w->model, row->entrypoint) < (size_t)limit;
}

/* How much longer an entrypoint's own rules may make a job wait. */
static int64_t extra_wait(const world *w, uint32_t entrypoint)
{
    const engine_entrypoint *entry = &w->entries[entrypoint].options;
    int64_t extra_us = w->fault_rates[FAULT_CONTENDED] > 0 ? CONTENDED_US : 0;

    if (w->lease_us > 0) /* its lanes may all have jobs leased, and what cursors pass waits */
        extra_us += w->lease_us + SWEPT_US + 5 * w->walk_us;

    if (entry->rated && entry->rate > 0)
        extra_us += (int64_t)(2e6 / entry->rate) + 50 * 1000;
    return extra_us;
}

/* Where due jobs of another entrypoint have to wait, a probe cannot tell one that has become due
 * since the claim from them. */
static bool some_wait(const world *w)
{
    bool some = false;

    for (size_t i = 0; i < w->entry_count; i++)
        some |= w->entries[i].options.limit > 0 || w->entries[i].options.rated;
    return some;
}

/* A lost claim may bring more than it was known to: no more is claimed than there is room for. */
static bool reserves(const worker *who)
{
    return who->config.held_max > 0 &&
           who->world->now_us < who->claim_lost_us + GHOST_US + 2 * SECOND_US;
}

static void check_beside(world *w, const model_row *row, const worker *who, int64_t due_us)
{
    const job_record *job = &w->jobs[row->id - 1];
    int64_t extra_us = extra_wait(w, row->entrypoint);
    int64_t bound_us = w->dequeue_us + w->heartbeat_us + SECOND_US + BACKOFF_US + extra_us;
    bool at_once = job->retried_by == 0 && row->execute_after <= row->queued_us;
    int64_t prompt_us = at_once ? PROMPT_US : DEFERRED_US;
    int64_t since_us = base_max_i64(due_us, who->idle_since_us);

    if (w->locks || (!at_once && some_wait(w)))
        prompt_us = LOOK_AGAIN_US;
    if (row->freed_us > 0 && job->announced_us >= row->freed_us)
        since_us = base_max_i64(since_us, job->announced_us);
    else if (row->freed_us > 0) /* its holder has died, and nothing has said so */
        prompt_us = LOOK_AGAIN_US;
    if (knows_of(who, row, job) && w->now_us - since_us > prompt_us + extra_us)
        violated(w, "I4: job %lld waits for %lld ms beside worker %d, which is idle and knows",
                 (long long)row->id, (long long)(w->now_us - since_us) / 1000, (int)who->serial);
    since_us = base_max_i64(since_us, base_max_i64(w->faults_end_us, who->disturbed_us));
    if (w->now_us - since_us > bound_us)
        violated(w, "I4: job %lld has waited for %lld ms beside worker %d, which is idle",
                 (long long)row->id, (long long)(w->now_us - since_us) / 1000, (int)who->serial);
}

/* A lane of it waits for an answer that never comes: it may be the one that looks. */
static bool waits_in_vain(const worker *who)
{
    for (int i = 1; i < who->lane_count; i++) {
        const connection *c = who->lanes[i];

        if (c != NULL && c->open && !c->cut && network_silent(c))
            return true;
    }
    return false;
}

/* A worker that knows that it cannot hear anything looks by itself. */
static void check_beside_deaf(world *w, const model_row *row, const worker *who, int64_t due_us)
{
    int64_t deaf_us = base_min_i64(who->deaf_noted_us, who->control_lost_us);
    int64_t since_us = base_max_i64(base_max_i64(due_us, who->claims_since_us), deaf_us);

    if (deaf_us == CLOCK_NEVER || who->claims_since_us == CLOCK_NEVER || waits_in_vain(who))
        return;
    if (who->held_up_us > since_us - BACKOFF_US || w->now_us < who->claim_lost_us + GHOST_US ||
        w->now_us - since_us <= DEAF_POLL_US + extra_wait(w, row->entrypoint))
        return;
    violated(w, "I4: job %lld has waited for %lld ms beside worker %d, which knows that it is deaf",
             (long long)row->id, (long long)(w->now_us - since_us) / 1000, (int)who->serial);
}

static void check_queued(world *w, const model_row *row)
{
    const entry_plan *entry = &w->entries[row->entrypoint];
    int64_t due_us = base_max_i64(row->queued_us, row->execute_after);

    if (entry->never || !has_seat(w, row))
        return;
    if (entry->options.limit > 0 || entry->options.rated)
        due_us = base_max_i64(due_us, entry->changed_us);
    due_us = base_max_i64(due_us, base_max_i64(row->locked_until_us, row->freed_us));
    for (size_t i = 0; i < w->worker_count && !w->failed; i++) {
        const worker *who = w->workers[i];

        if (!who->alive || reserves(who) || oracle_has_orphan(who, row->id))
            continue;
        if (who->idle_since_us != CLOCK_NEVER)
            check_beside(w, row, who, due_us);
        check_beside_deaf(w, row, who, due_us);
    }
}

/* How long the others of a rated entrypoint may go first. */
static int64_t behind_others(const world *w, uint32_t entrypoint)
{
    const engine_entrypoint *entry = &w->entries[entrypoint].options;
    int64_t others = 0;

    if (!entry->rated || entry->rate <= 0)
        return 0;
    for (size_t i = 0; i < w->model.row_count; i++)
        others += w->model.rows[i].present && w->model.rows[i].entrypoint == entrypoint;
    return (int64_t)((double)others * 1e6 / entry->rate);
}

/* A picked row that nobody works on: its worker has ended, or does not know of it. */
static void check_abandoned(world *w, const model_row *row, const claim_record *claim)
{
    const worker *owner = claim->owner;
    int64_t bound_us = w->dequeue_us + w->heartbeat_us + SECOND_US + BACKOFF_US +
                       extra_wait(w, row->entrypoint) + behind_others(w, row->entrypoint);
    int64_t silence_us = w->entries[row->entrypoint].options.silence_us;
    int64_t due_us = base_max_i64(row->heartbeat + silence_us, row->locked_until_us);

    if (owner->alive && owner->idle_since_us != CLOCK_NEVER && !owner->stopping &&
        !oracle_left_behind(w, claim) && !oracle_has_orphan(owner, row->id) &&
        w->now_us - owner->idle_since_us > ORPHAN_US && w->now_us - row->heartbeat > ORPHAN_US &&
        !oracle_disturbed_since(owner, w->now_us - BACKOFF_US - ORPHAN_US))
        violated(w, "I4: worker %d has left job %lld, which a lost reply gave it",
                 (int)owner->serial, (long long)row->id);
    for (size_t i = 0; i < w->worker_count; i++) {
        const worker *who = w->workers[i];
        int64_t since_us = base_max_i64(due_us, who->idle_since_us);

        if (!who->alive || who->idle_since_us == CLOCK_NEVER || reserves(who))
            continue;
        since_us = base_max_i64(since_us, base_max_i64(w->faults_end_us, who->disturbed_us));
        if (w->now_us - since_us > bound_us)
            violated(w, "I4: job %lld of a silent claim waits for %lld ms beside worker %d",
                     (long long)row->id, (long long)(w->now_us - since_us) / 1000,
                     (int)who->serial);
    }
}

static void check_stopping(const worker *who)
{
    world *w = who->world;
    int64_t since_us = base_max_i64(who->stop_us, who->frozen_until_us);
    int64_t done_us = base_max_i64(base_max_i64(who->done_since_us, who->frozen_until_us),
                                   base_max_i64(who->disturbed_us, who->claim_lost_us + GHOST_US));

    if (!who->alive || w->now_us < who->frozen_until_us)
        return;
    if (who->hurried_us != CLOCK_NEVER &&
        w->now_us > base_max_i64(who->hurried_us, who->frozen_until_us) + HURRY_US)
        violated(w, "I4: worker %d was hurried and has not ended", (int)who->serial);
    done_us = base_max_i64(done_us, who->adopt_refused_us + BACKOFF_US);
    if (who->done_since_us != CLOCK_NEVER && w->now_us > done_us + DONE_US)
        violated(w, "I4: worker %d, asked to stop, has nothing left to do and does not end",
                 (int)who->serial);
    if (!who->stopping || who->lanes_lost_us == CLOCK_NEVER)
        return;
    since_us = base_max_i64(since_us, who->lanes_lost_us);
    if (w->now_us - since_us > AWAY_US)
        violated(w, "I4: worker %d, asked to stop, waits for a lost database", (int)who->serial);
}

/* What was settled is to be folded, up to a fifth later than the interval, or three seconds after a
 * fold whose session was lost, and after the other kind. */
static void check_folding(const worker *who, bool counts)
{
    world *w = who->world;
    int64_t interval_us = base_max_i64(who->config.aggregate_interval_us, 3 * SECOND_US);
    int64_t bound_us = interval_us * 6 / 5 + 3 * SECOND_US;
    int64_t since_us = base_max_i64(who->settled_us[counts], who->idle_since_us);

    if (!who->alive || who->config.aggregate_interval_us == 0 ||
        who->settled_us[counts] == CLOCK_NEVER || who->idle_since_us == CLOCK_NEVER ||
        (counts && !w->extras))
        return;
    if (w->now_us - base_max_i64(since_us, who->disturbed_us) > bound_us)
        violated(w, "I6: worker %d has not folded the %s for %lld ms", (int)who->serial,
                 counts ? "counts" : "log", (long long)(w->now_us - since_us) / 1000);
}

void oracle_check_waiting(world *w)
{
    for (size_t i = 0; i < w->worker_count && !w->failed; i++) {
        check_stopping(w->workers[i]);
        check_folding(w->workers[i], false);
        check_folding(w->workers[i], true);
    }
    if (w->closing)
        return;
    for (size_t i = 0; i < w->model.row_count && !w->failed; i++) {
        const model_row *row = &w->model.rows[i];
        const claim_record *claim = w->jobs[i].claims;

        if (!row->present || model_locked(row, w->now_us))
            continue;
        if (row->status == PGQ_STATUS_QUEUED && row->execute_after <= w->now_us)
            check_queued(w, row);
        else if (row->status == PGQ_STATUS_PICKED && !claim->reply_pending &&
                 (!claim->owner->alive || claim->body == NULL || claim->body->forgotten))
            check_abandoned(w, row, claim);
    }
}
