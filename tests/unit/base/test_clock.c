#include "unit.h"

#include <limits.h>
#include <string.h>

#include "base/clock.h"

/* The expected texts are from GNU date and from the calendar, not from our own code. */
static void instants_are_printed_in_utc(void **state)
{
    static const struct {
        int64_t us;
        const char *micros, *millis;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:00.000Z"},
        {1, "1970-01-01T00:00:00.000001Z", "1970-01-01T00:00:00.000Z"},
        {999999, "1970-01-01T00:00:00.999999Z", "1970-01-01T00:00:00.999Z"},
        {-1, "1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999Z"},
        {-1000000, "1969-12-31T23:59:59.000000Z", "1969-12-31T23:59:59.000Z"},
        {-1000001, "1969-12-31T23:59:58.999999Z", "1969-12-31T23:59:58.999Z"},
        {951782400000000, "2000-02-29T00:00:00.000000Z", "2000-02-29T00:00:00.000Z"},
        {1795510807123456, "2026-11-24T09:00:07.123456Z", "2026-11-24T09:00:07.123Z"},
        {4107542399999999, "2100-02-28T23:59:59.999999Z", "2100-02-28T23:59:59.999Z"},
        {4107542400000000, "2100-03-01T00:00:00.000000Z", "2100-03-01T00:00:00.000Z"},
        {253402300799999999, "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999Z"},
        {253402300800000000, "10000-01-01T00:00:00.000000Z", "10000-01-01T00:00:00.000Z"},
        {-62135596800000000, "0001-01-01T00:00:00.000000Z", "0001-01-01T00:00:00.000Z"},
    };
    char text[CLOCK_TEXT_BYTES];

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        assert_string_equal(clock_format(rows[i].us, false, text), rows[i].micros);
        assert_string_equal(clock_format(rows[i].us, true, text), rows[i].millis);
    }
}

static void the_farthest_instants_fit_into_their_text(void **state)
{
    char text[CLOCK_TEXT_BYTES + 1];

    (void)state;
    text[CLOCK_TEXT_BYTES] = '!';
    (void)clock_format(INT64_MAX, false, text);
    assert_true(strlen(text) < CLOCK_TEXT_BYTES);
    (void)clock_format(INT64_MIN, false, text);
    assert_true(strlen(text) < CLOCK_TEXT_BYTES);
    assert_int_equal(text[CLOCK_TEXT_BYTES], '!');
}

static void a_poll_waits_never_shorter_than_the_deadline(void **state)
{
    (void)state;
    assert_int_equal(clock_poll_ms(0, CLOCK_NEVER), -1);
    assert_int_equal(clock_poll_ms(INT64_MAX - 1, CLOCK_NEVER), -1);
    assert_int_equal(clock_poll_ms(100, 100), 0);
    assert_int_equal(clock_poll_ms(101, 100), 0);
    assert_int_equal(clock_poll_ms(0, 1), 1);
    assert_int_equal(clock_poll_ms(0, 1000), 1);
    assert_int_equal(clock_poll_ms(0, 1001), 2);
    assert_int_equal(clock_poll_ms(0, (int64_t)INT_MAX * 1000), INT_MAX);
    assert_int_equal(clock_poll_ms(0, (int64_t)INT_MAX * 2000), INT_MAX);
}

static void the_clocks_run(void **state)
{
    int64_t before = clock_monotonic_us();

    (void)state;
    assert_true(clock_monotonic_us() >= before);
    /* 2020-01-01 to 2200-01-01 */
    assert_in_range(clock_wall_us(), 1577836800000000, 7258118400000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(instants_are_printed_in_utc),
        cmocka_unit_test(the_farthest_instants_fit_into_their_text),
        cmocka_unit_test(a_poll_waits_never_shorter_than_the_deadline),
        cmocka_unit_test(the_clocks_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
