/* The model's transactions: claim_lease.sql, settle_lease.sql, COMMIT and resolve.sql. */
#include "model.h"
#include "base/clock.h"

/* ---- the end of a transaction ---- */

static void unlock(model *m, model_tx *tx, int64_t now_us)
{
    for (size_t i = 0; i < tx->locked_count; i++) {
        model_row *row = model_row_of(m, tx->locked[i]);

        row->leased_by = 0;
        if (row->present && row->status == PGQ_STATUS_QUEUED && row->queued_us < now_us)
            row->freed_us = now_us;
    }
    tx->state = TX_NONE;
    tx->locked_count = tx->staged_count = 0;
    tx->untold = false;
}

void model_rollback(model *m, model_tx *tx, int64_t now_us)
{
    unlock(m, tx, now_us);
}

static void pick(model_row *row, int64_t now_us, int64_t manager, int64_t stamp)
{
    row->status = PGQ_STATUS_PICKED;
    row->manager = manager;
    row->seat = MODEL_NO_SEAT;
    row->updated = stamp;
    row->heartbeat = now_us;
    row->how = HOW_LEASED;
}

static void write_item(model *m, int64_t now_us, int64_t manager, const model_staged *staged)
{
    model_row *row = model_row_of(m, staged->item.token.id);

    if (row->status == PGQ_STATUS_QUEUED)
        model_log(m, PGQ_STATUS_PICKED);
    if (staged->item.status == PGQ_STATUS_PICKED) {
        pick(row, staged->at_us, manager, staged->stamp);
        return;
    }
    model_settle_one(m, now_us, row, &staged->item);
    if (staged->item.status == PGQ_STATUS_QUEUED)
        row->execute_after = staged->at_us + staged->item.delay_ms * 1000;
}

void model_commit(model *m, int64_t now_us, const model_caller *caller, sentence_reply *reply)
{
    model_tx *tx = caller->tx;

    if (tx->state != TX_OPEN) { /* it answers ROLLBACK, or has nothing to do */
        reply->refused = true;
        reply->class = SQLSTATE_TRANSIENT;
        model_rollback(m, tx, now_us);
        return;
    }
    for (size_t i = 0; i < tx->staged_count; i++)
        write_item(m, now_us, caller->manager, &tx->staged[i]);
    m->freed |= tx->staged_count > 0 && !tx->untold;
    unlock(m, tx, now_us);
}

/* ---- in a transaction ---- */

/* Where the lease begins at the cursor that it shares with other workers; what it will have looked
 * at when it comes back full is theirs no more. */
static int64_t take_front(model *m, const sentence *s)
{
    const claim_cursor *cursor = &s->of.lease.cursors[s->of.lease.front_at];
    uint32_t entrypoint = s->of.lease.shares[cursor->share].entrypoint;
    int64_t behind = cursor->id;

    if (!s->of.lease.front_back && m->front.told && m->front.entrypoint == entrypoint &&
        m->front.priority == cursor->priority)
        behind = base_max_i64(behind, m->front.id);
    m->front.told = true;
    m->front.ahead |= behind > cursor->id;
    m->front.entrypoint = entrypoint;
    m->front.priority = cursor->priority;
    m->front.id = behind + s->of.lease.batch;
    return behind;
}

/* A lease tells how far it has come, here always and in the database often. */
static void tell_front(model *m, const sentence *s, const sentence_reply *reply)
{
    const claim_cursor *cursor = &s->of.lease.cursors[s->of.lease.front_at];
    const claimed_row *last = &reply->rows[reply->row_count - 1];

    if (last->priority == cursor->priority)
        m->front.id = base_max_i64(m->front.id, last->token.id);
}

/* Whether a lease's cursors leave the row out: of an entrypoint that has any, only what is behind
 * them, or of a higher priority than all of them; behind a shared one, what is behind `front`. */
static bool passed(const sentence *s, const model_row *row, int64_t front)
{
    bool any = false, above = true, higher = false;

    for (size_t i = 0; i < s->of.lease.cursor_count; i++) {
        const claim_cursor *cursor = &s->of.lease.cursors[i];

        if (s->of.lease.shares[cursor->share].entrypoint != row->entrypoint)
            continue;
        any = true;
        above = above && row->priority > cursor->priority;
        higher = higher || row->priority > cursor->priority;
        if (s->of.lease.late && row->priority == cursor->priority)
            return row->id > cursor->id;
        if (row->priority == cursor->priority &&
            row->id > (front > 0 && i == s->of.lease.front_at ? front : cursor->id))
            return false;
    }
    return any && !(s->of.lease.late ? higher : above);
}

void model_lease(model *m, int64_t now_us, const model_caller *caller, const sentence *s,
                 sentence_reply *reply)
{
    bool wanted[MODEL_ENTRIES_MAX] = {false};
    size_t count = model_sort(m), most = (size_t)s->of.lease.batch;
    claimed_row *rows = arena_array(m->memory, most + 1, sizeof(*rows));
    model_tx *tx = caller->tx;
    bool shared = m->has_front && s->of.lease.front;
    int64_t front = shared ? take_front(m, s) : 0;

    for (size_t i = 0; i < s->of.lease.share_count; i++)
        wanted[s->of.lease.shares[i].entrypoint] = true;
    tx->state = TX_OPEN;
    tx->hold_us = s->of.lease.hold_us;
    tx->locked = arena_array(m->memory, most + 1, sizeof(*tx->locked));
    for (size_t i = 0; i < count && reply->row_count < most; i++) {
        model_row *row = m->order[i];

        if (row->status != PGQ_STATUS_QUEUED || row->execute_after > now_us ||
            !wanted[row->entrypoint] || model_locked(row, now_us) || passed(s, row, front) ||
            model_contains(s->of.lease.except, s->of.lease.except_count, row->id))
            continue;
        row->leased_by = tx->backend;
        tx->locked[tx->locked_count++] = row->id;
        rows[reply->row_count++] = (claimed_row){
            .token = {row->id, row->updated},
            .priority = row->priority,
            .attempts = row->attempts,
            .entrypoint = row->entrypoint,
            .place = (row_place)row->id,
            .picked_us = model_stamp(m, now_us),
            .large = row->payload_bytes > s->of.lease.payload_max,
        };
        if (row->payload_bytes <= s->of.lease.payload_max)
            reply->payload_bytes += row->payload_bytes;
    }
    reply->rows = rows;
    if (shared && reply->row_count > 0)
        tell_front(m, s, reply);
}

bool model_trespasses(model *m, const model_tx *tx, const sentence *s)
{
    for (size_t i = 0; i < s->of.settle.count; i++) {
        const model_row *row = model_row_of(m, s->of.settle.items[i].token.id);

        if (row == NULL || row->leased_by != tx->backend ||
            row->updated != s->of.settle.items[i].token.updated)
            return true;
    }
    return false;
}

void model_conclude(model *m, int64_t now_us, const model_caller *caller, const sentence *s,
                    sentence_reply *reply)
{
    size_t count = s->of.settle.count;
    uint32_t *places = arena_array(m->memory, count + 1, sizeof(*places));
    int64_t *stamps = arena_array(m->memory, count + 1, sizeof(*stamps));
    model_tx *tx = caller->tx;

    tx->staged = arena_array(m->memory, count + 1, sizeof(*tx->staged));
    tx->untold = s->of.settle.event_later;
    for (size_t i = 0; i < count; i++) {
        model_staged *staged = &tx->staged[tx->staged_count++];

        *staged = (model_staged){s->of.settle.items[i], now_us, model_stamp(m, now_us)};
        if (staged->item.status != PGQ_STATUS_PICKED)
            continue;
        stamps[reply->place_count] = staged->stamp;
        places[reply->place_count++] = (uint32_t)i;
    }
    for (size_t i = 0; i < count; i++)
        tx->untold &= tx->staged[i].item.status == PGQ_STATUS_SUCCESSFUL;
    reply->places = places;
    reply->stamps = stamps;
}

/* ---- after a lease that was lost ---- */

bool model_resolve_waits(model *m, int64_t now_us, const sentence *s)
{
    for (size_t i = 0; i < s->of.settle.count; i++) {
        const model_row *row = model_row_of(m, s->of.settle.items[i].token.id);

        if (row->present && model_locked(row, now_us))
            return true;
    }
    return false;
}

bool model_resolves(model *m, int64_t manager, const settle_item *item)
{
    const model_row *row = model_row_of(m, item->token.id);

    if (!row->present || row->attempts != item->attempts)
        return false;
    return (row->status == PGQ_STATUS_QUEUED && row->updated == item->token.updated) ||
           (item->uncertain && model_held_by(row, manager, NULL));
}

void model_resolve(model *m, int64_t now_us, const model_caller *caller, const sentence *s,
                   sentence_reply *reply)
{
    size_t count = s->of.settle.count;
    uint32_t *places = arena_array(m->memory, count + 1, sizeof(*places));
    int64_t *stamps = arena_array(m->memory, count + 1, sizeof(*stamps));

    for (size_t i = 0; i < count; i++) {
        model_staged staged = {s->of.settle.items[i], now_us, 0};
        const model_row *row;

        if (!model_resolves(m, caller->manager, &staged.item))
            continue;
        row = model_row_of(m, staged.item.token.id);
        if (staged.item.status == PGQ_STATUS_PICKED)
            staged.stamp = row->status == PGQ_STATUS_QUEUED ? model_stamp(m, now_us) : row->updated;
        write_item(m, now_us, caller->manager, &staged);
        stamps[reply->place_count] = staged.stamp;
        places[reply->place_count++] = (uint32_t)i;
    }
    reply->places = places;
    reply->stamps = stamps;
    m->freed = true;
}
