/* The driver: ties the engine to libuv, to its connections and to the handler pool.
 *
 * Everything here runs in the thread that runs the worker, but for the handlers and the wake-ups.
 */
#ifndef WORKER_DRIVE_H
#define WORKER_DRIVE_H

#include "executor/executor.h"
#include "pg/conn.h"
#include "queue/speak.h"
#include "worker/engine.h"
#include "worker/note.h"

typedef struct entrypoint {
    char *name; /* owned */
    void *user;
    pgq_entrypoint_options options; /* without the executor's configuration */
    pgq_executor *executor;         /* owned */
} entrypoint;

/* What a drive borrows for its life. */
typedef struct drive_config {
    const target *target;
    const statements *statements;
    const names *names;
    const entrypoint *entrypoints;
    size_t entrypoint_count;
    uuid worker;
    engine_config engine;
    note_log log;
    int control_fd;     /* an eventfd: readable when `asked` has changed */
    atomic_int *asked;  /* bits of drive_ask */
    pgq_ledger *ledger; /* or NULL */
} drive_config;

/* What others may ask of a running worker; bits. DRIVE_REPORT is taken away when it was done. */
typedef enum drive_ask { DRIVE_STOP = 1, DRIVE_HURRY = 2, DRIVE_REPORT = 4 } drive_ask;

typedef struct drive drive;

/* Makes everything ready to run. PGQ_E_NOMEM or PGQ_E_IO. */
pgq_code drive_open(const drive_config *config, drive **ret_drive, pgq_error *err);

/* Runs to the engine's end; returns the engine's error. Blocks. */
pgq_code drive_run(drive *d, pgq_error *err);

const pgq_worker_counts *drive_counts(const drive *d);

/* Whether the run ended with handlers still at work. */
bool drive_handlers_run(const drive *d);

/* Frees everything. Handlers that still run are left alone, with their jobs and what these need,
 * which then stays in memory (see pool_free). Takes NULL; returns NULL. */
drive *drive_close(drive *d);

#endif
