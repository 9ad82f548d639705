/* The worker's public face: registration, options, and one run of each outcome. */
#include "unit.h"

#include <math.h>
#include <stddef.h>
#include "server.h"

#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <pgqueuer/worker.h>

#include "base/clock.h"

static pgq_outcome do_nothing(pgq_job *job, void *user)
{
    (void)job;
    (void)user;
    return pgq_done();
}

static pgq_worker *make_worker(const char *dsn)
{
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_worker *w = NULL;

    options.dsn = dsn;
    expect_ok(pgq_worker_new(&options, &w, &err), &err);
    return w;
}

static pgq_code add(pgq_worker *w, const char *name, pgq_error *err)
{
    *err = (pgq_error)PGQ_ERROR_INIT;
    return pgq_worker_entrypoint(w, name, do_nothing, NULL, NULL, err);
}

/* A server that is not there, and whose absence is known at once. */
static const char nowhere[] = "host=/nonexistent";

static void an_entrypoints_name_is_checked(void **state)
{
    pgq_worker *w = make_worker(nowhere);
    char name[PGQ_ENTRYPOINT_BYTES_MAX + 2];
    pgq_entrypoint_options options = PGQ_ENTRYPOINT_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    expect_code(PGQ_E_INVALID, add(w, NULL, &err), &err);
    expect_code(PGQ_E_INVALID, add(w, "", &err), &err);
    expect_code(PGQ_E_INVALID, add(w, "a\xFF", &err), &err);
    memset(name, 'e', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    expect_code(PGQ_E_LIMIT, add(w, name, &err), &err);
    name[sizeof(name) - 2] = '\0';
    expect_ok(add(w, name, &err), &err);
    expect_code(PGQ_E_INVALID, add(w, name, &err), &err);
    assert_non_null(strstr(err.message, "already"));
    name[0] = 'f'; /* the name was copied */
    expect_ok(add(w, name, &err), &err);
    expect_code(PGQ_E_INVALID, pgq_worker_entrypoint(w, "x", NULL, NULL, NULL, &err), &err);
    options.on_failure = (pgq_on_failure)2;
    expect_code(PGQ_E_INVALID, pgq_worker_entrypoint(w, "x", do_nothing, NULL, &options, &err),
                &err);
    options.on_failure = PGQ_ON_FAILURE_HOLD;
    expect_ok(pgq_worker_entrypoint(w, "x", do_nothing, NULL, &options, &err), &err);
    assert_null(pgq_worker_free(w));
}

static void a_worker_has_at_most_a_thousand_entrypoints(void **state)
{
    pgq_worker *w = make_worker(nowhere);
    char name[16];
    pgq_error err;

    (void)state;
    for (int i = 0; i < PGQ_ENTRYPOINTS_MAX; i++) {
        (void)snprintf(name, sizeof(name), "e%d", i);
        expect_ok(add(w, name, &err), &err);
    }
    expect_code(PGQ_E_LIMIT, add(w, "one more", &err), &err);
    (void)pgq_worker_free(w);
}

static void a_worker_without_entrypoints_is_refused(void **state)
{
    pgq_worker *w = make_worker(nowhere);
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    expect_code(PGQ_E_INVALID, pgq_worker_run(w, NULL, &err), &err);
    assert_non_null(strstr(err.message, "entrypoint"));
    (void)pgq_worker_free(w);
}

static void a_worker_runs_once(void **state)
{
    pgq_worker *w = make_worker(nowhere);
    pgq_error err;

    (void)state;
    expect_ok(add(w, "x", &err), &err);
    expect_code(PGQ_E_CONNECT, pgq_worker_run(w, NULL, &err), &err);
    expect_code(PGQ_E_STATE, pgq_worker_run(w, NULL, &err), &err);
    expect_code(PGQ_E_STATE, add(w, "y", &err), &err);
    (void)pgq_worker_free(w);
}

/* A good option gets as far as the database that is not there. */
static void check_option(void (*set)(pgq_run_options *options, int64_t value), int64_t value,
                         pgq_code wanted)
{
    pgq_worker *w = make_worker(nowhere);
    pgq_run_options options = PGQ_RUN_OPTIONS_INIT;
    pgq_error err;

    set(&options, value);
    expect_ok(add(w, "x", &err), &err);
    expect_code(wanted, pgq_worker_run(w, &options, &err), &err);
    (void)pgq_worker_free(w);
}

static void set_batch_size(pgq_run_options *options, int64_t value)
{
    options->batch_size = (int)value;
}

static void set_threads(pgq_run_options *options, int64_t value)
{
    options->threads = (int)value;
}

static void set_lanes(pgq_run_options *options, int64_t value)
{
    options->lanes = (int)value;
}

static void set_dequeue_timeout(pgq_run_options *options, int64_t value)
{
    options->dequeue_timeout_ms = value;
}

static void set_heartbeat_timeout(pgq_run_options *options, int64_t value)
{
    options->heartbeat_timeout_ms = value;
}

static void set_drain_timeout(pgq_run_options *options, int64_t value)
{
    options->drain_timeout_ms = value;
}

static void set_mode(pgq_run_options *options, int64_t value)
{
    options->mode = (pgq_run_mode)value;
}

static void set_max_concurrent_tasks(pgq_run_options *options, int64_t value)
{
    options->max_concurrent_tasks = (int)value;
}

static void set_health_check_interval(pgq_run_options *options, int64_t value)
{
    options->health_check_interval_ms = value;
}

static void set_health_check_timeout(pgq_run_options *options, int64_t value)
{
    options->health_check_timeout_ms = value;
}

static void set_log_aggregation_interval(pgq_run_options *options, int64_t value)
{
    options->log_aggregation_interval_ms = value;
}

static void set_only_job(pgq_run_options *options, int64_t value)
{
    options->only_job = value;
}

static void set_struct_size(pgq_run_options *options, int64_t value)
{
    options->struct_size = (size_t)value;
}

static void every_run_option_has_its_limits(void **state)
{
    static const struct {
        void (*set)(pgq_run_options *options, int64_t value);
        int64_t min, max;
    } rows[] = {
        {set_batch_size, 1, PGQ_BATCH_SIZE_MAX},
        {set_threads, 0, 64}, /* 0: by the machine; the true limit is below */
        {set_lanes, 1, PGQ_LANES_MAX},
        {set_dequeue_timeout, 1, 86400000},
        {set_heartbeat_timeout, 100, 86400000},
        {set_drain_timeout, 0, 86400000},
        {set_mode, PGQ_MODE_CONTINUOUS, PGQ_MODE_DRAIN_NOW},
        {set_max_concurrent_tasks, 0, PGQ_CONCURRENT_TASKS_MAX},
        {set_health_check_interval, 10, 86400000},
        {set_health_check_timeout, 10, 86400000},
        {set_log_aggregation_interval, 10, 86400000},
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        check_option(rows[i].set, rows[i].min, PGQ_E_CONNECT);
        check_option(rows[i].set, rows[i].max, PGQ_E_CONNECT);
        check_option(rows[i].set, rows[i].min - 1, PGQ_E_INVALID);
        if (rows[i].set != set_threads)
            check_option(rows[i].set, rows[i].max + 1, PGQ_E_INVALID);
    }
    check_option(set_threads, PGQ_THREADS_MAX + 1, PGQ_E_INVALID);
    check_option(set_struct_size, 4, PGQ_E_INVALID);
    check_option(set_log_aggregation_interval, 0, PGQ_E_CONNECT); /* never */
    check_option(set_only_job, -1, PGQ_E_INVALID);
}

/* Options of an entrypoint that are whole numbers, and where they are. */
static const struct whole_option {
    const char *name;
    size_t offset, size;
    int64_t min, max, none; /* none: out of the range, and yet allowed; or min */
} whole_options[] = {
#define WHOLE(member, min, max, none)                                        \
    {                                                                        \
#member, offsetof(pgq_entrypoint_options, member),                   \
            sizeof(((pgq_entrypoint_options *)NULL)->member), min, max, none \
    }
    WHOLE(concurrency_limit, 0, PGQ_CONCURRENCY_LIMIT_MAX, 0),
    WHOLE(retry_timer_ms, 100, 86400000, 0),
    WHOLE(timeout_ms, 0, 86400000, 0),
    WHOLE(timeout_grace_ms, 0, 86400000, 0),
#undef WHOLE
};

static void check_whole(pgq_worker *w, const struct whole_option *option, int64_t value, bool good)
{
    static int number;
    pgq_entrypoint_options options = PGQ_ENTRYPOINT_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    int small = (int)value;
    char name[32];

    memcpy((char *)&options + option->offset,
           option->size == sizeof(small) ? (void *)&small : &value, option->size);
    (void)snprintf(name, sizeof(name), "whole%d", number++);
    if (good) {
        expect_ok(pgq_worker_entrypoint(w, name, do_nothing, NULL, &options, &err), &err);
        return;
    }
    expect_code(PGQ_E_INVALID, pgq_worker_entrypoint(w, name, do_nothing, NULL, &options, &err),
                &err);
    assert_non_null(strstr(err.where, name));
}

static void every_option_of_an_entrypoint_has_its_limits(void **state)
{
    static const struct {
        double rate;
        bool good;
    } rates[] = {{0, true},          {0.001, true}, {PGQ_RATE_MAX, true}, {INFINITY, true},
                 {-0.000001, false}, {NAN, false},  {-INFINITY, false}};
    pgq_worker *w = make_worker(nowhere);
    pgq_entrypoint_options options = PGQ_ENTRYPOINT_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    char name[32];

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(whole_options); i++) {
        check_whole(w, &whole_options[i], whole_options[i].min, true);
        check_whole(w, &whole_options[i], whole_options[i].max, true);
        check_whole(w, &whole_options[i], whole_options[i].none, true);
        check_whole(w, &whole_options[i], -1, false);
        check_whole(w, &whole_options[i], whole_options[i].max + 1, false);
        if (whole_options[i].none < whole_options[i].min)
            check_whole(w, &whole_options[i], whole_options[i].min - 1, false);
    }
    for (size_t i = 0; i < UNIT_COUNT(rates); i++) {
        options.requests_per_second = rates[i].rate;
        (void)snprintf(name, sizeof(name), "rate%zu", i);
        expect_code(rates[i].good ? PGQ_OK : PGQ_E_INVALID,
                    pgq_worker_entrypoint(w, name, do_nothing, NULL, &options, &err), &err);
    }
    (void)pgq_worker_free(w);
}

static void a_workers_id_can_be_given_before_it_runs(void **state)
{
    static const char good[] = "926aff6f-e5d4-413a-8216-4b7bc0160d19";
    static const char *const bad[] = {
        "", "926aff6f-e5d4-413a-8216-4b7bc0160d1", "926aff6f-e5d4-413a-8216-4b7bc0160d190",
        "926aff6f+e5d4-413a-8216-4b7bc0160d19", "926aff6f-e5d4-413a-8216-4b7bc0160d1g"};
    pgq_worker *w = make_worker(nowhere);
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    expect_ok(pgq_worker_set_id(w, good, &err), &err);
    for (size_t i = 0; i < UNIT_COUNT(bad); i++)
        expect_code(PGQ_E_INVALID, pgq_worker_set_id(w, bad[i], &err), &err);
    expect_code(PGQ_E_INVALID, pgq_worker_set_id(w, NULL, &err), &err);
    assert_string_equal(pgq_worker_id(w), good);
    expect_ok(add(w, "x", &err), &err);
    expect_code(PGQ_E_CONNECT, pgq_worker_run(w, NULL, &err), &err);
    expect_code(PGQ_E_STATE, pgq_worker_set_id(w, good, &err), &err);
    (void)pgq_worker_free(w);
}

static void an_option_that_was_refused_leaves_the_worker_usable(void **state)
{
    pgq_worker *w = make_worker(nowhere);
    pgq_run_options options = PGQ_RUN_OPTIONS_INIT;
    pgq_error err;

    (void)state;
    expect_ok(add(w, "x", &err), &err);
    options.lanes = 99;
    expect_code(PGQ_E_INVALID, pgq_worker_run(w, &options, &err), &err);
    expect_ok(add(w, "y", &err), &err);
    options.lanes = 1;
    expect_code(PGQ_E_CONNECT, pgq_worker_run(w, &options, &err), &err);
    (void)pgq_worker_free(w);
}

static void a_stop_before_the_run_ends_it_at_once(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int64_t before_us = clock_monotonic_us();
    pgq_worker *w;
    pgq_error err;
    char dsn[96];

    (void)state;
    /* a server that accepts and never answers: without the stop this would take ten seconds */
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(dsn, sizeof(dsn), "host=127.0.0.1 port=%d", ntohs(address.sin_port));
    w = make_worker(dsn);
    expect_ok(add(w, "x", &err), &err);
    for (int i = 0; i < 3; i++)
        pgq_worker_stop(w);
    expect_ok(pgq_worker_run(w, NULL, &err), &err);
    assert_true(clock_monotonic_us() - before_us < 5000000);
    (void)pgq_worker_free(w);
    (void)close(fd);
}

static void a_workers_id_is_a_uuid_of_its_own(void **state)
{
    pgq_worker *a = make_worker(nowhere), *b = make_worker(nowhere);

    (void)state;
    assert_int_equal(strlen(pgq_worker_id(a)), 36);
    assert_string_not_equal(pgq_worker_id(a), pgq_worker_id(b));
    (void)pgq_worker_free(a);
    (void)pgq_worker_free(b);
    assert_null(pgq_worker_free(NULL));
}

static void a_missing_schema_ends_the_run_with_what_to_do(void **state)
{
    const database *d = *state;
    pgq_worker *w = make_worker(d->dsn);
    pgq_error err;

    sql_run(d->sql, "DROP TABLE pgqueuer");
    expect_ok(add(w, "x", &err), &err);
    expect_code(PGQ_E_SCHEMA_MISSING, pgq_worker_run(w, NULL, &err), &err);
    assert_non_null(strstr(err.hint, "install"));
    (void)pgq_worker_free(w);
}

static pgq_outcome by_payload(pgq_job *job, void *user)
{
    pgq_bytes payload = pgq_job_payload(job);
    char what = payload.len > 0 ? *(const char *)payload.data : 'd';

    assert_ptr_equal(pgq_job_user(job), user);
    assert_string_equal(pgq_job_entrypoint(job), "work");
    switch (what) {
    case 'f':
        return pgq_fail("ValueError", "boom");
    case 'r':
        return pgq_job_attempts(job) == 0 ? pgq_retry(10, "once more") : pgq_done();
    case 'c':
        return pgq_cancelled();
    default:
        return pgq_done();
    }
}

static void run_drain(const database *d, pgq_on_failure on_failure, pgq_worker_counts *counts)
{
    pgq_worker *w = make_worker(d->dsn);
    pgq_entrypoint_options entrypoint = PGQ_ENTRYPOINT_OPTIONS_INIT;
    pgq_run_options options = PGQ_RUN_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;

    entrypoint.on_failure = on_failure;
    options.mode = PGQ_MODE_DRAIN;
    options.threads = 3;
    expect_ok(pgq_worker_entrypoint(w, "work", by_payload, &err, &entrypoint, &err), &err);
    expect_ok(pgq_worker_run(w, &options, &err), &err);
    pgq_worker_get_counts(w, counts);
    (void)pgq_worker_free(w);
}

static void each_outcome_is_counted_and_logged_as_it_says(void **state)
{
    static const char payloads[] = "ddddffrrrc";
    const database *d = *state;
    pgq_client *client = database_client(d);
    pgq_new_job jobs[sizeof(payloads) - 1];
    pgq_worker_counts counts;
    pgq_error err = PGQ_ERROR_INIT;

    for (size_t i = 0; i < UNIT_COUNT(jobs); i++) {
        jobs[i] = (pgq_new_job)PGQ_NEW_JOB_INIT;
        jobs[i].entrypoint = "work";
        jobs[i].payload = (pgq_bytes){&payloads[i], 1};
    }
    expect_ok(pgq_enqueue_batch(client, jobs, UNIT_COUNT(jobs), PGQ_ON_CONFLICT_RAISE, NULL, &err),
              &err);
    run_drain(d, PGQ_ON_FAILURE_HOLD, &counts);
    assert_int_equal(counts.claimed, 13);
    assert_int_equal(counts.successful, 7);
    assert_int_equal(counts.failed, 2);
    assert_int_equal(counts.retried, 3);
    assert_int_equal(counts.cancelled, 1);
    assert_int_equal(counts.lost, 0);
    assert_string_equal(
        sql_text(d->sql, "SELECT string_agg(status || '=' || n, ' ' ORDER BY status) FROM "
                         "(SELECT status, count(*) AS n FROM pgqueuer_log GROUP BY status) AS s"),
        "queued=13 picked=13 successful=7 canceled=1 failed=2");
    assert_string_equal(sql_text(d->sql, "SELECT string_agg(status::text, ' ') FROM pgqueuer"),
                        "failed failed");
    (void)pgq_client_free(client);
}

static void a_failed_job_goes_unless_it_is_to_be_held(void **state)
{
    const database *d = *state;
    pgq_client *client = database_client(d);
    pgq_new_job job = PGQ_NEW_JOB_INIT;
    pgq_worker_counts counts;
    pgq_error err = PGQ_ERROR_INIT;

    job.entrypoint = "work";
    job.payload = (pgq_bytes){"f", 1};
    expect_ok(pgq_enqueue(client, &job, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    run_drain(d, PGQ_ON_FAILURE_DELETE, &counts);
    assert_int_equal(sql_number(d->sql, "SELECT count(*) FROM pgqueuer"), 0);
    assert_string_equal(sql_text(d->sql, "SELECT traceback->>'exception_type' FROM pgqueuer_log "
                                         "WHERE status = 'exception'"),
                        "ValueError");
    (void)pgq_client_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entrypoints_name_is_checked),
        cmocka_unit_test(a_worker_has_at_most_a_thousand_entrypoints),
        cmocka_unit_test(a_worker_without_entrypoints_is_refused),
        cmocka_unit_test(a_worker_runs_once),
        cmocka_unit_test(every_run_option_has_its_limits),
        cmocka_unit_test(every_option_of_an_entrypoint_has_its_limits),
        cmocka_unit_test(a_workers_id_can_be_given_before_it_runs),
        cmocka_unit_test(an_option_that_was_refused_leaves_the_worker_usable),
        cmocka_unit_test(a_stop_before_the_run_ends_it_at_once),
        cmocka_unit_test(a_workers_id_is_a_uuid_of_its_own),
        cmocka_unit_test_setup_teardown(a_missing_schema_ends_the_run_with_what_to_do,
                                        database_setup, database_teardown),
        cmocka_unit_test_setup_teardown(each_outcome_is_counted_and_logged_as_it_says,
                                        database_setup, database_teardown),
        cmocka_unit_test_setup_teardown(a_failed_job_goes_unless_it_is_to_be_held, database_setup,
                                        database_teardown),
    };

    return server_start() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
