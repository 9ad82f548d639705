/* pgq_retry_executor: a failed job goes back to the queue, and any worker runs it again. */
#include "base/base.h"
#include "base/error.h"
#include "executor/executor.h"

#include <pgqueuer/client.h>

enum { RETRIES_MAX = 1000000, MULTIPLIER_MAX = 1000 };

typedef struct retry_executor {
    executor_wrapper wrapper;
    pgq_retry_config config;
} retry_executor;

static pgq_outcome decide(retry_executor *retry, const pgq_job *job, pgq_outcome outcome)
{
    const pgq_retry_config *c = &retry->config;
    double delay_ms;

    if (outcome.kind != OUTCOME_FAIL || pgq_job_attempts(job) >= c->max_retries)
        return outcome;
    delay_ms = executor_power_delay(c->initial_delay_ms, c->multiplier, pgq_job_attempts(job),
                                    (double)c->max_delay_ms);
    delay_ms -= delay_ms * c->jitter * wrapper_random(&retry->wrapper);
    return outcome_retry(&outcome, (int64_t)(delay_ms + 0.5), false);
}

static pgq_outcome retry_execute(pgq_executor *self, pgq_job *job)
{
    retry_executor *retry = (retry_executor *)self;

    return decide(retry, job, retry->wrapper.inner->operations->execute(retry->wrapper.inner, job));
}

static pgq_outcome retry_finished(pgq_executor *self, pgq_job *job, pgq_outcome outcome)
{
    retry_executor *retry = (retry_executor *)self;

    return decide(retry, job, executor_finished(retry->wrapper.inner, job, outcome));
}

static const pgq_executor_operations retry_operations = {
    .struct_size = sizeof(pgq_executor_operations),
    .execute = retry_execute,
    .cancel = wrapper_cancel,
    .finished = retry_finished,
    .destroy = wrapper_destroy,
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
    executor_wrapper *wrapper = NULL;
    pgq_code code =
        base_copy_options(&config, sizeof(config), parameters->config, "pgq_retry_config", err);

    if (code == PGQ_OK)
        code = check(&config, err);
    if (code == PGQ_OK)
        code = wrapper_new(sizeof(retry_executor), &retry_operations, parameters->inner, &wrapper,
                           err);
    if (code != PGQ_OK)
        return code;
    ((retry_executor *)wrapper)->config = config;
    *ret_executor = &wrapper->head;
    return PGQ_OK;
}
