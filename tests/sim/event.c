/* The queue of what happens next: a binary heap by time, then by order of arrival. */
#include "sim.h"

#include <stdlib.h>

static bool before(const event *a, const event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->serial < b->serial;
}

static void swap(event *a, event *b)
{
    event kept = *a;

    *a = *b;
    *b = kept;
}

void event_add(world *w, event e)
{
    event_queue *q = &w->events;
    size_t at = q->count;

    if (q->count == q->capacity) {
        size_t capacity = q->capacity == 0 ? 256 : 2 * q->capacity;
        event *heap = realloc(q->heap, capacity * sizeof(*heap));

        if (heap == NULL)
            abort();
        q->heap = heap;
        q->capacity = capacity;
    }
    e.serial = q->serial++;
    q->heap[q->count++] = e;
    for (; at > 0 && before(&q->heap[at], &q->heap[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&q->heap[at], &q->heap[(at - 1) / 2]);
}

bool event_next(world *w, event *ret_event)
{
    event_queue *q = &w->events;
    size_t at = 0;

    if (q->count == 0)
        return false;
    *ret_event = q->heap[0];
    q->heap[0] = q->heap[--q->count];
    for (;;) {
        size_t least = at;

        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < q->count; child++) {
            if (before(&q->heap[child], &q->heap[least]))
                least = child;
        }
        if (least == at)
            return true;
        swap(&q->heap[at], &q->heap[least]);
        at = least;
    }
}
