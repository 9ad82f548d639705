/* How the model claims and adopts: claim_row.sql, claim_gated.sql and adopt_row.sql. */
#include "model.h"
#include "base/clock.h"

#include <stdlib.h>

/* Of an entrypoint, within one claim. */
typedef struct gate {
    bool wanted;
    size_t seats; /* 0: no limit */
    size_t held, room;
    size_t looked_at; /* of the rows in order, locked ones of a limited one included */
    size_t next_seat;
    int64_t silence_us;
} gate;

int model_compare(const void *a, const void *b)
{
    const model_row *left = *(model_row *const *)a, *right = *(model_row *const *)b;

    if (left->priority != right->priority)
        return left->priority > right->priority ? -1 : 1;
    return left->id < right->id ? -1 : left->id > right->id;
}

size_t model_picked(const model *m, uint32_t entrypoint)
{
    size_t count = 0;

    for (size_t i = 0; i < m->row_count; i++) {
        const model_row *row = &m->rows[i];

        count += row->present && row->manager != 0 && row->entrypoint == entrypoint;
    }
    return count;
}

bool model_contains(const int64_t *ids, size_t count, int64_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (ids[i] == id)
            return true;
    }
    return false;
}

static void open_gates(const model *m, const model_caller *caller, const sentence *s, gate *gates)
{
    if (s->of.claim.shares == NULL) {
        for (size_t i = 0; i < caller->entry_count; i++)
            gates[i] = (gate){.wanted = true,
                              .room = (size_t)s->of.claim.batch,
                              .silence_us = m->heartbeat_timeout_us};
        return;
    }
    for (size_t i = 0; i < s->of.claim.share_count; i++) {
        const claim_share *share = &s->of.claim.shares[i];
        gate *g = &gates[share->entrypoint];

        *g = (gate){.wanted = true,
                    .seats = (size_t)caller->entries[share->entrypoint].limit,
                    .room = (size_t)share->most,
                    .silence_us = caller->entries[share->entrypoint].silence_us};
        if (g->seats == 0)
            continue;
        g->held = model_picked(m, share->entrypoint);
        g->room = g->held >= g->seats            ? 0
                  : g->seats - g->held < g->room ? g->seats - g->held
                                                 : g->room;
    }
}

/* Whether a due row is one of those that its gate lets through; called in the rows' order. */
static bool passes(model *m, gate *g, const model_row *row, int64_t now_us)
{
    bool free = !model_locked(row, now_us);

    if (g->looked_at >= g->room) {
        m->seats_were_short |= g->seats > 0 && g->held + g->room >= g->seats;
        return false;
    }
    if (g->seats == 0 && !free)
        return false; /* the next one takes its place */
    g->looked_at++;
    return free;
}

static bool stale(const gate *g, const model_row *row, const sentence *s, int64_t now_us)
{
    /* `<> ALL (NULL)` is not true: without known ids there is no stale one */
    return row->status == PGQ_STATUS_PICKED && s->of.claim.known != NULL &&
           row->heartbeat < now_us - g->silence_us && !model_locked(row, now_us) &&
           !model_contains(s->of.claim.known, s->of.claim.known_count, row->id);
}

/* The lowest seat of the entrypoint that is free; MODEL_NO_SEAT: all are taken. */
static int32_t take_seat(const model *m, gate *g, uint32_t entrypoint)
{
    for (; g->next_seat < g->held + g->room; g->next_seat++) {
        bool taken = false;

        for (size_t i = 0; i < m->row_count && !taken; i++) {
            const model_row *row = &m->rows[i];

            taken = row->present && row->entrypoint == entrypoint &&
                    row->status == PGQ_STATUS_PICKED && row->seat == (int32_t)g->next_seat;
        }
        if (!taken)
            return (int32_t)g->next_seat++;
    }
    return MODEL_NO_SEAT;
}

static void take(model *m, int64_t now_us, int64_t manager, model_row *row, claimed_row *ret_row)
{
    row->heartbeat_before = row->heartbeat;
    row->status = PGQ_STATUS_PICKED;
    row->manager = manager;
    row->updated = model_stamp(m, now_us);
    row->heartbeat = now_us;
    model_log(m, PGQ_STATUS_PICKED);
    *ret_row = (claimed_row){
        .token = {row->id, row->updated},
        .priority = row->priority,
        .attempts = row->attempts,
        .entrypoint = row->entrypoint,
    };
}

size_t model_sort(model *m)
{
    size_t count = 0;

    for (size_t i = 0; i < m->row_count; i++) {
        if (m->rows[i].present && m->rows[i].status != PGQ_STATUS_FAILED)
            m->order[count++] = &m->rows[i];
    }
    qsort(m->order, count, sizeof(m->order[0]), model_compare);
    return count;
}

void model_claim(model *m, int64_t now_us, const model_caller *caller, const sentence *s,
                 sentence_reply *reply)
{
    gate gates[MODEL_ENTRIES_MAX] = {{.wanted = false}};
    size_t count = model_sort(m), wanted = (size_t)s->of.claim.batch, chosen = 0, came = 0;
    claimed_row *rows = arena_array(m->memory, wanted + 1, sizeof(*rows));
    int32_t *seats = arena_array(m->memory, count + 1, sizeof(*seats));

    m->seats_were_short = false;
    open_gates(m, caller, s, gates);
    for (size_t i = 0; i < count; i++) {
        model_row *row = m->order[i];
        gate *g = &gates[row->entrypoint];
        bool due = row->status == PGQ_STATUS_QUEUED && row->execute_after <= now_us;

        if (s->of.claim.ids != NULL &&
            !model_contains(s->of.claim.ids, s->of.claim.id_count, row->id))
            continue;
        if (!g->wanted || !(due ? passes(m, g, row, now_us) : stale(g, row, s, now_us)) ||
            chosen == wanted)
            continue;
        row->how = due ? HOW_FRESH : HOW_STALE;
        m->order[chosen++] = row;
    }
    for (size_t i = 0; i < chosen; i++) {
        const model_row *row = m->order[i];
        gate *g = &gates[row->entrypoint];

        seats[i] = row->how == HOW_STALE ? row->seat
                   : g->seats > 0        ? take_seat(m, g, row->entrypoint)
                                         : MODEL_NO_SEAT;
    }
    for (size_t i = 0; i < chosen; i++) {
        model_row *row = m->order[i];

        if (row->how == HOW_FRESH && gates[row->entrypoint].seats > 0 && seats[i] < 0)
            continue;
        take(m, now_us, caller->manager, row, &rows[came++]);
        row->seat = seats[i];
    }
    reply->rows = rows;
    reply->row_count = came;
}

void model_adopt(model *m, int64_t now_us, const model_caller *caller, const sentence *s,
                 sentence_reply *reply)
{
    size_t count = model_sort(m), wanted = (size_t)s->of.adopt.batch;
    claimed_row *rows = arena_array(m->memory, wanted + 1, sizeof(*rows));

    for (size_t i = 0; i < count && reply->row_count < wanted; i++) {
        model_row *row = m->order[i];

        if (row->status != PGQ_STATUS_PICKED || row->manager != caller->manager ||
            model_contains(s->of.adopt.known, s->of.adopt.known_count, row->id) ||
            (s->of.adopt.only != 0 && row->id != s->of.adopt.only) || model_locked(row, now_us))
            continue;
        row->how = HOW_ADOPTED;
        take(m, now_us, caller->manager, row, &rows[reply->row_count++]);
    }
    reply->rows = rows;
}
