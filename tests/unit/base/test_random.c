#include "unit.h"

#include <string.h>

#include "base/random.h"

/* The first outputs of splitmix64 for seed 1234567, as published with the algorithm's reference. */
static void the_generator_is_splitmix64(void **state)
{
    static const uint64_t wanted[] = {6457827717110365317u, 3203168211198807973u,
                                      9817491932198370423u, 4593380528125082431u,
                                      16408922859458223821u};
    random_state r = {1234567};

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(wanted); i++)
        assert_true(random_next(&r) == wanted[i]);
}

static void numbers_below_a_bound_stay_below_it_and_reach_all_of_it(void **state)
{
    random_state r = {42};
    unsigned seen[7] = {0};

    (void)state;
    assert_int_equal(random_below(&r, 0), 0);
    assert_int_equal(random_below(&r, 1), 0);
    for (int i = 0; i < 70000; i++) {
        uint64_t value = random_below(&r, 7);

        assert_true(value < 7);
        seen[value]++;
    }
    for (size_t i = 0; i < UNIT_COUNT(seen); i++)
        assert_in_range(seen[i], 9500, 10500);
    for (int i = 0; i < 1000; i++)
        assert_true(random_below(&r, UINT64_MAX) < UINT64_MAX);
}

static void uuids_are_of_version_4_and_differ(void **state)
{
    uuid a, b;
    char text[UUID_TEXT_BYTES];

    (void)state;
    for (int i = 0; i < 200; i++) {
        assert_int_equal(uuid_new(&a), PGQ_OK);
        assert_int_equal(uuid_new(&b), PGQ_OK);
        assert_memory_not_equal(a.bytes, b.bytes, sizeof(a.bytes));
        (void)uuid_format(&a, text);
        assert_int_equal(strlen(text), 36);
        assert_int_equal(text[14], '4');
        assert_non_null(strchr("89ab", text[19]));
        assert_true(text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-');
    }
}

static void a_uuid_is_printed_in_the_order_of_its_bytes(void **state)
{
    uuid id;
    char text[UUID_TEXT_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof(id.bytes); i++)
        id.bytes[i] = (unsigned char)(i * 0x11);
    assert_string_equal(uuid_format(&id, text), "00112233-4455-6677-8899-aabbccddeeff");
}

/* delay(n) = min(initial * 2^n, max); the upper half of it is random. */
static void each_delay_lies_in_the_upper_half_of_its_bound(void **state)
{
    const int64_t initial = 100, max = 5000;

    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        backoff b = {initial, max, 0};
        random_state r = {seed};
        int64_t bound = initial;

        for (int attempt = 0; attempt < 200; attempt++) {
            int64_t delay = backoff_next(&b, &r);

            assert_in_range(delay, bound / 2, bound);
            bound = bound * 2 < max ? bound * 2 : max;
        }
        backoff_reset(&b);
        assert_in_range(backoff_next(&b, &r), initial / 2, initial);
    }
}

static void the_delay_reaches_both_ends_of_its_half(void **state)
{
    random_state r = {7};
    bool low = false, high = false;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        backoff b = {10, 10, 0};
        int64_t delay = backoff_next(&b, &r);

        low = low || delay == 5;
        high = high || delay == 10;
    }
    assert_true(low && high);
}

static void extreme_settings_of_a_backoff_do_not_overflow(void **state)
{
    random_state r = {1};
    backoff none = {0, 0, 0}, large = {1, INT64_MAX / 2, 0}, above = {500, 100, 0};

    (void)state;
    for (int i = 0; i < 200; i++) {
        int64_t delay;

        assert_int_equal(backoff_next(&none, &r), 0);
        delay = backoff_next(&large, &r);
        assert_true(delay >= 0 && delay <= INT64_MAX / 2);
        assert_in_range(backoff_next(&above, &r), 50, 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_generator_is_splitmix64),
        cmocka_unit_test(numbers_below_a_bound_stay_below_it_and_reach_all_of_it),
        cmocka_unit_test(uuids_are_of_version_4_and_differ),
        cmocka_unit_test(a_uuid_is_printed_in_the_order_of_its_bytes),
        cmocka_unit_test(each_delay_lies_in_the_upper_half_of_its_bound),
        cmocka_unit_test(the_delay_reaches_both_ends_of_its_half),
        cmocka_unit_test(extreme_settings_of_a_backoff_do_not_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
