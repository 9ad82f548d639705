#include "unit.h"

#include <string.h>

#include "base/utf8.h"

/* The oracle: RFC 3629's definition by arithmetic. The length of the character at `text`, or 0. */
static size_t oracle(const unsigned char *text, size_t len)
{
    static const uint32_t least[] = {0, 1, 0x80, 0x800, 0x10000};
    uint32_t point;
    size_t width;

    if (len == 0)
        return 0;
    if (text[0] >> 7 == 0)
        width = 1, point = text[0];
    else if (text[0] >> 5 == 6)
        width = 2, point = text[0] & 0x1Fu;
    else if (text[0] >> 4 == 14)
        width = 3, point = text[0] & 0x0Fu;
    else if (text[0] >> 3 == 30)
        width = 4, point = text[0] & 0x07u;
    else
        return 0;
    if (width > len)
        return 0;
    for (size_t i = 1; i < width; i++) {
        if (text[i] >> 6 != 2)
            return 0;
        point = point << 6 | (text[i] & 0x3Fu);
    }
    if (point < least[width] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
        return 0;
    return width;
}

static void compare(const unsigned char *text)
{
    for (size_t len = 0; len <= 4; len++) {
        size_t wanted = oracle(text, len), got = utf8_next((const char *)text, len);

        if (wanted != got)
            fail_msg("%02x %02x %02x %02x, %zu bytes: %zu, not %zu", text[0], text[1], text[2],
                     text[3], len, got, wanted);
    }
}

/* All first three bytes, each with the fourth bytes that stand on both sides of a boundary. */
static void every_sequence_is_judged_as_the_standard_says(void **state)
{
    static const unsigned char fourth[] = {0x00, 0x41, 0x7F, 0x80, 0x9F, 0xBF, 0xC0, 0xFF};

    (void)state;
    for (uint32_t three = 0; three < 0x1000000; three++) {
        unsigned char text[4] = {(unsigned char)(three >> 16), (unsigned char)(three >> 8 & 0xFF),
                                 (unsigned char)(three & 0xFF), 0};

        /* beyond the third byte only the sequences of four bytes differ */
        for (size_t i = 0; i < (text[0] >= 0xF0 ? UNIT_COUNT(fourth) : 1); i++) {
            text[3] = fourth[i];
            compare(text);
        }
    }
}

static size_t encode(uint32_t point, unsigned char text[4])
{
    if (point < 0x80) {
        text[0] = (unsigned char)point;
        return 1;
    }
    if (point < 0x800) {
        text[0] = (unsigned char)(0xC0 | point >> 6);
        text[1] = (unsigned char)(0x80 | (point & 0x3F));
        return 2;
    }
    if (point < 0x10000) {
        text[0] = (unsigned char)(0xE0 | point >> 12);
        text[1] = (unsigned char)(0x80 | (point >> 6 & 0x3F));
        text[2] = (unsigned char)(0x80 | (point & 0x3F));
        return 3;
    }
    text[0] = (unsigned char)(0xF0 | point >> 18);
    text[1] = (unsigned char)(0x80 | (point >> 12 & 0x3F));
    text[2] = (unsigned char)(0x80 | (point >> 6 & 0x3F));
    text[3] = (unsigned char)(0x80 | (point & 0x3F));
    return 4;
}

static void every_code_point_but_surrogates_and_zero_is_valid(void **state)
{
    (void)state;
    for (uint32_t point = 0; point <= 0x110000; point++) {
        unsigned char text[4];
        size_t len = encode(point, text);
        bool wanted = point != 0 && point <= 0x10FFFF && !(point >= 0xD800 && point <= 0xDFFF);

        assert_int_equal(utf8_valid((const char *)text, len), wanted);
    }
}

static void one_bad_byte_makes_a_text_invalid(void **state)
{
    char text[] = "gr\xC3\xBC\xC3\x9F dich, \xE2\x82\xAC 5";

    (void)state;
    assert_true(utf8_valid(text, strlen(text)));
    assert_true(utf8_valid("", 0));
    assert_false(utf8_valid("a\0b", 3));
    assert_false(utf8_valid(text, 3));
    text[3] = 'x';
    assert_false(utf8_valid(text, strlen(text)));
}

static void a_cut_never_splits_a_character(void **state)
{
    static const char text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
    static const size_t wanted[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};

    (void)state;
    for (size_t len = 0; len < UNIT_COUNT(wanted); len++) {
        assert_int_equal(utf8_cut(text, len), wanted[len]);
        assert_true(utf8_valid(text, utf8_cut(text, len)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sequence_is_judged_as_the_standard_says),
        cmocka_unit_test(every_code_point_but_surrogates_and_zero_is_valid),
        cmocka_unit_test(one_bad_byte_makes_a_text_invalid),
        cmocka_unit_test(a_cut_never_splits_a_character),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
