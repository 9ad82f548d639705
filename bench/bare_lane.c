#include "bare_lane.h"
#include "bare_sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char EVENTS[] = "later";

enum {
    INT8_BYTES = 8,
    EMPTY_BYTES = 12, /* of an array */
    PAYLOAD_MAX = 131072,
    INT8_OID = 20,
    INT4_OID = 23,
    TEXT_OID = 25,
    TID_OID = 27,
    INT4_ARRAY_OID = 1007,
    INT8_ARRAY_OID = 1016
};

void die(const char *what, PGconn *conn)
{
    (void)fprintf(stderr, "bare: %s: %s", what, conn != NULL ? PQerrorMessage(conn) : "\n");
    exit(1);
}

int64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void run(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);

    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        die(sql, conn);
    PQclear(result);
}

/* ---- the SQL ---- */

enum { STATEMENTS = sizeof(statements) / sizeof(statements[0]) };

void print_sql(void)
{
    for (int i = 0; i < STATEMENTS; i++)
        (void)printf("-- %s\n%s\n", statements[i].name, statements[i].sql);
}

/* Writes the statement with the names of the queue's objects. */
static void expand(const loop *l, const char *sql, char *text)
{
    static const struct {
        const char *word, *before, *after; /* what stands around the schema's name */
    } objects[] = {{":queue", "", ".pgqueuer"},
                   {":log", "", ".pgqueuer_log"},
                   {":statistics_literal", "'", ".pgqueuer_statistics'"},
                   {":counts", "pgqueuer_c_", ".counts"},
                   {":status", "", ".pgqueuer_status"}};
    enum { OBJECTS = sizeof(objects) / sizeof(objects[0]) };
    char *end = text + SQL_BYTES;

    while (*sql != '\0' && text < end - 1) {
        int i = 0;

        while (i < OBJECTS && strncmp(sql, objects[i].word, strlen(objects[i].word)) != 0)
            i++;
        if (i == OBJECTS) {
            *text++ = *sql++;
            continue;
        }
        text += snprintf(text, (size_t)(end - text), "%s%s%s", objects[i].before, l->schema,
                         objects[i].after);
        sql += strlen(objects[i].word);
        if (text >= end)
            die("a statement is too long", NULL);
    }
    *text = '\0';
}

void prepare(const loop *l, PGconn *conn, const char *name, const char *sql)
{
    static const Oid types[] = {INT4_OID,       TEXT_OID,       INT4_OID,      TEXT_OID,
                                INT8_ARRAY_OID, INT4_ARRAY_OID, INT8_ARRAY_OID};
    char text[SQL_BYTES];
    int params = strcmp(name, "claim_lease") == 0         ? 5
                 : strcmp(name, "claim_lease_after") == 0 ? 7
                 : strcmp(name, "fixed_plans") == 0       ? 1
                                                          : 0;
    PGresult *result;

    expand(l, sql, text);
    result = PQprepare(conn, name, text, params, types);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        die(name, conn);
    PQclear(result);
}

static void put(unsigned char *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> (8 * (bytes - 1 - i)));
}

static void fix_plans(PGconn *conn)
{
    unsigned char process[4];
    const char *values[] = {(char *)process};
    int lengths[] = {sizeof(process)}, formats[] = {1};
    PGresult *result;

    put(process, (uint64_t)PQbackendPID(conn), 4);
    result = PQexecPrepared(conn, "fixed_plans", 1, values, lengths, formats, 1);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        die("fixed_plans", conn);
    PQclear(result);
}

PGconn *connect_one(const loop *l)
{
    const char *keys[] = {"dbname", "fallback_application_name", NULL};
    const char *values[] = {getenv("BARE_DSN"), "pgqueuer-bench", NULL};
    PGconn *conn = PQconnectdbParams(keys, values, 1);

    if (PQstatus(conn) != CONNECTION_OK)
        die("connecting", conn);
    for (int i = 0; i < STATEMENTS; i++)
        prepare(l, conn, statements[i].name, statements[i].sql);
    fix_plans(conn);
    return conn;
}

static int64_t get(const char *from, int bytes)
{
    uint64_t value = 0;

    for (int i = 0; i < bytes; i++)
        value = value << 8 | (unsigned char)from[i];
    return (int64_t)value;
}

static void array_head(unsigned char *at, uint32_t oid, int count)
{
    put(at, count > 0 ? 1 : 0, 4);
    put(at + 4, 0, 4);
    put(at + 8, oid, 4);
    put(at + 12, (uint64_t)count, 4);
    put(at + 16, 1, 4);
}

/* Behind the cursor of the only priority there is, or from the front. */
void send_claim(lane *a, int jobs)
{
    unsigned char count[4], payload_max[4], nothing[EMPTY_BYTES] = {0};
    unsigned char priorities[ARRAY_HEAD_BYTES + 8], cursors[ARRAY_HEAD_BYTES + 4 + INT8_BYTES];
    const char *values[] = {(char *)count,  "bench",         (char *)payload_max,
                            "1000ms",       (char *)nothing, (char *)priorities,
                            (char *)cursors};
    int lengths[] = {sizeof(count),  5, sizeof(payload_max), 6, EMPTY_BYTES, sizeof(priorities),
                     sizeof(cursors)};
    int formats[] = {1, 1, 1, 1, 1, 1, 1};
    bool after = a->loop->cursor;

    if (!after) { /* not what seems to be locked */
        values[5] = "";
        lengths[5] = 1;
    }
    put(count, (uint64_t)jobs, 4);
    put(payload_max, PAYLOAD_MAX, 4);
    put(nothing + 8, INT8_OID, 4);
    array_head(priorities, INT4_OID, 1);
    put(priorities + ARRAY_HEAD_BYTES, 4, 4);
    put(priorities + ARRAY_HEAD_BYTES + 4, 0, 4);
    array_head(cursors, INT8_OID, 1);
    put(cursors + ARRAY_HEAD_BYTES, INT8_BYTES, 4);
    put(cursors + ARRAY_HEAD_BYTES + 4, (uint64_t)a->cursor, INT8_BYTES);
    if (PQsendQueryPrepared(a->conn, "begin", 0, NULL, NULL, NULL, 1) == 0 ||
        PQsendQueryPrepared(a->conn, after ? "claim_lease_after" : "claim_lease", after ? 7 : 6,
                            values, lengths, formats, 1) == 0 ||
        PQpipelineSync(a->conn) == 0)
        die("sending", a->conn);
}

void send_settle(lane *a)
{
    bool quiet = strcmp(a->loop->policy, "failures") == 0;
    unsigned char log_rows[4];
    const char *values[3] = {(char *)a->places};
    int lengths[3] = {ARRAY_HEAD_BYTES + a->rows * (4 + TID_BYTES)}, formats[] = {1, 1, 1};
    int count = 1;

    array_head(a->places, TID_OID, a->rows);
    put(log_rows, strcmp(a->loop->policy, "full") == 0 ? 2 : 1, 4);
    if (!quiet) {
        values[count] = (char *)log_rows;
        lengths[count++] = sizeof(log_rows);
    }
    values[count] = EVENTS; /* nobody is told that jobs are done */
    lengths[count++] = sizeof(EVENTS) - 1;
    if (PQsendQueryPrepared(a->conn, quiet ? "settle_quiet" : "settle_done_counted", count, values,
                            lengths, formats, 1) == 0 ||
        PQpipelineSync(a->conn) == 0)
        die("sending", a->conn);
}

void send_commit(lane *a)
{
    if (PQsendQueryPrepared(a->conn, "commit", 0, NULL, NULL, NULL, 1) == 0 ||
        PQpipelineSync(a->conn) == 0)
        die("sending", a->conn);
}

/* ---- the answers ---- */

/* One statement's result; the NULL that follows it is taken too. */
static PGresult *take(lane *a)
{
    PGresult *result = PQgetResult(a->conn);
    ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        die("a statement failed", a->conn);
    if (PQgetResult(a->conn) != NULL)
        die("one result too many", NULL);
    return result;
}

static void take_sync(lane *a)
{
    PGresult *result = PQgetResult(a->conn);

    if (PQresultStatus(result) != PGRES_PIPELINE_SYNC)
        die("no sync", a->conn);
    PQclear(result);
}

void take_settled(lane *a)
{
    PQclear(take(a));
    take_sync(a);
}

void take_committed(lane *a)
{
    PGresult *result = take(a);

    if (strcmp(PQcmdStatus(result), "COMMIT") != 0)
        die("not committed", NULL);
    PQclear(result);
    take_sync(a);
}

PGresult *take_rows(lane *a)
{
    PGresult *result;
    unsigned char *at = a->places + ARRAY_HEAD_BYTES;

    PQclear(take(a)); /* BEGIN */
    result = take(a);
    a->rows = PQntuples(result);
    for (int row = 0; row < a->rows; row++, at += 4 + TID_BYTES) {
        int64_t id = get(PQgetvalue(result, row, 1), INT8_BYTES);

        put(at, TID_BYTES, 4);
        memcpy(at + 4, PQgetvalue(result, row, 0), TID_BYTES);
        if (id > a->cursor)
            a->cursor = id;
    }
    take_sync(a);
    return result;
}

void take_claimed(lane *a)
{
    PQclear(take_rows(a));
}
