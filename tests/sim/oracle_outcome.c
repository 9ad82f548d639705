/* What must hold of outcomes, cancellations, timeouts and rests. */
#include "sim.h"

enum {
    SECOND_US = 1000 * 1000,
    SLACK_US = 200 * 1000,
    REFUSALS_MIN = 7 /* of an outcome alone, before it is changed */
};

/* ---- what is written ---- */

/* The status that the rules ask for: what was cancelled before it had an outcome is cancelled,
 * and so is what would go back to the queue; what did not heed its timeout has failed; all others
 * are as their handlers ended them. */
static pgq_status wanted_status(const body *b)
{
    const engine_entrypoint *entry = &b->worker->entries[b->entrypoint];

    if (b->state == BODY_NEW || b->state == BODY_REVOKED || b->cancelled_first)
        return PGQ_STATUS_CANCELED;
    if (b->abandoned)
        return entry->failure;
    if (b->outcome.status == PGQ_STATUS_CANCELED && b->timeout_told_us != CLOCK_NEVER)
        return entry->failure;
    if (b->outcome.status == PGQ_STATUS_QUEUED && b->cancelled_us != CLOCK_NEVER) {
        count_path(b->worker->world, PATH_CANCEL_RETRY);
        return PGQ_STATUS_CANCELED;
    }
    return b->outcome.status;
}

void oracle_outcome_sent(const body *b, const settle_item *item)
{
    world *w = b->worker->world;
    bool never_ran = b->state == BODY_NEW || b->state == BODY_REVOKED;
    pgq_status wanted = wanted_status(b);
    const void *text = b->state == BODY_ENDED && !b->abandoned ? b->outcome.text : NULL;
    bool reworded;

    if ((never_ran && b->cancelled_us == CLOCK_NEVER) || b->state == BODY_WAITING ||
        (!b->abandoned && (b->state == BODY_RUNNING || b->state == BODY_PARKED))) {
        violated(w, "I6: worker %d settles job %lld, which has not run to its end",
                 (int)b->worker->serial, (long long)item->token.id);
        return;
    }
    /* the database did not take it, perhaps before it was cancelled; the text alone may be replaced
     * without more ado */
    reworded = item->own_type != NULL && base_streq(item->own_type, "SettleRefused");
    if (reworded && item->status == PGQ_STATUS_EXCEPTION &&
        (wanted != PGQ_STATUS_CANCELED ||
         (b->outcome.status == PGQ_STATUS_QUEUED && !b->cancelled_first)))
        wanted = PGQ_STATUS_EXCEPTION;
    if (reworded && (text == NULL || wanted != wanted_status(b)) &&
        (b->claim->refused_alone < REFUSALS_MIN ||
         model_row_of(&w->model, item->token.id)->poison != POISON_ROW))
        violated(w, "I6: worker %d settles job %lld as refused, and that is not certain",
                 (int)b->worker->serial, (long long)item->token.id);
    if (item->status != wanted)
        violated(w, "I6: worker %d settles job %lld as %d, and it has to be %d",
                 (int)b->worker->serial, (long long)item->token.id, (int)item->status, (int)wanted);
    if (item->text != text || (item->own_type != NULL && item->own_message == NULL) ||
        (b->abandoned && item->own_type == NULL) ||
        (wanted == PGQ_STATUS_QUEUED && item->delay_ms != b->outcome.delay_ms))
        violated(w, "I6: worker %d settles job %lld otherwise than its handler ended",
                 (int)b->worker->serial, (long long)item->token.id);
}

/* ---- what is told ---- */

void oracle_cancel_heard(worker *who, const notice *n)
{
    world *w = who->world;

    for (size_t i = 0; i < n->count; i++)
        who->cancel_heard[n->ids[i] - 1] = w->now_us;
    for (body *b = who->bodies; b != NULL; b = b->next) {
        for (size_t i = 0; i < n->count; i++) {
            if (b->token.id == n->ids[i] && !b->forgotten && !b->told_lost)
                b->cancelled_us = base_min_i64(b->cancelled_us, w->now_us);
        }
    }
}

void oracle_told(const body *b, job_why why)
{
    const worker *who = b->worker;
    world *w = who->world;
    int64_t timeout_us = who->entries[b->entrypoint].timeout_us;

    if (why == WHY_TIMEOUT &&
        (timeout_us == 0 || (b->state != BODY_RUNNING && b->state != BODY_PARKED) ||
         w->now_us < b->began_us + timeout_us || b->timeout_told_us != CLOCK_NEVER))
        violated(w, "I4: worker %d tells job %lld that its time is over, and it is not",
                 (int)who->serial, (long long)b->token.id);
    if (why == WHY_CANCELLED && b->cancelled_us == CLOCK_NEVER)
        violated(w, "I4: worker %d tells job %lld that it is cancelled, and it is not",
                 (int)who->serial, (long long)b->token.id);
    if (why == WHY_STOP && !who->stopping)
        violated(w, "I4: worker %d tells job %lld to stop, and does not stop itself",
                 (int)who->serial, (long long)b->token.id);
}

void oracle_abandoned(const body *b)
{
    const worker *who = b->worker;
    world *w = who->world;

    if (b->abandoned || b->forgotten || (b->state != BODY_RUNNING && b->state != BODY_PARKED))
        violated(w, "I7: worker %d gives up job %lld, whose handler does not run", (int)who->serial,
                 (long long)b->token.id);
    else if (b->timeout_told_us == CLOCK_NEVER ||
             w->now_us < b->timeout_told_us + who->entries[b->entrypoint].grace_us)
        violated(w, "I4: worker %d gives up job %lld within its grace", (int)who->serial,
                 (long long)b->token.id);
}

/* ---- what is late ---- */

static void check_timeout(const body *b, int64_t awake_us)
{
    const worker *who = b->worker;
    world *w = who->world;
    const engine_entrypoint *entry = &who->entries[b->entrypoint];
    int64_t due_us = b->began_us + entry->timeout_us;
    bool told = b->timeout_told_us != CLOCK_NEVER;

    if (entry->timeout_us == 0 || b->abandoned ||
        (b->state != BODY_RUNNING && b->state != BODY_PARKED))
        return;
    if (told)
        due_us = b->timeout_told_us + entry->grace_us;
    if (w->now_us > base_max_i64(due_us, awake_us) + SLACK_US)
        violated(w, "I4: the time of job %lld is over, and worker %d has not %s it",
                 (long long)b->token.id, (int)who->serial, told ? "given up" : "told");
}

static void check_rest(const body *b, int64_t awake_us)
{
    const worker *who = b->worker;

    if (b->state != BODY_RESTING || who->stopping || b->told_lost ||
        b->cancelled_us != CLOCK_NEVER || who->exhausted_us >= b->rests_until_us)
        return;
    if (oracle_in_doubt(b))
        return; /* whose it is must be known first */
    awake_us = base_max_i64(awake_us, b->heard_us);
    if (who->world->now_us > base_max_i64(b->rests_until_us, awake_us) + SLACK_US)
        violated(who->world, "I4: the rest of job %lld is over, and worker %d does not start it",
                 (long long)b->token.id, (int)who->serial);
}

/* An outcome that could be written long ago. */
static void check_unsettled(const body *b)
{
    const worker *who = b->worker;
    world *w = who->world;
    const model_row *row = model_row_of(&w->model, b->token.id);
    int64_t since_us = w->now_us - BACKOFF_US - SECOND_US;

    if ((b->state != BODY_ENDED && !b->abandoned) || b->told_lost || b->claim->settled ||
        !(oracle_orphaned(w, b->claim) ||
          (row->poison == POISON_NONE && oracle_stands(w, b->claim))) ||
        b->ended_us > since_us || row->locked_until_us > since_us || row->leased_by != 0 ||
        row->freed_us > since_us || who->hampered_us > since_us ||
        who->lanes_lost_us != CLOCK_NEVER || oracle_disturbed_since(who, since_us))
        return;
    violated(w, "I4: worker %d has not settled job %lld, which ended %lld ms ago", (int)who->serial,
             (long long)b->token.id, (long long)(w->now_us - b->ended_us) / 1000);
}

void oracle_check_bodies(worker *who)
{
    int64_t awake_us = who->frozen_until_us;

    if (!who->alive || who->world->now_us < awake_us)
        return;
    for (const body *b = who->bodies; b != NULL; b = b->next) {
        if (b->forgotten)
            continue;
        check_timeout(b, awake_us);
        check_rest(b, awake_us);
        check_unsettled(b);
    }
}
