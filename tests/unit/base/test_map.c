#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "base/map.h"

static void an_empty_map_finds_nothing(void **state)
{
    map m = MAP_INIT;

    (void)state;
    assert_null(map_find(&m, "x", 1));
    assert_null(map_find(&m, "", 0));
    map_release(&m);
}

static void ten_thousand_keys_are_found_and_iterate_in_order_of_insertion(void **state)
{
    static char keys[10000][8];
    map m = MAP_INIT;

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(keys); i++) {
        (void)snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
        assert_int_equal(map_add(&m, keys[i], strlen(keys[i]), &keys[i]), PGQ_OK);
    }
    assert_int_equal(m.count, UNIT_COUNT(keys));
    for (size_t i = 0; i < UNIT_COUNT(keys); i++) {
        assert_ptr_equal(map_find(&m, keys[i], strlen(keys[i]))->value, &keys[i]);
        assert_ptr_equal(m.entries[i].key, keys[i]);
    }
    assert_null(map_find(&m, "k10000", 6));
    assert_null(map_find(&m, "k", 1));
    map_release(&m);
    assert_int_equal(m.count, 0);
}

static void a_key_that_is_there_cannot_be_added_again(void **state)
{
    map m = MAP_INIT;
    int first, second;

    (void)state;
    assert_int_equal(map_add(&m, "key", 3, &first), PGQ_OK);
    assert_int_equal(map_add(&m, "key", 3, &second), PGQ_E_STATE);
    assert_ptr_equal(map_find(&m, "key", 3)->value, &first);
    assert_int_equal(m.count, 1);
    map_release(&m);
}

static void keys_are_bytes_with_a_length(void **state)
{
    map m = MAP_INIT;

    (void)state;
    assert_int_equal(map_add(&m, "a\0b", 3, NULL), PGQ_OK);
    assert_int_equal(map_add(&m, "a\0c", 3, NULL), PGQ_OK);
    assert_int_equal(map_add(&m, "a", 1, NULL), PGQ_OK);
    assert_int_equal(map_add(&m, "", 0, NULL), PGQ_OK);
    assert_int_equal(m.count, 4);
    assert_non_null(map_find(&m, "a\0c", 3));
    assert_non_null(map_find(&m, "", 0));
    assert_null(map_find(&m, "a\0", 2));
    map_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_map_finds_nothing),
        cmocka_unit_test(ten_thousand_keys_are_found_and_iterate_in_order_of_insertion),
        cmocka_unit_test(a_key_that_is_there_cannot_be_added_again),
        cmocka_unit_test(keys_are_bytes_with_a_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
