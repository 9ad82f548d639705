/* Outcomes that the database refuses to take, and a worker that is to end all the same.
 *
 * One that runs tries them again and again: somebody may mend what is wrong. One that stops tries
 * each once more, and where the reason may be gone in a moment for as long as it would wait for a
 * database that is away. Then it ends with an error that names the jobs. */
#include "worker/engine_internal.h"
#include "base/error.h"

#include <stdio.h>

enum {
    UNWRITTEN_US = 30 * 1000 * 1000,
    NAMED_MAX = 8, /* jobs in the error */
    NAMES_BYTES = 256
};

void engine_despair(engine *e, engine_job *job, const pgq_error *error)
{
    if (e->state != ENGINE_STOPPING || job->state == JOB_HANDED)
        return;
    job->hopeless = true;
    if (error != NULL)
        e->hopeless_error = *error;
}

void engine_despair_later(engine *e, int64_t now_us, engine_lane *lane, const pgq_error *error)
{
    if (e->state != ENGINE_STOPPING)
        return;
    if (e->unwritten_since_us == CLOCK_NEVER)
        e->unwritten_since_us = now_us;
    if (now_us < e->unwritten_since_us + UNWRITTEN_US)
        return;
    for (size_t i = 0; i < lane->job_count; i++)
        engine_despair(e, lane->jobs[i], error);
}

/* Appends the ids of the first ones. Only in these states a job waits for its outcome to be
 * written. */
static size_t count_hopeless(const engine *e, char *names)
{
    static const job_state states[] = {JOB_FINISHED, JOB_DONE, JOB_REFUSED};
    size_t count = 0, used = 0;

    for (size_t i = 0; i < BASE_COUNT(states); i++) {
        for (list_link *link = e->jobs[states[i]].first; link != NULL; link = link->next) {
            const engine_job *job = LIST_ENTRY(link, engine_job, link);

            if (!job->hopeless)
                continue;
            if (names != NULL && count < NAMED_MAX)
                used += (size_t)snprintf(names + used, NAMES_BYTES - used, "%s%lld",
                                         count > 0 ? ", " : "", (long long)job->token.id);
            count++;
        }
    }
    return count;
}

/* A drain stops when it has nothing else; what only waits for a lock it waits for. */
static size_t count_refused(const engine *e)
{
    size_t count = 0;

    for (list_link *link = e->jobs[JOB_REFUSED].first; link != NULL; link = link->next)
        count += LIST_ENTRY(link, engine_job, link)->timeouts == 0;
    for (list_link *link = e->jobs[JOB_DONE].first; link != NULL; link = link->next)
        count += LIST_ENTRY(link, engine_job, link)->refused;
    return count;
}

size_t engine_unsettleable(const engine *e)
{
    return e->state == ENGINE_STOPPING ? count_hopeless(e, NULL) : count_refused(e);
}

/* The last attempt of a drain has written what was refused before: a retry, or what another worker
 * has by now. */
static bool is_cut_short(const engine *e)
{
    bool requeued = e->config.drain && !e->config.drain_now && e->drain_requeues > 0 &&
                    e->requeues + 1 > e->drain_requeues;

    return e->drained_in_part || requeued;
}

void engine_leave_unsettled(engine *e)
{
    char names[NAMES_BYTES] = "", more[NAMES_BYTES] = "";
    size_t count = count_hopeless(e, names);

    if (e->error.code != PGQ_OK)
        return;
    if (count == 0 && is_cut_short(e)) {
        (void)error_set(
            &e->error, PGQ_E_DATABASE,
            "the queue may not be drained: the outcomes of jobs were refused for a while");
        error_hint(&e->error, "nothing is lost: run it again");
    }
    if (count == 0)
        return;
    if (count > NAMED_MAX)
        (void)snprintf(more, sizeof(more), " and %zu more", count - NAMED_MAX);
    (void)error_set(&e->error, PGQ_E_DATABASE, "the outcome of %s %s%s could not be written: %s",
                    count == 1 ? "job" : "jobs", names, more,
                    e->hopeless_error.message[0] != '\0' ? e->hopeless_error.message
                                                         : "its row is locked by somebody");
    (void)snprintf(e->error.sqlstate, sizeof(e->error.sqlstate), "%s", e->hopeless_error.sqlstate);
    error_hint(&e->error, "the handler has run; a picked job is taken over after the heartbeat "
                          "timeout, a leased one is queued, and is run again: mend first what "
                          "refuses its outcome");
}
