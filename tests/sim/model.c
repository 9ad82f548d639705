#include "model.h"
#include "base/clock.h"

enum { FOLDED_AT_ONCE = 10 * 10000 };

bool model_init(model *m, arena *memory, size_t capacity, int64_t heartbeat_timeout_us)
{
    *m = (model){
        .memory = memory,
        .row_capacity = capacity,
        .heartbeat_timeout_us = heartbeat_timeout_us,
        .rows = arena_array(memory, capacity, sizeof(model_row)),
        .order = arena_array(memory, capacity, sizeof(model_row *)),
    };
    return m->rows != NULL && m->order != NULL;
}

int64_t model_stamp(model *m, int64_t now_us)
{
    m->last_stamp_us = base_max_i64(m->last_stamp_us + 1, now_us);
    return m->last_stamp_us;
}

void model_log(model *m, pgq_status status)
{
    m->log[status]++;
    m->unfolded[status]++;
}

bool model_locked(const model_row *row, int64_t now_us)
{
    return row->locked_until_us > now_us || row->leased_by != 0;
}

model_row *model_enqueue(model *m, int64_t now_us, int64_t delay_us, int32_t priority,
                         uint32_t entrypoint)
{
    model_row *row = &m->rows[m->row_count++];

    *row = (model_row){
        .id = (int64_t)m->row_count,
        .present = true,
        .priority = priority,
        .entrypoint = entrypoint,
        .status = PGQ_STATUS_QUEUED,
        .seat = MODEL_NO_SEAT,
        .updated = now_us,
        .heartbeat = now_us,
        .execute_after = now_us + delay_us,
        .queued_us = now_us,
    };
    model_log(m, PGQ_STATUS_QUEUED);
    return row;
}

model_row *model_row_of(model *m, int64_t id)
{
    return id >= 1 && id <= (int64_t)m->row_count ? &m->rows[id - 1] : NULL;
}

static void end_row(model *m, model_row *row, pgq_status status)
{
    row->present = false;
    row->terminal = status;
    row->terminal_count++;
    model_log(m, status);
}

void model_cancel(model *m, model_row *row)
{
    end_row(m, row, PGQ_STATUS_CANCELED);
    m->freed = true;
}

static void queue_row(model *m, model_row *row, int64_t now_us)
{
    row->status = PGQ_STATUS_QUEUED;
    row->manager = 0;
    row->seat = MODEL_NO_SEAT;
    row->updated = model_stamp(m, now_us);
    row->queued_us = now_us;
    row->freed_us = 0;
    model_log(m, PGQ_STATUS_QUEUED);
}

void model_requeue(model *m, model_row *row, int64_t now_us)
{
    row->attempts = 0;
    row->execute_after = now_us;
    queue_row(m, row, now_us);
    m->told = true;
}

void model_hand_over(model *m, model_row *row, int64_t now_us, int64_t manager)
{
    row->manager = manager;
    row->updated = model_stamp(m, now_us);
    row->heartbeat = now_us;
    row->how = HOW_HANDED;
}

bool model_held_by(const model_row *row, int64_t manager, const claim_token *token)
{
    return row != NULL && row->present && row->status == PGQ_STATUS_PICKED &&
           row->manager == manager && (token == NULL || row->updated == token->updated);
}

model_poison model_poisoned(model *m, int64_t now_us, int64_t manager, const sentence *s)
{
    bool settles =
        s->kind == SENTENCE_SETTLE || s->kind == SENTENCE_CONCLUDE || s->kind == SENTENCE_RESOLVE;

    for (size_t i = 0; settles && i < s->of.settle.count; i++) {
        const settle_item *item = &s->of.settle.items[i];
        const model_row *row = model_row_of(m, item->token.id);

        if (item->status == PGQ_STATUS_PICKED)
            continue;
        if (row->poison == POISON_TEXT && item->own_type == NULL && item->text != NULL)
            return POISON_TEXT;
        if (row->poison == POISON_ROW && now_us < row->poisoned_until_us &&
            (s->kind == SENTENCE_CONCLUDE ||
             (s->kind == SENTENCE_SETTLE ? model_held_by(row, manager, &item->token)
                                         : model_resolves(m, manager, item))))
            return POISON_ROW;
    }
    return POISON_NONE;
}

int64_t model_blocked_until(model *m, int64_t now_us, int64_t manager, const sentence *s)
{
    int64_t until_us = 0;
    size_t count = 0;

    if (s->kind == SENTENCE_SETTLE)
        count = s->of.settle.count;
    else if (s->kind == SENTENCE_RELEASE)
        count = s->of.tokens.count;
    for (size_t i = 0; i < count; i++) {
        int64_t id =
            s->kind == SENTENCE_SETTLE ? s->of.settle.items[i].token.id : s->of.tokens.tokens[i].id;

        if (model_held_by(model_row_of(m, id), manager, NULL))
            until_us = base_max_i64(until_us, model_row_of(m, id)->locked_until_us);
    }
    return until_us > now_us ? until_us : 0;
}

void model_settle_one(model *m, int64_t now_us, model_row *row, const settle_item *item)
{
    switch (item->status) {
    case PGQ_STATUS_FAILED:
        row->status = PGQ_STATUS_FAILED;
        row->manager = 0;
        row->seat = MODEL_NO_SEAT;
        row->updated = model_stamp(m, now_us);
        model_log(m, PGQ_STATUS_FAILED);
        break;
    case PGQ_STATUS_QUEUED:
        row->execute_after = now_us + item->delay_ms * 1000;
        row->attempts++;
        queue_row(m, row, now_us);
        m->told = true;
        break;
    default:
        end_row(m, row, item->status);
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

        if (!model_held_by(row, manager, &item->token))
            continue;
        places[reply->place_count++] = (uint32_t)i;
        model_settle_one(m, now_us, row, item);
    }
    reply->places = places;
    m->freed = true; /* the trigger is one of the statement's, whatever it deletes */
}

static void beat(model *m, int64_t now_us, int64_t manager, const sentence *s,
                 sentence_reply *reply)
{
    uint32_t *places = arena_array(m->memory, s->of.tokens.count + 1, sizeof(*places));

    for (size_t i = 0; i < s->of.tokens.count; i++) {
        model_row *row = model_row_of(m, s->of.tokens.tokens[i].id);

        if (!model_held_by(row, manager, &s->of.tokens.tokens[i]))
            places[reply->place_count++] = (uint32_t)i;
        else if (!model_locked(row, now_us))
            row->heartbeat = now_us;
        else
            reply->incomplete = true;
    }
    reply->places = places;
}

static void release(model *m, int64_t now_us, int64_t manager, const sentence *s)
{
    for (size_t i = 0; i < s->of.tokens.count; i++) {
        model_row *row = model_row_of(m, s->of.tokens.tokens[i].id);

        if (model_held_by(row, manager, &s->of.tokens.tokens[i])) {
            queue_row(m, row, now_us);
            m->told = true;
        }
    }
}

static void probe(const model *m, int64_t now_us, const model_caller *caller, const sentence *s,
                  sentence_reply *reply)
{
    reply->next_due_us = reply->next_stale_us = CLOCK_NEVER;
    for (size_t i = 0; i < m->row_count; i++) {
        const model_row *row = &m->rows[i];

        if (row->present && row->status == PGQ_STATUS_QUEUED) {
            reply->queued = true;
            reply->deferred += s->of.probe.count_deferred && row->execute_after > now_us;
            if (row->execute_after <= now_us)
                reply->due = true;
            else
                reply->next_due_us = base_min_i64(reply->next_due_us, row->execute_after - now_us);
        } else if (row->present && row->status == PGQ_STATUS_PICKED) {
            int64_t left_us = row->heartbeat + caller->entries[row->entrypoint].silence_us - now_us;

            reply->next_stale_us = base_min_i64(reply->next_stale_us, base_max_i64(0, left_us));
        }
    }
}

/* What the rows that others have picked show of their limits. */
static void survey(const model *m, const model_caller *caller, sentence_reply *reply)
{
    survey_row *found = arena_array(m->memory, caller->entry_count + 1, sizeof(*found));

    for (size_t i = 0; i < caller->entry_count; i++) {
        int32_t seats = caller->entries[i].limit, highest = MODEL_NO_SEAT;
        bool seatless = false;
        survey_row row = {(uint32_t)i, SURVEY_LIMITED};

        for (size_t k = 0; k < m->row_count; k++) {
            const model_row *other = &m->rows[k];

            if (!other->present || other->status != PGQ_STATUS_PICKED || other->manager == 0 ||
                other->manager == caller->manager || other->entrypoint != i)
                continue;
            highest = other->seat > highest ? other->seat : highest;
            seatless |= other->seat == MODEL_NO_SEAT;
        }
        if (seats == 0 ? highest == MODEL_NO_SEAT : highest < seats && !seatless)
            continue;
        if (seats > 0)
            row.kind = highest >= seats ? SURVEY_HIGHER : SURVEY_UNLIMITED;
        found[reply->survey_count++] = row;
    }
    reply->survey = found;
}

static void aggregate(model *m)
{
    uint64_t left = FOLDED_AT_ONCE;

    for (int status = 0; status < MODEL_STATUSES; status++) {
        uint64_t now = m->unfolded[status] < left ? m->unfolded[status] : left;

        m->statistics[status] += now;
        m->unfolded[status] -= now;
        left -= now;
    }
}

void model_execute(model *m, int64_t now_us, const model_caller *caller, const sentence *s,
                   sentence_reply *ret_reply)
{
    *ret_reply = (sentence_reply){.refused = false};
    switch (s->kind) {
    case SENTENCE_CLAIM:
        model_claim(m, now_us, caller, s, ret_reply);
        break;
    case SENTENCE_ADOPT:
        model_adopt(m, now_us, caller, s, ret_reply);
        break;
    case SENTENCE_SETTLE:
        settle(m, now_us, caller->manager, s, ret_reply);
        break;
    case SENTENCE_BEAT:
        beat(m, now_us, caller->manager, s, ret_reply);
        break;
    case SENTENCE_RELEASE:
        release(m, now_us, caller->manager, s);
        break;
    case SENTENCE_PROBE:
        probe(m, now_us, caller, s, ret_reply);
        break;
    case SENTENCE_SURVEY:
        survey(m, caller, ret_reply);
        break;
    case SENTENCE_AGGREGATE:
        if (!s->of.aggregate.counts)
            aggregate(m);
        break;
    case SENTENCE_LEASE:
        model_lease(m, now_us, caller, s, ret_reply);
        break;
    case SENTENCE_CONCLUDE:
        model_conclude(m, now_us, caller, s, ret_reply);
        break;
    case SENTENCE_COMMIT:
        model_commit(m, now_us, caller, ret_reply);
        break;
    case SENTENCE_RESOLVE:
        model_resolve(m, now_us, caller, s, ret_reply);
        break;
    case SENTENCE_ANNOUNCE:
        *(s->of.announce.done ? &m->freed : &m->told) = true;
        break;
    case SENTENCE_CHECK:
    case SENTENCE_LISTEN:
    case SENTENCE_PING:
    case SENTENCE_END_STUCK:
    case SENTENCE_HORIZON:
        break;
    }
}
