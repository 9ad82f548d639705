/* What must hold of jobs in memory, of time, and at the end of a worker and of a history. */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    SECOND_US = 1000 * 1000,
    PROMPT_US = 120 * 1000,      /* a job somebody idle knows of starts within */
    DEFERRED_US = 300 * 1000,    /* one that becomes due, perhaps between a claim and its probe */
    LOOK_AGAIN_US = 1600 * 1000, /* the same where others lock rows */
    ORPHAN_US = 2 * SECOND_US,   /* within this an idle worker adopts what it lost */
    TICKS_PER_SECOND = 700,
    EMPTY_CLAIMS_PER_SECOND = 60, /* and some for every reason to look */
    CLAIMS_PER_WAKE = 6,
    REFUSALS_PER_SECOND = 300, /* a bad row is refused once for each halving of its batch */
    AWAY_US = 36 * SECOND_US   /* a stopping worker waits so long for a lost database */
};

void violated(world *w, const char *format, ...)
{
    va_list args;

    if (w->failed)
        return;
    w->failed = true;
    va_start(args, format);
    (void)vsnprintf(w->failure, sizeof(w->failure), format, args);
    va_end(args);
}

void oracle_disturb(worker *who, int64_t until_us)
{
    who->disturbed_us = base_max_i64(who->disturbed_us, until_us);
}

bool oracle_disturbed_since(const worker *who, int64_t since_us)
{
    if (who->disturbed_us >= since_us)
        return true;
    for (int i = 0; who->ready && i < who->lane_count; i++) {
        if (who->lanes[i] == NULL || !who->lanes[i]->ready)
            return true;
    }
    return false;
}

/* ---- jobs ---- */

static bool claim_stands(world *w, const claim_record *claim)
{
    const model_row *row = model_row_of(&w->model, claim->token.id);

    return row->present && row->status == PGQ_STATUS_PICKED &&
           row->manager == claim->owner->serial && row->updated == claim->token.updated;
}

/* Whether another claim followed. An adoption of the worker's own that was carried out late, by a
 * connection long lost, may take what the worker has claimed since: it is a fault, not a theft. */
static bool taken_over(const job_record *job, const claim_record *claim)
{
    const claim_record *next = NULL;

    for (const claim_record *c = job->claims; c != claim; c = c->older)
        next = c;
    return next != NULL && !(next->late && next->owner == claim->owner);
}

void oracle_began(body *b)
{
    world *w = b->worker->world;
    job_record *job = &w->jobs[b->token.id - 1];
    const claim_record *claim = b->claim;
    bool extra = false;

    job->runs++;
    if (b->told_lost)
        violated(w, "I2: worker %d starts job %lld, whose claim it was told is lost",
                 (int)b->worker->serial, (long long)b->token.id);
    if (claim->settled || claim->released)
        violated(w, "I2: worker %d starts job %lld, which it has given out of its hands",
                 (int)b->worker->serial, (long long)b->token.id);
    if (taken_over(job, claim) && job->passed_over_us < claim->sent_us)
        violated(w, "I2: worker %d starts job %lld on a claim that somebody else took over",
                 (int)b->worker->serial, (long long)b->token.id);
    for (const claim_record *other = job->claims; other != NULL; other = other->older) {
        const body *first = other->body;

        if (other == claim || first == NULL)
            continue;
        if (first->state == BODY_RUNNING)
            count_path(w, PATH_OVERLAP);
        extra |= (first->state == BODY_RUNNING || first->state == BODY_ENDED) && !other->settled;
    }
    if (extra)
        count_path(w, PATH_EXTRA_RUN);
}

void oracle_forgot(body *b)
{
    world *w = b->worker->world;

    if (b->forgotten)
        violated(w, "I7: worker %d forgets job %lld twice", (int)b->worker->serial,
                 (long long)b->token.id);
    else if (b->state == BODY_WAITING || b->state == BODY_RUNNING)
        violated(w, "I7: worker %d forgets job %lld, which is with the pool",
                 (int)b->worker->serial, (long long)b->token.id);
    else if (claim_stands(w, b->claim) && !b->claim->release_refused)
        violated(w, "I1: worker %d forgets job %lld while its claim stands", (int)b->worker->serial,
                 (long long)b->token.id);
    trace_add(w, "forgets", b->worker, -1, b->token.id, b->token.updated);
    b->forgotten = true;
    b->worker->kept--;
}

/* Whether a claim that its owner does not know of has to wait for the heartbeat timeout: it was
 * made after the owner had looked, nobody would take it back, or a lock hid it from adoption. */
static bool left_behind(world *w, const claim_record *claim)
{
    const model_row *row = model_row_of(&w->model, claim->token.id);

    return claim->late || claim->release_refused || row->locked_until_us >= claim->token.updated;
}

/* ---- the engine's own books ---- */

void oracle_counted(worker *who)
{
    world *w = who->world;

    if (engine_running(who->engine) != who->in_pool)
        violated(w, "I6: worker %d thinks that %zu jobs are with the pool; there are %zu",
                 (int)who->serial, engine_running(who->engine), who->in_pool);
    if (engine_held(who->engine) < who->kept)
        violated(w, "I6: worker %d thinks that it holds %zu jobs; it has %zu", (int)who->serial,
                 engine_held(who->engine), who->kept);
    if (w->now_us >= who->window_us + SECOND_US) {
        who->window_us = w->now_us;
        who->ticks = who->empty_claims = who->wakes = who->refusals = 0;
    }
    if (who->empty_claims > EMPTY_CLAIMS_PER_SECOND + CLAIMS_PER_WAKE * who->wakes)
        violated(w, "I7: worker %d claims in a hot loop", (int)who->serial);
    if (who->refusals > REFUSALS_PER_SECOND)
        violated(w, "I7: worker %d repeats what was refused in a hot loop", (int)who->serial);
}

void oracle_ticked(worker *who)
{
    world *w = who->world;

    w->tally->ticks++;
    if (!who->alive || w->failed)
        return;
    if (engine_deadline(who->engine) <= w->now_us)
        violated(w, "I7: worker %d wants a tick again at once", (int)who->serial);
    if (++who->ticks > TICKS_PER_SECOND)
        violated(w, "I7: worker %d ticks in a hot loop", (int)who->serial);
}

/* ---- the end of a worker ---- */

static bool can_settle(const worker *who)
{
    for (int i = 1; i < who->lane_count; i++) {
        if (who->lanes[i] != NULL && who->lanes[i]->ready)
            return true;
    }
    return false;
}

static void check_nothing_left(worker *who)
{
    world *w = who->world;

    if (engine_held(who->engine) > 0 || who->kept > 0 || who->in_pool > 0)
        violated(w, "I7: worker %d ended with %zu jobs, %zu of them in memory", (int)who->serial,
                 engine_held(who->engine), who->kept);
    for (size_t i = 0; i < w->model.row_count; i++) {
        const claim_record *claim = w->jobs[i].claims;

        if (claim == NULL || claim->owner != who || !claim_stands(w, claim) ||
            left_behind(w, claim) || who->give_back_refused)
            continue;
        violated(w, "I1: worker %d ended and left job %lld picked", (int)who->serial,
                 (long long)claim->token.id);
    }
}

static bool left_own_retry(const worker *who)
{
    const world *w = who->world;

    for (size_t i = 0; i < w->model.row_count; i++) {
        const model_row *row = &w->model.rows[i];

        if (row->present && row->status == PGQ_STATUS_QUEUED &&
            w->jobs[i].retried_by == who->serial)
            return true;
    }
    return false;
}

static void check_end_was_due(worker *who)
{
    world *w = who->world;

    if (who->asked_to_stop) {
        count_path(w, PATH_ENDED_STOPPED);
    } else if (who->config.drain && who->probe_said_empty) {
        count_path(w, PATH_ENDED_DRAINED);
        if (left_own_retry(who))
            violated(w, "I4: worker %d has drained the queue and left a retry of its own in it",
                     (int)who->serial);
    } else {
        violated(w, "I4: worker %d ended by itself", (int)who->serial);
    }
}

void oracle_ended(worker *who, const pgq_error *error)
{
    world *w = who->world;

    if (engine_counts(who->engine)->claimed != who->heard_rows)
        violated(w, "I6: worker %d counts %llu claims of %llu", (int)who->serial,
                 (unsigned long long)engine_counts(who->engine)->claimed,
                 (unsigned long long)who->heard_rows);
    if (!who->ready && (error->code != PGQ_OK || who->asked_to_stop)) {
        count_path(w, PATH_ENDED_REFUSED); /* at its start */
    } else if (error->code == PGQ_OK) {
        check_end_was_due(who);
        check_nothing_left(who);
    } else if (who->config.drain_timeout_us > 0 &&
               w->now_us >= who->stop_us + who->config.drain_timeout_us) {
        count_path(w, PATH_ENDED_TIMEOUT);
    } else if (error->code == PGQ_E_CONNECTION_LOST && !can_settle(who)) {
        count_path(w, PATH_ENDED_AWAY);
    } else if (engine_held(who->engine) == 0) {
        count_path(w, PATH_ENDED_REFUSED);
        check_nothing_left(who);
    } else if (!can_settle(who)) {
        count_path(w, PATH_ENDED_AWAY);
    } else {
        violated(w, "I7: worker %d gave up %zu jobs while it was connected", (int)who->serial,
                 engine_held(who->engine));
    }
}

/* ---- time ---- */

/* Whether the worker must have heard that the queued row is there, or will be due. */
static bool knows_of(const worker *who, const model_row *row, const job_record *job)
{
    if (who->missed_us >= row->queued_us || who->hampered_us >= row->queued_us - BACKOFF_US ||
        oracle_disturbed_since(who, row->queued_us - BACKOFF_US))
        return false;
    if (job->retried_by != 0)
        return job->retried_by == who->serial;
    return job->notified && who->lanes[0]->listening && who->listening_since_us <= row->queued_us;
}

/* Jobs that cannot be settled fill the memory that the engine has for such: it may have to wait. */
static bool crowded(const worker *who)
{
    const engine_config *config = &who->config;
    size_t bad = 0;

    for (const body *b = who->bodies; b != NULL; b = b->next) {
        const model_row *row = model_row_of(&who->world->model, b->token.id);

        bad += !b->forgotten && row->poison == POISON_ROW;
    }
    return bad + 1 >= (size_t)config->threads + 2 * (size_t)config->batch_size;
}

static void check_queued(world *w, const model_row *row)
{
    const job_record *job = &w->jobs[row->id - 1];
    int64_t due_us = base_max_i64(row->queued_us, row->execute_after);
    int64_t bound_us = w->dequeue_us + w->heartbeat_us + SECOND_US;
    bool at_once = job->retried_by == 0 && row->execute_after <= row->queued_us;
    int64_t prompt_us = w->locks ? LOOK_AGAIN_US : at_once ? PROMPT_US : DEFERRED_US;

    due_us = base_max_i64(due_us, row->locked_until_us);
    for (size_t i = 0; i < w->worker_count; i++) {
        const worker *who = w->workers[i];
        int64_t since_us;

        if (!who->alive || who->idle_since_us == CLOCK_NEVER || crowded(who))
            continue;
        since_us = base_max_i64(due_us, who->idle_since_us);
        if (knows_of(who, row, job) && w->now_us - since_us > prompt_us)
            violated(w, "I4: job %lld waits for %lld ms beside worker %d, which is idle and knows",
                     (long long)row->id, (long long)(w->now_us - since_us) / 1000,
                     (int)who->serial);
        since_us = base_max_i64(since_us, base_max_i64(w->faults_end_us, who->disturbed_us));
        if (w->now_us - since_us > bound_us + BACKOFF_US)
            violated(w, "I4: job %lld has waited for %lld ms beside worker %d, which is idle",
                     (long long)row->id, (long long)(w->now_us - since_us) / 1000,
                     (int)who->serial);
    }
}

/* A picked row that nobody works on: its worker has ended, or does not know of it. */
static void check_abandoned(world *w, const model_row *row, const claim_record *claim)
{
    const worker *owner = claim->owner;
    int64_t bound_us = w->dequeue_us + w->heartbeat_us + SECOND_US + BACKOFF_US;
    int64_t due_us = base_max_i64(row->heartbeat + w->heartbeat_us, row->locked_until_us);

    if (owner->alive && owner->idle_since_us != CLOCK_NEVER && !owner->stopping &&
        !left_behind(w, claim) && w->now_us - owner->idle_since_us > ORPHAN_US &&
        w->now_us - row->heartbeat > ORPHAN_US &&
        !oracle_disturbed_since(owner, w->now_us - BACKOFF_US - ORPHAN_US))
        violated(w, "I4: worker %d has left job %lld, which a lost reply gave it",
                 (int)owner->serial, (long long)row->id);
    for (size_t i = 0; i < w->worker_count; i++) {
        const worker *who = w->workers[i];
        int64_t since_us = base_max_i64(due_us, who->idle_since_us);

        if (!who->alive || who->idle_since_us == CLOCK_NEVER || crowded(who))
            continue;
        since_us = base_max_i64(since_us, base_max_i64(w->faults_end_us, who->disturbed_us));
        if (w->now_us - since_us > bound_us)
            violated(w, "I4: job %lld of a silent claim waits for %lld ms beside worker %d",
                     (long long)row->id, (long long)(w->now_us - since_us) / 1000,
                     (int)who->serial);
    }
}

/* A worker whose LISTEN was refused has to try again. */
static void check_listening(const worker *who)
{
    const world *w = who->world;
    const connection *c = who->lanes[0];
    int64_t since_us = base_max_i64(who->idle_since_us, who->disturbed_us);

    if (!who->alive || who->idle_since_us == CLOCK_NEVER || c->listening)
        return;
    since_us = base_max_i64(since_us, base_max_i64(c->ready_us, w->faults_end_us));
    if (w->now_us - since_us > w->dequeue_us + 2 * SECOND_US)
        violated(who->world, "I4: worker %d does not listen", (int)who->serial);
}

static void check_stopping(const worker *who)
{
    int64_t since_us = base_max_i64(who->stop_us, who->frozen_until_us);

    if (!who->alive || !who->stopping || who->lanes_lost_us == CLOCK_NEVER)
        return;
    since_us = base_max_i64(since_us, who->lanes_lost_us);
    if (who->world->now_us - since_us > AWAY_US)
        violated(who->world, "I4: worker %d, asked to stop, waits for a lost database",
                 (int)who->serial);
}

void oracle_check(world *w)
{
    for (size_t i = 0; i < w->worker_count; i++)
        check_stopping(w->workers[i]);
    for (size_t i = 0; i < w->worker_count; i++)
        check_listening(w->workers[i]);
    if (w->closing)
        return;
    for (size_t i = 0; i < w->model.row_count && !w->failed; i++) {
        const model_row *row = &w->model.rows[i];
        const claim_record *claim = w->jobs[i].claims;

        if (!row->present || row->locked_until_us > w->now_us)
            continue;
        if (row->status == PGQ_STATUS_QUEUED && row->execute_after <= w->now_us)
            check_queued(w, row);
        else if (row->status == PGQ_STATUS_PICKED && !claim->reply_pending &&
                 (!claim->owner->alive || claim->body == NULL || claim->body->forgotten))
            check_abandoned(w, row, claim);
    }
}

/* ---- the end of a history ---- */

void oracle_end(world *w)
{
    for (size_t i = 0; i < w->model.row_count; i++) {
        const model_row *row = &w->model.rows[i];

        if (row->present ? row->status != PGQ_STATUS_FAILED || row->terminal_count != 0
                         : row->terminal_count != 1)
            violated(w, "I1: job %lld is %s and has %d terminal log rows", (long long)row->id,
                     row->present ? "in the queue" : "gone", row->terminal_count);
        if (!row->present && row->terminal != PGQ_STATUS_CANCELED && w->jobs[i].runs == 0)
            violated(w, "I6: job %lld has ended and never run", (long long)row->id);
    }
    for (size_t i = 0; i < w->worker_count; i++) {
        if (w->workers[i]->alive)
            violated(w, "I4: worker %d has not ended", (int)w->workers[i]->serial);
    }
}
