/* Cursors: up to which id the jobs of a priority were claimed, so that a claim need not walk the
 * dead rows in front of them, which the server keeps while a long transaction runs anywhere. What a
 * cursor has passed (a row that committed late, a retry, a release) is found by sweeps: in a
 * backlog claims of that, so often that they cost a twentieth of one session of the fleet, and of
 * everything before the worker rests. Source: engine.md 2. */
#include "worker/engine_internal.h"

#include <math.h>

enum {
    SWEEP_COSTS = 20,          /* so many times the cost of a sweep pass until the next one */
    SWEEP_WANTED_COSTS = 4,    /* when something is known to lie in front of a cursor */
    SWEEP_MIN_US = 100 * 1000, /* between two of them under load */
    SWEEP_MAX_US = 5 * 1000 * 1000,
    SWEEP_SPREAD_US = 25 * 1000,           /* times the fleet */
    SWEEP_SILENT_US = 1000 * 1000,         /* one that takes longer may never be answered */
    SWEEP_FLEET_MAX_US = 20 * 1000 * 1000, /* of one worker of many */
    SWEEP_DEAR_US = 50 * 1000,             /* somebody holds back the removal of dead rows */
    SWEEP_CHEAP_US = 5 * 1000, /* while they cost less, a worker without a backlog only sweeps */
    FLEET_MAX = 1000,
    FLEET_CLAIMS = 4,            /* that are counted together */
    BESIDE_US = 5 * 1000 * 1000, /* so long other workers that were met are believed to be there */
    PLAIN_US = 60 * 1000 * 1000  /* so long an entrypoint with too many priorities has no cursors */
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

/* The cursor of that priority; NULL: it has none. */
static claim_cursor *find_cursor(const engine_bucket *bucket, int32_t priority)
{
    for (size_t i = 0; i < bucket->cursor_count; i++) {
        if (bucket->cursors[i].priority == priority)
            return &bucket->cursors[i];
    }
    return NULL;
}

static bool same_reach(const engine_reach *reach, uint32_t entrypoint, int32_t priority)
{
    return reach->known && reach->entrypoint == entrypoint && reach->priority == priority;
}

/* ---- claims that are under way at the same time ---- */

/* Each would walk over the rows that the others take, so each begins where those before it will end
 * at the earliest: a full claim takes at least as many ids as it brings jobs, and passes none.
 * Where the last full claim brought jobs of more than one entrypoint that is not known. */
static void keep_clear(engine *e, int64_t now_us, engine_lane *lane, sentence *s)
{
    engine_reach *reach = &lane->reach;
    size_t at = 0;

    if (!e->leases.backlog || s->of.lease.share_count > 1)
        return;
    while (at < s->of.lease.cursor_count && lane->cursors[at].priority != e->busy_priority)
        at++;
    if (at == s->of.lease.cursor_count || lane->cursors[at].id > INT64_MAX / 2)
        return;
    *reach = (engine_reach){.known = true,
                            .entrypoint = s->of.lease.shares[0].entrypoint,
                            .priority = e->busy_priority,
                            .from = lane->cursors[at].id};
    for (int i = 1; i < e->lane_count; i++) {
        const engine_reach *other = &e->lanes[i].reach;

        if (other != reach && same_reach(other, reach->entrypoint, reach->priority))
            reach->from = base_max_i64(reach->from, other->to);
    }
    reach->to = reach->from + s->of.lease.batch;
    lane->cursors[at].id = reach->from;
    if (!e->front || (!e->front_back && now_us >= e->beside_until_us))
        return;
    s->of.lease.front = true;
    s->of.lease.front_at = at;
    s->of.lease.front_back = e->front_back;
    e->front_back = false;
}

/* Behind `id` something was left that our other lanes may have passed: it comes next. */
static void put_back(engine *e, uint32_t entrypoint, int32_t priority, int64_t id)
{
    claim_cursor *cursor = find_cursor(&e->buckets[entrypoint], priority);

    if (cursor != NULL)
        cursor->id = base_min_i64(cursor->id, id);
    for (int i = 1; i < e->lane_count; i++) {
        engine_reach *other = &e->lanes[i].reach;

        if (same_reach(other, entrypoint, priority) && other->to > id)
            *other = (engine_reach){.passed = true};
    }
}

/* Likewise, and other workers may have passed it too. */
static void go_back(engine *e, uint32_t entrypoint, int32_t priority, int64_t id)
{
    put_back(e, entrypoint, priority, id);
    e->front_back = true;
}

/* Where ids are left out in front of a claim's jobs, and not between them, others have been there.
 * To hear where they are costs a little: it is for those who have met some. */
static void look_beside(engine *e, int64_t now_us, int64_t from, const sentence_reply *reply)
{
    int64_t first = reply->rows[0].token.id, last = reply->rows[reply->row_count - 1].token.id;

    if (first - from > (last - first + 1) / 2 + 1)
        e->beside_until_us = now_us + BESIDE_US;
}

/* Between claims of ours the others have taken theirs: of the ids up to the furthest of some claims
 * so many times as many lie behind the furthest of those before them as these have taken. */
static void count_fleet(engine *e, int64_t now_us, int64_t first, int64_t last)
{
    double share;

    e->fleet_ours += (double)last - (double)first + 1;
    e->fleet_last = base_max_i64(e->fleet_last, last);
    if (++e->fleet_claims < FLEET_CLAIMS)
        return;
    share = ((double)e->fleet_last - (double)e->fleet_seen) / e->fleet_ours;
    if (e->fleet_seen > 0) {
        e->fleet += (fmin(fmax(share, 1), FLEET_MAX) - e->fleet) / 2;
        if (share > ENGINE_FLEET_MIN)
            e->beside_until_us = now_us + BESIDE_US;
    }
    e->fleet_seen = e->fleet_last;
    e->fleet_ours = 0;
    e->fleet_claims = 0;
}

/* What was passed meanwhile was not counted. */
static void count_anew(engine *e)
{
    e->fleet_seen = e->fleet_last = 0;
    e->fleet_ours = 0;
    e->fleet_claims = 0;
}

/* A full claim may have taken other jobs instead of those up to its reach: of a higher priority, or
 * late ones. True if what it has passed was counted as ours. */
static bool reached(engine *e, int64_t now_us, engine_lane *lane, const sentence *said,
                    const sentence_reply *reply, bool full)
{
    engine_reach reach = lane->reach;
    int64_t first = 0, last = reach.from;
    bool others = false;

    lane->reach = (engine_reach){.known = false};
    if (!reach.known || !full)
        return false;
    for (size_t i = 0; i < reply->row_count; i++) {
        const claimed_row *row = &reply->rows[i];
        bool same = row->priority == reach.priority;

        others |= row->priority > reach.priority || (same && row->token.id <= reach.from);
        if (same && first == 0)
            first = row->token.id;
        if (same)
            last = row->token.id;
    }
    if (others)
        go_back(e, reach.entrypoint, reach.priority, last);
    else if (!said->of.lease.front)
        look_beside(e, now_us, reach.from, reply);
    else if (first > 0)
        count_fleet(e, now_us, first, last);
    return !others && said->of.lease.front && first > 0;
}

void engine_forget_reach(engine *e, engine_lane *lane)
{
    engine_reach reach = lane->reach;

    lane->reach = (engine_reach){.known = false};
    count_anew(e);
    if (reach.known)
        go_back(e, reach.entrypoint, reach.priority, reach.from);
}

/* A worker that joins others in a backlog would follow them through all that they have done, and
 * reach them late or never. Where they are, if the priority is the usual one, they have told, or
 * will tell with their first claims, if they begin when we do. */
static bool begin_behind_front(engine *e, engine_lane *lane, sentence *s)
{
    bool first = e->front && !e->front_begun;
    int64_t id = 0;

    e->front_begun = true;
    if (!first || s->of.lease.share_count > 1)
        return false;
    if (s->of.lease.shares[0].entrypoint == e->front_entrypoint)
        id = e->front_id;
    if (id == 0 && !e->front_free)
        return false;
    lane->cursors[0] = (claim_cursor){.id = id};
    s->of.lease.cursors = lane->cursors;
    s->of.lease.cursor_count = 1;
    s->of.lease.front = true;
    return true;
}

bool engine_sweeps(const sentence *lease)
{
    return lease->of.lease.cursors == NULL || lease->of.lease.late;
}

/* Another lane looks at what was passed. */
static bool sweep_under_way(const engine *e, int64_t now_us, const sentence *mine)
{
    int64_t patience_us = base_max_i64(SWEEP_SILENT_US, 2 * e->sweep_last_cost_us);
    engine_said at = {0, 0};
    const sentence *s;

    while ((s = engine_next_said(e, &at)) != NULL) {
        if (s != mine && s->kind == SENTENCE_LEASE && engine_sweeps(s) &&
            now_us < e->lanes[at.lane].flown_us + patience_us)
            return true;
    }
    return false;
}

/* In a backlog it is enough that one of the fleet looks at what all have passed. */
static bool sweep_is_due(const engine *e, int64_t now_us, const sentence *mine)
{
    double pause_us = (double)(e->sweep_at_us - e->swept_us);

    if (e->leases.backlog && now_us < e->beside_until_us)
        pause_us = fmax(pause_us, fmin(pause_us * e->fleet, SWEEP_FLEET_MAX_US));
    return (double)(now_us - e->swept_us) >= pause_us && !sweep_under_way(e, now_us, mine);
}

/* Not what is below the priority that most jobs come from: it is not their turn. And beside others
 * only what was passed when we looked the last time: behind that there is what their claims that
 * are under way take. */
static void look_in_front(engine *e, int64_t now_us, engine_lane *lane, sentence *s)
{
    const engine_bucket *bucket = &e->buckets[s->of.lease.shares[0].entrypoint];
    size_t count = s->of.lease.cursor_count;

    while (count > 1 && lane->cursors[count - 1].priority < e->busy_priority)
        count--;
    for (size_t i = 0; i < count; i++) {
        claim_cursor *cursor = find_cursor(bucket, lane->cursors[i].priority);

        if (now_us < e->beside_until_us)
            lane->cursors[i].id = base_min_i64(cursor->id, cursor->passed);
        cursor->passed = cursor->id;
    }
    s->of.lease.cursor_count = count;
    s->of.lease.late = true;
    e->swept_us = now_us;
    e->sweep_at_us = now_us + SWEEP_MIN_US; /* the other lanes need not look there, too */
}

void engine_add_cursors(engine *e, int64_t now_us, engine_lane *lane, sentence *s)
{
    bool due = sweep_is_due(e, now_us, s);
    size_t count;

    lane->reach = (engine_reach){.known = false};
    if (begin_behind_front(e, lane, s))
        return;
    if (!e->leases.backlog && (due || e->sweep_cost_us < SWEEP_CHEAP_US))
        return;
    count = collect(e, now_us, lane, s);
    if (count == 0 || (due && s->of.lease.share_count > 1))
        return;
    s->of.lease.cursors = lane->cursors;
    s->of.lease.cursor_count = count;
    /* it may find nothing, and beside the row lane a claim's turn may not come sooner than the next
     * sweep is due */
    if (due && !(e->late_last && e->rows.hungry))
        look_in_front(e, now_us, lane, s);
    else
        keep_clear(e, now_us, lane, s);
}

static void move_cursor(engine_bucket *bucket, int64_t now_us, const claimed_row *row)
{
    size_t at = 0;

    while (at < bucket->cursor_count && bucket->cursors[at].priority > row->priority)
        at++;
    if (at < bucket->cursor_count && bucket->cursors[at].priority == row->priority) {
        bucket->cursors[at].id = base_max_i64(bucket->cursors[at].id, row->token.id);
        return;
    }
    if (bucket->cursor_count == CURSORS_MAX) {
        bucket->cursor_count = 0;
        bucket->plain_until_us = now_us + PLAIN_US;
        return;
    }
    memmove(&bucket->cursors[at + 1], &bucket->cursors[at],
            (bucket->cursor_count - at) * sizeof(bucket->cursors[0]));
    bucket->cursors[at] = (claim_cursor){.priority = row->priority, .id = row->token.id};
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
    e->sweep_put_off = false;
    e->sweep_at_us =
        now_us +
        base_max_i64(SWEEP_MIN_US, base_min_i64(SWEEP_COSTS * e->sweep_cost_us, SWEEP_MAX_US));
    e->horizon_wanted |= e->sweep_cost_us >= SWEEP_DEAR_US && now_us >= e->horizon_at_us;
}

/* What one has cost that came to nothing, by a timeout of the role, is known all the same. */
void engine_sweep_refused(engine *e, int64_t now_us, const engine_lane *lane, const sentence *said)
{
    int64_t took_us = now_us - lane->heard_us;

    if (engine_sweeps(said) && took_us - e->claim_cost_us > SWEEP_DEAR_US)
        learn_sweep(e, now_us, took_us);
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
            move_cursor(&e->buckets[i], now_us, last);
    }
}

/* A sweep that came back full shows where the queue begins: nobody has looked behind its last job.
 * Other workers are told if they may be further on. */
static void learn_beginning(engine *e, const claimed_row *last)
{
    for (uint32_t i = 0; i < e->config.entrypoint_count; i++) {
        const claim_cursor *cursor = find_cursor(&e->buckets[i], last->priority);

        if (!e->buckets[i].leased)
            continue;
        e->front_back |= cursor != NULL && cursor->id > last->token.id;
        put_back(e, i, last->priority, last->token.id);
    }
}

/* Whether a cursor that the claim was said with had passed the job. */
static bool was_passed(const sentence *said, const claimed_row *row)
{
    for (size_t i = 0; i < said->of.lease.cursor_count; i++) {
        if (said->of.lease.cursors[i].priority == row->priority)
            return row->token.id <= said->of.lease.cursors[i].id;
    }
    return false;
}

void engine_learn_cursors(engine *e, int64_t now_us, engine_lane *lane, const sentence *said,
                          const sentence_reply *reply)
{
    bool swept = said->of.lease.cursors == NULL, passed = lane->reach.passed;
    bool looked = engine_sweeps(said);
    bool full = reply->row_count >= (size_t)said->of.lease.batch;
    int64_t took_us = now_us - lane->heard_us;
    const claimed_row *last = full ? &reply->rows[reply->row_count - 1] : NULL;

    if (looked) {
        e->sweep_partial = full || !swept;
        learn_sweep(e, now_us, took_us);
    } else {
        e->claim_cost_us += (took_us - e->claim_cost_us) / 8;
    }
    for (size_t i = 0; !passed && i < reply->row_count; i++)
        move_cursor(&e->buckets[reply->rows[i].entrypoint], now_us, &reply->rows[i]);
    /* a late claim passes nothing */
    if (!reached(e, now_us, lane, said, reply, full) && !said->of.lease.late)
        count_anew(e);
    if (full && said->of.lease.late && was_passed(said, last)) /* there may be more of them */
        go_back(e, last->entrypoint, last->priority, last->token.id);
    if (full && !said->of.lease.late)
        e->busy_priority = last->priority;
    /* where there seemed to be nothing: others may believe it, too */
    if (full && !e->leases.backlog && !said->of.lease.front)
        e->front_back = true;
    if (full && swept)
        learn_beginning(e, last);
    if (swept)
        set_floor(e, now_us, reply, full);
}

/* The last claims of a backlog come back short at the same time in the whole fleet. */
static bool put_off(engine *e, int64_t now_us)
{
    if (now_us >= e->beside_until_us || e->sweep_put_off)
        return false;
    e->sweep_put_off = true;
    e->sweep_at_us =
        now_us + (int64_t)random_below(&e->random, 1 + (uint64_t)(SWEEP_SPREAD_US * e->fleet));
    return now_us < e->sweep_at_us;
}

/* A claim came back short. Behind cursors it says nothing of what is in front of them: true if that
 * is to be looked at now; if not, it will be. */
bool engine_sweep_next(engine *e, int64_t now_us, const sentence *said)
{
    if (said->of.lease.cursors == NULL)
        return false;
    if (e->sweep_put_off && now_us < e->sweep_at_us) {
        e->poll_at_us = base_min_i64(e->poll_at_us, e->sweep_at_us);
        return false;
    }
    /* a job of a priority without a cursor may have woken us; and a sweep that came back full, or
     * looked in front of the cursors only, has not seen everything: the next one will bring jobs
     * too, and there is nothing else to do */
    sweep_after(e, e->sweep_partial ? 1 : SWEEP_WANTED_COSTS);
    if (now_us >= e->sweep_at_us && !put_off(e, now_us))
        return true;
    if (e->cursor_floor > INT32_MIN) { /* rather out of order than idle until then */
        e->cursor_floor = INT32_MIN;
        return true;
    }
    e->poll_at_us = base_min_i64(e->poll_at_us, e->sweep_at_us);
    return false;
}
