/* The producer's connection, and what travels on it: one transaction at a time. Everything here is
 * run by the producer's thread.
 *
 *   off --> hello --> idle --> insert --> commit --> idle
 *                      |          `--> rollback --> idle
 *                      `--> ask --> (look) --> idle
 *
 * and off again from everywhere. COMMIT leaves only when the transaction's id has arrived: before
 * that, a lost connection means that nothing was done; after it, the group is in doubt. */
#ifndef PRODUCER_FLIGHT_H
#define PRODUCER_FLIGHT_H

#include "base/random.h"
#include "pg/conn.h"
#include "producer/intake.h"

enum {
    FLIGHT_JOBS_MAX = 1000, /* in one transaction */
    FLIGHT_DOUBTS_MAX = 4,  /* groups whose outcome is looked for; with so many nothing is sent */
    FLIGHT_RESULTS_MAX = 5  /* of one unit */
};

typedef enum flight_state {
    FLIGHT_OFF,      /* no connection, or it is being made */
    FLIGHT_HELLO,    /* the server was asked who it is */
    FLIGHT_IDLE,     /* ready for the next unit */
    FLIGHT_INSERT,   /* BEGIN, the jobs, the transaction's id */
    FLIGHT_COMMIT,   /* COMMIT has left, or may have */
    FLIGHT_ROLLBACK, /* after a refusal */
    FLIGHT_ASK,      /* of a group in doubt: the status of its transaction */
    FLIGHT_LOOK      /* of a group in doubt: its rows */
} flight_state;

typedef struct server_identity {
    bool known; /* the role may ask for it */
    bool standby;
    int64_t system, timeline, checkpoint;
} server_identity;

/* The jobs of one transaction; `b.inserts` holds them all once the ids are there. */
typedef struct group {
    batch b;
    size_t rows; /* it may have written */
    int64_t xid, began_us;
    server_identity server; /* where it was sent */
    bool in_doubt;
    int64_t ask_us, give_up_us;
    backoff pause;
} group;

typedef struct flight {
    intake *in;
    pg_conn *conn;
    pgq_log_policy log_policy;
    char constraint_name[64]; /* of the dedupe key */
    int64_t answer_timeout_us;
    flight_state state;
    int64_t answer_us; /* by when the server must have answered */
    int64_t retry_us;  /* nothing is sent, or connected, before */
    backoff reconnect;
    random_state random;
    server_identity server;
    group current;
    size_t begin_count; /* statements before its jobs */
    group doubts[FLIGHT_DOUBTS_MAX];
    group *asked;
    size_t jobs_max;   /* of the next group: less after a refusal, until the bad row is alone */
    int tries;         /* refusals in a row that may pass */
    pgq_error trouble; /* why nothing has been sent lately; PGQ_OK: no reason */
    size_t given_up;   /* requests that came back at the close */
    /* the answers of the unit under way */
    pg_result results[FLIGHT_RESULTS_MAX];
    size_t result_count;
    pgq_error error; /* the first */
    char constraint[64];
    /* scratch */
    params params;
    pgq_new_job jobs[FLIGHT_JOBS_MAX];
    int64_t ids[FLIGHT_JOBS_MAX];
} flight;

/* Does all that can be done without blocking. `ready`: the connection's descriptor is. */
void flight_step(flight *f, bool ready, int64_t now_us);

/* When it must be called again without a descriptor; and whether it would send new jobs. */
int64_t flight_until_us(const flight *f, int64_t now_us);
bool flight_wants_work(const flight *f, int64_t now_us);

/* Nothing is under way, and nothing in doubt. */
bool flight_is_quiet(const flight *f);

/* Gives up everything: each caller gets its answer. */
void flight_give_up(flight *f);

void flight_release(flight *f);

/* ---- inside the room ---- */

/* Ends the connection, if there still is one, for this reason; tries again a moment later. */
void flight_off(flight *f, const pgq_error *why, int64_t now_us);

/* A unit was sent, or could not be: `code`. */
void flight_sent(flight *f, pgq_code code, flight_state state, int64_t now_us);

/* Reads what the server says of itself. */
void flight_read_identity(pg_result *r, server_identity *ret_server);

/* Each job of the group gets its outcome: they are durable. */
void flight_settle(flight *f, group *g);

/* The same code and text for each of them. */
void flight_refuse(flight *f, list *requests, pgq_code code, const pgq_error *err);

/* doubt.c: the current group is in doubt from now on. */
void doubt_begin(flight *f, int64_t now_us);

/* Asks for one whose time has come; false: there is none. */
bool doubt_ask(flight *f, int64_t now_us);

/* The answer to it. */
void doubt_asked(flight *f, int64_t now_us);
void doubt_looked(flight *f, int64_t now_us);

/* Those that nothing more is expected of (`always`: all) are answered as unknown. */
void doubt_expire(flight *f, bool always, int64_t now_us);

int64_t doubt_until_us(const flight *f);
size_t doubt_count(const flight *f);

#endif
