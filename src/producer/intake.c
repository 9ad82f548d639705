#include "producer/intake.h"
#include "base/clock.h"
#include "base/error.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH_BYTES_MAX = 8 * 1024 * 1024, /* of one transaction, but for its first job */
    UPSERTS_MAX = 100,            /* of one transaction: their keys are compared with each other */
    UNPARK_EVERY_US = 200 * 1000, /* trying one holds up all others for a moment */
    EXPIRE_EVERY_US = 10 * 1000   /* looking through a long queue has its price */
};

static void ring(int fd)
{
    uint64_t one = 1;

    if (write(fd, &one, sizeof(one)) < 0) {
        /* an eventfd that is full is readable, which is all that is wanted */
    }
}

static void silence(int fd)
{
    uint64_t count;

    if (read(fd, &count, sizeof(count)) < 0) {
        /* it was not rung */
    }
}

/* Conditions wait by the clock that never steps. */
static bool open_room(pthread_cond_t *room)
{
    pthread_condattr_t attributes;
    bool done;

    if (pthread_condattr_init(&attributes) != 0)
        return false;
    done = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
           pthread_cond_init(room, &attributes) == 0;
    (void)pthread_condattr_destroy(&attributes);
    return done;
}

pgq_code intake_open(intake *in, size_t jobs_max, size_t bytes_max, pgq_error *err)
{
    *in = (intake){.jobs_max = jobs_max,
                   .bytes_max = bytes_max,
                   .earliest_us = CLOCK_NEVER,
                   .awake_us = CLOCK_NEVER,
                   .bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                   .told_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (in->bell >= 0 && in->told_fd >= 0 && pthread_mutex_init(&in->lock, NULL) == 0) {
        if (open_room(&in->room))
            return PGQ_OK;
        (void)pthread_mutex_destroy(&in->lock);
    }
    if (in->bell >= 0)
        (void)close(in->bell);
    if (in->told_fd >= 0)
        (void)close(in->told_fd);
    return error_set(err, PGQ_E_NOMEM, "no descriptors or locks for the producer's queue");
}

void intake_release(intake *in)
{
    (void)close(in->bell);
    (void)close(in->told_fd);
    (void)pthread_cond_destroy(&in->room);
    (void)pthread_mutex_destroy(&in->lock);
}

/* ---- callers ---- */

static bool has_room(const intake *in, const request *r)
{
    return in->jobs < in->jobs_max && in->bytes_max - in->bytes >= r->bytes;
}

static pgq_code wait_for_room(intake *in, const request *r, pgq_error *err)
{
    struct timespec until = {.tv_sec = (time_t)(r->deadline_us / 1000000),
                             .tv_nsec = (long)(r->deadline_us % 1000000) * 1000};
    int status = 0;

    in->waiting++;
    while (!in->closing && !has_room(in, r) && status == 0)
        status = pthread_cond_timedwait(&in->room, &in->lock, &until);
    in->waiting--;
    if (in->closing) {
        (void)pthread_cond_broadcast(&in->room);
        return error_set(err, PGQ_E_STATE, "the producer is being closed");
    }
    return has_room(in, r) ? PGQ_OK : PGQ_E_BACKPRESSURE;
}

static pgq_code no_room(const intake *in, pgq_error *err)
{
    (void)error_set(err, PGQ_E_BACKPRESSURE, "the producer's queue is full: %zu jobs, %zu bytes",
                    in->jobs, in->bytes);
    error_hint(err,
               "nothing was enqueued; the database does not take the jobs as fast as they come, "
               "or cannot be reached");
    if (err != NULL)
        err->retryable = true;
    return PGQ_E_BACKPRESSURE;
}

static void take_in(intake *in, request *r)
{
    in->jobs++;
    in->bytes += r->bytes;
    list_append(&in->queue, &r->link);
    in->earliest_us = base_min_i64(in->earliest_us, r->deadline_us);
    if (!in->rung && (in->wants_work || r->deadline_us < in->awake_us)) {
        in->rung = true;
        ring(in->bell); /* under the lock: the producer may be gone when it is let go */
    }
}

pgq_code intake_add(intake *in, request *r, bool wait, pgq_error *err)
{
    pgq_code code = PGQ_OK;

    if (r->bytes > in->bytes_max)
        return error_set(err, PGQ_E_LIMIT,
                         "the job has %zu bytes; the producer's queue takes at most %zu", r->bytes,
                         in->bytes_max);
    (void)pthread_mutex_lock(&in->lock);
    if (in->closing)
        code = error_set(err, PGQ_E_STATE, "the producer is being closed");
    else if (!has_room(in, r))
        code = wait ? wait_for_room(in, r, err) : PGQ_E_BACKPRESSURE;
    if (code == PGQ_OK)
        take_in(in, r);
    else if (code == PGQ_E_BACKPRESSURE)
        (void)no_room(in, err);
    (void)pthread_mutex_unlock(&in->lock);
    return code;
}

static void make_room(intake *in, size_t jobs, size_t bytes)
{
    assert(in->jobs >= jobs && in->bytes >= bytes);
    in->jobs -= jobs;
    in->bytes -= bytes;
    if (in->waiting > 0)
        (void)pthread_cond_broadcast(&in->room);
}

size_t intake_call_back(intake *in)
{
    list told;
    size_t bytes = 0, count;
    list_link *link;

    (void)pthread_mutex_lock(&in->lock);
    silence(in->told_fd);
    told = (list){NULL, NULL, 0};
    while ((link = list_pop(&in->told)) != NULL) {
        bytes += REQUEST_OF(link)->bytes;
        list_append(&told, link);
    }
    count = told.count;
    make_room(in, count, bytes);
    (void)pthread_mutex_unlock(&in->lock);
    while ((link = list_pop(&told)) != NULL) {
        request *r = REQUEST_OF(link);

        r->callback(r->code, r->id, r->code != PGQ_OK ? &r->error : NULL, r->user);
        free(r);
    }
    return count;
}

void intake_close(intake *in, int64_t close_us)
{
    (void)pthread_mutex_lock(&in->lock);
    in->closing = true;
    in->close_us = close_us;
    in->rung = true;
    ring(in->bell);
    (void)pthread_cond_broadcast(&in->room);
    while (in->waiting > 0)
        (void)pthread_cond_wait(&in->room, &in->lock);
    (void)pthread_mutex_unlock(&in->lock);
}

/* ---- the producer's thread ---- */

/* A statement may meet a key only once if it updates the row that has it. */
static bool has_key(const list *upserts, const char *key)
{
    for (const list_link *at = upserts->first; at != NULL; at = at->next) {
        if (base_streq(REQUEST_OF(at)->job.dedupe_key, key))
            return true;
    }
    return false;
}

static bool upserts(const request *r)
{
    return r->on_conflict == PGQ_ON_CONFLICT_UPDATE_PRIORITY && r->job.dedupe_key != NULL;
}

/* False: it is for another transaction. */
static bool add_to_batch(intake *in, batch *b, request *r)
{
    bool upsert = upserts(r);

    if (upsert && (b->upserts.count >= UPSERTS_MAX || has_key(&b->upserts, r->job.dedupe_key)))
        return false;
    list_remove(&in->queue, &r->link);
    list_append(upsert ? &b->upserts : &b->inserts, &r->link);
    return true;
}

/* The one that has been parked longest, if it is time. */
static bool take_parked(intake *in, int64_t now_us, batch *b)
{
    list_link *link;

    if (in->parked.count == 0 || now_us < in->unpark_us)
        return false;
    in->unpark_us = now_us + UNPARK_EVERY_US;
    link = list_pop(&in->parked);
    list_append(upserts(REQUEST_OF(link)) ? &b->upserts : &b->inserts, link);
    return true;
}

static void take_queued(intake *in, size_t jobs_max, int64_t now_us, batch *b, list *late)
{
    list_link *next;
    size_t bytes = 0, count = 0;

    for (list_link *at = in->queue.first; at != NULL && count < jobs_max; at = next) {
        request *r = REQUEST_OF(at);

        next = at->next;
        if (r->deadline_us <= now_us) {
            list_remove(&in->queue, at);
            list_append(late, at);
            continue;
        }
        if ((count > 0 && bytes + r->bytes > BATCH_BYTES_MAX) || !add_to_batch(in, b, r))
            break;
        bytes += r->bytes;
        count++;
    }
}

void intake_take(intake *in, size_t jobs_max, int64_t now_us, batch *b, list *late)
{
    (void)pthread_mutex_lock(&in->lock);
    if (!take_parked(in, now_us, b))
        take_queued(in, jobs_max, now_us, b, late);
    (void)pthread_mutex_unlock(&in->lock);
}

void intake_return(intake *in, list *requests)
{
    (void)pthread_mutex_lock(&in->lock);
    while (requests->last != NULL) {
        list_link *link = requests->last;

        list_remove(requests, link);
        list_prepend(&in->queue, link);
        in->earliest_us = base_min_i64(in->earliest_us, REQUEST_OF(link)->deadline_us);
    }
    (void)pthread_mutex_unlock(&in->lock);
}

void intake_park(intake *in, list *requests, int64_t now_us)
{
    list_link *link;

    (void)pthread_mutex_lock(&in->lock);
    if (in->parked.count == 0)
        in->unpark_us = now_us + UNPARK_EVERY_US;
    while ((link = list_pop(requests)) != NULL) {
        REQUEST_OF(link)->parked = true;
        list_append(&in->parked, link);
        in->earliest_us = base_min_i64(in->earliest_us, REQUEST_OF(link)->deadline_us);
    }
    (void)pthread_mutex_unlock(&in->lock);
}

/* Returns the earliest deadline of those that stay. */
static int64_t expire(list *requests, int64_t now_us, bool always, list *late)
{
    int64_t earliest_us = CLOCK_NEVER;
    list_link *next;

    for (list_link *at = requests->first; at != NULL; at = next) {
        int64_t deadline_us = REQUEST_OF(at)->deadline_us;

        next = at->next;
        if (always || deadline_us <= now_us) {
            list_remove(requests, at);
            list_append(late, at);
        } else {
            earliest_us = base_min_i64(earliest_us, deadline_us);
        }
    }
    return earliest_us;
}

void intake_expire(intake *in, int64_t now_us, bool always, list *late)
{
    int64_t earliest_us;

    (void)pthread_mutex_lock(&in->lock);
    if (always || now_us >= in->earliest_us) {
        earliest_us = base_min_i64(expire(&in->queue, now_us, always, late),
                                   expire(&in->parked, now_us, always, late));
        if (earliest_us != CLOCK_NEVER)
            earliest_us = base_max_i64(earliest_us, now_us + EXPIRE_EVERY_US);
        in->earliest_us = earliest_us;
    }
    (void)pthread_mutex_unlock(&in->lock);
}

void intake_answer(intake *in, list *requests)
{
    list_link *next;
    size_t jobs = 0, bytes = 0;

    if (requests->count == 0)
        return;
    (void)pthread_mutex_lock(&in->lock);
    for (list_link *at = requests->first; at != NULL; at = next) {
        request *r = REQUEST_OF(at);

        next = at->next;
        if (r->callback == NULL) {
            jobs++;
            bytes += r->bytes;
            continue;
        }
        list_remove(requests, at);
        list_append(&in->told, at);
        if (in->told.count == 1)
            ring(in->told_fd);
    }
    make_room(in, jobs, bytes);
    (void)pthread_mutex_unlock(&in->lock);
    /* each is its caller's again, and may be gone, as soon as it is posted */
    while (requests->count > 0)
        (void)sem_post(&REQUEST_OF(list_pop(requests))->answered);
}

bool intake_doze(intake *in, bool wants_work, int64_t until_us, int64_t *ret_until_us)
{
    bool work;

    (void)pthread_mutex_lock(&in->lock);
    work = wants_work && in->queue.count > 0;
    in->wants_work = wants_work;
    in->awake_us = base_min_i64(until_us, in->earliest_us);
    if (wants_work && in->parked.count > 0)
        in->awake_us = base_min_i64(in->awake_us, in->unpark_us);
    if (in->closing)
        in->awake_us = base_min_i64(in->awake_us, in->close_us);
    *ret_until_us = in->awake_us;
    (void)pthread_mutex_unlock(&in->lock);
    return !work;
}

void intake_awake(intake *in)
{
    (void)pthread_mutex_lock(&in->lock);
    if (in->rung)
        silence(in->bell);
    in->rung = in->wants_work = false;
    (void)pthread_mutex_unlock(&in->lock);
}

bool intake_is_closing(intake *in, int64_t *ret_close_us)
{
    bool closing;

    (void)pthread_mutex_lock(&in->lock);
    closing = in->closing;
    *ret_close_us = in->close_us;
    (void)pthread_mutex_unlock(&in->lock);
    return closing;
}

bool intake_is_empty(intake *in)
{
    bool empty;

    (void)pthread_mutex_lock(&in->lock);
    empty = in->jobs == in->told.count;
    (void)pthread_mutex_unlock(&in->lock);
    return empty;
}
