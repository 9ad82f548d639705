#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "pg/names.h"

static pgq_code resolve(const pgq_names *given, names *n, pgq_error *err)
{
    *n = (names){.memory = ARENA_INIT};
    *err = (pgq_error)PGQ_ERROR_INIT;
    return names_resolve(given, n, err);
}

static void without_options_the_names_are_pgqueuers(void **state)
{
    names n;
    pgq_error err;

    (void)state;
    expect_ok(resolve(NULL, &n, &err), &err);
    assert_string_equal(n.prefix, "");
    assert_null(n.schema);
    assert_string_equal(n.channel, "ch_pgqueuer");
    assert_string_equal(n.function, "fn_pgqueuer_changed");
    assert_string_equal(n.trigger, "tg_pgqueuer_changed");
    assert_string_equal(n.queue, "pgqueuer");
    assert_string_equal(n.log, "pgqueuer_log");
    assert_string_equal(n.statistics, "pgqueuer_statistics");
    assert_string_equal(n.schedules, "pgqueuer_schedules");
    assert_string_equal(n.status, "pgqueuer_status");
    assert_string_equal(n.extras, "pgqueuer_c");
    names_release(&n);
}

static void the_prefix_stands_before_default_names_only(void **state)
{
    pgq_names given = PGQ_NAMES_INIT;
    names n;
    pgq_error err;

    (void)state;
    given.prefix = "acme_";
    given.log_table = "history";
    given.schema = "";
    expect_ok(resolve(&given, &n, &err), &err);
    assert_string_equal(n.channel, "acme_ch_pgqueuer");
    assert_string_equal(n.queue, "acme_pgqueuer");
    assert_string_equal(n.status, "acme_pgqueuer_status");
    assert_string_equal(n.log, "history");
    assert_string_equal(n.extras, "pgqueuer_c_acme_");
    assert_null(n.schema);
    names_release(&n);
}

static void the_schema_is_folded_to_lower_case(void **state)
{
    pgq_names given = PGQ_NAMES_INIT;
    names n;
    pgq_error err;

    (void)state;
    given.schema = "MixedCase";
    expect_ok(resolve(&given, &n, &err), &err);
    assert_string_equal(n.schema, "mixedcase");
    assert_string_equal(n.extras, "pgqueuer_c_mixedcase");
    names_release(&n);
}

static void the_callers_strings_are_copied(void **state)
{
    char table[] = "jobs";
    pgq_names given = PGQ_NAMES_INIT;
    names n;
    pgq_error err;

    (void)state;
    given.queue_table = table;
    expect_ok(resolve(&given, &n, &err), &err);
    memset(table, 'x', sizeof(table) - 1);
    assert_string_equal(n.queue, "jobs");
    names_release(&n);
}

static void names_that_could_break_out_of_their_quotes_are_refused(void **state)
{
    static const char *const hostile[] = {
        "jobs\"", "jobs; drop table x", "a b", "a.b",        "1jobs", "a-b", "a'b",  "a\\b",
        "a\nb",   "\xC3\xA9t\xC3\xA9",  "a$b", "\"quoted\"", " a",    "a ",  "a\tb",
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(hostile); i++) {
        pgq_names given = PGQ_NAMES_INIT;
        names n;
        pgq_error err;

        given.queue_table = hostile[i];
        expect_code(PGQ_E_INVALID, resolve(&given, &n, &err), &err);
        assert_non_null(strstr(err.message, "queue table"));
        assert_true(err.hint[0] != '\0');
        given.queue_table = NULL;
        given.prefix = hostile[i];
        expect_code(PGQ_E_INVALID, resolve(&given, &n, &err), &err);
        given.prefix = NULL;
        given.schema = hostile[i];
        expect_code(PGQ_E_INVALID, resolve(&given, &n, &err), &err);
    }
}

static void upper_case_is_refused_for_every_identifier(void **state)
{
    (void)state;
    for (int member = 0; member < 8; member++) {
        pgq_names given = PGQ_NAMES_INIT;
        const char **members[] = {
            &given.prefix,    &given.function,    &given.trigger,         &given.queue_table,
            &given.log_table, &given.status_type, &given.schedules_table, &given.statistics_table};
        names n;
        pgq_error err;

        *members[member] = "Jobs";
        expect_code(PGQ_E_INVALID, resolve(&given, &n, &err), &err);
        assert_non_null(strstr(err.hint, "lower case"));
    }
}

static void a_channel_may_have_upper_case_dots_and_dashes_inside(void **state)
{
    static const struct {
        const char *name;
        pgq_code code;
    } channels[] = {
        {"Ch.one-2", PGQ_OK},   {"2nd", PGQ_OK},         {"_x", PGQ_OK},
        {".x", PGQ_E_INVALID},  {"-x", PGQ_E_INVALID},   {"a b", PGQ_E_INVALID},
        {"a'b", PGQ_E_INVALID}, {"a\"b", PGQ_E_INVALID}, {"a\\b", PGQ_E_INVALID},
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(channels); i++) {
        pgq_names given = PGQ_NAMES_INIT;
        names n;
        pgq_error err;

        given.channel = channels[i].name;
        expect_code(channels[i].code, resolve(&given, &n, &err), &err);
        if (channels[i].code == PGQ_OK) {
            assert_string_equal(n.channel, channels[i].name);
            names_release(&n);
        }
    }
}

static void sixty_three_bytes_are_the_longest_name(void **state)
{
    char name[65];
    pgq_names given = PGQ_NAMES_INIT;
    names n;
    pgq_error err;

    (void)state;
    memset(name, 'n', sizeof(name));
    name[63] = '\0';
    given.queue_table = name;
    expect_ok(resolve(&given, &n, &err), &err);
    assert_int_equal(strlen(n.queue), 63);
    names_release(&n);
    name[63] = 'n';
    name[64] = '\0';
    expect_code(PGQ_E_LIMIT, resolve(&given, &n, &err), &err);
    /* the longest default is pgqueuer_statistics or fn_pgqueuer_changed: 19 bytes */
    given.queue_table = NULL;
    given.prefix = name;
    name[44] = '\0';
    expect_ok(resolve(&given, &n, &err), &err);
    names_release(&n);
    name[44] = 'n';
    name[45] = '\0';
    expect_code(PGQ_E_LIMIT, resolve(&given, &n, &err), &err);
}

static void a_failure_leaves_the_callers_names_untouched(void **state)
{
    pgq_names given = PGQ_NAMES_INIT;
    names n = {.queue = "before"};
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    given.status_type = "BAD";
    expect_code(PGQ_E_INVALID, names_resolve(&given, &n, &err), &err);
    assert_string_equal(n.queue, "before");
}

static void quotes_inside_are_doubled(void **state)
{
    arena a = ARENA_INIT;
    names n = {.schema = "s\"x"};

    (void)state;
    assert_string_equal(names_quote_identifier(&a, "a\"b"), "\"a\"\"b\"");
    assert_string_equal(names_quote_identifier(&a, ""), "\"\"");
    assert_string_equal(names_quote_literal(&a, "it's"), "'it''s'");
    assert_string_equal(names_qualify(&a, &n, "t"), "\"s\"\"x\".\"t\"");
    n.schema = NULL;
    assert_string_equal(names_qualify(&a, &n, "t"), "\"t\"");
    arena_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_options_the_names_are_pgqueuers),
        cmocka_unit_test(the_prefix_stands_before_default_names_only),
        cmocka_unit_test(the_schema_is_folded_to_lower_case),
        cmocka_unit_test(the_callers_strings_are_copied),
        cmocka_unit_test(names_that_could_break_out_of_their_quotes_are_refused),
        cmocka_unit_test(upper_case_is_refused_for_every_identifier),
        cmocka_unit_test(a_channel_may_have_upper_case_dots_and_dashes_inside),
        cmocka_unit_test(sixty_three_bytes_are_the_longest_name),
        cmocka_unit_test(a_failure_leaves_the_callers_names_untouched),
        cmocka_unit_test(quotes_inside_are_doubled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
