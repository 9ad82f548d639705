/* A producer in an event loop of one's own: every line of the standard input becomes a job. The
 * loop never blocks on the database; it learns of each job's outcome by a descriptor. While the
 * producer's queue is full it reads no more lines, so that whoever writes them has to wait.
 *
 *   cc -o poll_loop poll_loop.c $(pkg-config --cflags --libs pgqueuer)
 *   seq 1000 | ./poll_loop "$PGQUEUER_DSN"
 */
#include <pgqueuer/pgqueuer.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct state {
    pgq_producer *producer;
    char text[65536]; /* read, and not submitted */
    size_t len;
    int under_way, failed;
    int ended, full;
} state;

/* In the loop's thread, by pgq_producer_process. */
static void answered(pgq_code code, int64_t id, const pgq_error *err, void *user)
{
    state *s = user;

    s->under_way--;
    s->full = 0;
    s->failed += code != PGQ_OK;
    if (code == PGQ_OK)
        printf("job %lld\n", (long long)id);
    else
        fprintf(stderr, "%s\n", err->message);
}

/* Submits the whole lines that have been read, as far as there is room. */
static void submit_lines(state *s)
{
    char *end;

    while (!s->full && (end = memchr(s->text, '\n', s->len)) != NULL) {
        pgq_new_job job = PGQ_NEW_JOB_INIT;
        pgq_error err = PGQ_ERROR_INIT;
        size_t line = (size_t)(end - s->text);
        pgq_code code;

        job.entrypoint = "line";
        job.payload.data = s->text;
        job.payload.len = line;
        code = pgq_producer_submit(s->producer, &job, PGQ_ON_CONFLICT_RAISE, 0, answered, s, &err);
        s->full = code == PGQ_E_BACKPRESSURE;
        if (s->full)
            return; /* a callback will tell that there is room */
        s->under_way += code == PGQ_OK;
        s->failed += code != PGQ_OK;
        if (code != PGQ_OK)
            fprintf(stderr, "%s\n", err.message);
        s->len -= line + 1;
        memmove(s->text, end + 1, s->len);
    }
}

static void read_lines(state *s)
{
    ssize_t got = read(STDIN_FILENO, s->text + s->len, sizeof(s->text) - s->len);

    s->ended = got <= 0; /* also when a line is longer than the buffer */
    s->len += got > 0 ? (size_t)got : 0;
}

int main(int argc, char **argv)
{
    static state s;
    pgq_connect_options connect = PGQ_CONNECT_OPTIONS_INIT;
    pgq_producer_options options = PGQ_PRODUCER_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;

    connect.dsn = argc > 1 ? argv[1] : "";
    options.connect = &connect;
    options.queue_jobs_max = 100;
    if (pgq_producer_open(&options, &s.producer, &err) != PGQ_OK) {
        fprintf(stderr, "connecting: %s\n  %s\n", err.message, err.hint);
        return 1;
    }
    while (!s.ended || s.full || s.under_way > 0) {
        struct pollfd waits[2] = {{.fd = pgq_producer_fd(s.producer), .events = POLLIN},
                                  {.fd = s.ended || s.full ? -1 : STDIN_FILENO, .events = POLLIN}};

        if (poll(waits, 2, -1) < 0)
            break;
        if (waits[0].revents != 0)
            (void)pgq_producer_process(s.producer);
        if (waits[1].revents != 0)
            read_lines(&s);
        submit_lines(&s);
    }
    if (pgq_producer_close(s.producer, 10000, &err) != PGQ_OK)
        fprintf(stderr, "closing: %s\n", err.message);
    return s.failed > 0 ? 1 : 0;
}
