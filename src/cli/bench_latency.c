/* latency: jobs are enqueued one at a time while the worker is idle; from the moment at which the
 * producer knows of its commit to the start of the handler. */
#include "base/clock.h"
#include "base/error.h"
#include "cli/bench_shared.h"
#include "cli/progress.h"

#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Of sorted samples, the smallest that is not below so many of 100. */
static double percentile(const double *sorted, int count, int percent)
{
    int at = (count * percent + 99) / 100;

    return count > 0 ? sorted[at > 0 ? at - 1 : 0] : NAN;
}

static void note_samples(bench_way *way, double *samples_ms, int count)
{
    qsort(samples_ms, (size_t)count, sizeof(*samples_ms), compare);
    bench_note(way, BENCH_P50, percentile(samples_ms, count, 50));
    bench_note(way, BENCH_P99, percentile(samples_ms, count, 99));
    bench_note(way, BENCH_MAX, percentile(samples_ms, count, 100));
}

static pgq_code one_job(bench_fleet *fleet, pgq_client *client, int number, double *ret_ms,
                        pgq_error *err)
{
    pgq_new_job job = PGQ_NEW_JOB_INIT;
    char text[BENCH_NUMBER_BYTES];
    int64_t id, committed_us, started_us = 0;
    pgq_code code;

    (void)poll(NULL, 0, BENCH_IDLE_MS);
    (void)snprintf(text, sizeof(text), "%d", number);
    job.entrypoint = BENCH_ENTRYPOINT;
    job.payload = (pgq_bytes){text, strlen(text)};
    code = pgq_enqueue(client, &job, PGQ_ON_CONFLICT_RAISE, &id, err);
    committed_us = clock_monotonic_us();
    if (code == PGQ_OK)
        code = bench_fleet_wait_start(fleet, number, &started_us, err);
    *ret_ms = (double)(started_us - committed_us) / 1000;
    return code;
}

static pgq_code sample_fleet(bench *b, bench_fleet *fleet, pgq_client *client, double *samples_ms,
                             pgq_error *err)
{
    progress bar;
    double ignored;
    pgq_code code = PGQ_OK;

    for (int i = 0; code == PGQ_OK && i < BENCH_WARM_UP; i++)
        code = one_job(fleet, client, i, &ignored, err);
    progress_begin(&bar, "jobs", b->jobs);
    for (int i = 0; code == PGQ_OK && i < b->jobs; i++) {
        code = one_job(fleet, client, BENCH_WARM_UP + i, &samples_ms[i], err);
        progress_show(&bar, i);
    }
    progress_end(&bar);
    return code;
}

static pgq_code measure_fleet(bench *b, const bench_way *way, double *samples_ms, bench_work *work,
                              pgq_error *err)
{
    pgq_names names = bench_db_names(&b->db, way->place);
    pgq_connect_options options = bench_db_options(&b->db, &names);
    pgq_client *client = NULL;
    bench_fleet fleet;
    pgq_code code = bench_fleet_start(b, way, &fleet, err);

    if (code == PGQ_OK)
        code = pgq_client_open(&options, &client, err);
    if (code == PGQ_OK) {
        bench_fleet_go(&fleet);
        code = bench_fleet_wait_listening(&fleet, err);
    }
    if (code == PGQ_OK)
        code = sample_fleet(b, &fleet, client, samples_ms, err);
    (void)pgq_client_free(client);
    bench_fleet_end(&fleet, work);
    return code;
}

static pgq_code measure_bare(bench *b, const bench_way *way, double *samples_ms, bench_work *work,
                             pgq_error *err)
{
    bench_bare bare;
    int count = 0;
    pgq_code code = bench_bare_start(b, way, &bare, err);

    if (code == PGQ_OK)
        code = bench_bare_tell(&bare, "latency", b->jobs, work, samples_ms, &count, err);
    bench_bare_end(&bare);
    if (code == PGQ_OK && count != b->jobs)
        code = error_set(err, PGQ_E_IO, "the bare loop has told of %d jobs, not of %lld", count,
                         (long long)b->jobs);
    return code;
}

pgq_code bench_measure_latency(bench *b, bench_way *way, pgq_error *err)
{
    double *samples_ms = calloc((size_t)b->jobs, sizeof(*samples_ms));
    bench_work work = {0};
    pgq_code code;

    if (samples_ms == NULL)
        return error_nomem(err);
    code = bench_db_empty(&b->db, way->place, err);
    if (code == PGQ_OK)
        code = way->bare ? measure_bare(b, way, samples_ms, &work, err)
                         : measure_fleet(b, way, samples_ms, &work, err);
    if (code == PGQ_OK) {
        note_samples(way, samples_ms, (int)b->jobs);
        if (work.jobs > 0)
            bench_note(way, BENCH_CPU, work.cpu_us / (double)work.jobs);
        bench_note(way, BENCH_RSS, work.rss_mib);
    }
    free(samples_ms);
    return code;
}
