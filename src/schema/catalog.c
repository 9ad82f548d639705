#include "schema/catalog.h"
#include "base/buffer.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>

enum { NAME_BYTES_MAX = 63 };

#define COLUMN(name, type, default_text, not_null, demanded)        \
    {                                                               \
        name, type, default_text, CATALOG_PLAIN, not_null, demanded \
    }
#define ID(kind)                                \
    {                                           \
        "id", "bigint", NULL, kind, true, false \
    }
#define TIME(name, demanded) COLUMN(name, "timestamp with time zone", "now()", true, demanded)

static const catalog_column queue_columns[] = {
    ID(CATALOG_SERIAL),
    COLUMN("priority", "integer", NULL, true, false),
    COLUMN("queue_manager_id", "uuid", NULL, false, true),
    TIME("created", false),
    TIME("updated", true),
    TIME("heartbeat", true),
    TIME("execute_after", true),
    COLUMN("status", "{status}", NULL, true, false),
    COLUMN("entrypoint", "text", NULL, true, false),
    COLUMN("dedupe_key", "text", NULL, false, false),
    COLUMN("payload", "bytea", NULL, false, false),
    COLUMN("headers", "jsonb", NULL, false, true),
    COLUMN("attempts", "integer", "0", true, true),
    COLUMN("slot", "bigint", NULL, false, true),
};

static const catalog_column log_columns[] = {
    ID(CATALOG_IDENTITY),
    TIME("created", false),
    COLUMN("job_id", "bigint", NULL, true, false),
    COLUMN("status", "{status}", NULL, true, false),
    COLUMN("priority", "integer", NULL, true, false),
    COLUMN("entrypoint", "text", NULL, true, false),
    COLUMN("traceback", "jsonb", NULL, false, true),
    COLUMN("aggregated", "boolean", "false", false, false),
};

static const catalog_column statistics_columns[] = {
    ID(CATALOG_SERIAL),
    COLUMN("created", "timestamp with time zone", "date_trunc('sec'::text, now())", true, false),
    COLUMN("count", "bigint", NULL, true, false),
    COLUMN("priority", "integer", NULL, true, false),
    COLUMN("status", "{status}", NULL, true, false),
    COLUMN("entrypoint", "text", NULL, true, false),
};

static const catalog_column schedules_columns[] = {
    ID(CATALOG_SERIAL),
    COLUMN("expression", "text", NULL, true, false),
    COLUMN("entrypoint", "text", NULL, true, false),
    TIME("heartbeat", false),
    TIME("created", false),
    TIME("updated", false),
    TIME("next_run", false),
    COLUMN("last_run", "timestamp with time zone", NULL, false, false),
    COLUMN("status", "{status}", "'queued'::{status}", false, false),
};

/* For tables whose rows come and go: vacuum early, leave room for updates in place. */
static const catalog_setting busy_settings[] = {
    {"autovacuum_vacuum_scale_factor", "0.01"},
    {"autovacuum_vacuum_threshold", "1000"},
    {"autovacuum_analyze_scale_factor", "0.02"},
    {"autovacuum_analyze_threshold", "500"},
    {"autovacuum_vacuum_cost_limit", "10000"},
    {"autovacuum_vacuum_cost_delay", "0"},
    {"fillfactor", "70"},
};

/* For tables that only grow: nearly no dead rows. */
static const catalog_setting growing_settings[] = {
    {"autovacuum_vacuum_scale_factor", "0.95"},
    {"autovacuum_vacuum_threshold", "1000000"},
    {"autovacuum_analyze_scale_factor", "0.05"},
    {"autovacuum_analyze_threshold", "10000"},
};

#define TABLE(member, columns, unique, settings, balanced, demanded)                   \
    {                                                                                  \
        offsetof(names, member), columns, BASE_COUNT(columns), "id", unique, settings, \
            BASE_COUNT(settings), {false, balanced, true}, demanded                    \
    }

/* schedules is demanded by a worker that schedules, which ours and the Python release's do. */
const catalog_table catalog_tables[CATALOG_TABLE_COUNT] = {
    [CATALOG_QUEUE] = TABLE(queue, queue_columns, NULL, busy_settings, false, true),
    [CATALOG_LOG] = TABLE(log, log_columns, NULL, growing_settings, true, true),
    [CATALOG_STATISTICS] =
        TABLE(statistics, statistics_columns, NULL, growing_settings, true, true),
    [CATALOG_SCHEDULES] =
        TABLE(schedules, schedules_columns, "expression, entrypoint", busy_settings, false, true),
};

/* What settles count, until it is folded into the statistics: only inserted into and deleted from.
 * It has the types of there, but for the status; several installations may share it. */
static const catalog_column counts_columns[] = {
    COLUMN("statistics", "regclass", NULL, true, false),
    COLUMN("second", "timestamp with time zone", NULL, true, false),
    COLUMN("entrypoint", "text", NULL, true, false),
    COLUMN("priority", "integer", NULL, true, false),
    COLUMN("status", "text", NULL, true, false),
    COLUMN("count", "bigint", NULL, true, false),
};

static const catalog_setting counts_settings[] = {
    {"autovacuum_vacuum_scale_factor", "0.01"}, {"autovacuum_vacuum_threshold", "1000"},
    {"autovacuum_analyze_scale_factor", "0"},   {"autovacuum_analyze_threshold", "100000"},
    {"autovacuum_vacuum_cost_delay", "0"},
};

/* How far an import has come, committed with each of its chunks. `digest` is of all bytes before
 * `position`; `settings` are the options that shape the jobs. */
static const catalog_column imports_columns[] = {
    COLUMN("queue", "regclass", NULL, true, false),
    COLUMN("name", "text", NULL, true, false),
    COLUMN("source", "text", NULL, false, false),
    COLUMN("settings", "text", NULL, true, false),
    COLUMN("version", "bigint", NULL, true, false),
    COLUMN("finished", "boolean", NULL, true, false),
    COLUMN("position", "bigint", NULL, true, false),
    COLUMN("digest", "bigint", NULL, true, false),
    COLUMN("lines", "bigint", NULL, true, false),
    COLUMN("jobs", "bigint", NULL, true, false),
    COLUMN("skipped", "bigint", NULL, true, false),
    COLUMN("rejected", "bigint", NULL, true, false),
    COLUMN("rejects_bytes", "bigint", NULL, true, false),
    TIME("created", false),
    TIME("updated", false),
};

/* A row is updated with each chunk. */
static const catalog_setting imports_settings[] = {
    {"fillfactor", "50"},
    {"autovacuum_vacuum_threshold", "1000"},
};

/* It has no rows. Its sequence tells workers at once what others claim; nothing else in PostgreSQL
 * is seen before a transaction ends. It is the table's, so that it comes and goes with it. What it
 * tells is soon old: a crash may forget it. */
static const catalog_column claims_columns[] = {
    {STATEMENT_FRONT_COLUMN, "bigint", NULL, CATALOG_SERIAL, true, false},
};

/* imports is as durable as the queue: a crash that empties that one forgets that it was filled. */
const catalog_extra catalog_extras[CATALOG_EXTRA_COUNT] = {
    [CATALOG_COUNTS] = {STATEMENT_COUNTS_TABLE,
                        counts_columns,
                        BASE_COUNT(counts_columns),
                        NULL,
                        NULL,
                        counts_settings,
                        BASE_COUNT(counts_settings),
                        {false, true, true}},
    [CATALOG_IMPORTS] = {STATEMENT_IMPORTS_TABLE,
                         imports_columns,
                         BASE_COUNT(imports_columns),
                         "queue, name",
                         NULL,
                         imports_settings,
                         BASE_COUNT(imports_settings),
                         {false, false, true}},
    [CATALOG_CLAIMS] = {STATEMENT_CLAIMS_TABLE,
                        claims_columns,
                        BASE_COUNT(claims_columns),
                        NULL,
                        STATEMENT_FRONT_SEQUENCE,
                        NULL,
                        0,
                        {true, true, true}},
};

const catalog_routine catalog_routines[CATALOG_ROUTINE_COUNT] = {
    {"enqueue_arrays",
     "text[], bytea[], integer[], interval[], timestamp with time zone[], text[], jsonb[], text, "
     "text",
     STATEMENT_EXTRAS_ENQUEUE_ARRAYS, true},
    {"enqueue",
     "text, text, integer, interval, timestamp with time zone, text, jsonb, text, bytea, text",
     STATEMENT_EXTRAS_ENQUEUE, false},
    {"enqueue_many", "jsonb, text, text", STATEMENT_EXTRAS_ENQUEUE_MANY, false},
};

const catalog_table_id catalog_tables_by_name[CATALOG_TABLE_COUNT] = {
    CATALOG_QUEUE, CATALOG_LOG, CATALOG_SCHEDULES, CATALOG_STATISTICS};

const catalog_label catalog_labels[CATALOG_LABEL_COUNT] = {
    {"queued", false},  {"picked", false},  {"successful", false}, {"exception", false},
    {"canceled", true}, {"deleted", false}, {"failed", true},
};

#define QUEUED "(status = 'queued'::{status})"
#define PICKED "(status = 'picked'::{status})"
#define LIVE "(status = ANY (ARRAY['queued'::{status}, 'picked'::{status}]))"
#define BUCKET "date_trunc('sec'::text, timezone('UTC'::text, created))"

const catalog_index catalog_indexes[CATALOG_INDEX_COUNT] = {
    {"_ep_ea_idx", "btree (entrypoint, execute_after) WHERE " QUEUED, CATALOG_QUEUE, false, false},
    {"_ep_prio_id_idx", "btree (entrypoint, priority DESC, id) WHERE " QUEUED, CATALOG_QUEUE, false,
     false},
    {"_created", "btree (created)", CATALOG_LOG, false, false},
    {"_job_id_status", "btree (job_id, created DESC)", CATALOG_LOG, false, true},
    {"_not_aggregated", "btree ((1)) WHERE (NOT aggregated)", CATALOG_LOG, false, false},
    {"_status", "btree (status)", CATALOG_LOG, false, false},
    {"_picked_heartbeat_idx", "btree (heartbeat) WHERE " PICKED, CATALOG_QUEUE, false, false},
    {"_picked_slot_idx", "btree (entrypoint, slot) WHERE (" PICKED " AND (slot IS NOT NULL))",
     CATALOG_QUEUE, true, true},
    {"_priority_id_id1_idx", "btree (priority, id DESC) INCLUDE (id) WHERE " QUEUED, CATALOG_QUEUE,
     false, false},
    {"_queue_manager_id_idx", "btree (queue_manager_id) WHERE (queue_manager_id IS NOT NULL)",
     CATALOG_QUEUE, false, false},
    {"_unique_count", "btree (priority, " BUCKET ", status, entrypoint)", CATALOG_STATISTICS, true,
     false},
    {"_unique_dedupe_key", "btree (dedupe_key) WHERE (" LIVE " AND (dedupe_key IS NOT NULL))",
     CATALOG_QUEUE, true, false},
    {"_updated_id_id1_idx", "btree (updated, id DESC) INCLUDE (id) WHERE " PICKED, CATALOG_QUEUE,
     false, false},
};

const char catalog_function_body[] =
    "\nBEGIN\n"
    "    -- own text: one event a statement; UPDATE is silent in a statement trigger; a worker "
    "with\n"
    "    -- a backlog sends the events of its deletes itself, later\n"
    "    IF TG_OP <> 'UPDATE' AND (TG_OP <> 'DELETE' OR\n"
    "            current_setting('" CATALOG_EVENTS_SETTING
    "', true) IS DISTINCT FROM 'later') THEN\n"
    "        PERFORM pg_notify({channel}, json_build_object('channel', {channel}, 'operation', "
    "lower(TG_OP),\n"
    "            'sent_at', now(), 'table', TG_TABLE_NAME, 'type', "
    "'table_changed_event')::text);\n"
    "    END IF;\n"
    "    RETURN NULL;\n"
    "END;\n";

const char catalog_retired_index_suffix[] = "_heartbeat_id_id1_idx";
const char catalog_retired_type_suffix[] = "pgqueuer_statistics_status";
const char catalog_retired_column[] = "time_in_queue";

const char *catalog_table_name(const names *n, catalog_table_id table)
{
    const char *name;

    memcpy(&name, (const char *)n + catalog_tables[table].name_at, sizeof(name));
    return name;
}

static char *concat(arena *a, const char *first, const char *second)
{
    size_t size = strlen(first) + strlen(second) + 1;
    char *text = arena_alloc(a, size);

    if (text != NULL)
        (void)snprintf(text, size, "%s%s", first, second);
    return text;
}

char *catalog_index_name(arena *a, const names *n, const catalog_index *index)
{
    return concat(a, catalog_table_name(n, index->table), index->suffix);
}

char *catalog_replacement_name(arena *a, const names *n, const catalog_index *index)
{
    enum { SIZE = sizeof("pgq_rebuild_01234567") };
    const char *name = catalog_index_name(a, n, index);
    char *text = name != NULL ? arena_alloc(a, SIZE) : NULL;

    if (text != NULL)
        (void)snprintf(text, SIZE, "pgq_rebuild_%08" PRIx32, catalog_crc32(name));
    return text;
}

char *catalog_retired_type(arena *a, const names *n)
{
    return concat(a, n->prefix, catalog_retired_type_suffix);
}

/* The value of the placeholder at `text`, and its length; NULL when there is none. */
static const char *placeholder_at(const char *text, const char *status, const char *channel,
                                  size_t *ret_len)
{
    const struct {
        const char *mark, *value;
    } rows[] = {{"{status}", status}, {"{channel}", channel}};

    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        *ret_len = strlen(rows[i].mark);
        if (strncmp(text, rows[i].mark, *ret_len) == 0)
            return rows[i].value;
    }
    return NULL;
}

char *catalog_fill(arena *a, const char *text, const char *status, const char *channel)
{
    buffer out = BUFFER_INIT;
    char *filled = NULL;

    while (*text != '\0') {
        size_t len;
        const char *value = placeholder_at(text, status, channel, &len);

        if (value == NULL) {
            buffer_add_char(&out, *text++);
            continue;
        }
        buffer_add_text(&out, value);
        text += len;
    }
    if (!out.broken)
        filled = arena_strndup(a, out.data != NULL ? out.data : "", out.len);
    buffer_release(&out);
    return filled;
}

/* What stands between the two marks of the body. */
static const char *body_of(arena *a, const char *sql)
{
    static const char mark[] = "$body$";
    const char *begin = strstr(sql, mark), *end;

    if (begin == NULL)
        return NULL;
    begin += sizeof(mark) - 1;
    end = strstr(begin, mark);
    return end != NULL ? arena_strndup(a, begin, (size_t)(end - begin)) : NULL;
}

pgq_code catalog_expand_routine(arena *a, const names *n, const catalog_routine *routine,
                                const char *home, const char **ret_sql, const char **ret_body,
                                pgq_error *err)
{
    names there = *n;
    statement made;
    pgq_code code;

    there.schema = home;
    code = statement_expand(&there, routine->statement, a, &made, err);
    if (code != PGQ_OK)
        return code;
    *ret_sql = made.text;
    *ret_body = body_of(a, made.text);
    return *ret_body != NULL ? PGQ_OK : error_nomem(err);
}

pgq_code catalog_check_names(const names *n, pgq_error *err)
{
    for (size_t i = 0; i < CATALOG_INDEX_COUNT; i++) {
        const catalog_index *index = &catalog_indexes[i];
        const char *table = catalog_table_name(n, index->table);

        if (strlen(table) + strlen(index->suffix) <= NAME_BYTES_MAX)
            continue;
        (void)error_set(err, PGQ_E_LIMIT, "the name of the index %s%s is longer than %d bytes",
                        table, index->suffix, NAME_BYTES_MAX);
        error_hint(err, "use a shorter prefix or table name");
        return PGQ_E_LIMIT;
    }
    return PGQ_OK;
}

pgq_code catalog_check_extras(const names *n, pgq_error *err)
{
    if (strlen(n->extras) <= NAME_BYTES_MAX)
        return PGQ_OK;
    (void)error_set(err, PGQ_E_LIMIT, "the name of the extras' schema %s is longer than %d bytes",
                    n->extras, NAME_BYTES_MAX);
    error_hint(err, "use a shorter prefix or schema");
    return PGQ_E_LIMIT;
}

uint32_t catalog_crc32(const char *text)
{
    uint32_t crc = UINT32_MAX;

    for (; *text != '\0'; text++) {
        crc ^= (unsigned char)*text;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1) != 0 ? crc >> 1 ^ UINT32_C(0xEDB88320) : crc >> 1;
    }
    return ~crc;
}

pgq_code catalog_lock_key(const names *n, int64_t *ret_key, pgq_error *err)
{
    buffer name = BUFFER_INIT;
    pgq_code code = PGQ_OK;

    if (n->schema != NULL)
        buffer_add_format(&name, "%s.", n->schema);
    buffer_add_text(&name, n->queue);
    if (name.broken)
        code = error_nomem(err);
    else
        *ret_key = catalog_crc32(name.data);
    buffer_release(&name);
    return code;
}
