/* What must hold of every sentence that is said, carried out and heard. The journal is written
 * here: each claim as the database made it, whoever comes to know of it. */
#include "sim.h"

claim_record *oracle_claim_of(world *w, const claim_token *token)
{
    claim_record *claim = NULL;

    if (token->id >= 1 && token->id <= (int64_t)w->model.row_count)
        claim = w->jobs[token->id - 1].claims;
    while (claim != NULL && claim->token.updated != token->updated)
        claim = claim->older;
    return claim;
}

static bool stands(world *w, const claim_record *claim)
{
    const model_row *row = model_row_of(&w->model, claim->token.id);

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

static void take_off(body *b, const char *verb)
{
    if (b->flying)
        violated(b->worker->world, "I2: worker %d %s job %lld twice at the same time",
                 (int)b->worker->serial, verb, (long long)b->token.id);
    b->flying = true;
}

static void settle_sent(worker *who, const sentence *s)
{
    world *w = who->world;

    for (size_t i = 0; i < s->of.settle.count && !w->failed; i++) {
        const settle_item *item = &s->of.settle.items[i];
        body *b = body_said(who, &item->token, "settles");
        const engine_outcome *outcome;

        if (w->failed)
            return;
        if (b == NULL || b->state != BODY_ENDED) {
            violated(w, "I6: worker %d settles job %lld, which has not run to its end",
                     (int)who->serial, (long long)item->token.id);
            return;
        }
        outcome = &b->outcome;
        if (item->status != (item->refused_text != NULL ? PGQ_STATUS_EXCEPTION : outcome->status) ||
            item->delay_ms != outcome->delay_ms || item->text != outcome->text)
            violated(w, "I6: worker %d settles job %lld otherwise than its handler ended",
                     (int)who->serial, (long long)item->token.id);
        take_off(b, "settles");
    }
}

static void release_sent(worker *who, const sentence *s)
{
    world *w = who->world;

    if (s->of.tokens.tokens == NULL) {
        if (who->kept > 0)
            violated(w, "I2: worker %d gives back all it has picked while it holds jobs",
                     (int)who->serial);
        who->adopt_due = who->adopt_soon = false;
        return;
    }
    for (size_t i = 0; i < s->of.tokens.count && !w->failed; i++) {
        body *b = body_said(who, &s->of.tokens.tokens[i], "gives back");

        if (b == NULL)
            continue;
        if (b->state != BODY_NEW && b->state != BODY_REVOKED)
            violated(w, "I2: worker %d gives back job %lld, which may be started", (int)who->serial,
                     (long long)b->token.id);
        take_off(b, "gives back");
    }
}

static bool claim_under_way(const worker *who, const sentence *but)
{
    for (int i = 0; i < who->lane_count; i++) {
        const connection *c = who->lanes[i];

        for (size_t k = c != NULL ? c->heard : 0; c != NULL && k < c->said_count; k++) {
            if (c->said[k].kind == SENTENCE_CLAIM && &c->said[k] != but)
                return true;
        }
    }
    return false;
}

static void claim_sent(worker *who, const sentence *s)
{
    bool alone = !claim_under_way(who, s);

    if (s->of.claim.adopt && !alone)
        violated(who->world, "I2: worker %d adopts while another claim is under way",
                 (int)who->serial);
    if (!s->of.claim.adopt && who->adopt_due && alone)
        violated(who->world, "I4: worker %d claims anew and leaves the jobs of a lost claim",
                 (int)who->serial);
    if (s->of.claim.adopt)
        who->adopt_due = who->adopt_soon = false;
}

void oracle_sent(connection *c, const sentence *s)
{
    if (s->kind == SENTENCE_CLAIM)
        claim_sent(c->owner, s);
    else if (s->kind == SENTENCE_SETTLE)
        settle_sent(c->owner, s);
    else if (s->kind == SENTENCE_RELEASE)
        release_sent(c->owner, s);
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
        count_path(w, row->how == HOW_ADOPTED ? PATH_ADOPTED : PATH_REPICK_ORPHAN);
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

void oracle_claimed(connection *c, const sentence *s, const sentence_reply *r, bool late)
{
    world *w = c->owner->world;

    (void)s;
    for (size_t i = 0; i < r->row_count; i++) {
        const model_row *row = model_row_of(&w->model, r->rows[i].token.id);
        job_record *job = &w->jobs[row->id - 1];
        claim_record *claim = sim_array(w, 1, sizeof(*claim));

        trace_add(w, "claimed", c->owner, c->lane, row->id, row->updated);
        if (row->how == HOW_FRESH) {
            if (row->execute_after > row->queued_us)
                count_path(w, PATH_DEFERRED);
        } else {
            check_taken(c, row, job->claims, late);
        }
        *claim = (claim_record){
            .older = job->claims,
            .token = r->rows[i].token,
            .owner = c->owner,
            .sent_us = c->sent_us,
            .how = row->how,
            .late = late,
            .reply_pending = !late,
        };
        job->claims = claim;
    }
}

static void count_settled(world *w, const settle_item *item)
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
    default:
        break;
    }
    if (item->refused_text != NULL)
        count_path(w, PATH_REWORDED);
}

void oracle_settled(worker *who, const sentence *s, const sentence_reply *r)
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
        count_settled(w, item);
        if (claim->body->uncertain)
            count_path(w, PATH_UNCERTAIN_AGAIN);
        if (item->status == PGQ_STATUS_QUEUED) {
            job->notified = false;
            job->retried_by = who->serial;
        }
    }
}

static void release_one(claim_record *claim, path p)
{
    world *w = claim->owner->world;
    const body *b = claim->body;

    if (b != NULL && !b->forgotten && b->state != BODY_NEW && b->state != BODY_REVOKED)
        violated(w, "I2: job %lld is given back and may be started", (long long)claim->token.id);
    claim->released = true;
    count_path(w, p);
}

void oracle_releasing(worker *who, const sentence *s)
{
    world *w = who->world;

    for (size_t i = 0; s->of.tokens.tokens != NULL && i < s->of.tokens.count; i++) {
        claim_record *claim = oracle_claim_of(w, &s->of.tokens.tokens[i]);

        if (stands(w, claim))
            release_one(claim, PATH_RELEASED);
    }
    for (size_t i = 0; s->of.tokens.tokens == NULL && i < w->model.row_count; i++) {
        claim_record *claim = w->jobs[i].claims;

        if (claim != NULL && claim->owner == who && stands(w, claim))
            release_one(claim, PATH_RELEASED_ALL);
    }
}

void oracle_beaten(worker *who, const sentence *s)
{
    world *w = who->world;

    for (size_t i = 0; i < s->of.tokens.count; i++) {
        const model_row *row = model_row_of(&w->model, s->of.tokens.tokens[i].id);

        if (row->locked_until_us > w->now_us)
            w->jobs[row->id - 1].passed_over_us = w->now_us;
    }
}

/* ---- heard ---- */

static void land(worker *who, const claim_token *token, bool answered)
{
    claim_record *claim = oracle_claim_of(who->world, token);

    if (claim == NULL || claim->body == NULL)
        return;
    claim->body->flying = false;
    claim->body->uncertain |= !answered;
}

static void land_all(worker *who, const sentence *s, bool answered)
{
    for (size_t i = 0; s->kind == SENTENCE_SETTLE && i < s->of.settle.count; i++)
        land(who, &s->of.settle.items[i].token, answered);
    for (size_t i = 0;
         s->kind == SENTENCE_RELEASE && s->of.tokens.tokens != NULL && i < s->of.tokens.count; i++)
        land(who, &s->of.tokens.tokens[i], answered);
}

void oracle_unanswered(worker *who, const sentence *s)
{
    if (s->kind == SENTENCE_CLAIM || (s->kind == SENTENCE_RELEASE && s->of.tokens.tokens == NULL))
        who->adopt_soon = true;
    land_all(who, s, false);
}

static void beat_heard(connection *c, const sentence *s, const sentence_reply *r)
{
    world *w = c->owner->world;

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

static void release_refused(connection *c, const sentence *s)
{
    if (s->of.tokens.tokens == NULL)
        c->owner->give_back_refused = true;
    for (size_t i = 0; s->of.tokens.tokens != NULL && i < s->of.tokens.count; i++)
        oracle_claim_of(c->owner->world, &s->of.tokens.tokens[i])->release_refused = true;
}

void oracle_heard(connection *c, const sentence *s, const sentence_reply *r)
{
    if (r->refused && r->class == SQLSTATE_CONNECTION) {
        oracle_unanswered(c->owner, s);
        return;
    }
    land_all(c->owner, s, true);
    if (s->kind == SENTENCE_CLAIM && r->refused)
        c->owner->adopt_soon |= s->of.claim.adopt;
    else if (s->kind == SENTENCE_SETTLE && r->refused && r->class == SQLSTATE_DATA &&
             s->of.settle.count > 1)
        count_path(c->owner->world, PATH_BISECTED);
    else if (s->kind == SENTENCE_BEAT && !r->refused)
        beat_heard(c, s, r);
    else if (s->kind == SENTENCE_RELEASE && r->refused)
        release_refused(c, s);
    else if (s->kind == SENTENCE_PROBE)
        c->owner->probe_said_empty = r->refused ? c->owner->probe_said_empty : !r->queued;
}
