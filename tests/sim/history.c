/* One history: the seed decides the fleet, the work, which kinds of fault there are (a swarm: most
 * histories know only some), and when they fall. Then faults and work end, and everything has to
 * come to rest within the bounds. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    MS = 1000,
    SECOND = 1000 * 1000,
    CHECK_EVERY_US = 100 * MS,
    EVENTS_MAX = 3 * 1000 * 1000,
    TIMES_MAX = 4 /* how often a fault falls that falls at a planned time */
};

typedef enum tale {
    TALE_ENQUEUE,
    TALE_ENQUEUE_SILENTLY, /* the notification came before */
    TALE_BEGIN,
    TALE_REQUEUE,
    TALE_FAULT /* + the fault */
} tale;

static const world *running;

const world *history_running(void)
{
    return running;
}

int64_t between(world *w, int64_t low, int64_t high)
{
    return low + (int64_t)random_below(&w->random, (uint64_t)base_max_i64(0, high - low) + 1);
}

bool chance(world *w, int of_10000)
{
    return random_below(&w->random, 10000) < (uint64_t)of_10000;
}

void count_fault(world *w, fault f)
{
    w->tally->faults[f]++;
}

void count_path(world *w, path p)
{
    w->tally->paths[p]++;
}

bool befalls(world *w, fault f)
{
    if (w->fault_rates[f] == 0 || w->now_us >= w->faults_end_us || !chance(w, w->fault_rates[f]))
        return false;
    count_fault(w, f);
    return true;
}

void *sim_array(world *w, size_t count, size_t size)
{
    void *array = arena_array(&w->memory, count, size);

    if (array == NULL)
        abort();
    return array;
}

static void plan(world *w, int64_t at_us, int what)
{
    event_add(w, (event){.at_us = at_us, .kind = EVENT_TALE, .tale = what});
}

/* ---- drawing the history ---- */

/* Of 10 000: for each statement, connection, notification, job or timer. 1: at planned times. */
static const struct {
    int low, high;
    bool harmless; /* costs no claim and no time */
} rates[FAULT_COUNT] = {
    [FAULT_TRANSIENT] = {20, 400, false},
    [FAULT_PERMISSION] = {1, 1, false},
    [FAULT_SESSION] = {10, 200, false},
    [FAULT_POISON_TEXT] = {200, 1500, true},
    [FAULT_POISON_ROW] = {50, 300, false},
    [FAULT_CUT_BEFORE] = {20, 300, false},
    [FAULT_CUT_AFTER] = {20, 300, false},
    [FAULT_CUT_IDLE] = {1, 1, false},
    [FAULT_LATE] = {5000, 5000, false},
    [FAULT_UNSAID] = {10, 100, false},
    [FAULT_NO_CONNECT] = {300, 3000, false},
    [FAULT_OUTAGE] = {1, 1, false},
    [FAULT_SLOW] = {20, 300, false},
    [FAULT_NOTIFY_LOST] = {300, 5000, false},
    [FAULT_NOTIFY_TWICE] = {1000, 5000, true},
    [FAULT_NOTIFY_EARLY] = {1000, 5000, true},
    [FAULT_CRASH] = {1, 1, false},
    [FAULT_FREEZE] = {1, 1, false},
    [FAULT_STOP] = {1, 1, true},
    [FAULT_NOMEM] = {100, 1000, true},
    [FAULT_LOCK] = {1, 1, false},
    [FAULT_CANCEL] = {1, 1, true},
    [FAULT_LATE_TICK] = {300, 5000, true},
};

static void draw_faults(world *w)
{
    int64_t kind = between(w, 0, 7); /* 0: no faults; 1, 2: harmless ones; else any */

    for (int f = 0; f < FAULT_COUNT; f++) {
        if (kind == 0 || rates[f].high == 0 || (kind <= 2 && !rates[f].harmless) ||
            !chance(w, w->slow && (f == FAULT_OUTAGE || f == FAULT_STOP) ? 8000 : 3300))
            continue;
        w->fault_rates[f] = (int)between(w, rates[f].low, rates[f].high);
        if (rates[f].high > 1)
            continue;
        for (int64_t left = between(w, 1, TIMES_MAX); left > 0; left--)
            plan(w, between(w, 0, w->faults_end_us), TALE_FAULT + f);
    }
    w->locks = w->fault_rates[FAULT_LOCK] > 0;
}

static void draw_times(world *w)
{
    static const int heartbeats_ms[] = {300, 1000, 3000};
    static const int dequeues_ms[] = {200, 1000, 5000, 30000};

    w->slow = chance(w, 500);
    w->heartbeat_us = (int64_t)MS * heartbeats_ms[between(w, 0, 2)];
    w->dequeue_us = (int64_t)MS * dequeues_ms[between(w, 0, 3)];
    w->faults_end_us = between(w, 2 * SECOND, 10 * SECOND);
    if (w->slow) {
        w->heartbeat_us = 15 * SECOND;
        w->faults_end_us = 80 * (int64_t)SECOND;
    }
    w->enqueue_end_us = w->faults_end_us + 2 * SECOND;
    w->long_handlers = chance(w, 5000);
    w->longest_handler_us = w->long_handlers ? 3 * w->heartbeat_us : 50 * MS;
}

static void draw_history(world *w)
{
    int64_t enqueues = between(w, 10, 30);

    draw_times(w);
    draw_faults(w);
    /* now and then one alone, for whom nobody else wakes */
    w->wanted_workers = chance(w, 1500) ? 1 : (int)between(w, 2, 5);
    for (int i = 0; i < w->wanted_workers; i++)
        plan(w, between(w, 0, 100 * MS), TALE_BEGIN);
    for (int64_t i = 0; i < enqueues; i++) {
        bool at_once = chance(w, 2000);

        plan(w, at_once ? 0 : between(w, 0, w->enqueue_end_us), TALE_ENQUEUE);
    }
    w->enqueues_left = (size_t)enqueues;
    w->jobs_planned = (size_t)enqueues * 12 + 32;
    for (int i = 0; i < 2; i++)
        plan(w, between(w, 0, w->enqueue_end_us), TALE_REQUEUE);
    event_add(w, (event){.at_us = CHECK_EVERY_US, .kind = EVENT_CHECK});
}

/* ---- the work ---- */

static void enqueue_some(world *w)
{
    int64_t count = between(w, 1, 8);

    for (int64_t i = 0; i < count; i++) {
        int64_t delay_us = chance(w, 1500) ? between(w, 1, 2 * SECOND) : 0;
        model_row *row = model_enqueue(&w->model, w->now_us, delay_us, (int32_t)between(w, 0, 2));

        if (chance(w, w->fault_rates[FAULT_POISON_TEXT]))
            row->poison = POISON_TEXT;
        else if (chance(w, w->fault_rates[FAULT_POISON_ROW]))
            row->poison = POISON_ROW;
        if (row->poison == POISON_ROW)
            row->poisoned_until_us = between(w, w->now_us, w->faults_end_us + 40 * SECOND);
        w->jobs[row->id - 1].passed_over_us = -1;
        trace_add(w, "enqueued: job, delay", NULL, -1, row->id, delay_us);
    }
    w->enqueues_left--;
}

static void enqueue(world *w)
{
    if (befalls(w, FAULT_NOTIFY_EARLY)) {
        network_notify(w);
        plan(w, w->now_us + between(w, 100, 20 * MS), TALE_ENQUEUE_SILENTLY);
        return;
    }
    enqueue_some(w);
    network_notify(w);
    if (w->model.row_count + 16 < w->jobs_planned - 8 * w->enqueues_left && chance(w, 5000)) {
        w->enqueues_left++; /* while the workers are about to claim the first ones */
        plan(w, w->now_us + between(w, 50, 600), TALE_ENQUEUE);
    }
}

static model_row *any_row(world *w, bool held)
{
    size_t count = w->model.row_count, first;

    if (count == 0)
        return NULL;
    first = (size_t)between(w, 0, (int64_t)count - 1);
    for (size_t i = 0; i < count; i++) {
        model_row *row = &w->model.rows[(first + i) % count];

        if (row->present && (!held || row->status == PGQ_STATUS_FAILED))
            return row;
    }
    return NULL;
}

static void requeue(world *w)
{
    model_row *row = any_row(w, true);

    if (row == NULL)
        return;
    model_requeue(&w->model, row, w->now_us);
    w->model.told = false;
    trace_add(w, "requeued", NULL, -1, row->id, 0);
    network_notify(w);
}

/* ---- faults at planned times ---- */

static worker *any_worker(world *w)
{
    size_t first;

    if (w->worker_count == 0)
        return NULL;
    first = (size_t)between(w, 0, (int64_t)w->worker_count - 1);
    for (size_t i = 0; i < w->worker_count; i++) {
        worker *who = w->workers[(first + i) % w->worker_count];

        if (who->alive && w->now_us >= who->frozen_until_us)
            return who;
    }
    return NULL;
}

static int64_t until_faults_end(world *w, int64_t most_us)
{
    return base_min_i64(w->faults_end_us, w->now_us + between(w, 100 * MS, most_us));
}

static void cut_lanes(worker *who, int only)
{
    for (int i = 0; i < who->lane_count; i++) {
        connection *c = who->lanes[i];

        if (c != NULL && c->open && c->ready && (only < 0 || only == i))
            network_cut(c, between(who->world, 20, 5 * MS));
    }
}

static void outage(world *w, worker *who)
{
    int64_t most_us = w->slow ? 120 * (int64_t)SECOND : 3 * SECOND;
    int64_t until_us = until_faults_end(w, most_us);

    if (w->slow && chance(w, 5000))
        fleet_stop(who);
    if (chance(w, 5000)) {
        who->lanes_away_until_us = until_us;
        who->lane_away = chance(w, 5000) ? -1 : (int)between(w, 0, who->lane_count - 1);
        cut_lanes(who, who->lane_away);
        return;
    }
    w->away_until_us = until_us;
    for (size_t i = 0; i < w->worker_count; i++) {
        if (w->workers[i]->alive)
            cut_lanes(w->workers[i], -1);
    }
}

static void freeze(world *w, worker *who)
{
    who->frozen_until_us = until_faults_end(w, 3 * w->heartbeat_us);
    oracle_disturb(who, who->frozen_until_us);
    fleet_update_idle(who);
    trace_add(w, "is frozen until", who, -1, who->frozen_until_us, 0);
}

static void lock_row(world *w, model_row *row)
{
    row->locked_until_us = until_faults_end(w, 2 * w->heartbeat_us);
    trace_add(w, "locked: job, until", NULL, -1, row->id, row->locked_until_us);
}

static void planned_fault(world *w, fault f)
{
    worker *who = any_worker(w);
    model_row *row = any_row(w, false);

    if (who == NULL || row == NULL)
        return;
    if (f != FAULT_PERMISSION)
        count_fault(w, f); /* that one counts when it refuses */
    switch (f) {
    case FAULT_CUT_IDLE:
        cut_lanes(who, (int)between(w, 0, who->lane_count - 1));
        break;
    case FAULT_OUTAGE:
        outage(w, who);
        break;
    case FAULT_CRASH:
        fleet_kill(who);
        break;
    case FAULT_FREEZE:
        freeze(w, who);
        break;
    case FAULT_STOP:
        if (w->fault_rates[FAULT_CUT_IDLE] > 0 && chance(w, 5000))
            cut_lanes(who, -1); /* before the worker sees it, it is asked to stop */
        fleet_stop(who);
        break;
    case FAULT_PERMISSION:
        w->denied_until_us = until_faults_end(w, 3 * SECOND);
        w->denied_claims = chance(w, 3000);
        break;
    case FAULT_LOCK:
        lock_row(w, row);
        break;
    default:
        trace_add(w, "cancelled", NULL, -1, row->id, (int64_t)row->status);
        model_cancel(&w->model, row);
        break;
    }
}

static void on_tale(world *w, int what)
{
    switch (what) {
    case TALE_ENQUEUE:
        enqueue(w);
        break;
    case TALE_ENQUEUE_SILENTLY:
        enqueue_some(w);
        break;
    case TALE_BEGIN:
        fleet_begin(w, true);
        break;
    case TALE_REQUEUE:
        requeue(w);
        break;
    default:
        planned_fault(w, (fault)(what - TALE_FAULT));
        break;
    }
}

/* ---- coming to rest ---- */

/* Somebody starts workers again that ended; after the faults at least one that stays. */
static void keep_fleet(world *w)
{
    bool stays = false;

    for (size_t i = 0; i < w->worker_count; i++) {
        const worker *who = w->workers[i];

        stays |= who->alive && !who->stopping && !who->asked_to_stop && !who->config.drain;
    }
    if (w->now_us >= w->faults_end_us && !stays)
        fleet_begin(w, false);
    else if (w->now_us < w->faults_end_us && w->worker_count < SIM_WORKERS_MAX / 2 &&
             fleet_alive(w) < (size_t)w->wanted_workers && chance(w, 1000))
        fleet_begin(w, true);
}

static void close_fleet(world *w)
{
    bool waits = false;
    int64_t bound_us = w->drained_us + w->dequeue_us + w->heartbeat_us + 8 * SECOND;

    for (size_t i = 0; i < w->worker_count && !w->failed; i++) {
        const worker *who = w->workers[i];

        if (!who->alive || !who->config.drain || who->stopping)
            continue;
        waits = true;
        if (w->now_us > bound_us && who->kept == 0)
            violated(w, "I4: worker %d drains an empty queue and does not end", (int)who->serial);
    }
    if (waits && w->now_us <= bound_us)
        return;
    w->closing = true;
    w->closing_us = w->now_us;
    for (size_t i = 0; i < w->worker_count && !w->failed; i++) {
        if (w->workers[i]->alive && !w->workers[i]->asked_to_stop)
            fleet_stop(w->workers[i]);
    }
}

static void on_check(world *w)
{
    int64_t rest_us = w->longest_handler_us + 3 * w->heartbeat_us + 10 * SECOND;
    int64_t drain_us = (int64_t)w->jobs_planned * w->longest_handler_us + 120 * (int64_t)SECOND +
                       4 * (w->dequeue_us + w->heartbeat_us);

    event_add(w, (event){.at_us = w->now_us + CHECK_EVERY_US, .kind = EVENT_CHECK});
    oracle_check(w);
    if (w->closing) {
        w->over = fleet_alive(w) == 0;
        if (w->now_us > w->closing_us + rest_us)
            violated(w, "I4: a stopped worker has not ended after %lld ms",
                     (long long)rest_us / MS);
        return;
    }
    keep_fleet(w);
    if (w->enqueues_left > 0 || model_unfinished(&w->model) || w->now_us < w->enqueue_end_us)
        w->drained_us = CLOCK_NEVER;
    else if (w->drained_us == CLOCK_NEVER)
        w->drained_us = w->now_us;
    if (w->drained_us != CLOCK_NEVER)
        close_fleet(w);
    else if (w->now_us > w->enqueue_end_us + drain_us)
        violated(w, "I4: the queue does not drain");
}

/* ---- playing ---- */

static void play(world *w, const event *e)
{
    bool of_server = e->kind == EVENT_EXECUTE || e->kind == EVENT_LATE;

    if (e->worker != NULL && !of_server) {
        if (!e->worker->alive)
            return;
        if (w->now_us < e->worker->frozen_until_us) {
            event later = *e;

            later.at_us = e->worker->frozen_until_us;
            event_add(w, later);
            return;
        }
    }
    switch (e->kind) {
    case EVENT_TALE:
        on_tale(w, e->tale);
        break;
    case EVENT_CHECK:
        on_check(w);
        break;
    case EVENT_TICK:
    case EVENT_PICK:
    case EVENT_RUN_END:
        fleet_event(w, e);
        break;
    default:
        network_event(w, e);
        break;
    }
}

static void report(const world *w)
{
    (void)printf("the last lines of history %llu:\n", (unsigned long long)w->seed);
    trace_print_last(&w->trace);
    (void)printf("VIOLATED in the history of seed %llu: %s\n"
                 "to see all of it: simulate --seed %llu --histories 1 --trace\n",
                 (unsigned long long)w->seed, w->failure, (unsigned long long)w->seed);
}

static void release_world(world *w)
{
    for (size_t i = 0; i < w->worker_count; i++)
        w->workers[i]->engine = engine_free(w->workers[i]->engine);
    free(w->events.heap);
    arena_release(&w->memory);
}

history_result history_run(uint64_t seed, bool print, bool quiet, tally *t)
{
    static world only; /* where a report of a crash finds it */
    world *w = &only;
    history_result result = {.failed = false};
    uint64_t events = 0;
    event e;

    *w = (world){
        .seed = seed,
        .random = {seed * 0xD1342543DE82EF95u + 1},
        .memory = ARENA_INIT,
        .drained_us = CLOCK_NEVER,
        .trace = {.print = print, .hash = 0xCBF29CE484222325u},
        .tally = t,
    };
    running = w;
    draw_history(w);
    if (!model_init(&w->model, &w->memory, w->jobs_planned, w->heartbeat_us))
        abort();
    w->jobs = sim_array(w, w->jobs_planned, sizeof(*w->jobs));
    while (!w->failed && !w->over && event_next(w, &e)) {
        w->now_us = e.at_us;
        play(w, &e);
        if (++events > EVENTS_MAX)
            violated(w, "I7: the history does not come to an end");
    }
    oracle_end(w);
    t->histories++;
    t->events += events;
    t->virtual_us += w->now_us;
    if (t->histories == 1 || events < t->fewest_events)
        t->fewest_events = events;
    if (w->failed && !quiet)
        report(w);
    result.failed = w->failed;
    result.hash = w->trace.hash;
    result.events = events;
    memcpy(result.failure, w->failure, sizeof(result.failure));
    release_world(w);
    running = NULL;
    return result;
}
