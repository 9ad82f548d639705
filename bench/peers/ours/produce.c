/* Our producer: `produce WAY POLICY`, with the verbs of common/producing.h. The queue is in the
 * schema `bench`, the database is that of libpq's environment. */
#include "producing.h"

#include <pgqueuer/pgqueuer.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pgq_log_policy policy = PGQ_LOG_POLICY_FULL;

static pgq_connect_options connect_options(void)
{
    static pgq_names names = PGQ_NAMES_INIT;
    pgq_connect_options options = PGQ_CONNECT_OPTIONS_INIT;

    names.schema = "bench";
    names.channel = "bench";
    options.names = &names;
    options.log_policy = policy;
    return options;
}

static void *open_client(void)
{
    pgq_connect_options options = connect_options();
    pgq_error err = PGQ_ERROR_INIT;
    pgq_client *client;

    if (pgq_client_open(&options, &client, &err) != PGQ_OK)
        producing_die("connecting", err.message);
    return client;
}

static pgq_new_job new_job(const char *payload)
{
    pgq_new_job job = PGQ_NEW_JOB_INIT;

    job.entrypoint = "bench";
    if (payload != NULL)
        job.payload = (pgq_bytes){payload, strlen(payload)};
    return job;
}

static void enqueue(void *client, const char *payload)
{
    pgq_new_job job = new_job(payload);
    pgq_error err = PGQ_ERROR_INIT;
    int64_t id;

    if (pgq_enqueue(client, &job, PGQ_ON_CONFLICT_RAISE, &id, &err) != PGQ_OK)
        producing_die("enqueueing", err.message);
}

/* One for all lanes, on one connection: callers at the same time share a commit. */
static void *open_producer(void)
{
    static pgq_producer *producer;
    pgq_connect_options connect = connect_options();
    pgq_producer_options options = PGQ_PRODUCER_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;

    options.connect = &connect;
    if (producer == NULL && pgq_producer_open(&options, &producer, &err) != PGQ_OK)
        producing_die("connecting", err.message);
    return producer;
}

static void enqueue_shared(void *producer, const char *payload)
{
    pgq_new_job job = new_job(payload);
    pgq_error err = PGQ_ERROR_INIT;
    int64_t id;

    if (pgq_producer_enqueue(producer, &job, PGQ_ON_CONFLICT_RAISE, 0, &id, &err) != PGQ_OK)
        producing_die("enqueueing", err.message);
}

/* Not what a producer is for; to fill a queue. */
static void enqueue_one_by_one(void *producer, int count)
{
    for (int i = 0; i < count; i++)
        enqueue_shared(producer, NULL);
}

static void enqueue_batch(void *client, int count)
{
    static _Thread_local pgq_new_job jobs[PRODUCING_BATCH];
    static _Thread_local int64_t ids[PRODUCING_BATCH];
    pgq_error err = PGQ_ERROR_INIT;

    for (int i = 0; i < count; i++)
        jobs[i] = new_job(NULL);
    if (pgq_enqueue_batch(client, jobs, (size_t)count, PGQ_ON_CONFLICT_RAISE, ids, &err) != PGQ_OK)
        producing_die("enqueueing", err.message);
}

/* Every way to enqueue that there is. A new one is a line here and its name in OUR_PRODUCERS of
 * harness/systems.py. */
static const producing_way ways[] = {
    {"calls", open_client, enqueue, enqueue_batch},
    {"producer", open_producer, enqueue_shared, enqueue_one_by_one},
};

int main(int argc, char **argv)
{
    static const char *const policies[] = {"", "full", "terminal", "failures"};

    if (argc != 3)
        producing_die("usage", "produce WAY POLICY");
    for (int i = 1; i < 4; i++) {
        if (strcmp(argv[2], policies[i]) == 0)
            policy = (pgq_log_policy)i;
    }
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        if (strcmp(argv[1], ways[i].name) == 0) {
            producing_serve(&ways[i]);
            return 0;
        }
    }
    producing_die(argv[1], "there is no such way");
}
