/* Dedupe keys that somebody's open transaction holds: the call that wants one waits, and no other.
 */
#include "calls.h"

static void take_key(fixture *f)
{
    sql_run(f->lock, "BEGIN");
    sql_run(f->lock, "INSERT INTO pgqueuer (priority, status, entrypoint, dedupe_key) "
                     "VALUES (0, 'queued', 'other', 'held')");
}

static call call_for_key(fixture *f)
{
    call c = some_call(f);

    c.job.dedupe_key = "held";
    return c;
}

static void starts_and_waits(fixture *f, call *c)
{
    open_producer(f, (pgq_producer_options)PGQ_PRODUCER_OPTIONS_INIT);
    take_key(f);
    start_call(c);
    assert_true(sql_wait(f->db.sql, "1", blocked));
}

static void a_key_in_an_open_transaction_holds_up_no_other_call(void **state)
{
    enum { COUNT = 40 };
    fixture *f = *state;
    call held = call_for_key(f), calls[COUNT];

    starts_and_waits(f, &held);
    for (size_t i = 0; i < COUNT; i++) {
        calls[i] = some_call(f);
        if (i % 4 == 0) {
            (void)snprintf(calls[i].key, sizeof(calls[i].key), "own%zu", i);
            calls[i].job.dedupe_key = calls[i].key;
        }
        start_call(&calls[i]);
    }
    end_calls(calls, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        expect_ok(calls[i].code, &calls[i].err);
    sql_run(f->lock, "ROLLBACK");
    end_call(&held);
    expect_ok(held.code, &held.err);
    assert_int_equal(count_jobs(f, "true"), COUNT + 1);
}

static void a_key_that_is_committed_meanwhile_is_taken(void **state)
{
    fixture *f = *state;
    call held = call_for_key(f);

    starts_and_waits(f, &held);
    sql_run(f->lock, "COMMIT");
    end_call(&held);
    expect_code(PGQ_E_DUPLICATE, held.code, &held.err);
    assert_int_equal(count_jobs(f, "true"), 1);
}

static void a_key_that_was_waited_for_has_its_priority_raised(void **state)
{
    fixture *f = *state;
    call held = call_for_key(f), other = some_call(f);

    held.on_conflict = PGQ_ON_CONFLICT_UPDATE_PRIORITY;
    held.job.priority = 9;
    starts_and_waits(f, &held);
    start_call(&other); /* when it is there, the other one was put aside */
    end_call(&other);
    expect_ok(other.code, &other.err);
    sql_run(f->lock, "COMMIT");
    end_call(&held);
    expect_ok(held.code, &held.err);
    assert_true(held.id > 0);
    assert_int_equal(sql_number(f->db.sql, "SELECT id FROM pgqueuer WHERE priority = 9"), held.id);
    assert_int_equal(count_jobs(f, "dedupe_key = 'held'"), 1);
}

static void a_key_that_is_held_for_too_long_is_said_to_be(void **state)
{
    fixture *f = *state;
    call held = call_for_key(f);

    held.timeout_ms = 700;
    held.on_conflict = PGQ_ON_CONFLICT_UPDATE_PRIORITY;
    starts_and_waits(f, &held);
    end_call(&held);
    expect_code(PGQ_E_TIMEOUT, held.code, &held.err);
    assert_true(held.took_us >= 700 * 1000);
    assert_non_null(strstr(held.err.message, "holds its dedupe key"));
    sql_run(f->lock, "ROLLBACK");
    assert_int_equal(count_jobs(f, "true"), 0);
}

static void a_close_gives_back_what_waits_for_a_key(void **state)
{
    fixture *f = *state;
    call held = call_for_key(f), other = some_call(f);
    pgq_error err = PGQ_ERROR_INIT;

    starts_and_waits(f, &held);
    start_call(&other); /* when it is there, the other one was put aside */
    end_call(&other);
    expect_ok(other.code, &other.err);
    expect_code(PGQ_E_TIMEOUT, pgq_producer_close(f->producer, 300, &err), &err);
    f->producer = NULL;
    end_call(&held);
    expect_code(PGQ_E_STATE, held.code, &held.err);
    sql_run(f->lock, "ROLLBACK");
    assert_int_equal(count_jobs(f, "true"), 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_key_in_an_open_transaction_holds_up_no_other_call),
        CASE(a_key_that_is_committed_meanwhile_is_taken),
        CASE(a_key_that_was_waited_for_has_its_priority_raised),
        CASE(a_key_that_is_held_for_too_long_is_said_to_be),
        CASE(a_close_gives_back_what_waits_for_a_key),
    };

    return server_start() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
