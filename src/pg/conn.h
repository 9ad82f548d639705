/* One connection: non-blocking, pipelined, with a deadline for each host.
 *
 * Two kinds of callers: an event loop, which waits for pg_conn_fd/_events/_deadline and then calls
 * pg_conn_process and pg_conn_next; and the blocking helpers at the end, which do the same with
 * poll(). One thread at a time. A lost connection, at any byte, is the reply PG_REPLY_LOST and
 * the state PG_BROKEN, once; from there only pg_conn_connect and pg_conn_free are useful.
 *
 *   down --connect--> connecting --> ready --> broken --connect--> connecting
 *                        `---------------------^
 */
#ifndef PG_CONN_H
#define PG_CONN_H

#include "pg/param.h"
#include "pg/result.h"
#include "pg/sqlstate.h"
#include "pg/statement.h"
#include "pg/target.h"

typedef enum pg_state { PG_DOWN, PG_CONNECTING, PG_READY, PG_BROKEN } pg_state;

typedef struct pg_connection pg_conn; /* the tag pg_conn is libpq's */

/* The target and the statements are borrowed and must outlive the connection. */
pgq_code pg_conn_new(const target *t, const statements *s, pg_conn **ret_conn);

/* Closes and frees. Takes NULL; returns NULL. */
pg_conn *pg_conn_free(pg_conn *conn);

/* Starts to connect, from PG_DOWN or PG_BROKEN. Never blocks: names are resolved in a thread. */
void pg_conn_connect(pg_conn *conn, int64_t now_us);

/* Closes at once, whatever is under way; the state is PG_DOWN. */
void pg_conn_close(pg_conn *conn);

pg_state pg_conn_state(const pg_conn *conn);

/* The process id of the server's side, while the state is PG_READY; 0: not known. */
int64_t pg_conn_backend(const pg_conn *conn);

/* Whether a pooler was seen that changes our sessions; then nothing is prepared any more, also
 * after connecting anew. Where one connection has seen it, the others to the same target may be
 * told. */
bool pg_conn_is_pooled(const pg_conn *conn);
void pg_conn_set_pooled(pg_conn *conn);

/* The session's plans are to be kept, from the next pg_conn_connect on: see sql/fixed_plans.sql.
 * For those who say the same few statements again and again, all of which are made for it. */
void pg_conn_fix_plans(pg_conn *conn);

/* Why the connection is PG_BROKEN. Valid until the next pg_conn_connect. */
const pgq_error *pg_conn_error(const pg_conn *conn);

/* What the loop waits for: a descriptor (-1: none; it may change with every call of process),
 * POLLIN and POLLOUT, and an instant of clock_monotonic_us (CLOCK_NEVER: none). */
int pg_conn_fd(const pg_conn *conn);
short pg_conn_events(const pg_conn *conn);
int64_t pg_conn_deadline_us(const pg_conn *conn);

/* Reads, writes, connects as far as it goes without blocking. Returns the state. */
pg_state pg_conn_process(pg_conn *conn, int64_t now_us);

/* Queues a statement, or plain SQL without parameters; then pg_conn_sync ends the unit: a
 * statement that fails makes the later ones fail up to the next sync. They send nothing by
 * themselves beyond what the socket takes; process sends the rest. params may be NULL.
 * PGQ_E_NOMEM (nothing was queued), PGQ_E_STATE (not ready), PGQ_E_CONNECTION_LOST. */
pgq_code pg_conn_send(pg_conn *conn, statement_id id, const params *p);
pgq_code pg_conn_send_sql(pg_conn *conn, const char *sql);
pgq_code pg_conn_sync(pg_conn *conn);

typedef enum pg_reply_kind {
    PG_REPLY_NONE,    /* nothing complete has arrived */
    PG_REPLY_ROWS,    /* a statement succeeded; `result` is the caller's to release. It is
                         committed, in a transaction of its own, only with the sync */
    PG_REPLY_ERROR,   /* a statement failed, or after all statements the commit: `error` */
    PG_REPLY_SKIPPED, /* a statement was not run, because an earlier one of its unit failed */
    PG_REPLY_SYNC,    /* the end of a unit */
    PG_REPLY_LOST     /* the connection is broken: what was not answered may or may not be done */
} pg_reply_kind;

typedef struct pg_reply {
    pg_reply_kind kind;
    pg_result result;
    pgq_error error;
    char constraint[64]; /* of the error: the constraint's name, or "" */
} pg_reply;

/* Takes the next reply, in the order of sending. */
void pg_conn_next(pg_conn *conn, pg_reply *reply);

/* Takes the next notification; false: none. The payload is borrowed until the next call. */
bool pg_conn_notification(pg_conn *conn, const char **ret_channel, const char **ret_payload);

/* Blocking helpers. `deadline_us` is an instant; CLOCK_NEVER waits for ever. */

/* Connects if need be and waits until the connection is ready. */
pgq_code pg_conn_open(pg_conn *conn, int64_t deadline_us, pgq_error *err);

/* Runs one statement in a transaction of its own. On PGQ_OK ret_result (may be NULL) is the
 * caller's to release. After PGQ_E_TIMEOUT, PGQ_E_OUTCOME_UNKNOWN and PGQ_E_CONNECTION_LOST the
 * connection is broken. ret_constraint (may be NULL, 64 bytes) receives the violated one. */
pgq_code pg_conn_call(pg_conn *conn, statement_id id, const params *p, int64_t deadline_us,
                      pg_result *ret_result, char *ret_constraint, pgq_error *err);

/* Runs one statement of plain SQL, likewise. */
pgq_code pg_conn_call_sql(pg_conn *conn, const char *sql, int64_t deadline_us,
                          pg_result *ret_result, pgq_error *err);

/* Runs a COPY with the rows of `source`, outside of pipeline mode, with nothing under way. Errors
 * and ret_constraint as pg_conn_call; a connection that is lost, or late, is closed. */
pgq_code pg_conn_copy(pg_conn *conn, statement_id id, rows_source source, void *user,
                      int64_t deadline_us, char *ret_constraint, pgq_error *err);

/* The server's DETAIL of the last unique violation: which key. NULL: it said none, or this role may
 * not see it. For finding the row; never for a message, it quotes what the caller stores. */
const char *pg_conn_detail(const pg_conn *conn);

/* Runs `body` between BEGIN and COMMIT. What is lost before the COMMIT was sent is not done:
 * PGQ_E_CONNECTION_LOST and not PGQ_E_OUTCOME_UNKNOWN, which only the COMMIT can mean. A body
 * that was refused only because a pooler's session lacks a prepared statement runs once more. */
typedef pgq_code (*pg_body)(void *user, pgq_error *err);
pgq_code pg_conn_transaction(pg_conn *conn, pg_body body, void *user, int64_t deadline_us,
                             pgq_error *err);

/* Runs statements of plain SQL in one transaction: all of them or none. */
pgq_code pg_conn_run_script(pg_conn *conn, const char *const *sqls, size_t count,
                            int64_t deadline_us, pgq_error *err);

/* Looks, by other means than this connection, what a statement that takes long is waiting for. */
typedef struct pg_watch {
    void (*look)(void *user);
    void *user;
    int64_t every_us;
    int64_t next_us; /* set by the call */
} pg_watch;

/* Runs one statement alone, as those must be that are not allowed in a transaction, or several in
 * one transaction. Without a deadline; the watch looks now and then while it takes. */
pgq_code pg_conn_run_watched(pg_conn *conn, const char *const *sqls, size_t count, pg_watch *watch,
                             pgq_error *err);

#endif
