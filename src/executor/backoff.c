/* pgq_backoff_executor: a failed job stays picked, and this worker runs it again. It does not wait
 * in a thread: the engine hands the job out again when the delay has passed. */
#include "base/base.h"
#include "base/clock.h"
#include "base/error.h"
#include "executor/executor.h"

#include <pgqueuer/client.h>
#include <stdio.h>

enum { ATTEMPTS_MAX = 1000000, MULTIPLIER_MAX = 1000 };

typedef struct backoff_executor {
    executor_wrapper wrapper;
    pgq_backoff_config config;
} backoff_executor;

/* It has had its runs, or its time: the failure counts, under another name. */
static pgq_outcome give_up(pgq_outcome *failure, const char *type, const char *what, int64_t limit)
{
    char text[PGQ_MESSAGE_BYTES];
    pgq_outcome outcome;

    (void)snprintf(text, sizeof(text), "%s %lld: %s", what, (long long)limit,
                   outcome_reason(failure));
    outcome = pgq_fail(type, text);
    pgq_outcome_discard(failure);
    return outcome;
}

static pgq_outcome decide(backoff_executor *b, pgq_job *job, pgq_outcome outcome)
{
    const pgq_backoff_config *c = &b->config;
    int64_t elapsed_ms = (clock_monotonic_us() - job->first_began_us) / 1000;
    int why = atomic_load(&job->why);
    double delay_ms;

    if (outcome.kind != OUTCOME_FAIL || (why != WHY_NOT && why != WHY_TIMEOUT))
        return outcome;
    job->failures++;
    if (c->max_attempts > 0 && job->failures >= c->max_attempts)
        return give_up(&outcome, "MaxRetriesExceeded", "failed in all attempts of",
                       c->max_attempts);
    if (c->max_time_ms > 0 && elapsed_ms > c->max_time_ms)
        return give_up(&outcome, "MaxTimeExceeded", "failed for longer than the milliseconds of",
                       c->max_time_ms);
    delay_ms = executor_power_delay(c->initial_delay_ms, c->multiplier, job->failures,
                                    (double)PGQ_DELAY_MS_MAX) /
               2;
    delay_ms += wrapper_random(&b->wrapper) * (double)c->initial_delay_ms / 2;
    if (delay_ms > (double)c->max_delay_ms)
        delay_ms = (double)c->max_delay_ms;
    return outcome_retry(&outcome, (int64_t)(delay_ms + 0.5), true);
}

static pgq_outcome backoff_execute(pgq_executor *self, pgq_job *job)
{
    backoff_executor *b = (backoff_executor *)self;

    if (job->first_began_us == 0)
        job->first_began_us = clock_monotonic_us();
    return decide(b, job, b->wrapper.inner->operations->execute(b->wrapper.inner, job));
}

static pgq_outcome backoff_finished(pgq_executor *self, pgq_job *job, pgq_outcome outcome)
{
    backoff_executor *b = (backoff_executor *)self;

    return decide(b, job, executor_finished(b->wrapper.inner, job, outcome));
}

static const pgq_executor_operations backoff_operations = {
    .struct_size = sizeof(pgq_executor_operations),
    .execute = backoff_execute,
    .cancel = wrapper_cancel,
    .finished = backoff_finished,
    .destroy = wrapper_destroy,
};

static pgq_code check(const pgq_backoff_config *c, pgq_error *err)
{
    pgq_code code = executor_check("max_attempts", c->max_attempts, 0, ATTEMPTS_MAX, err);

    if (code == PGQ_OK)
        code = executor_check("max_delay_ms", (double)c->max_delay_ms, 0, (double)PGQ_DELAY_MS_MAX,
                              err);
    if (code == PGQ_OK)
        code =
            executor_check("max_time_ms", (double)c->max_time_ms, 0, (double)PGQ_DELAY_MS_MAX, err);
    if (code == PGQ_OK)
        code = executor_check("initial_delay_ms", (double)c->initial_delay_ms, 0,
                              (double)PGQ_DELAY_MS_MAX, err);
    return code == PGQ_OK ? executor_check("multiplier", c->multiplier, 1, MULTIPLIER_MAX, err)
                          : code;
}

pgq_code pgq_backoff_executor(const pgq_executor_parameters *parameters,
                              pgq_executor **ret_executor, pgq_error *err)
{
    pgq_backoff_config config = PGQ_BACKOFF_CONFIG_INIT;
    executor_wrapper *wrapper = NULL;
    pgq_code code =
        base_copy_options(&config, sizeof(config), parameters->config, "pgq_backoff_config", err);

    if (code == PGQ_OK)
        code = check(&config, err);
    if (code == PGQ_OK)
        code = wrapper_new(sizeof(backoff_executor), &backoff_operations, parameters->inner,
                           &wrapper, err);
    if (code != PGQ_OK)
        return code;
    ((backoff_executor *)wrapper)->config = config;
    *ret_executor = &wrapper->head;
    return PGQ_OK;
}
