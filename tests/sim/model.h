/* The model database: carries out sentences as the statements in sql/ would, one at a time, each
 * at one instant. It knows nothing of connections, workers' memories or faults. */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include "base/arena.h"
#include "queue/sentence.h"

/* How a row was chosen by the claim that holds it. */
typedef enum model_how { HOW_FRESH, HOW_STALE, HOW_ADOPTED } model_how;

typedef enum model_poison {
    POISON_NONE,
    POISON_TEXT, /* its settle is refused until the text is replaced */
    POISON_ROW   /* its settle is refused until poisoned_until_us */
} model_poison;

typedef struct model_row {
    int64_t id;
    bool present;
    int32_t priority, attempts;
    uint32_t entrypoint;
    pgq_status status;
    int64_t manager; /* serial of the worker; 0: NULL */
    int64_t updated, heartbeat, execute_after;
    int64_t queued_us;       /* since when it has been queued */
    int64_t locked_until_us; /* by a session that is none of our workers' */
    model_poison poison;
    int64_t poisoned_until_us;
    /* the log: how often and how it ended */
    int terminal_count;
    pgq_status terminal;
    /* of the latest claim, for whoever checks it */
    model_how how;
    int64_t heartbeat_before;
} model_row;

typedef struct model {
    arena *memory; /* of replies */
    model_row *rows;
    size_t row_count, row_capacity;
    int64_t last_stamp_us; /* `updated` values are unique */
    int64_t heartbeat_timeout_us;
    bool told; /* a statement sent table_changed_event; whoever sees it resets it */
} model;

/* Room for `capacity` rows, which is never exceeded. False: no memory. */
bool model_init(model *m, arena *memory, size_t capacity, int64_t heartbeat_timeout_us);

model_row *model_enqueue(model *m, int64_t now_us, int64_t delay_us, int32_t priority);
model_row *model_row_of(model *m, int64_t id);

/* Deletes a queued, held or picked row and logs it as cancelled. */
void model_cancel(model *m, model_row *row);

/* Puts a held row back. */
void model_requeue(model *m, model_row *row, int64_t now_us);

/* The error that the sentence brings upon itself: a poisoned row in a settle. */
model_poison model_poisoned(model *m, int64_t now_us, const sentence *s);

/* Until when the sentence waits for rows that others have locked; 0: it does not. */
int64_t model_blocked_until(model *m, int64_t now_us, int64_t manager, const sentence *s);

/* Carries out a sentence of worker `manager`; the reply lives as long as the memory. */
void model_execute(model *m, int64_t now_us, int64_t manager, const sentence *s,
                   sentence_reply *ret_reply);

/* Whether a row is queued or picked. */
bool model_unfinished(const model *m);
bool model_any_queued(const model *m);

#endif
