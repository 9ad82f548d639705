/* The model database: carries out sentences as the statements in sql/ would, one at a time, each
 * at one instant. It knows nothing of connections, workers' memories or faults. */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include "base/arena.h"
#include "queue/sentence.h"

enum { MODEL_ENTRIES_MAX = 4, MODEL_STATUSES = 8, MODEL_NO_SEAT = -1 };

/* How a row was chosen by the claim that holds it. */
typedef enum model_how {
    HOW_FRESH,
    HOW_STALE,
    HOW_ADOPTED,
    HOW_HANDED /* by a supervisor, to the worker that it starts for it */
} model_how;

typedef enum model_poison {
    POISON_NONE,
    POISON_TEXT, /* its settle is refused until the text is replaced */
    POISON_ROW   /* its settle is refused until poisoned_until_us */
} model_poison;

/* What statements carry of a worker's registration of an entrypoint. */
typedef struct model_entry {
    int32_t limit; /* 0: none */
    int64_t silence_us;
} model_entry;

/* Who says a sentence. */
typedef struct model_caller {
    int64_t manager; /* serial of the worker */
    const model_entry *entries;
    size_t entry_count;
} model_caller;

typedef struct model_row {
    int64_t id;
    bool present;
    int32_t priority, attempts;
    uint32_t entrypoint;
    pgq_status status;
    int64_t manager; /* serial of the worker; 0: NULL */
    int32_t seat;    /* `slot`; MODEL_NO_SEAT: NULL */
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
    model_row **order; /* scratch */
    size_t row_count, row_capacity;
    int64_t last_stamp_us; /* `updated` values are unique */
    int64_t heartbeat_timeout_us;
    bool told;  /* a statement sent table_changed_event `update`; whoever sees it resets it */
    bool freed; /* the same for `delete` */
    bool seats_were_short; /* the last claim left due rows alone, whose entrypoint was full */
    uint64_t log[MODEL_STATUSES], statistics[MODEL_STATUSES], unfolded[MODEL_STATUSES];
} model;

/* Room for `capacity` rows, which is never exceeded. False: no memory. */
bool model_init(model *m, arena *memory, size_t capacity, int64_t heartbeat_timeout_us);

model_row *model_enqueue(model *m, int64_t now_us, int64_t delay_us, int32_t priority,
                         uint32_t entrypoint);
model_row *model_row_of(model *m, int64_t id);

/* Deletes a queued, held or picked row and logs it as cancelled. */
void model_cancel(model *m, model_row *row);

/* Puts a held row back. */
void model_requeue(model *m, model_row *row, int64_t now_us);

/* A supervisor makes a picked row another worker's, who is about to begin. */
void model_hand_over(model *m, model_row *row, int64_t now_us, int64_t manager);

/* The error that the sentence brings upon itself: a poisoned row in a settle. */
model_poison model_poisoned(model *m, int64_t now_us, int64_t manager, const sentence *s);

/* Until when the sentence waits for rows that others have locked; 0: it does not. */
int64_t model_blocked_until(model *m, int64_t now_us, int64_t manager, const sentence *s);

/* Carries out a sentence; the reply lives as long as the memory. Which ghosts live is for whoever
 * knows the connections to add. */
void model_execute(model *m, int64_t now_us, const model_caller *caller, const sentence *s,
                   sentence_reply *ret_reply);

/* model_claim.c, for model.c */
void model_claim(model *m, int64_t now_us, const model_caller *caller, const sentence *s,
                 sentence_reply *reply);
void model_adopt(model *m, int64_t now_us, const model_caller *caller, const sentence *s,
                 sentence_reply *reply);
int64_t model_stamp(model *m, int64_t now_us);
void model_log(model *m, pgq_status status);
bool model_locked(const model_row *row, int64_t now_us);

/* How many rows of the entrypoint are picked. */
size_t model_picked(const model *m, uint32_t entrypoint);

/* Orders pointers to rows as they are claimed: priority DESC, id. */
int model_compare(const void *a, const void *b);

#endif
