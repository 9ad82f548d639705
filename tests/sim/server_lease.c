/* The transactions of the server's sessions: how they end when nobody ends them, what a lost
 * connection still carries out, and what waits for their locks. */
#include "sim.h"

enum { MS = 1000 };

/* What is carried out of a flight whose connection is lost. */
typedef struct late_flight {
    sentence said[ENGINE_FLIGHT_MAX];
    size_t count, next;
} late_flight;

static bool of_lease(const sentence *s)
{
    return s->kind == SENTENCE_LEASE || s->kind == SENTENCE_CONCLUDE || s->kind == SENTENCE_COMMIT;
}

/* ---- the end of a session ---- */

void server_rollback(connection *c)
{
    world *w = c->owner->world;

    if (c->tx.state == TX_NONE)
        return;
    trace_add(w, "rolled back", c->owner, c->lane, (int64_t)c->tx.locked_count, 0);
    oracle_rolled_back(c);
    model_rollback(&w->model, &c->tx, w->now_us);
}

static void schedule_gone(connection *c, bool at_once)
{
    world *w = c->owner->world;
    int64_t after_us = between(w, 20, 5 * MS);

    if (!at_once && chance(w, 3000)) /* no FIN has come: until it is idle for too long */
        after_us = between(w, 20, c->tx.hold_us);
    network_schedule(c, EVENT_GONE, w->now_us + after_us, NULL);
}

void server_left(connection *c, bool at_once)
{
    if (c->tx.state != TX_NONE && c->late == 0)
        schedule_gone(c, at_once);
}

void server_waits(connection *c)
{
    c->waits++;
    if (c->tx.state == TX_NONE || c->stuck)
        return;
    event_add(c->owner->world, (event){.at_us = c->owner->world->now_us + c->tx.hold_us,
                                       .kind = EVENT_IDLE,
                                       .worker = c->owner,
                                       .connection = c,
                                       .tale = c->waits});
}

static void end_idle(connection *c, int wait)
{
    world *w = c->owner->world;

    if (c->waits != wait || c->tx.state == TX_NONE || c->late > 0)
        return;
    count_fault(w, FAULT_IDLE_ENDED);
    trace_add(w, "the server ends a session that is idle", c->owner, c->lane, 0, 0);
    server_rollback(c);
    if (network_silent(c))
        c->cut = true; /* and its owner is not told */
    else if (!c->cut)
        network_cut(c, between(w, 20, 2 * MS));
}

int64_t server_end_stuck(world *w, int64_t age_us)
{
    int64_t count = 0;

    for (size_t i = 0; i < w->worker_count; i++) {
        for (connection *c = w->workers[i]->backends; c != NULL; c = c->older) {
            if (c->tx.state == TX_NONE || (!c->stuck && c->late == 0) || c->lease == NULL ||
                w->now_us < c->lease->sent_us + age_us)
                continue;
            count++;
            count_path(w, PATH_STUCK_ENDED);
            trace_add(w, "a session that is stuck is ended", c->owner, c->lane, 0, 0);
            server_rollback(c);
            c->stuck = false;
            c->ended = true;
            c->late = 0;
            if (!c->cut && !c->dropped)
                network_cut(c, between(w, 20, 2 * MS));
        }
    }
    return count;
}

/* ---- late ---- */

void server_carry_late(connection *c, size_t count)
{
    world *w = c->owner->world;
    late_flight *late = sim_array(w, 1, sizeof(*late));

    for (size_t i = 0; i < count; i++)
        late->said[late->count++] = c->said[c->executed + i];
    c->late++;
    network_schedule(c, EVENT_LATE, w->now_us + between(w, 100, w->heartbeat_us), late);
}

/* Carries the sentence out, unless that ends the transaction. */
static void execute_late(connection *c, const sentence *s)
{
    world *w = c->owner->world;

    if (server_tx_refuses(c, s))
        return;
    if (s->kind == SENTENCE_CONCLUDE &&
        model_poisoned(&w->model, w->now_us, c->owner->serial, s) != POISON_NONE) {
        c->tx.state = TX_ABORTED;
        return;
    }
    if (s->kind == SENTENCE_COMMIT && c->tx.state == TX_OPEN)
        count_fault(w, FAULT_COMMIT_LATE);
    server_carry_out(c, s, &(sentence_reply){.refused = false}, true);
}

void server_late(connection *c, void *what)
{
    world *w = c->owner->world;
    late_flight *late = what;
    const sentence *s = &late->said[late->next];
    bool timeout = false;

    if (c->ended)
        return;
    if (server_blocked(c, s, EVENT_LATE, what) ||
        server_resolve_waits(c, s, EVENT_LATE, what, &timeout))
        return;
    if (++late->next == late->count)
        c->late--;
    if (!timeout)
        execute_late(c, s);
    if (late->next < late->count)
        network_schedule(c, EVENT_LATE, w->now_us + between(w, 20, 5 * MS), what);
    else
        server_left(c, false);
}

/* ---- what a transaction forbids ---- */

bool server_tx_refuses(connection *c, const sentence *s)
{
    world *w = c->owner->world;

    if (c->tx.state == TX_ABORTED)
        return s->kind != SENTENCE_COMMIT;
    if (c->tx.state == TX_OPEN && s->kind != SENTENCE_CONCLUDE && s->kind != SENTENCE_COMMIT) {
        violated(w, "I7: worker %d says a sentence of kind %d in the transaction of a lease",
                 (int)c->owner->serial, (int)s->kind);
        return true;
    }
    if (s->kind != SENTENCE_CONCLUDE)
        return false;
    if (c->tx.state == TX_NONE || model_trespasses(&w->model, &c->tx, s)) {
        violated(w, "I3: worker %d concludes a job that its transaction has not locked",
                 (int)c->owner->serial);
        return true;
    }
    return false;
}

/* ---- waiting for locks ---- */

bool server_resolve_waits(connection *c, const sentence *s, event_kind kind, void *what,
                          bool *ret_timeout)
{
    world *w = c->owner->world;
    int64_t wait_us = s->of.settle.wait_us;

    *ret_timeout = false;
    if (s->kind != SENTENCE_RESOLVE)
        return false;
    if (!model_resolve_waits(&w->model, w->now_us, s)) {
        c->blocked_us = 0;
        return false;
    }
    if (c->blocked_us == 0) {
        c->blocked_us = w->now_us;
        count_path(w, PATH_RESOLVE_WAITED);
    }
    if (w->now_us >= c->blocked_us + wait_us) {
        c->blocked_us = 0;
        *ret_timeout = true;
        return false;
    }
    oracle_disturb(c->owner, w->now_us + 5 * MS);
    c->owner->held_up_us = base_max_i64(c->owner->held_up_us, w->now_us + 5 * MS);
    network_schedule(
        c, kind, base_min_i64(w->now_us + between(w, MS, 5 * MS), c->blocked_us + wait_us), what);
    return true;
}

/* ---- counting ---- */

void server_count_cut(connection *c)
{
    world *w = c->owner->world;

    for (size_t i = 0; i < c->executed; i++) {
        const sentence *s = &c->said[i];
        bool heard = i < c->heard;

        if (c->answers[i].refused || heard)
            continue;
        if (s->kind == SENTENCE_CONCLUDE && i + 1 == c->executed)
            count_fault(w, FAULT_CUT_CONCLUDED);
        if (s->kind == SENTENCE_COMMIT)
            count_fault(w, FAULT_CUT_COMMITTED);
        if (s->kind == SENTENCE_LEASE)
            count_fault(w, FAULT_CUT_LEASED);
    }
}

bool server_of_lease(const connection *c)
{
    for (size_t i = c->executed; i < c->said_count; i++) {
        if (of_lease(&c->said[i]))
            return true;
    }
    return false;
}

void server_event(const event *e)
{
    if (e->kind == EVENT_IDLE)
        end_idle(e->connection, e->tale);
    else if (e->kind == EVENT_LATE)
        server_late(e->connection, e->what);
    else
        server_rollback(e->connection);
}
