/* From what was measured of a database to words: what limits there, and what would help. */
#include "cli/bench.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define COMMIT_MS 0.2        /* a commit that costs so much more than a round trip is felt */
#define TRIP_MS 0.3          /* a round trip over a wire, rather than to the same machine */
#define LONG_S 60            /* a transaction of which people should know */
#define LONG_AGE 100000      /* transactions that began since: as many dead rows of a busy queue */
#define KEPT_BYTES (1 << 30) /* of WAL, by a slot that nobody reads */
#define CONNECTIONS_SHARE 0.8

static const char *const kind_names[] = {
    [BENCH_LIMIT_CPU] = "cpu",
    [BENCH_LIMIT_COMMIT] = "commit",
    [BENCH_LIMIT_TRIP] = "round trip",
    [BENCH_LIMIT_UNKNOWN] = "unknown",
};

static const char *setting(const bench_limits *l, int id)
{
    return l->settings[id].value;
}

static bool is_off(const bench_limits *l, int id)
{
    return base_streq(setting(l, id), "off");
}

/* Adds a finding; the words that follow are what would help. */
static void BASE_PRINTF(4, 5)
    find(bench_limits *l, const char *about, const char *helps, const char *format, ...)
{
    bench_finding *finding;
    va_list args;

    if (l->finding_count == BENCH_FINDINGS_MAX)
        return;
    finding = &l->findings[l->finding_count++];
    *finding = (bench_finding){.about = about, .helps = helps};
    va_start(args, format);
    (void)vsnprintf(finding->is, sizeof(finding->is), format, args);
    va_end(args);
}

/* Whether a commit waits for another machine. */
static bool waits_for_standby(const bench_limits *l)
{
    const char *level = setting(l, BENCH_SET_SYNCHRONOUS_COMMIT);

    return setting(l, BENCH_SET_STANDBYS)[0] != '\0' && !base_streq(level, "off") &&
           !base_streq(level, "local");
}

static bench_limit kind_of(double trip_ms, double commit_ms)
{
    if (isnan(trip_ms) || isnan(commit_ms))
        return BENCH_LIMIT_UNKNOWN;
    if (commit_ms - trip_ms >= COMMIT_MS && commit_ms - trip_ms >= trip_ms)
        return BENCH_LIMIT_COMMIT;
    return trip_ms >= TRIP_MS ? BENCH_LIMIT_TRIP : BENCH_LIMIT_CPU;
}

static void judge_speed(bench_limits *l)
{
    double trip_ms = bench_median(&l->trips_ms), commit_ms = bench_median(&l->commits_ms);

    l->limit = kind_of(trip_ms, commit_ms);
    if (l->standby)
        find(l, "standby", "give the address of the primary",
             "the server is a standby: nothing can be enqueued or done here");
    else if (l->limit == BENCH_LIMIT_UNKNOWN)
        find(l, "commit", "let the role call pg_logical_emit_message",
             "the server does not let this role measure a commit");
    else if (l->limit == BENCH_LIMIT_COMMIT)
        find(
            l, "commit",
            waits_for_standby(l)
                ? "many jobs in a call; a nearer standby; synchronous_commit = local for producers "
                  "whose last jobs may be lost with the primary"
                : "many jobs in a call; faster sync of the WAL's disk; synchronous_commit = off "
                  "for "
                  "producers whose last jobs may be lost in a crash",
            "a commit takes %.2f ms%s: %.0f jobs/s where one connection enqueues one by one",
            commit_ms, waits_for_standby(l) ? ", the synchronous standby included" : "",
            1000 / commit_ms);
    else if (l->limit == BENCH_LIMIT_TRIP)
        find(l, "round trip", "many jobs in a call; workers near the database; more --lanes",
             "a round trip takes %.2f ms: %.0f jobs/s where one connection enqueues one by one",
             trip_ms, 1000 / commit_ms);
    else
        find(l, "CPU", "cores; many jobs in a call; the log policy failures with install --extras",
             "neither the commit (%.2f ms) nor the network (%.2f ms): the CPU of server and worker",
             commit_ms, trip_ms);
}

static void judge_horizon(bench_limits *l)
{
    if (l->holder_age >= LONG_AGE || l->holder_seconds >= LONG_S)
        find(l, "horizon",
             "end it; idle_in_transaction_session_timeout; reports and backups on a standby "
             "without hot_standby_feedback",
             "%.120s holds the xmin horizon back by %.0f transactions: dead rows stay", l->holder,
             l->holder_age);
    if (l->long_transactions > 0)
        find(l, "transactions", "end those that are forgotten",
             "%.0f transactions of this database are older than a minute", l->long_transactions);
    if (l->kept_wal_bytes >= KEPT_BYTES)
        find(l, "slots", "drop the slots that nobody reads; max_slot_wal_keep_size",
             "%.0f replication slots are not read and keep up to %.1f GiB of WAL", l->idle_slots,
             l->kept_wal_bytes / KEPT_BYTES);
}

static void judge_settings(bench_limits *l)
{
    double most = strtod(setting(l, BENCH_SET_MAX_CONNECTIONS), NULL);

    if (is_off(l, BENCH_SET_FSYNC))
        find(l, "fsync", "fsync = on", "fsync is off: fast, and a crash destroys the database");
    if (is_off(l, BENCH_SET_SYNCHRONOUS_COMMIT))
        find(l, "durability", "synchronous_commit = on, at least for those jobs",
             "synchronous_commit is off: a crash may lose jobs that were acknowledged");
    if (is_off(l, BENCH_SET_WAL_COMPRESSION) && !is_off(l, BENCH_SET_FULL_PAGE_WRITES))
        find(l, "WAL", "wal_compression = on, or lz4; a larger max_wal_size",
             "wal_compression is off: full-page images after a checkpoint are written whole");
    if (is_off(l, BENCH_SET_AUTOVACUUM))
        find(l, "autovacuum", "autovacuum = on; pgqueuer autovac",
             "autovacuum is off: dead rows stay, and claims step over all of them");
    if (most > 0 && l->connections >= CONNECTIONS_SHARE * most)
        find(l, "connections", "a pooler for producers; a larger max_connections",
             "%.0f of %.0f connections are taken", l->connections, most);
    if (l->pooled)
        find(l, "pooler", "give workers a direct connection; producers may keep the pooler",
             "a pooler is in between: in transaction mode workers do not hear of jobs, and poll");
    if (l->here)
        find(l, "cores", "the server on a machine of its own, if both are busy",
             "the server is on this machine, and shares its %d cores with the workers", l->cores);
}

void bench_limits_judge(bench_limits *l)
{
    l->finding_count = 0;
    judge_speed(l);
    judge_horizon(l);
    judge_settings(l);
}

const char *bench_limit_name(bench_limit limit)
{
    return kind_names[limit];
}

static void print_time(const char *what, const bench_series *series)
{
    double least, most;

    bench_spread(series, &least, &most);
    if (series->count == 0)
        (void)printf("%s not measured", what);
    else
        (void)printf("%s %.3f ms (%.3f-%.3f)", what, bench_median(series), least, most);
}

void bench_print_limits(const bench_limits *l)
{
    (void)printf("\nwhat limits here: ");
    print_time("round trip", &l->trips_ms);
    (void)printf(", ");
    print_time("commit", &l->commits_ms);
    (void)putchar('\n');
    for (int i = 0; i < l->finding_count; i++)
        (void)printf("  %-13s %s\n  %-13s helps: %s\n", l->findings[i].about, l->findings[i].is, "",
                     l->findings[i].helps);
}
