/* Starting a child of the supervisor: the same program with the same arguments, a ledger in shared
 * memory, and a word in its environment that says what it is. */
#include "base/clock.h"
#include "base/error.h"
#include "cli/supervise.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
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

static bool is_ours(const char *entry)
{
    static const char *const names[] = {RUN_CHILD_VARIABLE "=", "NOTIFY_SOCKET=", "WATCHDOG_"};

    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    }
    return false;
}

/* The environment of this process, without what is between systemd and the parent, and with `word`.
 * The caller frees the array. NULL without memory. */
static char **child_environment(char *word)
{
    size_t count = 0, kept = 0;
    char **copy;

    while (environ[count] != NULL)
        count++;
    copy = calloc(count + 2, sizeof(*copy));
    for (size_t i = 0; copy != NULL && i < count; i++) {
        if (!is_ours(environ[i]))
            copy[kept++] = environ[i];
    }
    if (copy != NULL)
        copy[kept] = word;
    return copy;
}

/* The ledger's descriptor stays open. The signals that are passed on wait until the worker can
 * handle them. The child has a process group of its own: Ctrl-C comes to it from its parent, and
 * not from the terminal as well, which would be a second signal. */
static int spawn(child *ch, char **argv, char **environment)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t passed_on, all;
    int status;

    (void)sigemptyset(&passed_on);
    (void)sigaddset(&passed_on, SIGTERM);
    (void)sigaddset(&passed_on, SIGINT);
    (void)sigaddset(&passed_on, SIGHUP);
    (void)sigaddset(&passed_on, SIGUSR1);
    (void)sigfillset(&all);
    if (posix_spawn_file_actions_init(&files) != 0)
        return ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        (void)posix_spawn_file_actions_destroy(&files);
        return ENOMEM;
    }
    (void)posix_spawnattr_setsigmask(&attributes, &passed_on);
    (void)posix_spawnattr_setsigdefault(&attributes, &all);
    (void)posix_spawnattr_setpgroup(&attributes, 0);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                    POSIX_SPAWN_SETPGROUP);
    /* a copy onto itself clears close-on-exec */
    status = posix_spawn_file_actions_adddup2(&files, ch->ledger_fd, ch->ledger_fd);
    if (status == 0)
        status = posix_spawn(&ch->pid, "/proc/self/exe", &files, &attributes, argv, environment);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&files);
    return status;
}

bool child_start(supervisor *s, child *ch, const char *worker_id, int64_t job)
{
    char word[128];
    char **environment;
    int status;

    (void)snprintf(word, sizeof(word), RUN_CHILD_VARIABLE "=%d:%d%s%s", (int)getpid(),
                   ch->ledger_fd, worker_id != NULL ? ":" : "", worker_id != NULL ? worker_id : "");
    if (worker_id != NULL)
        (void)snprintf(word + strlen(word), sizeof(word) - strlen(word), ":%" PRId64, job);
    ch->ledger = pgq_ledger_init(ch->memory);
    ch->started_us = clock_monotonic_us();
    ch->restart_at_us = CLOCK_NEVER;
    environment = child_environment(word);
    status = environment != NULL ? spawn(ch, s->argv, environment) : ENOMEM;
    free(environment);
    if (status != 0) {
        const pgq_log_field fields[] = {{"error", strerror(status), 0}};

        ch->pid = 0;
        run_log_event(&s->log, PGQ_LOG_ERROR, "worker.not_started", fields, BASE_COUNT(fields));
    }
    return status == 0;
}
