/* Child processes that this program starts and watches. */
#ifndef CLI_SPAWN_H
#define CLI_SPAWN_H

#include <signal.h>
#include <sys/types.h>

typedef struct spawn_request {
    const char *path;
    char **argv;
    char *word; /* NAME=VALUE, in front of the environment of this process */
    const char *const
        *without;            /* beginnings of what is left out of that, NULL at the end; or NULL */
    const sigset_t *blocked; /* signals that wait until the child wants them; NULL: none */
    int kept;                /* a descriptor that the child has too; -1: none */
    int in, out;             /* what its standard input and output are; -1: ours */
} spawn_request;

#define SPAWN_REQUEST_INIT              \
    {                                   \
        .kept = -1, .in = -1, .out = -1 \
    }

#define SPAWN_SELF "/proc/self/exe" /* the path of this program */

/* Starts a child in a process group of its own: Ctrl-C comes to it from its parent, and not from
 * the terminal as well, which would be a second signal. Signals have their default actions in it.
 * Returns 0, or an errno; then *ret_pid is 0. */
int spawn_child(const spawn_request *request, pid_t *ret_pid);

#endif
