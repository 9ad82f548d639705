/* The bare loop, a program that is no part of the product: told what to do on its standard input,
 * heard on its standard output. Its protocol is described in bench/bare.c. */
#include "base/clock.h"
#include "base/error.h"
#include "cli/bench.h"
#include "cli/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define END_US 3000000

enum { LOOK_MS = 100, END_LOOK_MS = 5, NUMBER_BYTES = 16 };

static pgq_code start(bench_bare *bare, const bench *b, char **argv, pgq_error *err)
{
    const char *dsn = b->db.dsn != NULL ? b->db.dsn : "";
    buffer word = BUFFER_INIT;
    spawn_request request = SPAWN_REQUEST_INIT;
    int in[2] = {-1, -1}, out[2] = {-1, -1}, status = ENOMEM;

    buffer_add_format(&word, "BARE_DSN=%s", dsn);
    if (!word.broken)
        status = pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 ? 0 : errno;
    request.path = b->bare;
    request.argv = argv;
    request.word = word.data;
    request.in = in[0];
    request.out = out[1];
    if (status == 0)
        status = spawn_child(&request, &bare->pid);
    buffer_release(&word);
    if (in[0] >= 0)
        (void)close(in[0]);
    if (out[1] >= 0)
        (void)close(out[1]);
    bare->in = in[1];
    bare->out = out[0];
    if (status == 0)
        return PGQ_OK;
    (void)error_set(err, PGQ_E_IO, "the bare loop cannot be started: %s", strerror(status));
    error_where(err, "%s", b->bare);
    return PGQ_E_IO;
}

/* The next line, without its end, in bare->line. */
static pgq_code read_line(bench_bare *bare, pgq_error *err)
{
    struct pollfd pipe = {.fd = bare->out, .events = POLLIN};
    pgq_code code;

    for (;;) {
        const char *end = memchr(bare->text, '\n', bare->length);
        ssize_t got;

        if (end != NULL) {
            size_t line = (size_t)(end - bare->text);

            memcpy(bare->line, bare->text, line);
            bare->line[line] = '\0';
            bare->length -= line + 1;
            memmove(bare->text, end + 1, bare->length);
            return PGQ_OK;
        }
        if (bench_interrupted())
            return bench_interruption(err);
        code = bench_db_check(&bare->b->db, err);
        if (code != PGQ_OK)
            return code;
        if (poll(&pipe, 1, LOOK_MS) <= 0)
            continue;
        if (bare->length == sizeof(bare->text))
            return error_set(err, PGQ_E_IO, "the bare loop says too much in one line");
        got = read(bare->out, bare->text + bare->length, sizeof(bare->text) - bare->length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return error_set(err, PGQ_E_IO, "the bare loop has ended by itself");
        bare->length += (size_t)got;
    }
}

pgq_code bench_bare_start(bench *b, const bench_way *way, bench_bare *bare, pgq_error *err)
{
    static const char *const policies[] = {"full", "full", "terminal", "failures"};
    char batch[NUMBER_BYTES], lanes[NUMBER_BYTES];
    char *argv[] = {(char *)b->bare,
                    b->db.schemas[way->place],
                    (char *)policies[way->policy],
                    batch,
                    lanes,
                    way->cursor ? "cursor" : NULL,
                    NULL};
    pgq_code code;

    *bare = (bench_bare){.b = b, .in = -1, .out = -1};
    (void)snprintf(batch, sizeof(batch), "%d", b->batch_size);
    (void)snprintf(lanes, sizeof(lanes), "%d",
                   b->lanes * b->workers < 8 ? b->lanes * b->workers : 8);
    code = start(bare, b, argv, err);
    if (code == PGQ_OK)
        code = read_line(bare, err);
    if (code == PGQ_OK && !base_streq(bare->line, "ready"))
        code = error_set(err, PGQ_E_IO, "the bare loop says '%.64s' and not 'ready'", bare->line);
    return code;
}

/* The rest of a line `drained JOBS SECONDS CPU_US PEAK_KIB`. */
static bool read_work(const char *line, bench_work *work)
{
    long long jobs, cpu_us, peak_kib;
    double seconds;

    /* NOLINTNEXTLINE(cert-err34-c): numbers of our own program, within their types */
    if (sscanf(line, "drained %lld %lf %lld %lld", &jobs, &seconds, &cpu_us, &peak_kib) != 4)
        return false;
    work->jobs = work->timed = jobs;
    work->seconds = seconds;
    work->cpu_us = (double)cpu_us;
    work->rss_mib = (double)peak_kib / 1024;
    return true;
}

pgq_code bench_bare_tell(bench_bare *bare, const char *verb, int64_t number, bench_work *work,
                         double *samples_ms, int *ret_samples, pgq_error *err)
{
    char line[64];
    pgq_code code = PGQ_OK;
    int count = 0;

    (void)snprintf(line, sizeof(line), "%s %lld\n", verb, (long long)number);
    if (!cli_write(bare->in, line, strlen(line)))
        return error_set(err, PGQ_E_IO, "the bare loop has ended by itself");
    for (;;) {
        code = read_line(bare, err);
        if (code != PGQ_OK || read_work(bare->line, work))
            break;
        if (strncmp(bare->line, "sample ", 7) == 0 && samples_ms != NULL && count < number)
            samples_ms[count++] = strtod(bare->line + 7, NULL) / 1000;
    }
    if (ret_samples != NULL)
        *ret_samples = count;
    return code;
}

void bench_bare_end(bench_bare *bare)
{
    int64_t deadline_us = clock_monotonic_us() + END_US;

    if (bare->in >= 0)
        (void)close(bare->in); /* that ends it */
    if (bare->out >= 0)
        (void)close(bare->out);
    if (bare->pid > 0 && bench_interrupted())
        (void)kill(bare->pid, SIGTERM);
    while (bare->pid > 0 && waitpid(bare->pid, NULL, WNOHANG) == 0) {
        if (clock_monotonic_us() > deadline_us)
            (void)kill(bare->pid, SIGKILL);
        (void)poll(NULL, 0, END_LOOK_MS);
    }
    *bare = (bench_bare){.in = -1, .out = -1};
}
