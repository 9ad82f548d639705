/* The notifications of the channel. Source: wire contract 5. */
#ifndef QUEUE_EVENT_H
#define QUEUE_EVENT_H

#include "base/base.h"

typedef enum event_kind {
    EVENT_NOTHING,   /* junk, another type, or nothing that we need */
    EVENT_WORK,      /* rows were added, or may have become free */
    EVENT_FREED,     /* rows were deleted: a seat may be free */
    EVENT_CANCELLED, /* jobs were cancelled: `ids` */
    EVENT_HEALTH     /* a health check, of this or of another worker */
} event_kind;

/* A payload has less than 8000 bytes, so an event cannot name more jobs. */
enum { EVENT_IDS_MAX = 4000 };

typedef struct event {
    event_kind kind;
    size_t id_count;
    int64_t ids[EVENT_IDS_MAX];
} event;

/* Reads one payload. Never fails: what cannot be read is nothing. */
event_kind event_read(const char *payload, event *ret_event);

#endif
