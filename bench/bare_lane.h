/* One session of the bare loop: what it says, in pipelines, and what it is answered. What fails
 * ends the process with a message. */
#ifndef BENCH_BARE_LANE_H
#define BENCH_BARE_LANE_H

#include <libpq-fe.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    CONNECTIONS_MAX = 8,
    BATCH_MAX = 1000,
    SQL_BYTES = 4096,
    ARRAY_HEAD_BYTES = 20,
    TID_BYTES = 6,
    PAYLOAD_COLUMN = 6 /* of a claimed row */
};

typedef struct loop {
    const char *schema, *policy;
    int batch, connections;
    bool cursor;
    atomic_llong claimed; /* by all threads, in this run */
    long long limit;
    atomic_llong first_us;
} loop;

typedef struct lane {
    loop *loop;
    PGconn *conn;
    pthread_t thread;
    long long done;
    int64_t cursor, end_us;
    int rows; /* claimed and not settled yet */
    unsigned char places[ARRAY_HEAD_BYTES + BATCH_MAX * (4 + TID_BYTES)];
} lane;

void die(const char *what, PGconn *conn);
int64_t now_us(void);
void run(PGconn *conn, const char *sql);
void print_sql(void);

/* With the statements of bare_sql.h prepared, and their plans fixed. */
PGconn *connect_one(const loop *l);
void prepare(const loop *l, PGconn *conn, const char *name, const char *sql);

void send_claim(lane *a, int jobs);
void send_settle(lane *a);
void send_commit(lane *a);
void take_settled(lane *a);
void take_committed(lane *a);

/* Claimed rows: what would be handed to handlers is read, and noted for the settle. */
PGresult *take_rows(lane *a);
void take_claimed(lane *a);

#endif
