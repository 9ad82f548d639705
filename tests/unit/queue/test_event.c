#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "queue/event.h"

static event read; /* too large for a stack */

/* The lines are from the wire contract, section 5: what triggers and Python workers really send. */
static void real_lines_are_what_they_say(void **state)
{
    static const struct {
        const char *line;
        event_kind kind;
    } rows[] = {
        {"{\"channel\" : \"ch_pgqueuer\", \"operation\" : \"insert\", \"sent_at\" : "
         "\"2026-11-24T00:30:07.852184+00:00\", \"table\" : \"pgqueuer\", \"type\" : "
         "\"table_changed_event\"}",
         EVENT_WORK},
        {"{\"channel\" : \"ch_pgqueuer\", \"operation\" : \"delete\", \"sent_at\" : "
         "\"2026-11-24T00:30:09.091899+00:00\", \"table\" : \"pgqueuer\", \"type\" : "
         "\"table_changed_event\"}",
         EVENT_FREED},
        {"{\"channel\" : \"ch_pgqueuer\", \"operation\" : \"truncate\", \"sent_at\" : "
         "\"2026-11-24T00:30:10.087227+00:00\", \"table\" : \"pgqueuer\", \"type\" : "
         "\"table_changed_event\"}",
         EVENT_WORK},
        {"{\"channel\": \"ch_pgqueuer\", \"operation\": \"update\", \"sent_at\": "
         "\"2026-11-24T00:30:10.087227+00:00\", \"table\": \"pgqueuer\", \"type\": "
         "\"table_changed_event\", \"extra\": [1, {\"a\": null}]}",
         EVENT_WORK},
        {"{\"channel\":\"ch_pgqueuer\",\"sent_at\":\"2026-11-24T00:30:09.510604Z\",\"type\":"
         "\"cancellation_event\",\"received_at\":\"2026-11-24T00:30:09.510644Z\",\"ids\":[6,12345]"
         "}",
         EVENT_CANCELLED},
        {"{\"channel\":\"ch_pgqueuer\",\"sent_at\":\"2026-11-24T00:30:10.226931Z\",\"type\":"
         "\"health_check_event\",\"received_at\":\"2026-11-24T00:30:10.226977Z\",\"id\":"
         "\"926aff6f-e5d4-413a-8216-4b7bc0160d19\"}",
         EVENT_HEALTH},
        {"{\"channel\":\"ch_pgqueuer\",\"type\":\"requests_per_second_event\","
         "\"entrypoint_count\":{\"fetch\":3}}",
         EVENT_NOTHING},
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        if (event_read(rows[i].line, &read) != rows[i].kind || read.kind != rows[i].kind)
            fail_msg("%s", rows[i].line);
    }
}

static void junk_is_nothing(void **state)
{
    static const char *const lines[] = {
        "",
        " ",
        "{",
        "}",
        "[]",
        "null",
        "\"table_changed_event\"",
        "1",
        "{}",
        "{\"type\": 1}",
        "{\"type\": null}",
        "{\"type\": \"table_changed_event\"}",
        "{\"type\": \"table_changed_event\", \"operation\": 7}",
        "{\"type\": \"table_changed_event\", \"operation\": [\"insert\"]}",
        "{\"type\": \"table_changed_event\", \"operation\": \"insert\"} trailing",
        "{\"type\": \"TABLE_CHANGED_EVENT\", \"operation\": \"insert\"}",
        "[{\"type\": \"table_changed_event\", \"operation\": \"insert\"}]",
        "{\"type\": \"table_changed_event\", \"operation\": \"ins\xFF\"}",
        "\xFF\xFE",
        "{\"type\"",
        "{\"\\u0000\": 1}",
        "hello world",
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(lines); i++) {
        if (event_read(lines[i], &read) != EVENT_NOTHING || read.id_count != 0)
            fail_msg("%s", lines[i]);
    }
}

/* ---- the ids of a cancellation ---- */

static void ids_are_read_to_the_last_of_their_64_bits(void **state)
{
    static const char line[] =
        "{\"type\":\"cancellation_event\",\"ids\":[9223372036854775807,9007199254740993,"
        "-9223372036854775808,0,1]}";

    (void)state;
    assert_int_equal(event_read(line, &read), EVENT_CANCELLED);
    assert_int_equal(read.id_count, 5);
    assert_true(read.ids[0] == INT64_MAX);
    assert_true(read.ids[1] == 9007199254740993);
    assert_true(read.ids[2] == INT64_MIN);
    assert_true(read.ids[3] == 0 && read.ids[4] == 1);
}

/* No job has such an id, but the other ids of the event count. */
static void a_number_beyond_64_bits_is_passed_over(void **state)
{
    static const char *const lines[] = {
        "{\"type\":\"cancellation_event\",\"ids\":[6,9223372036854775808,12345]}",
        "{\"type\":\"cancellation_event\",\"ids\":[99999999999999999999999999,6,12345]}",
        "{\"type\":\"cancellation_event\",\"ids\":[6,12345,-1e300]}",
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(lines); i++) {
        assert_int_equal(event_read(lines[i], &read), EVENT_CANCELLED);
        assert_int_equal(read.id_count, 2);
        assert_true(read.ids[0] == 6 && read.ids[1] == 12345);
    }
}

static void what_is_no_number_of_a_job_is_passed_over(void **state)
{
    static const char line[] = "{\"type\":\"cancellation_event\",\"ids\":[\"1\",null,true,1.5,{},"
                               "[2],7]}";

    (void)state;
    assert_int_equal(event_read(line, &read), EVENT_CANCELLED);
    assert_int_equal(read.id_count, 1);
    assert_true(read.ids[0] == 7);
    assert_int_equal(event_read("{\"type\":\"cancellation_event\",\"ids\":[]}", &read),
                     EVENT_CANCELLED);
    assert_int_equal(read.id_count, 0);
    for (int i = 0; i < 3; i++) {
        static const char *const without[] = {
            "{\"type\":\"cancellation_event\"}",
            "{\"type\":\"cancellation_event\",\"ids\":7}",
            "{\"type\":\"cancellation_event\",\"ids\":{\"0\":7}}",
        };

        assert_int_equal(event_read(without[i], &read), EVENT_NOTHING);
        assert_int_equal(read.id_count, 0);
    }
}

/* More ids than any event has: of one digit, in a payload of 7999 bytes. */
static void the_most_ids_that_a_payload_can_have_are_read(void **state)
{
    static const char head[] = "{\"type\":\"cancellation_event\",\"ids\":[1";
    static char line[8000];
    size_t at = sizeof(head) - 1, wanted = 1;

    (void)state;
    memcpy(line, head, at);
    for (; at + 4 < sizeof(line); at += 2, wanted++)
        memcpy(line + at, ",7", 2);
    memcpy(line + at, "]}", 3);
    assert_in_range(strlen(line), 7998, 7999);
    assert_int_equal(event_read(line, &read), EVENT_CANCELLED);
    assert_int_equal(read.id_count, wanted);
    assert_in_range(wanted, 3900, EVENT_IDS_MAX);
    assert_true(read.ids[wanted - 1] == 7);
}

/* Nobody sends so many, but nothing may be written beyond the end either. */
static void more_ids_than_fit_are_cut(void **state)
{
    static const char head[] = "{\"type\":\"cancellation_event\",\"ids\":[1";
    static char line[10000];
    size_t at = sizeof(head) - 1;

    (void)state;
    memcpy(line, head, at);
    for (; at + 4 < sizeof(line); at += 2)
        memcpy(line + at, ",7", 2);
    memcpy(line + at, "]}", 3);
    assert_int_equal(event_read(line, &read), EVENT_CANCELLED);
    assert_int_equal(read.id_count, EVENT_IDS_MAX);
}

/* The longest that PostgreSQL sends is 7999 bytes. */
static void payloads_of_the_greatest_length_are_read(void **state)
{
    static const char head[] =
        "{\"type\":\"table_changed_event\",\"operation\":\"insert\",\"filler\":\"";
    char line[8000];

    (void)state;
    memset(line, 'x', sizeof(line));
    memcpy(line, head, sizeof(head) - 1);
    memcpy(line + 7997, "\"}", 3);
    assert_int_equal(strlen(line), 7999);
    assert_int_equal(event_read(line, &read), EVENT_WORK);
    memset(line, '[', sizeof(line) - 1);
    line[7999] = '\0';
    assert_int_equal(event_read(line, &read), EVENT_NOTHING);
    memset(line, '{', sizeof(line) - 1);
    assert_int_equal(event_read(line, &read), EVENT_NOTHING);
    memset(line, '9', sizeof(line) - 1);
    assert_int_equal(event_read(line, &read), EVENT_NOTHING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_lines_are_what_they_say),
        cmocka_unit_test(junk_is_nothing),
        cmocka_unit_test(ids_are_read_to_the_last_of_their_64_bits),
        cmocka_unit_test(a_number_beyond_64_bits_is_passed_over),
        cmocka_unit_test(what_is_no_number_of_a_job_is_passed_over),
        cmocka_unit_test(the_most_ids_that_a_payload_can_have_are_read),
        cmocka_unit_test(more_ids_than_fit_are_cut),
        cmocka_unit_test(payloads_of_the_greatest_length_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
