/* What happens in a history at planned times: work comes in, faults fall, jobs are cancelled. */
#include "sim.h"

enum { MS = 1000, SECOND = 1000 * 1000 };

/* One call of a client's cancel: the event first, then the rows, then once again. */
typedef struct cancellation {
    notice event;
    int looks;
    bool forced; /* a client that deletes the row, whatever it is */
} cancellation;

/* ---- the work ---- */

/* Its transaction goes on: later ids are there before it. */
static void insert_only(world *w, model_row *row)
{
    row->present = false;
    row->inserted = true;
    w->uncommitted++;
    plan(w, w->now_us + between(w, MS, 1500 * MS), TALE_COMMIT);
    trace_add(w, "not committed yet", NULL, -1, row->id, 0);
}

/* One of the transactions of enqueuers ends. */
static void commit_some(world *w)
{
    for (size_t i = 0; i < w->model.row_count; i++) {
        model_row *row = &w->model.rows[i];

        if (!row->inserted)
            continue;
        row->inserted = false;
        row->present = true;
        row->queued_us = w->now_us;
        row->late = true;
        w->uncommitted--;
        w->entries[row->entrypoint].changed_us = w->now_us;
        trace_add(w, "committed", NULL, (int)row->entrypoint, row->id, 0);
        break;
    }
    server_notify(w, &(notice){.kind = NOTICE_WORK});
}

static void enqueue_some(world *w)
{
    int64_t count = between(w, 1, 8);

    for (int64_t i = 0; i < count; i++) {
        int64_t delay_us = chance(w, 1500) ? between(w, 1, 2 * SECOND) : 0;
        uint32_t entrypoint = (uint32_t)between(w, 0, (int64_t)w->entry_count - 1);
        model_row *row =
            model_enqueue(&w->model, w->now_us, delay_us, (int32_t)between(w, 0, 2), entrypoint);

        if (chance(w, w->fault_rates[FAULT_POISON_TEXT]))
            row->poison = POISON_TEXT;
        else if (chance(w, w->fault_rates[FAULT_POISON_ROW]))
            row->poison = POISON_ROW;
        if (row->poison == POISON_ROW)
            row->poisoned_until_us = between(w, w->now_us, w->faults_end_us + 40 * SECOND);
        if (chance(w, 500))
            row->payload_bytes = (int32_t)between(w, 1, 600 * 1024);
        w->jobs[row->id - 1].passed_over_us = -1;
        w->jobs[row->id - 1].announced_us = -1;
        w->journal[PGQ_STATUS_QUEUED]++;
        w->entries[entrypoint].changed_us = w->now_us;
        trace_add(w, "enqueued: job, delay", NULL, (int)entrypoint, row->id, delay_us);
        if (w->lease_us > 0 && befalls(w, FAULT_COMMITS_LATE))
            insert_only(w, row);
    }
    w->enqueues_left--;
}

static void enqueue(world *w)
{
    if (befalls(w, FAULT_NOTIFY_EARLY)) {
        server_notify(w, &(notice){.kind = NOTICE_WORK});
        plan(w, w->now_us + between(w, 100, 20 * MS), TALE_ENQUEUE_SILENTLY);
        return;
    }
    enqueue_some(w);
    server_notify(w, &(notice){.kind = NOTICE_WORK});
    if (w->model.row_count + 16 < w->jobs_planned - 8 * w->enqueues_left && chance(w, 5000)) {
        w->enqueues_left++; /* while the workers are about to claim the first ones */
        plan(w, w->now_us + between(w, 50, 600), TALE_ENQUEUE);
    }
}

static model_row *any_row(world *w, pgq_status status)
{
    size_t count = w->model.row_count, first;

    if (count == 0)
        return NULL;
    first = (size_t)between(w, 0, (int64_t)count - 1);
    for (size_t i = 0; i < count; i++) {
        model_row *row = &w->model.rows[(first + i) % count];

        if (row->present && row->status == status)
            return row;
    }
    return NULL;
}

static void requeue(world *w)
{
    model_row *row = any_row(w, PGQ_STATUS_FAILED);

    if (row == NULL)
        return;
    model_requeue(&w->model, row, w->now_us);
    w->journal[PGQ_STATUS_QUEUED]++;
    w->entries[row->entrypoint].changed_us = w->now_us;
    trace_add(w, "requeued", NULL, -1, row->id, 0);
    server_notify_changes(w);
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
        who->lane_away = chance(w, 3000)   ? -1
                         : chance(w, 6000) ? 0
                                           : (int)between(w, 0, who->lane_count - 1);
        cut_lanes(who, who->lane_away);
        return;
    }
    w->away_until_us = until_us;
    for (size_t i = 0; i < w->worker_count; i++) {
        if (w->workers[i]->alive)
            cut_lanes(w->workers[i], -1);
    }
}

/* A worker that has jobs leased, if there is one. */
static worker *leasing_worker(world *w, int *ret_lane)
{
    for (size_t i = 0; i < w->worker_count; i++) {
        worker *who = w->workers[i];

        for (int k = 1; who->alive && w->now_us >= who->frozen_until_us && k < who->lane_count;
             k++) {
            const connection *c = who->lanes[k];

            if (c == NULL || c->known == NULL || c->cut || c->dropped)
                continue;
            *ret_lane = k;
            return who;
        }
    }
    return NULL;
}

void plot_freeze(world *w, worker *who)
{
    bool for_long = w->lease_us > 0 && chance(w, 5000); /* the server ends its leases */

    who->frozen_until_us =
        until_faults_end(w, base_max_i64(3 * w->heartbeat_us, for_long ? 5 * SECOND : 0));
    oracle_listen_frozen(who, who->frozen_until_us);
    oracle_disturb(who, who->frozen_until_us);
    fleet_update_idle(who);
    trace_add(w, "is frozen until", who, -1, who->frozen_until_us, 0);
}

static void lock_row(world *w, model_row *row)
{
    if (row->leased_by != 0)
        return; /* it waits, and is none of those that wait for it */
    w->entries[row->entrypoint].changed_us = w->now_us;
    row->locked_until_us = until_faults_end(w, 2 * w->heartbeat_us);
    trace_add(w, "locked: job, until", NULL, -1, row->id, row->locked_until_us);
}

static void delete_row(world *w, model_row *row)
{
    trace_add(w, "cancelled", NULL, -1, row->id, (int64_t)row->status);
    model_cancel(&w->model, row);
    w->journal[PGQ_STATUS_CANCELED]++;
    w->entries[row->entrypoint].changed_us = w->now_us;
}

/* ---- cancelling ---- */

static void begin_cancel(world *w)
{
    cancellation *cancel = sim_array(w, 1, sizeof(*cancel));

    *cancel = (cancellation){.event = {.kind = NOTICE_CANCEL}};
    for (int64_t left = between(w, 1, NOTICE_IDS_MAX); left > 0; left--) {
        const model_row *row = any_row(w, chance(w, 7000) ? PGQ_STATUS_PICKED : PGQ_STATUS_QUEUED);

        if (row != NULL)
            cancel->event.ids[cancel->event.count++] = row->id;
    }
    if (cancel->event.count == 0)
        return;
    count_fault(w, FAULT_CANCEL_EVENT);
    trace_add(w, "cancels: jobs, first", NULL, -1, (int64_t)cancel->event.count,
              cancel->event.ids[0]);
    server_notify(w, &cancel->event);
    event_add(w, (event){.at_us = w->now_us + between(w, 100, 5 * MS),
                         .kind = EVENT_CANCEL,
                         .what = cancel});
}

/* What a canceller deletes itself; the others are left to their workers. */
static bool deletes(const world *w, const model_row *row)
{
    int64_t silence_us = w->entries[row->entrypoint].options.silence_us;

    return row->present &&
           (row->status != PGQ_STATUS_PICKED || row->heartbeat < w->now_us - silence_us);
}

void plot_cancel(world *w, void *what)
{
    cancellation *cancel = what;
    int64_t locked_until_us = w->now_us;

    for (size_t i = 0; i < cancel->event.count; i++) {
        const model_row *row = model_row_of(&w->model, cancel->event.ids[i]);

        if (deletes(w, row) || cancel->forced)
            locked_until_us = base_max_i64(locked_until_us, row->locked_until_us);
        if (row->present && row->leased_by != 0)
            locked_until_us = base_max_i64(locked_until_us, w->now_us + between(w, MS, 5 * MS));
    }
    if (locked_until_us > w->now_us) {
        event_add(w, (event){.at_us = locked_until_us, .kind = EVENT_CANCEL, .what = cancel});
        return;
    }
    for (size_t i = 0; i < cancel->event.count; i++) {
        model_row *row = model_row_of(&w->model, cancel->event.ids[i]);

        if (!(cancel->forced ? row->present : deletes(w, row)))
            continue;
        count_path(w, cancel->looks > 0 ? PATH_CANCEL_AGAIN : PATH_CANCEL_ROW);
        delete_row(w, row);
    }
    oracle_check_limits(w);
    server_notify_changes(w);
    if (cancel->looks++ == 0 && !cancel->forced)
        event_add(w, (event){.at_us = w->now_us + between(w, 300 * MS, 800 * MS),
                             .kind = EVENT_CANCEL,
                             .what = cancel});
}

/* ---- supervisors ---- */

/* One of the jobs that ran in a worker when it died is to run alone in a new one. */
static void begin_only(world *w)
{
    for (size_t i = 0; i < w->model.row_count; i++) {
        model_row *row = &w->model.rows[i];

        if (!row->present || row->status != PGQ_STATUS_PICKED || row->manager == 0 ||
            w->workers[row->manager - 1]->alive || row->locked_until_us > w->now_us ||
            w->worker_count == SIM_WORKERS_MAX)
            continue;
        fleet_begin(w, false, row->id);
        model_hand_over(&w->model, row, w->now_us, (int64_t)w->worker_count);
        oracle_handed(w->workers[w->worker_count - 1], row);
        return;
    }
}

/* ---- what was planned ---- */

static void drop_listener(worker *who)
{
    connection *c = who->lanes[0];

    if (!who->ready || c == NULL || !c->ready || c->cut || c->dropped)
        return;
    count_fault(who->world, FAULT_DROPPED);
    network_silence(c, TCP_TIMEOUT_US);
}

static void stop(world *w, worker *who, fault f)
{
    if (w->fault_rates[FAULT_CUT_IDLE] > 0 && chance(w, 5000))
        cut_lanes(who, -1); /* before the worker sees it, it is asked to stop */
    if (f == FAULT_STOP)
        fleet_stop(who);
    else
        fleet_hurry(who);
}

static void fault_of_worker(world *w, worker *who, fault f)
{
    if (f == FAULT_DROPPED) {
        drop_listener(who);
        return;
    }
    count_fault(w, f);
    switch (f) {
    case FAULT_CUT_IDLE:
        cut_lanes(who, (int)between(w, 0, who->lane_count - 1));
        break;
    case FAULT_OUTAGE:
        outage(w, who);
        break;
    case FAULT_CRASH:
        fleet_kill(who);
        if (chance(w, 5000))
            plan(w, w->now_us + between(w, MS, w->heartbeat_us / 2), TALE_ONLY);
        break;
    case FAULT_FREEZE:
        plot_freeze(w, who);
        break;
    default:
        stop(w, who, f);
        break;
    }
}

/* Its deletion waits until the row is free, and takes it as it is then. */
static void delete_later(world *w, const model_row *row)
{
    cancellation *cancel = sim_array(w, 1, sizeof(*cancel));

    *cancel = (cancellation){.event = {.ids = {row->id}, .count = 1}, .forced = true};
    event_add(
        w,
        (event){.at_us = w->now_us + between(w, MS, 5 * MS), .kind = EVENT_CANCEL, .what = cancel});
}

static void fault_of_row(world *w, fault f)
{
    model_row *row = any_row(w, chance(w, 6000) ? PGQ_STATUS_PICKED : PGQ_STATUS_QUEUED);

    if (row == NULL)
        return;
    count_fault(w, f);
    if (f == FAULT_LOCK) {
        lock_row(w, row);
        return;
    }
    if (row->leased_by != 0) {
        delete_later(w, row);
        return;
    }
    delete_row(w, row);
    server_notify_changes(w);
}

/* A fault that is worth more where jobs are leased. */
static worker *victim(world *w, fault f)
{
    int lane;
    worker *who = f == FAULT_FREEZE && chance(w, 7000) ? leasing_worker(w, &lane) : NULL;

    if (who == NULL)
        return any_worker(w);
    count_fault(w, FAULT_FREEZE_LEASED);
    return who;
}

static void silence_leased(world *w)
{
    int lane;
    worker *who = leasing_worker(w, &lane);

    if (who == NULL)
        return;
    count_fault(w, FAULT_SILENT);
    network_silence(who->lanes[lane], between(w, SECOND / 2, 8 * SECOND));
    oracle_disturb(who, w->now_us);
}

static void planned_fault(world *w, fault f)
{
    worker *who = victim(w, f);

    if (f == FAULT_PERMISSION) { /* these count when they refuse */
        w->denied_until_us = until_faults_end(w, 3 * SECOND);
        w->denied_claims = chance(w, 3000);
    } else if (f == FAULT_BROKEN_LOG) {
        w->broken_until_us = until_faults_end(w, 10 * SECOND);
    } else if (f == FAULT_LOCK || f == FAULT_CANCEL) {
        fault_of_row(w, f);
    } else if (f == FAULT_CANCEL_EVENT) {
        begin_cancel(w);
    } else if (f == FAULT_SILENT) {
        silence_leased(w);
    } else if (who != NULL) {
        fault_of_worker(w, who, f);
    }
}

void plot_tale(world *w, int what)
{
    switch (what) {
    case TALE_ENQUEUE:
        enqueue(w);
        break;
    case TALE_ENQUEUE_SILENTLY:
        enqueue_some(w);
        break;
    case TALE_COMMIT:
        commit_some(w);
        break;
    case TALE_BEGIN:
        fleet_begin(w, true, 0);
        break;
    case TALE_REQUEUE:
        requeue(w);
        break;
    case TALE_ONLY:
        begin_only(w);
        break;
    default:
        planned_fault(w, (fault)(what - TALE_FAULT));
        break;
    }
}

bool plot_unfinished(const world *w)
{
    if (w->uncommitted > 0)
        return true;
    for (size_t i = 0; i < w->model.row_count; i++) {
        const model_row *row = &w->model.rows[i];

        if (row->present && row->status != PGQ_STATUS_FAILED &&
            !(row->status == PGQ_STATUS_QUEUED && w->entries[row->entrypoint].never))
            return true;
    }
    return false;
}
