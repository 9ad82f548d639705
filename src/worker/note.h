/* The worker's log: from what the engine notes to events for the caller's sink. */
#ifndef WORKER_NOTE_H
#define WORKER_NOTE_H

#include <stdatomic.h>

#include "worker/engine.h"

typedef struct note_log {
    pgq_log_sink sink; /* NULL: nothing is logged */
    void *user;
    const atomic_int *level; /* the lowest that is passed on: a pgq_log_level, which may change */
} note_log;

/* Others limit an entrypoint in another way. */
void note_limits(const note_log *log, const char *entrypoint, survey_kind kind);

/* What a report says, whatever the level. */
void note_report(const note_log *log, const engine_report *report, const pgq_worker_counts *counts);

void note_engine(const note_log *log, const engine_note *note);

/* Any other event. */
void note_event(const note_log *log, pgq_log_level level, const char *event,
                const pgq_log_field *fields, size_t count);

#endif
