/* pgq_retry_executor: a failed job goes back to the queue, and any worker runs it again. */
#include "base/base.h"
#include "base/error.h"
#include "base/random.h"
#include "executor/executor.h"

#include <pgqueuer/client.h>
#include <stdlib.h>

enum { RETRIES_MAX = 1000000, MULTIPLIER_MAX = 1000 };

typedef struct retry_executor {
    pgq_executor head;
    pgq_executor *inner;
    pgq_retry_config config;
    _Atomic uint64_t random;
} retry_executor;

static pgq_outcome decide(retry_executor *retry, const pgq_job *job, pgq_outcome outcome)
{
    const pgq_retry_config *c = &retry->config;
    double delay_ms;

    if (outcome.kind != OUTCOME_FAIL || pgq_job_attempts(job) >= c->max_retries)
        return outcome;
    delay_ms = executor_power_delay(c->initial_delay_ms, c->multiplier, pgq_job_attempts(job),
                                    (double)c->max_delay_ms);
    delay_ms -= delay_ms * c->jitter * executor_random(&retry->random);
    return outcome_retry(&outcome, (int64_t)(delay_ms + 0.5), false);
}

static pgq_outcome retry_execute(pgq_executor *self, pgq_job *job)
{
    retry_executor *retry = (retry_executor *)self;

    return decide(retry, job, retry->inner->operations->execute(retry->inner, job));
}

static pgq_outcome retry_finished(pgq_executor *self, pgq_job *job, pgq_outcome outcome)
{
    retry_executor *retry = (retry_executor *)self;

    return decide(retry, job, executor_finished(retry->inner, job, outcome));
}

static void retry_cancel(pgq_executor *self, pgq_job *job)
{
    executor_cancel(((retry_executor *)self)->inner, job);
}

static void retry_destroy(pgq_executor *self)
{
    (void)executor_free(((retry_executor *)self)->inner);
    free(self);
}

static const pgq_executor_operations retry_operations = {
    .struct_size = sizeof(pgq_executor_operations),
    .execute = retry_execute,
    .cancel = retry_cancel,
    .finished = retry_finished,
    .destroy = retry_destroy,
};

static pgq_code check(const pgq_retry_config *c, pgq_error *err)
{
    pgq_code code = executor_check("max_retries", c->max_retries, 0, RETRIES_MAX, err);

    if (code == PGQ_OK)
        code = executor_check("initial_delay_ms", (double)c->initial_delay_ms, 0,
                              (double)PGQ_DELAY_MS_MAX, err);
    if (code == PGQ_OK)
        code = executor_check("max_delay_ms", (double)c->max_delay_ms, 0, (double)PGQ_DELAY_MS_MAX,
                              err);
    if (code == PGQ_OK)
        code = executor_check("multiplier", c->multiplier, 1, MULTIPLIER_MAX, err);
    return code == PGQ_OK ? executor_check("jitter", c->jitter, 0, 1, err) : code;
}

pgq_code pgq_retry_executor(const pgq_executor_parameters *parameters, pgq_executor **ret_executor,
                            pgq_error *err)
{
    pgq_retry_config config = PGQ_RETRY_CONFIG_INIT;
    retry_executor *retry;
    uint64_t seed;
    pgq_code code =
        base_copy_options(&config, sizeof(config), parameters->config, "pgq_retry_config", err);

    if (code == PGQ_OK)
        code = check(&config, err);
    if (code == PGQ_OK && random_bytes(&seed, sizeof(seed)) != PGQ_OK)
        code = error_set(err, PGQ_E_IO, "the kernel has no random numbers");
    if (code != PGQ_OK)
        return code;
    retry = calloc(1, sizeof(*retry));
    if (retry == NULL)
        return error_nomem(err);
    retry->head.operations = &retry_operations;
    retry->inner = parameters->inner;
    retry->config = config;
    atomic_init(&retry->random, seed);
    *ret_executor = &retry->head;
    return PGQ_OK;
}
