/* The events of jobs that are done. The trigger sends one with each settle, and its NOTIFY lets
 * only one transaction of the whole server commit at a time, and wakes every worker. So while there
 * is a backlog settles send none, and some worker says ten times a second that jobs are done:
 * whoever hears another one say so puts its own off, and the last one to settle is the last one to
 * speak. Source: measured; see docs/internals/worker.md. */
#include "worker/engine_internal.h"

enum { TELL_INTERVAL_US = 100 * 1000 };

bool engine_event_later(const engine *e, size_t jobs)
{
    return e->state == ENGINE_RUNNING && e->leases.backlog && jobs > 1;
}

void engine_done_untold(engine *e, engine_lane *lane)
{
    e->done_untold |= lane->lease.untold;
}

/* Not all workers at once. */
void engine_done_told(engine *e, int64_t now_us)
{
    e->tell_at_us =
        now_us + TELL_INTERVAL_US + (int64_t)random_below(&e->random, TELL_INTERVAL_US / 2);
}

int64_t engine_tell_deadline(const engine *e)
{
    if (!e->done_untold)
        return CLOCK_NEVER;
    return e->state == ENGINE_RUNNING ? e->tell_at_us : 0;
}

void engine_add_tell(engine *e, int64_t now_us, engine_lane *lane)
{
    if (now_us < engine_tell_deadline(e))
        return;
    engine_add_sentence(lane, SENTENCE_ANNOUNCE)->of.announce.done = true;
    e->done_untold = false;
    engine_done_told(e, now_us);
}
