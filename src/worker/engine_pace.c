/* The pace of one worker of a fleet: how many of its lanes lease at a time, and how long they
 * pause.
 *
 * More sessions than the server has use for are worse than idle: where they write to the same pages
 * each waits for the others, and one that waits for the processor has what they wait for. Nobody
 * tells a worker how many there are, but it sees how much longer its settles take than at their
 * best, which grows with them: from three times on it does less, in a backlog and beside others
 * only. The rest of them see the same and do likewise. Waiting for the disk is no part of it: that
 * is the commit. The rule is that of a gradient limit on what is under way. */
#include "worker/engine_internal.h"

#include <math.h>

enum {
    SETTLE_FIXED = 16,           /* a settle costs what so many jobs of one do, and its jobs */
    BEST_SPAN_US = 10 * 1000000, /* the best of the last one or two of these */
    BUSY_US = 5 * 1000,   /* a lease of which nothing has ended for so long waits for handlers */
    BURST_US = 25 * 1000, /* a session that goes on has what it needs in the processor's caches */
    SILENT_US = 1000 * 1000, /* of one that is not answered for so long nothing is known */
    PAUSE_MIN_US = 1000,
    PAUSE_MAX_US = 100 * 1000
};

#define SLOWER_MAX 3.0  /* times the best, before the pace is slowed down */
#define SAMPLE_MAX 8.0  /* likewise: more tells no more */
#define QUICKEN 0.2     /* lanes that are tried in addition, always */
#define SMOOTH 0.2      /* of what is learned from one settle */
#define LANES_MIN 0.125 /* so the pauses have a limit */

static bool paced(const engine *e, int64_t now_us)
{
    return e->leases.backlog && now_us < e->beside_until_us && e->fleet > ENGINE_FLEET_MIN;
}

/* The best of two spans of time. */
static double learn_best(engine_pace *p, int64_t now_us, double us)
{
    if (now_us >= p->span_ends_us) {
        p->best_before_us = p->best_us;
        p->best_us = us;
        p->span_ends_us = now_us + BEST_SPAN_US;
    }
    p->best_us = fmin(p->best_us, us);
    return p->best_before_us > 0 ? fmin(p->best_us, p->best_before_us) : p->best_us;
}

void engine_pace_settled(engine *e, int64_t now_us, size_t jobs, int64_t took_us)
{
    double us = (double)base_max_i64(took_us, 1) / (double)(jobs + SETTLE_FIXED);
    engine_pace *p = &e->pace;
    double best_us = learn_best(p, now_us, us), wanted;

    us = fmin(us, SAMPLE_MAX * best_us);
    p->settle_us += p->settle_us > 0 ? (us - p->settle_us) * SMOOTH : us;
    wanted = p->lanes * fmax(0.5, fmin(1, SLOWER_MAX * best_us / p->settle_us)) + QUICKEN;
    p->lanes += (wanted - p->lanes) * SMOOTH;
    p->lanes = fmax(LANES_MIN, fmin(p->lanes, e->lane_count - 1));
}

/* Less than one lane is one that works for a while and pauses. */
static bool pauses(engine_pace *p, int64_t now_us)
{
    int64_t pause_us = (int64_t)(BURST_US * (1 / p->lanes - 1));

    if (now_us < p->again_us)
        return true;
    if (pause_us < PAUSE_MIN_US)
        return false;
    if (p->burst_ends_us <= p->again_us)
        p->burst_ends_us = now_us + BURST_US;
    if (now_us >= p->burst_ends_us)
        p->again_us = now_us + base_min_i64(pause_us, PAUSE_MAX_US);
    return now_us < p->again_us;
}

/* Until when the lane's lease has to do with the server: one that waits for handlers has not. */
static int64_t busy_until(const engine_lane *lane)
{
    if (lane->state == LANE_FLYING)
        return lane->lease.open || engine_lane_said(lane, SENTENCE_LEASE)
                   ? lane->heard_us + SILENT_US
                   : 0;
    return lane->lease.open ? lane->lease.stirred_us + BUSY_US : 0;
}

bool engine_pace_rests(engine *e, int64_t now_us, const engine_lane *lane)
{
    int64_t again_us = e->beside_until_us;
    int busy = 0;

    if (!paced(e, now_us))
        return false;
    for (int i = 1; i < e->lane_count; i++) {
        int64_t until_us = busy_until(&e->lanes[i]);

        if (&e->lanes[i] == lane || until_us <= now_us)
            continue;
        again_us = base_min_i64(again_us, until_us);
        busy++;
    }
    if (busy < (int)fmax(1, e->pace.lanes + 0.5)) {
        if (!pauses(&e->pace, now_us))
            return false;
        again_us = e->pace.again_us;
    }
    e->pace.look_at_us = base_min_i64(e->pace.look_at_us, again_us);
    return true;
}
