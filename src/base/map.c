#include "base/map.h"

#include <stdlib.h>

/* FNV-1a. The keys are the program's own names, so no defence against chosen keys is needed. */
static uint32_t hash_bytes(const char *key, size_t len)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)key[i]) * 16777619u;
    return hash;
}

/* The slot that holds the key, or the empty one where it belongs. */
static size_t find_slot(const map *m, const char *key, size_t len)
{
    size_t at = hash_bytes(key, len) & (m->slot_count - 1);

    while (m->slots[at] != 0) {
        const map_entry *entry = &m->entries[m->slots[at] - 1];

        if (entry->key_len == len && memcmp(entry->key, key, len) == 0)
            break;
        at = (at + 1) & (m->slot_count - 1);
    }
    return at;
}

map_entry *map_find(const map *m, const char *key, size_t key_len)
{
    size_t slot;

    if (m->count == 0)
        return NULL;
    slot = find_slot(m, key, key_len);
    return m->slots[slot] != 0 ? &m->entries[m->slots[slot] - 1] : NULL;
}

static pgq_code grow(map *m)
{
    size_t capacity = m->capacity > 0 ? m->capacity * 2 : 8;
    map_entry *entries;
    uint32_t *slots;

    if (capacity > UINT32_MAX / 4)
        return PGQ_E_NOMEM;
    slots = calloc(capacity * 2, sizeof(*slots));
    if (slots == NULL)
        return PGQ_E_NOMEM;
    entries = realloc(m->entries, capacity * sizeof(*entries));
    if (entries == NULL) {
        free(slots);
        return PGQ_E_NOMEM;
    }
    free(m->slots);
    m->entries = entries;
    m->slots = slots;
    m->capacity = capacity;
    m->slot_count = capacity * 2;
    for (size_t i = 0; i < m->count; i++)
        m->slots[find_slot(m, entries[i].key, entries[i].key_len)] = (uint32_t)i + 1;
    return PGQ_OK;
}

pgq_code map_add(map *m, const char *key, size_t key_len, void *value)
{
    size_t slot;

    if (m->count == m->capacity && grow(m) != PGQ_OK)
        return PGQ_E_NOMEM;
    slot = find_slot(m, key, key_len);
    if (m->slots[slot] != 0)
        return PGQ_E_STATE;
    m->entries[m->count] = (map_entry){key, key_len, value};
    m->slots[slot] = (uint32_t)++m->count;
    return PGQ_OK;
}

void map_release(map *m)
{
    free(m->entries);
    free(m->slots);
    *m = (map)MAP_INIT;
}
