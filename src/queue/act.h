/* The insides of acting on jobs, for its tests. */
#ifndef QUEUE_ACT_H
#define QUEUE_ACT_H

#include "base/buffer.h"

/* NOTIFY takes less than 8000 bytes. Around its ids a cancellation event has a channel of at most
 * 63 bytes, a time and the keys: less than this. */
enum { ACT_NOTIFY_BYTES = 7999, ACT_AROUND_BYTES = 256 };
enum { ACT_LIST_BYTES = ACT_NOTIFY_BYTES - ACT_AROUND_BYTES };

/* Writes as many of the ids as fit into ACT_LIST_BYTES, at least one, as the text of a JSON array,
 * and returns how many they are. `count` is at least 1. */
size_t act_write_list(const int64_t *ids, size_t count, buffer *list);

#endif
