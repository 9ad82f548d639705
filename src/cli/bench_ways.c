/* Which ways of working a benchmark compares. */
#include "cli/bench.h"

#include <stdio.h>

enum { SMALL_JOBS = 100000 };

const char *const bench_kind_names[] = {"drain", "latency", "horizon", "backlog", "limits"};
const char *const bench_lane_names[] = {"auto", "row", "lease"};
const char *const bench_policy_names[] = {"default", "full", "terminal", "failures"};

int64_t bench_backlog_size(const bench *b, int place)
{
    if (place == 1)
        return b->jobs;
    return b->jobs / 10 < SMALL_JOBS ? b->jobs / 10 : SMALL_JOBS;
}

static void add_way(bench *b, bench_way way)
{
    bench_way *added;
    char where[24] = "";

    if (b->way_count == BENCH_WAYS_MAX)
        return;
    added = &b->ways[b->way_count++];
    *added = way;
    if (b->kind == BENCH_HORIZON)
        (void)snprintf(where, sizeof(where), way.held ? ", held" : ", free");
    else if (b->kind == BENCH_BACKLOG)
        (void)snprintf(where, sizeof(where), ", %lld queued",
                       (long long)bench_backlog_size(b, way.place));
    (void)snprintf(added->name, sizeof(added->name), "%s %s%s%s",
                   !way.bare    ? bench_lane_names[way.lane]
                   : way.cursor ? "bare loop, cursor,"
                                : "bare loop,",
                   bench_policy_names[way.policy], where, way.plain ? ", defaults" : "");
}

/* One way in all circumstances that the kind compares. */
static void add_way_everywhere(bench *b, bench_way way)
{
    add_way(b, way);
    if (b->kind == BENCH_HORIZON)
        way.held = true;
    else if (b->kind == BENCH_BACKLOG)
        way.place = 1;
    else
        return;
    add_way(b, way);
}

static bool wants_lane(const bench *b, pgq_lane lane)
{
    if (cli_given(b->c, OPT_LANE))
        return cli_number(b->c, OPT_LANE) == (int64_t)lane;
    if (b->kind == BENCH_DRAIN || b->kind == BENCH_LATENCY)
        return lane != PGQ_LANE_AUTO;
    return lane == PGQ_LANE_LEASE;
}

/* Without a word: those for which there are budgets. */
static bool wants_policy(const bench *b, pgq_log_policy policy)
{
    if (cli_given(b->c, OPT_LOG_POLICY))
        return cli_number(b->c, OPT_LOG_POLICY) + 1 == (int64_t)policy;
    if (b->kind == BENCH_LATENCY)
        return policy == PGQ_LOG_POLICY_FULL;
    return b->kind == BENCH_DRAIN || policy != PGQ_LOG_POLICY_FULL;
}

static void add_policy(bench *b, pgq_log_policy policy)
{
    static const pgq_lane lanes[] = {PGQ_LANE_AUTO, PGQ_LANE_ROW, PGQ_LANE_LEASE};

    for (size_t i = 0; i < BASE_COUNT(lanes); i++) {
        if (wants_lane(b, lanes[i]))
            add_way_everywhere(b, (bench_way){.lane = lanes[i], .policy = policy});
    }
    if (!cli_given(b->c, OPT_LANE) && (b->kind == BENCH_DRAIN || b->kind == BENCH_LATENCY))
        add_way(b, (bench_way){.policy = policy, .plain = true});
    if (b->bare == NULL)
        return;
    add_way_everywhere(b, (bench_way){.bare = true, .policy = policy});
    if (b->kind != BENCH_LATENCY)
        add_way_everywhere(b, (bench_way){.bare = true, .cursor = true, .policy = policy});
}

void bench_ways(bench *b)
{
    static const pgq_log_policy policies[] = {PGQ_LOG_POLICY_FULL, PGQ_LOG_POLICY_TERMINAL,
                                              PGQ_LOG_POLICY_FAILURES};

    for (size_t i = 0; i < BASE_COUNT(policies); i++) {
        if (wants_policy(b, policies[i]))
            add_policy(b, policies[i]);
    }
}
