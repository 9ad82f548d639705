/* Connections, as a worker sees them: what it says reaches the database in order, is answered in
 * order, and both may go wrong at every step. */
#include "sim.h"
#include "base/error.h"

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
        copy.of.claim.shares =
            copy_array(w, s->of.claim.shares, s->of.claim.share_count, sizeof(claim_share));
        copy.of.claim.ids = copy_array(w, s->of.claim.ids, s->of.claim.id_count, sizeof(int64_t));
        break;
    case SENTENCE_LEASE:
        copy.of.lease.shares =
            copy_array(w, s->of.lease.shares, s->of.lease.share_count, sizeof(claim_share));
        copy.of.lease.cursors =
            copy_array(w, s->of.lease.cursors, s->of.lease.cursor_count, sizeof(claim_cursor));
        copy.of.lease.except =
            copy_array(w, s->of.lease.except, s->of.lease.except_count, sizeof(int64_t));
        break;
    case SENTENCE_ADOPT:
        copy.of.adopt.known =
            copy_array(w, s->of.adopt.known, s->of.adopt.known_count, sizeof(int64_t));
        copy.of.adopt.ghosts =
            copy_array(w, s->of.adopt.ghosts, s->of.adopt.ghost_count, sizeof(int64_t));
        break;
    case SENTENCE_SETTLE:
    case SENTENCE_CONCLUDE:
    case SENTENCE_RESOLVE:
        items = copy_array(w, s->of.settle.items, s->of.settle.count, sizeof(*items));
        for (size_t i = 0; i < s->of.settle.count; i++)
            items[i].own_message = items[i].own_message != NULL ? "a reason" : NULL;
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
    case SENTENCE_PING:
    case SENTENCE_SURVEY:
    case SENTENCE_AGGREGATE:
    case SENTENCE_COMMIT:
    case SENTENCE_ANNOUNCE:
    case SENTENCE_END_STUCK:
    case SENTENCE_HORIZON:
        break;
    }
    return copy;
}

void network_schedule(connection *c, event_kind kind, int64_t at_us, void *what)
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
    c->lost_us = w->now_us;
    for (size_t i = c->heard; i < c->said_count; i++) {
        const sentence *s = &c->said[i];

        oracle_unanswered(c->owner, s);
        for (size_t k = 0; k < c->answers[i].row_count; k++)
            oracle_claimed_row(w, &c->answers[i].rows[k])->reply_pending = false;
    }
    oracle_lease_unanswered(c);
    c->said_count = c->heard = 0;
}

void network_maybe_late(connection *c, bool surely)
{
    world *w = c->owner->world;
    size_t left = c->said_count - c->executed;

    if (left == 0 || (!surely && !befalls(w, FAULT_LATE)))
        return;
    server_carry_late(c, server_of_lease(c) ? (size_t)between(w, 1, (int64_t)left) : 1);
}

void network_cut(connection *c, int64_t noticed_after_us)
{
    world *w = c->owner->world;

    if (c->cut)
        return;
    if (c->executed > 0 && c->executed < c->said_count)
        count_fault(w, FAULT_CUT_MIDDLE);
    server_count_cut(c);
    c->cut = true;
    c->listening = false;
    server_left(c, false);
    if (befalls(w, FAULT_GHOST))
        c->lingers_until_us = w->now_us + between(w, 0, 12 * 1000 * 1000);
    oracle_disturb(c->owner, w->now_us + noticed_after_us);
    if (c->lane == 0)
        oracle_listen_hurt(c->owner, w->now_us + noticed_after_us);
    trace_add(w, "connection cut, sentences carried out", c->owner, c->lane, (int64_t)c->executed,
              (int64_t)c->said_count);
    network_schedule(c, EVENT_LOST, w->now_us + noticed_after_us, NULL);
}

void network_silence(connection *c, int64_t noticed_after_us)
{
    world *w = c->owner->world;

    c->dropped = true;
    c->listening = false;
    c->deaf_us = base_min_i64(c->deaf_us, w->now_us);
    trace_add(w, "packets dropped from now on", c->owner, c->lane, 0, 0);
    network_schedule(c, EVENT_LOST, w->now_us + noticed_after_us, NULL);
}

bool network_silent(const connection *c)
{
    return c->dropped || c->mute;
}

void network_swallow(connection *c, bool carried_out)
{
    world *w = c->owner->world;

    c->mute = carried_out;
    c->dropped = !carried_out;
    c->deaf_us = base_min_i64(c->deaf_us, w->now_us);
    trace_add(w, carried_out ? "answers swallowed" : "statements swallowed", c->owner, c->lane, 0,
              0);
    oracle_disturb(c->owner, w->now_us);
}

void network_drop(worker *who)
{
    world *w = who->world;

    for (int i = 0; i < who->lane_count; i++) {
        connection *c = who->lanes[i];

        if (c == NULL || !c->open)
            continue;
        if (!c->cut && !c->dropped)
            network_maybe_late(c, chance(w, 5000));
        if (!c->cut && !c->dropped)
            server_left(c, true); /* the kernel says goodbye */
        c->cut = true;
        c->listening = false;
        forget_unanswered(c);
    }
}

void network_close(worker *who, int lane)
{
    connection *c = who->lanes[lane];

    trace_add(who->world, "closes", who, lane, 0, 0);
    if (network_silent(c) && c->ready) {
        count_path(who->world, PATH_GIVEN_UP);
        who->held_up_us = base_max_i64(who->held_up_us, who->world->now_us);
    }
    if (!c->cut && !c->dropped) /* what it waits for, as somebody's lock, may come yet */
        network_maybe_late(c, false);
    oracle_disturb(who, who->world->now_us);
    if (lane == 0)
        oracle_listen_hurt(who, who->world->now_us);
    if (!c->cut && !c->dropped)
        server_left(c, !c->mute);
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
    if (c->lane == 0)
        oracle_listen_hurt(who, who->world->now_us);
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

    *c = (connection){.older = who->backends,
                      .owner = who,
                      .lane = lane,
                      .backend = ++w->backends,
                      .tx.backend = w->backends,
                      .open = true,
                      .lost_us = CLOCK_NEVER,
                      .deaf_us = CLOCK_NEVER};
    who->lanes[lane] = who->backends = c;
    network_schedule(c, EVENT_CONNECTED, w->now_us + between(w, 200, 3000), NULL);
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
        if (c->lane == 0)
            oracle_listen_hurt(who, w->now_us);
        trace_add(w, "connect failed", who, c->lane, 0, 0);
        engine_lane_lost(who->engine, w->now_us, c->lane, &error);
    } else {
        c->ready = true;
        c->ready_us = w->now_us;
        who->wakes++;
        if (who->ready)
            oracle_disturb(who, w->now_us);
        trace_add(w, "connected", who, c->lane, 0, 0);
        engine_lane_ready(who->engine, w->now_us, c->lane, c->backend);
    }
    fleet_carry_out(who);
}

/* ---- saying ---- */

static const char *const sentence_texts[] = {
    [SENTENCE_CHECK] = "says check",         [SENTENCE_LISTEN] = "says listen",
    [SENTENCE_CLAIM] = "says claim",         [SENTENCE_SETTLE] = "says settle",
    [SENTENCE_BEAT] = "says beat",           [SENTENCE_RELEASE] = "says release",
    [SENTENCE_PROBE] = "says probe",         [SENTENCE_ADOPT] = "says adopt",
    [SENTENCE_PING] = "says ping",           [SENTENCE_SURVEY] = "says survey",
    [SENTENCE_AGGREGATE] = "says aggregate", [SENTENCE_LEASE] = "says lease",
    [SENTENCE_CONCLUDE] = "says conclude",   [SENTENCE_COMMIT] = "says commit",
    [SENTENCE_RESOLVE] = "says resolve",     [SENTENCE_ANNOUNCE] = "says announce",
    [SENTENCE_END_STUCK] = "says end stuck", [SENTENCE_HORIZON] = "says horizon",
};

static int64_t size_of_sentence(const sentence *s)
{
    switch (s->kind) {
    case SENTENCE_CLAIM:
        return s->of.claim.batch;
    case SENTENCE_ADOPT:
        return s->of.adopt.batch;
    case SENTENCE_SETTLE:
    case SENTENCE_CONCLUDE:
    case SENTENCE_RESOLVE:
        return (int64_t)s->of.settle.count;
    case SENTENCE_LEASE:
        return s->of.lease.batch;
    case SENTENCE_BEAT:
    case SENTENCE_RELEASE:
        return (int64_t)s->of.tokens.count;
    default:
        return 0;
    }
}

/* Ghosts that are asked for; or which entrypoints may bring something, as bits. */
static int64_t detail_of_sentence(const sentence *s)
{
    int64_t bits = 0;

    if (s->kind == SENTENCE_ADOPT)
        return (int64_t)s->of.adopt.ghost_count;
    if (s->kind == SENTENCE_CLAIM)
        for (size_t i = 0; s->of.claim.shares != NULL && i < s->of.claim.share_count; i++)
            bits |= (int64_t)(s->of.claim.shares[i].most > 0) << s->of.claim.shares[i].entrypoint;
    if (s->kind == SENTENCE_LEASE)
        for (size_t i = 0; i < s->of.lease.share_count; i++)
            bits |= (int64_t)1 << s->of.lease.shares[i].entrypoint;
    return bits;
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
                  detail_of_sentence(&c->said[i]));
        oracle_sent(c, &c->said[i]);
    }
    if (!c->cut && !c->dropped && befalls(w, FAULT_UNSAID)) {
        network_maybe_late(c, false);
        c->cut = true;
        c->listening = false;
        server_left(c, false);
        oracle_disturb(who, w->now_us);
        if (lane == 0)
            oracle_listen_hurt(who, w->now_us);
        forget_unanswered(c);
        return false;
    }
    network_schedule(c, EVENT_EXECUTE, w->now_us + between(w, 20, 300), NULL);
    if (c->known != NULL && c->known->ending && befalls(w, FAULT_FREEZE_FLYING))
        plot_freeze(w, who);
    return true;
}

/* ---- hearing ---- */

static void hear_rows(connection *c, sentence_reply *reply)
{
    worker *who = c->owner;
    world *w = who->world;
    claimed_row *rows = copy_array(w, reply->rows, reply->row_count, sizeof(*rows));
    bool none = befalls(w, FAULT_NOMEM); /* for the whole batch, as a batch is one allocation */
    bool spare;

    for (size_t i = 0; i < reply->row_count; i++) {
        claim_record *claim = oracle_claimed_row(w, &rows[i]);

        claim->reply_pending = false;
        rows[i].body =
            none || rows[i].large ? NULL : hands_hear_row(who, claim, rows[i].entrypoint);
        spare = oracle_spare(who, claim);
        who->heard_rows += !rows[i].large && !spare;
    }
    reply->rows = rows;
    if (who->stopping && reply->row_count > 0)
        count_path(w, PATH_CLAIM_STOPPED);
    if (reply->row_count == 0)
        who->empty_claims++;
    who->rows += (int)reply->row_count;
}

static void on_reply(connection *c)
{
    worker *who = c->owner;
    world *w = who->world;
    const sentence *s;
    sentence_reply reply;

    if (!c->open || network_silent(c) || c->heard >= c->executed)
        return;
    if (c->stuck) {
        c->stuck = false;
        server_waits(c);
    }
    s = &c->said[c->heard];
    reply = c->answers[c->heard++];
    trace_add(w, "hears", who, c->lane, (int64_t)s->kind,
              reply.refused ? -1 : (int64_t)(reply.row_count + reply.place_count));
    if ((s->kind == SENTENCE_CLAIM || s->kind == SENTENCE_ADOPT || s->kind == SENTENCE_LEASE) &&
        !reply.refused)
        hear_rows(c, &reply);
    if (s->kind == SENTENCE_LISTEN && !reply.refused && c->swallowed)
        c->deaf_us = base_min_i64(c->deaf_us, w->now_us);
    oracle_heard(c, s, &reply);
    engine_reply(who->engine, w->now_us, c->lane, &reply);
    fleet_carry_out(who);
}

static void on_notify(connection *c, const notice *n)
{
    worker *who = c->owner;
    world *w = who->world;

    if (!c->open || network_silent(c))
        return;
    trace_add(w, "notified", who, c->lane, (int64_t)n->kind, n->count > 0 ? n->ids[0] : 0);
    switch (n->kind) {
    case NOTICE_WORK:
        who->wakes++;
        engine_notified(who->engine, w->now_us);
        break;
    case NOTICE_FREED:
        who->wakes++;
        if (who->untold_us != CLOCK_NEVER) /* it may wait for the next one that says so */
            who->untold_us = w->now_us;
        engine_freed(who->engine, w->now_us);
        break;
    case NOTICE_CANCEL:
        oracle_cancel_heard(who, n);
        engine_cancelled(who->engine, w->now_us, n->ids, n->count);
        break;
    case NOTICE_HEALTH:
        engine_heard(who->engine, w->now_us);
        break;
    }
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
        server_execute(e->connection);
        break;
    case EVENT_LATE:
    case EVENT_IDLE:
    case EVENT_GONE:
        server_event(e);
        break;
    case EVENT_REPLY:
        on_reply(e->connection);
        break;
    case EVENT_LOST:
        on_lost(e->connection);
        break;
    default:
        on_notify(e->connection, e->what);
        break;
    }
}
