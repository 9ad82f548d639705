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

void plan(world *w, int64_t at_us, int what)
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
    [FAULT_COMMIT_REFUSED] = {100, 1500, false},
    [FAULT_FREEZE_FLYING] = {50, 500, false},
    [FAULT_SILENT] = {1, 1, false},
    [FAULT_SWALLOWED_BEFORE] = {5, 100, false},
    [FAULT_SWALLOWED_AFTER] = {5, 100, false},
    [FAULT_STUCK] = {6000, 18000, false},
    [FAULT_COMMITS_LATE] = {500, 3000, true},
    [FAULT_CONTENDED] = {2000, 8000, true},
    [FAULT_POISON_TEXT] = {200, 1500, true},
    [FAULT_POISON_ROW] = {50, 300, false},
    [FAULT_CUT_BEFORE] = {20, 300, false},
    [FAULT_CUT_AFTER] = {20, 300, false},
    [FAULT_CUT_IDLE] = {1, 1, false},
    [FAULT_LATE] = {5000, 5000, false},
    [FAULT_GHOST] = {2000, 8000, false},
    [FAULT_UNSAID] = {10, 100, false},
    [FAULT_NO_CONNECT] = {300, 3000, false},
    [FAULT_OUTAGE] = {1, 1, false},
    [FAULT_SLOW] = {20, 300, false},
    [FAULT_NOTIFY_LOST] = {300, 5000, false},
    [FAULT_NOTIFY_TWICE] = {1000, 5000, true},
    [FAULT_NOTIFY_EARLY] = {1000, 5000, true},
    [FAULT_DEAF] = {1000, 6000, false},
    [FAULT_DROPPED] = {1, 1, false},
    [FAULT_CRASH] = {1, 1, false},
    [FAULT_FREEZE] = {1, 1, false},
    [FAULT_STOP] = {1, 1, true},
    [FAULT_HURRY] = {1, 1, true},
    [FAULT_NOMEM] = {100, 1000, true},
    [FAULT_LOCK] = {1, 1, false},
    [FAULT_CANCEL] = {1, 1, true},
    [FAULT_CANCEL_EVENT] = {1, 1, true},
    [FAULT_ENDLESS] = {500, 5000, true},
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
    if (kind > 2 && w->seed % 7 == 5) { /* not drawn: the other histories stay what they were */
        w->fault_rates[FAULT_BROKEN_LOG] = 1;
        for (int64_t left = between(w, 1, TIMES_MAX); left > 0; left--)
            plan(w, between(w, 0, w->faults_end_us), TALE_FAULT + FAULT_BROKEN_LOG);
    }
    w->locks = w->fault_rates[FAULT_LOCK] > 0;
    if (w->lease_us > 0 && kind > 0 && chance(w, 1500))
        w->walk_us = between(w, MS, 60 * MS);
}

static void draw_probes(world *w)
{
    static const int intervals_ms[] = {200, 1000, 3000, 10000};
    static const int timeouts_ms[] = {100, 500, 2000};
    static const int folds_ms[] = {0, 500, 2000, 30000};

    w->probe_interval_us = (int64_t)MS * intervals_ms[between(w, 0, 3)];
    w->probe_timeout_us = (int64_t)MS * timeouts_ms[between(w, 0, 2)];
    w->aggregate_us = (int64_t)MS * folds_ms[between(w, 0, 3)];
    w->extras = chance(w, 5000);
    w->has_front = chance(w, 5000);
}

/* Between 20 ms and 5 s, and a quarter of the heartbeat timeout at most. */
static int64_t draw_lease(world *w)
{
    int64_t most_us = base_min_i64(5 * SECOND, w->heartbeat_us / 4);

    if (chance(w, 5000))
        most_us = base_min_i64(most_us, 100 * MS);
    return between(w, 20 * MS, most_us);
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
    if (!chance(w, 2500)) /* else every entrypoint is on the row lane */
        w->lease_us = draw_lease(w);
    w->enqueue_end_us = w->faults_end_us + 2 * SECOND;
    w->long_handlers = chance(w, 5000);
    w->longest_handler_us = w->long_handlers ? 3 * w->heartbeat_us : 50 * MS;
    w->retry_share = chance(w, 2000) ? 40 : 9;
    w->parks = chance(w, 3000);
    w->rests = chance(w, 3000);
    w->endless_left = (int)between(w, 0, 3);
}

static void draw_history(world *w)
{
    int64_t enqueues = between(w, 10, 30);

    draw_times(w);
    draw_probes(w);
    fleet_draw_entries(w);
    draw_faults(w);
    /* now and then one alone, for whom nobody else wakes */
    w->wanted_workers = chance(w, 2500) ? 1 : (int)between(w, 2, 5);
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

/* ---- coming to rest ---- */

/* Somebody starts workers again that ended; after the faults at least one that stays. */
static void keep_fleet(world *w)
{
    bool stays = false;

    for (size_t i = 0; i < w->worker_count; i++) {
        const worker *who = w->workers[i];

        stays |= who->alive && !who->stopping && !who->asked_to_stop && !who->config.drain &&
                 who->config.only_job == 0 && who->stragglers < (size_t)who->config.threads;
    }
    if (w->now_us >= w->faults_end_us && !stays)
        fleet_begin(w, false, 0);
    else if (w->now_us < w->faults_end_us && w->worker_count < SIM_WORKERS_MAX / 2 &&
             fleet_alive(w) < (size_t)w->wanted_workers && chance(w, 1000))
        fleet_begin(w, true, 0);
}

static bool anything_queued(const world *w)
{
    for (size_t i = 0; i < w->model.row_count; i++) {
        if (w->model.rows[i].present && w->model.rows[i].status == PGQ_STATUS_QUEUED)
            return true;
    }
    return false;
}

static void close_fleet(world *w)
{
    bool waits = false;
    int64_t bound_us = w->drained_us + w->dequeue_us + w->heartbeat_us + 8 * SECOND + GHOST_US;

    for (size_t i = 0; i < w->worker_count && !w->failed; i++) {
        const worker *who = w->workers[i];

        if (!who->alive || who->stopping ||
            !(who->config.only_job != 0 || (who->config.drain && !anything_queued(w))))
            continue;
        waits = true;
        if (w->now_us > bound_us && who->kept == 0)
            violated(w, "I4: worker %d has nothing left to do and does not end", (int)who->serial);
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

/* How long the queue may take to drain: one thread does all of it, at the lowest rate. */
static int64_t longest_drain(const world *w)
{
    int64_t each_us = 3 * w->longest_handler_us + SECOND;

    for (size_t i = 0; i < w->entry_count; i++) {
        const engine_entrypoint *entry = &w->entries[i].options;

        if (entry->rated && entry->rate > 0)
            each_us = base_max_i64(each_us, (int64_t)(2e6 / entry->rate));
    }
    return (int64_t)w->jobs_planned * each_us + 120 * (int64_t)SECOND +
           4 * (w->dequeue_us + w->heartbeat_us);
}

static void on_check(world *w)
{
    int64_t rest_us = 3 * w->longest_handler_us + 3 * w->heartbeat_us + 10 * SECOND + GHOST_US;

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
    if (w->enqueues_left > 0 || plot_unfinished(w) || w->now_us < w->enqueue_end_us)
        w->drained_us = CLOCK_NEVER;
    else if (w->drained_us == CLOCK_NEVER)
        w->drained_us = w->now_us;
    if (w->drained_us != CLOCK_NEVER)
        close_fleet(w);
    else if (w->now_us > w->enqueue_end_us + longest_drain(w))
        violated(w, "I4: the queue does not drain");
}

/* ---- playing ---- */

static void play(world *w, const event *e)
{
    bool of_server = e->kind == EVENT_EXECUTE || e->kind == EVENT_LATE || e->kind == EVENT_IDLE ||
                     e->kind == EVENT_GONE;

    if (e->worker != NULL && !of_server) {
        if (!e->worker->alive)
            return;
        if (w->now_us < e->worker->frozen_until_us) {
            event later = *e;

            /* its timers have run out before it reads what is in its sockets */
            later.at_us = e->worker->frozen_until_us + (e->kind == EVENT_TICK ? 0 : 100);
            event_add(w, later);
            return;
        }
    }
    switch (e->kind) {
    case EVENT_TALE:
        plot_tale(w, e->tale);
        break;
    case EVENT_CANCEL:
        plot_cancel(w, e->what);
        break;
    case EVENT_CHECK:
        on_check(w);
        break;
    case EVENT_TICK:
    case EVENT_PICK:
    case EVENT_RUN_END:
    case EVENT_REVOKE:
    case EVENT_FENCE:
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
    w->model.has_front = w->has_front;
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
