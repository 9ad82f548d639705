/* Cursors: up to which id the jobs of a priority were claimed, so that a claim need not walk the
 * dead rows in front of them, which the server keeps while a long transaction runs anywhere. What a
 * cursor has passed (a row that committed late, a retry, a release) is found by sweeps: claims of
 * everything, so often that they cost a twentieth of the time, and before the worker rests. Source:
 * engine.md 2. */
#include "worker/engine_internal.h"

enum {
    SWEEP_COSTS = 20,          /* so many times the cost of a sweep pass until the next one */
    SWEEP_WANTED_COSTS = 4,    /* when something is known to lie in front of a cursor */
    SWEEP_MIN_US = 100 * 1000, /* between two of them under load */
    SWEEP_MAX_US = 5 * 1000 * 1000,
    SWEEP_DEAR_US = 50 * 1000,  /* somebody holds back the removal of dead rows */
    SWEEP_CHEAP_US = 5 * 1000,  /* while they cost less, a worker without a backlog only sweeps */
    PLAIN_US = 60 * 1000 * 1000 /* so long an entrypoint with too many priorities has no cursors */
};

static void sweep_after(engine *e, int64_t costs)
{
    e->sweep_at_us = base_min_i64(e->sweep_at_us, e->swept_us + costs * e->sweep_cost_us);
}

void engine_want_sweep(engine *e)
{
    sweep_after(e, SWEEP_WANTED_COSTS);
}

/* The cursors of the leased entrypoints down to the floor; 0: none, or too many for one claim, or
 * one of them has not been looked at down there. */
static size_t collect(const engine *e, int64_t now_us, engine_lane *lane, const sentence *s)
{
    size_t count = 0, before;

    for (size_t i = 0; i < s->of.lease.share_count; i++) {
        const engine_bucket *bucket = &e->buckets[s->of.lease.shares[i].entrypoint];

        if (now_us < bucket->plain_until_us)
            return 0;
        before = count;
        for (size_t k = 0; k < bucket->cursor_count; k++) {
            if (bucket->cursors[k].priority < e->cursor_floor)
                break;
            if (count == CURSORS_SENT_MAX)
                return 0;
            lane->cursors[count] = bucket->cursors[k];
            lane->cursors[count++].share = (uint32_t)i;
        }
        if (count == before && e->cursor_floor > INT32_MIN)
            return 0;
    }
    return count;
}

void engine_add_cursors(engine *e, int64_t now_us, engine_lane *lane, sentence *s)
{
    size_t count;

    if (now_us >= e->sweep_at_us || (!e->leases.backlog && e->sweep_cost_us < SWEEP_CHEAP_US))
        return;
    count = collect(e, now_us, lane, s);
    if (count == 0)
        return;
    s->of.lease.cursors = lane->cursors;
    s->of.lease.cursor_count = count;
}

/* `back`: even if it was further on. */
static void move_cursor(engine_bucket *bucket, int64_t now_us, const claimed_row *row, bool back)
{
    size_t at = 0;

    while (at < bucket->cursor_count && bucket->cursors[at].priority > row->priority)
        at++;
    if (at < bucket->cursor_count && bucket->cursors[at].priority == row->priority) {
        if (back || row->token.id > bucket->cursors[at].id)
            bucket->cursors[at].id = row->token.id;
        return;
    }
    if (bucket->cursor_count == CURSORS_MAX) {
        bucket->cursor_count = 0;
        bucket->plain_until_us = now_us + PLAIN_US;
        return;
    }
    memmove(&bucket->cursors[at + 1], &bucket->cursors[at],
            (bucket->cursor_count - at) * sizeof(bucket->cursors[0]));
    bucket->cursors[at] = (claim_cursor){0, row->priority, row->token.id};
    bucket->cursor_count++;
}

/* What a sweep costs is what it takes longer than a claim behind cursors, and twice: the machine
 * may have been busy with something else the one time. */
static void learn_sweep(engine *e, int64_t now_us, int64_t took_us)
{
    int64_t cost_us = base_max_i64(0, took_us - e->claim_cost_us);

    e->sweep_cost_us = base_min_i64(cost_us, e->sweep_last_cost_us);
    e->sweep_last_cost_us = cost_us;
    e->swept_us = now_us;
    e->sweep_at_us =
        now_us +
        base_max_i64(SWEEP_MIN_US, base_min_i64(SWEEP_COSTS * e->sweep_cost_us, SWEEP_MAX_US));
    e->horizon_wanted |= e->sweep_cost_us >= SWEEP_DEAR_US && now_us >= e->horizon_at_us;
}

/* Below the last job that a full sweep has brought nobody has looked, of no entrypoint. What one of
 * them has there must not be started before what another has above it. */
static void set_floor(engine *e, int64_t now_us, const sentence_reply *reply, bool full)
{
    const claimed_row *last;

    e->cursor_floor = INT32_MIN;
    if (!full || reply->row_count == 0)
        return;
    last = &reply->rows[reply->row_count - 1];
    e->cursor_floor = last->priority;
    for (size_t i = 0; i < e->config.entrypoint_count; i++) {
        if (e->buckets[i].leased)
            move_cursor(&e->buckets[i], now_us, last, false);
    }
}

/* A sweep that came back full shows where the queue begins. */
void engine_learn_cursors(engine *e, int64_t now_us, const engine_lane *lane, const sentence *said,
                          const sentence_reply *reply)
{
    bool swept = said->of.lease.cursors == NULL;
    bool full = reply->row_count >= (size_t)said->of.lease.batch;
    int64_t took_us = now_us - lane->heard_us;

    if (swept) {
        e->sweep_full = full;
        learn_sweep(e, now_us, took_us);
    } else {
        e->claim_cost_us += (took_us - e->claim_cost_us) / 8;
    }
    for (size_t i = 0; i < reply->row_count; i++)
        move_cursor(&e->buckets[reply->rows[i].entrypoint], now_us, &reply->rows[i], swept && full);
    if (swept)
        set_floor(e, now_us, reply, full);
}

/* A claim came back short. Behind cursors it says nothing of what is in front of them: true if that
 * is to be looked at now; if not, it will be. */
bool engine_sweep_next(engine *e, int64_t now_us, const sentence *said)
{
    if (said->of.lease.cursors == NULL)
        return false;
    /* a job of a priority without a cursor may have woken us; and a sweep that came back full has
     * not seen everything: the next one will bring jobs too, and there is nothing else to do */
    sweep_after(e, e->sweep_full ? 1 : SWEEP_WANTED_COSTS);
    if (now_us >= e->sweep_at_us)
        return true;
    if (e->cursor_floor > INT32_MIN) { /* rather out of order than idle until then */
        e->cursor_floor = INT32_MIN;
        return true;
    }
    e->poll_at_us = base_min_i64(e->poll_at_us, e->sweep_at_us);
    return false;
}
