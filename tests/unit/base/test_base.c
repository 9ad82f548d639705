#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/list.h"

typedef struct old_options {
    size_t struct_size;
    int first;
} old_options;

typedef struct own_options {
    size_t struct_size;
    int first, second;
} own_options;

typedef struct new_options {
    size_t struct_size;
    int first, second, third, fourth;
} new_options;

static void no_options_leave_the_defaults(void **state)
{
    own_options own = {sizeof(own), 1, 2};
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    expect_ok(base_copy_options(&own, sizeof(own), NULL, "options", &err), &err);
    assert_int_equal(own.first, 1);
    assert_int_equal(own.second, 2);
}

static void options_of_an_older_caller_leave_the_rest_at_its_defaults(void **state)
{
    own_options own = {sizeof(own), 1, 2};
    old_options given = {sizeof(given), 7};
    size_t no_padding = offsetof(old_options, first) + sizeof(int);
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    given.struct_size = no_padding;
    expect_ok(base_copy_options(&own, sizeof(own), &given, "options", &err), &err);
    assert_int_equal(own.first, 7);
    assert_int_equal(own.second, 2);
    assert_int_equal(own.struct_size, sizeof(own));
}

static void options_of_a_newer_caller_pass_while_the_unknown_ones_are_zero(void **state)
{
    own_options own = {sizeof(own), 1, 2};
    new_options given;
    pgq_error err = PGQ_ERROR_INIT;

    (void)state;
    memset(&given, 0, sizeof(given));
    given.struct_size = sizeof(given);
    given.first = 8;
    given.second = 9;
    expect_ok(base_copy_options(&own, sizeof(own), &given, "options", &err), &err);
    assert_int_equal(own.second, 9);
    assert_int_equal(own.struct_size, sizeof(own));
    given.fourth = 1;
    expect_code(PGQ_E_UNSUPPORTED, base_copy_options(&own, sizeof(own), &given, "options", &err),
                &err);
}

static void a_struct_size_that_was_never_set_is_refused(void **state)
{
    static const size_t sizes[] = {0, 1, sizeof(size_t) - 1, 4097, SIZE_MAX};
    own_options own = {sizeof(own), 1, 2};

    (void)state;
    for (size_t i = 0; i < UNIT_COUNT(sizes); i++) {
        own_options given = {sizes[i], 3, 4};
        pgq_error err = PGQ_ERROR_INIT;

        expect_code(PGQ_E_INVALID, base_copy_options(&own, sizeof(own), &given, "my_options", &err),
                    &err);
        assert_non_null(strstr(err.message, "my_options"));
        assert_int_equal(own.first, 1);
    }
}

static void copying_no_text_gives_no_text(void **state)
{
    char *copy = (char *)&copy;

    (void)state;
    assert_int_equal(base_strdup(NULL, &copy), PGQ_OK);
    assert_null(copy);
    assert_int_equal(base_strdup("text", &copy), PGQ_OK);
    assert_string_equal(copy, "text");
    free(copy);
}

static void not_given_is_null_or_empty(void **state)
{
    (void)state;
    assert_false(base_given(NULL));
    assert_false(base_given(""));
    assert_true(base_given(" "));
    assert_int_equal(base_min_i64(-3, 4), -3);
    assert_int_equal(base_max_i64(-3, 4), 4);
    assert_true(BASE_HAS_MEMBER(own_options, first, sizeof(old_options)));
    assert_false(BASE_HAS_MEMBER(new_options, fourth, sizeof(own_options)));
}

typedef struct item {
    int number;
    list_link link;
} item;

static void a_list_keeps_its_order_and_its_length(void **state)
{
    list l = {NULL, NULL, 0};
    item items[5];

    (void)state;
    memset(items, 0, sizeof(items));
    for (int i = 0; i < 5; i++) {
        items[i].number = i;
        list_append(&l, &items[i].link);
        assert_int_equal(l.count, i + 1);
    }
    list_remove(&l, &items[0].link); /* the first, one in the middle, the last */
    list_remove(&l, &items[2].link);
    list_remove(&l, &items[4].link);
    assert_int_equal(l.count, 2);
    assert_null(items[2].link.owner);
    list_append(&l, &items[2].link);
    assert_int_equal(LIST_ENTRY(list_pop(&l), item, link)->number, 1);
    assert_int_equal(LIST_ENTRY(list_pop(&l), item, link)->number, 3);
    assert_int_equal(LIST_ENTRY(list_pop(&l), item, link)->number, 2);
    list_prepend(&l, &items[4].link); /* into an empty one, and before another */
    list_prepend(&l, &items[0].link);
    assert_ptr_equal(l.last, &items[4].link);
    assert_int_equal(LIST_ENTRY(list_pop(&l), item, link)->number, 0);
    assert_int_equal(LIST_ENTRY(list_pop(&l), item, link)->number, 4);
    assert_null(list_pop(&l));
    assert_null(l.first);
    assert_null(l.last);
    assert_int_equal(l.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_options_leave_the_defaults),
        cmocka_unit_test(options_of_an_older_caller_leave_the_rest_at_its_defaults),
        cmocka_unit_test(options_of_a_newer_caller_pass_while_the_unknown_ones_are_zero),
        cmocka_unit_test(a_struct_size_that_was_never_set_is_refused),
        cmocka_unit_test(copying_no_text_gives_no_text),
        cmocka_unit_test(not_given_is_null_or_empty),
        cmocka_unit_test(a_list_keeps_its_order_and_its_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
