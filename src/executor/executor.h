/* How one job is run: the executor of an entrypoint, and what the built-in wrappers share. */
#ifndef EXECUTOR_EXECUTOR_H
#define EXECUTOR_EXECUTOR_H

#include <pgqueuer/executor.h>

#include "queue/job.h"
#include "queue/outcome.h"

/* Makes the executor of an entrypoint: one that calls the handler and, around it or in its place,
 * what `factory` makes of it (NULL: nothing). `parameters` come without `inner`.
 * PGQ_E_NOMEM, PGQ_E_FACTORY, or what the factory says. */
pgq_code executor_make(const pgq_executor_parameters *parameters, pgq_executor_factory factory,
                       pgq_executor **ret_executor, pgq_error *err);

/* Takes NULL; returns NULL. */
pgq_executor *executor_free(pgq_executor *executor);

/* Passes a job that was finished later through the inner executor. */
pgq_outcome executor_finished(pgq_executor *inner, pgq_job *job, pgq_outcome outcome);

/* The head of an executor around another one. */
typedef struct executor_wrapper {
    pgq_executor head;
    pgq_executor *inner;
    _Atomic uint64_t random; /* see wrapper_random */
} executor_wrapper;

/* A wrapper of `bytes` bytes around `inner`, zero behind its head. PGQ_E_NOMEM, PGQ_E_IO. */
pgq_code wrapper_new(size_t bytes, const pgq_executor_operations *operations, pgq_executor *inner,
                     executor_wrapper **ret_wrapper, pgq_error *err);

/* Operations of every wrapper. */
void wrapper_cancel(pgq_executor *self, pgq_job *job);
void wrapper_destroy(pgq_executor *self);

/* min(initial * multiplier^n, max), without overflow; milliseconds. */
double executor_power_delay(int64_t initial_ms, double multiplier, int64_t n, double max_ms);

/* A number in [0, 1) that differs from call to call, from any thread. */
double wrapper_random(executor_wrapper *wrapper);

/* PGQ_E_INVALID with the option's name and its range, unless min <= value <= max. */
pgq_code executor_check(const char *name, double value, double min, double max, pgq_error *err);

#endif
