/* A factory of one entrypoint, `noop`, whose jobs do nothing. */
#include <pgqueuer/pgqueuer.h>

static pgq_outcome noop(pgq_job *job, void *user)
{
    (void)job;
    (void)user;
    return pgq_done();
}

pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err);

pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err)
{
    (void)argc;
    (void)argv;
    return pgq_worker_entrypoint(worker, "noop", noop, NULL, NULL, err);
}
