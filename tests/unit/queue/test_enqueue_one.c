/* One job goes by a statement of its own, and leaves what it would leave among others. */
#include "fixture.h"
#include "samples.h"
#include "unit.h"

#include <stdio.h>
#include <string.h>

static const char queue_row[] =
    "SELECT (to_jsonb(q) - 'id' - 'created' - 'updated' - 'heartbeat' - 'execute_after' || "
    "jsonb_build_object('same', q.created = q.updated AND q.created = q.heartbeat, 'due', "
    "CASE WHEN execute_after::date = '2100-03-01' THEN execute_after::text "
    "ELSE (execute_after - created)::text END))::text FROM pgqueuer q WHERE id = %lld";
static const char log_row[] =
    "SELECT (to_jsonb(l) - 'id' - 'job_id' - 'created' || jsonb_build_object('same', "
    "l.created = (SELECT created FROM pgqueuer WHERE id = l.job_id)))::text "
    "FROM pgqueuer_log l WHERE job_id = %lld";

/* Jobs that differ in every member. */
static size_t make_jobs(pgq_new_job *jobs)
{
    size_t count = 7;

    for (size_t i = 0; i < count; i++)
        jobs[i] = some_job();
    jobs[1].payload = (pgq_bytes){"", 0};
    jobs[2].payload = (pgq_bytes){"\0\xFF\\x41", 6};
    jobs[2].headers = "{\"trace\": [1, \"\\u00e9\"]}";
    jobs[3].priority = -7;
    jobs[3].delay_ms = 1500;
    jobs[4].priority = INT32_MAX;
    jobs[4].run_at_us = 4107542400123456; /* 2100-03-01 */
    jobs[5].log_policy = PGQ_LOG_POLICY_TERMINAL;
    jobs[6].delay_ms = PGQ_DELAY_MS_MAX;
    return count;
}

static void a_job_alone_leaves_the_rows_that_it_leaves_among_others(void **state)
{
    static const pgq_on_conflict modes[] = {PGQ_ON_CONFLICT_RAISE, PGQ_ON_CONFLICT_SKIP,
                                            PGQ_ON_CONFLICT_UPDATE_PRIORITY};
    fixture *f = *state;
    pgq_new_job jobs[8];
    size_t count = make_jobs(jobs);

    for (size_t i = 0; i < count * UNIT_COUNT(modes); i++) {
        pgq_new_job pair[2] = {jobs[i % count], some_job()};
        pgq_error err = PGQ_ERROR_INIT;
        int64_t alone, among[2];
        char expected[2][1024];

        expect_ok(pgq_enqueue_batch(f->client, pair, 2, modes[i / count], among, &err), &err);
        (void)snprintf(expected[0], sizeof(expected[0]), "%s",
                       sql_text(f->db.sql, queue_row, (long long)among[0]));
        (void)snprintf(expected[1], sizeof(expected[1]), "%s",
                       sql_text(f->db.sql, log_row, (long long)among[0]));
        expect_ok(pgq_enqueue(f->client, &pair[0], modes[i / count], &alone, &err), &err);
        assert_int_equal(alone, among[1] + 1);
        assert_string_equal(sql_text(f->db.sql, queue_row, (long long)alone), expected[0]);
        assert_string_equal(sql_text(f->db.sql, log_row, (long long)alone), expected[1]);
        assert_int_equal(expected[1][0] == '\0', i % count == 5);
    }
}

static void its_taken_key_is_told_and_leaves_nothing(void **state)
{
    fixture *f = *state;
    pgq_new_job job = some_job();
    pgq_error err = PGQ_ERROR_INIT;

    job.dedupe_key = "key";
    expect_ok(pgq_enqueue(f->client, &job, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    expect_code(PGQ_E_DUPLICATE, pgq_enqueue(f->client, &job, PGQ_ON_CONFLICT_RAISE, NULL, &err),
                &err);
    assert_string_equal(err.sqlstate, "23505");
    assert_string_equal(err.where, "pgqueuer_unique_dedupe_key");
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer"), 1);
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer_log"), 1);
}

static void a_role_that_may_only_insert_enqueues_it(void **state)
{
    fixture *f = *state;
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_new_job job = some_job();
    pgq_error err = PGQ_ERROR_INIT;
    pgq_client *client;
    char dsn[SERVER_DSN_BYTES + 32];

    sql_run(f->db.sql, "CREATE ROLE inserter LOGIN; GRANT INSERT ON pgqueuer, pgqueuer_log "
                       "TO inserter; GRANT USAGE ON SEQUENCE pgqueuer_id_seq TO inserter");
    (void)snprintf(dsn, sizeof(dsn), "%s user=inserter", f->db.dsn);
    options.dsn = dsn;
    expect_ok(pgq_client_open(&options, &client, &err), &err);
    expect_ok(pgq_enqueue(client, &job, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    (void)pgq_client_free(client);
    sql_run(f->db.sql, "DROP OWNED BY inserter; DROP ROLE inserter");
}

static void it_notifies_once(void **state)
{
    fixture *f = *state;
    pgq_new_job job = some_job();
    pgq_error err = PGQ_ERROR_INIT;
    PGnotify *notification;
    int count = 0;

    sql_run(f->db.sql, "LISTEN ch_pgqueuer");
    expect_ok(pgq_enqueue(f->client, &job, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    sql_run(f->db.sql, "SELECT 1");
    while ((notification = PQnotifies(f->db.sql)) != NULL) {
        assert_non_null(strstr(notification->extra, "insert"));
        PQfreemem(notification);
        count++;
    }
    assert_int_equal(count, 1);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_job_alone_leaves_the_rows_that_it_leaves_among_others),
        CASE(its_taken_key_is_told_and_leaves_nothing),
        CASE(a_role_that_may_only_insert_enqueues_it),
        CASE(it_notifies_once),
    };

    return server_start() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
