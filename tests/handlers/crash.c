/* Handlers that end their process: the payload says how.
 *
 * Loaded by `pgqueuer run crash.so:factory -- JOURNAL ENTRYPOINT...`. A run is one line in the
 * journal, as tests/handlers/journal.c writes it, before anything happens:
 *     segv, abort, kill   the process dies by that signal
 *     exit N              it ends with that status
 *     program             it starts a program and stops it with SIGTERM
 *     once NAME           it dies by SIGSEGV the first time, and makes a mark for that beside the
 *                         journal
 *     gate                the handler waits for the file JOURNAL.gate
 *     anything else       the handler does nothing
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pgqueuer/worker.h>

enum { GATE_SECONDS = 60 };

static int journal_fd = -1;
static char journal_path[1024];

static int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void append(const char *line, int len)
{
    if (write(journal_fd, line, (size_t)len) != len)
        abort();
}

/* A true fault: a signal that is merely sent waits, since handlers' threads take none. */
static void fault(void)
{
    volatile char *page = mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    signal(SIGSEGV, SIG_DFL); /* whatever a sanitizer has set up */
    *page = 1;
}

static void wait_for_gate(void)
{
    char gate[sizeof journal_path + 8];

    snprintf(gate, sizeof gate, "%s.gate", journal_path);
    for (int64_t end = monotonic_ns() + (int64_t)GATE_SECONDS * 1000000000;
         monotonic_ns() < end && access(gate, F_OK) != 0;) {
        struct timespec rest = {.tv_nsec = 5000000};
        nanosleep(&rest, NULL);
    }
}

/* True once for each name, over all processes. */
static int first_time(const char *name)
{
    char mark[sizeof journal_path + 64];
    int fd;

    snprintf(mark, sizeof mark, "%s.%s", journal_path, name);
    fd = open(mark, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* A program that a handler starts is to be stopped as any other. */
static void start_and_stop_a_program(void)
{
    static const struct timespec pause = {0, 1000000}; /* not a wait: between two looks */
    char *words[] = {"sleep", "600", NULL};
    int status = 0;
    pid_t pid;

    /* returns when the program is there: until then SIGTERM would meet our own handler */
    if (posix_spawnp(&pid, "sleep", NULL, NULL, words, environ) != 0 || kill(pid, SIGTERM) != 0)
        abort();
    for (int i = 0; i < 20000; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            break;
        nanosleep(&pause, NULL);
    }
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGTERM) {
        kill(pid, SIGKILL);
        abort();
    }
}

static void behave(const char *what)
{
    if (strcmp(what, "segv") == 0)
        fault();
    else if (strcmp(what, "abort") == 0)
        abort();
    else if (strcmp(what, "kill") == 0)
        raise(SIGKILL);
    else if (strncmp(what, "exit ", 5) == 0)
        _exit(atoi(what + 5));
    else if (strncmp(what, "once ", 5) == 0 && first_time(what + 5))
        fault();
    else if (strcmp(what, "program") == 0)
        start_and_stop_a_program();
    else if (strcmp(what, "gate") == 0)
        wait_for_gate();
}

static pgq_outcome handle(pgq_job *job, void *user)
{
    pgq_bytes payload = pgq_job_payload(job);
    int64_t start = monotonic_ns();
    char line[512], what[64] = "";
    int len =
        snprintf(line, sizeof line,
                 "start\t%d\t%" PRId64 "\t%" PRId32 "\t%" PRId64 "\t%s\t%" PRId32 "\t-1\t-\t-\n",
                 (int)getpid(), pgq_job_id(job), pgq_job_attempts(job), start,
                 pgq_job_entrypoint(job), pgq_job_priority(job));

    (void)user;
    append(line, len);
    if (payload.data != NULL && payload.len < sizeof what)
        memcpy(what, payload.data, payload.len);
    behave(what);
    len = snprintf(line, sizeof line,
                   "end\t%d\t%" PRId64 "\t%" PRId32 "\t%" PRId64 "\t%" PRId64 "\tdone\n",
                   (int)getpid(), pgq_job_id(job), pgq_job_attempts(job), start, monotonic_ns());
    append(line, len);
    return pgq_done();
}

pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err);
pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err)
{
    pgq_code code = PGQ_OK;

    if (argc < 2)
        return PGQ_E_FACTORY;
    if (getenv("PGQUEUER_CHILD") != NULL || getenv("NOTIFY_SOCKET") != NULL)
        return PGQ_E_FACTORY; /* neither is for what handlers start */
    snprintf(journal_path, sizeof journal_path, "%s", argv[0]);
    journal_fd = open(argv[0], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (journal_fd < 0)
        return PGQ_E_IO;
    for (int i = 1; i < argc && code == PGQ_OK; i++)
        code = pgq_worker_entrypoint(worker, argv[i], handle, NULL, NULL, err);
    return code;
}

/* A factory that ends the process by a signal, and one that refuses. */
pgq_code dying_factory(pgq_worker *worker, int argc, char **argv, pgq_error *err);
pgq_code dying_factory(pgq_worker *worker, int argc, char **argv, pgq_error *err)
{
    (void)worker;
    (void)argc;
    (void)argv;
    (void)err;
    fault();
    return PGQ_OK;
}

pgq_code refusing_factory(pgq_worker *worker, int argc, char **argv, pgq_error *err);
pgq_code refusing_factory(pgq_worker *worker, int argc, char **argv, pgq_error *err)
{
    (void)worker;
    (void)argc;
    (void)argv;
    (void)err;
    return PGQ_E_FACTORY;
}
