#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/buffer.h"
#include "base/utf8.h"

/* The sanitizers end a program that asks for too much, unless told otherwise. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void an_empty_buffer_steals_as_an_empty_text(void **state)
{
    buffer buf = BUFFER_INIT;
    char *text = buffer_steal(&buf);

    (void)state;
    assert_non_null(text);
    assert_string_equal(text, "");
    free(text);
    assert_null(buf.data);
    assert_int_equal(buf.len, 0);
}

static void content_is_kept_through_every_growth_and_ends_with_nul(void **state)
{
    buffer buf = BUFFER_INIT;

    (void)state;
    for (size_t i = 0; i < 100000; i++) {
        buffer_add_char(&buf, (char)('a' + i % 26));
        assert_int_equal(buf.data[i + 1], '\0');
    }
    assert_int_equal(buf.len, 100000);
    for (size_t i = 0; i < buf.len; i++)
        assert_int_equal(buf.data[i], 'a' + i % 26);
    buffer_release(&buf);
}

static void formats_longer_than_the_first_memory_fit(void **state)
{
    buffer buf = BUFFER_INIT;

    (void)state;
    buffer_add_text(&buf, "<");
    buffer_add_format(&buf, "%*d|%s", 5000, 7, "end");
    buffer_add_text(&buf, ">");
    assert_int_equal(buf.len, 1 + 5000 + 4 + 1);
    assert_string_equal(buf.data + 4999, " 7|end>");
    buffer_release(&buf);
}

static void a_size_that_cannot_be_had_breaks_the_buffer_for_good(void **state)
{
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 4, SIZE_MAX / 2};

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(sizes); i++) {
        buffer buf = BUFFER_INIT;

        buffer_add_text(&buf, "abc");
        assert_null(buffer_reserve(&buf, sizes[i]));
        assert_true(buf.broken);
        assert_string_equal(buf.data, "abc");
        /* all that follows does nothing */
        buffer_add_text(&buf, "more");
        buffer_add_format(&buf, "%d", 1);
        buffer_add_json(&buf, "x", 1);
        buffer_add_utf8(&buf, "x", 1);
        buffer_add_i16(&buf, 1);
        buffer_add_i32(&buf, 1);
        buffer_add_i64(&buf, 1);
        buffer_put_i32(&buf, 0, 1);
        assert_null(buffer_reserve(&buf, 0));
        assert_int_equal(buf.len, 3);
        assert_string_equal(buf.data, "abc");
        assert_null(buffer_steal(&buf));
        assert_null(buf.data);
    }
}

static void clearing_mends_a_broken_buffer(void **state)
{
    buffer buf = BUFFER_INIT;

    (void)state;
    buffer_clear(&buf); /* also without memory */
    buffer_add_text(&buf, "abc");
    (void)buffer_reserve(&buf, SIZE_MAX);
    buffer_clear(&buf);
    assert_false(buf.broken);
    assert_int_equal(buf.len, 0);
    assert_string_equal(buf.data, "");
    buffer_add_text(&buf, "def");
    assert_string_equal(buf.data, "def");
    buffer_release(&buf);
    assert_null(buf.data);
}

static void adding_nothing_needs_no_bytes(void **state)
{
    buffer buf = BUFFER_INIT;

    (void)state;
    buffer_add(&buf, NULL, 0);
    assert_false(buf.broken);
    assert_int_equal(buf.len, 0);
    buffer_release(&buf);
}

static void numbers_are_written_highest_byte_first(void **state)
{
    static const unsigned char wanted[] = {0x80, 0x00, 0x01, 0x02, 0x03, 0x04, 0x80, 0,
                                           0,    0,    0,    0,    0,    0,    0xFF, 0xFF};
    buffer buf = BUFFER_INIT;

    (void)state;
    buffer_add_i16(&buf, INT16_MIN);
    buffer_add_i32(&buf, 0x01020304);
    buffer_add_i64(&buf, INT64_MIN);
    buffer_add_i16(&buf, -1);
    assert_int_equal(buf.len, sizeof(wanted));
    assert_memory_equal(buf.data, wanted, sizeof(wanted));
    buffer_put_i32(&buf, 2, -2);
    assert_memory_equal(buf.data + 2, "\xFF\xFF\xFF\xFE\x80", 5);
    buffer_release(&buf);
}

static void invalid_bytes_are_replaced_and_nul_is_left_out(void **state)
{
    static const struct {
        const char *in;
        size_t len;
        const char *out;
    } rows[] = {
        {"plain", 5, "plain"},
        {"a\0b", 3, "ab"},
        {"\x80", 1, "\xEF\xBF\xBD"},
        {"x\xC3", 2, "x\xEF\xBF\xBD"},
        {"\xC3\xA9\xFFz", 4, "\xC3\xA9\xEF\xBF\xBDz"},
        {"\xE2\x82", 2, "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xED\xA0\x80", 3, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"", 0, ""},
    };

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        buffer buf = BUFFER_INIT;

        buffer_add_text(&buf, "");
        buffer_add_utf8(&buf, rows[i].in, rows[i].len);
        assert_string_equal(buf.data, rows[i].out);
        buffer_release(&buf);
    }
}

/* Every byte, and every pair of bytes, must give JSON that an independent parser accepts. */
static void every_pair_of_bytes_becomes_a_json_string_that_parses(void **state)
{
    (void)state;
    for (unsigned pair = 0; pair < 0x10000; pair++) {
        char in[2] = {(char)(pair >> 8), (char)(pair & 0xFF)};
        buffer json = BUFFER_INIT, mended = BUFFER_INIT;
        json_t *parsed;

        buffer_add_json(&json, in, sizeof(in));
        buffer_add_text(&mended, "");
        buffer_add_utf8(&mended, in, sizeof(in));
        parsed = json_loadb(json.data, json.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(parsed);
        assert_string_equal(json_string_value(parsed), mended.data);
        json_decref(parsed);
        buffer_release(&json);
        buffer_release(&mended);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_buffer_steals_as_an_empty_text),
        cmocka_unit_test(content_is_kept_through_every_growth_and_ends_with_nul),
        cmocka_unit_test(formats_longer_than_the_first_memory_fit),
        cmocka_unit_test(a_size_that_cannot_be_had_breaks_the_buffer_for_good),
        cmocka_unit_test(clearing_mends_a_broken_buffer),
        cmocka_unit_test(adding_nothing_needs_no_bytes),
        cmocka_unit_test(numbers_are_written_highest_byte_first),
        cmocka_unit_test(invalid_bytes_are_replaced_and_nul_is_left_out),
        cmocka_unit_test(every_pair_of_bytes_becomes_a_json_string_that_parses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
