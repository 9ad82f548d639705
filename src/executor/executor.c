/* The executor that calls a handler, and how the one of an entrypoint is made. */
#include "executor/executor.h"
#include "base/error.h"
#include "base/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct native_executor {
    pgq_executor head;
    pgq_handler handler;
    void *user;
} native_executor;

/* A handler that gave up because its time was over has failed, so that a retry may follow. */
static pgq_outcome timed_out(const pgq_job *job)
{
    char text[48];

    (void)snprintf(text, sizeof(text), "ran longer than %lld ms", (long long)job->timeout_ms);
    return pgq_fail("JobTimeout", text);
}

static pgq_outcome judge(const pgq_job *job, pgq_outcome outcome)
{
    if (outcome.kind != OUTCOME_CANCELLED || atomic_load(&job->why) != WHY_TIMEOUT)
        return outcome;
    pgq_outcome_discard(&outcome);
    return timed_out(job);
}

static pgq_outcome native_execute(pgq_executor *self, pgq_job *job)
{
    const native_executor *native = (const native_executor *)self;

    return judge(job, native->handler(job, native->user));
}

static pgq_outcome native_finished(pgq_executor *self, pgq_job *job, pgq_outcome outcome)
{
    (void)self;
    return judge(job, outcome);
}

static void native_destroy(pgq_executor *self)
{
    free(self);
}

static const pgq_executor_operations native_operations = {
    .struct_size = sizeof(pgq_executor_operations),
    .execute = native_execute,
    .finished = native_finished,
    .destroy = native_destroy,
};

static pgq_code check_made(const pgq_executor *made, pgq_error *err)
{
    const pgq_executor_operations *o = made != NULL ? made->operations : NULL;
    pgq_code code;

    if (o != NULL && o->struct_size >= sizeof(*o) && o->execute != NULL && o->destroy != NULL)
        return PGQ_OK;
    code = error_set(err, PGQ_E_FACTORY, "the executor factory returned %s",
                     made == NULL ? "no executor" : "an executor with incomplete operations");
    error_hint(err, "its operations need struct_size, execute and destroy");
    return code;
}

static pgq_code call_factory(pgq_executor_factory factory,
                             const pgq_executor_parameters *parameters, pgq_executor **ret_executor,
                             pgq_error *err)
{
    pgq_error own = PGQ_ERROR_INIT;
    pgq_executor *made = NULL;
    pgq_code code = factory(parameters, &made, &own);

    if (code != PGQ_OK) {
        if (own.code == PGQ_OK)
            (void)error_set(&own, code, "the executor factory failed: %s", pgq_strerror(code));
        if (err != NULL)
            *err = own;
        (void)executor_free(parameters->inner);
        return code;
    }
    code = check_made(made, err);
    if (code == PGQ_OK)
        *ret_executor = made;
    return code;
}

pgq_code executor_make(const pgq_executor_parameters *parameters, pgq_executor_factory factory,
                       pgq_executor **ret_executor, pgq_error *err)
{
    pgq_executor_parameters own = *parameters;
    native_executor *native = calloc(1, sizeof(*native));

    if (native == NULL)
        return error_nomem(err);
    native->head.operations = &native_operations;
    native->handler = parameters->handler;
    native->user = parameters->user;
    own.struct_size = sizeof(own);
    own.inner = &native->head;
    if (factory != NULL)
        return call_factory(factory, &own, ret_executor, err);
    *ret_executor = own.inner;
    return PGQ_OK;
}

pgq_executor *executor_free(pgq_executor *executor)
{
    if (executor != NULL)
        executor->operations->destroy(executor);
    return NULL;
}

pgq_outcome executor_finished(pgq_executor *inner, pgq_job *job, pgq_outcome outcome)
{
    if (inner->operations->finished == NULL)
        return outcome;
    return inner->operations->finished(inner, job, outcome);
}

pgq_code wrapper_new(size_t bytes, const pgq_executor_operations *operations, pgq_executor *inner,
                     executor_wrapper **ret_wrapper, pgq_error *err)
{
    executor_wrapper *wrapper;
    uint64_t seed;

    if (random_bytes(&seed, sizeof(seed)) != PGQ_OK)
        return error_set(err, PGQ_E_IO, "the kernel has no random numbers");
    wrapper = calloc(1, bytes);
    if (wrapper == NULL)
        return error_nomem(err);
    wrapper->head.operations = operations;
    wrapper->inner = inner;
    atomic_init(&wrapper->random, seed);
    *ret_wrapper = wrapper;
    return PGQ_OK;
}

void wrapper_cancel(pgq_executor *self, pgq_job *job)
{
    pgq_executor *inner = ((executor_wrapper *)self)->inner;

    if (inner->operations->cancel != NULL)
        inner->operations->cancel(inner, job);
}

void wrapper_destroy(pgq_executor *self)
{
    (void)executor_free(((executor_wrapper *)self)->inner);
    free(self);
}

double executor_power_delay(int64_t initial_ms, double multiplier, int64_t n, double max_ms)
{
    double delay = (double)initial_ms * pow(multiplier, (double)n);

    /* 0 * infinity is no number: nothing grows from nothing */
    if (initial_ms == 0)
        return 0;
    return delay < max_ms ? delay : max_ms;
}

double wrapper_random(executor_wrapper *wrapper)
{
    random_state r = {atomic_fetch_add(&wrapper->random, 0x9E3779B97F4A7C15u)};

    return (double)(random_next(&r) >> 11) / 9007199254740992.0;
}

pgq_code executor_check(const char *name, double value, double min, double max, pgq_error *err)
{
    if (value >= min && value <= max) /* a NaN is not */
        return PGQ_OK;
    return error_set(err, PGQ_E_INVALID, "%s must be from %.15g to %.15g, is %.15g", name, min, max,
                     value);
}
