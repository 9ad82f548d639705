/* The notifications of the channel. Source: wire contract 5. */
#ifndef QUEUE_EVENT_H
#define QUEUE_EVENT_H

#include "base/base.h"

typedef enum event_kind {
    EVENT_NOTHING, /* not for us: another type, junk, or a change that wakes nobody */
    EVENT_WORK     /* rows were added, or may have become free */
} event_kind;

/* Reads one payload. Never fails: what cannot be read is nothing. */
event_kind event_read(const char *payload);

#endif
