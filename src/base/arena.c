#include "base/arena.h"

#include <stdalign.h>
#include <stdlib.h>

enum { BLOCK_BYTES = 4000 };

typedef struct arena_block {
    struct arena_block *next;
    size_t used, size;
    alignas(max_align_t) unsigned char data[];
} arena_block;

void *arena_alloc(arena *a, size_t size)
{
    arena_block *block = a->blocks;
    size_t aligned;

    if (size > SIZE_MAX / 2)
        return NULL;
    aligned = (size + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t);
    if (block == NULL || block->size - block->used < aligned) {
        size_t block_size = aligned > BLOCK_BYTES ? aligned : BLOCK_BYTES;

        block = calloc(1, sizeof(*block) + block_size);
        if (block == NULL)
            return NULL;
        block->size = block_size;
        block->next = a->blocks;
        a->blocks = block;
    }
    block->used += aligned;
    return block->data + block->used - aligned;
}

void *arena_array(arena *a, size_t count, size_t element_size)
{
    if (element_size != 0 && count > SIZE_MAX / element_size)
        return NULL;
    return arena_alloc(a, count * element_size);
}

char *arena_strndup(arena *a, const char *text, size_t len)
{
    char *copy = len < SIZE_MAX ? arena_alloc(a, len + 1) : NULL;

    if (copy != NULL && len > 0)
        memcpy(copy, text, len);
    return copy;
}

char *arena_strdup(arena *a, const char *text)
{
    return arena_strndup(a, text, strlen(text));
}

void arena_release(arena *a)
{
    while (a->blocks != NULL) {
        arena_block *next = a->blocks->next;

        free(a->blocks);
        a->blocks = next;
    }
}
