/* A handler that does not wait: it hands its job to a thread of its own and returns, so that a
 * thousand jobs can be under way in a few threads of the worker.
 *
 *     cc -shared -fPIC -pthread -o later.so examples/later.c $(pkg-config --cflags pgqueuer)
 *     pgqueuer queue wait '50' --count 100 && pgqueuer run ./later.so:factory --mode drain
 *
 * The thread here is a timer; a program with a loop of its own would start a request and finish the
 * job in its callback. */
#include <pgqueuer/pgqueuer.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { WAITING_MAX = 4096 };

/* The jobs that wait, and when each is done. One thread looks at them. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct {
        pgq_job *job;
        struct timespec due;
    } jobs[WAITING_MAX];
    size_t count;
    pthread_t thread;
} timer = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int before(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

/* Takes a job whose time has come; NULL after a wait: look again. The lock is held. */
static pgq_job *take_due(void)
{
    struct timespec now;
    size_t soonest = 0;
    pgq_job *job;

    for (size_t i = 1; i < timer.count; i++) {
        if (before(&timer.jobs[i].due, &timer.jobs[soonest].due))
            soonest = i;
    }
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (timer.count == 0)
        (void)pthread_cond_wait(&timer.changed, &timer.lock);
    else if (before(&now, &timer.jobs[soonest].due))
        (void)pthread_cond_timedwait(&timer.changed, &timer.lock, &timer.jobs[soonest].due);
    if (timer.count == 0 || before(&now, &timer.jobs[soonest].due))
        return NULL;
    job = timer.jobs[soonest].job;
    timer.jobs[soonest] = timer.jobs[--timer.count];
    return job;
}

static void *run_timer(void *unused)
{
    (void)unused;
    (void)pthread_mutex_lock(&timer.lock);
    for (;;) {
        pgq_job *job = take_due();

        if (job == NULL)
            continue;
        (void)pthread_mutex_unlock(&timer.lock);
        pgq_job_finish(job, pgq_done()); /* the job is not to be used any more */
        (void)pthread_mutex_lock(&timer.lock);
    }
    return NULL;
}

static pgq_outcome wait_for_it(pgq_job *job, void *user)
{
    pgq_bytes text = pgq_job_payload(job);
    char digits[16];
    long wait_ms;
    size_t at;

    (void)user;
    (void)snprintf(digits, sizeof(digits), "%.*s", (int)text.len, (const char *)text.data);
    wait_ms = strtol(digits, NULL, 10);
    (void)pthread_mutex_lock(&timer.lock);
    if (timer.count == WAITING_MAX) {
        (void)pthread_mutex_unlock(&timer.lock);
        return pgq_retry(1000, "too many jobs wait");
    }
    at = timer.count++;
    timer.jobs[at].job = job;
    (void)clock_gettime(CLOCK_REALTIME, &timer.jobs[at].due);
    timer.jobs[at].due.tv_sec += wait_ms / 1000;
    timer.jobs[at].due.tv_nsec += wait_ms % 1000 * 1000000;
    if (timer.jobs[at].due.tv_nsec >= 1000000000) {
        timer.jobs[at].due.tv_nsec -= 1000000000;
        timer.jobs[at].due.tv_sec++;
    }
    (void)pthread_cond_signal(&timer.changed);
    (void)pthread_mutex_unlock(&timer.lock);
    return pgq_later();
}

pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err);

pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err)
{
    (void)argc;
    (void)argv;
    if (pthread_create(&timer.thread, NULL, run_timer, NULL) != 0)
        return PGQ_E_NOMEM;
    return pgq_worker_entrypoint(worker, "wait", wait_for_it, NULL, NULL, err);
}
