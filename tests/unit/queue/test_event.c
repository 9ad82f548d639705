#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "queue/event.h"

/* The lines are from the wire contract, section 5: what triggers and Python workers really send. */
static void real_lines_wake_for_work_and_for_nothing_else(void **state)
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
         EVENT_NOTHING},
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
         EVENT_NOTHING},
        {"{\"channel\":\"ch_pgqueuer\",\"sent_at\":\"2026-11-24T00:30:10.226931Z\",\"type\":"
         "\"health_check_event\",\"received_at\":\"2026-11-24T00:30:10.226977Z\",\"id\":"
         "\"926aff6f-e5d4-413a-8216-4b7bc0160d19\"}",
         EVENT_NOTHING},
        {"{\"channel\":\"ch_pgqueuer\",\"type\":\"requests_per_second_event\","
         "\"entrypoint_count\":{\"fetch\":3}}",
         EVENT_NOTHING},
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        if (event_read(rows[i].line) != rows[i].kind)
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
        if (event_read(lines[i]) != EVENT_NOTHING)
            fail_msg("%s", lines[i]);
    }
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
    assert_int_equal(event_read(line), EVENT_WORK);
    memset(line, '[', sizeof(line) - 1);
    line[7999] = '\0';
    assert_int_equal(event_read(line), EVENT_NOTHING);
    memset(line, '{', sizeof(line) - 1);
    assert_int_equal(event_read(line), EVENT_NOTHING);
    memset(line, '9', sizeof(line) - 1);
    assert_int_equal(event_read(line), EVENT_NOTHING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_lines_wake_for_work_and_for_nothing_else),
        cmocka_unit_test(junk_is_nothing),
        cmocka_unit_test(payloads_of_the_greatest_length_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
