/* Memory that is freed all at once. Not thread safe. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/base.h"

typedef struct arena {
    struct arena_block *blocks;
} arena;

#define ARENA_INIT \
    {              \
        NULL       \
    }

/* `size` zeroed bytes, aligned for any type; NULL without memory. */
void *arena_alloc(arena *a, size_t size);

/* An array of `count` zeroed elements; NULL without memory or when the size overflows. */
void *arena_array(arena *a, size_t count, size_t element_size);

/* Copies of text; NULL without memory. */
char *arena_strdup(arena *a, const char *text);
char *arena_strndup(arena *a, const char *text, size_t len);

/* Frees everything; the arena can be used again. */
void arena_release(arena *a);

#endif
