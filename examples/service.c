/* A service whose threads enqueue through one producer: each call returns when its own job is
 * durable, and calls that come at the same time share a commit.
 *
 *   cc -pthread -o service service.c $(pkg-config --cflags --libs pgqueuer)
 *   ./service "$PGQUEUER_DSN" 1000
 */
#include <pgqueuer/pgqueuer.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 16 };

typedef struct server {
    pgq_producer *producer;
    int requests; /* of each thread */
} server;

/* What a request of the service does. */
static pgq_code handle(pgq_producer *producer, int number)
{
    pgq_new_job job = PGQ_NEW_JOB_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    char payload[32];
    int64_t id;
    pgq_code code;

    job.entrypoint = "mail";
    job.payload.data = payload;
    job.payload.len = (size_t)snprintf(payload, sizeof(payload), "request %d", number);
    code = pgq_producer_enqueue(producer, &job, PGQ_ON_CONFLICT_RAISE, 2000, &id, &err);
    if (code == PGQ_E_BACKPRESSURE || code == PGQ_E_TIMEOUT)
        fprintf(stderr, "503, come back later: %s\n", err.message); /* it is not enqueued */
    else if (code != PGQ_OK)
        fprintf(stderr, "500: %s\n  %s\n", err.message, err.hint);
    return code;
}

static void *serve(void *argument)
{
    server *s = argument;
    intptr_t done = 0;

    for (int i = 0; i < s->requests; i++)
        done += handle(s->producer, i) == PGQ_OK;
    return (void *)done;
}

int main(int argc, char **argv)
{
    pgq_connect_options connect = PGQ_CONNECT_OPTIONS_INIT;
    pgq_producer_options options = PGQ_PRODUCER_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    server s = {NULL, argc > 2 ? atoi(argv[2]) : 1000};
    pthread_t threads[THREADS];
    int started = 0;
    long done = 0;

    connect.dsn = argc > 1 ? argv[1] : "";
    options.connect = &connect;
    if (pgq_producer_open(&options, &s.producer, &err) != PGQ_OK) {
        fprintf(stderr, "connecting: %s\n  %s\n", err.message, err.hint);
        return 1;
    }
    while (started < THREADS && pthread_create(&threads[started], NULL, serve, &s) == 0)
        started++;
    for (int i = 0; i < started; i++) {
        void *result;

        pthread_join(threads[i], &result);
        done += (long)(intptr_t)result;
    }
    printf("%ld jobs enqueued by %d threads\n", done, started);
    if (pgq_producer_close(s.producer, 10000, &err) != PGQ_OK)
        fprintf(stderr, "closing: %s\n", err.message);
    return done == (long)THREADS * s.requests ? 0 : 1;
}
