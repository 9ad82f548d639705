/* The server's end of the connections: refuses, carries out, answers and notifies. */
#include "sim.h"
#include "base/error.h"

enum {
    MS = 1000,
    NEAR_US = 2 * MS,   /* two claims so near each other may have met */
    ORPHANS_LOST = 5000 /* of 10 000 */
};

static sqlstate_class class_of(fault f)
{
    switch (f) {
    case FAULT_TRANSIENT:
    case FAULT_COMMIT_REFUSED:
        return SQLSTATE_TRANSIENT;
    case FAULT_PERMISSION:
        return SQLSTATE_PERMISSION;
    case FAULT_SESSION:
        return SQLSTATE_CONNECTION;
    case FAULT_CONTENDED:
        return SQLSTATE_CONTENDED;
    default:
        return SQLSTATE_DATA;
    }
}

/* ---- notifications ---- */

static void mark_notified(world *w)
{
    for (size_t i = 0; i < w->model.row_count; i++) {
        const model_row *row = &w->model.rows[i];

        if (row->present && row->status == PGQ_STATUS_QUEUED && row->queued_us == w->now_us) {
            w->jobs[i].notified = true;
            if (w->jobs[i].retried_us != w->now_us) /* the notification is not the retry's own */
                w->jobs[i].retried_by = 0;
        }
    }
}

void server_notify(world *w, const notice *n)
{
    notice *kept = sim_array(w, 1, sizeof(*kept));

    *kept = *n;
    if (n->kind == NOTICE_WORK)
        mark_notified(w);
    for (size_t i = 0; i < w->worker_count; i++) {
        worker *who = w->workers[i];
        connection *c = who->lanes[0];

        if (!who->alive || c == NULL || !c->listening || c->cut)
            continue;
        /* a lost health event is a deaf listener, which is a fault of its own */
        if (n->kind != NOTICE_HEALTH && befalls(w, FAULT_NOTIFY_LOST)) {
            who->missed_us = n->kind == NOTICE_CANCEL ? who->missed_us : w->now_us;
            continue;
        }
        network_schedule(c, EVENT_NOTIFY, w->now_us + between(w, 50, 500), kept);
        if (befalls(w, FAULT_NOTIFY_TWICE))
            network_schedule(c, EVENT_NOTIFY, w->now_us + between(w, 50, 50000), kept);
    }
}

void server_notify_changes(world *w)
{
    bool told = w->model.told, freed = w->model.freed;

    w->model.told = w->model.freed = false;
    if (told)
        server_notify(w, &(notice){.kind = NOTICE_WORK});
    if (freed)
        server_notify(w, &(notice){.kind = NOTICE_FREED});
}

/* ---- carrying out ---- */

static bool lives(const world *w, int64_t backend)
{
    for (size_t i = 0; i < w->worker_count; i++) {
        const worker *who = w->workers[i];

        for (const connection *c = who->backends; c != NULL; c = c->older) {
            if (c->backend == backend)
                return c->late > 0 || w->now_us < c->lingers_until_us || (!c->cut && !c->dropped);
        }
    }
    return false;
}

static void add_ghosts(connection *c, const sentence *s, sentence_reply *reply)
{
    world *w = c->owner->world;
    uint32_t *places = sim_array(w, s->of.adopt.ghost_count + 1, sizeof(*places));

    for (size_t i = 0; i < s->of.adopt.ghost_count; i++) {
        if (lives(w, s->of.adopt.ghosts[i]))
            places[reply->place_count++] = (uint32_t)i;
    }
    if (reply->place_count > 0)
        count_path(w, PATH_GHOST_LIVED);
    reply->places = places;
}

static void answer_check(world *w, sentence_reply *reply)
{
    reply->extras = w->extras;
    reply->front = w->has_front;
    reply->front_free = w->has_front && !w->model.front.told;
    if (w->has_front && w->model.front.told && w->model.front.priority == 0) {
        reply->front_id = w->model.front.id;
        reply->front_entrypoint = w->model.front.entrypoint;
    }
}

/* Now and then a stranger sets it far ahead. */
static void front_taken(world *w, const sentence *s)
{
    if (w->model.front.ahead)
        count_path(w, PATH_FRONT_AHEAD);
    w->model.front.ahead = false;
    if (s->of.lease.front_back)
        count_path(w, PATH_FRONT_BACK);
    if (!chance(w, 100))
        return;
    w->model.front.id += (int64_t)w->jobs_planned;
    count_path(w, PATH_FRONT_WRONG);
}

void server_carry_out(connection *c, const sentence *s, sentence_reply *reply, bool late)
{
    worker *who = c->owner;
    world *w = who->world;
    model_caller caller = fleet_caller(who);

    caller.tx = &c->tx;
    oracle_executing(c, s);
    model_execute(&w->model, w->now_us, &caller, s, reply);
    oracle_executed(c, s, reply, late);
    if (s->kind == SENTENCE_LEASE && s->of.lease.front)
        front_taken(w, s);
    if (s->kind == SENTENCE_ADOPT)
        add_ghosts(c, s, reply);
    if (s->kind == SENTENCE_CHECK)
        answer_check(w, reply);
    if (s->kind == SENTENCE_END_STUCK)
        reply->number = server_end_stuck(w, s->of.end_stuck.age_us);
    if (s->kind == SENTENCE_LEASE && !late && w->now_us < who->frozen_until_us)
        c->stuck = befalls(w, FAULT_STUCK);
    if (s->kind == SENTENCE_PING)
        server_notify(w, &(notice){.kind = NOTICE_HEALTH});
    if (s->kind == SENTENCE_LISTEN && !late && befalls(w, FAULT_DEAF)) {
        c->swallowed = true;
    } else if (s->kind == SENTENCE_LISTEN && !late) {
        c->listening = true;
        who->listening_since_us = w->now_us;
    }
    trace_add(w, late ? "carried out late" : "carried out", who, c->lane, (int64_t)s->kind,
              (int64_t)(reply->rows != NULL ? reply->row_count : reply->place_count));
    oracle_check_limits(w);
    server_notify_changes(w);
}

/* ---- refusing ---- */

/* Whether a claim may meet another that takes a seat at the same time. */
static bool races(const worker *who, const sentence *s)
{
    const world *w = who->world;

    if (s->kind != SENTENCE_CLAIM || s->of.claim.shares == NULL || w->seated_by == NULL ||
        w->seated_by == who || w->now_us > w->seated_us + NEAR_US)
        return false;
    for (size_t i = 0; i < s->of.claim.share_count; i++) {
        if (who->registered[s->of.claim.shares[i].entrypoint].limit > 0)
            return true;
    }
    return false;
}

static bool writes_outcomes(const sentence *s)
{
    return s->kind == SENTENCE_SETTLE || s->kind == SENTENCE_CONCLUDE ||
           s->kind == SENTENCE_RESOLVE;
}

static fault why_refused(connection *c, const sentence *s)
{
    static const fault refusals[] = {FAULT_TRANSIENT, FAULT_SESSION};
    world *w = c->owner->world;
    model_poison poison = model_poisoned(&w->model, w->now_us, c->owner->serial, s);
    bool claims =
        s->kind == SENTENCE_CLAIM || s->kind == SENTENCE_ADOPT || s->kind == SENTENCE_LEASE;

    for (size_t i = 0; i < BASE_COUNT(refusals); i++) {
        if (befalls(w, refusals[i]))
            return refusals[i];
    }
    if (s->kind == SENTENCE_COMMIT && befalls(w, FAULT_COMMIT_REFUSED))
        return FAULT_COMMIT_REFUSED;
    if (races(c->owner, s) && befalls(w, FAULT_CONTENDED))
        return FAULT_CONTENDED;
    if (w->now_us < w->denied_until_us && (writes_outcomes(s) || (claims && w->denied_claims))) {
        count_fault(w, FAULT_PERMISSION);
        return FAULT_PERMISSION;
    }
    if (w->now_us < w->broken_until_us && writes_outcomes(s)) {
        count_fault(w, FAULT_BROKEN_LOG);
        return FAULT_BROKEN_LOG;
    }
    if (poison == POISON_NONE)
        return FAULT_COUNT;
    count_fault(w, poison == POISON_TEXT ? FAULT_POISON_TEXT : FAULT_POISON_ROW);
    return poison == POISON_TEXT ? FAULT_POISON_TEXT : FAULT_POISON_ROW;
}

static void refused_for(connection *c, const sentence *s, fault why)
{
    worker *who = c->owner;
    world *w = who->world;

    who->refusals++;
    who->held_up_us = base_max_i64(who->held_up_us, w->now_us);
    if (s->kind == SENTENCE_ADOPT && class_of(why) == SQLSTATE_TRANSIENT)
        who->adopt_refused_us = w->now_us;
    if (c->lane == 0 && (s->kind == SENTENCE_LISTEN || s->kind == SENTENCE_PING))
        oracle_listen_hurt(who, w->now_us);
    if (s->kind == SENTENCE_ANNOUNCE && s->of.announce.done) {
        who->untold_us = CLOCK_NEVER;
    } else if (s->kind == SENTENCE_ANNOUNCE) { /* others look again in their own time */
        who->announced_us = w->now_us;
        who->announce_us = CLOCK_NEVER;
    }
    if (why == FAULT_CONTENDED)
        return;
    if (s->kind == SENTENCE_CHECK || s->kind == SENTENCE_LISTEN ||
        (!writes_outcomes(s) && why == FAULT_PERMISSION))
        who->may_end = true; /* the first two: at its start */
    if (why == FAULT_POISON_ROW) {
        /* a refused settle of one bad row costs nobody a claim, and other jobs little time */
        who->hampered_us = w->now_us;
    } else if (s->kind == SENTENCE_BEAT && who->beats_refused++ == 0) {
        who->hampered_us = w->now_us; /* one refused beat is repeated in time */
    } else if (why != FAULT_POISON_TEXT) {
        oracle_disturb(who, w->now_us);
    }
}

/* A statement of a transaction was refused: it can only be ended. */
static void abort_transaction(connection *c, const sentence *s)
{
    if (s->kind == SENTENCE_LEASE)
        c->tx.hold_us = s->of.lease.hold_us;
    c->tx.state = TX_ABORTED;
}

/* In a transaction that has failed everything is refused but its end. */
static bool refuse_in_tx(connection *c, const sentence *s, sentence_reply *reply)
{
    if (!server_tx_refuses(c, s))
        return false;
    *reply = (sentence_reply){.refused = true, .class = SQLSTATE_OTHER};
    (void)error_set(&reply->error, PGQ_E_DATABASE, "the transaction has failed");
    trace_add(c->owner->world, "refused, its transaction has failed", c->owner, c->lane,
              (int64_t)s->kind, 0);
    return true;
}

/* Whether the server refuses the sentence; nothing is done then. */
static bool refuse(connection *c, const sentence *s, bool timeout, sentence_reply *reply)
{
    fault why = timeout ? FAULT_TRANSIENT : why_refused(c, s);

    if (why == FAULT_COUNT)
        return false;
    if (timeout)
        count_path(c->owner->world, PATH_RESOLVE_TIMEOUT);
    *reply = (sentence_reply){.refused = true, .class = class_of(why)};
    (void)error_set(&reply->error, timeout ? PGQ_E_TIMEOUT : PGQ_E_DATABASE,
                    "refused by the simulated server");
    refused_for(c, s, why);
    if (s->kind == SENTENCE_COMMIT || reply->class == SQLSTATE_CONNECTION)
        server_rollback(c);
    else if (c->tx.state != TX_NONE || s->kind == SENTENCE_LEASE)
        abort_transaction(c, s);
    trace_add(c->owner->world, "refused", c->owner, c->lane, (int64_t)s->kind,
              (int64_t)reply->class);
    return true;
}

/* ---- answering ---- */

/* Whether it walks the dead rows that a held horizon keeps. */
static bool walks(const sentence *s)
{
    return s->kind == SENTENCE_LEASE && (s->of.lease.cursors == NULL || s->of.lease.late);
}

static void send_reply(connection *c, const sentence *s)
{
    world *w = c->owner->world;
    int64_t at_us = w->now_us + between(w, 20, chance(w, 600) ? 20 * MS : 300);
    int64_t walk_us = walks(s) ? w->walk_us : 0;

    at_us += walk_us;
    if (befalls(w, FAULT_SLOW))
        at_us += between(w, 10 * MS, 2 * w->heartbeat_us);
    if (s->kind == SENTENCE_AGGREGATE && chance(w, 2000))
        at_us += between(w, 100 * MS, 1200 * MS); /* there was much to fold */
    c->last_arrival_us = base_max_i64(c->last_arrival_us, at_us);
    if (c->last_arrival_us > w->now_us + 20 * MS + walk_us) {
        oracle_disturb(c->owner, c->last_arrival_us);
        if (c->lane == 0)
            oracle_listen_hurt(c->owner, c->last_arrival_us);
        else
            c->owner->held_up_us = base_max_i64(c->owner->held_up_us, c->last_arrival_us);
    }
    if (s->kind == SENTENCE_LEASE && c->lease != NULL)
        c->lease->answered_us = c->last_arrival_us;
    if (!c->mute)
        network_schedule(c, EVENT_REPLY, c->last_arrival_us, NULL);
}

bool server_blocked(connection *c, const sentence *s, event_kind kind, void *what)
{
    world *w = c->owner->world;
    int64_t until_us = model_blocked_until(&w->model, w->now_us, c->owner->serial, s);

    if (until_us == 0)
        return false;
    oracle_disturb(c->owner, until_us);
    c->owner->held_up_us = base_max_i64(c->owner->held_up_us, until_us);
    network_schedule(c, kind, until_us, what);
    return true;
}

static int64_t noticed_after(world *w)
{
    return between(w, 20, chance(w, 3000) ? w->heartbeat_us : 2000);
}

/* The reply to a claim is lost more often when it brings a job that its worker has run in a lease
 * that was lost: by chance alone that is rare. */
static bool loses_orphan(connection *c, const sentence *s, const sentence_reply *reply)
{
    world *w = c->owner->world;
    bool any = false;

    if (s->kind != SENTENCE_CLAIM || reply->refused || w->fault_rates[FAULT_CUT_AFTER] == 0 ||
        w->now_us >= w->faults_end_us)
        return false;
    for (size_t i = 0; i < reply->row_count; i++)
        any |= oracle_has_orphan(c->owner, reply->rows[i].token.id);
    if (!any || !chance(w, ORPHANS_LOST))
        return false;
    count_fault(w, FAULT_CUT_ORPHAN);
    return true;
}

void server_execute(connection *c)
{
    world *w = c->owner->world;
    const sentence *s = &c->said[c->executed];
    sentence_reply reply;
    bool timeout;

    if (c->dropped && !c->cut && c->executed > 0)
        server_waits(c); /* for what will not come */
    if (c->cut || c->dropped)
        return;
    c->waits++;
    if (server_blocked(c, s, EVENT_EXECUTE, NULL) ||
        server_resolve_waits(c, s, EVENT_EXECUTE, NULL, &timeout))
        return;
    if (befalls(w, FAULT_SWALLOWED_BEFORE)) {
        network_swallow(c, false);
        server_waits(c);
        return;
    }
    if (befalls(w, FAULT_CUT_BEFORE)) {
        network_maybe_late(c, false);
        network_cut(c, noticed_after(w));
        return;
    }
    if (!refuse_in_tx(c, s, &reply) && !refuse(c, s, timeout, &reply))
        server_carry_out(c, s, &reply, false);
    c->answers[c->executed++] = reply;
    if (!c->mute && befalls(w, FAULT_SWALLOWED_AFTER))
        network_swallow(c, true);
    if (loses_orphan(c, s, &reply) || befalls(w, FAULT_CUT_AFTER)) {
        if (server_of_lease(c))
            network_maybe_late(c, false);
        network_cut(c, noticed_after(w));
        return;
    }
    send_reply(c, s);
    if (reply.refused && reply.class == SQLSTATE_CONNECTION)
        c->cut = true;
    if (!c->cut && c->executed < c->said_count)
        network_schedule(c, EVENT_EXECUTE, w->now_us + between(w, 10, 200), NULL);
    else if (!c->cut)
        server_waits(c);
}
