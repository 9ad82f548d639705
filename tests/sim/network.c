/* Connections: what a worker says reaches the database in order, is answered in order, and both
 * may go wrong at every step. */
#include "sim.h"
#include "base/error.h"

static sqlstate_class class_of(fault f)
{
    switch (f) {
    case FAULT_TRANSIENT:
        return SQLSTATE_TRANSIENT;
    case FAULT_PERMISSION:
        return SQLSTATE_PERMISSION;
    case FAULT_SESSION:
        return SQLSTATE_CONNECTION;
    default:
        return SQLSTATE_DATA;
    }
}

static void *copy_array(world *w, const void *from, size_t count, size_t size)
{
    void *to;

    if (from == NULL)
        return NULL;
    to = sim_array(w, count + 1, size);
    if (count > 0)
        memcpy(to, from, count * size);
    return to;
}

/* The server has what was sent, whatever becomes of the sender's memory. */
static sentence copy_sentence(world *w, const sentence *s)
{
    sentence copy = *s;
    settle_item *items;

    switch (s->kind) {
    case SENTENCE_CLAIM:
        copy.of.claim.known =
            copy_array(w, s->of.claim.known, s->of.claim.known_count, sizeof(int64_t));
        break;
    case SENTENCE_SETTLE:
        items = copy_array(w, s->of.settle.items, s->of.settle.count, sizeof(*items));
        for (size_t i = 0; i < s->of.settle.count; i++)
            items[i].refused_text = items[i].refused_text != NULL ? "refused" : NULL;
        copy.of.settle.items = items;
        break;
    case SENTENCE_BEAT:
    case SENTENCE_RELEASE:
        copy.of.tokens.tokens =
            copy_array(w, s->of.tokens.tokens, s->of.tokens.count, sizeof(claim_token));
        break;
    case SENTENCE_CHECK:
    case SENTENCE_LISTEN:
    case SENTENCE_PROBE:
        break;
    }
    return copy;
}

static void schedule(connection *c, event_kind kind, int64_t at_us, void *what)
{
    event_add(
        c->owner->world,
        (event){.at_us = at_us, .kind = kind, .worker = c->owner, .connection = c, .what = what});
}

/* ---- losing ---- */

/* The worker knows that what was not answered on this connection never will be. */
static void forget_unanswered(connection *c)
{
    world *w = c->owner->world;

    c->open = c->ready = false;
    for (size_t i = c->heard; i < c->said_count; i++) {
        const sentence *s = &c->said[i];

        oracle_unanswered(c->owner, s);
        for (size_t k = 0; s->kind == SENTENCE_CLAIM && k < c->answers[i].row_count; k++)
            oracle_claim_of(w, &c->answers[i].rows[k].token)->reply_pending = false;
    }
    c->said_count = c->heard = 0;
}

/* The sentence the server would have come to next may be carried out after all. */
static void maybe_late(connection *c, bool surely)
{
    world *w = c->owner->world;
    sentence *s;

    if (c->executed >= c->said_count || (!surely && !befalls(w, FAULT_LATE)))
        return;
    s = sim_array(w, 1, sizeof(*s));
    *s = c->said[c->executed];
    schedule(c, EVENT_LATE, w->now_us + between(w, 100, w->heartbeat_us), s);
}

void network_cut(connection *c, int64_t noticed_after_us)
{
    world *w = c->owner->world;

    if (c->cut)
        return;
    if (c->executed > 0 && c->executed < c->said_count)
        count_fault(w, FAULT_CUT_MIDDLE);
    c->cut = true;
    c->listening = false;
    oracle_disturb(c->owner, w->now_us + noticed_after_us);
    trace_add(w, "connection cut, sentences carried out", c->owner, c->lane, (int64_t)c->executed,
              (int64_t)c->said_count);
    schedule(c, EVENT_LOST, w->now_us + noticed_after_us, NULL);
}

void network_drop(worker *who)
{
    world *w = who->world;

    for (int i = 0; i < who->lane_count; i++) {
        connection *c = who->lanes[i];

        if (c == NULL || !c->open)
            continue;
        if (!c->cut)
            maybe_late(c, chance(w, 5000));
        c->cut = true;
        c->listening = false;
        forget_unanswered(c);
    }
}

void network_close(worker *who, int lane)
{
    connection *c = who->lanes[lane];

    oracle_disturb(who, who->world->now_us);
    c->cut = true;
    c->listening = false;
    forget_unanswered(c);
}

static pgq_error lost_error(void)
{
    pgq_error error = PGQ_ERROR_INIT;

    (void)error_set(&error, PGQ_E_CONNECTION_LOST, "the connection was lost");
    return error;
}

static void on_lost(connection *c)
{
    worker *who = c->owner;
    pgq_error error = lost_error();

    if (!c->open)
        return;
    oracle_disturb(who, who->world->now_us);
    trace_add(who->world, "connection lost", who, c->lane, 0, 0);
    forget_unanswered(c);
    engine_lane_lost(who->engine, who->world->now_us, c->lane, &error);
    fleet_carry_out(who);
}

/* ---- connecting ---- */

void network_connect(worker *who, int lane)
{
    world *w = who->world;
    connection *c = sim_array(w, 1, sizeof(*c));

    *c = (connection){.owner = who, .lane = lane, .open = true};
    who->lanes[lane] = c;
    schedule(c, EVENT_CONNECTED, w->now_us + between(w, 200, 3000), NULL);
}

static bool away(world *w, const connection *c)
{
    const worker *who = c->owner;

    if (w->now_us < w->away_until_us)
        return true;
    return w->now_us < who->lanes_away_until_us &&
           (who->lane_away < 0 || who->lane_away == c->lane);
}

static void on_connected(connection *c)
{
    worker *who = c->owner;
    world *w = who->world;
    pgq_error error = lost_error();

    if (!c->open || c->cut)
        return;
    if (away(w, c) || befalls(w, FAULT_NO_CONNECT)) {
        c->open = false;
        c->cut = true;
        oracle_disturb(who, w->now_us);
        trace_add(w, "connect failed", who, c->lane, 0, 0);
        engine_lane_lost(who->engine, w->now_us, c->lane, &error);
    } else {
        c->ready = true;
        c->ready_us = w->now_us;
        who->wakes++;
        if (who->ready)
            oracle_disturb(who, w->now_us);
        trace_add(w, "connected", who, c->lane, 0, 0);
        engine_lane_ready(who->engine, w->now_us, c->lane);
    }
    fleet_carry_out(who);
}

/* ---- saying ---- */

static const char *const sentence_texts[] = {
    [SENTENCE_CHECK] = "says check", [SENTENCE_LISTEN] = "says listen",
    [SENTENCE_CLAIM] = "says claim", [SENTENCE_SETTLE] = "says settle",
    [SENTENCE_BEAT] = "says beat",   [SENTENCE_RELEASE] = "says release",
    [SENTENCE_PROBE] = "says probe",
};

static int64_t size_of_sentence(const sentence *s)
{
    if (s->kind == SENTENCE_CLAIM)
        return s->of.claim.batch;
    if (s->kind == SENTENCE_SETTLE)
        return (int64_t)s->of.settle.count;
    return s->kind == SENTENCE_BEAT || s->kind == SENTENCE_RELEASE ? (int64_t)s->of.tokens.count
                                                                   : 0;
}

bool network_fly(worker *who, int lane, const engine_flight *flight)
{
    world *w = who->world;
    connection *c = who->lanes[lane];

    if (c == NULL || !c->open || !c->ready || c->heard != c->said_count) {
        violated(w, "I7: a flight on a lane that is %s",
                 c != NULL && c->ready ? "busy" : "not connected");
        return true;
    }
    c->said_count = flight->count;
    c->executed = c->heard = 0;
    c->sent_us = w->now_us;
    for (size_t i = 0; i < flight->count; i++) {
        c->answers[i] = (sentence_reply){.refused = false};
        c->said[i] = copy_sentence(w, &flight->sentences[i]);
    }
    for (size_t i = 0; i < flight->count; i++) {
        trace_add(w, sentence_texts[c->said[i].kind], who, lane, size_of_sentence(&c->said[i]),
                  c->said[i].kind == SENTENCE_CLAIM ? (int64_t)c->said[i].of.claim.adopt : 0);
        oracle_sent(c, &c->said[i]);
    }
    if (!c->cut && befalls(w, FAULT_UNSAID)) {
        maybe_late(c, false);
        c->cut = true;
        c->listening = false;
        oracle_disturb(who, w->now_us);
        forget_unanswered(c);
        return false;
    }
    schedule(c, EVENT_EXECUTE, w->now_us + between(w, 20, 300), NULL);
    return true;
}

/* ---- the server ---- */

static void mark_notified(world *w)
{
    for (size_t i = 0; i < w->model.row_count; i++) {
        const model_row *row = &w->model.rows[i];

        if (row->present && row->status == PGQ_STATUS_QUEUED && row->queued_us == w->now_us) {
            w->jobs[i].notified = true;
            w->jobs[i].retried_by = 0;
        }
    }
}

void network_notify(world *w)
{
    mark_notified(w);
    for (size_t i = 0; i < w->worker_count; i++) {
        worker *who = w->workers[i];
        connection *c = who->lanes[0];

        if (!who->alive || c == NULL || !c->listening || c->cut)
            continue;
        if (befalls(w, FAULT_NOTIFY_LOST)) {
            who->missed_us = w->now_us;
            continue;
        }
        schedule(c, EVENT_NOTIFY, w->now_us + between(w, 50, 500), NULL);
        if (befalls(w, FAULT_NOTIFY_TWICE))
            schedule(c, EVENT_NOTIFY, w->now_us + between(w, 50, 50000), NULL);
    }
}

static void carry_out(connection *c, const sentence *s, sentence_reply *reply, bool late)
{
    worker *who = c->owner;
    world *w = who->world;

    if (s->kind == SENTENCE_RELEASE)
        oracle_releasing(who, s);
    model_execute(&w->model, w->now_us, who->serial, s, reply);
    if (s->kind == SENTENCE_CLAIM)
        oracle_claimed(c, s, reply, late);
    else if (s->kind == SENTENCE_SETTLE)
        oracle_settled(who, s, reply);
    else if (s->kind == SENTENCE_BEAT)
        oracle_beaten(who, s);
    else if (s->kind == SENTENCE_LISTEN && !late) {
        c->listening = true;
        who->listening_since_us = w->now_us;
    }
    trace_add(w, late ? "carried out late" : "carried out", who, c->lane, (int64_t)s->kind,
              (int64_t)(s->kind == SENTENCE_CLAIM ? reply->row_count : reply->place_count));
    if (w->model.told) {
        w->model.told = false;
        network_notify(w);
    }
}

/* Whether the server refuses the sentence; nothing is done then. */
static bool refuse(connection *c, const sentence *s, sentence_reply *reply)
{
    static const fault refusals[] = {FAULT_TRANSIENT, FAULT_SESSION};
    world *w = c->owner->world;
    fault why = FAULT_COUNT;
    model_poison poison;

    for (size_t i = 0; i < BASE_COUNT(refusals) && why == FAULT_COUNT; i++) {
        if (befalls(w, refusals[i]))
            why = refusals[i];
    }
    if (why == FAULT_COUNT && w->now_us < w->denied_until_us &&
        (s->kind == SENTENCE_SETTLE || (s->kind == SENTENCE_CLAIM && w->denied_claims))) {
        why = FAULT_PERMISSION;
        count_fault(w, why);
    }
    poison = model_poisoned(&w->model, w->now_us, s);
    if (why == FAULT_COUNT && poison != POISON_NONE) {
        why = poison == POISON_TEXT ? FAULT_POISON_TEXT : FAULT_POISON_ROW;
        count_fault(w, why);
    }
    if (why == FAULT_COUNT)
        return false;
    *reply = (sentence_reply){.refused = true, .class = class_of(why)};
    (void)error_set(&reply->error, PGQ_E_DATABASE, "refused by the simulated server");
    /* a refused settle of one bad row costs nobody a claim, and other jobs little time */
    if (why == FAULT_POISON_ROW)
        c->owner->hampered_us = w->now_us;
    else if (s->kind == SENTENCE_BEAT && c->owner->beats_refused++ == 0)
        c->owner->hampered_us = w->now_us; /* one refused beat is repeated in time */
    else if (why != FAULT_POISON_TEXT)
        oracle_disturb(c->owner, w->now_us);
    c->owner->refusals++;
    trace_add(w, "refused", c->owner, c->lane, (int64_t)s->kind, (int64_t)reply->class);
    return true;
}

static void send_reply(connection *c)
{
    world *w = c->owner->world;
    int64_t at_us = w->now_us + between(w, 20, chance(w, 600) ? 20 * 1000 : 300);

    if (befalls(w, FAULT_SLOW))
        at_us += between(w, 10 * 1000, 2 * w->heartbeat_us);
    c->last_arrival_us = base_max_i64(c->last_arrival_us, at_us);
    if (c->last_arrival_us > w->now_us + 20 * 1000)
        oracle_disturb(c->owner, c->last_arrival_us);
    schedule(c, EVENT_REPLY, c->last_arrival_us, NULL);
}

/* Locks of others: the sentence waits for their end. */
static bool wait_for_locks(connection *c, const sentence *s, event_kind kind, void *what)
{
    world *w = c->owner->world;
    int64_t until_us = model_blocked_until(&w->model, w->now_us, c->owner->serial, s);

    if (until_us == 0)
        return false;
    oracle_disturb(c->owner, until_us);
    schedule(c, kind, until_us, what);
    return true;
}

static void on_execute(connection *c)
{
    world *w = c->owner->world;
    const sentence *s = &c->said[c->executed];
    sentence_reply reply;

    if (c->cut || wait_for_locks(c, s, EVENT_EXECUTE, NULL))
        return;
    if (befalls(w, FAULT_CUT_BEFORE)) {
        maybe_late(c, false);
        network_cut(c, between(w, 20, chance(w, 3000) ? w->heartbeat_us : 2000));
        return;
    }
    if (!refuse(c, s, &reply))
        carry_out(c, s, &reply, false);
    c->answers[c->executed++] = reply;
    if (befalls(w, FAULT_CUT_AFTER)) {
        network_cut(c, between(w, 20, chance(w, 3000) ? w->heartbeat_us : 2000));
        return;
    }
    send_reply(c);
    if (reply.refused && reply.class == SQLSTATE_CONNECTION)
        c->cut = true;
    if (!c->cut && c->executed < c->said_count)
        schedule(c, EVENT_EXECUTE, w->now_us + between(w, 10, 200), NULL);
}

static void on_late(connection *c, sentence *s)
{
    sentence_reply reply;

    if (wait_for_locks(c, s, EVENT_LATE, s))
        return;
    carry_out(c, s, &reply, true);
}

/* ---- hearing ---- */

static void hear_rows(connection *c, sentence_reply *reply)
{
    worker *who = c->owner;
    world *w = who->world;
    claimed_row *rows = copy_array(w, reply->rows, reply->row_count, sizeof(*rows));
    bool none = befalls(w, FAULT_NOMEM); /* for the whole batch, as a batch is one allocation */

    for (size_t i = 0; i < reply->row_count; i++) {
        claim_record *claim = oracle_claim_of(w, &rows[i].token);

        claim->reply_pending = false;
        rows[i].body = none ? NULL : fleet_hear_row(who, claim);
    }
    reply->rows = rows;
    if (who->stopping && reply->row_count > 0)
        count_path(w, PATH_CLAIM_STOPPED);
    if (reply->row_count == 0)
        who->empty_claims++;
    who->heard_rows += reply->row_count;
}

static void on_reply(connection *c)
{
    worker *who = c->owner;
    world *w = who->world;
    const sentence *s;
    sentence_reply reply;

    if (!c->open || c->heard >= c->executed)
        return;
    s = &c->said[c->heard];
    reply = c->answers[c->heard++];
    trace_add(w, "hears", who, c->lane, (int64_t)s->kind,
              reply.refused ? -1 : (int64_t)(reply.row_count + reply.place_count));
    if (s->kind == SENTENCE_CLAIM && !reply.refused)
        hear_rows(c, &reply);
    oracle_heard(c, s, &reply);
    engine_reply(who->engine, w->now_us, c->lane, &reply);
    fleet_carry_out(who);
}

static void on_notify(connection *c)
{
    worker *who = c->owner;
    world *w = who->world;

    if (!c->open)
        return;
    who->wakes++;
    trace_add(w, "notified", who, c->lane, 0, 0);
    engine_notified(who->engine, w->now_us);
    fleet_carry_out(who);
}

void network_event(world *w, const event *e)
{
    (void)w;
    switch (e->kind) {
    case EVENT_CONNECTED:
        on_connected(e->connection);
        break;
    case EVENT_EXECUTE:
        on_execute(e->connection);
        break;
    case EVENT_LATE:
        on_late(e->connection, e->what);
        break;
    case EVENT_REPLY:
        on_reply(e->connection);
        break;
    case EVENT_LOST:
        on_lost(e->connection);
        break;
    default:
        on_notify(e->connection);
        break;
    }
}
