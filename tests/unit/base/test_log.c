#include "unit.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/log.h"

static const pgq_log_field some_fields[] = {
    {"job", NULL, -7},          {"plain", "a-b/c:1", 0},
    {"blank", "two words", 0},  {"empty", "", 0},
    {"quote", "say \"hi\"", 0}, {"equals", "a=b", 0},
    {"newline", "a\nb", 0},     {"accent", "\xC3\xA9", 0},
    {"broken", "\xFF", 0},      {"number", NULL, INT64_MAX},
};

static void a_text_line_quotes_only_what_would_be_ambiguous(void **state)
{
    buffer out = BUFFER_INIT;

    (void)state;
    log_format_line(&out, LOG_TEXT, 0, PGQ_LOG_WARNING, "some.event", some_fields,
                    UNIT_COUNT(some_fields));
    assert_string_equal(out.data,
                        "1970-01-01T00:00:00.000Z WARNING some.event job=-7 plain=a-b/c:1 "
                        "blank=\"two words\" empty=\"\" quote=\"say \\\"hi\\\"\" equals=\"a=b\" "
                        "newline=\"a\\nb\" accent=\"\xC3\xA9\" broken=\"\xEF\xBF\xBD\" "
                        "number=9223372036854775807\n");
    buffer_release(&out);
}

static void a_json_line_is_one_object_with_every_field(void **state)
{
    buffer out = BUFFER_INIT;
    json_t *line, *attributes;

    (void)state;
    log_format_line(&out, LOG_JSON, 1500000, PGQ_LOG_ERROR, "some.event", some_fields,
                    UNIT_COUNT(some_fields));
    assert_int_equal(strcspn(out.data, "\n"), out.len - 1);
    line = json_loadb(out.data, out.len, 0, NULL);
    assert_non_null(line);
    assert_string_equal(json_string_value(json_object_get(line, "timestamp")),
                        "1970-01-01T00:00:01.500Z");
    assert_string_equal(json_string_value(json_object_get(line, "severity_text")), "ERROR");
    assert_string_equal(json_string_value(json_object_get(line, "body")), "some.event");
    attributes = json_object_get(line, "attributes");
    assert_int_equal(json_object_size(attributes), UNIT_COUNT(some_fields));
    for (size_t i = 0; i < UNIT_COUNT(some_fields); i++) {
        const json_t *value = json_object_get(attributes, some_fields[i].key);

        if (some_fields[i].text == NULL)
            assert_true(json_integer_value(value) == some_fields[i].number);
        else if (strcmp(some_fields[i].key, "broken") != 0)
            assert_string_equal(json_string_value(value), some_fields[i].text);
    }
    json_decref(line);
    buffer_release(&out);
}

static void levels_are_named_in_any_case_and_with_pythons_synonyms(void **state)
{
    static const struct {
        const char *name;
        pgq_log_level level;
    } rows[] = {
        {"DEBUG", PGQ_LOG_DEBUG},    {"info", PGQ_LOG_INFO},    {"Warning", PGQ_LOG_WARNING},
        {"warn", PGQ_LOG_WARNING},   {"error", PGQ_LOG_ERROR},  {"critical", PGQ_LOG_CRITICAL},
        {"fatal", PGQ_LOG_CRITICAL}, {"notset", PGQ_LOG_DEBUG},
    };
    pgq_log_level level;

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        assert_true(log_level_parse(rows[i].name, &level));
        assert_int_equal(level, rows[i].level);
    }
    assert_false(log_level_parse("verbose", &level));
    assert_false(log_level_parse("", &level));
    assert_string_equal(log_level_name(PGQ_LOG_WARNING), "WARNING");
    assert_string_equal(log_level_name(PGQ_LOG_CRITICAL), "CRITICAL");
}

typedef struct captured {
    size_t lines, of_event, suppressed_lines;
    char last[512];
} captured;

static void capture(void *user, const char *line, size_t len)
{
    captured *c = user;

    assert_int_equal(line[len - 1], '\n');
    assert_int_equal(strlen(line), len);
    c->lines++;
    if (strstr(line, " repeated\n") != NULL)
        c->of_event++;
    if (strstr(line, "log.suppressed") != NULL)
        c->suppressed_lines++;
    (void)snprintf(c->last, sizeof(c->last), "%s", line);
}

static void lower_levels_are_left_out(void **state)
{
    captured c = {0};
    log_writer w;

    (void)state;
    log_open(&w, LOG_TEXT, PGQ_LOG_WARNING, capture, &c);
    log_write(&w, PGQ_LOG_INFO, "no", NULL, 0);
    log_write(&w, PGQ_LOG_WARNING, "yes", NULL, 0);
    log_write(&w, PGQ_LOG_CRITICAL, "yes", NULL, 0);
    assert_int_equal(c.lines, 2);
    log_close(&w);
}

static void an_event_that_storms_is_counted_not_written(void **state)
{
    captured c = {0};
    log_writer w;

    (void)state;
    log_open(&w, LOG_TEXT, PGQ_LOG_DEBUG, capture, &c);
    for (int i = 0; i < 5000; i++)
        log_write(&w, PGQ_LOG_ERROR, "repeated", NULL, 0);
    log_write(&w, PGQ_LOG_ERROR, "another", NULL, 0);
    log_close(&w);
    assert_in_range(c.of_event, LOG_EVENTS_PER_SECOND, LOG_EVENTS_PER_SECOND * 5);
    assert_true(c.suppressed_lines >= 1);
    assert_non_null(strstr(c.last, "log.suppressed event=repeated count="));
}

static void nothing_is_lost_when_more_names_storm_than_are_counted(void **state)
{
    captured c = {0};
    log_writer w;
    char name[32];

    (void)state;
    log_open(&w, LOG_TEXT, PGQ_LOG_DEBUG, capture, &c);
    for (int i = 0; i < 3 * LOG_EVENT_NAMES; i++) {
        (void)snprintf(name, sizeof(name), "event.%d", i);
        log_write(&w, PGQ_LOG_INFO, name, NULL, 0);
    }
    assert_int_equal(c.lines, 3 * LOG_EVENT_NAMES);
    log_close(&w);
    assert_int_equal(c.suppressed_lines, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_line_quotes_only_what_would_be_ambiguous),
        cmocka_unit_test(a_json_line_is_one_object_with_every_field),
        cmocka_unit_test(levels_are_named_in_any_case_and_with_pythons_synonyms),
        cmocka_unit_test(lower_levels_are_left_out),
        cmocka_unit_test(an_event_that_storms_is_counted_not_written),
        cmocka_unit_test(nothing_is_lost_when_more_names_storm_than_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
