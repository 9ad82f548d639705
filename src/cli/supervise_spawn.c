/* Starting a child of the supervisor: the same program with the same arguments, a ledger in shared
 * memory, and a word in its environment that says what it is. */
#include "base/clock.h"
#include "base/error.h"
#include "cli/spawn.h"
#include "cli/supervise.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

bool child_open(child *ch, pgq_error *err)
{
    *ch = (child){.ledger_fd = memfd_create("pgqueuer-ledger", MFD_CLOEXEC),
                  .restart_at_us = CLOCK_NEVER};
    if (ch->ledger_fd >= 0 && ftruncate(ch->ledger_fd, (off_t)pgq_ledger_size()) == 0)
        ch->memory =
            mmap(NULL, pgq_ledger_size(), PROT_READ | PROT_WRITE, MAP_SHARED, ch->ledger_fd, 0);
    if (ch->memory == NULL || ch->memory == MAP_FAILED) {
        ch->memory = NULL;
        (void)error_set(err, PGQ_E_IO, "no shared memory for a worker's ledger: %s",
                        strerror(errno));
        child_close(ch);
        return false;
    }
    ch->ledger = pgq_ledger_init(ch->memory);
    return true;
}

void child_close(child *ch)
{
    if (ch->memory != NULL)
        (void)munmap(ch->memory, pgq_ledger_size());
    if (ch->ledger_fd >= 0)
        (void)close(ch->ledger_fd);
    *ch = (child){.ledger_fd = -1};
}

/* What is between systemd and the parent is not for the child. */
static const char *const left_out[] = {RUN_CHILD_VARIABLE "=", "NOTIFY_SOCKET=", "WATCHDOG_", NULL};

/* The ledger's descriptor stays open. The signals that are passed on wait until the worker can
 * handle them. */
static int spawn(child *ch, char **argv, char *word)
{
    static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    spawn_request request = SPAWN_REQUEST_INIT;
    sigset_t blocked;

    (void)sigemptyset(&blocked);
    for (size_t i = 0; i < BASE_COUNT(passed_on); i++)
        (void)sigaddset(&blocked, passed_on[i]);
    request.path = SPAWN_SELF;
    request.argv = argv;
    request.word = word;
    request.without = left_out;
    request.blocked = &blocked;
    request.kept = ch->ledger_fd;
    return spawn_child(&request, &ch->pid);
}

bool child_start(supervisor *s, child *ch, const char *worker_id, int64_t job)
{
    char word[128];
    int status;

    (void)snprintf(word, sizeof(word), RUN_CHILD_VARIABLE "=%d:%d%s%s", (int)getpid(),
                   ch->ledger_fd, worker_id != NULL ? ":" : "", worker_id != NULL ? worker_id : "");
    if (worker_id != NULL)
        (void)snprintf(word + strlen(word), sizeof(word) - strlen(word), ":%" PRId64, job);
    ch->ledger = pgq_ledger_init(ch->memory);
    ch->started_us = clock_monotonic_us();
    ch->restart_at_us = CLOCK_NEVER;
    status = spawn(ch, s->argv, word);
    if (status != 0) {
        const pgq_log_field fields[] = {{"error", strerror(status), 0}};

        run_log_event(&s->log, PGQ_LOG_ERROR, "worker.not_started", fields, BASE_COUNT(fields));
    }
    return status == 0;
}
