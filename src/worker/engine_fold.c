/* When the statistics are brought up to date: the log's rows are folded into them at the configured
 * interval, and the counts of settles, where there are any, once a second. A worker folds after it
 * has settled something, and twice: while another worker folds, ours is left out, and what was
 * written meanwhile may have been passed over by that. So the last one comes when a fold that was
 * under way at the one before is over: a worker that was killed may have left that to its session.
 * Both kinds lock the statistics, so a worker has one fold under way at most. */
#include "worker/engine_internal.h"

enum {
    COUNTS_INTERVAL_US = 1000 * 1000,
    FOLD_FULL_US = 900 * 1000, /* a fold that took so long has ended for lack of time */
    FOLD_AGAIN_US = 1000 * 1000,
    FOLD_LONGEST_US = 3000 * 1000, /* its second, and two that it may wait for the table */
    FOLD_ROUNDS = 2
};

static int64_t interval_us(const engine *e, int kind)
{
    int64_t interval = e->config.aggregate_interval_us;

    return kind == FOLD_COUNTS ? base_min_i64(interval, COUNTS_INTERVAL_US) : interval;
}

static int kind_of(const sentence *said)
{
    return said->of.aggregate.counts ? FOLD_COUNTS : FOLD_LOG;
}

void engine_fold_init(engine *e)
{
    for (int kind = 0; kind < FOLD_KINDS; kind++)
        e->folds[kind] = (engine_fold){.at_us = CLOCK_NEVER};
}

void engine_fold_begin(engine *e, int64_t now_us)
{
    if (e->config.aggregate_interval_us == 0)
        return;
    e->folds[FOLD_LOG].at_us = now_us + interval_us(e, FOLD_LOG);
    if (!e->extras)
        return;
    e->folds[FOLD_COUNTS].at_us = now_us + interval_us(e, FOLD_COUNTS);
    e->folds[FOLD_COUNTS].rounds = 1; /* of workers that were killed */
}

void engine_fold_wanted(engine *e)
{
    for (int kind = 0; kind < FOLD_KINDS; kind++)
        e->folds[kind].rounds = FOLD_ROUNDS;
}

static void add_fold(engine *e, engine_lane *lane, int kind)
{
    engine_add_sentence(lane, SENTENCE_AGGREGATE)->of.aggregate.counts = kind == FOLD_COUNTS;
    e->folds[kind].at_us = CLOCK_NEVER; /* until it is answered or lost */
    e->folds[kind].rounds--;
}

/* When it is due as far as time goes. */
static int64_t due_us(const engine_fold *fold)
{
    switch (fold->rounds) {
    case 0:
        return CLOCK_NEVER;
    case 1:
        return base_max_i64(fold->at_us, fold->last_at_us);
    default:
        return fold->at_us;
    }
}

/* The kind that is due; FOLD_KINDS: none is. */
static int due(const engine *e, int64_t now_us)
{
    int kind = 0;

    if (engine_any_said(e, SENTENCE_AGGREGATE))
        return FOLD_KINDS;
    while (kind < FOLD_KINDS && now_us < due_us(&e->folds[kind]))
        kind++;
    return e->state == ENGINE_RUNNING ? kind : FOLD_KINDS;
}

bool engine_fold_due(const engine *e, int64_t now_us)
{
    return due(e, now_us) < FOLD_KINDS;
}

void engine_add_fold(engine *e, int64_t now_us, engine_lane *lane)
{
    int kind = due(e, now_us);

    if (kind < FOLD_KINDS)
        add_fold(e, lane, kind);
}

bool engine_folds(const engine_lane *lane)
{
    return lane->flight.count == 1 && lane->flight.sentences[0].kind == SENTENCE_AGGREGATE;
}

bool engine_add_last_fold(engine *e, engine_lane *lane)
{
    if (!e->extras || e->last_fold || e->folds[FOLD_COUNTS].rounds == 0 ||
        e->config.aggregate_interval_us == 0)
        return false;
    add_fold(e, lane, FOLD_COUNTS);
    e->last_fold = true;
    return true;
}

/* The next one comes in the interval, up to a fifth sooner or later, as Python's. */
void engine_hear_fold(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply)
{
    int kind = kind_of(&lane->flight.sentences[lane->answered - 1]);
    int64_t wait_us = interval_us(e, kind), fifth_us = wait_us / 5;
    bool full = now_us - lane->flown_us >= FOLD_FULL_US;
    engine_fold *fold = &e->folds[kind];

    if ((reply->refused || full) && fold->rounds == 0) /* or wanted while it was under way */
        fold->rounds = 1;
    if (reply->refused)
        engine_say(e, NOTE_AGGREGATE_REFUSED, -1, 0, 0, &reply->error);
    wait_us += (int64_t)random_below(&e->random, (uint64_t)(2 * fifth_us + 1)) - fifth_us;
    if (full && !reply->refused)
        wait_us = base_min_i64(wait_us, FOLD_AGAIN_US);
    fold->at_us = now_us + wait_us;
    fold->last_at_us =
        reply->refused || full ? fold->at_us : now_us + base_max_i64(wait_us, FOLD_LONGEST_US);
}

void engine_fold_lost(engine *e, int64_t now_us, const sentence *said)
{
    int kind = kind_of(said);

    e->folds[kind].at_us = now_us + interval_us(e, kind);
    e->folds[kind].last_at_us = now_us + FOLD_LONGEST_US; /* its session may be at it yet */
    if (e->folds[kind].rounds == 0)
        e->folds[kind].rounds = 1;
}

int64_t engine_fold_deadline(const engine *e)
{
    int64_t at = CLOCK_NEVER;

    if (engine_any_said(e, SENTENCE_AGGREGATE))
        return CLOCK_NEVER;
    for (int kind = 0; kind < FOLD_KINDS; kind++)
        at = base_min_i64(at, due_us(&e->folds[kind]));
    return at;
}
