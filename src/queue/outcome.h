/* The texts of an outcome: what goes into the traceback of a log row. */
#ifndef QUEUE_OUTCOME_H
#define QUEUE_OUTCOME_H

#include <pgqueuer/worker.h>

#include "base/buffer.h"
#include "base/random.h"

typedef enum outcome_kind {
    OUTCOME_DONE = 1,
    OUTCOME_FAIL = 2,
    OUTCOME_RETRY = 3,
    OUTCOME_CANCELLED = 4,
    OUTCOME_LATER = 5, /* the handler has returned, the job goes on */
    /* the library's own */
    OUTCOME_UNSTARTED = 16, /* the job was not run, give it back */
    OUTCOME_AGAIN = 17,     /* run it again in this process when `delay_ms` has passed */
    OUTCOME_STARTED = 18    /* its handler begins */
} outcome_kind;

typedef struct outcome_text {
    const char *type;    /* NULL: none given */
    const char *message; /* NULL: none given; cut at PGQ_OUTCOME_TEXT_BYTES_MAX */
} outcome_text;

/* The bytes of the texts of an outcome; NULL: 0. */
size_t outcome_text_bytes(const outcome_text *text);

/* What the failure says: its message, or its type, or "". Valid as long as the outcome. */
const char *outcome_reason(const pgq_outcome *outcome);

/* A failure that is to be retried: by the database or, with `in_process`, by this worker. Takes
 * over the text of `failure`. */
pgq_outcome outcome_retry(const pgq_outcome *failure, int64_t delay_ms, bool in_process);

/* What the log row needs to know beside the text. */
typedef struct traceback_context {
    int64_t job_id;
    int32_t attempts;
    const char *entrypoint;
    const char *worker_id;
    int64_t wall_us;
    bool retry;
    int64_t delay_ms; /* of a retry */
    int deaths;       /* of worker processes that ran only this job; 0: none, and not written */
} traceback_context;

/* Adds the JSON object of a log row's traceback: the six keys that Python's readers require.
 * text may be NULL. Source: wire contract 9. */
void outcome_add_traceback(buffer *out, const traceback_context *context, const outcome_text *text);

/* Adds a delay as Python prints a timedelta: [D day[s], ]H:MM:SS[.ffffff]. */
void outcome_add_timedelta(buffer *out, int64_t delay_ms);

#endif
