/* A hash map from byte strings to pointers. Keys are borrowed and must live as long as the entry.
 * No removal: the maps of this project are built once and asked often. Iteration is by the order
 * of insertion, so that nothing depends on the hash. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/base.h"

typedef struct map_entry {
    const char *key;
    size_t key_len;
    void *value;
} map_entry;

typedef struct map {
    map_entry *entries; /* `count` of them, in order of insertion */
    size_t count, capacity;
    uint32_t *slots; /* index into entries plus one; 0: empty. A power of two, > capacity */
    size_t slot_count;
} map;

#define MAP_INIT            \
    {                       \
        NULL, 0, 0, NULL, 0 \
    }

/* The entry of a key, or NULL. */
map_entry *map_find(const map *m, const char *key, size_t key_len);

/* Adds a key that is not there yet. PGQ_E_NOMEM; PGQ_E_STATE when it is there. */
pgq_code map_add(map *m, const char *key, size_t key_len, void *value);

void map_release(map *m);

#endif
