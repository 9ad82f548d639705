/* One run of `import`: what is there already, and chunk after chunk what is to come. */
#ifndef CLI_IMPORT_RUN_H
#define CLI_IMPORT_RUN_H

#include "base/map.h"
#include "cli/import.h"
#include "cli/progress.h"

#include <pgqueuer/pgqueuer.h>

enum { IMPORT_TEXT_BYTES = 4096, IMPORT_NAME_BYTES_MAX = 1024 };

/* What the command line says. Everything is borrowed. */
typedef struct import_options {
    const char *path; /* NULL: standard input */
    const char *name; /* NULL: made from the file */
    const char *rejects;
    import_format format;
    pgq_new_job defaults;
    pgq_on_conflict on_conflict;
    pgq_log_policy log_policy;
    bool again, resume;
} import_options;

/* The jobs of one transaction. */
typedef struct import_chunk {
    pgq_new_job *jobs;
    import_record *records; /* of those jobs that may yet be rejected, with copies of their texts */
    int64_t *ids;
    size_t count;
    size_t bytes; /* of the records */
    map keys;     /* with update_priority: key to the job, in jobs */
    int64_t merged;
    arena memory;
} import_chunk;

typedef struct import_run {
    const import_options *options;
    pgq_client *client;
    int64_t file_bytes; /* 0: not a regular file */
    bool regular;
    bool recorded;    /* the position is committed with the jobs */
    bool resumed;     /* this run goes on with another one */
    bool done_before; /* all of it was imported: there is nothing to do */
    char name[IMPORT_TEXT_BYTES + 1], source[IMPORT_TEXT_BYTES + 1];
    char settings[IMPORT_TEXT_BYTES + 1];
    pgq_import state; /* what is committed; its texts are those above */
    import_source in;
    import_columns columns;
    import_rejects rejects;
    int64_t rejected_before; /* by the runs that this one goes on with */
    import_chunk chunk;
    progress bar;
} import_run;

/* import_begin.c: opens the stream, finds out where to begin, and takes the import for this run.
 * With done_before there is nothing to be done. */
pgq_code import_begin(import_run *run, const import_options *options, pgq_client *client,
                      pgq_error *err);

/* Imports the rest. What is committed is in run->state also on failure. */
pgq_code import_go(import_run *run, pgq_error *err);

void import_run_release(import_run *run);

#endif
