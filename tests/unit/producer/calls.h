/* What the producer's tests share: a producer, calls in threads of their own, and a lock on the
 * queue's table, which holds up what is under way, so that what comes meanwhile waits and then
 * travels together. */
#ifndef TESTS_CALLS_H
#define TESTS_CALLS_H

#include "samples.h"
#include "unit.h"
#include "server.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pgqueuer/producer.h>

#include "base/clock.h"

enum { CALLS_MAX = 64, CLOSE_MS = 20000 };

typedef struct fixture {
    database db;
    PGconn *lock; /* in a transaction that has the table locked, or none */
    pgq_producer *producer;
} fixture;

/* A call in a thread of its own. */
typedef struct call {
    fixture *f;
    pthread_t thread;
    pgq_new_job job;
    pgq_on_conflict on_conflict;
    int64_t timeout_ms;
    char key[16];
    /* its outcome */
    pgq_code code;
    int64_t id, took_us;
    pgq_error err;
} call;

static inline void open_producer(fixture *f, pgq_producer_options options)
{
    pgq_connect_options connect = PGQ_CONNECT_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;

    connect.dsn = f->db.dsn;
    options.connect = &connect;
    expect_ok(pgq_producer_open(&options, &f->producer, &err), &err);
}

static inline int setup(void **state)
{
    fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    database_open(&f->db);
    f->lock = PQconnectdb(f->db.dsn);
    assert_int_equal(PQstatus(f->lock), CONNECTION_OK);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    fixture *f = *state;
    pgq_error err = PGQ_ERROR_INIT;

    PQfinish(f->lock);
    expect_ok(pgq_producer_close(f->producer, CLOSE_MS, &err), &err);
    database_close(&f->db);
    free(f);
    return 0;
}

static inline void hold_up(fixture *f)
{
    sql_run(f->lock, "BEGIN");
    sql_run(f->lock, "LOCK TABLE pgqueuer IN EXCLUSIVE MODE");
}

static inline void let_go(fixture *f)
{
    sql_run(f->lock, "COMMIT");
}

static const char *const blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted";

static inline void *run_call(void *argument)
{
    call *c = argument;
    int64_t began_us = clock_monotonic_us();

    c->code = pgq_producer_enqueue(c->f->producer, &c->job, c->on_conflict, c->timeout_ms, &c->id,
                                   &c->err);
    c->took_us = clock_monotonic_us() - began_us;
    return NULL;
}

static inline call some_call(fixture *f)
{
    return (call){.f = f, .job = some_job(), .id = -1, .err = PGQ_ERROR_INIT};
}

static inline void start_call(call *c)
{
    assert_int_equal(pthread_create(&c->thread, NULL, run_call, c), 0);
}

static inline void end_call(call *c)
{
    assert_int_equal(pthread_join(c->thread, NULL), 0);
}

/* Whether the queue has room, asked by a job that leaves it at once since it cannot be sent. */
static inline bool is_full(fixture *f)
{
    pgq_new_job probe = some_job();
    pgq_error err = PGQ_ERROR_INIT;
    pgq_code code = pgq_producer_enqueue(f->producer, &probe, PGQ_ON_CONFLICT_RAISE, 1, NULL, &err);

    expect_code(code == PGQ_E_BACKPRESSURE ? code : PGQ_E_TIMEOUT, code, &err);
    return code == PGQ_E_BACKPRESSURE;
}

/* The first call is held up in its transaction, the others are in the queue behind it. */
static inline void start_behind_one(fixture *f, call *calls, size_t count)
{
    pgq_producer_options options = PGQ_PRODUCER_OPTIONS_INIT;
    int64_t deadline_us = clock_monotonic_us() + 10 * 1000000;

    options.queue_jobs_max = count;
    open_producer(f, options);
    hold_up(f);
    start_call(&calls[0]);
    assert_true(sql_wait(f->db.sql, "1", blocked));
    for (size_t i = 1; i < count; i++)
        start_call(&calls[i]);
    while (!is_full(f))
        assert_true(clock_monotonic_us() < deadline_us);
}

static inline void end_calls(call *calls, size_t count)
{
    for (size_t i = 0; i < count; i++)
        end_call(&calls[i]);
}

static inline long long count_jobs(fixture *f, const char *where)
{
    return sql_number(f->db.sql, "SELECT count(*) FROM pgqueuer WHERE %s", where);
}

#endif
