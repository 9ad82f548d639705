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
    HOW_HANDED, /* by a supervisor, to the worker that it starts for it */
    HOW_LEASED  /* it was locked, and is picked since its lease has ended */
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

typedef enum model_tx_state { TX_NONE, TX_OPEN, TX_ABORTED } model_tx_state;

/* What a conclusion has written and nobody else sees before the commit. */
typedef struct model_staged {
    settle_item item;
    int64_t at_us, stamp;
} model_staged;

/* The transaction of a session. */
typedef struct model_tx {
    model_tx_state state;
    int64_t backend; /* whose it is */
    int64_t hold_us; /* the session ends when it is idle for longer */
    int64_t *locked; /* ids of the rows that it has locked */
    size_t locked_count;
    model_staged *staged;
    size_t staged_count;
    bool untold; /* its deletes send no event */
} model_tx;

/* Who says a sentence. */
typedef struct model_caller {
    int64_t manager; /* serial of the worker */
    model_tx *tx;
    const model_entry *entries;
    size_t entry_count;
} model_caller;

typedef struct model_row {
    int64_t id;
    bool present;
    bool inserted; /* its transaction has not been committed */
    bool late;     /* it has been later than others */
    int32_t priority, attempts;
    uint32_t entrypoint;
    pgq_status status;
    int64_t manager; /* serial of the worker; 0: NULL */
    int32_t seat;    /* `slot`; MODEL_NO_SEAT: NULL */
    int64_t updated, heartbeat, execute_after;
    int64_t queued_us;       /* since when it has been queued */
    int64_t locked_until_us; /* by a session that is none of our workers' */
    int64_t leased_by;       /* the session whose transaction has it locked; 0: none */
    int64_t freed_us;        /* when the last lease of it has ended without a word about it */
    int32_t payload_bytes;
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
    /* how far the claims of all workers have come, of one cursor */
    bool has_front;
    struct {
        bool told;
        bool ahead; /* a lease began further on than behind its own cursor; reset like `told` above
                     */
        uint32_t entrypoint;
        int32_t priority;
        int64_t id;
    } front;
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

/* The error that the sentence brings upon itself: a poisoned row that it would settle. */
model_poison model_poisoned(model *m, int64_t now_us, int64_t manager, const sentence *s);

/* Until when the sentence waits for rows that others have locked; 0: it does not. */
int64_t model_blocked_until(model *m, int64_t now_us, int64_t manager, const sentence *s);

/* Carries out a sentence; the reply lives as long as the memory. Which ghosts live is for whoever
 * knows the connections to add. */
void model_execute(model *m, int64_t now_us, const model_caller *caller, const sentence *s,
                   sentence_reply *ret_reply);

/* model_lease.c */

/* The transaction ends without a trace, and its locks are free. */
void model_rollback(model *m, model_tx *tx, int64_t now_us);

/* Whether a row of a conclusion is not one that its transaction has locked. */
bool model_trespasses(model *m, const model_tx *tx, const sentence *s);

/* Whether a resolve has to wait for somebody's lock. */
bool model_resolve_waits(model *m, int64_t now_us, const sentence *s);

/* Whether a resolve would write the item now. */
bool model_resolves(model *m, int64_t manager, const settle_item *item);

void model_lease(model *m, int64_t now_us, const model_caller *caller, const sentence *s,
                 sentence_reply *reply);
void model_conclude(model *m, int64_t now_us, const model_caller *caller, const sentence *s,
                    sentence_reply *reply);
void model_commit(model *m, int64_t now_us, const model_caller *caller, sentence_reply *reply);
void model_resolve(model *m, int64_t now_us, const model_caller *caller, const sentence *s,
                   sentence_reply *reply);

/* model.c, for model_lease.c */
void model_settle_one(model *m, int64_t now_us, model_row *row, const settle_item *item);
bool model_held_by(const model_row *row, int64_t manager, const claim_token *token);

/* model_claim.c, for the others */
size_t model_sort(model *m);
bool model_contains(const int64_t *ids, size_t count, int64_t id);
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
