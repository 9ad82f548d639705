/* The demo's work: the files of a folder go through a queue, which hashes them. Written with the
 * public API only, as a program of yours would be. */
#ifndef CLI_DEMO_H
#define CLI_DEMO_H

#include "base/arena.h"
#include "cli/progress.h"

#include <pgqueuer/libpq.h>
#include <pgqueuer/pgqueuer.h>

#include <pthread.h>
#include <stdatomic.h>

#define DEMO_ENTRYPOINT "demo_hash"

typedef struct demo_file {
    const char *path;
    int64_t bytes;
} demo_file;

typedef struct demo {
    arena memory; /* of files and their paths */
    demo_file *files;
    size_t count;
    int64_t bytes;
    bool cut; /* there are more files than the demo takes */
    const char *dsn;
    int64_t first_id, last_id; /* of the jobs */
    pthread_key_t connection;  /* of each handler thread, a PGconn */
    progress bar;
    pthread_mutex_t bar_lock;
    atomic_llong done;
} demo;

/* Collects the regular files below `folder`, hidden ones left out. PGQ_E_NOT_FOUND for none. */
pgq_code demo_collect(demo *d, const char *folder, pgq_error *err);

/* The rows and their jobs, in one transaction of `conn`: both are there, or neither. */
pgq_code demo_enqueue(demo *d, PGconn *conn, pgq_error *err);

/* Registers the handler that hashes. */
pgq_code demo_register(demo *d, pgq_worker *worker, pgq_error *err);

/* Turns a failed command into an error. */
pgq_code demo_sql_error(PGconn *conn, const char *what, pgq_error *err);

void demo_release(demo *d);

#endif
