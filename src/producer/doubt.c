/* Groups whose COMMIT was sent and not answered: what became of them is asked of the server.
 *
 * The transaction's id alone does not tell. A server that crashes before the id has reached its
 * log gives the same id out again, and so does a standby that was promoted without it; then
 * "committed" may be somebody else's. It is believed where the server cannot have crashed: on the
 * same timeline, with no checkpoint since. Otherwise the group's rows decide, found by their ids
 * and the instant at which its transaction began. "Aborted" is always true of our transaction as
 * well, and so is an id that was not given out yet. */
#include "producer/flight.h"
#include "base/clock.h"
#include "base/error.h"

enum { ASK_FIRST_US = 10 * 1000, ASK_MOST_US = 1000 * 1000 };

void doubt_begin(flight *f, int64_t now_us)
{
    group *g = f->doubts;
    list_link *link;

    if (f->current.rows == 0) { /* it changed nothing, whatever became of it */
        flight_settle(f, &f->current);
        return;
    }
    while (g->in_doubt) /* nothing is sent while all of them are taken */
        g++;
    *g = f->current;
    g->b = (batch){{NULL, NULL, 0}, {NULL, NULL, 0}};
    while ((link = list_pop(&f->current.b.inserts)) != NULL)
        list_append(&g->b.inserts, link);
    g->in_doubt = true;
    g->pause = (backoff){.initial_us = ASK_FIRST_US, .max_us = ASK_MOST_US};
    g->ask_us = now_us;
    g->give_up_us = now_us + f->answer_timeout_us;
}

static pgq_code send_look(flight *f, const group *g)
{
    size_t count = 0;

    for (const list_link *at = g->b.inserts.first; at != NULL; at = at->next) {
        if (REQUEST_OF(at)->id != 0)
            f->ids[count++] = REQUEST_OF(at)->id;
    }
    params_clear(&f->params);
    param_int8_array(&f->params, f->ids, count);
    param_timestamp(&f->params, g->began_us);
    return pg_conn_send(f->conn, STATEMENT_ENQUEUE_FIND, &f->params);
}

static pgq_code send_ask(flight *f, const group *g)
{
    pgq_code code = pg_conn_send(f->conn, STATEMENT_SERVER_IDENTIFY, NULL);

    params_clear(&f->params);
    param_int8(&f->params, g->xid);
    if (code == PGQ_OK)
        code = pg_conn_send(f->conn, STATEMENT_XACT_STATUS, &f->params);
    return code;
}

static void ask(flight *f, group *g, flight_state state, int64_t now_us)
{
    pgq_code code = state == FLIGHT_ASK ? send_ask(f, g) : send_look(f, g);

    if (code == PGQ_OK)
        code = pg_conn_sync(f->conn);
    f->asked = g;
    flight_sent(f, code, state, now_us);
}

bool doubt_ask(flight *f, int64_t now_us)
{
    for (group *g = f->doubts; g < f->doubts + FLIGHT_DOUBTS_MAX; g++) {
        if (!g->in_doubt || g->ask_us > now_us)
            continue;
        /* a server that does not say who it is may be another one: only the rows count */
        ask(f, g, g->server.known && f->server.known ? FLIGHT_ASK : FLIGHT_LOOK, now_us);
        return true;
    }
    return false;
}

static void ask_again(flight *f, int64_t now_us)
{
    f->asked->ask_us = now_us + backoff_next(&f->asked->pause, &f->random);
}

static void settle(flight *f)
{
    f->asked->in_doubt = false;
    flight_settle(f, f->asked);
}

static void send_again(flight *f)
{
    f->asked->in_doubt = false;
    intake_return(f->in, &f->asked->b.inserts);
}

/* It may be there, and is there at most once. */
static void tell_unknown(flight *f, group *g, const char *reason)
{
    g->in_doubt = false;
    for (list_link *at = g->b.inserts.first; at != NULL; at = at->next) {
        request *r = REQUEST_OF(at);

        r->code = PGQ_E_OUTCOME_UNKNOWN;
        r->error = (pgq_error)PGQ_ERROR_INIT;
        (void)error_set(&r->error, PGQ_E_OUTCOME_UNKNOWN,
                        "it is not known whether job %lld was enqueued, in transaction %lld: %s",
                        (long long)r->id, (long long)g->xid, reason);
        error_hint(
            &r->error,
            "look for that id in the queue and its log, or SELECT pg_xact_status('%lld') where "
            "it was sent, before it is enqueued again",
            (long long)g->xid);
    }
    intake_answer(f->in, &g->b.inserts);
}

/* The connection is ready for the next unit; false: the group was given up meanwhile, or the answer
 * is an error, after which it is asked again. */
static bool begin_answer(flight *f, int64_t now_us)
{
    f->state = FLIGHT_IDLE;
    f->answer_us = CLOCK_NEVER;
    if (f->asked == NULL)
        return false;
    backoff_reset(&f->reconnect);
    if (f->error.code == PGQ_OK || base_streq(f->error.sqlstate, "22023"))
        return true;
    ask_again(f, now_us);
    if (sqlstate_classify(f->error.sqlstate) == SQLSTATE_CONNECTION)
        flight_off(f, &(pgq_error){.code = f->error.code, .message = "the session is not usable"},
                   now_us);
    return false;
}

void doubt_asked(flight *f, int64_t now_us)
{
    server_identity now;
    const server_identity *then;
    const char *status = NULL;
    bool future = f->error.code != PGQ_OK;

    if (!begin_answer(f, now_us))
        return;
    then = &f->asked->server;
    flight_read_identity(&f->results[0], &now);
    if (!future && f->result_count == 2)
        status = result_text(&f->results[1], 0, 0);
    if (now.standby || now.timeline < then->timeline) {
        /* not where the group was sent: perhaps the next connection is */
        ask_again(f, now_us);
        flight_off(f,
                   &(pgq_error){.code = PGQ_E_CONNECT, .message = "the server is not the primary"},
                   now_us);
    } else if (now.system != then->system) {
        tell_unknown(f, f->asked, "the server is of another cluster now");
    } else if (future || (status != NULL && base_streq(status, "aborted"))) {
        send_again(f);
    } else if (status != NULL && base_streq(status, "in progress")) {
        ask_again(f, now_us);
    } else if (status != NULL && now.timeline == then->timeline &&
               now.checkpoint == then->checkpoint) {
        settle(f);
    } else {
        ask(f, f->asked, FLIGHT_LOOK, now_us);
    }
}

void doubt_looked(flight *f, int64_t now_us)
{
    if (!begin_answer(f, now_us))
        return;
    if (f->result_count == 1 && result_bool(&f->results[0], 0, 0))
        settle(f);
    else
        tell_unknown(f, f->asked, "the server may have crashed, and the job is not to be seen");
}

void doubt_expire(flight *f, bool always, int64_t now_us)
{
    for (group *g = f->doubts; g < f->doubts + FLIGHT_DOUBTS_MAX; g++) {
        if (!g->in_doubt || (!always && now_us < g->give_up_us))
            continue;
        if (f->asked == g)
            f->asked = NULL;
        tell_unknown(f, g, "the connection was lost, and the server cannot be asked");
    }
}

int64_t doubt_until_us(const flight *f)
{
    int64_t until_us = CLOCK_NEVER;

    for (const group *g = f->doubts; g < f->doubts + FLIGHT_DOUBTS_MAX; g++) {
        if (!g->in_doubt)
            continue;
        until_us = base_min_i64(until_us, g->give_up_us);
        if (f->state == FLIGHT_IDLE)
            until_us = base_min_i64(until_us, g->ask_us);
    }
    return until_us;
}

size_t doubt_count(const flight *f)
{
    size_t count = 0;

    for (const group *g = f->doubts; g < f->doubts + FLIGHT_DOUBTS_MAX; g++)
        count += g->in_doubt;
    return count;
}
