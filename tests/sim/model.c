#include "model.h"
#include "base/clock.h"

#include <stdlib.h>

bool model_init(model *m, arena *memory, size_t capacity, int64_t heartbeat_timeout_us)
{
    *m = (model){
        .memory = memory,
        .row_capacity = capacity,
        .heartbeat_timeout_us = heartbeat_timeout_us,
        .rows = arena_array(memory, capacity, sizeof(model_row)),
    };
    return m->rows != NULL;
}

static int64_t stamp(model *m, int64_t now_us)
{
    m->last_stamp_us = base_max_i64(m->last_stamp_us + 1, now_us);
    return m->last_stamp_us;
}

model_row *model_enqueue(model *m, int64_t now_us, int64_t delay_us, int32_t priority)
{
    model_row *row = &m->rows[m->row_count++];

    *row = (model_row){
        .id = (int64_t)m->row_count,
        .present = true,
        .priority = priority,
        .status = PGQ_STATUS_QUEUED,
        .updated = now_us,
        .heartbeat = now_us,
        .execute_after = now_us + delay_us,
        .queued_us = now_us,
    };
    return row;
}

model_row *model_row_of(model *m, int64_t id)
{
    return id >= 1 && id <= (int64_t)m->row_count ? &m->rows[id - 1] : NULL;
}

static void end_row(model_row *row, pgq_status status)
{
    row->present = false;
    row->terminal = status;
    row->terminal_count++;
}

void model_cancel(model *m, model_row *row)
{
    (void)m;
    end_row(row, PGQ_STATUS_CANCELED);
}

static void queue_row(model *m, model_row *row, int64_t now_us)
{
    row->status = PGQ_STATUS_QUEUED;
    row->manager = 0;
    row->updated = stamp(m, now_us);
    row->queued_us = now_us;
}

void model_requeue(model *m, model_row *row, int64_t now_us)
{
    row->attempts = 0;
    row->execute_after = now_us;
    queue_row(m, row, now_us);
    m->told = true;
}

static bool locked(const model_row *row, int64_t now_us)
{
    return row->locked_until_us > now_us;
}

static bool held_by(const model_row *row, int64_t manager, const claim_token *token)
{
    return row != NULL && row->present && row->status == PGQ_STATUS_PICKED &&
           row->manager == manager && (token == NULL || row->updated == token->updated);
}

model_poison model_poisoned(model *m, int64_t now_us, const sentence *s)
{
    for (size_t i = 0; s->kind == SENTENCE_SETTLE && i < s->of.settle.count; i++) {
        const settle_item *item = &s->of.settle.items[i];
        const model_row *row = model_row_of(m, item->token.id);

        if (row->poison == POISON_TEXT && item->refused_text == NULL)
            return POISON_TEXT;
        if (row->poison == POISON_ROW && now_us < row->poisoned_until_us)
            return POISON_ROW;
    }
    return POISON_NONE;
}

int64_t model_blocked_until(model *m, int64_t now_us, int64_t manager, const sentence *s)
{
    bool all = s->kind == SENTENCE_RELEASE && s->of.tokens.tokens == NULL;
    int64_t until_us = 0;
    size_t count = 0;

    if (s->kind == SENTENCE_SETTLE)
        count = s->of.settle.count;
    else if (s->kind == SENTENCE_RELEASE)
        count = all ? m->row_count : s->of.tokens.count;
    for (size_t i = 0; i < count; i++) {
        int64_t id = (int64_t)i + 1;

        if (!all)
            id = s->kind == SENTENCE_SETTLE ? s->of.settle.items[i].token.id
                                            : s->of.tokens.tokens[i].id;
        if (held_by(model_row_of(m, id), manager, NULL))
            until_us = base_max_i64(until_us, model_row_of(m, id)->locked_until_us);
    }
    return until_us > now_us ? until_us : 0;
}

static bool is_known(const sentence *s, int64_t id)
{
    for (size_t i = 0; i < s->of.claim.known_count; i++) {
        if (s->of.claim.known[i] == id)
            return true;
    }
    return false;
}

/* Whether claim_row.sql would choose the row, and in which of its three ways. */
static bool claimable(const model *m, int64_t now_us, int64_t manager, const sentence *s,
                      const model_row *row, model_how *ret_how)
{
    if (!row->present || locked(row, now_us))
        return false;
    if (row->status == PGQ_STATUS_QUEUED && row->execute_after <= now_us) {
        *ret_how = HOW_FRESH;
        return true;
    }
    /* `<> ALL (NULL)` is not true: without known ids there is neither a stale nor an adopted one */
    if (row->status != PGQ_STATUS_PICKED || s->of.claim.known == NULL || is_known(s, row->id))
        return false;
    if (row->heartbeat < now_us - m->heartbeat_timeout_us) {
        *ret_how = HOW_STALE;
        return true;
    }
    *ret_how = HOW_ADOPTED;
    return s->of.claim.adopt && row->manager == manager;
}

static int compare_rows(const void *a, const void *b)
{
    const model_row *left = *(model_row *const *)a, *right = *(model_row *const *)b;

    if (left->priority != right->priority)
        return left->priority > right->priority ? -1 : 1;
    return left->id < right->id ? -1 : left->id > right->id;
}

static void claim(model *m, int64_t now_us, int64_t manager, const sentence *s,
                  sentence_reply *reply)
{
    model_row **chosen = arena_array(m->memory, m->row_count + 1, sizeof(*chosen));
    size_t count = 0, wanted = (size_t)s->of.claim.batch;
    claimed_row *rows;

    for (size_t i = 0; i < m->row_count; i++) {
        model_how how;

        if (claimable(m, now_us, manager, s, &m->rows[i], &how)) {
            m->rows[i].how = how;
            chosen[count++] = &m->rows[i];
        }
    }
    qsort(chosen, count, sizeof(chosen[0]), compare_rows);
    if (count > wanted)
        count = wanted;
    rows = arena_array(m->memory, count + 1, sizeof(*rows));
    for (size_t i = 0; i < count; i++) {
        model_row *row = chosen[i];

        row->heartbeat_before = row->heartbeat;
        row->status = PGQ_STATUS_PICKED;
        row->manager = manager;
        row->updated = stamp(m, now_us);
        row->heartbeat = now_us;
        rows[i] = (claimed_row){
            .token = {row->id, row->updated},
            .priority = row->priority,
            .attempts = row->attempts,
            .entrypoint = row->entrypoint,
        };
    }
    reply->rows = rows;
    reply->row_count = count;
}

static void settle_one(model *m, int64_t now_us, model_row *row, const settle_item *item)
{
    switch (item->status) {
    case PGQ_STATUS_FAILED:
        row->status = PGQ_STATUS_FAILED;
        row->manager = 0;
        row->updated = stamp(m, now_us);
        break;
    case PGQ_STATUS_QUEUED:
        row->execute_after = now_us + item->delay_ms * 1000;
        row->attempts++;
        queue_row(m, row, now_us);
        break;
    default:
        end_row(row, item->status);
        break;
    }
}

static void settle(model *m, int64_t now_us, int64_t manager, const sentence *s,
                   sentence_reply *reply)
{
    uint32_t *places = arena_array(m->memory, s->of.settle.count + 1, sizeof(*places));

    for (size_t i = 0; i < s->of.settle.count; i++) {
        const settle_item *item = &s->of.settle.items[i];
        model_row *row = model_row_of(m, item->token.id);

        if (!held_by(row, manager, &item->token))
            continue;
        places[reply->place_count++] = (uint32_t)i;
        settle_one(m, now_us, row, item);
    }
    reply->places = places;
}

static void beat(model *m, int64_t now_us, int64_t manager, const sentence *s,
                 sentence_reply *reply)
{
    uint32_t *places = arena_array(m->memory, s->of.tokens.count + 1, sizeof(*places));

    for (size_t i = 0; i < s->of.tokens.count; i++) {
        model_row *row = model_row_of(m, s->of.tokens.tokens[i].id);

        if (!held_by(row, manager, &s->of.tokens.tokens[i]))
            places[reply->place_count++] = (uint32_t)i;
        else if (!locked(row, now_us))
            row->heartbeat = now_us;
    }
    reply->places = places;
}

static void release(model *m, int64_t now_us, int64_t manager, const sentence *s)
{
    if (s->of.tokens.tokens == NULL) {
        for (size_t i = 0; i < m->row_count; i++) {
            if (held_by(&m->rows[i], manager, NULL)) {
                queue_row(m, &m->rows[i], now_us);
                m->told = true;
            }
        }
        return;
    }
    for (size_t i = 0; i < s->of.tokens.count; i++) {
        model_row *row = model_row_of(m, s->of.tokens.tokens[i].id);

        if (held_by(row, manager, &s->of.tokens.tokens[i])) {
            queue_row(m, row, now_us);
            m->told = true;
        }
    }
}

static void probe(const model *m, int64_t now_us, sentence_reply *reply)
{
    reply->next_due_us = reply->next_stale_us = CLOCK_NEVER;
    for (size_t i = 0; i < m->row_count; i++) {
        const model_row *row = &m->rows[i];

        if (row->present && row->status == PGQ_STATUS_QUEUED) {
            reply->queued = true;
            if (row->execute_after <= now_us)
                reply->due = true;
            else
                reply->next_due_us = base_min_i64(reply->next_due_us, row->execute_after - now_us);
        } else if (row->present && row->status == PGQ_STATUS_PICKED) {
            int64_t left_us = row->heartbeat + m->heartbeat_timeout_us - now_us;

            reply->next_stale_us = base_min_i64(reply->next_stale_us, base_max_i64(0, left_us));
        }
    }
}

void model_execute(model *m, int64_t now_us, int64_t manager, const sentence *s,
                   sentence_reply *ret_reply)
{
    *ret_reply = (sentence_reply){.refused = false};
    switch (s->kind) {
    case SENTENCE_CLAIM:
        claim(m, now_us, manager, s, ret_reply);
        break;
    case SENTENCE_SETTLE:
        settle(m, now_us, manager, s, ret_reply);
        break;
    case SENTENCE_BEAT:
        beat(m, now_us, manager, s, ret_reply);
        break;
    case SENTENCE_RELEASE:
        release(m, now_us, manager, s);
        break;
    case SENTENCE_PROBE:
        probe(m, now_us, ret_reply);
        break;
    case SENTENCE_CHECK:
    case SENTENCE_LISTEN:
        break;
    }
}

bool model_any_queued(const model *m)
{
    for (size_t i = 0; i < m->row_count; i++) {
        if (m->rows[i].present && m->rows[i].status == PGQ_STATUS_QUEUED)
            return true;
    }
    return false;
}

bool model_unfinished(const model *m)
{
    for (size_t i = 0; i < m->row_count; i++) {
        if (m->rows[i].present && m->rows[i].status != PGQ_STATUS_FAILED)
            return true;
    }
    return false;
}
