#include "queue/speak_internal.h"
#include "base/clock.h"
#include "base/error.h"

#include <stdlib.h>

pgq_code speaker_init(speaker *s, const uuid *worker, const speaker_entrypoint *entrypoints,
                      size_t entrypoint_count, int64_t heartbeat_timeout_us, size_t capacity)
{
    pgq_code code = PGQ_OK;

    *s = (speaker){
        .worker = *worker,
        .heartbeat_timeout_us = heartbeat_timeout_us,
        .entrypoints = entrypoints,
        .entrypoint_count = entrypoint_count,
        .by_name = MAP_INIT,
        .params = PARAMS_INIT,
        .json = BUFFER_INIT,
        .capacity = capacity,
    };
    (void)uuid_format(worker, s->worker_text);
    s->rows = calloc(capacity, sizeof(*s->rows));
    s->places = calloc(capacity, sizeof(*s->places));
    s->stamps = calloc(capacity, sizeof(*s->stamps));
    s->survey = calloc(entrypoint_count, sizeof(*s->survey));
    if (s->rows == NULL || s->places == NULL || s->stamps == NULL || s->survey == NULL)
        code = PGQ_E_NOMEM;
    for (size_t i = 0; code == PGQ_OK && i < entrypoint_count; i++) {
        const char *name = entrypoints[i].name;

        code = map_add(&s->by_name, name, strlen(name), (void *)(uintptr_t)(i + 1));
    }
    if (code != PGQ_OK)
        speaker_release(s);
    return code;
}

void speaker_release(speaker *s)
{
    map_release(&s->by_name);
    job_stock_release(&s->stock);
    params_release(&s->params);
    buffer_release(&s->json);
    free(s->rows);
    free(s->places);
    free(s->stamps);
    free(s->survey);
    s->rows = NULL;
    s->stamps = NULL;
    s->places = NULL;
    s->survey = NULL;
}

static void add_entrypoints(speaker *s)
{
    param_array_begin(&s->params, PG_OID_TEXT, s->entrypoint_count);
    for (size_t i = 0; i < s->entrypoint_count; i++)
        element_text(&s->params, s->entrypoints[i].name);
    param_array_end(&s->params);
}

/* Those that a probe asks for, with their silences. */
static void add_awaited(speaker *s)
{
    size_t count = 0;

    for (size_t i = 0; i < s->entrypoint_count; i++)
        count += !s->entrypoints[i].never;
    param_array_begin(&s->params, PG_OID_TEXT, count);
    for (size_t i = 0; i < s->entrypoint_count; i++) {
        if (!s->entrypoints[i].never)
            element_text(&s->params, s->entrypoints[i].name);
    }
    param_array_end(&s->params);
    param_array_begin(&s->params, PG_OID_INT8, count);
    for (size_t i = 0; i < s->entrypoint_count; i++) {
        if (!s->entrypoints[i].never)
            element_int8(&s->params, s->entrypoints[i].silence_ms);
    }
    param_array_end(&s->params);
}

static void add_known(params *p, const int64_t *known, size_t count)
{
    if (known == NULL)
        param_null(p);
    else
        param_int8_array(p, known, count);
}

void speaker_add_names(speaker *s, const claim_share *shares, size_t count)
{
    param_array_begin(&s->params, PG_OID_TEXT, count);
    for (size_t i = 0; i < count; i++)
        element_text(&s->params, s->entrypoints[shares[i].entrypoint].name);
    param_array_end(&s->params);
}

void speaker_add_tokens(params *p, const claim_token *first, size_t stride, size_t count)
{
    const char *at = (const char *)first;

    param_array_begin(p, PG_OID_INT8, count);
    for (size_t i = 0; i < count; i++)
        element_int8(p, ((const claim_token *)(const void *)(at + i * stride))->id);
    param_array_end(p);
    param_array_begin(p, PG_OID_TIMESTAMPTZ, count);
    for (size_t i = 0; i < count; i++)
        element_int8(p, ((const claim_token *)(const void *)(at + i * stride))->updated);
    param_array_end(p);
}

/* A claim of entrypoints that have limits, rates or retry timers. */
static void add_gated(speaker *s, const sentence *what)
{
    const claim_share *shares = what->of.claim.shares;
    size_t count = what->of.claim.share_count;
    params *p = &s->params;

    param_int4(p, what->of.claim.batch);
    speaker_add_names(s, shares, count);
    param_array_begin(p, PG_OID_INT4, count);
    for (size_t i = 0; i < count; i++)
        element_int4(p, shares[i].most);
    param_array_end(p);
    param_array_begin(p, PG_OID_INT4, count);
    for (size_t i = 0; i < count; i++)
        element_int4(p, s->entrypoints[shares[i].entrypoint].limit);
    param_array_end(p);
    param_array_begin(p, PG_OID_INT8, count);
    for (size_t i = 0; i < count; i++)
        element_int8(p, s->entrypoints[shares[i].entrypoint].silence_ms);
    param_array_end(p);
    param_uuid(p, &s->worker);
    add_known(p, what->of.claim.known, what->of.claim.known_count);
    speaker_add_unlogged(s);
}

static void add_claim(speaker *s, const sentence *what)
{
    params *p = &s->params;

    if (what->of.claim.ids != NULL) {
        param_int8_array(p, what->of.claim.ids, what->of.claim.id_count);
        add_entrypoints(s);
        param_uuid(p, &s->worker);
        speaker_add_unlogged(s);
        return;
    }
    if (what->of.claim.shares != NULL) {
        add_gated(s, what);
        return;
    }
    param_int4(p, what->of.claim.batch);
    add_entrypoints(s);
    param_uuid(p, &s->worker);
    param_int8(p, s->heartbeat_timeout_us / 1000);
    add_known(p, what->of.claim.known, what->of.claim.known_count);
    speaker_add_unlogged(s);
}

static void add_adopt(speaker *s, const sentence *what)
{
    params *p = &s->params;

    param_int4(p, what->of.adopt.batch);
    add_entrypoints(s);
    param_uuid(p, &s->worker);
    param_int8_array(p, what->of.adopt.known, what->of.adopt.known_count);
    if (what->of.adopt.only != 0)
        param_int8(p, what->of.adopt.only);
    else
        param_null(p);
    param_int8_array(p, what->of.adopt.ghosts, what->of.adopt.ghost_count);
    speaker_add_unlogged(s);
}

static void add_ping(speaker *s, const sentence *what)
{
    param_uuid(&s->params, &what->of.ping.id);
}

static void add_survey(speaker *s, const sentence *what)
{
    (void)what;
    add_entrypoints(s);
    param_array_begin(&s->params, PG_OID_INT4, s->entrypoint_count);
    for (size_t i = 0; i < s->entrypoint_count; i++)
        element_int4(&s->params, s->entrypoints[i].limit);
    param_array_end(&s->params);
    param_uuid(&s->params, &s->worker);
}

static bool has_traceback(const settle_item *item)
{
    return item->status == PGQ_STATUS_EXCEPTION || item->status == PGQ_STATUS_FAILED ||
           item->status == PGQ_STATUS_QUEUED;
}

static void add_traceback(speaker *s, const settle_item *item, int64_t wall_us)
{
    traceback_context context = {
        .job_id = item->token.id,
        .attempts = item->attempts,
        .entrypoint = s->entrypoints[item->entrypoint].name,
        .worker_id = s->worker_text,
        .wall_us = wall_us,
        .retry = item->status == PGQ_STATUS_QUEUED,
        .delay_ms = item->delay_ms,
    };
    outcome_text own = {item->own_type, item->own_message};

    buffer_clear(&s->json);
    outcome_add_traceback(&s->json, &context, item->own_type != NULL ? &own : item->text);
    if (s->json.broken)
        s->params.data.broken = true;
    else
        element_jsonb(&s->params, s->json.data, s->json.len);
}

void speaker_add_outcomes(speaker *s, const settle_item *items, size_t count)
{
    int64_t wall_us = clock_wall_us();
    params *p = &s->params;

    param_array_begin(p, PG_OID_TEXT, count);
    for (size_t i = 0; i < count; i++)
        element_text(p, pgq_status_name(items[i].status));
    param_array_end(p);
    param_array_begin(p, PG_OID_INT8, count);
    for (size_t i = 0; i < count; i++)
        element_int8(p, items[i].delay_ms);
    param_array_end(p);
    param_array_begin(p, PG_OID_JSONB, count);
    for (size_t i = 0; i < count; i++) {
        if (has_traceback(&items[i]))
            add_traceback(s, &items[i], wall_us);
        else
            element_null(p);
    }
    param_array_end(p);
}

static void add_settle(speaker *s, const sentence *what)
{
    const settle_item *items = what->of.settle.items;
    size_t count = what->of.settle.count;

    speaker_add_tokens(&s->params, &items->token, sizeof(*items), count);
    param_uuid(&s->params, &s->worker);
    speaker_add_outcomes(s, items, count);
    speaker_add_logged(s, items, count);
}

static void add_release(speaker *s, const sentence *what)
{
    speaker_add_tokens(&s->params, what->of.tokens.tokens, sizeof(claim_token),
                       what->of.tokens.count);
    param_uuid(&s->params, &s->worker);
    speaker_add_unlogged(s);
}

static void add_beat(speaker *s, const sentence *what)
{
    speaker_add_tokens(&s->params, what->of.tokens.tokens, sizeof(claim_token),
                       what->of.tokens.count);
    param_uuid(&s->params, &s->worker);
}

static void add_probe(speaker *s, const sentence *what)
{
    add_awaited(s);
    param_bool(&s->params, what->of.probe.count_deferred);
}

static void add_nothing(speaker *s, const sentence *what)
{
    (void)s;
    (void)what;
}

#define ALIKE(name) STATEMENT_##name, STATEMENT_##name
#define COUNTED(name) STATEMENT_##name, STATEMENT_##name##_COUNTED

/* One row a sentence: its statement, that where the extras are, how its parameters are made, how
 * its rows are understood. */
static const struct speech {
    statement_id statement, counted;
    void (*add)(speaker *s, const sentence *what);
    void (*read)(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply);
} speeches[] = {
    [SENTENCE_CHECK] = {ALIKE(CHECK_WORKER), add_nothing, speaker_read_check},
    [SENTENCE_LISTEN] = {ALIKE(LISTEN), add_nothing, speaker_read_nothing},
    [SENTENCE_CLAIM] = {COUNTED(CLAIM_ROW), add_claim, speaker_read_claim},
    [SENTENCE_SETTLE] = {COUNTED(SETTLE_ROW), add_settle, speaker_read_places},
    [SENTENCE_BEAT] = {ALIKE(BEAT_ROW), add_beat, speaker_read_beat},
    [SENTENCE_RELEASE] = {COUNTED(RELEASE_ROW), add_release, speaker_read_nothing},
    [SENTENCE_PROBE] = {ALIKE(PROBE), add_probe, speaker_read_probe},
    [SENTENCE_ADOPT] = {COUNTED(ADOPT_ROW), add_adopt, speaker_read_adopt},
    [SENTENCE_PING] = {ALIKE(PING), add_ping, speaker_read_nothing},
    [SENTENCE_SURVEY] = {ALIKE(SURVEY), add_survey, speaker_read_survey},
    [SENTENCE_AGGREGATE] = {ALIKE(AGGREGATE), add_nothing, speaker_read_nothing},
    [SENTENCE_LEASE] = {ALIKE(CLAIM_LEASE), speaker_add_lease, speaker_read_lease},
    [SENTENCE_CONCLUDE] = {COUNTED(SETTLE_LEASE), speaker_add_conclude, speaker_read_stamps},
    [SENTENCE_COMMIT] = {ALIKE(COMMIT), add_nothing, speaker_read_commit},
    [SENTENCE_RESOLVE] = {COUNTED(RESOLVE), speaker_add_resolve, speaker_read_stamps},
    [SENTENCE_ANNOUNCE] = {ALIKE(ANNOUNCE), speaker_add_announce, speaker_read_nothing},
    [SENTENCE_END_STUCK] = {ALIKE(LEASE_END), speaker_add_end_stuck, speaker_read_end_stuck},
    [SENTENCE_HORIZON] = {ALIKE(HORIZON), add_nothing, speaker_read_horizon},
};

static statement_id statement_of(const speaker *s, const sentence *what)
{
    const struct speech *speech = &speeches[what->kind];

    if (what->kind == SENTENCE_CLAIM && what->of.claim.ids != NULL)
        return s->extras ? STATEMENT_CLAIM_IDS_COUNTED : STATEMENT_CLAIM_IDS;
    if (what->kind == SENTENCE_CLAIM && what->of.claim.shares != NULL)
        return s->extras ? STATEMENT_CLAIM_GATED_COUNTED : STATEMENT_CLAIM_GATED;
    if (what->kind == SENTENCE_LEASE)
        return speaker_lease(s, what);
    if (what->kind == SENTENCE_CONCLUDE)
        return speaker_conclusion(s, what);
    if (what->kind == SENTENCE_AGGREGATE && what->of.aggregate.counts)
        return s->extras ? STATEMENT_FOLD_COUNTS : STATEMENT_AGGREGATE;
    return s->extras ? speech->counted : speech->statement;
}

pgq_code speaker_say(speaker *s, pg_conn *conn, const sentence *what)
{
    const struct speech *speech = &speeches[what->kind];
    pgq_code code = PGQ_OK;

    params_clear(&s->params);
    speech->add(s, what);
    if (what->kind == SENTENCE_LEASE)
        code = pg_conn_send(conn, STATEMENT_BEGIN, NULL);
    if (code == PGQ_OK)
        code = pg_conn_send(conn, statement_of(s, what), &s->params);
    return code == PGQ_OK ? pg_conn_sync(conn) : code;
}

/* Another claim took the seat, or locked rows in another order. Source: wire contract 4.3. */
static bool lost_the_race(const pg_reply *heard)
{
    static const char index_end[] = "_picked_slot_idx";
    size_t len = strlen(heard->constraint), end = sizeof(index_end) - 1;

    if (base_streq(heard->error.sqlstate, "40P01"))
        return true;
    return base_streq(heard->error.sqlstate, "23505") && len >= end &&
           base_streq(heard->constraint + len - end, index_end);
}

/* Something of the extras may have been taken away. Other lanes may have said the like already. */
static bool doubt(bool *there, int *doubts)
{
    if (!*there && (*doubts == 0 || *doubts > PGQ_LANES_MAX))
        return false;
    *there = false;
    (*doubts)++;
    return true;
}

/* It goes well without the extras; a claim is not to end the worker before that is known. */
static void doubt_extras(speaker *s, const sentence *what, sentence_reply *reply)
{
    const struct speech *speech = &speeches[what->kind];
    bool schema = reply->class == SQLSTATE_SCHEMA || reply->class == SQLSTATE_PERMISSION;
    bool claim = what->kind == SENTENCE_CLAIM || what->kind == SENTENCE_ADOPT;

    if (what->kind == SENTENCE_LEASE && what->of.lease.front) {
        if ((schema || reply->class == SQLSTATE_DATA) && doubt(&s->front, &s->front_doubts))
            reply->class = SQLSTATE_TRANSIENT;
    } else if (schema && speech->statement != speech->counted && doubt(&s->extras, &s->doubts) &&
               claim) {
        reply->class = SQLSTATE_TRANSIENT;
    }
}

void speaker_hear(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *ret_reply)
{
    *ret_reply = (sentence_reply){.refused = heard->kind != PG_REPLY_ROWS};
    if (ret_reply->refused) {
        ret_reply->error = heard->error;
        ret_reply->class = sqlstate_classify(heard->error.sqlstate);
        if (what->kind == SENTENCE_CLAIM && lost_the_race(heard))
            ret_reply->class = SQLSTATE_CONTENDED;
        doubt_extras(s, what, ret_reply);
    } else {
        speeches[what->kind].read(s, what, heard, ret_reply);
    }
    result_release(&heard->result);
}
