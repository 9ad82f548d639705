#include "fixture.h"
#include "samples.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pgqueuer/admin.h>

#include "queue/enqueue.h"

static void every_member_of_a_job_arrives(void **state)
{
    fixture *f = *state;
    pgq_new_job job = some_job();
    pgq_error err = PGQ_ERROR_INIT;
    int64_t id = -1;

    job.payload = (pgq_bytes){"\0\xFFpay", 5};
    job.headers = "{\"trace\": \"abc\"}";
    job.priority = -7;
    job.run_at_us = 4107542400123456; /* 2100-03-01 */
    job.dedupe_key = "key";
    expect_ok(pgq_enqueue(f->client, &job, PGQ_ON_CONFLICT_RAISE, &id, &err), &err);
    assert_string_equal(
        sql_text(f->db.sql,
                 "SELECT concat_ws('|', entrypoint, encode(payload, 'hex'), headers, priority, "
                 "execute_after AT TIME ZONE 'UTC', dedupe_key, status, attempts) "
                 "FROM pgqueuer WHERE id = %lld",
                 (long long)id),
        "fetch|00ff706179|{\"trace\": \"abc\"}|-7|2100-03-01 00:00:00.123456|key|queued|0");
    assert_string_equal(sql_text(f->db.sql, "SELECT concat_ws('|', job_id, status, priority, "
                                            "entrypoint, traceback) FROM pgqueuer_log"),
                        sql_text(f->db.sql, "SELECT '%lld|queued|-7|fetch'", (long long)id));
}

static void no_payload_and_an_empty_one_are_told_apart(void **state)
{
    fixture *f = *state;
    pgq_new_job jobs[2] = {some_job(), some_job()};
    pgq_error err = PGQ_ERROR_INIT;
    int64_t ids[2];

    jobs[1].payload = (pgq_bytes){"", 0};
    expect_ok(pgq_enqueue_batch(f->client, jobs, 2, PGQ_ON_CONFLICT_RAISE, ids, &err), &err);
    assert_string_equal(sql_text(f->db.sql, "SELECT string_agg(coalesce(length(payload), -1)::text "
                                            "|| (headers IS NULL)::text, ' ' ORDER BY id) "
                                            "FROM pgqueuer"),
                        "-1true 0true");
}

static void a_delay_counts_from_the_servers_clock(void **state)
{
    fixture *f = *state;
    pgq_new_job jobs[2] = {some_job(), some_job()};
    pgq_error err = PGQ_ERROR_INIT;

    jobs[0].delay_ms = 1500;
    jobs[1].delay_ms = PGQ_DELAY_MS_MAX;
    expect_ok(pgq_enqueue_batch(f->client, jobs, 2, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    assert_string_equal(sql_text(f->db.sql, "SELECT string_agg((execute_after - created)::text, "
                                            "' ' ORDER BY id) FROM pgqueuer"),
                        "00:00:01.5 36600 days");
}

static const pgq_on_conflict all_modes[] = {PGQ_ON_CONFLICT_RAISE, PGQ_ON_CONFLICT_SKIP,
                                            PGQ_ON_CONFLICT_UPDATE_PRIORITY};

static void ids_come_in_the_order_of_the_jobs_in_every_mode(void **state)
{
    enum { COUNT = 1000 };
    fixture *f = *state;
    static pgq_new_job jobs[COUNT];
    static char keys[COUNT][16];
    int64_t ids[COUNT];
    pgq_error err = PGQ_ERROR_INIT;

    for (size_t mode = 0; mode < UNIT_COUNT(all_modes); mode++) {
        sql_run(f->db.sql, "DELETE FROM pgqueuer");
        for (int32_t i = 0; i < COUNT; i++) {
            jobs[i] = some_job();
            jobs[i].priority = i;
            (void)snprintf(keys[i], sizeof(keys[i]), "%d", i * 7919 % COUNT);
            jobs[i].dedupe_key = i % 3 == 0 ? NULL : keys[i];
        }
        expect_ok(pgq_enqueue_batch(f->client, jobs, COUNT, all_modes[mode], ids, &err), &err);
        for (int32_t i = 0; i < COUNT; i++) {
            assert_true(ids[i] > 0);
            assert_true(i == 0 || ids[i] > ids[i - 1]);
        }
        assert_int_equal(sql_number(f->db.sql,
                                    "SELECT count(*) FROM pgqueuer WHERE id = %lld + priority",
                                    (long long)ids[0]),
                         COUNT);
    }
}

static void a_taken_key_fails_the_whole_batch_with_raise(void **state)
{
    fixture *f = *state;
    pgq_new_job jobs[3] = {some_job(), some_job(), some_job()};
    int64_t ids[3] = {-1, -1, -1};
    pgq_error err = PGQ_ERROR_INIT;

    jobs[1].dedupe_key = "taken";
    expect_ok(pgq_enqueue(f->client, &jobs[1], PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    expect_code(PGQ_E_DUPLICATE,
                pgq_enqueue_batch(f->client, jobs, 3, PGQ_ON_CONFLICT_RAISE, ids, &err), &err);
    assert_string_equal(err.sqlstate, "23505");
    assert_string_equal(err.where, "job 1 of the batch, counted from 0");
    assert_int_equal(ids[0], -1);
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer"), 1);
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer_log"), 1);
    jobs[0].dedupe_key = jobs[1].dedupe_key = "twice";
    expect_code(PGQ_E_DUPLICATE,
                pgq_enqueue_batch(f->client, jobs, 2, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
}

static void a_taken_key_leaves_its_job_out_with_skip(void **state)
{
    fixture *f = *state;
    pgq_new_job jobs[4] = {some_job(), some_job(), some_job(), some_job()};
    int64_t ids[4], taken;
    pgq_error err = PGQ_ERROR_INIT;

    jobs[1].dedupe_key = "taken";
    expect_ok(pgq_enqueue(f->client, &jobs[1], PGQ_ON_CONFLICT_RAISE, &taken, &err), &err);
    jobs[2].dedupe_key = jobs[3].dedupe_key = "new";
    expect_ok(pgq_enqueue_batch(f->client, jobs, 4, PGQ_ON_CONFLICT_SKIP, ids, &err), &err);
    assert_true(ids[0] > 0 && ids[1] == 0 && ids[2] > 0 && ids[3] == 0);
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer"), 3);
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer_log"), 3);
    expect_ok(pgq_enqueue(f->client, &jobs[1], PGQ_ON_CONFLICT_SKIP, &taken, &err), &err);
    assert_int_equal(taken, 0);
}

static void a_taken_key_raises_the_priority_with_update_and_never_lowers_it(void **state)
{
    fixture *f = *state;
    pgq_new_job jobs[3] = {some_job(), some_job(), some_job()};
    int64_t ids[3], low, high;
    pgq_error err = PGQ_ERROR_INIT;

    jobs[0].dedupe_key = "low";
    jobs[0].priority = 1;
    jobs[2].dedupe_key = "high";
    jobs[2].priority = 9;
    expect_ok(pgq_enqueue(f->client, &jobs[0], PGQ_ON_CONFLICT_RAISE, &low, &err), &err);
    expect_ok(pgq_enqueue(f->client, &jobs[2], PGQ_ON_CONFLICT_RAISE, &high, &err), &err);
    for (size_t i = 0; i < 3; i++) {
        jobs[i].priority = 5;
        jobs[i].payload = (pgq_bytes){"new", 3};
    }
    expect_ok(pgq_enqueue_batch(f->client, jobs, 3, PGQ_ON_CONFLICT_UPDATE_PRIORITY, ids, &err),
              &err);
    assert_int_equal(ids[0], low);
    assert_int_equal(ids[2], high);
    assert_true(ids[1] > high);
    assert_string_equal(
        sql_text(f->db.sql,
                 "SELECT string_agg(priority || coalesce(encode(payload, 'escape'), ''), "
                 "' ' ORDER BY id) FROM pgqueuer"),
        "5 9 5new");
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer_log"), 3);
}

static void a_held_jobs_key_is_free(void **state)
{
    fixture *f = *state;
    pgq_new_job job = some_job();
    int64_t id;
    pgq_error err = PGQ_ERROR_INIT;

    job.dedupe_key = "key";
    expect_ok(pgq_enqueue(f->client, &job, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    sql_run(f->db.sql, "UPDATE pgqueuer SET status = 'failed'");
    for (size_t mode = 0; mode < UNIT_COUNT(all_modes); mode++) {
        expect_ok(pgq_enqueue(f->client, &job, all_modes[mode], &id, &err), &err);
        assert_true(id > 0);
        sql_run(f->db.sql, "DELETE FROM pgqueuer WHERE status = 'queued'");
    }
}

/* Incompressible texts, so that the indexes get their full length. */
static void the_longest_names_and_keys_fit_into_the_indexes(void **state)
{
    fixture *f = *state;
    pgq_new_job job = some_job();
    char *entrypoint = repeat(PGQ_ENTRYPOINT_BYTES_MAX), *key = repeat(PGQ_DEDUPE_KEY_BYTES_MAX);
    pgq_error err = PGQ_ERROR_INIT;

    srand(1);
    for (size_t i = 0; i < PGQ_ENTRYPOINT_BYTES_MAX; i++)
        entrypoint[i] = (char)(33 + rand() % 94);
    for (size_t i = 0; i < PGQ_DEDUPE_KEY_BYTES_MAX; i++)
        key[i] = (char)(33 + rand() % 94);
    job.entrypoint = entrypoint;
    job.dedupe_key = key;
    expect_ok(pgq_enqueue(f->client, &job, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    expect_code(PGQ_E_DUPLICATE, pgq_enqueue(f->client, &job, PGQ_ON_CONFLICT_RAISE, NULL, &err),
                &err);
    free(entrypoint);
    free(key);
}

static void an_empty_batch_sends_nothing(void **state)
{
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;

    sql_run(f->db.sql, "DROP TABLE pgqueuer");
    for (size_t mode = 0; mode < UNIT_COUNT(all_modes); mode++)
        expect_ok(pgq_enqueue_batch(f->client, NULL, 0, all_modes[mode], NULL, &err), &err);
}

static void a_missing_schema_is_said_with_what_to_do(void **state)
{
    fixture *f = *state;
    pgq_new_job job = some_job();
    pgq_error err = PGQ_ERROR_INIT;

    expect_ok(pgq_schema_uninstall(f->client, &err), &err);
    expect_code(PGQ_E_SCHEMA_MISSING,
                pgq_enqueue(f->client, &job, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    assert_non_null(strstr(err.hint, "install"));
    expect_ok(pgq_schema_install(f->client, NULL, &err), &err);
    expect_ok(pgq_enqueue(f->client, &job, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
}

static void a_lost_connection_is_made_again_by_the_next_call(void **state)
{
    fixture *f = *state;
    pgq_new_job job = some_job();
    pgq_error err = PGQ_ERROR_INIT;
    int64_t id;

    expect_ok(pgq_enqueue(f->client, &job, PGQ_ON_CONFLICT_RAISE, &id, &err), &err);
    sql_run(f->db.sql, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                       "WHERE application_name = 'pgqueuer' AND datname = current_database()");
    expect_ok(pgq_enqueue(f->client, &job, PGQ_ON_CONFLICT_RAISE, &id, &err), &err);
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer"), 2);
}

static void a_call_that_waits_longer_than_its_timeout_is_given_up(void **state)
{
    fixture *f = *state;
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_new_job job = some_job();
    pgq_error err = PGQ_ERROR_INIT;
    pgq_client *client;

    options.dsn = f->db.dsn;
    options.call_timeout_ms = 2000;
    expect_ok(pgq_client_open(&options, &client, &err), &err);
    sql_run(f->db.sql, "BEGIN; LOCK TABLE pgqueuer IN ACCESS EXCLUSIVE MODE");
    expect_code(PGQ_E_TIMEOUT, pgq_enqueue(client, &job, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    assert_true(err.hint[0] != '\0');
    sql_run(f->db.sql, "COMMIT");
    expect_ok(pgq_enqueue(client, &job, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    (void)pgq_client_free(client);
}

static void a_role_without_rights_is_told_so(void **state)
{
    fixture *f = *state;
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_new_job job = some_job();
    pgq_error err = PGQ_ERROR_INIT;
    pgq_client *client;
    char dsn[SERVER_DSN_BYTES + 32];

    sql_run(f->db.sql, "CREATE ROLE stranger LOGIN");
    (void)snprintf(dsn, sizeof(dsn), "%s user=stranger", f->db.dsn);
    options.dsn = dsn;
    expect_ok(pgq_client_open(&options, &client, &err), &err);
    expect_code(PGQ_E_PERMISSION, pgq_enqueue(client, &job, PGQ_ON_CONFLICT_RAISE, NULL, &err),
                &err);
    assert_string_equal(err.sqlstate, "42501");
    (void)pgq_client_free(client);
    sql_run(f->db.sql, "DROP ROLE stranger");
}

static void names_of_ones_own_are_used_everywhere(void **state)
{
    fixture *f = *state;
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_names own = PGQ_NAMES_INIT;
    pgq_new_job job = some_job();
    pgq_error err = PGQ_ERROR_INIT;
    pgq_client *client;

    own.schema = "app";
    own.prefix = "my_";
    options.dsn = f->db.dsn;
    options.names = &own;
    expect_ok(pgq_client_open(&options, &client, &err), &err);
    expect_ok(pgq_schema_install(client, NULL, &err), &err);
    job.dedupe_key = "key";
    for (size_t mode = 0; mode < UNIT_COUNT(all_modes); mode++) {
        expect_ok(pgq_enqueue(client, &job, all_modes[mode], NULL, &err), &err);
        sql_run(f->db.sql, "DELETE FROM app.my_pgqueuer");
    }
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM app.my_pgqueuer_log"), 3);
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer_log"), 0);
    (void)pgq_client_free(client);
}

static void an_enqueue_notifies_once(void **state)
{
    fixture *f = *state;
    pgq_new_job jobs[3] = {some_job(), some_job(), some_job()};
    pgq_error err = PGQ_ERROR_INIT;
    PGnotify *notification;
    int count = 0;

    sql_run(f->db.sql, "LISTEN ch_pgqueuer");
    expect_ok(pgq_enqueue_batch(f->client, jobs, 3, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
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
        CASE(every_member_of_a_job_arrives),
        CASE(no_payload_and_an_empty_one_are_told_apart),
        CASE(a_delay_counts_from_the_servers_clock),
        CASE(ids_come_in_the_order_of_the_jobs_in_every_mode),
        CASE(a_taken_key_fails_the_whole_batch_with_raise),
        CASE(a_taken_key_leaves_its_job_out_with_skip),
        CASE(a_taken_key_raises_the_priority_with_update_and_never_lowers_it),
        CASE(a_held_jobs_key_is_free),
        CASE(the_longest_names_and_keys_fit_into_the_indexes),
        CASE(an_empty_batch_sends_nothing),
        CASE(a_missing_schema_is_said_with_what_to_do),
        CASE(a_lost_connection_is_made_again_by_the_next_call),
        CASE(a_call_that_waits_longer_than_its_timeout_is_given_up),
        CASE(a_role_without_rights_is_told_so),
        CASE(names_of_ones_own_are_used_everywhere),
        CASE(an_enqueue_notifies_once),
    };

    return server_start() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
