/* The producer on a real server. */
#include "calls.h"

static void every_member_of_a_job_arrives_and_its_id_comes_back(void **state)
{
    fixture *f = *state;
    pgq_new_job job = some_job();
    pgq_error err = PGQ_ERROR_INIT;
    int64_t id = -1;

    open_producer(f, (pgq_producer_options)PGQ_PRODUCER_OPTIONS_INIT);
    job.payload = (pgq_bytes){"\0\xFFpay", 5};
    job.headers = "{\"trace\": \"abc\"}";
    job.priority = -7;
    job.dedupe_key = "key";
    job.delay_ms = 1500;
    expect_ok(pgq_producer_enqueue(f->producer, &job, PGQ_ON_CONFLICT_RAISE, 0, &id, &err), &err);
    assert_string_equal(
        sql_text(f->db.sql,
                 "SELECT concat_ws('|', entrypoint, encode(payload, 'hex'), headers, priority, "
                 "execute_after - created, dedupe_key, status) FROM pgqueuer WHERE id = %lld",
                 (long long)id),
        "fetch|00ff706179|{\"trace\": \"abc\"}|-7|00:00:01.5|key|queued");
    assert_int_equal(sql_number(f->db.sql, "SELECT job_id FROM pgqueuer_log"), id);
}

static void calls_that_arrive_during_a_commit_travel_in_one_transaction(void **state)
{
    enum { COUNT = 33 };
    fixture *f = *state;
    call calls[COUNT];

    for (size_t i = 0; i < COUNT; i++)
        calls[i] = some_call(f);
    start_behind_one(f, calls, COUNT);
    let_go(f);
    end_calls(calls, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        expect_ok(calls[i].code, &calls[i].err);
        assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer WHERE id = %lld",
                                    (long long)calls[i].id),
                         1);
    }
    assert_int_equal(count_jobs(f, "true"), COUNT);
    assert_int_equal(sql_number(f->db.sql, "SELECT count(DISTINCT xmin::text) FROM pgqueuer"), 2);
}

static void a_taken_key_fails_its_own_call_and_no_other_of_the_group(void **state)
{
    enum { COUNT = 12 };
    fixture *f = *state;
    call calls[COUNT];
    size_t taken = 0;

    for (size_t i = 0; i < COUNT; i++) {
        calls[i] = some_call(f);
        /* one of two calls, one that is there already, and one that is left out */
        if (i == 3 || i == 4)
            calls[i].job.dedupe_key = "twice";
        if (i == 5 || i == 6)
            calls[i].job.dedupe_key = "there";
        if (i == 6)
            calls[i].on_conflict = PGQ_ON_CONFLICT_SKIP;
    }
    sql_run(f->db.sql, "INSERT INTO pgqueuer (priority, status, entrypoint, dedupe_key) "
                       "VALUES (0, 'queued', 'other', 'there')");
    start_behind_one(f, calls, COUNT);
    let_go(f);
    end_calls(calls, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        if (i == 5 || calls[i].code != PGQ_OK) {
            taken++;
            assert_true(i == 3 || i == 4 || i == 5);
            expect_code(PGQ_E_DUPLICATE, calls[i].code, &calls[i].err);
            assert_string_equal(calls[i].err.where, "pgqueuer_unique_dedupe_key");
            assert_string_equal(calls[i].err.sqlstate, "23505");
            assert_int_equal(calls[i].id, -1);
        } else {
            assert_true(i == 6 ? calls[i].id == 0 : calls[i].id > 0);
        }
    }
    assert_int_equal(taken, 2);
    assert_int_equal(count_jobs(f, "entrypoint = 'fetch'"), COUNT - 3);
    assert_int_equal(sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer_log"), COUNT - 3);
    assert_int_equal(
        sql_number(f->db.sql,
                   "SELECT count(DISTINCT xmin::text) FROM pgqueuer WHERE entrypoint = 'fetch'"),
        2);
}

static void a_key_whose_priority_is_raised_twice_at_once_has_the_higher_one(void **state)
{
    enum { COUNT = 6 };
    fixture *f = *state;
    call calls[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        calls[i] = some_call(f);
        calls[i].on_conflict = PGQ_ON_CONFLICT_UPDATE_PRIORITY;
        calls[i].job.dedupe_key = i > 0 ? "key" : "first";
        calls[i].job.priority = (int32_t)(i * 7 % COUNT);
    }
    start_behind_one(f, calls, COUNT);
    let_go(f);
    end_calls(calls, COUNT);
    for (size_t i = 1; i < COUNT; i++) {
        expect_ok(calls[i].code, &calls[i].err);
        assert_int_equal(calls[i].id, calls[1].id);
    }
    assert_int_equal(sql_number(f->db.sql, "SELECT priority FROM pgqueuer WHERE id = %lld",
                                (long long)calls[1].id),
                     5);
    assert_int_equal(count_jobs(f, "true"), 2);
    /* every row that was tried took an id: none was tried in vain */
    assert_int_equal(sql_number(f->db.sql, "SELECT last_value FROM pgqueuer_id_seq"), COUNT);
}

static void a_row_that_the_server_refuses_fails_alone_after_bounded_work(void **state)
{
    enum { COUNT = 64 };
    fixture *f = *state;
    static call calls[COUNT];

    sql_run(f->db.sql, "ALTER TABLE pgqueuer ADD CONSTRAINT no_bad CHECK (entrypoint <> 'bad')");
    for (size_t i = 0; i < COUNT; i++) {
        calls[i] = some_call(f);
        if (i == 20 || i == 41)
            calls[i].job.entrypoint = "bad";
    }
    start_behind_one(f, calls, COUNT);
    let_go(f);
    end_calls(calls, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        if (i == 20 || i == 41) {
            expect_code(PGQ_E_DATABASE, calls[i].code, &calls[i].err);
            assert_string_equal(calls[i].err.sqlstate, "23514");
        } else {
            expect_ok(calls[i].code, &calls[i].err);
        }
    }
    assert_int_equal(count_jobs(f, "true"), COUNT - 2);
    /* every row that was tried took an id */
    assert_in_range(sql_number(f->db.sql, "SELECT last_value FROM pgqueuer_id_seq"), COUNT,
                    6 * COUNT);
}

/* A trigger that refuses the first `times` statements by 40001. */
static void refuse_at_first(fixture *f, int times)
{
    sql_run(f->db.sql, "DROP TRIGGER IF EXISTS picky ON pgqueuer");
    sql_run(f->db.sql, "DROP SEQUENCE IF EXISTS tries");
    sql_run(f->db.sql, "CREATE SEQUENCE tries"); /* counts what is rolled back, too */
    sql_run(f->db.sql,
            "CREATE OR REPLACE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF nextval('tries') <= %d THEN RAISE SQLSTATE '40001'; END IF; RETURN NULL; END $$",
            times);
    sql_run(f->db.sql, "CREATE TRIGGER picky BEFORE INSERT ON pgqueuer EXECUTE FUNCTION picky()");
}

static void what_may_pass_is_tried_again_but_not_for_ever(void **state)
{
    fixture *f = *state;
    call c = some_call(f);

    open_producer(f, (pgq_producer_options)PGQ_PRODUCER_OPTIONS_INIT);
    refuse_at_first(f, 4);
    start_call(&c);
    end_call(&c);
    expect_ok(c.code, &c.err);
    refuse_at_first(f, 1000);
    c = some_call(f);
    start_call(&c);
    end_call(&c);
    expect_code(PGQ_E_DATABASE, c.code, &c.err);
    assert_string_equal(c.err.sqlstate, "40001");
    assert_int_equal(sql_number(f->db.sql, "SELECT last_value FROM tries"), 5);
    assert_int_equal(count_jobs(f, "true"), 1);
}

static void a_full_queue_is_an_error_when_the_callers_time_is_over(void **state)
{
    enum { COUNT = 3 };
    fixture *f = *state;
    call calls[COUNT], late = some_call(f);

    for (size_t i = 0; i < COUNT; i++)
        calls[i] = some_call(f);
    start_behind_one(f, calls, COUNT);
    late.timeout_ms = 150;
    start_call(&late);
    end_call(&late);
    expect_code(PGQ_E_BACKPRESSURE, late.code, &late.err);
    assert_true(late.err.retryable);
    assert_true(late.took_us >= 150 * 1000);
    assert_int_equal(late.id, -1);
    late = some_call(f); /* this one waits until there is room */
    start_call(&late);
    let_go(f);
    end_call(&late);
    expect_ok(late.code, &late.err);
    end_calls(calls, COUNT);
    assert_int_equal(count_jobs(f, "true"), COUNT + 1);
}

static void the_queues_bytes_are_bounded_too(void **state)
{
    fixture *f = *state;
    pgq_producer_options options = PGQ_PRODUCER_OPTIONS_INIT;
    call first = some_call(f), second = some_call(f);
    char payload[1000] = "";

    options.queue_bytes_max = sizeof(payload);
    open_producer(f, options);
    first.job.payload = (pgq_bytes){payload, sizeof(payload) - strlen("fetch")}; /* the limit */
    second.job.payload = (pgq_bytes){payload, sizeof(payload)};
    hold_up(f);
    start_call(&first);
    assert_true(sql_wait(f->db.sql, "1", blocked));
    start_call(&second);
    end_call(&second);
    expect_code(PGQ_E_LIMIT, second.code, &second.err);
    second = some_call(f);
    second.timeout_ms = 20;
    start_call(&second);
    end_call(&second);
    expect_code(PGQ_E_BACKPRESSURE, second.code, &second.err);
    let_go(f);
    end_call(&first);
    expect_ok(first.code, &first.err);
}

static void a_job_that_is_not_sent_in_time_is_not_there(void **state)
{
    fixture *f = *state;
    call first = some_call(f), second = some_call(f);

    open_producer(f, (pgq_producer_options)PGQ_PRODUCER_OPTIONS_INIT);
    second.timeout_ms = 50;
    hold_up(f);
    start_call(&first);
    assert_true(sql_wait(f->db.sql, "1", blocked));
    start_call(&second);
    end_call(&second);
    expect_code(PGQ_E_TIMEOUT, second.code, &second.err);
    assert_true(second.took_us >= 50 * 1000);
    let_go(f);
    end_call(&first);
    expect_ok(first.code, &first.err);
    assert_int_equal(count_jobs(f, "true"), 1);
}

static void a_server_that_is_silent_is_given_up_and_its_jobs_sent_again(void **state)
{
    fixture *f = *state;
    pgq_producer_options options = PGQ_PRODUCER_OPTIONS_INIT;
    call c = some_call(f);

    options.answer_timeout_ms = 200;
    open_producer(f, options);
    hold_up(f);
    start_call(&c);
    /* the second try waits as well, and a third one if the machine is slow */
    assert_true(sql_wait(f->db.sql, "t", "SELECT count(*) >= 2 FROM pg_locks WHERE NOT granted"));
    let_go(f);
    end_call(&c);
    expect_ok(c.code, &c.err);
    assert_true(sql_wait(f->db.sql, "0", blocked));
    assert_int_equal(count_jobs(f, "true"), 1);
}

static void a_session_that_is_terminated_costs_no_job_and_doubles_none(void **state)
{
    enum { COUNT = 9 };
    fixture *f = *state;
    call calls[COUNT];

    for (size_t i = 0; i < COUNT; i++)
        calls[i] = some_call(f);
    start_behind_one(f, calls, COUNT);
    sql_run(f->db.sql, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted");
    let_go(f);
    end_calls(calls, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        expect_ok(calls[i].code, &calls[i].err);
    assert_int_equal(count_jobs(f, "true"), COUNT);
}

static void without_a_connection_a_job_waits_as_long_as_it_may(void **state)
{
    fixture *f = *state;
    call c = some_call(f);

    open_producer(f, (pgq_producer_options)PGQ_PRODUCER_OPTIONS_INIT);
    sql_run(f->db.sql, "UPDATE pg_database SET datallowconn = false WHERE datname = '%s'",
            f->db.name);
    sql_run(f->db.sql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                       "WHERE application_name = 'pgqueuer'");
    c.timeout_ms = 2000;
    start_call(&c);
    end_call(&c);
    expect_code(PGQ_E_TIMEOUT, c.code, &c.err);
    assert_non_null(strstr(c.err.message, "not currently accepting connections"));
    c = some_call(f);
    start_call(&c);
    sql_run(f->db.sql, "UPDATE pg_database SET datallowconn = true WHERE datname = '%s'",
            f->db.name);
    end_call(&c);
    expect_ok(c.code, &c.err);
    assert_int_equal(count_jobs(f, "true"), 1);
}

static void a_missing_schema_is_said_to_every_caller(void **state)
{
    fixture *f = *state;
    call c = some_call(f);

    open_producer(f, (pgq_producer_options)PGQ_PRODUCER_OPTIONS_INIT);
    sql_run(f->db.sql, "ALTER TABLE pgqueuer RENAME TO elsewhere");
    start_call(&c);
    end_call(&c);
    expect_code(PGQ_E_SCHEMA_MISSING, c.code, &c.err);
    assert_non_null(strstr(c.err.hint, "pgqueuer install"));
    sql_run(f->db.sql, "ALTER TABLE elsewhere RENAME TO pgqueuer");
    start_call(&c);
    end_call(&c);
    expect_ok(c.code, &c.err);
}

/* What callbacks have said. */
typedef struct heard {
    size_t count, done;
    pgq_code last;
    int64_t ids;
} heard;

static void hear(pgq_code code, int64_t id, const pgq_error *err, void *user)
{
    heard *h = user;

    h->count++;
    h->done += code == PGQ_OK;
    h->ids += code == PGQ_OK ? id : 0;
    h->last = code;
    assert_true((code == PGQ_OK) == (err == NULL));
}

static void a_foreign_loop_hears_of_its_jobs_by_a_descriptor(void **state)
{
    enum { COUNT = 500 };
    fixture *f = *state;
    pgq_producer_options options = PGQ_PRODUCER_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    heard h = {.count = 0};

    options.queue_jobs_max = COUNT;
    open_producer(f, options);
    for (int i = 0; i < COUNT; i++) {
        char payload[16], entrypoint[16];
        pgq_new_job job = some_job();

        (void)snprintf(payload, sizeof(payload), "%d", i);
        (void)snprintf(entrypoint, sizeof(entrypoint), "e%d", i); /* gone after the call */
        job.entrypoint = entrypoint;
        job.payload = (pgq_bytes){payload, strlen(payload)};
        job.dedupe_key = i > 0 ? entrypoint : "e1";
        job.headers = "{}";
        expect_ok(pgq_producer_submit(f->producer, &job, PGQ_ON_CONFLICT_RAISE, 0, hear, &h, &err),
                  &err);
    }
    while (h.count < COUNT) {
        struct pollfd wait = {.fd = pgq_producer_fd(f->producer), .events = POLLIN};

        assert_int_equal(poll(&wait, 1, 10000), 1);
        assert_true(pgq_producer_process(f->producer) > 0);
    }
    assert_int_equal(pgq_producer_process(f->producer), 0);
    assert_int_equal(h.done, COUNT - 1); /* e1 was taken */
    assert_int_equal(h.ids, sql_number(f->db.sql, "SELECT sum(id) FROM pgqueuer"));
    assert_int_equal(count_jobs(f, "'e' || convert_from(payload, 'utf8') = entrypoint AND "
                                   "headers = '{}'"),
                     COUNT - 1);
}

static void a_submitted_job_counts_until_its_callback_was_called(void **state)
{
    fixture *f = *state;
    pgq_producer_options options = PGQ_PRODUCER_OPTIONS_INIT;
    struct pollfd wait = {.events = POLLIN};
    pgq_new_job job = some_job();
    pgq_error err = PGQ_ERROR_INIT;
    heard h = {.count = 0};

    options.queue_jobs_max = 1;
    open_producer(f, options);
    wait.fd = pgq_producer_fd(f->producer);
    assert_int_equal(poll(&wait, 1, 0), 0);
    expect_ok(pgq_producer_submit(f->producer, &job, PGQ_ON_CONFLICT_RAISE, 0, hear, &h, &err),
              &err);
    assert_int_equal(poll(&wait, 1, 10000), 1);
    expect_code(PGQ_E_BACKPRESSURE,
                pgq_producer_submit(f->producer, &job, PGQ_ON_CONFLICT_RAISE, 0, hear, &h, &err),
                &err);
    assert_int_equal(h.count, 0);
    assert_int_equal(pgq_producer_process(f->producer), 1);
    assert_int_equal(h.done, 1);
    err = (pgq_error)PGQ_ERROR_INIT;
    expect_ok(pgq_producer_submit(f->producer, &job, PGQ_ON_CONFLICT_RAISE, 0, hear, &h, &err),
              &err);
    expect_ok(pgq_producer_close(f->producer, CLOSE_MS, &err), &err);
    f->producer = NULL;
    assert_int_equal(h.done, 2); /* the last callback came with the close */
    assert_int_equal(count_jobs(f, "true"), 2);
}

static void a_close_sends_what_it_can_and_gives_back_the_rest(void **state)
{
    enum { COUNT = 4 };
    fixture *f = *state;
    call calls[COUNT], waits = some_call(f);
    pgq_error err = PGQ_ERROR_INIT;
    int64_t began_us;

    for (size_t i = 0; i < COUNT; i++)
        calls[i] = some_call(f);
    start_behind_one(f, calls, COUNT);
    start_call(&waits); /* for room */
    began_us = clock_monotonic_us();
    expect_code(PGQ_E_TIMEOUT, pgq_producer_close(f->producer, 200, &err), &err);
    f->producer = NULL;
    assert_true(clock_monotonic_us() - began_us >= 200 * 1000);
    assert_non_null(strstr(err.message, "4 jobs"));
    end_calls(calls, COUNT);
    end_call(&waits);
    expect_code(PGQ_E_STATE, waits.code, &waits.err);
    for (size_t i = 0; i < COUNT; i++)
        expect_code(PGQ_E_STATE, calls[i].code, &calls[i].err);
    let_go(f);
    assert_true(sql_wait(f->db.sql, "0", blocked));
    assert_int_equal(count_jobs(f, "true"), 0);
}

static void options_and_arguments_are_checked(void **state)
{
    fixture *f = *state;
    pgq_producer_options options[6];
    pgq_new_job job = some_job();
    pgq_error err = PGQ_ERROR_INIT;
    pgq_producer *none = NULL;

    for (size_t i = 0; i < UNIT_COUNT(options); i++)
        options[i] = (pgq_producer_options)PGQ_PRODUCER_OPTIONS_INIT;
    options[0].queue_jobs_max = 0;
    options[1].queue_jobs_max = PGQ_PRODUCER_JOBS_MAX + 1;
    options[2].queue_bytes_max = 0;
    options[3].queue_bytes_max = SIZE_MAX;
    options[4].timeout_ms = 0;
    options[5].answer_timeout_ms = PGQ_PRODUCER_TIMEOUT_MS_MAX + 1;
    for (size_t i = 0; i < UNIT_COUNT(options); i++)
        expect_code(PGQ_E_INVALID, pgq_producer_open(&options[i], &none, &err), &err);
    open_producer(f, (pgq_producer_options)PGQ_PRODUCER_OPTIONS_INIT);
    expect_code(PGQ_E_INVALID, pgq_producer_enqueue(f->producer, &job, 0, -1, NULL, &err), &err);
    expect_code(PGQ_E_INVALID, pgq_producer_submit(f->producer, &job, 0, 0, NULL, NULL, &err),
                &err);
    expect_code(PGQ_E_INVALID, pgq_producer_enqueue(f->producer, &job, 9, 0, NULL, &err), &err);
    job.headers = "[]";
    expect_code(PGQ_E_INVALID, pgq_producer_enqueue(f->producer, &job, 0, 0, NULL, &err), &err);
    expect_code(PGQ_E_INVALID, pgq_producer_close(f->producer, -1, &err), &err);
    assert_int_equal(count_jobs(f, "true"), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(every_member_of_a_job_arrives_and_its_id_comes_back),
        CASE(calls_that_arrive_during_a_commit_travel_in_one_transaction),
        CASE(a_taken_key_fails_its_own_call_and_no_other_of_the_group),
        CASE(a_key_whose_priority_is_raised_twice_at_once_has_the_higher_one),
        CASE(a_row_that_the_server_refuses_fails_alone_after_bounded_work),
        CASE(what_may_pass_is_tried_again_but_not_for_ever),
        CASE(a_full_queue_is_an_error_when_the_callers_time_is_over),
        CASE(the_queues_bytes_are_bounded_too),
        CASE(a_job_that_is_not_sent_in_time_is_not_there),
        CASE(a_server_that_is_silent_is_given_up_and_its_jobs_sent_again),
        CASE(a_session_that_is_terminated_costs_no_job_and_doubles_none),
        CASE(without_a_connection_a_job_waits_as_long_as_it_may),
        CASE(a_missing_schema_is_said_to_every_caller),
        CASE(a_foreign_loop_hears_of_its_jobs_by_a_descriptor),
        CASE(a_submitted_job_counts_until_its_callback_was_called),
        CASE(a_close_sends_what_it_can_and_gives_back_the_rest),
        CASE(options_and_arguments_are_checked),
    };

    return server_start() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
