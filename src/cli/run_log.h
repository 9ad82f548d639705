/* The log of the process that runs a worker, or watches those that do. Any thread. */
#ifndef CLI_RUN_LOG_H
#define CLI_RUN_LOG_H

#include "base/log.h"
#include "cli/cli.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct run_log {
    const cli *cli; /* borrowed: where the level comes from */
    pthread_mutex_t lock;
    log_writer writer;                /* takes every level: who calls it has filtered */
    atomic_int level;                 /* the lowest pgq_log_level that is written */
    void (*watch)(const char *event); /* hears the worker's events first, or NULL */
} run_log;

/* `c` is borrowed; lines go to stderr. */
void run_log_open(run_log *l, const cli *c);
void run_log_close(run_log *l);

/* The level that a worker with this log is to have: where somebody watches the events, the log may
 * not hide them, whatever it writes itself. */
pgq_log_level run_log_worker_level(const run_log *l);

/* A pgq_log_sink, with the run_log as `user`: writes what its level lets through, and a state that
 * was asked for in any case. */
void run_log_sink(void *log, pgq_log_level level, const char *event, const pgq_log_field *fields,
                  size_t count);

/* Writes an event of the program's own, if its level is high enough. */
void run_log_event(run_log *l, pgq_log_level level, const char *event, const pgq_log_field *fields,
                   size_t count);

/* Reads the level again from where it may have changed, the settings file, and logs what it is now.
 * An option or a variable, which cannot change, wins over the file as ever; a file that cannot be
 * used changes nothing. Returns the level. */
pgq_log_level run_log_reload(run_log *l);

#endif
