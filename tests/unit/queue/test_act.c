#include "unit.h"
#include "server.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pgqueuer/client.h>

#include "queue/act.h"
#include "queue/event.h"

/* ---- the lists of ids: nothing is sent ---- */

/* `digits` - `step` nines and a first digit that differs: `count` ids of the same length. */
static int64_t *ids_of_digits(int digits, size_t count)
{
    int64_t *ids = calloc(count, sizeof(*ids)), first = 1;

    assert_non_null(ids);
    for (int i = 1; i < digits; i++)
        first *= 10;
    for (size_t i = 0; i < count; i++)
        ids[i] = first + (int64_t)i;
    return ids;
}

static void a_list_takes_as_many_ids_as_fit_and_not_one_more(void **state)
{
    (void)state;
    for (int digits = 4; digits <= 19; digits++) {
        size_t count = 4000, written;
        int64_t *ids = ids_of_digits(digits, count);
        buffer list = BUFFER_INIT;

        written = act_write_list(ids, count, &list);
        assert_int_equal(list.len, written * (size_t)(digits + 1) + 1);
        assert_in_range(list.len, ACT_LIST_BYTES - (size_t)digits, ACT_LIST_BYTES);
        assert_int_equal(act_write_list(ids, written, &list), written);
        assert_int_equal(act_write_list(ids, written + 1, &list), written);
        assert_int_equal(act_write_list(ids, written - 1, &list), written - 1);
        buffer_release(&list);
        free(ids);
    }
}

static void a_list_may_have_exactly_its_limit(void **state)
{
    /* one bracket, and each id with a comma or the other bracket */
    enum { DIGITS = 10, COUNT = (ACT_LIST_BYTES - 1) / (DIGITS + 1) };
    int64_t *ids = ids_of_digits(DIGITS, COUNT + 1);
    size_t rest = ACT_LIST_BYTES - 1 - (size_t)COUNT * (DIGITS + 1);
    buffer list = BUFFER_INIT;

    (void)state;
    /* the last id grows until the list is full */
    for (size_t i = 0; i < rest; i++)
        ids[COUNT - 1] *= 10;
    assert_int_equal(act_write_list(ids, COUNT, &list), COUNT);
    assert_int_equal(list.len, ACT_LIST_BYTES);
    ids[COUNT - 2] *= 10;
    assert_int_equal(act_write_list(ids, COUNT, &list), COUNT - 1);
    buffer_release(&list);
    free(ids);
}

static void the_greatest_numbers_are_written_whole(void **state)
{
    static const int64_t ids[] = {INT64_MIN, -1, 0, 7, INT64_MAX};
    buffer list = BUFFER_INIT;

    (void)state;
    assert_int_equal(act_write_list(ids, 5, &list), 5);
    assert_string_equal(list.data, "[-9223372036854775808,-1,0,7,9223372036854775807]");
    assert_int_equal(act_write_list(ids, 1, &list), 1);
    assert_string_equal(list.data, "[-9223372036854775808]");
    buffer_release(&list);
}

/* ---- what is refused before anything is sent ---- */

static void what_cannot_be_is_refused(void **state)
{
    database *d = *state;
    pgq_client *client = database_client(d);
    pgq_cancel_options options = PGQ_CANCEL_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    int64_t *ids = ids_of_digits(10, PGQ_CANCEL_IDS_MAX + 1);
    size_t requeued = 9;

    expect_code(PGQ_E_LIMIT, pgq_cancel(client, ids, PGQ_CANCEL_IDS_MAX + 1, NULL, NULL, &err),
                &err);
    expect_code(PGQ_E_LIMIT, pgq_requeue(client, ids, PGQ_REQUEUE_IDS_MAX + 1, NULL, &err), &err);
    expect_code(PGQ_E_INVALID, pgq_cancel(client, NULL, 1, NULL, NULL, &err), &err);
    expect_code(PGQ_E_INVALID, pgq_requeue(client, NULL, 1, NULL, &err), &err);
    options.heartbeat_timeout_ms = 99;
    expect_code(PGQ_E_INVALID, pgq_cancel(client, ids, 1, &options, NULL, &err), &err);
    options.heartbeat_timeout_ms = 86400001;
    expect_code(PGQ_E_INVALID, pgq_cancel(client, ids, 1, &options, NULL, &err), &err);
    options.struct_size = 3;
    expect_code(PGQ_E_INVALID, pgq_cancel(client, ids, 1, &options, NULL, &err), &err);
    expect_ok(pgq_cancel(client, NULL, 0, NULL, NULL, &err), &err);
    expect_ok(pgq_requeue(client, NULL, 0, &requeued, &err), &err);
    assert_int_equal(requeued, 0);
    expect_ok(pgq_requeue(client, ids, PGQ_REQUEUE_IDS_MAX, &requeued, &err), &err);
    assert_int_equal(requeued, 0);
    free(ids);
    (void)pgq_client_free(client);
}

/* ---- the events, as a listener gets them ---- */

/* Reads the next notification, which must be a cancellation. */
static size_t next_event(PGconn *conn, event *e, size_t *ret_bytes)
{
    PGnotify *notify;

    assert_true(PQconsumeInput(conn));
    notify = PQnotifies(conn);
    if (notify == NULL)
        return 0;
    *ret_bytes = strlen(notify->extra);
    assert_int_equal(event_read(notify->extra, e), EVENT_CANCELLED);
    PQfreemem(notify);
    return e->id_count;
}

static void the_greatest_call_tells_of_every_id_once(void **state)
{
    database *d = *state;
    static char channel[64]; /* the longest name */
    pgq_names given = PGQ_NAMES_INIT;
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_client *client = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_cancel_counts counts;
    int64_t *ids = ids_of_digits(19, PGQ_CANCEL_IDS_MAX);
    event *e = calloc(1, sizeof(*e));
    size_t told = 0, bytes = 0, longest = 0;

    assert_non_null(e);
    memset(channel, 'c', sizeof(channel) - 1);
    given.channel = channel;
    options.dsn = d->dsn;
    options.names = &given;
    expect_ok(pgq_client_open(&options, &client, &err), &err);
    sql_run(d->sql, "LISTEN %s", channel);
    ids[PGQ_CANCEL_IDS_MAX - 1] = INT64_MAX;
    expect_ok(pgq_cancel(client, ids, PGQ_CANCEL_IDS_MAX, NULL, &counts, &err), &err);
    assert_int_equal(counts.unknown, PGQ_CANCEL_IDS_MAX);
    assert_int_equal(counts.cancelled + counts.told, 0);
    sql_run(d->sql, "SELECT 1");
    while (next_event(d->sql, e, &bytes) > 0) {
        for (size_t i = 0; i < e->id_count; i++)
            assert_int_equal(e->ids[i], ids[told + i]);
        told += e->id_count;
        longest = bytes > longest ? bytes : longest;
    }
    assert_int_equal(told, PGQ_CANCEL_IDS_MAX);
    assert_in_range(longest, 7850, ACT_NOTIFY_BYTES);
    free(e);
    free(ids);
    (void)pgq_client_free(client);
}

static void a_call_that_has_no_time_left_says_so_and_keeps_what_it_did(void **state)
{
    database *d = *state;
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;
    pgq_client *client = NULL;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_cancel_counts counts;
    const int64_t ids[] = {1, 2, 3};

    options.dsn = d->dsn;
    options.call_timeout_ms = 250;
    expect_ok(pgq_client_open(&options, &client, &err), &err);
    sql_run(d->sql, "INSERT INTO pgqueuer (priority, status, entrypoint, heartbeat) VALUES "
                    "(0, 'queued', 'e', now()), (0, 'picked', 'e', now())");
    expect_code(PGQ_E_TIMEOUT, pgq_cancel(client, ids, 3, NULL, &counts, &err), &err);
    assert_int_equal(counts.cancelled, 1);
    assert_int_equal(counts.told, 1);
    assert_int_equal(sql_number(d->sql, "SELECT count(*) FROM pgqueuer"), 1);
    sql_run(d->sql, "UPDATE pgqueuer SET status = 'queued'");
    expect_ok(pgq_cancel(client, ids, 3, NULL, &counts, &err), &err);
    assert_int_equal(counts.cancelled, 1);
    assert_int_equal(counts.told, 0);
    assert_int_equal(counts.unknown, 2);
    (void)pgq_client_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_takes_as_many_ids_as_fit_and_not_one_more),
        cmocka_unit_test(a_list_may_have_exactly_its_limit),
        cmocka_unit_test(the_greatest_numbers_are_written_whole),
        cmocka_unit_test_setup_teardown(what_cannot_be_is_refused, database_setup,
                                        database_teardown),
        cmocka_unit_test_setup_teardown(the_greatest_call_tells_of_every_id_once, database_setup,
                                        database_teardown),
        cmocka_unit_test_setup_teardown(a_call_that_has_no_time_left_says_so_and_keeps_what_it_did,
                                        database_setup, database_teardown),
    };

    if (!server_start())
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
