/* The `run` command: a worker in this process, or a parent that keeps workers in others. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "cli/cli.h"

#include <sys/types.h>

/* What a parent tells its child, in the environment variable RUN_CHILD_VARIABLE:
 * PARENT'S PID:LEDGER'S DESCRIPTOR[:WORKER'S ID:JOB]. */
#define RUN_CHILD_VARIABLE "PGQUEUER_CHILD"

typedef struct run_child {
    pid_t parent;
    int ledger_fd;
    char worker_id[37]; /* "": its own */
    int64_t only_job;   /* 0: all */
} run_child;

/* Runs a worker in this process; child: NULL when no parent watches it. Returns the exit status. */
int run_worker(cli *c, const run_child *child);

/* Keeps worker processes; returns the exit status. */
int supervise(cli *c);

/* Tells systemd, if it started this process and the program was built with its library. */
void run_notify(const char *state);

/* How often systemd must hear from this process, in microseconds; 0: it does not watch. */
int64_t run_watchdog_us(void);

#endif
