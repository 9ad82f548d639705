/* The signals of the process that runs a worker.
 *
 * SIGTERM, SIGINT: the first stops the worker, the second hurries it, the third ends the process.
 * SIGUSR1: the worker logs its state. SIGHUP: the log level is read again. The handler only does
 * what a handler may; a thread does the rest. */
#ifndef CLI_RUN_SIGNALS_H
#define CLI_RUN_SIGNALS_H

#include "cli/run_log.h"

/* Once at a time in a process. Both are borrowed until the end. PGQ_E_IO: no thread. */
pgq_code run_signals_begin(pgq_worker *worker, run_log *log, pgq_error *err);

/* Logs what has come, and gives the signals back. */
void run_signals_end(void);

#endif
