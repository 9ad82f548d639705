/* How the row lane and the leases divide the room in the pool while there may be work for both.
 *
 * Nobody knows what waits on the other side, so each of them is asked: where a higher priority is
 * known to wait more often, and otherwise in turn. Whose turn it is gets the room; of the same
 * priority, or where that is not known, the other one gets a place of it, too, while a thread is
 * idle. So a backlog of one side does not keep the jobs of the other one waiting until its own last
 * job has begun. Source: engine.md 2. */
#include "worker/engine_internal.h"

enum {
    TURNS_MAX = 3, /* claims one after the other of the side with the higher priority, at most: what
                      is known of the other one was true when it was asked */
    ANSWER_US = 20 * 1000 /* an answer that takes longer is not waited for */
};

/* Above zero: of the row lane, below: of the leases. Zero: the same, or not known. */
static int higher(const engine *e)
{
    if (!e->rows.backlog || !e->leases.backlog)
        return 0;
    return (e->rows.priority > e->leases.priority) - (e->rows.priority < e->leases.priority);
}

bool engine_leases_turn(const engine *e)
{
    int first = higher(e);

    if (!e->rows.hungry || !e->leases.hungry)
        return false;
    if (first < 0)
        return e->leases.in_a_row < TURNS_MAX;
    return e->rows.in_a_row >= (first > 0 ? TURNS_MAX : 1);
}

/* The lane would lease if there were room, and be it when a thread is free: now, or, in the leases'
 * turn, in a moment, when what it has said is answered. */
static bool waits(engine *e, int64_t now_us, const engine_lane *lane, bool planned)
{
    int64_t answered_us = lane->heard_us + ANSWER_US;
    bool flies = lane->state == LANE_FLYING;

    if (lane->state < LANE_IDLE || (lane->lease.open && !planned) ||
        engine_lane_said(lane, SENTENCE_LEASE) ||
        (flies && (now_us >= answered_us || !engine_leases_turn(e))) ||
        !engine_could_lease(e, now_us, lane))
        return false;
    if (flies)
        e->pace.look_at_us = base_min_i64(e->pace.look_at_us, answered_us);
    return true;
}

static bool leases_wait(engine *e, int64_t now_us, const engine_lane *planned)
{
    for (int i = 1; i < e->lane_count && !engine_fold_due(e, now_us); i++) {
        if (waits(e, now_us, &e->lanes[i], &e->lanes[i] == planned))
            return true;
    }
    return false;
}

size_t engine_room_of_rows(engine *e, int64_t now_us, const engine_lane *lane)
{
    bool turn = engine_leases_turn(e);
    size_t room = engine_room(e);

    if (room == 0 || !leases_wait(e, now_us, lane))
        return room;
    /* while all threads are busy a part of it would not be worth a claim */
    if (room == 1 || higher(e) != 0 ||
        e->jobs[JOB_HANDED].count - e->away >= engine_free_threads(e))
        return turn ? 0 : room;
    return turn ? room - base_min_size(room - 1, e->lease_most) : room - 1;
}

void engine_took_turn(engine_side *side, engine_side *other)
{
    side->in_a_row += other->hungry;
    other->in_a_row = 0;
}
