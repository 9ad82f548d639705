/* run: which of three this process is: a worker alone, a parent of workers, or one of its children.
 */
#include "base/error.h"
#include "cli/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

/* The next of the words between colons. */
static bool take_number(char **rest, int64_t max, int64_t *ret_number)
{
    const char *word = strsep(rest, ":");

    return word != NULL && setting_parse_int(word, 0, max, ret_number);
}

/* Whether a parent has started this process, and what it wants. What the handlers start is no child
 * of that parent, so the variable goes. */
static bool read_child(run_child *child)
{
    const char *text = getenv(RUN_CHILD_VARIABLE);
    char words[128], *rest = words;
    int64_t parent = 0, fd = -1;
    bool good;

    *child = (run_child){.ledger_fd = -1};
    if (text == NULL)
        return false;
    (void)snprintf(words, sizeof(words), "%s", text);
    (void)unsetenv(RUN_CHILD_VARIABLE);
    good = take_number(&rest, INT32_MAX, &parent) && take_number(&rest, INT32_MAX, &fd);
    child->parent = (pid_t)parent;
    child->ledger_fd = (int)fd;
    text = strsep(&rest, ":");
    if (text != NULL)
        (void)snprintf(child->worker_id, sizeof(child->worker_id), "%s", text);
    if (rest != NULL)
        good = good && take_number(&rest, INT64_MAX, &child->only_job);
    return good;
}

/* A worker whose parent is gone is nobody's to restart or to stop. */
static void die_with_parent(const run_child *child)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != child->parent)
        _exit(EXIT_FAILED);
}

int cmd_run(cli *c)
{
    run_child child;

    if (read_child(&child)) {
        die_with_parent(&child);
        return run_worker(c, &child);
    }
    if (cli_number(c, OPT_PROCESSES) > 1 || cli_flag(c, OPT_RESTART_ON_FAILURE) ||
        run_watchdog_us() > 0)
        return supervise(c);
    return run_worker(c, NULL);
}
