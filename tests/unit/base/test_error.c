#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/utf8.h"

static void every_code_has_a_name_a_text_and_an_exit_status(void **state)
{
    (void)state;
#define X(name, number, status, text)                             \
    assert_int_equal(PGQ_##name, number);                         \
    assert_string_equal(pgq_code_name(PGQ_##name), "PGQ_" #name); \
    assert_string_equal(pgq_strerror(PGQ_##name), text);          \
    assert_int_equal(pgq_code_exit_status(PGQ_##name), status);   \
    assert_true(pgq_code_exit_status(PGQ_##name) <= 8);           \
    assert_true((pgq_code_exit_status(PGQ_##name) == 0) == (number == 0));
    PGQ_CODE_MAP(X)
#undef X
}

static void a_number_that_is_no_code_still_has_texts(void **state)
{
    static const int numbers[] = {-1, 999, 9999};

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(numbers); i++) {
        assert_string_equal(pgq_code_name((pgq_code)numbers[i]), "PGQ_E_UNKNOWN");
        assert_string_equal(pgq_strerror((pgq_code)numbers[i]), "unknown error code");
        assert_int_equal(pgq_code_exit_status((pgq_code)numbers[i]), 1);
    }
}

static void setting_an_error_clears_what_an_earlier_one_left(void **state)
{
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    assert_int_equal(error_set(&err, PGQ_E_TIMEOUT, "first %d", 1), PGQ_E_TIMEOUT);
    error_hint(&err, "hint %s", "a");
    error_where(&err, "where %s", "b");
    err.retryable = true;
    memcpy(err.sqlstate, "40001", sizeof("40001"));
    assert_string_equal(err.message, "first 1");
    assert_string_equal(err.hint, "hint a");
    assert_string_equal(err.where, "where b");
    assert_int_equal(error_set(&err, PGQ_E_IO, "second"), PGQ_E_IO);
    assert_int_equal(err.code, PGQ_E_IO);
    assert_string_equal(err.message, "second");
    assert_string_equal(err.hint, "");
    assert_string_equal(err.where, "");
    assert_string_equal(err.sqlstate, "");
    assert_false(err.retryable);
}

static void without_an_error_object_only_the_code_comes_back(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, PGQ_E_LIMIT, "%s", "x"), PGQ_E_LIMIT);
    error_hint(NULL, "%s", "x");
    error_where(NULL, "%s", "x");
    assert_int_equal(error_nomem(NULL), PGQ_E_NOMEM);
}

/* Each cut is tried with the character at every offset from the end of the field. */
static void a_long_text_is_cut_at_a_whole_character(void **state)
{
    static const char *const characters[] = {"x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    char text[PGQ_MESSAGE_BYTES * 2];

    (void)state;
    for (size_t c = 0; c < UNIT_COUNT(characters); c++) {
        for (size_t lead = 0; lead < 5; lead++) {
            pgq_error err = PGQ_ERROR_INIT;
            size_t len = lead, width = strlen(characters[c]);

            memset(text, 'a', lead);
            for (; len + width < sizeof(text); len += width)
                memcpy(text + len, characters[c], width);
            text[len] = '\0';
            (void)error_set(&err, PGQ_E_INVALID, "%s", text);
            error_hint(&err, "%s", text);
            error_where(&err, "%s", text);
            assert_true(utf8_valid(err.message, strlen(err.message)));
            assert_true(utf8_valid(err.hint, strlen(err.hint)));
            assert_true(utf8_valid(err.where, strlen(err.where)));
            assert_true(strlen(err.message) > PGQ_MESSAGE_BYTES - 1 - width);
            assert_true(strlen(err.hint) > PGQ_HINT_BYTES - 1 - width);
            assert_true(strlen(err.where) > PGQ_WHERE_BYTES - 1 - width);
        }
    }
}

static void a_text_of_exactly_the_fields_size_is_kept_whole(void **state)
{
    pgq_error err = PGQ_ERROR_INIT;
    char text[PGQ_MESSAGE_BYTES];

    (void)state;
    memset(text, 'm', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    (void)error_set(&err, PGQ_E_INVALID, "%s", text);
    assert_string_equal(err.message, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_name_a_text_and_an_exit_status),
        cmocka_unit_test(a_number_that_is_no_code_still_has_texts),
        cmocka_unit_test(setting_an_error_clears_what_an_earlier_one_left),
        cmocka_unit_test(without_an_error_object_only_the_code_comes_back),
        cmocka_unit_test(a_long_text_is_cut_at_a_whole_character),
        cmocka_unit_test(a_text_of_exactly_the_fields_size_is_kept_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
