/* What must hold of every sentence that is said, carried out and heard. The journal is written
 * here: each claim as the database made it, whoever comes to know of it. */
#include "sim.h"

enum {
    UNWRITTEN_US = 30 * 1000 * 1000, /* so long a stopping worker waits for what may be mended */
    LOSSES = 3
};

claim_record *oracle_claim_of(world *w, const claim_token *token)
{
    claim_record *claim = NULL;

    if (token->id >= 1 && token->id <= (int64_t)w->model.row_count)
        claim = w->jobs[token->id - 1].claims;
    /* a leased row keeps the `updated` that it had; the claim is none of a picked row's */
    while (claim != NULL &&
           ((claim->lease != NULL && !claim->demoted) || claim->token.updated != token->updated))
        claim = claim->older;
    return claim;
}

claim_record *oracle_claimed_row(world *w, const claimed_row *row)
{
    return row->place != 0 ? oracle_leased_claim(w, row->token.id, row->picked_us)
                           : oracle_claim_of(w, &row->token);
}

bool oracle_stands(world *w, const claim_record *claim)
{
    const model_row *row = model_row_of(&w->model, claim->token.id);

    if (claim->lease != NULL && !claim->demoted)
        return claim->lease->state == LEASE_OPEN;
    return row->present && row->status == PGQ_STATUS_PICKED &&
           row->manager == claim->owner->serial && row->updated == claim->token.updated;
}

/* ---- said ---- */

/* The body of a token that the worker may speak about; NULL after a violation, and for a job that
 * never had one. */
static body *body_said(worker *who, const claim_token *token, const char *verb)
{
    world *w = who->world;
    claim_record *claim = oracle_claim_of(w, token);
    body *b = claim != NULL ? claim->body : NULL;

    if (claim == NULL || claim->owner != who)
        violated(w, "I3: worker %d %s job %lld by a claim that is not its own", (int)who->serial,
                 verb, (long long)token->id);
    else if (b != NULL && b->forgotten)
        violated(w, "I3: worker %d %s job %lld, which it has forgotten", (int)who->serial, verb,
                 (long long)token->id);
    else if (b != NULL && b->told_lost)
        violated(w, "I3: worker %d %s job %lld, whose claim it was told is lost", (int)who->serial,
                 verb, (long long)token->id);
    else
        return b;
    return NULL;
}

void oracle_take_off(body *b, const char *verb)
{
    if (b->flying)
        violated(b->worker->world, "I2: worker %d %s job %lld twice at the same time",
                 (int)b->worker->serial, verb, (long long)b->token.id);
    b->flying = true;
}

static void settle_sent(worker *who, const sentence *s)
{
    world *w = who->world;
    size_t bytes = 0;

    for (size_t i = 0; i < s->of.settle.count && !w->failed; i++) {
        const settle_item *item = &s->of.settle.items[i];
        body *b = body_said(who, &item->token, "settles");

        bytes += b != NULL && item->own_type == NULL ? b->outcome.text_bytes : 0;
        if (i > 0 && bytes > ENGINE_SETTLE_TEXT_BYTES)
            violated(w, "I7: worker %d settles %zu jobs with %zu bytes of text", (int)who->serial,
                     s->of.settle.count, bytes);

        if (w->failed)
            return;
        if (b == NULL &&
            (item->status != PGQ_STATUS_CANCELED || who->cancel_heard[item->token.id - 1] == 0)) {
            violated(w, "I6: worker %d settles job %lld, for which it had no memory",
                     (int)who->serial, (long long)item->token.id);
            return;
        }
        if (b == NULL)
            continue;
        hands_leave_rest(b);
        oracle_outcome_sent(b, item);
        oracle_take_off(b, "settles");
    }
}

bool oracle_gave_up_to_stop(const body *b)
{
    return b->state == BODY_ENDED && b->told_stop && b->outcome.status == PGQ_STATUS_CANCELED;
}

static void release_sent(worker *who, const sentence *s)
{
    world *w = who->world;

    for (size_t i = 0; i < s->of.tokens.count && !w->failed; i++) {
        body *b = body_said(who, &s->of.tokens.tokens[i], "gives back");

        if (b == NULL)
            continue;
        hands_leave_rest(b);
        if (b->state != BODY_NEW && b->state != BODY_REVOKED && !oracle_gave_up_to_stop(b))
            violated(w, "I2: worker %d gives back job %lld, which may be started", (int)who->serial,
                     (long long)b->token.id);
        if (b->cancelled_us != CLOCK_NEVER)
            violated(w, "I4: worker %d gives back job %lld, which was cancelled", (int)who->serial,
                     (long long)b->token.id);
        oracle_take_off(b, "gives back");
    }
}

static bool claims(const sentence *s)
{
    return s->kind == SENTENCE_CLAIM || s->kind == SENTENCE_ADOPT;
}

static bool claim_under_way(const worker *who, const sentence *but)
{
    for (int i = 0; i < who->lane_count; i++) {
        const connection *c = who->lanes[i];

        for (size_t k = c != NULL ? c->heard : 0; c != NULL && k < c->said_count; k++) {
            if (claims(&c->said[k]) && &c->said[k] != but)
                return true;
        }
    }
    return false;
}

/* Whether the worker knows of the job only that its claim was lost, though it still runs. */
static bool only_lost(const worker *who, int64_t id)
{
    bool lost = false;

    for (const body *b = who->bodies; b != NULL; b = b->next) {
        if (b->token.id == id && !b->forgotten && !b->told_lost)
            return false;
        lost |= b->token.id == id && !b->forgotten;
    }
    return lost;
}

static void claim_sent(worker *who, const sentence *s)
{
    world *w = who->world;
    bool alone = !claim_under_way(who, s), adopts = s->kind == SENTENCE_ADOPT;

    if (adopts && !alone)
        violated(w, "I2: worker %d adopts while another claim is under way", (int)who->serial);
    if (!adopts && who->adopt_due && alone)
        violated(w, "I4: worker %d claims anew and leaves the jobs of a lost claim",
                 (int)who->serial);
    if (who->config.only_job != 0 && (!adopts || s->of.adopt.only != who->config.only_job))
        violated(w, "I2: worker %d claims, and was made for job %lld", (int)who->serial,
                 (long long)who->config.only_job);
    for (size_t i = 0; adopts && i < s->of.adopt.known_count; i++) {
        if (only_lost(who, s->of.adopt.known[i]))
            violated(w, "I1: worker %d adopts, but not job %lld, whose claim it knows to be lost",
                     (int)who->serial, (long long)s->of.adopt.known[i]);
    }
    if (adopts)
        who->adopt_due = who->adopt_soon = false;
}

/* The server lets one fold in at a time, and what the other one has passed over is left. */
static void fold_sent(connection *c, const sentence *s)
{
    worker *who = c->owner;

    who->settled_us[s->of.aggregate.counts] = CLOCK_NEVER;
    for (int i = 0; i < who->lane_count; i++) {
        const connection *other = who->lanes[i];

        if (other == NULL || other == c || !other->open)
            continue;
        for (size_t k = other->heard; k < other->said_count; k++) {
            if (other->said[k].kind == SENTENCE_AGGREGATE)
                violated(who->world, "I6: worker %d has two folds under way", (int)who->serial);
        }
    }
}

void oracle_sent(connection *c, const sentence *s)
{
    if (claims(s))
        claim_sent(c->owner, s);
    else if (s->kind == SENTENCE_SETTLE)
        settle_sent(c->owner, s);
    else if (s->kind == SENTENCE_RELEASE)
        release_sent(c->owner, s);
    else if (s->kind == SENTENCE_AGGREGATE)
        fold_sent(c, s);
    else
        oracle_lease_sent(c, s);
    for (size_t i = 0; s->kind == SENTENCE_BEAT && i < s->of.tokens.count; i++)
        (void)body_said(c->owner, &s->of.tokens.tokens[i], "beats for");
}

/* ---- carried out ---- */

/* A picked row was claimed again: was that to be? */
static void check_taken(connection *c, const model_row *row, claim_record *before, bool late)
{
    worker *who = c->owner, *holder = before->owner;
    world *w = who->world;
    const body *b = before->body;
    bool holds = holder->alive && ((b != NULL && !b->forgotten) || before->reply_pending);

    if (!holder->alive) {
        count_path(w, PATH_REPICK_DEAD);
    } else if (!holds) {
        count_path(w, row->how != HOW_ADOPTED ? PATH_REPICK_ORPHAN
                      : before->late          ? PATH_ADOPTED_LATE
                                              : PATH_ADOPTED);
    } else if (row->how == HOW_ADOPTED && !late) {
        violated(w, "I2: worker %d adopts job %lld, which it holds", (int)who->serial,
                 (long long)row->id);
    } else if (holder == who && b != NULL && b->heard_us < c->sent_us) {
        violated(w, "I2: worker %d claims job %lld again, which it holds", (int)who->serial,
                 (long long)row->id);
    } else if (row->how == HOW_STALE && !oracle_disturbed_since(holder, row->heartbeat_before) &&
               w->jobs[row->id - 1].passed_over_us < row->heartbeat_before) {
        violated(w, "I2: worker %d lost job %lld without a fault", (int)holder->serial,
                 (long long)row->id);
    } else {
        count_path(w, PATH_REPICK_LIVE);
    }
}

/* So late, or of a job that its owner knows so well, that nobody looks for it: the first is the
 * case when the owner has stopped waiting for the ghost, the second when the ghost takes what the
 * owner has claimed since by another connection. */
static bool hopeless(const connection *c, const model_row *row, const claim_record *before)
{
    const world *w = c->owner->world;
    bool known = row->how == HOW_ADOPTED && before->owner == c->owner &&
                 (before->reply_pending || (before->body != NULL && !before->body->forgotten));

    return known || (c->lost_us != CLOCK_NEVER && w->now_us > c->lost_us + GHOST_US - 1000 * 1000);
}

static void count_claimed(connection *c, const model_row *row)
{
    worker *who = c->owner;
    world *w = who->world;
    const engine_entrypoint *entry = &who->entries[row->entrypoint];
    start_record *start;

    if (row->seat != MODEL_NO_SEAT && row->how == HOW_STALE)
        count_path(w, PATH_KEPT_SEAT);
    if (row->how != HOW_FRESH)
        return;
    if (row->execute_after > row->queued_us)
        count_path(w, PATH_DEFERRED);
    if (row->seat != MODEL_NO_SEAT) {
        count_path(w, PATH_SEATED);
        w->seated_us = w->now_us;
        w->seated_by = who;
    }
    if (!entry->rated)
        return;
    count_path(w, PATH_RATED);
    start = sim_array(w, 1, sizeof(*start));
    *start = (start_record){who->starts, c->sent_us, row->entrypoint, 1};
    who->starts = start;
}

static void add_claim(connection *c, const model_row *row, bool late)
{
    world *w = c->owner->world;
    job_record *job = &w->jobs[row->id - 1];
    claim_record *claim = sim_array(w, 1, sizeof(*claim));

    *claim = (claim_record){
        .older = job->claims,
        .token = {row->id, row->updated},
        .owner = c->owner,
        .sent_us = c->sent_us,
        .attempts = row->attempts,
        .priority = row->priority,
        .how = row->how,
        .late = late,
        .hopeless = late && hopeless(c, row, job->claims),
        .reply_pending = !late,
    };
    job->released_by = 0;
    job->claims = claim;
}

static void claimed(connection *c, const sentence *s, const sentence_reply *r, bool late)
{
    world *w = c->owner->world;

    for (size_t i = 0; i < r->row_count; i++) {
        const model_row *row = model_row_of(&w->model, r->rows[i].token.id);

        trace_add(w, "claimed", c->owner, c->lane, row->id, row->updated);
        w->journal[PGQ_STATUS_PICKED]++;
        w->entries[row->entrypoint].changed_us = w->now_us;
        if (row->how != HOW_FRESH)
            check_taken(c, row, w->jobs[row->id - 1].claims, late);
        count_claimed(c, row);
        add_claim(c, row, late);
    }
    if (s->kind == SENTENCE_CLAIM)
        oracle_check_claim(c, s, r);
}

void oracle_handed(worker *who, const model_row *row)
{
    world *w = who->world;
    claim_record *claim = sim_array(w, 1, sizeof(*claim));

    trace_add(w, "is given for its only job", who, -1, row->id, row->updated);
    w->entries[row->entrypoint].changed_us = w->now_us;
    *claim = (claim_record){
        .older = w->jobs[row->id - 1].claims,
        .token = {row->id, row->updated},
        .owner = who,
        .sent_us = w->now_us,
        .how = HOW_HANDED,
    };
    w->jobs[row->id - 1].claims = claim;
}

void oracle_count_settled(world *w, const settle_item *item)
{
    switch (item->status) {
    case PGQ_STATUS_SUCCESSFUL:
        count_path(w, PATH_DONE);
        break;
    case PGQ_STATUS_EXCEPTION:
        count_path(w, PATH_FAILED);
        break;
    case PGQ_STATUS_FAILED:
        count_path(w, PATH_HELD);
        break;
    case PGQ_STATUS_QUEUED:
        count_path(w, PATH_RETRIED);
        break;
    case PGQ_STATUS_CANCELED:
        count_path(w, PATH_CANCELLED);
        break;
    default:
        break;
    }
    if (item->own_type != NULL && base_streq(item->own_type, "SettleRefused"))
        count_path(w, PATH_REWORDED);
}

static void settled(worker *who, const sentence *s, const sentence_reply *r)
{
    world *w = who->world;
    size_t next = 0;

    for (size_t i = 0; i < s->of.settle.count; i++) {
        const settle_item *item = &s->of.settle.items[i];
        claim_record *claim = oracle_claim_of(w, &item->token);
        job_record *job = &w->jobs[item->token.id - 1];

        if (next == r->place_count || r->places[next] != i) {
            count_path(w, claim->settled ? PATH_UNCERTAIN_DONE : PATH_FENCED);
            continue;
        }
        next++;
        trace_add(w, "settled", who, -1, item->token.id, (int64_t)item->status);
        claim->settled = true;
        w->journal[item->status]++;
        w->entries[model_row_of(&w->model, item->token.id)->entrypoint].changed_us = w->now_us;
        oracle_count_settled(w, item);
        if (claim->body != NULL && claim->body->uncertain)
            count_path(w, PATH_UNCERTAIN_AGAIN);
        if (item->status == PGQ_STATUS_QUEUED) {
            job->notified = false;
            job->retried_by = who->serial;
            job->retried_us = w->now_us;
        }
    }
}

static void releasing(worker *who, const sentence *s)
{
    world *w = who->world;

    for (size_t i = 0; i < s->of.tokens.count; i++) {
        claim_record *claim = oracle_claim_of(w, &s->of.tokens.tokens[i]);
        const body *b = claim->body;

        if (!oracle_stands(w, claim))
            continue;
        if (b != NULL && !b->forgotten && b->state != BODY_NEW && b->state != BODY_REVOKED &&
            !oracle_gave_up_to_stop(b))
            violated(w, "I2: job %lld is given back and may be started",
                     (long long)claim->token.id);
        claim->released = true;
        w->jobs[claim->token.id - 1].released_by = who->serial;
        w->journal[PGQ_STATUS_QUEUED]++;
        w->entries[model_row_of(&w->model, claim->token.id)->entrypoint].changed_us = w->now_us;
        count_path(w, PATH_RELEASED);
    }
}

static void beaten(worker *who, const sentence *s)
{
    world *w = who->world;

    for (size_t i = 0; i < s->of.tokens.count; i++) {
        const model_row *row = model_row_of(&w->model, s->of.tokens.tokens[i].id);

        if (row->locked_until_us > w->now_us)
            w->jobs[row->id - 1].passed_over_us = w->now_us;
    }
}

void oracle_executing(connection *c, const sentence *s)
{
    if (s->kind == SENTENCE_RELEASE)
        releasing(c->owner, s);
    else if (s->kind == SENTENCE_COMMIT && c->tx.state == TX_OPEN)
        oracle_committing(c, &c->tx);
    else if (s->kind == SENTENCE_COMMIT && c->tx.state == TX_ABORTED)
        oracle_rolled_back(c);
    else if (s->kind == SENTENCE_RESOLVE)
        oracle_resolving(c->owner, s);
}

void oracle_executed(connection *c, const sentence *s, const sentence_reply *r, bool late)
{
    worker *who = c->owner;

    if (s->kind == SENTENCE_CLAIM || s->kind == SENTENCE_ADOPT)
        claimed(c, s, r, late);
    else if (s->kind == SENTENCE_LEASE)
        oracle_leased(c, s, r, late);
    else if (s->kind == SENTENCE_SETTLE)
        settled(who, s, r);
    else if (s->kind == SENTENCE_RESOLVE)
        oracle_resolved(who, s, r);
    else if (s->kind == SENTENCE_BEAT)
        beaten(who, s);
    else if (s->kind == SENTENCE_ANNOUNCE)
        oracle_announced(who, s);
    else if (s->kind == SENTENCE_AGGREGATE)
        count_path(who->world, PATH_FOLDED);
}

/* ---- heard ---- */

static void land(claim_record *claim, bool answered)
{
    if (claim == NULL || claim->body == NULL)
        return;
    claim->body->flying = false;
    claim->body->uncertain |= !answered;
}

static void land_all(worker *who, const sentence *s, bool answered)
{
    world *w = who->world;

    for (size_t i = 0; s->kind == SENTENCE_SETTLE && i < s->of.settle.count; i++)
        land(oracle_claim_of(w, &s->of.settle.items[i].token), answered);
    for (size_t i = 0; s->kind == SENTENCE_RESOLVE && i < s->of.settle.count; i++)
        land(
            oracle_leased_claim(w, s->of.settle.items[i].token.id, s->of.settle.items[i].picked_us),
            answered);
    for (size_t i = 0; s->kind == SENTENCE_RELEASE && i < s->of.tokens.count; i++)
        land(oracle_claim_of(w, &s->of.tokens.tokens[i]), answered);
}

static claim_record *claim_of_item(world *w, const sentence *s, size_t i)
{
    const settle_item *item = &s->of.settle.items[i];

    return s->kind == SENTENCE_RESOLVE ? oracle_leased_claim(w, item->token.id, item->picked_us)
                                       : oracle_claim_of(w, &item->token);
}

/* A worker that stops tries what is refused for good once more, and the rest for a while. */
static void outcomes_heard(worker *who, const sentence *s, const sentence_reply *r)
{
    bool again = r->class == SQLSTATE_TRANSIENT || r->class == SQLSTATE_PERMISSION;

    if (!r->refused)
        who->unwritten_us = CLOCK_NEVER;
    for (size_t i = 0; r->refused && i < s->of.settle.count; i++)
        claim_of_item(who->world, s, i)->refused = true;
    if (!r->refused || !who->stopping)
        return;
    if (again)
        who->unwritten_us = base_min_i64(who->unwritten_us, who->world->now_us);
    if (again ? who->world->now_us < who->unwritten_us + UNWRITTEN_US : s->of.settle.count > 1)
        return;
    for (size_t i = 0; i < s->of.settle.count; i++)
        claim_of_item(who->world, s, i)->refused_at_end++;
}

void oracle_unanswered(worker *who, const sentence *s)
{
    bool settles = s->kind == SENTENCE_SETTLE;

    for (size_t i = 0; (settles || s->kind == SENTENCE_RESOLVE) && i < s->of.settle.count; i++) {
        claim_record *claim = claim_of_item(who->world, s, i);

        claim->losses++;
        claim->refused_at_end +=
            settles && who->stopping && s->of.settle.count == 1 && claim->losses >= LOSSES;
    }
    if (claims(s)) {
        who->adopt_soon = true;
        who->claim_lost_us = who->world->now_us;
    }
    if (s->kind == SENTENCE_AGGREGATE)
        who->settled_us[s->of.aggregate.counts] = who->world->now_us;
    land_all(who, s, false);
}

static void beat_heard(connection *c, const sentence *s, const sentence_reply *r)
{
    world *w = c->owner->world;

    if (!r->incomplete) /* as the driver: one that passed over a row proves nothing */
        c->owner->beaten_us = c->sent_us;
    c->owner->beats_refused = 0;
    for (size_t i = 0; i < r->place_count; i++) {
        body *b = oracle_claim_of(w, &s->of.tokens.tokens[r->places[i]])->body;

        if (b == NULL || b->forgotten || b->flying || b->told_lost)
            continue;
        count_path(w, PATH_TOLD_LOST);
        b->told_lost = true;
    }
}

void oracle_to_fold(worker *who)
{
    for (int counts = 0; counts < 2; counts++)
        who->settled_us[counts] = base_min_i64(who->settled_us[counts], who->world->now_us);
}

static void settle_heard(worker *who, const sentence *s, const sentence_reply *r)
{
    if (!r->refused)
        oracle_to_fold(who);
    else if (r->class == SQLSTATE_DATA && s->of.settle.count > 1)
        count_path(who->world, PATH_BISECTED);
    else if (r->class == SQLSTATE_DATA && s->kind == SENTENCE_SETTLE)
        oracle_claim_of(who->world, &s->of.settle.items[0].token)->refused_alone++;
}

static void probe_heard(worker *who, const sentence_reply *r)
{
    who->probes++;
    if (r->refused)
        return;
    who->probe_said_empty = !r->queued;
    who->probe_said_due = r->due;
    who->probe_deferred = r->deferred;
}

void oracle_heard(connection *c, const sentence *s, const sentence_reply *r)
{
    worker *who = c->owner;

    if (r->refused && r->class == SQLSTATE_CONNECTION) {
        oracle_unanswered(who, s);
        return;
    }
    land_all(who, s, true);
    if (s->kind == SENTENCE_ADOPT) {
        who->adopt_soon |= r->refused;
        who->adopt_refused |= r->refused && r->class == SQLSTATE_PERMISSION && who->stopping;
    }
    oracle_lease_heard(c, s, r);
    if (s->kind == SENTENCE_SETTLE || s->kind == SENTENCE_RESOLVE)
        settle_heard(who, s, r), outcomes_heard(who, s, r);
    else if (s->kind == SENTENCE_BEAT && !r->refused)
        beat_heard(c, s, r);
    else if (s->kind == SENTENCE_PROBE)
        probe_heard(who, r);
    else if (s->kind == SENTENCE_AGGREGATE && r->refused)
        who->settled_us[s->of.aggregate.counts] = who->world->now_us;
}
