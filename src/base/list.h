/* Intrusive doubly linked lists that know their length. An element is in at most one list per
 * link, and the link knows in which: removing it from another list is caught. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/base.h"

#include <assert.h>

typedef struct list_link {
    struct list_link *next, *prev;
    struct list *owner; /* NULL while in no list */
} list_link;

typedef struct list {
    list_link *first, *last;
    size_t count;
} list;

/* The element of `type` whose member `member` is the given link. */
#define LIST_ENTRY(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void list_append(list *l, list_link *link)
{
    assert(link->owner == NULL);
    link->owner = l;
    link->next = NULL;
    link->prev = l->last;
    if (l->last != NULL)
        l->last->next = link;
    else
        l->first = link;
    l->last = link;
    l->count++;
}

static inline void list_prepend(list *l, list_link *link)
{
    assert(link->owner == NULL);
    link->owner = l;
    link->prev = NULL;
    link->next = l->first;
    if (l->first != NULL)
        l->first->prev = link;
    else
        l->last = link;
    l->first = link;
    l->count++;
}

static inline void list_remove(list *l, list_link *link)
{
    assert(link->owner == l);
    if (link->prev != NULL)
        link->prev->next = link->next;
    else
        l->first = link->next;
    if (link->next != NULL)
        link->next->prev = link->prev;
    else
        l->last = link->prev;
    *link = (list_link){NULL, NULL, NULL};
    l->count--;
}

/* Takes the first link out; NULL from an empty list. */
static inline list_link *list_pop(list *l)
{
    list_link *link = l->first;

    if (link != NULL)
        list_remove(l, link);
    return link;
}

#endif
