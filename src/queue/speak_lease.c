/* The sentences of the lease lane. */
#include "queue/speak_internal.h"
#include "base/error.h"

#include <stdio.h>

enum { INTERVAL_BYTES = 24, FRONT_ID_BITS = 48, FRONT_KEYS = 32767 };

/* The sum of an id and a batch still fits. */
#define FRONT_ID_MAX (INT64_C(1) << (FRONT_ID_BITS - 1))

static void param_interval(params *p, int64_t us)
{
    char text[INTERVAL_BYTES];

    (void)snprintf(text, sizeof(text), "%lldms", (long long)base_max_i64(1, us / 1000));
    param_text(p, text);
}

/* ---- lease ---- */

static void add_cursors(params *p, const sentence *what)
{
    const claim_cursor *cursors = what->of.lease.cursors;
    size_t count = what->of.lease.cursor_count;

    if (what->of.lease.share_count > 1) {
        param_array_begin(p, PG_OID_INT4, count);
        for (size_t i = 0; i < count; i++)
            element_int4(p, (int32_t)cursors[i].share + 1);
        param_array_end(p);
    }
    param_array_begin(p, PG_OID_INT4, count);
    for (size_t i = 0; i < count; i++)
        element_int4(p, cursors[i].priority);
    param_array_end(p);
    param_array_begin(p, PG_OID_INT8, count);
    for (size_t i = 0; i < count; i++)
        element_int8(p, cursors[i].id);
    param_array_end(p);
}

static uint64_t mix(uint64_t hash, uint64_t value, int bytes)
{
    for (; bytes > 0; bytes--, value >>= 8)
        hash = (hash ^ (value & 0xFF)) * 1099511628211ULL; /* FNV-1a */
    return hash;
}

/* Which cursor it is, for the upper bits of the front; never 0. Two that have the same, which is
 * one pair in thirty thousand, disturb each other, and find what they miss by sweeps. */
static int64_t front_key(const speaker *s, const char *entrypoint, int32_t priority)
{
    uint64_t hash = mix(14695981039346656037ULL, (uint64_t)s->queue_oid, 8);

    for (const char *c = entrypoint; *c != '\0'; c++)
        hash = mix(hash, (unsigned char)*c, 1);
    hash = mix(hash, (uint32_t)priority, 4);
    return (int64_t)(1 + hash % FRONT_KEYS) << FRONT_ID_BITS;
}

/* What stands in the sequence: whose cursor, if it is one of ours at the usual priority, and where.
 */
void speaker_read_front(const speaker *s, int64_t value, sentence_reply *reply)
{
    for (size_t i = 0; i < s->entrypoint_count; i++) {
        int64_t id = value - front_key(s, s->entrypoints[i].name, 0);

        if (id > 0 && id < FRONT_ID_MAX) {
            reply->front_id = id;
            reply->front_entrypoint = (uint32_t)i;
        }
    }
}

static bool has_front(const speaker *s, const sentence *what)
{
    return s->front && what->of.lease.front && what->of.lease.cursors != NULL &&
           what->of.lease.cursors[what->of.lease.front_at].id < FRONT_ID_MAX;
}

static void add_front(speaker *s, const sentence *what)
{
    const char *entrypoint = s->entrypoints[what->of.lease.shares[0].entrypoint].name;
    params *p = &s->params;
    const claim_cursor *front = &what->of.lease.cursors[what->of.lease.front_at];

    param_int4(p, front->priority);
    param_int8(p, front->id);
    param_int8(p, front_key(s, entrypoint, front->priority));
    param_bool(p, what->of.lease.front_back);
}

void speaker_add_lease(speaker *s, const sentence *what)
{
    const claim_share *shares = what->of.lease.shares;
    size_t count = what->of.lease.share_count;
    params *p = &s->params;

    param_int4(p, what->of.lease.batch);
    if (count == 1)
        param_text(p, s->entrypoints[shares[0].entrypoint].name);
    else
        speaker_add_names(s, shares, count);
    param_int4(p, what->of.lease.payload_max);
    param_interval(p, what->of.lease.hold_us);
    param_int8_array(p, what->of.lease.except, what->of.lease.except_count);
    if (what->of.lease.cursors != NULL)
        add_cursors(p, what);
    else
        param_bool(p, what->of.lease.try_all);
    if (has_front(s, what))
        add_front(s, what);
}

statement_id speaker_lease(const speaker *s, const sentence *what)
{
    if (has_front(s, what))
        return STATEMENT_CLAIM_LEASE_FRONT;
    if (what->of.lease.late)
        return STATEMENT_CLAIM_LEASE_LATE;
    if (what->of.lease.share_count > 1)
        return what->of.lease.cursors != NULL ? STATEMENT_CLAIM_LEASE_MANY_AFTER
                                              : STATEMENT_CLAIM_LEASE_MANY;
    return what->of.lease.cursors != NULL ? STATEMENT_CLAIM_LEASE_AFTER : STATEMENT_CLAIM_LEASE;
}

/* False: the rows are not what they should be. */
static bool read_leased(speaker *s, const sentence *what, pg_result *r, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int32_t ordinal = result_int4(r, i, 5);

        if (ordinal < 1 || (size_t)ordinal > what->of.lease.share_count)
            return false;
        s->rows[i] = (claimed_row){
            .place = result_tid(r, i, 0),
            .token = {result_int8(r, i, 1), result_timestamp(r, i, 2)},
            .priority = result_int4(r, i, 3),
            .attempts = result_int4(r, i, 4),
            .entrypoint = what->of.lease.shares[ordinal - 1].entrypoint,
            .large = result_bool(r, i, 8),
            .picked_us = result_timestamp(r, i, 9),
        };
    }
    if (count > 0 && !r->malformed)
        s->malformed = 0;
    return !r->malformed;
}

static int64_t body_bytes(const pgq_job *job)
{
    size_t headers = job->headers != NULL ? strlen(job->headers) : 0;

    return (int64_t)(job->payload.len + headers);
}

void speaker_read_lease(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply)
{
    pg_result *r = &heard->result;
    size_t count = result_rows(r), small = 0, next = 0;
    job_batch *batch = NULL;

    if (count > s->capacity)
        count = s->capacity; /* cannot happen: the statement has its limit */
    if (!read_leased(s, what, r, count)) {
        speaker_malformed(s, reply);
        return;
    }
    for (size_t i = 0; i < count; i++)
        small += !s->rows[i].large;
    if (small > 0)
        batch = job_batch_new(&s->stock, r, small);
    for (size_t i = 0; batch != NULL && i < count; i++) {
        if (s->rows[i].large)
            continue;
        s->rows[i].body = &batch->jobs[next];
        speaker_fill_job(s, &batch->jobs[next], &batch->result, i, 6, &s->rows[i]);
        reply->payload_bytes += body_bytes(&batch->jobs[next++]);
    }
    reply->rows = s->rows;
    reply->row_count = count;
}

/* ---- the end of a lease ---- */

static pgq_log_policy policy_of(const speaker *s, const settle_item *item)
{
    return s->entrypoints[item->entrypoint].log_policy;
}

/* A batch of which every job was successful, and is logged alike, has lean statements of its own.
 */
static bool uniform(const speaker *s, const sentence *what)
{
    const settle_item *items = what->of.settle.items;

    for (size_t i = 0; i < what->of.settle.count; i++) {
        if (items[i].status != PGQ_STATUS_SUCCESSFUL ||
            policy_of(s, &items[i]) != policy_of(s, &items[0]))
            return false;
    }
    return true;
}

statement_id speaker_conclusion(const speaker *s, const sentence *what)
{
    if (!uniform(s, what))
        return s->extras ? STATEMENT_SETTLE_LEASE_COUNTED : STATEMENT_SETTLE_LEASE;
    if (!speaker_logs_end(s, &what->of.settle.items[0]))
        return STATEMENT_SETTLE_QUIET;
    return s->extras ? STATEMENT_SETTLE_DONE_COUNTED : STATEMENT_SETTLE_DONE;
}

static void add_done(speaker *s, const sentence *what)
{
    const settle_item *items = what->of.settle.items;
    params *p = &s->params;

    param_array_begin(p, PG_OID_TID, what->of.settle.count);
    for (size_t i = 0; i < what->of.settle.count; i++)
        element_tid(p, items[i].place);
    param_array_end(p);
    if (speaker_logs_end(s, &items[0]))
        param_int4(p, policy_of(s, &items[0]) == PGQ_LOG_POLICY_FULL ? 2 : 1);
    param_text(p, what->of.settle.event_later ? "later" : "now");
}

static void add_ids(params *p, const settle_item *items, size_t count)
{
    param_array_begin(p, PG_OID_INT8, count);
    for (size_t i = 0; i < count; i++)
        element_int8(p, items[i].token.id);
    param_array_end(p);
}

/* Whether the log gets a `picked` row, and one of what became of the job. */
static void add_log_flags(speaker *s, const settle_item *items, size_t count)
{
    params *p = &s->params;

    param_array_begin(p, PG_OID_BOOL, count);
    for (size_t i = 0; i < count; i++)
        element_bool(p, policy_of(s, &items[i]) == PGQ_LOG_POLICY_FULL);
    param_array_end(p);
    speaker_add_logged(s, items, count);
}

void speaker_add_conclude(speaker *s, const sentence *what)
{
    const settle_item *items = what->of.settle.items;
    size_t count = what->of.settle.count;

    if (uniform(s, what)) {
        add_done(s, what);
        return;
    }
    add_ids(&s->params, items, count);
    param_uuid(&s->params, &s->worker);
    speaker_add_outcomes(s, items, count);
    add_log_flags(s, items, count);
}

void speaker_add_resolve(speaker *s, const sentence *what)
{
    const settle_item *items = what->of.settle.items;
    size_t count = what->of.settle.count;
    params *p = &s->params;

    speaker_add_tokens(p, &items->token, sizeof(*items), count);
    param_array_begin(p, PG_OID_INT4, count);
    for (size_t i = 0; i < count; i++)
        element_int4(p, items[i].attempts);
    param_array_end(p);
    param_array_begin(p, PG_OID_BOOL, count);
    for (size_t i = 0; i < count; i++)
        element_bool(p, items[i].uncertain);
    param_array_end(p);
    param_uuid(p, &s->worker);
    speaker_add_outcomes(s, items, count);
    param_array_begin(p, PG_OID_TIMESTAMPTZ, count);
    for (size_t i = 0; i < count; i++)
        element_int8(p, items[i].picked_us);
    param_array_end(p);
    add_log_flags(s, items, count);
    param_interval(p, what->of.settle.wait_us);
}

/* The places of the items that were written (of a conclusion: that run on), with their proofs. */
void speaker_read_stamps(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply)
{
    pg_result *r = &heard->result;
    size_t count = result_rows(r);

    for (size_t i = 0; i < count && i < s->capacity; i++) {
        int64_t place = result_int8(r, i, 0) - 1;

        if (place < 0 || (size_t)place >= what->of.settle.count)
            continue;
        s->places[reply->place_count] = (uint32_t)place;
        s->stamps[reply->place_count++] = result_is_null(r, i, 1) ? 0 : result_timestamp(r, i, 1);
    }
    reply->places = s->places;
    reply->stamps = s->stamps;
}

/* COMMIT of a transaction that had failed succeeds, and has rolled it back. */
void speaker_read_commit(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply)
{
    (void)s;
    (void)what;
    if (base_streq(result_tag(&heard->result), "COMMIT"))
        return;
    reply->refused = true;
    reply->class = SQLSTATE_TRANSIENT;
    (void)error_set(&reply->error, PGQ_E_DATABASE, "the transaction of a lease was rolled back");
}

/* ---- around leases ---- */

void speaker_add_announce(speaker *s, const sentence *what)
{
    param_text(&s->params, what->of.announce.done ? "delete" : "update");
}

void speaker_add_end_stuck(speaker *s, const sentence *what)
{
    param_int8(&s->params, what->of.end_stuck.age_us / 1000);
}

void speaker_read_end_stuck(speaker *s, const sentence *what, pg_reply *heard,
                            sentence_reply *reply)
{
    (void)s;
    (void)what;
    reply->number = result_int4(&heard->result, 0, 0);
}

void speaker_read_horizon(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply)
{
    pg_result *r = &heard->result;
    const char *kind, *name;

    (void)what;
    if (result_rows(r) == 0)
        return;
    kind = result_text(r, 0, 0);
    name = result_text(r, 0, 1);
    if (result_is_null(r, 0, 2))
        (void)snprintf(s->holder, sizeof(s->holder), "%s %s", kind, name != NULL ? name : "");
    else
        (void)snprintf(s->holder, sizeof(s->holder), "%s %d %s", kind, (int)result_int4(r, 0, 2),
                       name != NULL ? name : "");
    reply->holder = s->holder;
    reply->number = result_int8(r, 0, 3);
}
