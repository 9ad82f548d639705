/* Many jobs by COPY: the same as with arrays, whatever they are and however they fail. */
#include "fixture.h"
#include "samples.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pgqueuer/libpq.h>

#include "base/clock.h"
#include "queue/enqueue.h"

enum { MANY = ENQUEUE_COPY_JOBS };

static pgq_new_job many[MANY];
static int64_t ids[MANY];

static int open_many(void **state)
{
    for (size_t i = 0; i < MANY; i++) {
        many[i] = some_job();
        ids[i] = -1;
    }
    return open_fixture(state);
}

static pgq_code enqueue_many(fixture *f, pgq_error *err)
{
    *err = (pgq_error)PGQ_ERROR_INIT;
    return pgq_enqueue_batch(f->client, many, MANY, PGQ_ON_CONFLICT_RAISE, ids, err);
}

static pgq_code enqueue_way_of(fixture *f, size_t count, size_t copy_jobs, pgq_error *err)
{
    enqueue_batch batch = {many,      count, PGQ_ON_CONFLICT_RAISE, PGQ_LOG_POLICY_FULL,
                           copy_jobs, false};
    client_way way = client_way_make(f->client, CLOCK_NEVER);

    *err = (pgq_error)PGQ_ERROR_INIT;
    return enqueue_send(&way.way, &batch, ids, err);
}

static long long rows(fixture *f, const char *table)
{
    return sql_number(f->db.sql, "SELECT count(*) FROM %s", table);
}

/* Counts the statements that the server has run with this text in them. */
static long long copies(fixture *f)
{
    return sql_number(f->db.sql, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%%' "
                                 "OR query = 'COMMIT'");
}

static void the_limit_decides_and_skip_never_copies(void **state)
{
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;

    expect_ok(pgq_enqueue_batch(f->client, many, MANY - 1, PGQ_ON_CONFLICT_RAISE, ids, &err), &err);
    assert_int_equal(copies(f), 0);
    expect_ok(pgq_enqueue_batch(f->client, many, MANY, PGQ_ON_CONFLICT_SKIP, ids, &err), &err);
    assert_int_equal(copies(f), 0);
    expect_ok(enqueue_many(f, &err), &err);
    assert_int_equal(copies(f), 1);
    assert_int_equal(rows(f, "pgqueuer"), 3 * MANY - 1);
    assert_int_equal(rows(f, "pgqueuer_log"), 3 * MANY - 1);
}

/* Jobs that use every member, at the edges of what it may be. */
static void vary(char keys[][16])
{
    static const char *const headers[] = {NULL, "{}", "{\"trace\": {\"x\": 1}}"};

    for (int32_t i = 0; i < MANY; i++) {
        pgq_new_job *job = &many[i];

        (void)snprintf(keys[i], 16, "%d", i * 7919 % MANY);
        job->entrypoint = i % 2 == 0 ? "fetch" : "\xC3\xA9t\xC3\xA9";
        job->dedupe_key = i % 3 == 0 ? keys[i] : NULL;
        job->headers = headers[i % 3];
        job->priority = i % 5 == 0 ? INT32_MIN : i % 5 == 1 ? INT32_MAX : i;
        job->payload = i % 4 == 0 ? (pgq_bytes){NULL, 0} : (pgq_bytes){"\0\xFF\\x", (size_t)i % 4};
        job->delay_ms = i % 7 == 0 ? PGQ_DELAY_MS_MAX : i % 7;
        if (i % 11 == 0) {
            job->delay_ms = 0;
            job->run_at_us = 4107542400123456;
        }
        job->log_policy = i % 13 == 0 ? PGQ_LOG_POLICY_TERMINAL : PGQ_LOG_POLICY_DEFAULT;
    }
}

/* A digest of both tables, ids counted from the first one; a relative time from its row's. */
static const char *digest(fixture *f)
{
    return sql_text(
        f->db.sql,
        "SELECT md5((SELECT string_agg(concat_ws('|', id - (SELECT min(id) FROM pgqueuer), "
        "priority, queue_manager_id, created = updated AND created = heartbeat, CASE WHEN "
        "execute_after = '2100-03-01 00:00:00.123456Z' THEN 'at' ELSE (execute_after - "
        "created)::text END, status, entrypoint, dedupe_key, payload IS NULL, encode(payload, "
        "'hex'), headers, attempts, slot), E'\\n' ORDER BY id) FROM pgqueuer)) || md5((SELECT "
        "string_agg(concat_ws('|', job_id - (SELECT min(id) FROM pgqueuer), status, priority, "
        "entrypoint, traceback, aggregated), E'\\n' ORDER BY job_id) FROM pgqueuer_log))");
}

static void the_rows_are_those_of_the_arrays(void **state)
{
    fixture *f = *state;
    static char keys[MANY][16], before[128];
    pgq_error err;

    vary(keys);
    expect_ok(enqueue_way_of(f, MANY, MANY + 1, &err), &err);
    (void)snprintf(before, sizeof(before), "%s", digest(f));
    assert_true(rows(f, "pgqueuer_log") < MANY && rows(f, "pgqueuer_log") > MANY / 2);
    sql_run(f->db.sql, "TRUNCATE pgqueuer, pgqueuer_log");
    expect_ok(enqueue_way_of(f, MANY, 1, &err), &err);
    assert_int_equal(rows(f, "pgqueuer"), MANY);
    assert_string_equal(digest(f), before);
}

static void ids_come_in_the_order_of_the_jobs(void **state)
{
    fixture *f = *state;
    pgq_error err;

    for (int32_t i = 0; i < MANY; i++)
        many[i].priority = i;
    expect_ok(enqueue_many(f, &err), &err);
    for (size_t i = 1; i < MANY; i++)
        assert_true(ids[i] > ids[i - 1]);
    assert_int_equal(sql_number(f->db.sql,
                                "SELECT count(*) FROM pgqueuer JOIN pgqueuer_log ON "
                                "job_id = pgqueuer.id WHERE pgqueuer.id = %lld + "
                                "pgqueuer.priority",
                                (long long)ids[0]),
                     MANY);
}

static void a_copy_notifies_once_as_an_insert_does(void **state)
{
    fixture *f = *state;
    pgq_error err;
    int seen[2] = {0, 0};

    sql_run(f->db.sql, "LISTEN ch_pgqueuer");
    for (size_t by_copy = 0; by_copy < 2; by_copy++) {
        PGnotify *event;

        expect_ok(enqueue_way_of(f, 10, by_copy ? 1 : 100, &err), &err);
        sql_run(f->db.sql, "SELECT 1");
        while ((event = PQnotifies(f->db.sql)) != NULL) {
            assert_non_null(strstr(event->extra, "\"operation\" : \"insert\""));
            seen[by_copy]++;
            PQfreemem(event);
        }
    }
    assert_int_equal(seen[0], 1);
    assert_int_equal(seen[1], 1);
}

static void a_taken_key_in_the_middle_is_named_and_nothing_is_done(void **state)
{
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_new_job first = some_job();

    first.dedupe_key = "a)b";
    expect_ok(pgq_enqueue(f->client, &first, PGQ_ON_CONFLICT_RAISE, NULL, &err), &err);
    many[3].dedupe_key = "a"; /* its end could be taken for the other's */
    many[1234].dedupe_key = "a)b";
    expect_code(PGQ_E_DUPLICATE, enqueue_many(f, &err), &err);
    assert_string_equal(err.sqlstate, "23505");
    assert_string_equal(err.where, "job 1234 of the batch, counted from 0");
    assert_null(strstr(err.message, "a)b"));
    assert_int_equal(ids[0], -1);
    assert_int_equal(rows(f, "pgqueuer"), 1);
    assert_int_equal(rows(f, "pgqueuer_log"), 1);
    many[1234].dedupe_key = NULL;
    expect_ok(enqueue_many(f, &err), &err); /* the connection is good for the next call */
}

static void of_two_jobs_with_one_key_the_second_is_named(void **state)
{
    fixture *f = *state;
    pgq_error err;

    many[7].dedupe_key = many[1999].dedupe_key = "twice";
    expect_code(PGQ_E_DUPLICATE, enqueue_many(f, &err), &err);
    assert_string_equal(err.where, "job 1999 of the batch, counted from 0");
    assert_int_equal(rows(f, "pgqueuer"), 0);
}

static void bad_jobs_are_named_before_anything_is_sent(void **state)
{
    fixture *f = *state;
    char *big = repeat(PGQ_PAYLOAD_BYTES_MAX + 1);
    pgq_error err;

    many[1000].headers = "[]";
    expect_code(PGQ_E_INVALID, enqueue_many(f, &err), &err);
    assert_non_null(strstr(err.where, "job 1000"));
    many[1000].headers = NULL;
    many[1500].payload = (pgq_bytes){big, PGQ_PAYLOAD_BYTES_MAX + 1};
    expect_code(PGQ_E_LIMIT, enqueue_many(f, &err), &err);
    assert_non_null(strstr(err.where, "job 1500"));
    assert_int_equal(rows(f, "pgqueuer"), 0);
    assert_int_equal(sql_number(f->db.sql, "SELECT is_called::int FROM pgqueuer_id_seq"), 0);
    many[1500].payload.len = PGQ_PAYLOAD_BYTES_MAX;
    expect_ok(enqueue_many(f, &err), &err);
    assert_int_equal(sql_number(f->db.sql, "SELECT max(length(payload)) FROM pgqueuer"),
                     PGQ_PAYLOAD_BYTES_MAX);
    free(big);
}

static void a_log_that_cannot_be_written_undoes_the_queue(void **state)
{
    fixture *f = *state;
    pgq_error err;

    sql_run(f->db.sql, "ALTER TABLE pgqueuer_log ADD CHECK (entrypoint <> 'fetch')");
    expect_code(PGQ_E_DATABASE, enqueue_many(f, &err), &err);
    assert_string_equal(err.sqlstate, "23514");
    assert_int_equal(rows(f, "pgqueuer"), 0);
    assert_int_equal(ids[0], -1);
    for (size_t i = 0; i < MANY; i++)
        many[i].log_policy = PGQ_LOG_POLICY_FAILURES;
    expect_ok(enqueue_many(f, &err), &err);
    assert_int_equal(rows(f, "pgqueuer"), MANY);
}

static void without_the_schema_the_error_says_so(void **state)
{
    fixture *f = *state;
    pgq_error err;

    sql_run(f->db.sql, "ALTER TABLE pgqueuer RENAME TO elsewhere");
    expect_code(PGQ_E_SCHEMA_MISSING, enqueue_many(f, &err), &err);
    assert_non_null(strstr(err.hint, "pgqueuer install"));
    sql_run(f->db.sql, "ALTER TABLE elsewhere RENAME TO pgqueuer");
    expect_ok(enqueue_many(f, &err), &err);
}

static void where_row_security_forbids_copy_arrays_are_sent(void **state)
{
    fixture *f = *state;
    pgq_error err;

    sql_run(f->db.sql,
            "CREATE ROLE %s_only NOLOGIN; GRANT ALL ON pgqueuer, pgqueuer_log TO %s_only; GRANT "
            "ALL ON ALL SEQUENCES IN SCHEMA public TO %s_only; ALTER TABLE pgqueuer ENABLE ROW "
            "LEVEL SECURITY; CREATE POLICY all_of_it ON pgqueuer USING (true)",
            f->db.name, f->db.name, f->db.name);
    sql_run(f->db.sql, "ALTER DATABASE %s SET role = %s_only", f->db.name, f->db.name);
    (void)pgq_client_free(f->client);
    f->client = database_client(&f->db);
    expect_ok(enqueue_many(f, &err), &err);
    assert_int_equal(rows(f, "pgqueuer"), MANY);
    assert_int_equal(sql_number(f->db.sql, "SELECT id FROM pgqueuer ORDER BY id LIMIT 1"), ids[0]);
    sql_run(f->db.sql, "ALTER DATABASE %s RESET role; DROP OWNED BY %s_only; DROP ROLE %s_only",
            f->db.name, f->db.name, f->db.name);
}

static void a_connection_that_is_cut_has_done_nothing_and_the_next_call_connects(void **state)
{
    fixture *f = *state;
    pgq_error err;

    sql_run(f->db.sql,
            "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM "
            "pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'; CREATE TRIGGER cut AFTER "
            "INSERT ON pgqueuer_log FOR EACH STATEMENT EXECUTE FUNCTION cut()");
    expect_code(PGQ_E_CONNECTION_LOST, enqueue_many(f, &err), &err);
    assert_true(err.retryable);
    assert_int_equal(ids[0], -1);
    assert_int_equal(rows(f, "pgqueuer"), 0);
    sql_run(f->db.sql, "DROP TRIGGER cut ON pgqueuer_log");
    expect_ok(enqueue_many(f, &err), &err);
}

static void a_call_that_takes_too_long_has_done_nothing(void **state)
{
    fixture *f = *state;
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_client *hasty = NULL;
    pgq_error err = PGQ_ERROR_INIT;

    options.dsn = f->db.dsn;
    options.call_timeout_ms = 300;
    expect_ok(pgq_client_open(&options, &hasty, &err), &err);
    sql_run(f->db.sql, "BEGIN; LOCK TABLE pgqueuer");
    expect_code(PGQ_E_TIMEOUT,
                pgq_enqueue_batch(hasty, many, MANY, PGQ_ON_CONFLICT_RAISE, ids, &err), &err);
    sql_run(f->db.sql, "COMMIT");
    assert_true(sql_wait(f->db.sql, "0",
                         "SELECT count(*) FROM pg_locks WHERE relation = "
                         "'pgqueuer'::regclass AND pid <> pg_backend_pid()"));
    assert_int_equal(rows(f, "pgqueuer"), 0);
    (void)pgq_client_free(hasty);
}

/* ---- on the caller's connection ---- */

static pgq_code on(fixture *f, pgq_error *err)
{
    *err = (pgq_error)PGQ_ERROR_INIT;
    return pgq_enqueue_on(f->db.sql, NULL, many, MANY, PGQ_ON_CONFLICT_RAISE, ids, err);
}

static void the_callers_transaction_is_used_and_not_ended(void **state)
{
    fixture *f = *state;
    PGconn *other = PQconnectdb(f->db.dsn);
    pgq_error err;

    sql_run(f->db.sql, "BEGIN");
    expect_ok(on(f, &err), &err);
    assert_int_equal(PQtransactionStatus(f->db.sql), PQTRANS_INTRANS);
    assert_int_equal(sql_number(other, "SELECT count(*) FROM pgqueuer"), 0);
    sql_run(f->db.sql, "COMMIT");
    assert_int_equal(sql_number(other, "SELECT count(*) FROM pgqueuer"), MANY);
    assert_int_equal(sql_number(other, "SELECT min(id) FROM pgqueuer"), ids[0]);
    sql_run(f->db.sql, "BEGIN");
    expect_ok(on(f, &err), &err);
    sql_run(f->db.sql, "ROLLBACK");
    assert_int_equal(sql_number(other, "SELECT count(*) FROM pgqueuer_log"), MANY);
    PQfinish(other);
}

static void without_a_transaction_it_has_one_of_its_own(void **state)
{
    fixture *f = *state;
    pgq_error err;

    expect_ok(on(f, &err), &err);
    assert_int_equal(PQtransactionStatus(f->db.sql), PQTRANS_IDLE);
    many[5].dedupe_key = many[6].dedupe_key = "twice";
    expect_code(PGQ_E_DUPLICATE, on(f, &err), &err);
    assert_string_equal(err.where, "job 6 of the batch, counted from 0");
    assert_int_equal(PQtransactionStatus(f->db.sql), PQTRANS_IDLE);
    assert_int_equal(rows(f, "pgqueuer"), MANY);
    assert_int_equal(rows(f, "pgqueuer_log"), MANY);
}

static void a_duplicate_fails_the_callers_transaction_as_with_arrays(void **state)
{
    fixture *f = *state;
    pgq_error err;

    many[5].dedupe_key = many[6].dedupe_key = "twice";
    sql_run(f->db.sql, "BEGIN");
    expect_code(PGQ_E_DUPLICATE, on(f, &err), &err);
    assert_int_equal(PQtransactionStatus(f->db.sql), PQTRANS_INERROR);
    sql_run(f->db.sql, "ROLLBACK");
    assert_int_equal(PQpipelineStatus(f->db.sql), PQ_PIPELINE_OFF);
}

static void a_connection_that_does_not_block_is_good_too(void **state)
{
    fixture *f = *state;
    char *payload = repeat(4096);
    pgq_error err;

    for (size_t i = 0; i < MANY; i++)
        many[i].payload = (pgq_bytes){payload, 4096};
    assert_int_equal(PQsetnonblocking(f->db.sql, 1), 0);
    expect_ok(on(f, &err), &err);
    assert_int_equal(PQsetnonblocking(f->db.sql, 0), 0);
    assert_int_equal(sql_number(f->db.sql, "SELECT sum(length(payload)) FROM pgqueuer"),
                     MANY * 4096);
    free(payload);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, open_many, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_limit_decides_and_skip_never_copies),
        CASE(the_rows_are_those_of_the_arrays),
        CASE(ids_come_in_the_order_of_the_jobs),
        CASE(a_copy_notifies_once_as_an_insert_does),
        CASE(a_taken_key_in_the_middle_is_named_and_nothing_is_done),
        CASE(of_two_jobs_with_one_key_the_second_is_named),
        CASE(bad_jobs_are_named_before_anything_is_sent),
        CASE(a_log_that_cannot_be_written_undoes_the_queue),
        CASE(without_the_schema_the_error_says_so),
        CASE(where_row_security_forbids_copy_arrays_are_sent),
        CASE(a_connection_that_is_cut_has_done_nothing_and_the_next_call_connects),
        CASE(a_call_that_takes_too_long_has_done_nothing),
        CASE(the_callers_transaction_is_used_and_not_ended),
        CASE(without_a_transaction_it_has_one_of_its_own),
        CASE(a_duplicate_fails_the_callers_transaction_as_with_arrays),
        CASE(a_connection_that_does_not_block_is_good_too),
    };

    return server_start() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
