/* What must hold of jobs in memory, of the engine's books, and at the end of a worker and of a
 * history. */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    SECOND_US = 1000 * 1000,
    TICKS_PER_SECOND = 700,
    EMPTY_CLAIMS_PER_SECOND = 60, /* and some for every reason to look */
    PROBES_PER_SECOND = 250,      /* the same, with polls every 10 ms where it is deaf */
    CLAIMS_PER_WAKE = 6,
    CLAIMS_PER_ROW = 3, /* each may ask after a claim that came back full */
    /* a bad row is refused once for each halving of its batch, or all rows are */
    REFUSALS_PER_SECOND = 300
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
        if (who->lanes[i] == NULL || !who->lanes[i]->ready || network_silent(who->lanes[i]))
            return true;
    }
    return false;
}

/* ---- jobs ---- */

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
    if (b->cancelled_us != CLOCK_NEVER)
        violated(w, "I2: worker %d starts job %lld, of which it has heard that it is cancelled",
                 (int)b->worker->serial, (long long)b->token.id);
    if (b->told_lost)
        violated(w, "I2: worker %d starts job %lld, whose claim it was told is lost",
                 (int)b->worker->serial, (long long)b->token.id);
    if (claim->settled || claim->released)
        violated(w, "I2: worker %d starts job %lld, which it has given out of its hands",
                 (int)b->worker->serial, (long long)b->token.id);
    if (claim->lease != NULL && !b->kept)
        oracle_lease_began(b);
    else if (taken_over(job, claim))
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

    hands_leave_rest(b);
    if (b->forgotten || b->abandoned)
        violated(w, "I7: worker %d forgets job %lld twice", (int)b->worker->serial,
                 (long long)b->token.id);
    else if (b->state == BODY_WAITING || b->state == BODY_RUNNING || b->state == BODY_PARKED)
        violated(w, "I7: worker %d forgets job %lld, which is with the pool",
                 (int)b->worker->serial, (long long)b->token.id);
    else if (!oracle_lease_forgot(b) && oracle_stands(w, b->claim))
        violated(w, "I1: worker %d forgets job %lld while its claim stands", (int)b->worker->serial,
                 (long long)b->token.id);
    trace_add(w, "forgets", b->worker, -1, b->token.id, b->token.updated);
    b->forgotten = true;
    b->worker->kept--;
}

/* ---- the engine's own books ---- */

/* Jobs that are to be given back, when it is known whose they are. */
static size_t dropped(const worker *who)
{
    size_t count = 0;

    if (engine_running(who->engine) <= who->in_pool)
        return 0;
    for (const body *b = who->bodies; b != NULL; b = b->next)
        count += !b->forgotten && oracle_in_doubt(b) &&
                 (b->state == BODY_REVOKED || oracle_gave_up_to_stop(b));
    return count;
}

void oracle_counted(worker *who)
{
    world *w = who->world;

    /* a rest that is broken off shows only when the job is given back or written */
    if (engine_running(who->engine) > who->in_pool + dropped(who) ||
        engine_running(who->engine) + who->resting < who->in_pool)
        violated(w, "I6: worker %d thinks that %zu jobs are with the pool; there are %zu",
                 (int)who->serial, engine_running(who->engine), who->in_pool);
    if (engine_stragglers(who->engine) != who->stragglers)
        violated(w, "I6: worker %d thinks that %zu threads are stuck; there are %zu",
                 (int)who->serial, engine_stragglers(who->engine), who->stragglers);
    if (engine_counts(who->engine)->timed_out != who->gave_up)
        violated(w, "I6: worker %d counts %llu handlers that it gave up; there are %llu",
                 (int)who->serial, (unsigned long long)engine_counts(who->engine)->timed_out,
                 (unsigned long long)who->gave_up);
    if (engine_held(who->engine) < who->kept)
        violated(w, "I6: worker %d thinks that it holds %zu jobs; it has %zu", (int)who->serial,
                 engine_held(who->engine), who->kept);
    if (w->now_us >= who->window_us + SECOND_US) {
        who->window_us = w->now_us;
        who->ticks = who->empty_claims = who->wakes = who->rows = who->refusals = who->probes = 0;
    }
    /* where there are two lanes, every look says two */
    if (who->empty_claims / (w->lease_us > 0 ? 2 : 1) >
        EMPTY_CLAIMS_PER_SECOND + CLAIMS_PER_WAKE * who->wakes + CLAIMS_PER_ROW * who->rows)
        violated(w, "I7: worker %d claims in a hot loop", (int)who->serial);
    if (who->probes > PROBES_PER_SECOND + CLAIMS_PER_WAKE * who->wakes + CLAIMS_PER_ROW * who->rows)
        violated(w, "I7: worker %d probes in a hot loop", (int)who->serial);
    if (who->refusals > (w->now_us < w->broken_until_us + SECOND_US ? 3 : 1) * REFUSALS_PER_SECOND)
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

        if (claim == NULL || claim->owner != who || !oracle_stands(w, claim) ||
            oracle_left_behind(w, claim) || who->adopt_refused ||
            (claim->lease != NULL && !claim->demoted && !claim->lease->connection->open))
            continue;
        violated(w, "I1: worker %d ended and left job %lld picked", (int)who->serial,
                 (long long)claim->token.id);
    }
}

/* A drain that ends by itself leaves nothing in the queue that it has put there: no retry, and no
 * job that it gave back, which it has to claim again. */
static void check_left_nothing(worker *who)
{
    world *w = who->world;

    for (size_t i = 0; i < w->model.row_count; i++) {
        const model_row *row = &w->model.rows[i];
        const job_record *job = &w->jobs[i];

        if (!row->present || row->status != PGQ_STATUS_QUEUED)
            continue;
        if (job->retried_by == who->serial && !who->config.drain_now)
            violated(w, "I4: worker %d has drained the queue and left a retry of its own in it",
                     (int)who->serial);
        if (job->released_by == who->serial)
            violated(w, "I4: worker %d has drained the queue and given job %lld back",
                     (int)who->serial, (long long)row->id);
    }
}

static void check_end_was_due(worker *who)
{
    world *w = who->world;

    if (who->asked_to_stop) {
        count_path(w, PATH_ENDED_STOPPED);
        return;
    }
    if (who->config.only_job != 0) {
        count_path(w, PATH_ENDED_ONLY);
        return;
    }
    if (who->config.drain && who->probe_said_empty)
        count_path(w, PATH_ENDED_DRAINED);
    else if (who->config.drain_now && !who->probe_said_due)
        count_path(w, PATH_ENDED_NOW);
    else
        violated(w, "I4: worker %d ended by itself", (int)who->serial);
    check_left_nothing(who);
}

static void check_timed_out(worker *who)
{
    world *w = who->world;
    int64_t timeout_us = who->config.drain_timeout_us;

    if (who->hurried_us != CLOCK_NEVER && w->now_us >= who->hurried_us + SECOND_US)
        count_path(w, PATH_ENDED_HURRIED);
    else if (timeout_us > 0 && w->now_us >= who->stop_us + timeout_us)
        count_path(w, PATH_ENDED_TIMEOUT);
    else
        violated(w, "I4: worker %d ended before its time to drain was over", (int)who->serial);
}

static bool out_of_time(const worker *who)
{
    int64_t now_us = who->world->now_us, timeout_us = who->config.drain_timeout_us;

    return (timeout_us > 0 && now_us >= who->stop_us + timeout_us) ||
           (who->hurried_us != CLOCK_NEVER && now_us >= who->hurried_us + SECOND_US);
}

bool oracle_all_refused(const worker *who, int times)
{
    for (const body *b = who->bodies; b != NULL; b = b->next) {
        if (!b->forgotten && !b->abandoned &&
            (b->state == BODY_RUNNING || b->claim->refused_at_end < times))
            return false;
    }
    return true;
}

/* With an error, before its jobs were settled: it had no time left, or nobody to settle with. */
static void check_gave_up(worker *who)
{
    world *w = who->world;

    if (out_of_time(who))
        count_path(w, PATH_ENDED_TIMEOUT);
    else if (!can_settle(who))
        count_path(w, PATH_ENDED_AWAY);
    else if (oracle_all_refused(who, 1))
        count_path(w, PATH_ENDED_UNSETTLED);
    else
        violated(w, "I7: worker %d gave up %zu jobs while it was connected", (int)who->serial,
                 engine_held(who->engine));
}

static void check_error(worker *who, const pgq_error *error)
{
    world *w = who->world;
    bool may_be_deaf = who->config.end_when_deaf && !who->config.drain;

    if (error->code == PGQ_E_FAILING_LISTENER && may_be_deaf && who->was_deaf)
        count_path(w, PATH_ENDED_DEAF);
    else if (error->code == PGQ_E_DATABASE && who->may_end)
        count_path(w, PATH_ENDED_REFUSED);
    else if (error->code == PGQ_E_DATABASE && who->config.drain && who->stopped_unsettled)
        count_path(w, PATH_ENDED_UNSETTLED); /* it tried once more, with success */
    else
        violated(w, "I7: worker %d ended with error %d, and nothing was refused to it",
                 (int)who->serial, (int)error->code);
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
        if (who->untold_us != CLOCK_NEVER && !oracle_disturbed_since(who, who->untold_us))
            violated(w, "I4: worker %d ends, and no event says that jobs are done",
                     (int)who->serial);
    } else if (error->code == PGQ_E_TIMEOUT) {
        check_timed_out(who);
    } else if (error->code == PGQ_E_CONNECTION_LOST && !can_settle(who)) {
        count_path(w, PATH_ENDED_AWAY);
    } else if (engine_held(who->engine) > 0) {
        check_gave_up(who);
    } else {
        check_error(who, error);
        if (!out_of_time(who) && can_settle(who))
            check_nothing_left(who);
    }
}

void oracle_check(world *w)
{
    for (size_t i = 0; i < w->worker_count && !w->failed; i++) {
        oracle_check_bodies(w->workers[i]);
        oracle_check_listener(w->workers[i]);
        oracle_check_leases(w->workers[i]);
    }
    oracle_check_waiting(w);
}

/* ---- the end of a history ---- */

void oracle_end(world *w)
{
    for (size_t i = 0; i < w->model.row_count; i++) {
        const model_row *row = &w->model.rows[i];

        bool rests = row->status == PGQ_STATUS_FAILED ||
                     (row->status == PGQ_STATUS_QUEUED && w->entries[row->entrypoint].never);

        if (row->present ? !rests || row->terminal_count != 0 : row->terminal_count != 1)
            violated(w, "I1: job %lld is %s and has %d terminal log rows", (long long)row->id,
                     row->present ? "in the queue" : "gone", row->terminal_count);
        if (!row->present && row->terminal != PGQ_STATUS_CANCELED && w->jobs[i].runs == 0)
            violated(w, "I6: job %lld has ended and never run", (long long)row->id);
    }
    for (int status = 0; status < MODEL_STATUSES; status++) {
        if (w->model.log[status] != w->journal[status] ||
            w->model.statistics[status] + w->model.unfolded[status] != w->journal[status])
            violated(w, "I6: the log has %llu rows of status %d, the journal %llu",
                     (unsigned long long)w->model.log[status], status,
                     (unsigned long long)w->journal[status]);
    }
    for (size_t i = 0; i < w->worker_count; i++) {
        if (w->workers[i]->alive)
            violated(w, "I4: worker %d has not ended", (int)w->workers[i]->serial);
    }
}
