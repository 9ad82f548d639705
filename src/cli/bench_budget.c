/* What the figures are to be: the budgets that need no other product beside them. */
#include "cli/bench.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_median(const bench_series *series)
{
    double sorted[BENCH_ROUNDS_MAX];
    int count = 0;

    for (int i = 0; i < series->count; i++) {
        if (!isnan(series->values[i]))
            sorted[count++] = series->values[i];
    }
    if (count == 0)
        return NAN;
    qsort(sorted, (size_t)count, sizeof(*sorted), compare);
    return count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

void bench_spread(const bench_series *series, double *ret_min, double *ret_max)
{
    *ret_min = NAN;
    *ret_max = NAN;
    for (int i = 0; i < series->count; i++) {
        double value = series->values[i];

        if (isnan(value))
            continue;
        if (isnan(*ret_min) || value < *ret_min)
            *ret_min = value;
        if (isnan(*ret_max) || value > *ret_max)
            *ret_max = value;
    }
}

double bench_ratio(const bench_series *a, const bench_series *b)
{
    bench_series ratios = {.count = 0};

    for (int i = 0; i < a->count && i < b->count; i++)
        ratios.values[ratios.count++] = b->values[i] > 0 ? a->values[i] / b->values[i] : NAN;
    return bench_median(&ratios);
}

/* The budgets as they are collected. */
typedef struct ledger {
    bench_budget *budgets;
    int count;
} ledger;

static void BASE_PRINTF(6, 7) add(ledger *l, double got, bool at_least, double need,
                                  const char *unit, const char *format, ...)
{
    bench_budget *budget;
    va_list args;

    if (l->count == BENCH_BUDGETS_MAX)
        return;
    budget = &l->budgets[l->count++];
    *budget = (bench_budget){.need = need, .got = got, .at_least = at_least, .unit = unit};
    va_start(args, format);
    (void)vsnprintf(budget->what, sizeof(budget->what), format, args);
    va_end(args);
}

bool bench_budget_kept(const bench_budget *budget)
{
    return budget->at_least ? budget->got >= budget->need : budget->got <= budget->need;
}

/* The way that is like `like`, or NULL. */
static const bench_way *find(const bench *b, bench_way like)
{
    for (int i = 0; i < b->way_count; i++) {
        const bench_way *way = &b->ways[i];

        if (way->bare == like.bare && way->plain == like.plain && way->held == like.held &&
            way->cursor == like.cursor && way->policy == like.policy && way->place == like.place &&
            (way->bare || way->plain || way->lane == like.lane))
            return way;
    }
    return NULL;
}

static double ratio_of(const bench_way *a, const bench_way *b, bench_metric metric)
{
    return a != NULL && b != NULL ? bench_ratio(&a->series[metric], &b->series[metric]) : NAN;
}

static double median_of(const bench_way *way, bench_metric metric)
{
    return way != NULL ? bench_median(&way->series[metric]) : NAN;
}

/* The bare loop with or without a cursor, whichever is faster: that is the limit. */
static const bench_way *limit(const bench *b, pgq_log_policy policy)
{
    bench_way like = {.bare = true, .policy = policy};
    const bench_way *plain = find(b, like), *cursor;

    like.cursor = true;
    cursor = find(b, like);
    if (plain == NULL || cursor == NULL)
        return plain != NULL ? plain : cursor;
    return median_of(cursor, BENCH_RATE) > median_of(plain, BENCH_RATE) ? cursor : plain;
}

static void add_drain(const bench *b, ledger *l, pgq_log_policy policy)
{
    static const double wal_most[] = {
        [PGQ_LOG_POLICY_FULL] = 1000,
        [PGQ_LOG_POLICY_TERMINAL] = 600,
        [PGQ_LOG_POLICY_FAILURES] = 130,
    };
    const char *name = bench_policy_names[policy];
    const bench_way like_lease = {.lane = PGQ_LANE_LEASE, .policy = policy};
    const bench_way like_plain = {.plain = true, .policy = policy};
    const bench_way *lease = find(b, like_lease), *plain = find(b, like_plain);

    if (lease == NULL)
        return;
    if (policy != PGQ_LOG_POLICY_FULL)
        add(l, ratio_of(lease, limit(b, policy), BENCH_RATE), true, 0.95, "x",
            "drain, %s: jobs/s of the bare loop's", name);
    add(l, median_of(lease, BENCH_WAL), false, wal_most[policy], "B", "drain, %s: WAL of a job",
        name);
    if (plain != NULL)
        add(l, ratio_of(plain, lease, BENCH_RATE), true, 0.90, "x",
            "drain, %s: jobs/s with the defaults, of the tuned", name);
    add(l, median_of(lease, BENCH_CPU), false, 3, "us", "drain, %s: worker's CPU of a job", name);
    add(l, median_of(lease, BENCH_RSS), false, 24, "MiB", "drain, %s: worker's memory", name);
}

static void add_latency(const bench *b, ledger *l, pgq_log_policy policy)
{
    const bench_way like_bare = {.bare = true, .policy = policy};
    const bench_way like_plain = {.plain = true, .policy = policy};
    const bench_way *bare = find(b, like_bare), *plain = find(b, like_plain);

    if (plain == NULL)
        return;
    add(l, median_of(plain, BENCH_P50) - median_of(bare, BENCH_P50), false, 0.1, "ms",
        "latency, defaults: p50 above the bare loop's");
    add(l, median_of(plain, BENCH_P99) - median_of(bare, BENCH_P99), false, 0.5, "ms",
        "latency, defaults: p99 above the bare loop's");
}

static void add_horizon(const bench *b, ledger *l, pgq_log_policy policy)
{
    bench_way like = {.lane = PGQ_LANE_LEASE, .policy = policy};
    const bench_way *unheld = find(b, like), *held;

    like.held = true;
    held = find(b, like);
    if (unheld != NULL && policy != PGQ_LOG_POLICY_FULL)
        add(l, ratio_of(held, unheld, BENCH_LAST_RATE), true,
            policy == PGQ_LOG_POLICY_TERMINAL ? 0.70 : 0.50, "x",
            "horizon held, %s: jobs/s of those without", bench_policy_names[policy]);
}

static void add_backlog(const bench *b, ledger *l, pgq_log_policy policy)
{
    bench_way like = {.lane = PGQ_LANE_LEASE, .policy = policy};
    const bench_way *small = find(b, like), *large;

    like.place = 1;
    large = find(b, like);
    if (small != NULL)
        add(l, ratio_of(large, small, BENCH_RATE), true, 0.90, "x",
            "backlog of %lld, %s: jobs/s of those with %lld", (long long)bench_backlog_size(b, 1),
            bench_policy_names[policy], (long long)bench_backlog_size(b, 0));
}

int bench_budgets(const bench *b, bench_budget budgets[BENCH_BUDGETS_MAX])
{
    static void (*const adders[])(const bench *, ledger *, pgq_log_policy) = {
        [BENCH_DRAIN] = add_drain,
        [BENCH_LATENCY] = add_latency,
        [BENCH_HORIZON] = add_horizon,
        [BENCH_BACKLOG] = add_backlog,
    };
    ledger l = {.budgets = budgets};

    for (pgq_log_policy policy = PGQ_LOG_POLICY_FULL; policy <= PGQ_LOG_POLICY_FAILURES; policy++)
        adders[b->kind](b, &l, policy);
    return l.count;
}
