/* pgq_producer: what callers call, in their threads, and the producer's own thread. */
#include "base/clock.h"
#include "base/error.h"
#include "pg/client.h"
#include "producer/flight.h"
#include "queue/enqueue.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { RECONNECT_FIRST_US = 50 * 1000, RECONNECT_MOST_US = 2000 * 1000 };

struct pgq_producer {
    pgq_client *client; /* the first connection, its target and its names */
    int64_t timeout_us;
    pthread_t thread;
    intake in;
    flight flight; /* the thread's */
};

/* ---- the thread ---- */

/* True: there is nothing left to do, or no time to do it. */
static bool is_over(pgq_producer *p, int64_t now_us)
{
    int64_t close_us;

    if (!intake_is_closing(&p->in, &close_us))
        return false;
    if (flight_is_quiet(&p->flight) && intake_is_empty(&p->in))
        return true;
    if (now_us < close_us)
        return false;
    flight_give_up(&p->flight);
    return true;
}

/* Sleeps until something happens; returns whether it is the connection's. */
static bool doze(pgq_producer *p, int64_t now_us)
{
    flight *f = &p->flight;
    struct pollfd waits[2] = {
        {.fd = p->in.bell, .events = POLLIN},
        {.fd = pg_conn_fd(f->conn), .events = pg_conn_events(f->conn)},
    };
    int64_t until_us;

    if (intake_doze(&p->in, flight_wants_work(f, now_us), flight_until_us(f, now_us), &until_us) &&
        poll(waits, 2, clock_poll_ms(clock_monotonic_us(), until_us)) < 0)
        waits[0].revents = waits[1].revents = 0; /* a signal, or no memory */
    intake_awake(&p->in);
    return waits[1].revents != 0;
}

static void *run(void *producer)
{
    pgq_producer *p = producer;
    bool ready = false;
    int64_t now_us;

    for (;;) {
        now_us = clock_monotonic_us();
        flight_step(&p->flight, ready, now_us);
        if (is_over(p, now_us))
            return NULL;
        ready = doze(p, now_us);
    }
}

/* ---- opening and closing ---- */

static pgq_code check_range(int64_t value, int64_t max, const char *name, pgq_error *err)
{
    if (value >= 1 && value <= max)
        return PGQ_OK;
    return error_set(err, PGQ_E_INVALID, "%s must be from 1 to %lld, is %lld", name, (long long)max,
                     (long long)value);
}

static pgq_code check_options(const pgq_producer_options *o, pgq_error *err)
{
    pgq_code code = check_range(o->timeout_ms, PGQ_PRODUCER_TIMEOUT_MS_MAX, "timeout_ms", err);

    if (code == PGQ_OK)
        code = check_range(o->answer_timeout_ms, PGQ_PRODUCER_TIMEOUT_MS_MAX, "answer_timeout_ms",
                           err);
    if (code == PGQ_OK)
        code = check_range((int64_t)base_min_size(o->queue_jobs_max, INT64_MAX),
                           (int64_t)PGQ_PRODUCER_JOBS_MAX, "queue_jobs_max", err);
    if (code == PGQ_OK)
        code = check_range((int64_t)base_min_size(o->queue_bytes_max, INT64_MAX),
                           (int64_t)PGQ_PRODUCER_BYTES_MAX, "queue_bytes_max", err);
    return code;
}

/* The client's connection becomes the flight's. */
static void prepare_flight(pgq_producer *p, const pgq_producer_options *o)
{
    flight *f = &p->flight;

    f->in = &p->in;
    f->conn = p->client->conn;
    p->client->conn = NULL;
    f->log_policy = p->client->log_policy;
    (void)snprintf(f->constraint_name, sizeof(f->constraint_name), "%s_unique_dedupe_key",
                   p->client->names.queue);
    f->answer_timeout_us = o->answer_timeout_ms * 1000;
    f->answer_us = CLOCK_NEVER;
    f->reconnect = (backoff){.initial_us = RECONNECT_FIRST_US, .max_us = RECONNECT_MOST_US};
    f->random.state = (uint64_t)clock_wall_us() ^ (uint64_t)(uintptr_t)p;
    f->jobs_max = FLIGHT_JOBS_MAX;
}

static pgq_code start(pgq_producer *p)
{
    sigset_t all, old;
    int status;

    /* signals belong to the host program's threads */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    status = pthread_create(&p->thread, NULL, run, p);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return status == 0 ? PGQ_OK : PGQ_E_NOMEM;
}

static void free_producer(pgq_producer *p)
{
    flight_release(&p->flight);
    intake_release(&p->in);
    (void)pgq_client_free(p->client);
    free(p);
}

pgq_code pgq_producer_open(const pgq_producer_options *options, pgq_producer **ret_producer,
                           pgq_error *err)
{
    pgq_producer_options own = PGQ_PRODUCER_OPTIONS_INIT;
    pgq_producer *p = NULL;
    pgq_client *client;
    pgq_code code = base_copy_options(&own, sizeof(own), options, "pgq_producer_options", err);

    if (code == PGQ_OK)
        code = check_options(&own, err);
    if (code == PGQ_OK)
        code = pgq_client_open(own.connect, &client, err);
    if (code != PGQ_OK)
        return code;
    p = calloc(1, sizeof(*p));
    if (p == NULL) {
        (void)pgq_client_free(client);
        return error_nomem(err);
    }
    code = intake_open(&p->in, own.queue_jobs_max, own.queue_bytes_max, err);
    if (code != PGQ_OK) {
        (void)pgq_client_free(client);
        free(p);
        return code;
    }
    p->client = client;
    p->timeout_us = own.timeout_ms * 1000;
    prepare_flight(p, &own);
    if (start(p) != PGQ_OK) {
        free_producer(p);
        return error_set(err, PGQ_E_NOMEM, "the producer's thread cannot be started");
    }
    *ret_producer = p;
    return PGQ_OK;
}

pgq_code pgq_producer_close(pgq_producer *p, int64_t timeout_ms, pgq_error *err)
{
    size_t given_up;

    if (timeout_ms < 0 || timeout_ms > PGQ_PRODUCER_TIMEOUT_MS_MAX)
        return error_set(err, PGQ_E_INVALID, "the timeout must be from 0 to %lld ms, is %lld",
                         (long long)PGQ_PRODUCER_TIMEOUT_MS_MAX, (long long)timeout_ms);
    if (p == NULL)
        return PGQ_OK;
    intake_close(&p->in, clock_monotonic_us() + timeout_ms * 1000);
    (void)pthread_join(p->thread, NULL);
    (void)intake_call_back(&p->in);
    given_up = p->flight.given_up;
    free_producer(p);
    if (given_up == 0)
        return PGQ_OK;
    return error_set(err, PGQ_E_TIMEOUT, "the producer was closed with %zu jobs not enqueued",
                     given_up);
}

/* ---- a job comes in ---- */

/* Fills a request but for what tells its caller. The job is checked in the caller's thread. */
static pgq_code make_request(const pgq_producer *p, const pgq_new_job *job,
                             pgq_on_conflict on_conflict, int64_t timeout_ms, request *r,
                             pgq_error *err)
{
    pgq_code code;

    if (timeout_ms < 0 || timeout_ms > PGQ_PRODUCER_TIMEOUT_MS_MAX)
        return error_set(err, PGQ_E_INVALID, "the timeout must be from 0 to %lld ms, is %lld",
                         (long long)PGQ_PRODUCER_TIMEOUT_MS_MAX, (long long)timeout_ms);
    code = enqueue_check(job, 1, on_conflict, err);
    if (code != PGQ_OK)
        return code;
    r->job = (pgq_new_job)PGQ_NEW_JOB_INIT;
    code = base_copy_options(&r->job, sizeof(r->job), job, "pgq_new_job", err);
    r->job.struct_size = sizeof(r->job);
    r->on_conflict = on_conflict;
    r->bytes = r->job.payload.len + strlen(r->job.entrypoint);
    r->bytes += r->job.headers != NULL ? strlen(r->job.headers) : 0;
    r->bytes += r->job.dedupe_key != NULL ? strlen(r->job.dedupe_key) : 0;
    r->deadline_us = clock_monotonic_us() + (timeout_ms > 0 ? timeout_ms * 1000 : p->timeout_us);
    return code;
}

/* A semaphore, since one that is woken by it needs no lock that its waker holds: with a condition
 * half of the time of 64 callers was theirs and the producer's thread's waiting for that lock. */
static void wait_for_answer(request *r)
{
    while (sem_wait(&r->answered) != 0) {
        /* a signal */
    }
}

pgq_code pgq_producer_enqueue(pgq_producer *p, const pgq_new_job *job, pgq_on_conflict on_conflict,
                              int64_t timeout_ms, int64_t *ret_id, pgq_error *err)
{
    request r = {.callback = NULL};
    pgq_code code = make_request(p, job, on_conflict, timeout_ms, &r, err);

    if (code != PGQ_OK)
        return code;
    (void)sem_init(&r.answered, 0, 0); /* cannot fail within a process */
    code = intake_add(&p->in, &r, true, err);
    if (code == PGQ_OK) {
        wait_for_answer(&r); /* the producer may be gone from here on */
        code = r.code;
        if (code == PGQ_OK && ret_id != NULL)
            *ret_id = r.id;
        if (code != PGQ_OK && err != NULL)
            *err = r.error;
    }
    (void)sem_destroy(&r.answered);
    return code;
}

/* Moves a text or payload behind the request. */
static const void *move_in(char **at, const void *bytes, size_t len)
{
    char *copy = *at;

    if (bytes == NULL)
        return NULL;
    memcpy(copy, bytes, len);
    *at += len;
    return copy;
}

static size_t text_size(const char *text)
{
    return text != NULL ? strlen(text) + 1 : 0;
}

pgq_code pgq_producer_submit(pgq_producer *p, const pgq_new_job *job, pgq_on_conflict on_conflict,
                             int64_t timeout_ms, pgq_producer_callback callback, void *user,
                             pgq_error *err)
{
    request filled = {.callback = callback, .user = user}, *r;
    pgq_code code;
    char *at;

    if (callback == NULL)
        return error_set(err, PGQ_E_INVALID, "the callback is NULL");
    code = make_request(p, job, on_conflict, timeout_ms, &filled, err);
    if (code != PGQ_OK)
        return code;
    job = &filled.job;
    r = malloc(sizeof(*r) + job->payload.len + text_size(job->entrypoint) +
               text_size(job->headers) + text_size(job->dedupe_key));
    if (r == NULL)
        return error_nomem(err);
    *r = filled;
    at = (char *)(r + 1);
    r->job.payload.data = move_in(&at, job->payload.data, job->payload.len);
    r->job.entrypoint = move_in(&at, job->entrypoint, text_size(job->entrypoint));
    r->job.headers = move_in(&at, job->headers, text_size(job->headers));
    r->job.dedupe_key = move_in(&at, job->dedupe_key, text_size(job->dedupe_key));
    code = intake_add(&p->in, r, false, err);
    if (code != PGQ_OK)
        free(r);
    return code;
}

int pgq_producer_fd(const pgq_producer *p)
{
    return p->in.told_fd;
}

size_t pgq_producer_process(pgq_producer *p)
{
    return intake_call_back(&p->in);
}
