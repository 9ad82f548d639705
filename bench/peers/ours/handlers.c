/* Our handler: does nothing; a job with a payload, which is its number, tells when it started. */
#include "producing.h"

#include <pgqueuer/pgqueuer.h>

static pgq_outcome bench(pgq_job *job, void *user)
{
    pgq_bytes payload = pgq_job_payload(job);

    (void)user;
    if (payload.len > 0)
        producing_note_start(payload.data, (int)payload.len);
    return pgq_done();
}

pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err);

pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err)
{
    (void)argc;
    (void)argv;
    return pgq_worker_entrypoint(worker, "bench", bench, NULL, NULL, err);
}
