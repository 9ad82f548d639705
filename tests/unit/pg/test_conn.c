/* A connection that is ready: pipelines, losses, deadlines, notifications, scripts. */
#include "unit.h"
#include "server.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "pg/conn.h"
#include "pg/names.h"

enum { DEADLINE_US = 20 * 1000 * 1000 };

typedef struct fixture {
    database db;
    target target;
    names names;
    statements *statements;
    pg_conn *conn;
} fixture;

static int64_t deadline(void)
{
    return clock_monotonic_us() + DEADLINE_US;
}

static int open_fixture(void **state)
{
    fixture *f = calloc(1, sizeof(*f));
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;

    assert_non_null(f);
    database_open(&f->db);
    options.dsn = f->db.dsn;
    expect_ok(target_parse(&options, &f->target, &err), &err);
    expect_ok(names_resolve(NULL, &f->names, &err), &err);
    expect_ok(statements_new(&f->names, &f->statements, &err), &err);
    assert_int_equal(pg_conn_new(&f->target, f->statements, &f->conn), PGQ_OK);
    expect_ok(pg_conn_open(f->conn, deadline(), &err), &err);
    *state = f;
    return 0;
}

static int close_fixture(void **state)
{
    fixture *f = *state;

    (void)pg_conn_free(f->conn);
    (void)statements_free(f->statements);
    names_release(&f->names);
    target_release(&f->target);
    database_close(&f->db);
    free(f);
    return 0;
}

/* Waits for the next reply as an event loop does. */
static void next_reply(pg_conn *conn, pg_reply *reply)
{
    int64_t end_us = deadline();

    for (;;) {
        struct pollfd wait;

        pg_conn_next(conn, reply);
        if (reply->kind != PG_REPLY_NONE)
            return;
        assert_true(clock_monotonic_us() < end_us);
        wait = (struct pollfd){.fd = pg_conn_fd(conn), .events = pg_conn_events(conn)};
        (void)poll(&wait, 1, clock_poll_ms(clock_monotonic_us(), end_us));
        (void)pg_conn_process(conn, clock_monotonic_us());
    }
}

static void expect_reply(pg_conn *conn, pg_reply_kind kind)
{
    pg_reply reply;

    next_reply(conn, &reply);
    if (reply.kind != kind)
        fail_msg("reply %d, not %d: %s", (int)reply.kind, (int)kind, reply.error.message);
    result_release(&reply.result);
}

static void expect_number(pg_conn *conn, int32_t number)
{
    pg_reply reply;

    next_reply(conn, &reply);
    assert_int_equal(reply.kind, PG_REPLY_ROWS);
    assert_int_equal(result_int4(&reply.result, 0, 0), number);
    result_release(&reply.result);
}

static void send_sql(pg_conn *conn, const char *sql)
{
    assert_int_equal(pg_conn_send_sql(conn, sql), PGQ_OK);
}

static void send_sync(pg_conn *conn)
{
    assert_int_equal(pg_conn_sync(conn), PGQ_OK);
}

static int32_t backend_pid(fixture *f)
{
    pg_result r = PG_RESULT_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    int32_t pid;

    expect_ok(pg_conn_call_sql(f->conn, "SELECT pg_catalog.pg_backend_pid()", deadline(), &r, &err),
              &err);
    pid = result_int4(&r, 0, 0);
    result_release(&r);
    return pid;
}

static void check_usable(fixture *f)
{
    assert_true(backend_pid(f) > 0);
}

static void replies_come_in_the_order_of_sending(void **state)
{
    fixture *f = *state;

    for (int i = 0; i < 300; i++) {
        char sql[32];

        (void)snprintf(sql, sizeof(sql), "SELECT %d", i);
        send_sql(f->conn, sql);
        if (i % 3 == 2)
            send_sync(f->conn);
    }
    for (int i = 0; i < 300; i++) {
        expect_number(f->conn, i);
        if (i % 3 == 2)
            expect_reply(f->conn, PG_REPLY_SYNC);
    }
    check_usable(f);
}

static void an_error_skips_the_rest_of_its_unit_and_nothing_else(void **state)
{
    fixture *f = *state;
    pg_reply reply;

    send_sql(f->conn, "SELECT 1");
    send_sql(f->conn, "SELECT 1/0");
    send_sql(f->conn, "SELECT 3");
    send_sql(f->conn, "SELECT 4");
    send_sync(f->conn);
    send_sql(f->conn, "SELECT 5");
    send_sync(f->conn);
    expect_number(f->conn, 1);
    next_reply(f->conn, &reply);
    assert_int_equal(reply.kind, PG_REPLY_ERROR);
    assert_string_equal(reply.error.sqlstate, "22012");
    expect_reply(f->conn, PG_REPLY_SKIPPED);
    expect_reply(f->conn, PG_REPLY_SKIPPED);
    expect_reply(f->conn, PG_REPLY_SYNC);
    expect_number(f->conn, 5);
    expect_reply(f->conn, PG_REPLY_SYNC);
    check_usable(f);
}

static void a_commit_that_fails_is_an_error_before_the_sync(void **state)
{
    fixture *f = *state;
    pg_reply reply;
    pgq_error err = PGQ_ERROR_INIT;

    sql_run(f->db.sql, "CREATE TABLE t (a int CONSTRAINT late UNIQUE DEFERRABLE INITIALLY "
                       "DEFERRED)");
    send_sql(f->conn, "INSERT INTO t VALUES (1), (1)");
    send_sync(f->conn);
    expect_reply(f->conn, PG_REPLY_ROWS);
    next_reply(f->conn, &reply);
    assert_int_equal(reply.kind, PG_REPLY_ERROR);
    assert_string_equal(reply.error.sqlstate, "23505");
    assert_string_equal(reply.constraint, "late");
    expect_reply(f->conn, PG_REPLY_SYNC);
    expect_code(PGQ_E_DUPLICATE,
                pg_conn_call_sql(f->conn, "INSERT INTO t VALUES (2), (2)", deadline(), NULL, &err),
                &err);
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM t"), 0);
    check_usable(f);
}

/* The parameters of STATEMENT_PROBE, for no entrypoint. */
static void fill_probe(params *p)
{
    param_array_begin(p, PG_OID_TEXT, 0);
    param_array_end(p);
    param_array_begin(p, PG_OID_INT8, 0);
    param_array_end(p);
    param_bool(p, false);
}

static void a_statement_that_cannot_be_prepared_fails_and_can_be_tried_again(void **state)
{
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;
    params p = PARAMS_INIT;

    sql_run(f->db.sql, "ALTER TABLE pgqueuer RENAME TO elsewhere");
    fill_probe(&p);
    for (int i = 0; i < 2; i++) {
        expect_code(PGQ_E_SCHEMA_MISSING,
                    pg_conn_call(f->conn, STATEMENT_PROBE, &p, deadline(), NULL, NULL, &err), &err);
        assert_string_equal(err.where, "probe");
    }
    sql_run(f->db.sql, "ALTER TABLE elsewhere RENAME TO pgqueuer");
    for (int i = 0; i < 2; i++)
        expect_ok(pg_conn_call(f->conn, STATEMENT_PROBE, &p, deadline(), NULL, NULL, &err), &err);
    params_release(&p);
}

static void a_failed_prepare_is_the_failure_of_its_statement_alone(void **state)
{
    fixture *f = *state;
    params p = PARAMS_INIT;
    pg_reply reply;

    sql_run(f->db.sql, "ALTER TABLE pgqueuer RENAME TO elsewhere");
    fill_probe(&p);
    send_sql(f->conn, "SELECT 1");
    assert_int_equal(pg_conn_send(f->conn, STATEMENT_PROBE, &p), PGQ_OK);
    send_sql(f->conn, "SELECT 2");
    send_sync(f->conn);
    expect_number(f->conn, 1);
    next_reply(f->conn, &reply);
    assert_int_equal(reply.kind, PG_REPLY_ERROR);
    assert_string_equal(reply.error.sqlstate, "42P01");
    expect_reply(f->conn, PG_REPLY_SKIPPED);
    expect_reply(f->conn, PG_REPLY_SYNC);
    params_release(&p);
}

static void a_session_that_is_ended_while_idle_is_told_once(void **state)
{
    fixture *f = *state;
    pg_reply reply;
    int32_t pid = backend_pid(f);

    sql_run(f->db.sql, "SELECT pg_terminate_backend(%d)", pid);
    next_reply(f->conn, &reply);
    assert_int_equal(reply.kind, PG_REPLY_LOST);
    assert_int_equal(reply.error.code, PGQ_E_CONNECTION_LOST);
    assert_string_equal(reply.error.sqlstate, "57P01");
    assert_true(reply.error.retryable);
    assert_int_equal(pg_conn_state(f->conn), PG_BROKEN);
    assert_int_equal(pg_conn_error(f->conn)->code, PGQ_E_CONNECTION_LOST);
    assert_int_equal(pg_conn_fd(f->conn), -1);
    pg_conn_next(f->conn, &reply);
    assert_int_equal(reply.kind, PG_REPLY_NONE);
    assert_int_equal(pg_conn_send_sql(f->conn, "SELECT 1"), PGQ_E_STATE);
    assert_int_equal(pg_conn_sync(f->conn), PGQ_E_STATE);
}

static void a_session_that_is_ended_in_a_call_says_what_the_server_said(void **state)
{
    fixture *f = *state;
    pg_reply reply;
    int32_t pid = backend_pid(f);

    send_sql(f->conn, "SELECT 1");
    send_sync(f->conn);
    send_sql(f->conn, "SELECT pg_sleep(600)");
    send_sync(f->conn);
    expect_number(f->conn, 1); /* what had arrived is not lost with the connection */
    expect_reply(f->conn, PG_REPLY_SYNC);
    assert_true(sql_wait(f->db.sql, "1",
                         "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' "
                         "AND pid <> pg_backend_pid() AND state = 'active'"));
    sql_run(f->db.sql, "SELECT pg_terminate_backend(%d)", pid);
    next_reply(f->conn, &reply);
    assert_int_equal(reply.kind, PG_REPLY_LOST);
    assert_int_equal(reply.error.code, PGQ_E_CONNECTION_LOST);
    assert_string_equal(reply.error.sqlstate, "57P01");
    assert_non_null(strstr(reply.error.message, "administrator"));
}

static void *terminate_sleeper(void *argument)
{
    PGconn *conn = PQconnectdb(argument);

    if (sql_wait(conn, "1",
                 "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(500)%' "
                 "AND state = 'active'"))
        sql_run(conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                      "WHERE query LIKE 'SELECT pg_sleep(500)%%'");
    PQfinish(conn);
    return NULL;
}

static void a_blocking_call_whose_session_ends_has_an_unknown_outcome(void **state)
{
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, terminate_sleeper, f->db.dsn), 0);
    expect_code(PGQ_E_OUTCOME_UNKNOWN,
                pg_conn_call_sql(f->conn, "SELECT pg_sleep(500)", deadline(), NULL, &err), &err);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pg_conn_state(f->conn), PG_BROKEN);
    expect_ok(pg_conn_open(f->conn, deadline(), &err), &err);
    check_usable(f);
}

static void a_call_ends_at_its_deadline_and_the_next_one_connects_again(void **state)
{
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;
    int64_t before_us = clock_monotonic_us();

    expect_code(PGQ_E_TIMEOUT,
                pg_conn_call_sql(f->conn, "SELECT pg_sleep(600)", before_us + 100000, NULL, &err),
                &err);
    assert_in_range(clock_monotonic_us() - before_us, 100000, 5 * 1000 * 1000);
    assert_int_equal(pg_conn_state(f->conn), PG_DOWN);
    expect_ok(pg_conn_open(f->conn, deadline(), &err), &err);
    check_usable(f);
}

static void opening_a_connection_that_died_unnoticed_makes_a_new_one(void **state)
{
    fixture *f = *state;
    struct pollfd wait = {.fd = pg_conn_fd(f->conn), .events = POLLIN};
    pgq_error err = PGQ_ERROR_INIT;
    int32_t pid = backend_pid(f);

    sql_run(f->db.sql, "SELECT pg_terminate_backend(%d)", pid);
    assert_int_equal(poll(&wait, 1, 20000), 1); /* the last words, or the end */
    expect_ok(pg_conn_open(f->conn, deadline(), &err), &err);
    assert_true(backend_pid(f) != pid);
}

static void a_socket_that_breaks_is_a_lost_connection(void **state)
{
    fixture *f = *state;
    pg_reply reply;

    send_sql(f->conn, "SELECT pg_sleep(600)");
    send_sync(f->conn);
    assert_int_equal(shutdown(pg_conn_fd(f->conn), SHUT_RDWR), 0);
    next_reply(f->conn, &reply);
    assert_int_equal(reply.kind, PG_REPLY_LOST);
    assert_true(reply.error.message[0] != '\0');
}

static void more_than_the_sockets_hold_flows_without_a_deadlock(void **state)
{
    enum { UNITS = 400, BYTES = 20000 };
    fixture *f = *state;
    char *sql = malloc(BYTES + 64);
    int64_t end_us = deadline();
    pg_reply reply;

    assert_non_null(sql);
    (void)snprintf(sql, BYTES + 64, "SELECT '%0*d'", BYTES, 7);
    for (int i = 0; i < UNITS; i++) {
        send_sql(f->conn, sql);
        send_sync(f->conn);
        assert_true(clock_monotonic_us() < end_us); /* the sends never block */
    }
    for (int i = 0; i < UNITS; i++) {
        next_reply(f->conn, &reply);
        assert_int_equal(reply.kind, PG_REPLY_ROWS);
        assert_int_equal(result_bytes(&reply.result, 0, 0).len, BYTES);
        result_release(&reply.result);
        expect_reply(f->conn, PG_REPLY_SYNC);
    }
    free(sql);
}

static void a_copy_is_refused_as_a_broken_connection(void **state)
{
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;

    expect_code(PGQ_E_OUTCOME_UNKNOWN,
                pg_conn_call_sql(f->conn, "COPY (SELECT 1) TO STDOUT", deadline(), NULL, &err),
                &err);
    expect_ok(pg_conn_open(f->conn, deadline(), &err), &err);
    check_usable(f);
}

static void parameters_that_do_not_fit_the_statement_are_refused(void **state)
{
    fixture *f = *state;
    params p = PARAMS_INIT;

    assert_int_equal(pg_conn_send(f->conn, STATEMENT_PROBE, NULL), PGQ_E_STATE);
    param_null(&p);
    assert_int_equal(pg_conn_send(f->conn, STATEMENT_PROBE, &p), PGQ_E_STATE);
    params_clear(&p);
    param_null(&p);
    param_null(&p);
    param_null(&p);
    p.data.broken = true;
    assert_int_equal(pg_conn_send(f->conn, STATEMENT_PROBE, &p), PGQ_E_NOMEM);
    params_release(&p);
    check_usable(f);
}

static void wait_notification(pg_conn *conn, const char **channel, const char **payload)
{
    int64_t end_us = deadline();

    while (!pg_conn_notification(conn, channel, payload)) {
        struct pollfd wait = {.fd = pg_conn_fd(conn), .events = pg_conn_events(conn)};

        assert_true(clock_monotonic_us() < end_us);
        (void)poll(&wait, 1, 1000);
        (void)pg_conn_process(conn, clock_monotonic_us());
    }
}

static void notifications_come_with_channel_and_payload_in_order(void **state)
{
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;
    const char *channel, *payload;

    expect_ok(pg_conn_call(f->conn, STATEMENT_LISTEN, NULL, deadline(), NULL, NULL, &err), &err);
    assert_false(pg_conn_notification(f->conn, &channel, &payload));
    sql_run(f->db.sql, "NOTIFY ch_pgqueuer, 'one'; NOTIFY ch_pgqueuer, 'two'; NOTIFY ch_pgqueuer");
    wait_notification(f->conn, &channel, &payload);
    assert_string_equal(channel, "ch_pgqueuer");
    assert_string_equal(payload, "one");
    wait_notification(f->conn, &channel, &payload);
    assert_string_equal(payload, "two");
    wait_notification(f->conn, &channel, &payload);
    assert_string_equal(payload, "");
    /* and between the replies of a pipeline */
    sql_run(f->db.sql, "SELECT pg_notify('ch_pgqueuer', repeat('x', 7999))");
    check_usable(f);
    wait_notification(f->conn, &channel, &payload);
    assert_int_equal(strlen(payload), 7999);
}

static void a_script_that_fails_leaves_nothing_and_a_usable_connection(void **state)
{
    static const char *const sqls[] = {
        "CREATE TABLE one ()", "INSERT INTO no_such_table VALUES (1)", "CREATE TABLE two ()"};
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;

    expect_code(PGQ_E_SCHEMA_MISSING,
                pg_conn_run_script(f->conn, sqls, UNIT_COUNT(sqls), deadline(), &err), &err);
    assert_string_equal(err.sqlstate, "42P01");
    assert_int_equal(
        sql_number(f->db.sql, "SELECT count(*) FROM pg_class WHERE relname IN ('one', 'two')"), 0);
    check_usable(f);
    assert_string_equal(sql_text(f->db.sql,
                                 "SELECT string_agg(state, ',') FROM pg_stat_activity "
                                 "WHERE pid = %d",
                                 backend_pid(f)),
                        "idle");
}

static void a_script_that_succeeds_is_committed(void **state)
{
    static const char *const sqls[] = {"CREATE TABLE one (a int)", "INSERT INTO one VALUES (1)"};
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;

    expect_ok(pg_conn_run_script(f->conn, sqls, UNIT_COUNT(sqls), deadline(), &err), &err);
    assert_int_equal(sql_number(f->db.sql, "SELECT a FROM one"), 1);
    expect_ok(pg_conn_run_script(f->conn, NULL, 0, deadline(), &err), &err);
    check_usable(f);
}

static void a_script_whose_commit_fails_is_rolled_back_and_says_so(void **state)
{
    static const char *const sqls[] = {"INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)"};
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;

    sql_run(f->db.sql, "CREATE TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)");
    expect_code(PGQ_E_DUPLICATE,
                pg_conn_run_script(f->conn, sqls, UNIT_COUNT(sqls), deadline(), &err), &err);
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM t"), 0);
    check_usable(f);
}

static void a_script_is_one_transaction_even_if_it_waits_long(void **state)
{
    static const char *const sqls[] = {"CREATE TABLE one ()", "SELECT pg_sleep(600)"};
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;

    expect_code(
        PGQ_E_TIMEOUT,
        pg_conn_run_script(f->conn, sqls, UNIT_COUNT(sqls), clock_monotonic_us() + 200000, &err),
        &err);
    sql_run(f->db.sql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                       "WHERE query LIKE 'SELECT pg_sleep%%' AND datname = current_database()");
    assert_true(sql_wait(f->db.sql, "0", "SELECT count(*) FROM pg_class WHERE relname = 'one'"));
}

/* As pg_settings has it, in a session that begins now; the first reply is that of the first
 * question. */
static void check_plans(fixture *f, const char *mode)
{
    pg_result r = PG_RESULT_INIT;
    pgq_error err = PGQ_ERROR_INIT;

    pg_conn_close(f->conn);
    expect_ok(pg_conn_open(f->conn, deadline(), &err), &err);
    send_sql(f->conn, "SELECT 1");
    send_sync(f->conn);
    expect_number(f->conn, 1);
    expect_reply(f->conn, PG_REPLY_SYNC);
    expect_ok(pg_conn_call_sql(f->conn, "SHOW plan_cache_mode", deadline(), &r, &err), &err);
    assert_string_equal(result_text(&r, 0, 0), mode);
    result_release(&r);
    check_usable(f);
}

static void plans_are_kept_in_each_session_of_a_connection_that_asks_for_it(void **state)
{
    fixture *f = *state;

    check_plans(f, "auto");
    pg_conn_fix_plans(f->conn);
    check_plans(f, "force_generic_plan");
    check_plans(f, "force_generic_plan");
}

/* What sessions of the database that begin now think pg_backend_pid() is. */
static void replace_process(fixture *f, const char *body)
{
    sql_run(f->db.sql,
            "CREATE FUNCTION pg_backend_pid() RETURNS int LANGUAGE plpgsql AS $$ BEGIN %s; END $$",
            body);
    sql_run(f->db.sql, "ALTER DATABASE %s SET search_path = public, pg_catalog", f->db.name);
    pg_conn_fix_plans(f->conn);
}

static void a_session_that_another_process_serves_than_it_seems_keeps_no_plans(void **state)
{
    replace_process(*state, "RETURN 1");
    check_plans(*state, "auto");
}

static void nobody_hears_that_plans_cannot_be_kept(void **state)
{
    replace_process(*state, "RAISE 'no'");
    check_plans(*state, "auto");
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(replies_come_in_the_order_of_sending),
        CASE(an_error_skips_the_rest_of_its_unit_and_nothing_else),
        CASE(a_commit_that_fails_is_an_error_before_the_sync),
        CASE(a_statement_that_cannot_be_prepared_fails_and_can_be_tried_again),
        CASE(a_failed_prepare_is_the_failure_of_its_statement_alone),
        CASE(a_session_that_is_ended_while_idle_is_told_once),
        CASE(a_session_that_is_ended_in_a_call_says_what_the_server_said),
        CASE(a_blocking_call_whose_session_ends_has_an_unknown_outcome),
        CASE(a_call_ends_at_its_deadline_and_the_next_one_connects_again),
        CASE(opening_a_connection_that_died_unnoticed_makes_a_new_one),
        CASE(a_socket_that_breaks_is_a_lost_connection),
        CASE(more_than_the_sockets_hold_flows_without_a_deadlock),
        CASE(a_copy_is_refused_as_a_broken_connection),
        CASE(parameters_that_do_not_fit_the_statement_are_refused),
        CASE(notifications_come_with_channel_and_payload_in_order),
        CASE(a_script_that_fails_leaves_nothing_and_a_usable_connection),
        CASE(a_script_that_succeeds_is_committed),
        CASE(a_script_whose_commit_fails_is_rolled_back_and_says_so),
        CASE(a_script_is_one_transaction_even_if_it_waits_long),
        CASE(plans_are_kept_in_each_session_of_a_connection_that_asks_for_it),
        CASE(a_session_that_another_process_serves_than_it_seems_keeps_no_plans),
        CASE(nobody_hears_that_plans_cannot_be_kept),
    };

    return server_start() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
