/* A job that is finished long after its worker has given it up and ended.
 *
 *     prog_late DSN      works the one job of the entrypoint `late`, and finishes it afterwards
 *
 * Prints "ended" when the worker's run has ended, then "finished". */
#include <pgqueuer/pgqueuer.h>

#include <stdio.h>

static pgq_job *kept;

static pgq_outcome park(pgq_job *job, void *user)
{
    (void)user;
    kept = job;
    return pgq_later();
}

int main(int argc, char **argv)
{
    pgq_connect_options connect = PGQ_CONNECT_OPTIONS_INIT;
    pgq_entrypoint_options options = PGQ_ENTRYPOINT_OPTIONS_INIT;
    pgq_run_options run = PGQ_RUN_OPTIONS_INIT;
    pgq_error err = PGQ_ERROR_INIT;
    pgq_worker *worker = NULL;
    pgq_code code;

    if (argc != 2)
        return 2;
    connect.dsn = argv[1];
    options.timeout_ms = 50;
    options.timeout_grace_ms = 50;
    run.mode = PGQ_MODE_DRAIN;
    code = pgq_worker_new(&connect, &worker, &err);
    if (code == PGQ_OK)
        code = pgq_worker_entrypoint(worker, "late", park, NULL, &options, &err);
    if (code == PGQ_OK)
        code = pgq_worker_run(worker, &run, &err);
    (void)pgq_worker_free(worker);
    if (code != PGQ_OK || kept == NULL) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    puts("ended");
    pgq_job_finish(kept, pgq_fail("TooLate", "nobody waits for it any more"));
    puts("finished");
    return 0;
}
