/* What must hold of leases as they are said, carried out and heard: who may be leased, what is
 * written at a lease's end and after its loss, and that nothing of it is left. */
#include "sim.h"

enum {
    MS = 1000,
    SECOND_US = 1000 * 1000,
    HOLD_LEAST_US = 2 * SECOND_US,
    HOLD_MOST_US = 20 * SECOND_US,
    IDLE_LEASES_MAX = 300,
    LARGE_LEASES_MAX = 12
};

claim_record *oracle_leased_claim(world *w, int64_t id, int64_t picked_us)
{
    claim_record *claim = NULL;

    if (id >= 1 && id <= (int64_t)w->model.row_count)
        claim = w->jobs[id - 1].claims;
    while (claim != NULL && (claim->lease == NULL || claim->picked_us != picked_us))
        claim = claim->older;
    return claim;
}

bool oracle_orphaned(world *w, const claim_record *claim)
{
    const model_row *row = model_row_of(&w->model, claim->token.id);

    return claim->lease != NULL && !claim->demoted && !claim->settled &&
           claim->lease->state != LEASE_OPEN && row->present && row->status == PGQ_STATUS_QUEUED &&
           row->updated == claim->token.updated && row->attempts == claim->attempts;
}

static bool runs(const body *b)
{
    return !b->abandoned &&
           (b->state == BODY_RUNNING || b->state == BODY_PARKED || b->state == BODY_RESTING);
}

static bool has_outcome(const body *b)
{
    return b->abandoned || (b->state == BODY_ENDED && !oracle_gave_up_to_stop(b));
}

/* ---- said ---- */

/* Whether picked jobs run in all threads: what is leased now would only be left unstarted. */
static bool no_thread_soon(const worker *who)
{
    size_t picked = 0;

    for (const body *b = who->bodies; b != NULL; b = b->next) {
        bool leased = b->claim->lease != NULL && !b->kept;

        if (b->forgotten || b->abandoned)
            continue;
        if (leased && (b->state == BODY_PARKED || b->state == BODY_RESTING))
            return false; /* the worker does not look so closely */
        picked += !leased && b->state == BODY_RUNNING;
    }
    return picked + who->stragglers >= (size_t)who->config.threads;
}

static void lease_sent(connection *c, const sentence *s)
{
    worker *who = c->owner;
    world *w = who->world;
    int64_t hold_us = base_max_i64(4 * who->config.lease_us, HOLD_LEAST_US);
    int64_t took_us = base_min_i64(who->claims_took_us[0], who->claims_took_us[1]);

    if (who->stopping || who->config.only_job != 0)
        violated(w, "I4: worker %d leases jobs, and is not to begin any", (int)who->serial);
    if (s->of.lease.hold_us < hold_us ||
        (s->of.lease.hold_us > base_max_i64(hold_us, 4 * took_us) && s->of.lease.cursors != NULL &&
         !s->of.lease.late) ||
        s->of.lease.hold_us > HOLD_MOST_US || s->of.lease.batch <= 0 ||
        s->of.lease.share_count == 0)
        violated(w, "I7: worker %d leases %d jobs and may be silent for %lld ms", (int)who->serial,
                 (int)s->of.lease.batch, (long long)s->of.lease.hold_us / MS);
    if (no_thread_soon(who))
        violated(w, "I7: worker %d leases jobs while picked ones have all threads",
                 (int)who->serial);
    for (size_t i = 0; i < s->of.lease.share_count; i++) {
        uint32_t entrypoint = s->of.lease.shares[i].entrypoint;
        const engine_entrypoint *entry = &who->entries[entrypoint];

        if (entry->limit > 0 || entry->rated || entry->silence_us != w->heartbeat_us ||
            entry->lane == PGQ_LANE_ROW)
            violated(w, "I5: worker %d leases jobs of entrypoint %u, which is of the row lane",
                     (int)who->serial, entrypoint);
        if (entry->lane == PGQ_LANE_AUTO &&
            (!who->surveyed_once || who->limited_elsewhere[entrypoint]))
            violated(w, "I5: worker %d leases jobs of entrypoint %u, which others may limit",
                     (int)who->serial, entrypoint);
    }
}

/* The body of an item that is the worker's to write; NULL after a violation, and for a job that
 * never had one. */
static body *body_of_item(worker *who, const settle_item *item, const claim_record *claim,
                          const char *verb)
{
    world *w = who->world;
    body *b = claim != NULL ? claim->body : NULL;

    if (claim == NULL || claim->owner != who)
        violated(w, "I3: worker %d %s job %lld by a lease that is not its own", (int)who->serial,
                 verb, (long long)item->token.id);
    else if (item->token.updated != claim->token.updated && !claim->demoted)
        violated(w, "I3: worker %d %s job %lld with a wrong token", (int)who->serial, verb,
                 (long long)item->token.id);
    else if (item->attempts != claim->attempts || item->priority != claim->priority)
        violated(w, "I6: worker %d %s job %lld as another one", (int)who->serial, verb,
                 (long long)item->token.id);
    else if (b == NULL &&
             (item->status != PGQ_STATUS_CANCELED || who->cancel_heard[item->token.id - 1] == 0))
        violated(w, "I6: worker %d %s job %lld, for which it had no memory", (int)who->serial, verb,
                 (long long)item->token.id);
    else if (b != NULL && b->forgotten)
        violated(w, "I3: worker %d %s job %lld, which it has forgotten", (int)who->serial, verb,
                 (long long)item->token.id);
    else if (b != NULL && b->told_lost)
        violated(w, "I3: worker %d %s job %lld, whose claim it knows to be lost", (int)who->serial,
                 verb, (long long)item->token.id);
    else
        return b;
    return NULL;
}

static void check_item(body *b, const settle_item *item, const char *verb)
{
    if (item->status != PGQ_STATUS_PICKED) {
        hands_leave_rest(b);
        oracle_outcome_sent(b, item);
    } else if (!runs(b) && b->state != BODY_REVOKED && !oracle_gave_up_to_stop(b) &&
               (b->state != BODY_ENDED || b->outcome.text_bytes == 0) && !b->claim->bad) {
        /* what is to be given back may be picked for that, and what has ended goes on as a picked
         * job, if the texts are too many or the outcome is refused */
        violated(b->worker->world, "I6: worker %d %s job %lld as running, and it does not run",
                 (int)b->worker->serial, verb, (long long)item->token.id);
    }
    oracle_take_off(b, verb);
}

/* The texts of one sentence have a limit. */
static void check_texts(world *w, const sentence *s)
{
    size_t bytes = 0;

    for (size_t i = 0; i < s->of.settle.count; i++) {
        const settle_item *item = &s->of.settle.items[i];
        const claim_record *claim = oracle_leased_claim(w, item->token.id, item->picked_us);

        if (claim == NULL || claim->body == NULL || item->own_type != NULL ||
            item->status == PGQ_STATUS_PICKED)
            continue;
        bytes += claim->body->outcome.text_bytes;
        if (i > 0 && bytes > ENGINE_SETTLE_TEXT_BYTES)
            violated(w, "I7: %zu jobs are written with %zu bytes of text", s->of.settle.count,
                     bytes);
    }
}

/* What the end of a lease leaves: nothing that may be started, and nothing that has. */
static void check_left(worker *who, const lease_record *lease)
{
    world *w = who->world;

    for (const claim_record *claim = lease->claims; claim != NULL; claim = claim->next_leased) {
        const body *b = claim->body;

        if (b == NULL || claim->concluding || b->forgotten)
            continue;
        if (b->state == BODY_WAITING)
            violated(w, "I2: worker %d ends the lease of job %lld, which may be started yet",
                     (int)who->serial, (long long)claim->token.id);
        else if (b->state == BODY_RESTING && (who->stopping || who->exhausted_us == CLOCK_NEVER))
            continue; /* it is given back */
        else if (runs(b) || has_outcome(b))
            violated(w, "I1: worker %d ends the lease of job %lld and leaves it out",
                     (int)who->serial, (long long)claim->token.id);
    }
}

static void conclude_sent(connection *c, const sentence *s)
{
    worker *who = c->owner;
    world *w = who->world;
    lease_record *lease = c->known;

    if (lease == NULL || lease->ending) {
        violated(w, "I3: worker %d concludes a lease that is not open", (int)who->serial);
        return;
    }
    for (size_t i = 0; i < s->of.settle.count && !w->failed; i++) {
        const settle_item *item = &s->of.settle.items[i];
        claim_record *claim = oracle_leased_claim(w, item->token.id, item->picked_us);
        body *b = body_of_item(who, item, claim, "concludes");

        if (w->failed)
            return;
        if (claim->lease != lease || claim->concluding || item->place != (row_place)item->token.id)
            violated(w, "I3: worker %d concludes job %lld in another lease", (int)who->serial,
                     (long long)item->token.id);
        claim->concluding = true;
        if (b != NULL)
            check_item(b, item, "concludes");
    }
    check_texts(w, s);
    check_left(who, lease);
    lease->ending = lease->concluding = true;
}

static void commit_sent(connection *c)
{
    lease_record *lease = c->known;

    if (lease == NULL)
        return; /* of a lease that was refused */
    if (!lease->concluding)
        check_left(c->owner, lease);
    lease->ending = true;
}

static void resolve_sent(worker *who, const sentence *s)
{
    world *w = who->world;

    for (size_t i = 0; i < s->of.settle.count && !w->failed; i++) {
        const settle_item *item = &s->of.settle.items[i];
        claim_record *claim = oracle_leased_claim(w, item->token.id, item->picked_us);
        body *b = body_of_item(who, item, claim, "resolves");

        if (w->failed)
            return;
        if (!claim->lease->lost_heard || (claim->demoted && claim->resolved))
            violated(w, "I3: worker %d resolves job %lld, whose claim is not in doubt",
                     (int)who->serial, (long long)item->token.id);
        if (claim->company > 1 && s->of.settle.count >= claim->company)
            violated(w, "I4: worker %d resolves job %lld with as many as met a lock",
                     (int)who->serial, (long long)item->token.id);
        if (claim->bad && item->status != PGQ_STATUS_PICKED)
            violated(w, "I2: worker %d leaves job %lld, whose outcome is refused, to others",
                     (int)who->serial, (long long)item->token.id);
        if (b == NULL)
            continue;
        if (b->uncertain && !item->uncertain)
            violated(w, "I1: worker %d resolves job %lld as if it could not be written already",
                     (int)who->serial, (long long)item->token.id);
        check_item(b, item, "resolves");
    }
    if (s->of.settle.wait_us != 2 * who->config.lease_us)
        violated(w, "I7: worker %d lets a resolve wait for %lld ms", (int)who->serial,
                 (long long)s->of.settle.wait_us / MS);
    check_texts(w, s);
}

void oracle_lease_sent(connection *c, const sentence *s)
{
    if (s->kind == SENTENCE_LEASE)
        lease_sent(c, s);
    else if (s->kind == SENTENCE_CONCLUDE)
        conclude_sent(c, s);
    else if (s->kind == SENTENCE_COMMIT)
        commit_sent(c);
    else if (s->kind == SENTENCE_RESOLVE)
        resolve_sent(c->owner, s);
}

/* ---- carried out ---- */

static void add_leased(connection *c, lease_record *lease, const claimed_row *row, bool late,
                       bool behind)
{
    world *w = c->owner->world;
    const model_row *was = model_row_of(&w->model, row->token.id);
    job_record *job = &w->jobs[row->token.id - 1];
    claim_record *claim = sim_array(w, 1, sizeof(*claim));

    *claim = (claim_record){
        .older = job->claims,
        .token = row->token,
        .owner = c->owner,
        .lease = lease,
        .next_leased = lease->claims,
        .picked_us = row->picked_us,
        .attempts = row->attempts,
        .priority = row->priority,
        .large = row->large,
        .sent_us = c->sent_us,
        .how = HOW_LEASED,
        .late = late,
        .reply_pending = !late,
    };
    job->released_by = 0;
    job->claims = lease->claims = claim;
    trace_add(w, "leased", c->owner, c->lane, row->token.id, row->picked_us);
    count_path(w, PATH_LEASED);
    if (row->large)
        count_path(w, PATH_LARGE);
    if (behind)
        count_path(w, PATH_CURSORS);
    else if (was->late && was->attempts == 0)
        count_path(w, PATH_SWEPT_LATE);
    if (was->execute_after > was->queued_us)
        count_path(w, PATH_DEFERRED);
    if (++job->idle_leases > (row->large ? LARGE_LEASES_MAX : IDLE_LEASES_MAX))
        violated(w, "I7: job %lld is leased again and again, and never started",
                 (long long)row->token.id);
}

/* Whether it lies behind the claim's cursors, or above all of them; else a sweep has brought it. */
static bool is_behind(const sentence *s, const claimed_row *row)
{
    for (size_t i = 0; i < s->of.lease.cursor_count; i++) {
        if (s->of.lease.cursors[i].priority == row->priority)
            return row->token.id > s->of.lease.cursors[i].id;
    }
    return s->of.lease.cursors != NULL && !s->of.lease.late;
}

void oracle_leased(connection *c, const sentence *s, const sentence_reply *r, bool late)
{
    worker *who = c->owner;
    world *w = who->world;
    lease_record *lease = sim_array(w, 1, sizeof(*lease));

    *lease = (lease_record){
        .owner = who,
        .connection = c,
        .sent_us = c->sent_us,
        .deadline_us = c->sent_us + who->config.lease_us,
        .answered_us = w->now_us,
        .lost_heard = late,
    };
    c->lease = lease;
    for (size_t i = 0; i < r->row_count; i++)
        add_leased(c, lease, &r->rows[i], late, is_behind(s, &r->rows[i]));
}

/* The newest claim of a picked row is the one that holds it. */
static void bring_forward(job_record *job, claim_record *claim)
{
    claim_record **at = &job->claims;

    while (*at != claim)
        at = &(*at)->older;
    *at = claim->older;
    claim->older = job->claims;
    job->claims = claim;
}

static void written(world *w, claim_record *claim, const settle_item *item, int64_t stamp)
{
    worker *who = claim->owner;
    job_record *job = &w->jobs[item->token.id - 1];

    trace_add(w, "written of a lease", who, -1, item->token.id, (int64_t)item->status);
    w->entries[model_row_of(&w->model, item->token.id)->entrypoint].changed_us = w->now_us;
    if (item->status == PGQ_STATUS_PICKED) {
        claim->demoted = true;
        claim->token.updated = stamp;
        bring_forward(job, claim);
        return;
    }
    claim->settled = true;
    w->journal[item->status]++;
    oracle_count_settled(w, item);
    if (item->status == PGQ_STATUS_QUEUED) {
        job->notified = false;
        job->retried_by = who->serial;
        job->retried_us = w->now_us;
    }
}

void oracle_committing(connection *c, const model_tx *tx)
{
    world *w = c->owner->world;

    for (size_t i = 0; i < tx->staged_count; i++) {
        const settle_item *item = &tx->staged[i].item;

        w->journal[PGQ_STATUS_PICKED]++;
        count_path(w, item->status == PGQ_STATUS_PICKED ? PATH_DEMOTED : PATH_CONCLUDED);
        written(w, oracle_leased_claim(w, item->token.id, item->picked_us), item,
                tx->staged[i].stamp);
    }
    if (tx->staged_count > 0 && c->open) /* of a lost one it learns when it resolves */
        c->owner->untold_us =
            tx->untold ? base_min_i64(c->owner->untold_us, w->now_us) : CLOCK_NEVER;
    c->lease->state = LEASE_COMMITTED;
    c->lease->committed_us = w->now_us;
}

void oracle_rolled_back(connection *c)
{
    if (c->lease != NULL)
        c->lease->state = LEASE_LOST;
}

void oracle_resolving(worker *who, const sentence *s)
{
    world *w = who->world;

    for (size_t i = 0; i < s->of.settle.count; i++) {
        const settle_item *item = &s->of.settle.items[i];

        w->journal[PGQ_STATUS_PICKED] +=
            model_resolves(&w->model, who->serial, item) &&
            model_row_of(&w->model, item->token.id)->status == PGQ_STATUS_QUEUED;
    }
}

void oracle_resolved(worker *who, const sentence *s, const sentence_reply *r)
{
    world *w = who->world;
    size_t next = 0;

    for (size_t i = 0; i < s->of.settle.count; i++) {
        const settle_item *item = &s->of.settle.items[i];
        claim_record *claim = oracle_leased_claim(w, item->token.id, item->picked_us);

        if (next == r->place_count || r->places[next] != i) {
            count_path(w, claim->settled ? PATH_ORPHAN_DONE : PATH_ORPHAN_LOST);
            continue;
        }
        count_path(w, item->status == PGQ_STATUS_PICKED ? PATH_ORPHAN_KEPT
                      : claim->demoted                  ? PATH_ORPHAN_DEMOTED
                                                        : PATH_ORPHAN_WRITTEN);
        written(w, claim, item, r->stamps[next++]);
    }
}

void oracle_announced(worker *who, const sentence *s)
{
    world *w = who->world;

    if (s->of.announce.done) {
        count_path(w, PATH_DONE_TOLD);
        who->untold_us = CLOCK_NEVER;
        return;
    }
    count_path(w, PATH_ANNOUNCED);
    who->announce_us = CLOCK_NEVER;
    who->announced_us = w->now_us;
    for (size_t i = 0; i < w->model.row_count; i++) {
        const model_row *row = &w->model.rows[i];

        if (row->present && row->status == PGQ_STATUS_QUEUED && row->leased_by == 0)
            w->jobs[i].announced_us = w->now_us;
    }
}
