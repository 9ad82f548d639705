#include "unit.h"
#include "server.h"

#include <stdlib.h>
#include <string.h>

#include <pgqueuer/supervise.h>

#define DEAD "11111111-1111-4111-8111-111111111111"
#define OWN "22222222-2222-4222-8222-222222222222"
#define OTHER "33333333-3333-4333-8333-333333333333"

/* Four jobs that the dead worker has picked a minute ago, each with a seat: ids 1 to 4. And one
 * that another worker has: id 5. */
static void pick_some(const database *d)
{
    sql_run(
        d->sql,
        "INSERT INTO pgqueuer (id, priority, entrypoint, status, queue_manager_id, slot, attempts,"
        " updated, heartbeat)"
        " SELECT i, i, 'e' || i, 'picked', CASE WHEN i < 5 THEN '" DEAD "' ELSE '" OTHER
        "' END::uuid, i, 2, now() - interval '1 minute', now() - interval '1 minute'"
        " FROM generate_series(1, 5) AS i");
}

static long long count(const database *d, const char *where)
{
    return sql_number(d->sql, "SELECT count(*) FROM pgqueuer WHERE %s", where);
}

static void suspects_change_hands_and_the_rest_goes_back(void **state)
{
    database *d = *state;
    pgq_client *client = database_client(d);
    const int64_t ids[] = {3, 99, 1, 5};
    bool taken[4] = {false, true, false, true};
    pgq_error err = PGQ_ERROR_INIT;

    pick_some(d);
    expect_ok(pgq_suspects_take(client, DEAD, OWN, ids, 4, taken, &err), &err);
    assert_true(taken[0] && taken[2]);
    assert_false(taken[1] || taken[3]); /* gone, and another worker's */
    assert_int_equal(count(d, "queue_manager_id = '" OWN "' AND status = 'picked' AND slot = id"
                              " AND id IN (1, 3) AND attempts = 2 AND updated > now() - interval "
                              "'30 s' AND heartbeat > now() - interval '30 s'"),
                     2);
    assert_int_equal(count(d, "queue_manager_id IS NULL AND status = 'queued' AND slot IS NULL"
                              " AND id IN (2, 4) AND attempts = 2"),
                     2);
    assert_int_equal(count(d, "queue_manager_id = '" OTHER "' AND status = 'picked' AND slot = 5"),
                     1);
    assert_string_equal(sql_text(d->sql, "SELECT string_agg(job_id || status::text || priority || "
                                         "entrypoint, ' ' ORDER BY job_id) FROM pgqueuer_log"),
                        "1picked1e1 2queued2e2 3picked3e3 4queued4e4");
    (void)pgq_client_free(client);
}

/* What the reply to the first call would have said may be lost with its connection. */
static void a_second_call_says_the_same_and_does_nothing(void **state)
{
    database *d = *state;
    pgq_client *client = database_client(d);
    const int64_t ids[] = {1, 3};
    bool taken[2] = {false, false};
    pgq_error err = PGQ_ERROR_INIT;
    long long logged;

    pick_some(d);
    expect_ok(pgq_suspects_take(client, DEAD, OWN, ids, 2, taken, &err), &err);
    logged = sql_number(d->sql, "SELECT count(*) FROM pgqueuer_log");
    memset(taken, 0, sizeof(taken));
    expect_ok(pgq_suspects_take(client, DEAD, OWN, ids, 2, taken, &err), &err);
    assert_true(taken[0] && taken[1]);
    assert_int_equal(sql_number(d->sql, "SELECT count(*) FROM pgqueuer_log"), logged);
    (void)pgq_client_free(client);
}

static void idle_workers_are_woken_for_what_goes_back(void **state)
{
    database *d = *state;
    pgq_client *client = database_client(d);
    const int64_t ids[] = {1};
    bool taken[1];
    pgq_error err = PGQ_ERROR_INIT;
    PGnotify *told;

    pick_some(d);
    sql_run(d->sql, "LISTEN ch_pgqueuer");
    expect_ok(pgq_suspects_take(client, DEAD, OWN, ids, 1, taken, &err), &err);
    sql_run(d->sql, "SELECT 1");
    told = PQnotifies(d->sql);
    assert_non_null(told);
    assert_non_null(strstr(told->extra, "table_changed_event"));
    assert_non_null(strstr(told->extra, "update"));
    PQfreemem(told);
    assert_null(PQnotifies(d->sql));
    (void)pgq_client_free(client);
}

static void a_beat_renews_what_is_picked_under_the_id_alone(void **state)
{
    database *d = *state;
    pgq_client *client = database_client(d);
    pgq_error err = PGQ_ERROR_INIT;

    pick_some(d);
    sql_run(d->sql, "UPDATE pgqueuer SET queue_manager_id = '" OWN "' WHERE id < 3");
    expect_ok(pgq_suspects_beat(client, OWN, &err), &err);
    assert_int_equal(count(d, "heartbeat > now() - interval '30 s' AND id < 3"
                              " AND updated < now() - interval '30 s'"),
                     2);
    assert_int_equal(count(d, "heartbeat > now() - interval '30 s'"), 2);
    (void)pgq_client_free(client);
}

static void a_killer_is_held_with_its_reason(void **state)
{
    database *d = *state;
    pgq_client *client = database_client(d);
    pgq_error err = PGQ_ERROR_INIT;
    bool held = false;

    pick_some(d);
    sql_run(d->sql, "UPDATE pgqueuer SET queue_manager_id = '" OWN "' WHERE id < 3");
    expect_ok(
        pgq_suspect_hold(client, OWN, 2, "WorkerCrashed", "signal \"11\"\n\xFF", 3, &held, &err),
        &err);
    assert_true(held);
    assert_int_equal(count(d, "id = 2 AND status = 'failed' AND queue_manager_id IS NULL"
                              " AND slot IS NULL AND attempts = 2"),
                     1);
    assert_int_equal(count(d, "status = 'picked'"), 4);
    assert_string_equal(
        sql_text(d->sql,
                 "SELECT (traceback - 'timestamp' - 'traceback')::text FROM pgqueuer_log"
                 " WHERE job_id = 2 AND status = 'failed' AND priority = 2 AND entrypoint = "
                 "'e2' AND traceback ?& '{timestamp,traceback}'"),
        "{\"job_id\": 2, \"exception_type\": \"WorkerCrashed\", \"exception_message\": "
        "\"signal \\\"11\\\"\\n\xEF\xBF\xBD\", \"additional_context\": {\"deaths\": 3, "
        "\"entrypoint\": \"e2\", \"queue_manager_id\": \"" OWN "\"}}");
    assert_int_equal(sql_number(d->sql, "SELECT count(*) FROM pgqueuer_log"), 1);
    (void)pgq_client_free(client);
}

static void what_is_not_picked_under_the_id_is_not_held(void **state)
{
    database *d = *state;
    pgq_client *client = database_client(d);
    pgq_error err = PGQ_ERROR_INIT;
    bool held = true;

    pick_some(d);
    sql_run(d->sql,
            "UPDATE pgqueuer SET queue_manager_id = '" OWN "', status = 'queued' WHERE id = 1");
    expect_ok(pgq_suspect_hold(client, OWN, 1, "T", "m", 1, &held, &err), &err);
    assert_false(held);
    held = true;
    expect_ok(pgq_suspect_hold(client, OWN, 5, "T", "m", 1, &held, &err), &err);
    assert_false(held);
    assert_int_equal(count(d, "status = 'failed'"), 0);
    assert_int_equal(sql_number(d->sql, "SELECT count(*) FROM pgqueuer_log"), 0);
    (void)pgq_client_free(client);
}

static void everything_under_an_id_can_be_given_back(void **state)
{
    database *d = *state;
    pgq_client *client = database_client(d);
    pgq_error err = PGQ_ERROR_INIT;

    pick_some(d);
    expect_ok(pgq_suspects_release(client, DEAD, &err), &err);
    assert_int_equal(count(d, "status = 'queued' AND queue_manager_id IS NULL AND slot IS NULL"),
                     4);
    assert_int_equal(count(d, "status = 'picked' AND queue_manager_id = '" OTHER "'"), 1);
    (void)pgq_client_free(client);
}

static void ids_that_are_none_and_too_many_suspects_are_refused(void **state)
{
    database *d = *state;
    pgq_client *client = database_client(d);
    int64_t *ids = calloc(PGQ_SUSPECTS_MAX + 1, sizeof(*ids));
    bool *taken = calloc(PGQ_SUSPECTS_MAX + 1, sizeof(*taken)), held;
    pgq_error err = PGQ_ERROR_INIT;

    assert_non_null(ids);
    assert_non_null(taken);
    for (size_t i = 0; i <= PGQ_SUSPECTS_MAX; i++)
        ids[i] = (int64_t)i + 1;
    expect_code(PGQ_E_INVALID, pgq_suspects_take(client, "x", OWN, ids, 1, taken, &err), &err);
    expect_code(PGQ_E_INVALID, pgq_suspects_take(client, DEAD, NULL, ids, 1, taken, &err), &err);
    expect_code(PGQ_E_INVALID, pgq_suspects_beat(client, "", &err), &err);
    expect_code(PGQ_E_INVALID, pgq_suspects_release(client, DEAD "0", &err), &err);
    expect_code(PGQ_E_INVALID, pgq_suspect_hold(client, "x", 1, "T", "m", 1, &held, &err), &err);
    expect_code(PGQ_E_LIMIT,
                pgq_suspects_take(client, DEAD, OWN, ids, PGQ_SUSPECTS_MAX + 1, taken, &err), &err);
    pick_some(d);
    expect_ok(pgq_suspects_take(client, DEAD, OWN, ids, PGQ_SUSPECTS_MAX, taken, &err), &err);
    assert_true(taken[0] && taken[1] && taken[2] && taken[3]);
    assert_false(taken[4]);
    free(ids);
    free(taken);
    (void)pgq_client_free(client);
}

static void no_suspects_at_all_still_give_the_rest_back(void **state)
{
    database *d = *state;
    pgq_client *client = database_client(d);
    pgq_error err = PGQ_ERROR_INIT;

    pick_some(d);
    expect_ok(pgq_suspects_take(client, DEAD, OWN, NULL, 0, NULL, &err), &err);
    assert_int_equal(count(d, "status = 'queued'"), 4);
    (void)pgq_client_free(client);
}

#define SUSPECT_TEST(name) cmocka_unit_test_setup_teardown(name, database_setup, database_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SUSPECT_TEST(suspects_change_hands_and_the_rest_goes_back),
        SUSPECT_TEST(a_second_call_says_the_same_and_does_nothing),
        SUSPECT_TEST(idle_workers_are_woken_for_what_goes_back),
        SUSPECT_TEST(a_beat_renews_what_is_picked_under_the_id_alone),
        SUSPECT_TEST(a_killer_is_held_with_its_reason),
        SUSPECT_TEST(what_is_not_picked_under_the_id_is_not_held),
        SUSPECT_TEST(everything_under_an_id_can_be_given_back),
        SUSPECT_TEST(ids_that_are_none_and_too_many_suspects_are_refused),
        SUSPECT_TEST(no_suspects_at_all_still_give_the_rest_back),
    };

    if (!server_start())
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
