/* How a job is run, and what its end means to the engine. */
#include "base/clock.h"
#include "base/utf8.h"
#include "queue/ledger.h"
#include "queue/outcome.h"
#include "worker/drive_internal.h"
#include "worker/note.h"

#include <stdlib.h>

enum {
    QUICK_US = 500,         /* jobs that take less are worth waiting for each other's outcomes */
    LOGGED_TEXT_BYTES = 300 /* of a failure's message in the log; the log row has all of it */
};

void drive_start_job(drive *d, const engine_action *action)
{
    const engine_config *config = &d->config.engine;
    pgq_job *job = action->body;

    job->engine_job = action->job;
    job->place = engine_place(d->engine, action->job);
    job->executor = d->config.entrypoints[job->entrypoint_index].executor;
    job->timeout_ms = config->entrypoints[job->entrypoint_index].timeout_us / 1000;
    d->starts[d->start_count++] = job;
}

/* Whether the claim cannot have been lost by time alone: a process that was stopped, or that could
 * not beat, may have lost it meanwhile. */
static bool proven(const drive *d, const pgq_job *job)
{
    int64_t lease_until_us = atomic_load(&job->lease_until_us);
    int64_t beaten_us, claimed_us;

    if (lease_until_us != 0)
        return job->began_us < lease_until_us;
    beaten_us = atomic_load(&d->beaten_us);
    claimed_us = beaten_us > job->heard_us ? beaten_us : job->claimed_us;
    return job->began_us <
           claimed_us + d->config.engine.entrypoints[job->entrypoint_index].silence_us;
}

pgq_outcome drive_run_job(void *user, pgq_job *job)
{
    drive *d = user;

    if (!proven(d, job))
        return (pgq_outcome){.kind = OUTCOME_UNSTARTED};
    if (job->defect != NULL)
        return pgq_fail("InvalidHeaders", job->defect);
    /* until it is settled: what a handler has done to the process may show when it has returned */
    ledger_begin(d->config.ledger, job->place, job->id);
    return job->executor->operations->execute(job->executor, job);
}

static pgq_status status_of(const drive *d, const pgq_job *job, uint32_t kind)
{
    pgq_on_failure on_failure = d->config.entrypoints[job->entrypoint_index].options.on_failure;

    switch ((outcome_kind)kind) {
    case OUTCOME_DONE:
        return PGQ_STATUS_SUCCESSFUL;
    case OUTCOME_RETRY:
        return PGQ_STATUS_QUEUED;
    case OUTCOME_CANCELLED:
        return PGQ_STATUS_CANCELED;
    default:
        break;
    }
    /* also a value that none of the functions made */
    return on_failure == PGQ_ON_FAILURE_HOLD ? PGQ_STATUS_FAILED : PGQ_STATUS_EXCEPTION;
}

/* A job that the engine has given up has left its thread, or has ended at last. */
static void take_abandoned(drive *d, int64_t now_us, pool_outcome *done)
{
    pgq_job *job = done->job;

    if (done->outcome.kind == OUTCOME_STARTED)
        return;
    if (!job->parked)
        engine_straggler_ended(d->engine, now_us);
    job->parked = true;
    if (done->outcome.kind == OUTCOME_LATER)
        return;
    pgq_outcome_discard(&done->outcome);
    d->abandoned--;
    ledger_end(d->config.ledger, job->place, job->id);
    job_free(job);
}

/* A run that failed has a line: whoever reads the log of a worker must not need the database to
 * learn that jobs fail, and why. */
static void note_failed_run(const drive *d, const pgq_job *job, const pgq_outcome *outcome)
{
    const outcome_text *text = outcome->text;
    bool again = outcome->kind == OUTCOME_RETRY || outcome->kind == OUTCOME_AGAIN;
    int why = atomic_load(&job->why);
    char message[LOGGED_TEXT_BYTES + 1] = "";
    pgq_log_field fields[] = {
        {"job", NULL, job->id},
        {"entrypoint", job->entrypoint, 0},
        {"attempts", NULL, job->attempts},
        {"exception_type", text != NULL && text->type != NULL ? text->type : "Failure", 0},
        {"error", message, 0},
        {"delay_ms", NULL, outcome->delay_ms}, /* the last: only of a retry */
    };

    if (why == WHY_CANCELLED || why == WHY_LOST)
        return; /* what it says is not written */
    if (text != NULL && text->message != NULL) {
        size_t len =
            utf8_cut(text->message, base_min_size(strlen(text->message), LOGGED_TEXT_BYTES));

        memcpy(message, text->message, len);
    }
    note_event(&d->config.log, again ? PGQ_LOG_WARNING : PGQ_LOG_ERROR,
               again ? "job.retried" : "job.failed", fields, BASE_COUNT(fields) - !again);
}

static void take_end(drive *d, int64_t now_us, const pool_outcome *done)
{
    pgq_job *job = done->job;
    engine_outcome outcome = {
        .status = status_of(d, job, done->outcome.kind),
        .delay_ms = done->outcome.delay_ms,
        .text = done->outcome.text,
        .text_bytes = outcome_text_bytes(done->outcome.text),
        .run_us = done->run_us,
    };

    if (done->outcome.kind != OUTCOME_DONE && done->outcome.kind != OUTCOME_CANCELLED)
        note_failed_run(d, job, &done->outcome);
    free(job->text); /* of a run before */
    job->text = done->outcome.text;
    engine_outcome_of(d->engine, now_us, job->engine_job, &outcome);
}

static void take_outcome(drive *d, int64_t now_us, pool_outcome *done)
{
    pgq_job *job = done->job;

    if (job->abandoned) {
        take_abandoned(d, now_us, done);
        return;
    }
    switch (done->outcome.kind) {
    case OUTCOME_STARTED:
        engine_started(d->engine, now_us, job->engine_job);
        break;
    case OUTCOME_LATER:
        job->parked = true;
        engine_parked(d->engine, now_us, job->engine_job);
        break;
    case OUTCOME_AGAIN:
        note_failed_run(d, job, &done->outcome);
        free(job->text);
        job->text = done->outcome.text;
        job->parked = false;
        engine_resting(d->engine, now_us, job->engine_job, done->outcome.delay_ms * 1000);
        break;
    case OUTCOME_UNSTARTED:
        engine_revoked(d->engine, now_us, job->engine_job);
        break;
    default:
        take_end(d, now_us, done);
        break;
    }
}

bool drive_take_outcomes(drive *d)
{
    size_t count = pool_take(d->pool, d->outcomes, d->capacity), runs = 0;
    int64_t now_us, run_us = 0;

    if (count == 0)
        return false;
    now_us = clock_monotonic_us();
    engine_events_begin(d->engine);
    for (size_t i = 0; i < count; i++) {
        runs += d->outcomes[i].run_us > 0;
        run_us += d->outcomes[i].run_us;
        take_outcome(d, now_us, &d->outcomes[i]);
    }
    engine_events_end(d->engine, now_us);
    if (runs > 0) {
        d->quick = run_us < QUICK_US * (int64_t)runs;
        d->run_us = run_us / (int64_t)runs;
    }
    return true;
}
