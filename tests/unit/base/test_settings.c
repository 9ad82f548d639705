#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/settings.h"

enum { ROW_NAME, ROW_COUNT_OF_JOBS, ROW_WAIT, ROW_COLOUR, ROW_FORCE, ROW_CHECK, ROW_SECRET, ROWS };

static const setting_row rows[ROWS] = {
    {.name = "queue-name",
     .alias = "qn",
     .type = SETTING_TEXT,
     .in_file = true,
     .env = {"PGQ_TEST_NAME", "PGQ_TEST_OLD_NAME"},
     .default_text = "standard"},
    {.name = "count",
     .type = SETTING_INT,
     .in_file = true,
     .min = -5,
     .max = 100,
     .env = {"PGQ_TEST_COUNT"}},
    {.name = "wait",
     .type = SETTING_SECONDS,
     .in_file = true,
     .min = 100,
     .max = 3600000,
     .default_text = "1.5"},
    {.name = "colour",
     .type = SETTING_CHOICE,
     .choices = "red|green|blue",
     .in_file = true,
     .fold_case = true},
    {.name = "force", .type = SETTING_FLAG, .in_file = true},
    {.name = "check", .type = SETTING_NEGATABLE, .in_file = true},
    {.name = "secret", .type = SETTING_CHOICE, .choices = "a|b", .secret = true},
};

static void begin(settings *s)
{
    pgq_error err = PGQ_ERROR_INIT;

    (void)unsetenv("PGQ_TEST_NAME");
    (void)unsetenv("PGQ_TEST_OLD_NAME");
    (void)unsetenv("PGQ_TEST_COUNT");
    expect_ok(settings_init(s, rows, ROWS, &err), &err);
}

static pgq_code read_text(settings *s, const char *text, pgq_error *err)
{
    char path[] = "/tmp/pgqs-XXXXXX";
    int fd = mkstemp(path);
    pgq_code code;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
    code = settings_read_file(s, path, err);
    (void)unlink(path);
    return code;
}

static void a_setting_that_nobody_gave_has_its_default(void **state)
{
    settings s;
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    begin(&s);
    assert_string_equal(s.values[ROW_NAME].text, "standard");
    assert_int_equal(s.values[ROW_NAME].origin, SETTING_DEFAULT);
    assert_int_equal(s.values[ROW_COUNT_OF_JOBS].origin, SETTING_UNSET);
    expect_ok(settings_parse(&s, ROW_COUNT_OF_JOBS, &err), &err);
    expect_ok(settings_parse(&s, ROW_WAIT, &err), &err);
    assert_int_equal(s.values[ROW_WAIT].number, 1500);
    settings_release(&s);
}

static void the_stronger_origin_wins_in_any_order(void **state)
{
    settings s;
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    begin(&s);
    expect_ok(settings_give(&s, ROW_NAME, SETTING_ARGUMENT, "--queue-name", "argument", &err),
              &err);
    (void)setenv("PGQ_TEST_NAME", "environment", 1);
    expect_ok(settings_read_environment(&s, &err), &err);
    expect_ok(read_text(&s, "[pgqueuer]\nqueue_name = file\n", &err), &err);
    assert_string_equal(s.values[ROW_NAME].text, "argument");
    assert_string_equal(s.values[ROW_NAME].source, "--queue-name");
    expect_ok(settings_give(&s, ROW_NAME, SETTING_ARGUMENT, "--queue-name", "last", &err), &err);
    assert_string_equal(s.values[ROW_NAME].text, "last");
    settings_release(&s);
}

static void an_environment_variable_beats_the_file(void **state)
{
    settings s;
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    begin(&s);
    expect_ok(read_text(&s, "[pgqueuer]\nqueue_name = file\n", &err), &err);
    assert_string_equal(s.values[ROW_NAME].text, "file");
    assert_non_null(strstr(s.values[ROW_NAME].source, ":2"));
    (void)setenv("PGQ_TEST_OLD_NAME", "old", 1);
    (void)setenv("PGQ_TEST_NAME", "", 1); /* counts as not given */
    expect_ok(settings_read_environment(&s, &err), &err);
    assert_string_equal(s.values[ROW_NAME].text, "old");
    assert_string_equal(s.values[ROW_NAME].source, "PGQ_TEST_OLD_NAME");
    settings_release(&s);
}

static void a_good_file_gives_its_section_only(void **state)
{
    settings s;
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    begin(&s);
    expect_ok(read_text(&s,
                        "; a comment\n[other]\nwhatever = 1\n[pgqueuer]\ncount = 7\n"
                        "qn = by alias\ncolour = GREEN\nforce = yes\ncheck = off\n[more]\nx = y\n",
                        &err),
              &err);
    for (size_t i = 0; i < ROWS; i++)
        expect_ok(settings_parse(&s, i, &err), &err);
    assert_int_equal(s.values[ROW_COUNT_OF_JOBS].number, 7);
    assert_string_equal(s.values[ROW_NAME].text, "by alias");
    assert_int_equal(s.values[ROW_COLOUR].number, 1);
    assert_int_equal(s.values[ROW_FORCE].number, 1);
    assert_int_equal(s.values[ROW_CHECK].number, 0);
    settings_release(&s);
}

static void a_bad_file_is_refused_with_its_line(void **state)
{
    static const struct {
        const char *text, *line;
    } files[] = {
        {"[pgqueuer]\n\nunknown = 1\n", ":3"},
        {"count = 1\n", ":1"},
        {"[pgqueuer]\ncount = 1\ncount = 2\n", ":3"},
        {"[pgqueuer]\nnonsense\n", ":2"},
        {"[pgqueuer\n", ":1"},
        {"[pgqueuer]\nsecret = a\n", ":2"},
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(files); i++) {
        settings s;
        pgq_error err = PGQ_ERROR_INIT;

        begin(&s);
        expect_code(PGQ_E_INVALID, read_text(&s, files[i].text, &err), &err);
        if (strstr(err.where, files[i].line) == NULL)
            fail_msg("file %zu: %s at %s", i, err.message, err.where);
        settings_release(&s);
    }
}

static void a_line_or_a_file_that_is_too_long_is_refused(void **state)
{
    static char text[600000];
    settings s;
    pgq_error err = PGQ_ERROR_INIT;
    size_t len = (size_t)snprintf(text, sizeof(text), "[pgqueuer]\nqueue_name = ");

    (void)state;
    begin(&s);
    memset(text + len, 'x', 5000);
    (void)snprintf(text + len + 5000, 2, "\n");
    expect_code(PGQ_E_INVALID, read_text(&s, text, &err), &err);
    len = (size_t)snprintf(text, sizeof(text), "[pgqueuer]\n");
    for (int i = 0; i < 11000; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "# comment\n");
    expect_code(PGQ_E_INVALID, read_text(&s, text, &err), &err);
    settings_release(&s);
}

static void a_file_that_is_missing_or_cannot_be_read_is_refused(void **state)
{
    settings s;
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    begin(&s);
    expect_code(PGQ_E_NOT_FOUND, settings_read_file(&s, "/nowhere/at/all", &err), &err);
    assert_string_equal(err.where, "/nowhere/at/all");
    expect_code(PGQ_E_IO, settings_read_file(&s, "/", &err), &err);
    settings_release(&s);
}

static void a_value_out_of_its_range_is_refused_with_what_is_allowed(void **state)
{
    static const struct {
        size_t row;
        const char *text, *hint;
    } values[] = {
        {ROW_COUNT_OF_JOBS, "101", "-5 to 100"}, {ROW_COUNT_OF_JOBS, "-6", "-5 to 100"},
        {ROW_COUNT_OF_JOBS, "1x", "-5 to 100"},  {ROW_COUNT_OF_JOBS, "", "-5 to 100"},
        {ROW_COUNT_OF_JOBS, " 1", "-5 to 100"},  {ROW_COUNT_OF_JOBS, "99999999999999999999", "100"},
        {ROW_WAIT, "0.0999", "0.1 to 3600"},     {ROW_WAIT, "3600.001", "0.1 to 3600"},
        {ROW_WAIT, "-1", "0.1 to 3600"},         {ROW_COLOUR, "pink", "green"},
        {ROW_COLOUR, "red|green", "red"},        {ROW_FORCE, "maybe", "true, false"},
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(values); i++) {
        settings s;
        pgq_error err = PGQ_ERROR_INIT;

        begin(&s);
        expect_ok(settings_give(&s, values[i].row, SETTING_ARGUMENT, "--x", values[i].text, &err),
                  &err);
        if (values[i].row == ROW_WAIT && strcmp(values[i].text, "0.0999") == 0) {
            /* rounded up to a millisecond that is allowed */
            expect_ok(settings_parse(&s, ROW_WAIT, &err), &err);
        } else {
            expect_code(PGQ_E_INVALID, settings_parse(&s, values[i].row, &err), &err);
            assert_string_equal(err.where, "--x");
            if (strstr(err.hint, values[i].hint) == NULL)
                fail_msg("%s: %s", values[i].text, err.hint);
        }
        settings_release(&s);
    }
}

static void a_secret_value_is_never_repeated(void **state)
{
    settings s;
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    begin(&s);
    expect_ok(settings_give(&s, ROW_SECRET, SETTING_ARGUMENT, "--secret", "hunter2", &err), &err);
    expect_code(PGQ_E_INVALID, settings_parse(&s, ROW_SECRET, &err), &err);
    assert_null(strstr(err.message, "hunter2"));
    assert_null(strstr(err.hint, "hunter2"));
    settings_release(&s);
}

static void seconds_are_read_exactly_and_rounded_up(void **state)
{
    static const struct {
        const char *text;
        int64_t ms; /* -1: refused */
    } values[] = {
        {"0", 0},         {"1", 1000},   {"1.5", 1500},
        {".5", 500},      {"2.", 2000},  {"0.001", 1},
        {"0.0001", 1},    {"0.0000", 0}, {"1.0010", 1001},
        {"1.0011", 1002}, {"007", 7000}, {"", -1},
        {".", -1},        {"1e3", -1},   {"-1", -1},
        {"+1", -1},       {"1 ", -1},    {"0x10", -1},
        {"1,5", -1},      {"inf", -1},   {"99999999999999999999", -1},
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(values); i++) {
        int64_t ms = -1;

        if (setting_parse_seconds(values[i].text, &ms) != (values[i].ms >= 0) || ms != values[i].ms)
            fail_msg("'%s' gives %lld", values[i].text, (long long)ms);
    }
}

static void seconds_are_printed_as_short_as_possible(void **state)
{
    char text[SETTING_SECONDS_BYTES];

    (void)state;
    assert_string_equal(setting_format_seconds(0, text), "0");
    assert_string_equal(setting_format_seconds(1000, text), "1");
    assert_string_equal(setting_format_seconds(1500, text), "1.5");
    assert_string_equal(setting_format_seconds(10000, text), "10");
    assert_string_equal(setting_format_seconds(1, text), "0.001");
    for (int64_t ms = 0; ms < 20000; ms += 7) {
        int64_t back;

        assert_true(setting_parse_seconds(setting_format_seconds(ms, text), &back));
        assert_int_equal(back, ms);
    }
}

static void options_are_found_by_name_alias_and_negation(void **state)
{
    bool negated = false;

    (void)state;
    assert_int_equal(settings_find(rows, ROWS, "queue-name", &negated), ROW_NAME);
    assert_int_equal(settings_find(rows, ROWS, "qn", &negated), ROW_NAME);
    assert_false(negated);
    assert_int_equal(settings_find(rows, ROWS, "no-check", &negated), ROW_CHECK);
    assert_true(negated);
    assert_int_equal(settings_find(rows, ROWS, "check", &negated), ROW_CHECK);
    assert_false(negated);
    assert_int_equal(settings_find(rows, ROWS, "no-force", &negated), ROWS);
    assert_int_equal(settings_find(rows, ROWS, "", &negated), ROWS);
    assert_true(setting_takes_value(&rows[ROW_NAME]));
    assert_false(setting_takes_value(&rows[ROW_FORCE]));
    assert_false(setting_takes_value(&rows[ROW_CHECK]));
}

static void the_distance_of_two_words_is_the_number_of_edits(void **state)
{
    (void)state;
    assert_int_equal(setting_distance("", "", 9), 0);
    assert_int_equal(setting_distance("abc", "abc", 9), 0);
    assert_int_equal(setting_distance("", "abc", 9), 3);
    assert_int_equal(setting_distance("kitten", "sitting", 9), 3);
    assert_int_equal(setting_distance("sunday", "saturday", 9), 3);
    assert_int_equal(setting_distance("enqueue", "enqeue", 9), 1);
    assert_int_equal(setting_distance("kitten", "sitting", 2), 3);
    assert_int_equal(setting_distance("kitten", "sitting", 1), 2);
}

static void choices_are_counted_from_zero(void **state)
{
    char word[16];

    (void)state;
    assert_true(setting_choice("red|green|blue", 0, word, sizeof(word)));
    assert_string_equal(word, "red");
    assert_true(setting_choice("red|green|blue", 2, word, sizeof(word)));
    assert_string_equal(word, "blue");
    assert_false(setting_choice("red|green|blue", 3, word, sizeof(word)));
    assert_true(setting_choice("red|green|blue", 1, word, 3));
    assert_string_equal(word, "gr");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_setting_that_nobody_gave_has_its_default),
        cmocka_unit_test(the_stronger_origin_wins_in_any_order),
        cmocka_unit_test(an_environment_variable_beats_the_file),
        cmocka_unit_test(a_good_file_gives_its_section_only),
        cmocka_unit_test(a_bad_file_is_refused_with_its_line),
        cmocka_unit_test(a_line_or_a_file_that_is_too_long_is_refused),
        cmocka_unit_test(a_file_that_is_missing_or_cannot_be_read_is_refused),
        cmocka_unit_test(a_value_out_of_its_range_is_refused_with_what_is_allowed),
        cmocka_unit_test(a_secret_value_is_never_repeated),
        cmocka_unit_test(seconds_are_read_exactly_and_rounded_up),
        cmocka_unit_test(seconds_are_printed_as_short_as_possible),
        cmocka_unit_test(options_are_found_by_name_alias_and_negation),
        cmocka_unit_test(the_distance_of_two_words_is_the_number_of_edits),
        cmocka_unit_test(choices_are_counted_from_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
