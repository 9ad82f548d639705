/* What must hold of limits, seats, rates and the order of starts, checked against the rows after
 * every statement. */
#include "sim.h"

#include <stdlib.h>

enum { SEATS_MAX = 64 };

/* ---- I5 ---- */

/* Rows that a worker has picked, the unknown ones included, but not those that it could neither
 * know of nor expect. */
static bool counts_as_held(world *w, const model_row *row)
{
    const claim_record *claim = w->jobs[row->id - 1].claims;

    for (const claim_record *c = claim->older; c != NULL; c = c->older) {
        if (c->owner == claim->owner && (c->hopeless || row->locked_until_us >= c->token.updated))
            return false; /* it was lost to a ghost or behind a lock, and is found again */
    }
    return !oracle_left_behind(w, claim) && !(claim->body != NULL && claim->body->told_lost);
}

/* A row that is locked in a lease, as its worker knows. */
static void count_leased(world *w, const model_row *row, size_t *held)
{
    const claim_record *claim = w->jobs[row->id - 1].claims;

    if (claim == NULL || claim->lease == NULL || claim->lease->state != LEASE_OPEN ||
        row->leased_by == 0 || claim->large ||
        (claim->body == NULL ? !claim->reply_pending : claim->body->forgotten) ||
        claim->lease->connection->cut || network_silent(claim->lease->connection))
        return;
    held[claim->owner->serial - 1]++;
}

static void check_held(world *w, const size_t *held)
{
    for (size_t i = 0; i < w->worker_count; i++) {
        const worker *who = w->workers[i];
        size_t most = (size_t)who->config.held_max;

        if (!who->alive || most == 0)
            continue;
        if (held[i] == most)
            count_path(w, PATH_HELD_FULL);
        if (held[i] > most)
            violated(w, "I5: worker %d holds %zu jobs and may hold %zu", (int)who->serial, held[i],
                     most);
    }
}

static void check_seat(world *w, const model_row *row, bool *taken)
{
    if (row->status != PGQ_STATUS_PICKED) {
        if (row->seat != MODEL_NO_SEAT)
            violated(w, "I5: job %lld keeps a seat and is not picked", (long long)row->id);
        return;
    }
    if (row->seat == MODEL_NO_SEAT)
        return;
    if (row->seat < 0 || row->seat >= SEATS_MAX || taken[row->seat])
        violated(w, "I5: seat %d of entrypoint %u is taken twice", (int)row->seat, row->entrypoint);
    else
        taken[row->seat] = true;
}

void oracle_check_limits(world *w)
{
    static size_t held[SIM_WORKERS_MAX]; /* cleared for those that there are */
    size_t picked[MODEL_ENTRIES_MAX] = {0};
    bool seats[MODEL_ENTRIES_MAX][SEATS_MAX] = {{false}};

    memset(held, 0, w->worker_count * sizeof(held[0]));
    for (size_t i = 0; i < w->model.row_count && !w->failed; i++) {
        const model_row *row = &w->model.rows[i];

        if (!row->present)
            continue;
        check_seat(w, row, seats[row->entrypoint]);
        if (row->status != PGQ_STATUS_PICKED) {
            count_leased(w, row, held);
            continue;
        }
        picked[row->entrypoint]++;
        held[row->manager - 1] += counts_as_held(w, row);
    }
    for (size_t i = 0; i < w->entry_count && w->same_limits; i++) {
        int32_t limit = w->entries[i].options.limit;

        if (limit > 0 && picked[i] > (size_t)limit)
            violated(w, "I5: %zu jobs of entrypoint %zu are picked, its limit is %d", picked[i], i,
                     (int)limit);
    }
    check_held(w, held);
}

/* ---- order ---- */

/* Of a limited entrypoint no due row may be passed over for a later one, but those that somebody
 * has locked. */
static void check_order(connection *c, const model_row *taken)
{
    world *w = c->owner->world;

    for (size_t i = 0; i < w->model.row_count; i++) {
        const model_row *row = &w->model.rows[i];

        if (row->present && row->status == PGQ_STATUS_QUEUED && row->execute_after <= w->now_us &&
            row->entrypoint == taken->entrypoint && !model_locked(row, w->now_us) &&
            model_compare(&row, &taken) < 0)
            violated(w, "I5: worker %d claims job %lld before job %lld", (int)c->owner->serial,
                     (long long)taken->id, (long long)row->id);
    }
}

void oracle_check_claim(connection *c, const sentence *s, const sentence_reply *r)
{
    const worker *who = c->owner;
    world *w = who->world;

    if (w->model.seats_were_short)
        count_path(w, PATH_FULL);
    for (size_t i = 0; i < r->row_count; i++) {
        const model_row *row = model_row_of(&w->model, r->rows[i].token.id);
        const engine_entrypoint *entry = &who->entries[row->entrypoint];

        if (entry->limit > 0 && row->how == HOW_FRESH)
            check_order(c, row);
        if (entry->limit > 0 && s->of.claim.shares == NULL)
            violated(w,
                     "I5: worker %d claims a job of a limited entrypoint without asking for "
                     "a seat",
                     (int)who->serial);
    }
}

/* ---- rates ---- */

static int by_time(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

    return left < right ? -1 : left > right;
}

/* A bucket that holds the burst and one more never runs dry: then no window of t seconds has had
 * more than rate x t + burst + 1 starts. */
static void check_rate(const worker *who, uint32_t entrypoint, const int64_t *times, size_t count)
{
    const engine_entrypoint *entry = &who->entries[entrypoint];
    double burst = entry->rate / 10 > 1 ? entry->rate / 10 : 1, level = burst + 1;

    if (count > 0 && entry->rate <= 0)
        violated(who->world, "I5: worker %d claims of entrypoint %u, and never may",
                 (int)who->serial, entrypoint);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            level += entry->rate * (double)(times[i] - times[i - 1]) / 1e6;
        if (level > burst + 1)
            level = burst + 1;
        level -= 1;
        if (level < -1e-3)
            violated(who->world, "I5: worker %d claims of entrypoint %u faster than %f a second",
                     (int)who->serial, entrypoint, entry->rate);
    }
}

void oracle_check_rates(const worker *who)
{
    world *w = who->world;
    size_t all = 0, count;
    int64_t *times;

    for (const start_record *start = who->starts; start != NULL; start = start->next)
        all++;
    if (all == 0)
        return;
    times = sim_array(w, all, sizeof(*times));
    for (uint32_t entrypoint = 0; entrypoint < w->entry_count; entrypoint++) {
        count = 0;
        for (const start_record *start = who->starts; start != NULL; start = start->next) {
            if (start->entrypoint == entrypoint)
                times[count++] = start->sent_us;
        }
        qsort(times, count, sizeof(times[0]), by_time);
        check_rate(who, entrypoint, times, count);
    }
}

/* ---- different limits ---- */

void oracle_surveyed(worker *who, const engine_note *n)
{
    world *w = who->world;
    size_t entrypoint = (size_t)n->job_id - 1;
    int32_t own = who->entries[entrypoint].limit;
    bool seen = false;

    count_path(w, PATH_SURVEYED);
    for (size_t i = 0; i < w->worker_count; i++) {
        int32_t other = w->workers[i]->entries[entrypoint].limit;

        seen |= n->number == SURVEY_HIGHER      ? own > 0 && other > own
                : n->number == SURVEY_UNLIMITED ? own > 0 && other == 0
                                                : own == 0 && other > 0;
    }
    if (!seen)
        violated(w, "I6: worker %d thinks that entrypoint %zu is limited otherwise elsewhere",
                 (int)who->serial, entrypoint);
    for (size_t i = 0; i < who->survey_count; i++) {
        if (who->surveyed[i].job_id == n->job_id && who->surveyed[i].number == n->number)
            violated(w, "I7: worker %d says twice that limits differ", (int)who->serial);
    }
    if (!w->failed)
        who->surveyed[who->survey_count++] = *n;
}
