#include "unit.h"
#include "server.h"

#include <string.h>

#include <pgqueuer/libpq.h>

static pgq_new_job some_job(void)
{
    pgq_new_job job = PGQ_NEW_JOB_INIT;

    job.entrypoint = "fetch";
    return job;
}

static pgq_code enqueue(PGconn *conn, int64_t *id, pgq_error *err)
{
    pgq_new_job job = some_job();

    *err = (pgq_error)PGQ_ERROR_INIT;
    return pgq_enqueue_on(conn, NULL, &job, 1, PGQ_ON_CONFLICT_RAISE, id, err);
}

static void the_jobs_appear_with_the_callers_commit(void **state)
{
    database *d = *state;
    PGconn *other = PQconnectdb(d->dsn);
    pgq_error err;
    int64_t id = 0;

    sql_run(d->sql, "BEGIN");
    expect_ok(enqueue(d->sql, &id, &err), &err);
    assert_true(id > 0);
    assert_int_equal(PQtransactionStatus(d->sql), PQTRANS_INTRANS);
    assert_int_equal(sql_number(other, "SELECT count(*) FROM pgqueuer"), 0);
    sql_run(d->sql, "COMMIT");
    assert_int_equal(sql_number(other, "SELECT id FROM pgqueuer"), id);
    assert_int_equal(sql_number(other, "SELECT count(*) FROM pgqueuer_log"), 1);
    PQfinish(other);
}

static void a_rollback_leaves_nothing(void **state)
{
    database *d = *state;
    pgq_error err;

    sql_run(d->sql, "BEGIN");
    expect_ok(enqueue(d->sql, NULL, &err), &err);
    sql_run(d->sql, "ROLLBACK");
    assert_int_equal(sql_number(d->sql, "SELECT count(*) FROM pgqueuer"), 0);
    assert_int_equal(sql_number(d->sql, "SELECT count(*) FROM pgqueuer_log"), 0);
}

static void outside_of_a_transaction_the_statement_commits_by_itself(void **state)
{
    database *d = *state;
    pgq_error err;

    expect_ok(enqueue(d->sql, NULL, &err), &err);
    assert_int_equal(PQtransactionStatus(d->sql), PQTRANS_IDLE);
    assert_int_equal(sql_number(d->sql, "SELECT count(*) FROM pgqueuer"), 1);
    assert_int_equal(sql_number(d->sql, "SELECT count(*) FROM pg_prepared_statements"), 0);
}

static void a_connection_that_is_not_usable_is_refused(void **state)
{
    database *d = *state;
    PGconn *lost = PQconnectdb(d->dsn);
    pgq_error err;

    expect_code(PGQ_E_INVALID, enqueue(NULL, NULL, &err), &err);
    sql_run(d->sql, "SELECT pg_terminate_backend(%d, 10000)", PQbackendPID(lost));
    PQclear(PQexec(lost, "SELECT 1"));
    expect_code(PGQ_E_CONNECTION_LOST, enqueue(lost, NULL, &err), &err);
    PQfinish(lost);
}

static void pipeline_mode_is_refused_and_left_as_it_was(void **state)
{
    database *d = *state;
    pgq_error err;

    assert_int_equal(PQenterPipelineMode(d->sql), 1);
    expect_code(PGQ_E_UNSUPPORTED, enqueue(d->sql, NULL, &err), &err);
    assert_int_equal(PQpipelineStatus(d->sql), PQ_PIPELINE_ON);
    assert_int_equal(PQexitPipelineMode(d->sql), 1);
    expect_ok(enqueue(d->sql, NULL, &err), &err);
}

static void a_failed_transaction_is_refused(void **state)
{
    database *d = *state;
    pgq_error err;

    sql_run(d->sql, "BEGIN");
    PQclear(PQexec(d->sql, "SELECT 1/0"));
    expect_code(PGQ_E_STATE, enqueue(d->sql, NULL, &err), &err);
    sql_run(d->sql, "ROLLBACK");
    expect_ok(enqueue(d->sql, NULL, &err), &err);
}

static void a_busy_connection_is_refused_and_its_result_left_alone(void **state)
{
    database *d = *state;
    PGresult *result;
    pgq_error err;

    assert_int_equal(PQsendQuery(d->sql, "SELECT 42"), 1);
    expect_code(PGQ_E_STATE, enqueue(d->sql, NULL, &err), &err);
    result = PQgetResult(d->sql);
    assert_string_equal(PQgetvalue(result, 0, 0), "42");
    PQclear(result);
    assert_null(PQgetResult(d->sql));
}

static void another_encoding_is_refused(void **state)
{
    database *d = *state;
    pgq_error err;

    sql_run(d->sql, "SET client_encoding = LATIN1");
    expect_code(PGQ_E_UNSUPPORTED, enqueue(d->sql, NULL, &err), &err);
    assert_non_null(strstr(err.hint, "UTF8"));
}

static void a_duplicate_fails_the_callers_transaction(void **state)
{
    database *d = *state;
    pgq_new_job job = some_job();
    pgq_error err = PGQ_ERROR_INIT;
    int64_t id = -1;

    job.dedupe_key = "key";
    sql_run(d->sql, "BEGIN");
    expect_ok(pgq_enqueue_on(d->sql, NULL, &job, 1, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    expect_ok(pgq_enqueue_on(d->sql, NULL, &job, 1, PGQ_ON_CONFLICT_SKIP, &id, &err), &err);
    assert_int_equal(id, 0);
    expect_ok(pgq_enqueue_on(d->sql, NULL, &job, 1, PGQ_ON_CONFLICT_UPDATE_PRIORITY, &id, &err),
              &err);
    assert_true(id > 0);
    expect_code(PGQ_E_DUPLICATE,
                pgq_enqueue_on(d->sql, NULL, &job, 1, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    assert_string_equal(err.where, "pgqueuer_unique_dedupe_key");
    assert_int_equal(PQtransactionStatus(d->sql), PQTRANS_INERROR);
    sql_run(d->sql, "ROLLBACK");
}

static void what_cannot_be_sent_leaves_the_transaction_good(void **state)
{
    database *d = *state;
    pgq_new_job job = some_job();
    pgq_names names = PGQ_NAMES_INIT;
    pgq_error err = PGQ_ERROR_INIT;

    sql_run(d->sql, "BEGIN");
    job.headers = "not json";
    expect_code(PGQ_E_INVALID,
                pgq_enqueue_on(d->sql, NULL, &job, 1, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    job.headers = NULL;
    names.queue_table = "bad\"name";
    expect_code(PGQ_E_INVALID,
                pgq_enqueue_on(d->sql, &names, &job, 1, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    assert_int_equal(PQtransactionStatus(d->sql), PQTRANS_INTRANS);
    expect_ok(pgq_enqueue_on(d->sql, NULL, NULL, 0, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    sql_run(d->sql, "COMMIT");
    assert_int_equal(sql_number(d->sql, "SELECT count(*) FROM pgqueuer"), 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, database_setup, database_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_jobs_appear_with_the_callers_commit),
        CASE(a_rollback_leaves_nothing),
        CASE(outside_of_a_transaction_the_statement_commits_by_itself),
        CASE(a_connection_that_is_not_usable_is_refused),
        CASE(pipeline_mode_is_refused_and_left_as_it_was),
        CASE(a_failed_transaction_is_refused),
        CASE(a_busy_connection_is_refused_and_its_result_left_alone),
        CASE(another_encoding_is_refused),
        CASE(a_duplicate_fails_the_callers_transaction),
        CASE(what_cannot_be_sent_leaves_the_transaction_good),
    };

    return server_start() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
