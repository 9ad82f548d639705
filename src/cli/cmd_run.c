/* run: which of three this process is: a worker alone, a parent of workers, or one of its children.
 */
#include "base/error.h"
#include "cli/run.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Whether a parent has started this process, and what it wants. What the handlers start is no child
 * of that parent, so the variable goes. */
static bool read_child(run_child *child)
{
    const char *text = getenv(RUN_CHILD_VARIABLE);
    int parent = 0, count;

    *child = (run_child){.ledger_fd = -1};
    if (text == NULL)
        return false;
    count = sscanf(text, "%d:%d:%36[0-9a-f-]:%" SCNd64, &parent, &child->ledger_fd,
                   child->worker_id, &child->only_job);
    child->parent = (pid_t)parent;
    (void)unsetenv(RUN_CHILD_VARIABLE);
    return count >= 2;
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
