/* The smallest worker: one entrypoint that prints its payload.
 *
 *   cc -shared -fPIC -o hello.so hello.c $(pkg-config --cflags --libs pgqueuer)
 *   pgqueuer queue hello world
 *   pgqueuer run ./hello.so:factory --mode drain
 */
#include <pgqueuer/pgqueuer.h>

#include <stdio.h>

static pgq_outcome hello(pgq_job *job, void *user)
{
    pgq_bytes payload = pgq_job_payload(job);
    const char *text = payload.data != NULL ? payload.data : "";

    (void)user;
    printf("hello %.*s, from job %lld\n", (int)payload.len, text, (long long)pgq_job_id(job));
    return pgq_done();
}

pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err);
pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err)
{
    (void)argc;
    (void)argv;
    return pgq_worker_entrypoint(worker, "hello", hello, NULL, NULL, err);
}
