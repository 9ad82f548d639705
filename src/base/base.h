/* The small things every room uses: no I/O, no threads, no libpq. */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <pgqueuer/error.h>

#define BASE_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BASE_PRINTF(format_at, args_at) __attribute__((format(printf, format_at, args_at)))

/* Frees a pointer variable when it leaves its scope: BASE_AUTOFREE char *text = ...; */
#define BASE_AUTOFREE __attribute__((cleanup(base_autofree)))
void base_autofree(void *pointer_to_pointer);

/* Whether `member` lies inside the struct that a caller of struct_size `size` was compiled with. */
#define BASE_HAS_MEMBER(type, member, size) \
    (offsetof(type, member) + sizeof(((type *)0)->member) <= (size))

/* Copies a caller's options struct of `size` bytes into one of `own_size` that holds the defaults
 * already. A caller that is newer than we are may only have zero bytes beyond our size.
 * PGQ_E_INVALID for a size that no version had, PGQ_E_UNSUPPORTED for members unknown to us. */
pgq_code base_copy_options(void *own, size_t own_size, const void *given, const char *what,
                           pgq_error *err);

/* Copies a string; NULL gives NULL. *ret_copy is NULL after PGQ_E_NOMEM. */
pgq_code base_strdup(const char *text, char **ret_copy);

static inline bool base_streq(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* NULL and "" are both "not given" for options that come from an environment. */
static inline bool base_given(const char *text)
{
    return text != NULL && text[0] != '\0';
}

static inline int64_t base_min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline size_t base_min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline int64_t base_max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

#endif
