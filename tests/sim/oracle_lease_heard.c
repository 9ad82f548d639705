/* What must hold of leases as their workers hear of them, and of the jobs in memory. */
#include "sim.h"

enum {
    MS = 1000,
    ENDS_WITHIN_US = 300 * MS,
    ANNOUNCES_WITHIN_US = 500 * MS,
    TRIAL_JOBS = 2, /* of a lease that only finds out whether outcomes can be written */
    TRIAL_FIRST_US = 50 * MS,
    TRIAL_LAST_US = 15000 * MS
};

/* ---- heard ---- */

/* What was under way of the lease's end is decided, or never will be. */
static void land_all(lease_record *lease, bool answered)
{
    if (lease->landed) /* what is under way now is a resolve, or a settle */
        return;
    lease->landed = true;
    for (claim_record *claim = lease->claims; claim != NULL; claim = claim->next_leased) {
        if (!claim->concluding || claim->body == NULL || !claim->body->flying)
            continue;
        claim->body->flying = false;
        claim->body->uncertain |= !answered;
    }
}

/* The end of a lease was refused, of which its owner did not know that it was lost already. */
static void hear_vain(worker *who, const lease_record *lease)
{
    if (!lease->concluding || lease->lost_heard || who->vain_us != CLOCK_NEVER)
        return;
    who->vain_us = who->world->now_us;
    who->trial_jobs = 0;
}

static void conclude_heard(connection *c, const sentence_reply *r)
{
    world *w = c->owner->world;
    lease_record *lease = c->known;

    if (!r->refused || lease == NULL)
        return;
    count_path(w, PATH_CONCLUDE_REFUSED);
    hear_vain(c->owner, lease);
    lease->refused = lease->lost_heard = true;
    land_all(lease, true);
}

/* Jobs that were not started are free, and nothing says so but an announcement. */
static bool left_unstarted(world *w, const lease_record *lease)
{
    for (const claim_record *claim = lease->claims; claim != NULL; claim = claim->next_leased) {
        const model_row *row = model_row_of(&w->model, claim->token.id);

        if (!claim->concluding && !claim->large && !claim->spare && row->present &&
            row->status == PGQ_STATUS_QUEUED && row->updated == claim->token.updated)
            return true;
    }
    return false;
}

/* While nothing of them can be written, leases are said once in a while, and small ones. */
static void check_trial(worker *who, claim_record *claim)
{
    int64_t at_us = who->vain_us, wait_us = TRIAL_FIRST_US;
    int most = 0;

    if (who->vain_us == CLOCK_NEVER || claim->lease->sent_us <= who->vain_us || claim->tried)
        return;
    claim->tried = true; /* it may rest, and begin again */
    while ((at_us += wait_us) <= who->world->now_us) {
        most += TRIAL_JOBS;
        wait_us = base_min_i64(2 * wait_us, TRIAL_LAST_US);
    }
    count_path(who->world, PATH_TRIAL);
    if (++who->trial_jobs > most)
        violated(who->world, "I7: worker %d runs leased jobs, and nothing of them is written",
                 (int)who->serial);
}

static void commit_heard(connection *c, const sentence_reply *r)
{
    worker *who = c->owner;
    world *w = who->world;
    lease_record *lease = c->known;

    c->known = NULL;
    if (lease == NULL)
        return;
    if (r->refused)
        hear_vain(who, lease);
    else if (lease->concluding && !lease->refused)
        who->vain_us = CLOCK_NEVER;
    if (r->refused)
        lease->refused = lease->lost_heard = true;
    else
        lease->ended_heard =
            !lease->lost_heard; /* a claim had shown it to be lost: resolves tell */
    land_all(lease, true);
    if (r->refused)
        return;
    if (lease->concluding)
        oracle_to_fold(who);
    if (who->announced_us < lease->committed_us && left_unstarted(w, lease))
        who->announce_us = base_min_i64(who->announce_us, w->now_us);
}

static bool has_ended(const body *b)
{
    return b->abandoned || (b->state == BODY_ENDED && !oracle_gave_up_to_stop(b));
}

/* A claim of the worker's own has picked the job, and it has not heard of that, nor will it. It was
 * known then, so an adoption has passed it over. */
static bool picked_unseen(world *w, const worker *who, int64_t id)
{
    const model_row *row = model_row_of(&w->model, id);
    const claim_record *claim = w->jobs[id - 1].claims;

    return row->present && row->status == PGQ_STATUS_PICKED && claim->owner == who &&
           claim->body == NULL && !claim->reply_pending;
}

static void resolve_heard(worker *who, const sentence *s, const sentence_reply *r)
{
    world *w = who->world;
    const settle_item *first = &s->of.settle.items[0];
    size_t next = 0;

    if (r->refused && r->class == SQLSTATE_DATA && s->of.settle.count == 1 &&
        first->status != PGQ_STATUS_PICKED)
        oracle_leased_claim(w, first->token.id, first->picked_us)->bad = true;
    if (!r->refused && r->place_count > 0)
        who->vain_us = CLOCK_NEVER;
    for (size_t i = 0; r->error.code == PGQ_E_TIMEOUT && i < s->of.settle.count; i++) {
        const settle_item *item = &s->of.settle.items[i];

        oracle_leased_claim(w, item->token.id, item->picked_us)->company = s->of.settle.count;
    }
    for (size_t i = 0; !r->refused && i < s->of.settle.count; i++) {
        const settle_item *item = &s->of.settle.items[i];
        claim_record *claim = oracle_leased_claim(w, item->token.id, item->picked_us);

        claim->resolved = true;
        if (next < r->place_count && r->places[next] == i) {
            next++;
        } else {
            who->adopt_soon |= picked_unseen(w, who, item->token.id);
            if (claim->body != NULL)
                claim->body->told_lost = true;
        }
        if (claim->body != NULL && claim->demoted && has_ended(claim->body))
            claim->body->kept = true; /* no driver needs to know */
    }
}

static void survey_heard(worker *who, const sentence_reply *r)
{
    if (r->refused)
        return;
    who->surveyed_once = true;
    memset(who->limited_elsewhere, 0, sizeof(who->limited_elsewhere));
    for (size_t i = 0; i < r->survey_count; i++)
        who->limited_elsewhere[r->survey[i].entrypoint] |= r->survey[i].kind == SURVEY_LIMITED;
}

void oracle_lease_heard(connection *c, const sentence *s, const sentence_reply *r)
{
    switch (s->kind) {
    case SENTENCE_LEASE:
        if (s->of.lease.cursors != NULL && !s->of.lease.late) {
            c->owner->claims_took_us[1] = c->owner->claims_took_us[0];
            c->owner->claims_took_us[0] = c->owner->world->now_us - c->sent_us;
        }
        if (r->refused)
            break;
        c->known = c->lease;
        c->known->heard = true;
        c->known->vain = c->owner->vain_us != CLOCK_NEVER && c->known->sent_us <= c->owner->vain_us;
        c->known->deadline_us = base_min_i64(c->owner->world->now_us + c->owner->config.lease_us,
                                             c->known->sent_us + s->of.lease.hold_us / 2);
        break;
    case SENTENCE_CONCLUDE:
        conclude_heard(c, r);
        break;
    case SENTENCE_COMMIT:
        commit_heard(c, r);
        break;
    case SENTENCE_RESOLVE:
        resolve_heard(c->owner, s, r);
        break;
    case SENTENCE_SURVEY:
        survey_heard(c->owner, r);
        break;
    default:
        break;
    }
}

void oracle_lease_unanswered(connection *c)
{
    if (c->known == NULL)
        return;
    c->known->lost_heard = true;
    land_all(c->known, false);
    c->known = NULL;
}

/* ---- jobs in memory ---- */

void oracle_lease_began(const body *b)
{
    const worker *who = b->worker;
    world *w = who->world;
    const lease_record *lease = b->claim->lease;
    const model_row *row = model_row_of(&w->model, b->token.id);

    count_path(w, PATH_LEASE_RUN);
    check_trial(b->worker, b->claim);
    w->jobs[b->token.id - 1].idle_leases = 0;
    if (w->now_us >= lease->deadline_us)
        violated(w, "I2: worker %d starts job %lld after the end of its lease", (int)who->serial,
                 (long long)b->token.id);
    if (lease->vain)
        violated(w, "I7: worker %d starts job %lld, and can write nothing", (int)who->serial,
                 (long long)b->token.id);
    if (lease->ending)
        violated(w, "I2: worker %d starts job %lld, whose lease it has ended", (int)who->serial,
                 (long long)b->token.id);
    if (lease->lost_heard && !b->revoking)
        violated(w, "I2: worker %d starts job %lld, whose lease it knows to be lost",
                 (int)who->serial, (long long)b->token.id);
    if (lease->state != LEASE_LOST &&
        (!row->present || row->leased_by != lease->connection->backend))
        violated(w, "I2: worker %d starts job %lld, which it has not locked", (int)who->serial,
                 (long long)b->token.id);
}

/* One row belongs to one record. */
static body *orphan_of(const worker *who, const claim_record *claim, int64_t id)
{
    for (body *b = who->bodies; b != NULL; b = b->next) {
        if (b->claim != claim && b->token.id == id && !b->forgotten && !b->told_lost &&
            !(b->abandoned && b->claim->settled) && b->claim->lease != NULL && !b->kept &&
            b->claim->lease->lost_heard)
            return b;
    }
    return NULL;
}

bool oracle_in_doubt(const body *b)
{
    const lease_record *lease = b->claim->lease;

    return lease != NULL && !b->kept && (lease->ending || lease->lost_heard);
}

bool oracle_has_orphan(const worker *who, int64_t id)
{
    return orphan_of(who, NULL, id) != NULL;
}

/* It goes on as a picked job, and its worker has heard so. */
static bool known_as_picked(const body *b)
{
    return b->claim->demoted && (b->kept || b->claim->lease->ended_heard);
}

/* The record whose job, unchanged, another session of its worker has claimed: its lease is lost,
 * whether its lane knows or not. */
static body *record_of(const worker *who, const claim_record *claim)
{
    for (body *b = who->bodies; b != NULL; b = b->next) {
        const claim_record *first = b->claim;

        if (first != claim && b->token.id == claim->token.id && !b->forgotten && !b->told_lost &&
            !(b->abandoned && first->settled) && first->lease != NULL && !known_as_picked(b) &&
            first->attempts == claim->attempts &&
            (claim->lease == NULL || first->token.updated == claim->token.updated))
            return b;
    }
    return NULL;
}

/* A picked job is that record's from now on; a leased one is left alone. */
bool oracle_spare(worker *who, claim_record *claim)
{
    world *w = who->world;
    body *record = record_of(who, claim);
    lease_record *lease;

    if (record == NULL)
        return false;
    lease = record->claim->lease;
    if (!lease->lost_heard) {
        count_path(w, PATH_LOSS_PROVEN);
        land_all(lease, !lease->ending);
        lease->lost_heard = true;
    }
    count_path(w, claim->lease != NULL ? PATH_LEASED_BESIDE : PATH_ORPHAN_CLAIMED);
    claim->spare = claim->lease != NULL;
    if (claim->spare)
        return true;
    claim->body = record;
    record->claim = claim;
    record->token = claim->token;
    record->uncertain = false;
    return true;
}

static bool is_spare(const body *b)
{
    return b->claim->spare || b->claim->body != b;
}

void oracle_lease_handed(const body *b)
{
    world *w = b->worker->world;

    if (is_spare(b))
        violated(w, "I2: worker %d starts job %lld beside itself", (int)b->worker->serial,
                 (long long)b->token.id);
}

bool oracle_lease_forgot(const body *b)
{
    world *w = b->worker->world;
    const claim_record *claim = b->claim;
    bool outcome = b->state == BODY_ENDED && !oracle_gave_up_to_stop(b);

    if (is_spare(b))
        return true;
    if (claim->lease == NULL || claim->demoted)
        return false;
    if (outcome && claim->lease->state == LEASE_OPEN)
        violated(w, "I1: worker %d forgets the outcome of job %lld, whose lease is open",
                 (int)b->worker->serial, (long long)b->token.id);
    else if (outcome && !b->told_lost && oracle_orphaned(w, claim))
        violated(w, "I1: worker %d forgets the outcome of job %lld, which could be written",
                 (int)b->worker->serial, (long long)b->token.id);
    else if (claim->concluding && !claim->lease->ended_heard && !claim->lease->lost_heard)
        violated(w, "I1: worker %d forgets job %lld before its lease has ended",
                 (int)b->worker->serial, (long long)b->token.id);
    return true;
}

void oracle_kept(const body *b)
{
    if ((b->claim->lease != NULL && !b->claim->demoted) || b->kept || b->forgotten)
        violated(b->worker->world, "I2: worker %d keeps job %lld, whose claim is no picked row",
                 (int)b->worker->serial, (long long)b->token.id);
}

/* ---- what is late ---- */

static void check_lease(const worker *who, const connection *c)
{
    world *w = who->world;
    const lease_record *lease = c->lease;
    int64_t end_us;

    if (c->tx.state != TX_OPEN || c->cut || network_silent(c) || lease == NULL)
        return;
    end_us = lease->heard ? base_max_i64(lease->deadline_us, lease->answered_us)
                          : lease->answered_us + who->config.lease_us;
    end_us = base_max_i64(end_us, who->frozen_until_us);
    if (w->now_us > end_us + ENDS_WITHIN_US)
        violated(w, "I4: a lease of worker %d is open for %lld ms, and may last %lld",
                 (int)who->serial, (long long)(w->now_us - lease->sent_us) / MS,
                 (long long)who->config.lease_us / MS);
}

void oracle_check_leases(worker *who)
{
    world *w = who->world;

    if (!who->alive || w->now_us < who->frozen_until_us)
        return;
    for (int i = 0; i < who->lane_count; i++) {
        if (who->lanes[i] != NULL)
            check_lease(who, who->lanes[i]);
    }
    if (who->announce_us != CLOCK_NEVER &&
        w->now_us > base_max_i64(who->announce_us, who->frozen_until_us) + ANNOUNCES_WITHIN_US &&
        !oracle_disturbed_since(who, who->announce_us))
        violated(w, "I4: worker %d has left jobs unstarted and does not say so", (int)who->serial);
    if (who->untold_us != CLOCK_NEVER &&
        w->now_us > base_max_i64(who->untold_us, who->frozen_until_us) + ANNOUNCES_WITHIN_US +
                        who->config.lease_us && /* every lane may be in one */
        !oracle_disturbed_since(who, who->untold_us))
        violated(w, "I4: worker %d has settled jobs and no event says so", (int)who->serial);
    for (const body *b = who->bodies; b != NULL; b = b->next) {
        if (!b->forgotten && !b->kept && !b->abandoned && b->claim->lease != NULL &&
            b->claim->demoted && (b->claim->lease->ended_heard || b->claim->resolved) &&
            !b->told_lost &&
            (b->state == BODY_RUNNING || b->state == BODY_PARKED ||
             (b->state == BODY_RESTING && b->cancelled_us == CLOCK_NEVER)))
            violated(w, "I2: worker %d has not heard that job %lld runs on as a picked one",
                     (int)who->serial, (long long)b->token.id);
    }
}
