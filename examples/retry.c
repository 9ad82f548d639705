/* Handlers with rules: a retry in the database, a limit over the whole fleet, a timeout.
 *
 *     cc -shared -fPIC -o retry.so examples/retry.c $(pkg-config --cflags pgqueuer)
 *     pgqueuer queue charge '4200' && pgqueuer run ./retry.so:factory --mode drain
 *
 * A charge that fails goes back to the queue, with growing delays, and any worker of the fleet runs
 * it again, five times at most; then it is held for a person. Whatever the size of the fleet, three
 * charges run at once, and reports one after the other. */
#include <pgqueuer/pgqueuer.h>

#include <stdio.h>
#include <string.h>

static pgq_outcome charge(pgq_job *job, void *user)
{
    pgq_bytes amount = pgq_job_payload(job);

    (void)user;
    if (amount.len == 0)
        return pgq_fail("ValueError", "the amount is missing");
    if (pgq_job_attempts(job) == 0)
        return pgq_fail("BankError", "the bank does not answer");
    printf("charged %.*s in attempt %d\n", (int)amount.len, (const char *)amount.data,
           pgq_job_attempts(job) + 1);
    return pgq_done();
}

static pgq_outcome report(pgq_job *job, void *user)
{
    (void)user;
    for (int part = 0; part < 10; part++) {
        if (pgq_job_cancelled(job)) /* cancelled, or its time is over */
            return pgq_cancelled();
        /* write a part of the report here */
    }
    return pgq_done();
}

pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err);

pgq_code factory(pgq_worker *worker, int argc, char **argv, pgq_error *err)
{
    pgq_entrypoint_options charging = PGQ_ENTRYPOINT_OPTIONS_INIT;
    pgq_entrypoint_options reporting = PGQ_ENTRYPOINT_OPTIONS_INIT;
    pgq_retry_config retry = PGQ_RETRY_CONFIG_INIT;
    pgq_code code;

    (void)argc;
    (void)argv;
    retry.max_retries = 5;
    retry.initial_delay_ms = 100;
    charging.concurrency_limit = 3;
    charging.on_failure = PGQ_ON_FAILURE_HOLD;
    charging.executor_factory = pgq_retry_executor; /* the only way to set an executor */
    charging.executor_config = &retry;
    code = pgq_worker_entrypoint(worker, "charge", charge, NULL, &charging, err);
    if (code != PGQ_OK)
        return code;
    reporting.serialized_dispatch = true;
    reporting.timeout_ms = 60000;
    return pgq_worker_entrypoint(worker, "report", report, NULL, &reporting, err);
}
