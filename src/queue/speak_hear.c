/* What the answers to the row lane's sentences, and to those of the control lane, mean. */
#include "queue/speak_internal.h"
#include "base/clock.h"
#include "base/error.h"

enum { MALFORMED_MAX = 3 };

void speaker_read_check(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply)
{
    pg_result *r = &heard->result;
    const char *kind, *name, *owner;

    (void)what;
    s->extras = reply->extras = result_rows(r) > 0 && result_bool(r, 0, 3);
    s->front = reply->front = result_rows(r) > 0 && !result_is_null(r, 0, 4);
    s->queue_oid = s->front ? result_int8(r, 0, 4) : 0;
    reply->front_free = s->front && result_is_null(r, 0, 5);
    if (s->front && !reply->front_free)
        speaker_read_front(s, result_int8(r, 0, 5), reply);
    if (result_rows(r) == 0)
        return;
    kind = result_text(r, 0, 0);
    name = result_text(r, 0, 1);
    owner = result_text(r, 0, 2);
    if (kind == NULL || name == NULL || owner == NULL)
        return;
    reply->refused = true;
    reply->class = SQLSTATE_SCHEMA;
    if (base_streq(kind, "table")) {
        (void)error_set(&reply->error, PGQ_E_SCHEMA_MISSING, "the table %s is missing", name);
        error_hint(&reply->error, "run `pgqueuer install`, or check --prefix, --schema, the "
                                  "database's name, and that the role has USAGE on the schema");
    } else {
        if (base_streq(kind, "width"))
            (void)error_set(&reply->error, PGQ_E_SCHEMA_MISMATCH,
                            "the column %s of %s is not of type bigint", name, owner);
        else
            (void)error_set(&reply->error, PGQ_E_SCHEMA_MISMATCH, "the %s %s is missing in %s",
                            kind, name, owner);
        error_hint(&reply->error, "the schema is of an older release: run `pgqueuer upgrade`; "
                                  "`pgqueuer upgrade --plan` shows what it would do");
    }
}

static const char *defect_of(const char *headers)
{
    if (headers == NULL || headers[0] == '{')
        return NULL;
    return "the job's headers are not a JSON object";
}

/* The index of an entrypoint; entrypoint_count when it is none of ours. */
static uint32_t entrypoint_index(const speaker *s, pgq_bytes name)
{
    const map_entry *entry = name.data != NULL ? map_find(&s->by_name, name.data, name.len) : NULL;

    return entry != NULL ? (uint32_t)((uintptr_t)entry->value - 1) : (uint32_t)s->entrypoint_count;
}

void speaker_fill_job(const speaker *s, pgq_job *job, pg_result *r, size_t row, int payload_column,
                      const claimed_row *from)
{
    const char *headers = result_jsonb(r, row, payload_column + 1);

    if (headers != NULL && base_streq(headers, "null"))
        headers = NULL;
    job->id = from->token.id;
    job->priority = from->priority;
    job->attempts = from->attempts;
    job->entrypoint_index = from->entrypoint;
    job->entrypoint = s->entrypoints[from->entrypoint].name;
    job->user = s->entrypoints[from->entrypoint].user;
    job->payload = result_bytes(r, row, payload_column);
    job->headers = headers;
    job->defect = defect_of(headers);
}

/* Understands the rows from `first` on; false when they are not what they should be. */
static bool read_rows(speaker *s, pg_result *r, size_t first, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t row = first + i;

        s->rows[i] = (claimed_row){
            .token = {result_int8(r, row, 0), result_timestamp(r, row, 1)},
            .priority = result_int4(r, row, 2),
            .attempts = result_int4(r, row, 3),
            .entrypoint = entrypoint_index(s, result_bytes(r, row, 4)),
        };
        if (s->rows[i].entrypoint >= s->entrypoint_count)
            r->malformed = true;
    }
    if (count > 0 && !r->malformed)
        s->malformed = 0;
    return !r->malformed;
}

void speaker_malformed(speaker *s, sentence_reply *reply)
{
    reply->refused = true;
    if (++s->malformed < MALFORMED_MAX) {
        /* the schema was right when we connected: these may be somebody else's rows */
        reply->class = SQLSTATE_CONNECTION;
        (void)error_set(&reply->error, PGQ_E_CONNECTION_LOST,
                        "the answer to a claim has other columns than a claim");
        return;
    }
    reply->class = SQLSTATE_SCHEMA;
    (void)error_set(&reply->error, PGQ_E_SCHEMA_MISMATCH,
                    "the columns of the queue table have other types than expected");
    error_hint(&reply->error, "run `pgqueuer verify --expect present`");
}

static void read_jobs(speaker *s, pg_reply *heard, sentence_reply *reply, size_t first)
{
    pg_result *r = &heard->result;
    size_t count = result_rows(r) - first;
    job_batch *batch = NULL;

    if (count > s->capacity)
        count = s->capacity; /* cannot happen: the statement has its limit */
    if (!read_rows(s, r, first, count)) {
        speaker_malformed(s, reply);
        return;
    }
    if (count > 0)
        batch = job_batch_new(&s->stock, r, count);
    for (size_t i = 0; batch != NULL && i < count; i++) {
        speaker_fill_job(s, &batch->jobs[i], &batch->result, first + i, 5, &s->rows[i]);
        reply->payload_bytes += (int64_t)batch->jobs[i].payload.len;
        s->rows[i].body = &batch->jobs[i];
    }
    reply->rows = s->rows;
    reply->row_count = count;
}

void speaker_read_claim(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply)
{
    (void)what;
    read_jobs(s, heard, reply, 0);
}

/* The ghosts that live come first, in rows that are no jobs. */
void speaker_read_adopt(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply)
{
    pg_result *r = &heard->result;
    size_t ghosts = 0;

    while (ghosts < result_rows(r) && ghosts < s->capacity && !result_is_null(r, ghosts, 7)) {
        int64_t place = result_int8(r, ghosts, 7) - 1;

        if (place >= 0 && place < (int64_t)what->of.adopt.ghost_count)
            s->places[reply->place_count++] = (uint32_t)place;
        ghosts++;
    }
    reply->places = s->places;
    read_jobs(s, heard, reply, ghosts);
}

void speaker_read_survey(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply)
{
    pg_result *r = &heard->result;

    (void)what;
    for (size_t i = 0; i < result_rows(r) && reply->survey_count < s->entrypoint_count; i++) {
        int64_t place = result_int8(r, i, 0) - 1;
        int32_t kind = result_int4(r, i, 1);

        if (place >= 0 && place < (int64_t)s->entrypoint_count && kind >= SURVEY_HIGHER &&
            kind <= SURVEY_LIMITED)
            s->survey[reply->survey_count++] = (survey_row){(uint32_t)place, (survey_kind)kind};
    }
    reply->survey = s->survey;
}

/* Ordinality counts from one; the engine from zero. */
void speaker_read_places(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply)
{
    size_t count = result_rows(&heard->result);

    (void)what;
    for (size_t i = 0; i < count && i < s->capacity; i++)
        s->places[i] = (uint32_t)(result_int8(&heard->result, i, 0) - 1);
    reply->places = s->places;
    reply->place_count = count < s->capacity ? count : s->capacity;
}

/* The lost claims; a row that was passed over says nothing of its claim. */
void speaker_read_beat(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply)
{
    pg_result *r = &heard->result;

    (void)what;
    for (size_t i = 0; i < result_rows(r) && reply->place_count < s->capacity; i++) {
        if (result_bool(r, i, 1))
            reply->incomplete = true;
        else
            s->places[reply->place_count++] = (uint32_t)(result_int8(r, i, 0) - 1);
    }
    reply->places = s->places;
}

static int64_t read_interval(pg_result *r, int column)
{
    return result_is_null(r, 0, column) ? CLOCK_NEVER : base_max_i64(0, result_int8(r, 0, column));
}

void speaker_read_probe(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply)
{
    pg_result *r = &heard->result;

    (void)s;
    (void)what;
    reply->due = result_bool(r, 0, 0);
    reply->queued = result_bool(r, 0, 1);
    reply->next_due_us = read_interval(r, 2);
    reply->next_stale_us = read_interval(r, 3);
    reply->deferred = result_is_null(r, 0, 4) ? 0 : result_int8(r, 0, 4);
}

void speaker_read_nothing(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply)
{
    (void)s;
    (void)what;
    (void)heard;
    (void)reply;
}
