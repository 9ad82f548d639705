/* How much to claim, of which entrypoints, and how to find again what a lost reply has hidden. */
#include "worker/engine_internal.h"

#include <assert.h>

enum {
    SOON_US = 50 * 1000,         /* no more is claimed than handlers begin in this time */
    STALE_LOOK_US = 1000 * 1000, /* how often a busy worker looks for silent workers' jobs */
    GHOST_US = 10 * 1000 * 1000, /* so long it is worth waiting for a lost connection's backend */
    LARGE_A_THREAD = 2,
    CLAIM_BYTES = 8 * 1024 * 1024, /* of payloads in one claim, by what they have been */
    RATE_STEP_US = 20 * 1000       /* a bucket is worth a claim when it holds so much of its rate */
};

size_t engine_outstanding(const engine *e, bool leases)
{
    engine_said at = {0, 0};
    const sentence *s;
    size_t count = 0;

    while ((s = engine_next_said(e, &at)) != NULL) {
        if (s->kind == SENTENCE_CLAIM)
            count += (size_t)s->of.claim.batch;
        else if (s->kind == SENTENCE_ADOPT)
            count += (size_t)s->of.adopt.batch;
        else if (s->kind == SENTENCE_LEASE && leases)
            count += (size_t)s->of.lease.batch;
    }
    return count;
}

/* Threads that are not lost to handlers that do not end. */
size_t engine_free_threads(const engine *e)
{
    size_t all = (size_t)e->config.threads;

    return e->stragglers < all ? all - e->stragglers : 0;
}

/* How many jobs the pool should have: one a thread, and what can start soon. */
static size_t pool_target(const engine *e)
{
    int64_t most = 2 * (int64_t)e->config.batch_size, soon;

    if (e->run_us_average == 0)
        return engine_free_threads(e);
    soon = (int64_t)engine_free_threads(e) * SOON_US / base_max_i64(1, e->run_us_average);
    return engine_free_threads(e) + (size_t)base_min_i64(soon, most);
}

/* Everything that is picked for us: it is not to be taken from ourselves. What was lost and still
 * runs is not: if its row is picked for us, then by a claim whose reply was lost. An adoption notes
 * in each job that it has left it out. */
static size_t collect_known(engine *e, int64_t *known, bool adopts)
{
    size_t count = 0;

    for (int state = JOB_HANDED; state < JOB_STATES; state++) {
        for (list_link *link = e->jobs[state].first; link != NULL; link = link->next) {
            engine_job *job = LIST_ENTRY(link, engine_job, link);

            job->passed_over |= adopts;
            if (!job->lost)
                known[count++] = job->token.id;
        }
    }
    return count;
}

/* Whether the job may be in the queue by now, by a settle or a release of which no answer has come:
 * then the claim whose reply was lost may have picked it again. One that is lost again and again,
 * as somebody keeps its row locked, or that the server gives up for that, is not waited for: when
 * it is answered at last, what was adopted is looked at once more. */
static bool is_undecided(const engine_job *job)
{
    bool may_be_queued = job->state == JOB_RELEASING ||
                         (job->state == JOB_SETTLING && job->outcome.status == PGQ_STATUS_QUEUED);

    if (job->state == JOB_REFUSED || job->put_off || job->hopeless || job->losses > 1)
        return false;
    return may_be_queued || (job->uncertain && job->losses + job->timeouts < 2);
}

static bool anything_undecided(const engine *e)
{
    for (int state = JOB_FINISHED; state < JOB_STATES; state++) {
        for (list_link *link = e->jobs[state].first; link != NULL; link = link->next) {
            if (is_undecided(LIST_ENTRY(link, engine_job, link)))
                return true;
        }
    }
    return false;
}

/* ---- adopting ---- */

void engine_add_ghost(engine *e, int64_t now_us, int64_t backend, int32_t batch)
{
    backoff_reset(&e->ghost_backoff);
    if (backend == 0)
        return;
    if (e->ghost_count == ENGINE_GHOSTS) /* the oldest is the likeliest to be gone */
        memmove(&e->ghosts[0], &e->ghosts[1], sizeof(e->ghosts[0]) * --e->ghost_count);
    e->ghosts[e->ghost_count++] = (engine_ghost){backend, now_us + GHOST_US, batch};
}

/* Takes what is picked for us and not known to us. No claim may be under way whose reply would make
 * some of it known, nor a lease, whose jobs may become picked ones before this is carried out, nor
 * may a job be undecided. */
void engine_add_adopt(engine *e, int64_t now_us, engine_lane *lane)
{
    size_t free_records = e->jobs[JOB_FREE].count;
    sentence *s;

    if (now_us < e->adopt_at_us || now_us < e->claim_not_before_us || free_records == 0 ||
        engine_outstanding(e, true) > 0 || anything_undecided(e))
        return;
    s = engine_add_sentence(lane, SENTENCE_ADOPT);
    s->of.adopt.batch = (int32_t)base_min_i64(e->config.batch_size, (int64_t)free_records);
    s->of.adopt.only = e->config.only_job;
    s->of.adopt.known = lane->known;
    s->of.adopt.known_count = collect_known(e, lane->known, true);
    s->of.adopt.ghosts = lane->ghosts;
    s->of.adopt.ghost_count = e->ghost_count;
    for (size_t i = 0; i < e->ghost_count; i++)
        lane->ghosts[i] = e->ghosts[i].backend;
    e->adopt_wanted = false;
}

/* ---- rates ---- */

static double bucket_size(const engine_entrypoint *entry)
{
    return entry->rate / 10 > 1 ? entry->rate / 10 : 1;
}

/* What may be started of an entrypoint now; at most `most`. */
static int32_t allowance(engine *e, int64_t now_us, size_t index, int32_t most)
{
    const engine_entrypoint *entry = &e->config.entrypoints[index];
    engine_bucket *bucket = &e->buckets[index];
    double size = bucket_size(entry);

    if (!entry->rated)
        return most;
    if (bucket->filled_us == 0)
        bucket->tokens = entry->rate > 0 ? size : 0;
    else
        bucket->tokens += entry->rate * (double)(now_us - bucket->filled_us) / 1e6;
    bucket->filled_us = base_max_i64(1, now_us);
    if (bucket->tokens > size)
        bucket->tokens = size;
    return bucket->tokens < (double)most ? (int32_t)bucket->tokens : most;
}

/* Looks again when an empty bucket is worth a claim. */
static void await_rate(engine *e, int64_t now_us, size_t index)
{
    const engine_entrypoint *entry = &e->config.entrypoints[index];
    double wanted = entry->rate * RATE_STEP_US / 1e6, wait_us;

    if (!entry->rated || entry->rate <= 0)
        return;
    wanted = wanted > 1 ? wanted : 1;
    wait_us = (wanted - e->buckets[index].tokens) / entry->rate * 1e6 + 1;
    if (wait_us < 1e15)
        e->rate_at_us = base_min_i64(e->rate_at_us, now_us + base_max_i64(1000, (int64_t)wait_us));
}

/* Of the entrypoints on the lease lane only what silent workers have left. */
static void make_shares(engine *e, int64_t now_us, engine_lane *lane, sentence *s, bool fresh,
                        bool stale)
{
    size_t count = 0;

    for (size_t i = 0; i < e->config.entrypoint_count; i++) {
        int32_t most = allowance(e, now_us, i, s->of.claim.batch);

        if (most <= 0) {
            await_rate(e, now_us, i);
            continue;
        }
        if (e->buckets[i].leased || !fresh) {
            if (stale)
                lane->shares[count++] = (claim_share){(uint32_t)i, 0};
            continue;
        }
        lane->shares[count++] = (claim_share){(uint32_t)i, most};
        if (e->config.entrypoints[i].rated)
            e->buckets[i].tokens -= most;
    }
    s->of.claim.shares = lane->shares;
    s->of.claim.share_count = count;
}

/* Entrypoints that are ever claimed. */
static size_t claimable(const engine *e)
{
    size_t count = 0;

    for (size_t i = 0; i < e->config.entrypoint_count; i++)
        count += !e->config.entrypoints[i].rated || e->config.entrypoints[i].rate > 0;
    return count;
}

void engine_refund(engine *e, engine_lane *lane, const sentence_reply *reply, int64_t now_us)
{
    const sentence *s = &lane->flight.sentences[lane->answered - 1];

    for (size_t i = 0; s->of.claim.shares != NULL && i < s->of.claim.share_count; i++) {
        const claim_share *share = &s->of.claim.shares[i];
        int32_t came = 0;

        if (!e->config.entrypoints[share->entrypoint].rated)
            continue;
        for (size_t row = 0; !reply->refused && row < reply->row_count; row++)
            came += reply->rows[row].entrypoint == share->entrypoint;
        e->buckets[share->entrypoint].tokens += share->most - came;
        if (came >= share->most && came < s->of.claim.batch)
            await_rate(e, now_us, share->entrypoint);
    }
}

/* ---- claiming ---- */

/* What ghosts may pick for us before anything shows it. */
static size_t haunted(const engine *e)
{
    size_t count = 0;

    for (size_t i = 0; i < e->ghost_count; i++)
        count += (size_t)e->ghosts[i].batch;
    return count;
}

size_t engine_room(engine *e)
{
    size_t under_way = engine_outstanding(e, true);
    size_t target = pool_target(e), batch = (size_t)e->config.batch_size;
    size_t busy = e->jobs[JOB_HANDED].count - e->away, have = busy + under_way;
    size_t room = have < target ? target - have : 0, free_records = e->jobs[JOB_FREE].count;
    size_t held_max = (size_t)e->config.held_max, held = engine_held(e) + under_way + haunted(e);

    if (room > batch)
        room = batch;
    if (room + under_way > free_records)
        room = free_records > under_way ? free_records - under_way : 0;
    if (held_max > 0 && held + room > held_max)
        room = held_max > held ? held_max - held : 0;
    if (room < batch && room < target / 2 && busy >= engine_free_threads(e))
        return 0; /* a small claim is only worth it when a thread would be idle */
    return room;
}

/* Nothing can be claimed now: a probe tells whether others have left anything. */
static void look_only(engine *e)
{
    e->rows.hungry = e->stale_hungry = false;
    e->probe_wanted = true;
}

/* How many large jobs more there may be, with the pool or on their way: a few, for the memory that
 * they take. */
static size_t spare_large(const engine *e)
{
    size_t most = LARGE_A_THREAD * engine_free_threads(e), have = 0;
    engine_said at = {0, 0};
    const sentence *s;

    while ((s = engine_next_said(e, &at)) != NULL)
        have += s->kind == SENTENCE_CLAIM && s->of.claim.ids != NULL ? s->of.claim.id_count : 0;
    for (list_link *link = e->jobs[JOB_HANDED].first; link != NULL; link = link->next) {
        const engine_job *job = LIST_ENTRY(link, engine_job, link);

        have += job->large && job->place == PLACE_POOL;
    }
    return have < most ? most - have : 0;
}

/* Jobs that leases have left behind, as they are large. While its lease is open a row is locked. */
static void claim_large(engine *e, engine_lane *lane)
{
    size_t room, kept = 0, count = 0;
    sentence *s;

    if (e->large_count == 0)
        return;
    room = base_min_size(engine_room(e), spare_large(e));
    for (size_t i = 0; i < e->large_count; i++) {
        const engine_lane *holder = e->large_lanes[i];

        if (count < room && (holder == lane || !holder->lease.open)) {
            lane->large_ids[count++] = e->large[i];
            continue;
        }
        e->large_lanes[kept] = holder;
        e->large[kept++] = e->large[i];
    }
    e->large_count = kept;
    if (count == 0)
        return;
    s = engine_add_sentence(lane, SENTENCE_CLAIM);
    s->of.claim.batch = (int32_t)count;
    s->of.claim.ids = lane->large_ids;
    s->of.claim.id_count = count;
}

void engine_learn_rows(engine *e, const sentence_reply *reply)
{
    double bytes;

    if (reply->row_count == 0)
        return;
    bytes = (double)reply->payload_bytes / (double)reply->row_count;
    if (bytes < e->row_average)
        bytes = e->row_average + (bytes - e->row_average) / 4;
    e->row_average = bytes;
}

/* As many jobs as payloads like those before allow. */
static size_t room_for_rows(engine *e)
{
    size_t room = engine_room(e);
    double fit = e->row_average > 1 ? CLAIM_BYTES / e->row_average : PGQ_BATCH_SIZE_MAX;

    if ((double)room <= fit)
        return room;
    return fit > 1 ? (size_t)fit : 1;
}

/* Whether a claim of certain jobs is not all that is under way. */
static bool asking(const engine *e)
{
    engine_said at = {0, 0};
    const sentence *s;

    while ((s = engine_next_said(e, &at)) != NULL) {
        if (s->kind == SENTENCE_ADOPT || (s->kind == SENTENCE_CLAIM && s->of.claim.ids == NULL))
            return true;
    }
    return false;
}

/* A claim on the row lane: of the entrypoints on it, and when it is time of silent workers' jobs.
 */
static void claim_rows(engine *e, int64_t now_us, engine_lane *lane)
{
    bool stale = now_us >= e->stale_look_at_us, fresh = e->rows.hungry;
    size_t room;
    sentence *s;

    if (!fresh && !(stale && e->stale_hungry))
        return;
    if (asking(e) && !e->rows.backlog)
        return; /* one lane asks; the others join when it comes back full */
    room = room_for_rows(e);
    if (room == 0 && engine_free_threads(e) == 0) {
        e->leases.hungry = false;
        look_only(e);
    }
    if (fresh)
        room = base_min_size(room, engine_room_of_rows(e, now_us, lane));
    if (room == 0)
        return;
    s = engine_add_sentence(lane, SENTENCE_CLAIM);
    s->of.claim.batch = (int32_t)room;
    if (e->gated || e->leases.entrypoints > 0)
        make_shares(e, now_us, lane, s, fresh, stale);
    if (s->of.claim.shares != NULL && s->of.claim.share_count == 0) {
        lane->flight.count--; /* all rates are used up; rate_at_us says when to look again */
        look_only(e);
        return;
    }
    if (stale) {
        s->of.claim.known = lane->known;
        s->of.claim.known_count = collect_known(e, lane->known, false);
        /* else the next one looks too; but it may be the only thing to look for */
        if (s->of.claim.shares == NULL || s->of.claim.share_count == claimable(e))
            e->stale_look_at_us = now_us + base_min_i64(STALE_LOOK_US, e->silence_us);
        else
            e->stale_look_at_us = now_us + RATE_STEP_US;
    }
    if (fresh)
        engine_took_turn(&e->rows, &e->leases);
    lane->wakes_seen = e->wakes;
}

void engine_add_claim(engine *e, int64_t now_us, engine_lane *lane)
{
    if (e->state != ENGINE_RUNNING || engine_any_said(e, SENTENCE_ADOPT) ||
        engine_any_said(e, SENTENCE_RESOLVE))
        return;
    if (engine_resolve_wanted(e, now_us))
        return; /* it waits for the claims that are under way, and must not wait for ever */
    if (e->adopt_wanted && now_us >= e->adopt_at_us) {
        engine_add_adopt(e, now_us, lane);
        return; /* no claim begins before it is done */
    }
    if (now_us < e->claim_not_before_us || e->config.only_job != 0)
        return;
    claim_large(e, lane);
    claim_rows(e, now_us, lane);
}
