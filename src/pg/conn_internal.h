/* The inside of a connection, for conn.c (pipeline), connect.c (getting there) and call.c. */
#ifndef PG_CONN_INTERNAL_H
#define PG_CONN_INTERNAL_H

#include "pg/conn.h"
#include "pg/pq.h"
#include "pg/resolve.h"

typedef enum expected_kind { EXPECT_PREPARE, EXPECT_STATEMENT, EXPECT_SYNC } expected_kind;

/* What the server owes us, in the order of sending. */
typedef struct expected {
    expected_kind kind;
    statement_id id; /* of a prepare or a statement; STATEMENT_COUNT: plain SQL */
    bool own;        /* of the connection itself: nobody is told what comes of it */
} expected;

/* The way through the DSN's hosts and their addresses. */
typedef struct attempt {
    size_t host, address;
    resolver *resolver; /* while the host's name is looked up */
    resolution addresses;
    bool any_session; /* prefer-standby, second round */
    PostgresPollingStatusType polling;
    int64_t deadline_us;
} attempt;

struct pg_connection {
    const target *target;
    const statements *statements;
    pg_state state;
    PGconn *pq;
    attempt attempt;
    pgq_error error;
    bool lost_told;     /* PG_REPLY_LOST was delivered */
    bool dying;         /* the socket failed; what arrived before can still be read */
    bool write_pending; /* libpq holds bytes that the socket did not take */
    expected *expected; /* ring */
    size_t expected_first, expected_count, expected_capacity;
    bool front_answered; /* the front's result was taken, its terminating NULL was not */
    pg_reply held;       /* that result */
    pgq_error prepare_error;
    bool prepare_failed; /* the next statement's skip is this error */
    bool used[STATEMENT_COUNT], prepared[STATEMENT_COUNT];
    bool unprepared; /* a prepared statement was not ours to use: a pooler changes our sessions */
    bool fixed_plans;
    PGnotify *notification;
    char *detail; /* of the last unique violation; NULL: none */
};

/* The one place where the state changes. */
void conn_set_state(pg_conn *conn, pg_state state);

/* Ends the connection as PG_BROKEN; the error was filled by the caller. */
void conn_break(pg_conn *conn);

/* Frees libpq's connection and forgets all that depends on it. */
void conn_drop(pg_conn *conn);

/* libpq's notice receiver. Its own prints to stderr; and the last words of a server that ends an
 * idle session come as a notice. `user` is the connection. */
void conn_notice(void *user, const PGresult *notice);

/* Takes over the text (may be NULL), and frees the one before. */
void conn_set_detail(pg_conn *conn, char *detail);

/* The first words of a session, before those of the connection's user. */
void conn_greet(pg_conn *conn);

/* connect.c */
void conn_start_attempts(pg_conn *conn, int64_t now_us);
void conn_process_attempt(pg_conn *conn, int64_t now_us);

#endif
