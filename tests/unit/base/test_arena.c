#include "unit.h"

#include <stdalign.h>
#include <string.h>

#include "base/arena.h"

static void pieces_of_every_size_are_zeroed_aligned_and_apart(void **state)
{
    arena a = ARENA_INIT;
    unsigned char *pieces[600];

    (void)state;
    for (size_t size = 0; size < UNIT_COUNT(pieces); size++) {
        pieces[size] = arena_alloc(&a, size * 7);
        assert_non_null(pieces[size]);
        assert_int_equal((uintptr_t)pieces[size] % alignof(max_align_t), 0);
        for (size_t i = 0; i < size * 7; i++)
            assert_int_equal(pieces[size][i], 0);
        memset(pieces[size], (int)(size % 251) + 1, size * 7);
    }
    for (size_t size = 0; size < UNIT_COUNT(pieces); size++) {
        for (size_t i = 0; i < size * 7; i++)
            assert_int_equal(pieces[size][i], size % 251 + 1);
    }
    arena_release(&a);
    assert_null(a.blocks);
}

static void a_piece_larger_than_a_block_has_one_of_its_own(void **state)
{
    arena a = ARENA_INIT;
    char *large = arena_alloc(&a, (size_t)10 << 20);

    (void)state;
    assert_non_null(large);
    large[((size_t)10 << 20) - 1] = 1;
    arena_release(&a);
    arena_release(&a); /* and an empty one */
}

static void a_size_that_cannot_be_had_gives_null_and_no_harm(void **state)
{
    arena a = ARENA_INIT;

    (void)state;
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX / 2 + 1));
    assert_null(arena_array(&a, SIZE_MAX / 8 + 1, 8));
    assert_null(arena_array(&a, 2, SIZE_MAX));
    assert_null(arena_strndup(&a, "", SIZE_MAX));
    assert_non_null(arena_array(&a, SIZE_MAX, 0));
    assert_non_null(arena_alloc(&a, 1));
    arena_release(&a);
}

static void copies_of_text_are_independent_and_terminated(void **state)
{
    arena a = ARENA_INIT;
    char source[] = "source";
    char *whole = arena_strdup(&a, source), *part = arena_strndup(&a, source, 3);
    char *empty = arena_strndup(&a, NULL, 0);

    (void)state;
    memset(source, 'x', sizeof(source) - 1);
    assert_string_equal(whole, "source");
    assert_string_equal(part, "sou");
    assert_string_equal(empty, "");
    arena_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_every_size_are_zeroed_aligned_and_apart),
        cmocka_unit_test(a_piece_larger_than_a_block_has_one_of_its_own),
        cmocka_unit_test(a_size_that_cannot_be_had_gives_null_and_no_harm),
        cmocka_unit_test(copies_of_text_are_independent_and_terminated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
