#include "schema/verify.h"

#include <stdio.h>

/* The order in which the Python release names the tables. */
static const catalog_table_id python_order[CATALOG_TABLE_COUNT] = {
    CATALOG_QUEUE, CATALOG_STATISTICS, CATALOG_SCHEDULES, CATALOG_LOG};

typedef struct comparison {
    const live_catalog *live;
    const names *names;
    buffer *report;
    arena memory; /* of declared texts with their names filled in */
    size_t lines;
} comparison;

#define LINE(c, ...)                                 \
    do {                                             \
        buffer_add_format((c)->report, __VA_ARGS__); \
        buffer_add_char((c)->report, '\n');          \
        (c)->lines++;                                \
    } while (0)

/* A declared text as the live one is normalised; NULL without memory, which breaks the report. */
static const char *declared_text(comparison *c, const char *text)
{
    const char *filled = catalog_fill(&c->memory, text, c->names->status, "");

    if (filled == NULL)
        c->report->broken = true;
    return filled;
}

/* What the Python release looks for: the objects that are there when they should not, or the other
 * way round. */
static void check_existence(comparison *c, bool expected)
{
    const char *what = expected ? "missing" : "unexpected";

    for (size_t i = 0; i < CATALOG_TABLE_COUNT; i++) {
        if (c->live->tables[python_order[i]].exists != expected)
            LINE(c, "%s table '%s'", what, catalog_table_name(c->names, python_order[i]));
    }
    if (c->live->function_exists != expected)
        LINE(c, "%s function '%s'", what, c->names->function);
    if (c->live->trigger.exists != expected)
        LINE(c, "%s trigger '%s'", what, c->names->trigger);
}

static void check_type(comparison *c)
{
    if (!c->live->type_exists) {
        LINE(c, "missing type '%s'", c->names->status);
        return;
    }
    for (size_t i = 0; i < CATALOG_LABEL_COUNT; i++) {
        if (!c->live->labels[i])
            LINE(c, "missing label '%s' of type '%s'", catalog_labels[i].name, c->names->status);
    }
}

bool verify_default(const catalog_column *declared, const live_column *live, const char *wanted)
{
    const char *found = live->default_text;

    if (declared->kind != CATALOG_PLAIN)
        return live->is_identity || (found != NULL && strncmp(found, "nextval(", 8) == 0);
    if (wanted == NULL || found == NULL)
        return wanted == found;
    return base_streq(wanted, found);
}

static void check_default(comparison *c, const char *table, const catalog_column *declared,
                          const live_column *live)
{
    const char *found = live->default_text, *wanted = NULL;

    if (declared->default_text != NULL) {
        wanted = declared_text(c, declared->default_text);
        if (wanted == NULL)
            return;
    }
    if (verify_default(declared, live, wanted))
        return;
    if (declared->kind != CATALOG_PLAIN)
        wanted = "a sequence";
    LINE(c, "column '%s.%s' has the default %s instead of %s", table, declared->name,
         found != NULL ? found : "none", wanted != NULL ? wanted : "none");
}

static void check_column(comparison *c, const char *table, const catalog_column *declared,
                         const live_column *live)
{
    const char *type;

    if (!live->exists) {
        LINE(c, "missing column '%s.%s'", table, declared->name);
        return;
    }
    type = declared_text(c, declared->type);
    if (type != NULL && live->type != NULL && !base_streq(type, live->type))
        LINE(c, "column '%s.%s' is of type %s instead of %s", table, declared->name, live->type,
             type);
    if (declared->not_null && !live->not_null)
        LINE(c, "column '%s.%s' accepts NULL", table, declared->name);
    if (!declared->not_null && live->not_null)
        LINE(c, "column '%s.%s' does not accept NULL", table, declared->name);
    check_default(c, table, declared, live);
}

static void check_table(comparison *c, catalog_table_id id)
{
    const catalog_table *declared = &catalog_tables[id];
    const live_table *live = &c->live->tables[id];
    const char *name = catalog_table_name(c->names, id);

    if (!live->exists)
        return;
    if (!live->is_table) {
        LINE(c, "relation '%s' is not a table", name);
        return;
    }
    for (size_t i = 0; i < declared->column_count; i++)
        check_column(c, name, &declared->columns[i], &live->columns[i]);
    if (id == CATALOG_STATISTICS && c->live->retired_column.not_null)
        LINE(c, "retired column '%s.%s' does not accept NULL", name, catalog_retired_column);
    if (live->primary_key == NULL || !base_streq(live->primary_key, declared->primary_key))
        LINE(c, "missing primary key (%s) of table '%s'", declared->primary_key, name);
    if (declared->unique != NULL && !live->has_unique)
        LINE(c, "missing unique constraint (%s) of table '%s'", declared->unique, name);
    if (live->sequence_type != NULL && !base_streq(live->sequence_type, "bigint"))
        LINE(c, "sequence '%s' is of type %s instead of bigint", live->sequence,
             live->sequence_type);
}

/* Releases up to 1.3 spelled the bucket another way. The server keeps the spellings apart in text,
 * yet an ON CONFLICT finds either. */
static bool same_definition(const char *wanted, const char *found)
{
    static const char old[] = "(created AT TIME ZONE 'UTC'::text)",
                      new[] = "timezone('UTC'::text, created)";
    const char *at = strstr(found, old);
    size_t before;

    if (at == NULL)
        return base_streq(wanted, found);
    before = (size_t)(at - found);
    return strncmp(wanted, found, before) == 0 &&
           strncmp(wanted + before, new, sizeof(new) - 1) == 0 &&
           base_streq(wanted + before + sizeof(new) - 1, at + sizeof(old) - 1);
}

static void check_index(comparison *c, const catalog_index *declared, const live_index *live)
{
    const char *table = catalog_table_name(c->names, declared->table), *wanted;
    const char *name = catalog_index_name(&c->memory, c->names, declared);

    wanted = declared_text(c, declared->definition);
    if (name == NULL || wanted == NULL) {
        c->report->broken = true;
        return;
    }
    if (!c->live->tables[declared->table].is_table)
        return; /* it was told already */
    if (!live->exists || live->table == NULL || live->definition == NULL) {
        LINE(c, "missing index '%s'", name);
        return;
    }
    if (!base_streq(live->table, table))
        LINE(c, "index '%s' is on table '%s' instead of '%s'", name, live->table, table);
    if (live->unique != declared->unique)
        LINE(c, "index '%s' is %s", name, live->unique ? "unique" : "not unique");
    if (!same_definition(wanted, live->definition))
        LINE(c, "index '%s' is %s instead of %s", name, live->definition, wanted);
    if (!live->valid)
        LINE(c, "index '%s' is invalid", name);
}

bool verify_notifies(const char *body, const char *channel)
{
    return strstr(body, "pg_notify") != NULL && strstr(body, channel) != NULL;
}

static void check_function(comparison *c)
{
    const live_catalog *live = c->live;
    const char *channel;

    if (!live->function_exists)
        return;
    channel = names_quote_literal(&c->memory, c->names->channel);
    if (channel == NULL)
        c->report->broken = true;
    else if (!live->function_returns_trigger)
        LINE(c, "function '%s' does not return trigger", c->names->function);
    else if (!verify_notifies(live->function_body, channel))
        LINE(c, "function '%s' does not notify channel '%s'", c->names->function,
             c->names->channel);
}

static void check_trigger(comparison *c)
{
    const live_trigger *live = &c->live->trigger;
    const char *name = c->names->trigger;

    if (!live->exists)
        return;
    if (live->type != CATALOG_TRIGGER_TYPE)
        LINE(c, "trigger '%s' is not " CATALOG_TRIGGER_EVENTS " FOR EACH STATEMENT", name);
    if (live->has_condition)
        LINE(c, "trigger '%s' has a WHEN condition", name);
    if (!live->fires)
        LINE(c, "trigger '%s' is disabled", name);
    if (live->function != NULL && !base_streq(live->function, c->names->function))
        LINE(c, "trigger '%s' calls function '%s' instead of '%s'", name, live->function,
             c->names->function);
}

/* A body of another release would write other rows, or be wrong where ours was mended. */
unsigned verify_routine(arena *a, const names *n, const char *schema,
                        const catalog_routine *declared, const live_routine *live, bool *broken)
{
    const char *sql, *body;

    if (!live->exists)
        return ROUTINE_MISSING;
    if (catalog_expand_routine(a, n, declared, schema, &sql, &body, NULL) != PGQ_OK) {
        *broken = true;
        return 0;
    }
    return (base_streq(body, live->body) ? 0u : ROUTINE_OTHER) |
           (live->definer == declared->definer ? 0u : ROUTINE_RIGHTS) |
           (live->pinned ? 0u : ROUTINE_UNPINNED);
}

static void check_routine(comparison *c, const catalog_routine *declared, const live_routine *live)
{
    const char *home = c->names->schema != NULL ? c->names->schema : c->live->schema;
    const char *extras = c->names->extras;
    unsigned faults =
        verify_routine(&c->memory, c->names, home, declared, live, &c->report->broken);

    if ((faults & ROUTINE_MISSING) != 0)
        LINE(c, "missing function '%s.%s'", extras, declared->name);
    if ((faults & ROUTINE_OTHER) != 0)
        LINE(c, "function '%s.%s' is not the one of this release", extras, declared->name);
    if ((faults & ROUTINE_RIGHTS) != 0)
        LINE(c, "function '%s.%s' has the rights of its %s", extras, declared->name,
             live->definer ? "owner" : "caller");
    if ((faults & ROUTINE_UNPINNED) != 0)
        LINE(c, "function '%s.%s' follows the caller's search_path", extras, declared->name);
}

/* It is used by its name, so another one that the column takes its default from is not enough. */
static void check_extra_sequence(comparison *c, const char *table, const catalog_extra *declared,
                                 const live_extra *live)
{
    const char *extras = c->names->extras, *type = live->sequence_type;

    if (declared->sequence == NULL || !live->columns[0].exists)
        return;
    if (type == NULL)
        LINE(c, "missing sequence '%s.%s' of column '%s.%s'", extras, declared->sequence, table,
             declared->columns[0].name);
    else if (!base_streq(type, "bigint"))
        LINE(c, "sequence '%s.%s' is of type %s instead of bigint", extras, declared->sequence,
             type);
}

/* They may be missing as a whole, but not in part. */
static void check_extras(comparison *c)
{
    for (size_t i = 0; c->live->extras_schema_exists && i < CATALOG_EXTRA_COUNT; i++) {
        const catalog_extra *declared = &catalog_extras[i];
        const live_extra *live = &c->live->extras[i];
        char name[2 * 64];

        (void)snprintf(name, sizeof(name), "%.63s.%.63s", c->names->extras, declared->name);
        if (!live->exists)
            LINE(c, "missing table '%s'", name);
        else if (!live->is_table)
            LINE(c, "relation '%s' is not a table", name);
        for (size_t at = 0; live->is_table && at < declared->column_count; at++)
            check_column(c, name, &declared->columns[at], &live->columns[at]);
        if (live->is_table && declared->primary_key != NULL &&
            (live->primary_key == NULL || !base_streq(live->primary_key, declared->primary_key)))
            LINE(c, "missing primary key (%s) of table '%s'", declared->primary_key, name);
        if (live->is_table)
            check_extra_sequence(c, name, declared, live);
    }
    for (size_t i = 0; c->live->extras_schema_exists && i < CATALOG_ROUTINE_COUNT; i++)
        check_routine(c, &catalog_routines[i], &c->live->routines[i]);
}

size_t verify_present(const live_catalog *live, const names *n, buffer *report)
{
    comparison c = {.live = live, .names = n, .report = report, .memory = ARENA_INIT};

    check_existence(&c, true);
    if (!live->schema_exists)
        LINE(&c, "missing schema '%s'", live->schema);
    check_type(&c);
    for (catalog_table_id t = 0; t < CATALOG_TABLE_COUNT; t++)
        check_table(&c, t);
    for (size_t i = 0; i < CATALOG_INDEX_COUNT; i++)
        check_index(&c, &catalog_indexes[i], &live->indexes[i]);
    check_function(&c);
    check_trigger(&c);
    check_extras(&c);
    arena_release(&c.memory);
    return c.lines;
}

size_t verify_absent(const live_catalog *live, const names *n, buffer *report)
{
    comparison c = {.live = live, .names = n, .report = report, .memory = ARENA_INIT};

    check_existence(&c, false);
    if (live->type_exists)
        LINE(&c, "unexpected type '%s'", n->status);
    if (live->retired_type_exists)
        LINE(&c, "unexpected type '%s%s'", n->prefix, catalog_retired_type_suffix);
    for (size_t i = 0; i < CATALOG_EXTRA_COUNT; i++) {
        if (live->extras[i].exists)
            LINE(&c, "unexpected table '%s.%s'", n->extras, catalog_extras[i].name);
    }
    for (size_t i = 0; i < CATALOG_ROUTINE_COUNT; i++) {
        if (live->routines[i].exists)
            LINE(&c, "unexpected function '%s.%s'", n->extras, catalog_routines[i].name);
    }
    arena_release(&c.memory);
    return c.lines;
}
