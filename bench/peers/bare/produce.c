/* Enqueueing by hand, with libpq and nothing around it: `produce POLICY`, with the verbs of
 * common/producing.h. One job is one prepared statement, which returns its id; many are a COPY into
 * the queue and, under the policy full, one into the log, with ids that were drawn before. */
#include "producing.h"

#include <libpq-fe.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENQUEUE_FULL                                                                             \
    "WITH job AS (INSERT INTO bench.pgqueuer (priority, status, entrypoint, payload) "           \
    "VALUES (0, 'queued', 'bench', $1) RETURNING id), logged AS (INSERT INTO "                   \
    "bench.pgqueuer_log (job_id, status, priority, entrypoint) SELECT id, 'queued', 0, 'bench' " \
    "FROM job) SELECT id FROM job"
#define ENQUEUE_TERMINAL                                                  \
    "INSERT INTO bench.pgqueuer (priority, status, entrypoint, payload) " \
    "VALUES (0, 'queued', 'bench', $1) RETURNING id"
#define DRAW                                                               \
    "SELECT nextval(pg_get_serial_sequence('bench.pgqueuer', 'id')) FROM " \
    "generate_series(1, $1::int4)"

enum { ROW_BYTES = 64, BYTEA_OID = 17 };

static int full;

static void run(PGconn *conn, const char *sql, ExecStatusType wanted)
{
    PGresult *result = PQexec(conn, sql);

    if (PQresultStatus(result) != wanted)
        producing_die(sql, PQerrorMessage(conn));
    PQclear(result);
}

static void *open_connection(void)
{
    static const Oid types[] = {BYTEA_OID};
    PGconn *conn = PQconnectdb("");
    PGresult *result;

    if (PQstatus(conn) != CONNECTION_OK)
        producing_die("connecting", PQerrorMessage(conn));
    result = PQprepare(conn, "enqueue", full ? ENQUEUE_FULL : ENQUEUE_TERMINAL, 1, types);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        producing_die("preparing", PQerrorMessage(conn));
    PQclear(result);
    return conn;
}

static void enqueue(void *conn, const char *payload)
{
    const int length = payload != NULL ? (int)strlen(payload) : 0, format = 1;
    PGresult *result = PQexecPrepared(conn, "enqueue", 1, &payload, &length, &format, 1);

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        producing_die("enqueueing", PQerrorMessage(conn));
    PQclear(result);
}

/* Rows with the ids of `drawn` before the rest, or rows of the rest alone. */
static void copy(PGconn *conn, const char *sql, const PGresult *drawn, int count, const char *rest)
{
    static _Thread_local char text[PRODUCING_BATCH * ROW_BYTES];
    size_t length = 0;

    run(conn, sql, PGRES_COPY_IN);
    for (int i = 0; i < count; i++)
        length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%s%s\n",
                                   drawn != NULL ? PQgetvalue(drawn, i, 0) : "",
                                   drawn != NULL ? "\t" : "", rest);
    if (PQputCopyData(conn, text, (int)length) != 1 || PQputCopyEnd(conn, NULL) != 1)
        producing_die(sql, PQerrorMessage(conn));
    for (PGresult *result; (result = PQgetResult(conn)) != NULL; PQclear(result)) {
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            producing_die(sql, PQerrorMessage(conn));
    }
}

static PGresult *draw(PGconn *conn, int count)
{
    char number[16];
    const char *values[] = {number};
    PGresult *drawn;

    (void)snprintf(number, sizeof(number), "%d", count);
    drawn = PQexecParams(conn, DRAW, 1, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(drawn) != PGRES_TUPLES_OK)
        producing_die("drawing ids", PQerrorMessage(conn));
    return drawn;
}

static void copy_batch(void *conn, int count)
{
    PGresult *drawn = NULL;

    run(conn, "BEGIN", PGRES_COMMAND_OK);
    if (full)
        drawn = draw(conn, count);
    copy(conn,
         full ? "COPY bench.pgqueuer (id, priority, status, entrypoint) FROM STDIN"
              : "COPY bench.pgqueuer (priority, status, entrypoint) FROM STDIN",
         drawn, count, "0\tqueued\tbench");
    if (full)
        copy(conn, "COPY bench.pgqueuer_log (job_id, status, priority, entrypoint) FROM STDIN",
             drawn, count, "queued\t0\tbench");
    PQclear(drawn);
    run(conn, "COMMIT", PGRES_COMMAND_OK);
}

int main(int argc, char **argv)
{
    static const producing_way way = {"bare", open_connection, enqueue, copy_batch};

    if (argc != 2)
        producing_die("usage", "produce POLICY");
    full = strcmp(argv[1], "full") == 0;
    producing_serve(&way);
    return 0;
}
