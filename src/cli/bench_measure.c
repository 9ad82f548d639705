/* One measurement of one way of working: drain, horizon, backlog. */
#include "base/error.h"
#include "cli/bench.h"

#include <math.h>

#define BACKLOG_STEP_MAX 50000 /* jobs of the backlog that are worked off in a measurement */

void bench_note(bench_way *way, bench_metric metric, double value)
{
    bench_series *series = &way->series[metric];

    if (series->count < BENCH_ROUNDS_MAX)
        series->values[series->count++] = value;
}

static double rate(int64_t jobs, double seconds)
{
    return seconds > 0 ? (double)jobs / seconds : NAN;
}

static void note_worker(bench_way *way, const bench_work *work)
{
    double jobs = (double)(work->jobs > 0 ? work->jobs : 1);

    bench_note(way, BENCH_CPU, work->cpu_us / jobs);
    bench_note(way, BENCH_RSS, work->rss_mib);
}

/* What the work has cost the server and the worker. */
static void note_costs(bench_way *way, const bench_work *work, const bench_meter *before,
                       const bench_meter *after)
{
    double jobs = (double)(work->jobs > 0 ? work->jobs : 1);

    bench_note(way, BENCH_WAL, (after->wal_bytes - before->wal_bytes) / jobs);
    bench_note(way, BENCH_IMAGES, after->images - before->images);
    bench_note(way, BENCH_COMMITS, (after->commits - before->commits) / jobs);
    bench_note(way, BENCH_STATEMENTS, (after->statements - before->statements) / jobs);
    bench_note(way, BENCH_DEAD, (after->dead - before->dead) / jobs);
    note_worker(way, work);
}

/* ---- drain: all jobs are there, the worker ends when they are done ---- */

static pgq_code drain_fleet(bench *b, const bench_way *way, bench_work *work, pgq_error *err)
{
    bench_fleet fleet;
    pgq_code code = bench_fleet_start(b, way, &fleet, err);

    if (code == PGQ_OK) {
        bench_fleet_go(&fleet);
        code = bench_fleet_wait(&fleet, err);
    }
    bench_fleet_end(&fleet, work);
    return code;
}

/* `jobs` of 0: all of them. */
static pgq_code drain_bare(bench *b, const bench_way *way, int64_t jobs, bench_work *work,
                           pgq_error *err)
{
    bench_bare bare;
    pgq_code code = bench_bare_start(b, way, &bare, err);

    if (code == PGQ_OK)
        code = bench_bare_tell(&bare, "drain", jobs, work, NULL, NULL, err);
    bench_bare_end(&bare);
    return code;
}

static pgq_code check_drained(bench *b, const bench_way *way, const bench_work *work,
                              pgq_error *err)
{
    int64_t left = 0;
    pgq_code code = bench_db_count(&b->db, way->place, &left, err);

    if (code == PGQ_OK && (left != 0 || work->jobs != b->jobs))
        code = error_set(err, PGQ_E_INTERNAL, "of %lld jobs, %lld were done and %lld are left",
                         (long long)b->jobs, (long long)work->jobs, (long long)left);
    return code;
}

static pgq_code measure_drain(bench *b, bench_way *way, pgq_error *err)
{
    bench_meter before, after;
    bench_work work = {0};
    pgq_code code = bench_db_empty(&b->db, way->place, err);

    if (code == PGQ_OK)
        code = bench_db_fill(&b->db, way->place, b->jobs, way->policy == PGQ_LOG_POLICY_FULL, err);
    if (code == PGQ_OK)
        code = bench_db_meter(&b->db, &before, err);
    if (code == PGQ_OK)
        code = way->bare ? drain_bare(b, way, 0, &work, err) : drain_fleet(b, way, &work, err);
    if (code == PGQ_OK)
        code = bench_db_meter(&b->db, &after, err);
    if (code == PGQ_OK)
        code = check_drained(b, way, &work, err);
    if (code != PGQ_OK)
        return code;
    bench_note(way, BENCH_RATE, rate(work.timed, work.seconds));
    note_costs(way, &work, &before, &after);
    return PGQ_OK;
}

/* ---- horizon: one worker runs through, the jobs come in steps ---- */

typedef struct through {
    bench_fleet fleet;
    bench_bare bare;
    double seconds[BENCH_STEPS];
    double cpu_us;
} through;

static pgq_code start_through(bench *b, const bench_way *way, through *t, pgq_error *err)
{
    pgq_code code;

    *t = (through){.fleet = {.fd = -1}, .bare = {.in = -1, .out = -1}};
    if (way->bare)
        return bench_bare_start(b, way, &t->bare, err);
    code = bench_fleet_start(b, way, &t->fleet, err);
    if (code != PGQ_OK)
        return code;
    bench_fleet_go(&t->fleet);
    return bench_fleet_wait_listening(&t->fleet, err);
}

static pgq_code run_step(bench *b, const bench_way *way, through *t, int step, int64_t jobs,
                         pgq_error *err)
{
    bench_work work = {0};
    pgq_code code;

    if (!way->bare)
        bench_fleet_step(&t->fleet, jobs);
    code = bench_db_fill(&b->db, way->place, jobs, false, err);
    if (code == PGQ_OK && way->bare) {
        code = bench_bare_tell(&t->bare, "drain", 0, &work, NULL, NULL, err);
        t->seconds[step] = work.seconds;
        t->cpu_us += work.cpu_us;
    } else if (code == PGQ_OK) {
        code = bench_fleet_wait_step(&t->fleet, &t->seconds[step], err);
    }
    /* as autovacuum does now and then; what the horizon keeps stays */
    return code == PGQ_OK ? bench_db_vacuum(&b->db, way->place, err) : code;
}

static pgq_code run_through(bench *b, bench_way *way, bench_work *work, pgq_error *err)
{
    int64_t jobs = base_max_i64(b->jobs / BENCH_STEPS, 1);
    double seconds = 0;
    through t;
    pgq_code code = start_through(b, way, &t, err);

    for (int step = 0; code == PGQ_OK && step < BENCH_STEPS; step++) {
        code = run_step(b, way, &t, step, jobs, err);
        seconds += t.seconds[step];
    }
    bench_fleet_end(&t.fleet, work);
    bench_bare_end(&t.bare);
    if (code != PGQ_OK)
        return code;
    bench_note(way, BENCH_RATE, rate(jobs * BENCH_STEPS, seconds));
    bench_note(way, BENCH_FIRST_RATE, rate(jobs, t.seconds[0]));
    bench_note(way, BENCH_LAST_RATE, rate(jobs, t.seconds[BENCH_STEPS - 1]));
    if (way->bare)
        *work = (bench_work){.jobs = jobs * BENCH_STEPS, .cpu_us = t.cpu_us, .rss_mib = NAN};
    return PGQ_OK;
}

static pgq_code measure_horizon(bench *b, bench_way *way, pgq_error *err)
{
    PGconn *holder = NULL;
    bench_meter ignored;
    bench_work work = {0};
    pgq_code code = bench_db_empty(&b->db, way->place, err);

    if (code == PGQ_OK && way->held)
        code = bench_db_hold(&b->db, &holder, err);
    if (code == PGQ_OK)
        code = run_through(b, way, &work, err);
    if (code == PGQ_OK) /* a vacuum counts what it leaves, once nobody reports any more */
        code = bench_db_meter(&b->db, &ignored, err);
    if (code == PGQ_OK)
        code = bench_db_vacuum(&b->db, way->place, err);
    if (code == PGQ_OK) {
        note_worker(way, &work);
        bench_note(way, BENCH_DEAD_ROWS, bench_db_dead_rows(&b->db, way->place));
    }
    PQfinish(holder);
    return code;
}

/* ---- backlog: some jobs of a short and of a long queue ---- */

/* The queue has its size again, and nothing dead. */
static pgq_code top_up(bench *b, const bench_way *way, pgq_error *err)
{
    int64_t size = bench_backlog_size(b, way->place), there = 0;
    pgq_code code = bench_db_count(&b->db, way->place, &there, err);

    if (code == PGQ_OK && there < size)
        code = bench_db_fill(&b->db, way->place, size - there, false, err);
    if (code == PGQ_OK)
        code = bench_db_vacuum(&b->db, way->place, err);
    return code == PGQ_OK ? bench_db_checkpoint(&b->db, err) : code;
}

static pgq_code take_from_backlog(bench *b, const bench_way *way, int64_t jobs, bench_work *work,
                                  pgq_error *err)
{
    bench_fleet fleet;
    double seconds = 0;
    pgq_code code;

    if (way->bare)
        return drain_bare(b, way, jobs, work, err);
    code = bench_fleet_start(b, way, &fleet, err);
    if (code == PGQ_OK) {
        bench_fleet_step(&fleet, jobs);
        bench_fleet_go(&fleet);
        code = bench_fleet_wait_step(&fleet, &seconds, err);
    }
    bench_fleet_end(&fleet, work);
    work->seconds =
        seconds * (double)work->jobs / (double)jobs; /* a few more were done meanwhile */
    return code;
}

static pgq_code measure_backlog(bench *b, bench_way *way, pgq_error *err)
{
    int64_t jobs = base_min_i64(BACKLOG_STEP_MAX, base_max_i64(bench_backlog_size(b, 0) / 2, 1));
    bench_meter before, after;
    bench_work work = {0};
    pgq_code code = top_up(b, way, err);

    if (code == PGQ_OK)
        code = bench_db_meter(&b->db, &before, err);
    if (code == PGQ_OK)
        code = take_from_backlog(b, way, jobs, &work, err);
    if (code == PGQ_OK)
        code = bench_db_meter(&b->db, &after, err);
    if (code != PGQ_OK)
        return code;
    bench_note(way, BENCH_RATE, rate(work.jobs, work.seconds));
    note_costs(way, &work, &before, &after);
    return PGQ_OK;
}

pgq_code bench_measure(bench *b, bench_way *way, pgq_error *err)
{
    switch (b->kind) {
    case BENCH_DRAIN:
        return measure_drain(b, way, err);
    case BENCH_LATENCY:
        return bench_measure_latency(b, way, err);
    case BENCH_HORIZON:
        return measure_horizon(b, way, err);
    case BENCH_BACKLOG:
    case BENCH_LIMITS: /* which measures no rounds */
        break;
    }
    return measure_backlog(b, way, err);
}
