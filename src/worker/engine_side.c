/* Which lane an entrypoint's jobs are claimed on: leases for quick jobs without limits, the row
 * lane for all others. Source: engine.md 1. */
#include "worker/engine_internal.h"

enum { SLOW_WINDOW = 32 }; /* runs that count */

/* Above the first, jobs are too slow for leases; below the second, quick enough again. */
static const double slow_share = 0.10, quick_share = 0.03;

static bool wants_lease(const engine *e, size_t index)
{
    const engine_entrypoint *entry = &e->config.entrypoints[index];
    const engine_bucket *bucket = &e->buckets[index];

    if (entry->lane == PGQ_LANE_ROW || entry->limit > 0 || entry->rated ||
        entry->silence_us != e->config.heartbeat_timeout_us || e->config.only_job != 0)
        return false;
    if (entry->lane == PGQ_LANE_LEASE)
        return true;
    if (!e->surveyed || bucket->limited_elsewhere || e->run_us_average == 0)
        return false;
    return bucket->slow <= (bucket->leased ? slow_share : quick_share);
}

void engine_learn_sides(engine *e)
{
    size_t leased = 0;
    bool changed = false;

    for (size_t i = 0; i < e->config.entrypoint_count; i++) {
        bool wants = wants_lease(e, i);

        changed |= wants != e->buckets[i].leased;
        e->buckets[i].leased = wants;
        leased += wants;
    }
    e->leases.entrypoints = leased;
    e->rows.entrypoints = e->config.entrypoint_count - leased;
    if (changed)
        engine_wake(e);
}

void engine_observe_run(engine *e, uint32_t entrypoint, bool slow)
{
    engine_bucket *bucket = &e->buckets[entrypoint];

    if (!bucket->measured)
        bucket->slow = slow ? 1 : 0;
    else
        bucket->slow += ((slow ? 1.0 : 0.0) - bucket->slow) / SLOW_WINDOW;
    bucket->measured = true;
    if (wants_lease(e, entrypoint) != bucket->leased)
        engine_learn_sides(e);
}

/* While something is on the row lane, the last lane is there for it: it must not wait for a lease.
 */
bool engine_may_lease(const engine *e, const engine_lane *lane)
{
    int last = e->lane_count - 1;

    return lane != &e->lanes[last] || e->rows.entrypoints == 0 || last == 1;
}
