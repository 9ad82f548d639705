/* Many threads that enqueue through one producer:
 *
 *   prog_producer DSN THREADS JOBS TIMEOUT_MS ANSWER_TIMEOUT_MS [submit]
 *
 * The payload of a job is `THREAD-NUMBER`. Prints `open` when it is connected, and then one line a
 * job, as soon as its outcome is known: the payload, the code's name, the id (0: none), the
 * message. With submit, one thread hands in all jobs from a poll loop of its own. Every tenth job
 * has a dedupe key and on_conflict skip, every eleventh one and update_priority, of its own each.
 */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pgqueuer/pgqueuer.h>

typedef struct hand {
    pgq_producer *producer;
    pthread_t thread;
    int number, jobs;
} hand;

typedef struct named_job {
    pgq_new_job job;
    pgq_on_conflict on_conflict;
    char name[32];
} named_job;

static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;

static void say(const char *name, pgq_code code, int64_t id, const pgq_error *err)
{
    pthread_mutex_lock(&output);
    printf("%s %s %" PRId64 " %s\n", name, pgq_code_name(code), code == PGQ_OK ? id : 0,
           code == PGQ_OK ? "" : err->message);
    pthread_mutex_unlock(&output);
}

static void make_job(named_job *j, int thread, int number)
{
    j->job = (pgq_new_job)PGQ_NEW_JOB_INIT;
    j->on_conflict = PGQ_ON_CONFLICT_RAISE;
    snprintf(j->name, sizeof j->name, "%d-%d", thread, number);
    j->job.entrypoint = "ok";
    j->job.payload = (pgq_bytes){j->name, strlen(j->name)};
    if (number % 10 == 0 || number % 11 == 0) {
        j->job.dedupe_key = j->name;
        j->on_conflict = number % 10 == 0 ? PGQ_ON_CONFLICT_SKIP : PGQ_ON_CONFLICT_UPDATE_PRIORITY;
    }
}

static void *work(void *argument)
{
    hand *h = argument;

    for (int i = 0; i < h->jobs; i++) {
        pgq_error err = PGQ_ERROR_INIT;
        named_job j;
        int64_t id = 0;
        make_job(&j, h->number, i);
        pgq_code code = pgq_producer_enqueue(h->producer, &j.job, j.on_conflict, 0, &id, &err);
        say(j.name, code, id, &err);
    }
    return NULL;
}

typedef struct submitted {
    char name[32];
    int *left;
} submitted;

static void answered(pgq_code code, int64_t id, const pgq_error *err, void *user)
{
    submitted *s = user;
    say(s->name, code, id, err);
    --*s->left;
    free(s);
}

static void submit_all(pgq_producer *producer, int jobs)
{
    int left = jobs, next = 0;

    while (left > 0) {
        struct pollfd wait = {.fd = pgq_producer_fd(producer), .events = POLLIN};
        bool full = false;
        while (next < jobs && !full) {
            pgq_error err = PGQ_ERROR_INIT;
            submitted *s = malloc(sizeof *s);
            named_job j;
            if (s == NULL)
                abort();
            make_job(&j, 0, next);
            strcpy(s->name, j.name);
            s->left = &left;
            pgq_code code =
                pgq_producer_submit(producer, &j.job, j.on_conflict, 0, answered, s, &err);
            full = code == PGQ_E_BACKPRESSURE;
            next += !full;
            if (code != PGQ_OK)
                free(s);
            if (code != PGQ_OK && !full) {
                say(j.name, code, 0, &err);
                left--;
            }
        }
        poll(&wait, 1, -1);
        pgq_producer_process(producer);
    }
}

int main(int argc, char **argv)
{
    pgq_connect_options connect = PGQ_CONNECT_OPTIONS_INIT;
    pgq_producer_options options = PGQ_PRODUCER_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_producer *producer;

    if (argc < 6) {
        fprintf(stderr,
                "usage: prog_producer DSN THREADS JOBS TIMEOUT_MS ANSWER_TIMEOUT_MS [submit]\n");
        return 90;
    }
    int threads = atoi(argv[2]), jobs = atoi(argv[3]);
    hand *hands = calloc((size_t)threads, sizeof *hands);
    setvbuf(stdout, NULL, _IOLBF, 0);
    connect.dsn = argv[1];
    connect.connect_timeout_ms = 3000;
    options.connect = &connect;
    options.timeout_ms = atoi(argv[4]);
    options.answer_timeout_ms = atoi(argv[5]);
    if (argc > 6)
        options.queue_jobs_max = 50;
    if (hands == NULL || pgq_producer_open(&options, &producer, &err) != PGQ_OK) {
        fprintf(stderr, "%s: %s\n", pgq_code_name(err.code), err.message);
        return pgq_code_exit_status(err.code);
    }
    printf("open\n");
    if (argc > 6) {
        submit_all(producer, jobs);
    } else {
        for (int i = 0; i < threads; i++) {
            hands[i] = (hand){.producer = producer, .number = i, .jobs = jobs};
            if (pthread_create(&hands[i].thread, NULL, work, &hands[i]) != 0)
                abort();
        }
        for (int i = 0; i < threads; i++)
            pthread_join(hands[i].thread, NULL);
    }
    free(hands);
    if (pgq_producer_close(producer, 10000, &err) != PGQ_OK) {
        fprintf(stderr, "close: %s\n", err.message);
        return 1;
    }
    return 0;
}
