/* A producer that enqueues in its own transaction: an order and the job that mails its receipt
 * are both there, or neither is. No job runs for an order that was rolled back.
 *
 *   cc -o enqueue enqueue.c $(pkg-config --cflags --libs pgqueuer)
 *   ./enqueue "$PGQUEUER_DSN" somebody@example.org
 */
#include <pgqueuer/libpq.h>

#include <stdio.h>
#include <string.h>

static bool execute(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    bool done = PQresultStatus(result) == PGRES_COMMAND_OK;

    PQclear(result);
    if (!done)
        fprintf(stderr, "%s: %s", sql, PQerrorMessage(conn));
    return done;
}

static bool insert_order(PGconn *conn, const char *customer)
{
    PGresult *result = PQexecParams(conn, "INSERT INTO example_orders (customer) VALUES ($1)", 1,
                                    NULL, &customer, NULL, NULL, 0);
    bool done = PQresultStatus(result) == PGRES_COMMAND_OK;

    PQclear(result);
    if (!done)
        fprintf(stderr, "the order: %s", PQerrorMessage(conn));
    return done;
}

static bool enqueue_receipt(PGconn *conn, const char *customer, int64_t *ret_id)
{
    pgq_new_job job = PGQ_NEW_JOB_INIT;
    pgq_error err = PGQ_ERROR_INIT;

    job.entrypoint = "receipt";
    job.payload.data = customer;
    job.payload.len = strlen(customer);
    if (pgq_enqueue_on(conn, NULL, &job, 1, PGQ_ON_CONFLICT_RAISE, ret_id, &err) == PGQ_OK)
        return true;
    fprintf(stderr, "the job: %s\n", err.message);
    if (err.hint[0] != '\0')
        fprintf(stderr, "  %s\n", err.hint);
    return false;
}

int main(int argc, char **argv)
{
    const char *customer = argc > 2 ? argv[2] : "somebody@example.org";
    PGconn *conn = PQconnectdb(argc > 1 ? argv[1] : "");
    int64_t id = 0;
    bool done;

    done = PQstatus(conn) == CONNECTION_OK;
    if (!done)
        fprintf(stderr, "connecting: %s", PQerrorMessage(conn));
    done = done && execute(conn, "CREATE TABLE IF NOT EXISTS example_orders (id bigserial PRIMARY "
                                 "KEY, customer text NOT NULL)");
    done = done && execute(conn, "BEGIN") && insert_order(conn, customer) &&
           enqueue_receipt(conn, customer, &id) && execute(conn, "COMMIT");
    if (done)
        printf("order stored, job %lld enqueued\n", (long long)id);
    PQfinish(conn); /* a transaction that was not committed ends here, with the job */
    return done ? 0 : 1;
}
