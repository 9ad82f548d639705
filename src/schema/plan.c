/* The plan of an upgrade: the declared catalogue is walked as the Python release's upgrade walks
 * it, and every difference becomes a step. */
#include "schema/plan.h"
#include "base/error.h"
#include "schema/plan_parts.h"
#include "schema/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *format_text(planning *p, const char *format, va_list args) BASE_PRINTF(2, 0);

static char *format_text(planning *p, const char *format, va_list args)
{
    va_list again;
    char *text;
    int len;

    va_copy(again, args);
    len = vsnprintf(NULL, 0, format, again);
    va_end(again);
    text = len >= 0 ? arena_alloc(&p->s->memory, (size_t)len + 1) : NULL;
    if (text == NULL) {
        p->s->broken = true;
        return NULL;
    }
    (void)vsnprintf(text, (size_t)len + 1, format, args);
    return text;
}

const char *plan_text(planning *p, const char *format, ...)
{
    const char *text;
    va_list args;

    va_start(args, format);
    text = format_text(p, format, args);
    va_end(args);
    return text != NULL ? text : "";
}

void plan_sql(planning *p, const char *format, ...)
{
    buffer sql = BUFFER_INIT;
    const char *text;
    va_list args;

    va_start(args, format);
    text = format_text(p, format, args);
    va_end(args);
    buffer_add_text(&sql, text != NULL ? text : "");
    render_add(p->s, &sql);
}

const char *plan_filled(planning *p, const char *text)
{
    const char *filled = catalog_fill(&p->s->memory, text, p->names->status, "");

    if (filled == NULL)
        p->s->broken = true;
    return filled != NULL ? filled : "";
}

static bool grow(pgq_plan *plan)
{
    size_t capacity = plan->capacity > 0 ? plan->capacity * 2 : 32;
    pgq_plan_step *steps;
    plan_part *parts;

    if (plan->count < plan->capacity)
        return true;
    steps = arena_array(&plan->script.memory, capacity, sizeof(*steps));
    parts = arena_array(&plan->script.memory, capacity, sizeof(*parts));
    if (steps == NULL || parts == NULL)
        return false;
    if (plan->count > 0) {
        memcpy(steps, plan->steps, plan->count * sizeof(*steps));
        memcpy(parts, plan->parts, plan->count * sizeof(*parts));
    }
    plan->steps = steps;
    plan->parts = parts;
    plan->capacity = capacity;
    return true;
}

/* The statements of a step as people and psql want them. */
static const char *step_sql(planning *p, size_t first, size_t count)
{
    buffer text = BUFFER_INIT;
    char *copy = NULL;

    if (count > 1)
        buffer_add_text(&text, "BEGIN;\n");
    for (size_t i = 0; !p->s->broken && i < count; i++)
        buffer_add_format(&text, "%s%s;", i > 0 ? "\n" : "", p->s->sqls[first + i]);
    if (count > 1)
        buffer_add_text(&text, "\nCOMMIT;");
    if (!text.broken)
        copy = arena_strndup(&p->s->memory, text.data != NULL ? text.data : "", text.len);
    buffer_release(&text);
    if (copy == NULL)
        p->s->broken = true;
    return copy;
}

void plan_step_done(planning *p, const char *what, const char *why, const plan_cost *cost)
{
    pgq_plan *plan = p->plan;
    size_t first = p->first, count = p->s->count - p->first;
    const char *sql = step_sql(p, first, count);
    /* the plan outlives what the catalogue and the client call it */
    const char *table = plan_text(p, "%s", cost->table != NULL ? cost->table : "");

    p->first = p->s->count;
    if (p->s->broken || !grow(plan)) {
        p->s->broken = true;
        return;
    }
    plan->steps[plan->count] = (pgq_plan_step){
        .what = what,
        .why = why,
        .sql = sql,
        .table = table,
        .lock = cost->lock != NULL ? cost->lock : "",
        .rewrites = cost->rewrites,
        .rows = cost->table != NULL ? cost->rows : -1,
    };
    plan->parts[plan->count++] = (plan_part){
        .first = first,
        .count = count,
        .patient = cost->patient,
        .leftover = cost->leftover,
    };
}

void plan_note(planning *p, const char *what, const char *why)
{
    plan_step_done(p, what, why, &(plan_cost){.rows = -1});
}

plan_cost plan_cost_of(const planning *p, catalog_table_id id, const char *lock)
{
    return (plan_cost){
        .table = catalog_table_name(p->names, id),
        .lock = lock,
        .rows = p->live->tables[id].rows,
    };
}

static void plan_schema(planning *p)
{
    if (p->live->schema_exists)
        return;
    plan_sql(p, "CREATE SCHEMA IF NOT EXISTS %s", p->q.schema);
    plan_step_done(p, plan_text(p, "create schema %s", p->live->schema), "it is missing",
                   &(plan_cost){.rows = -1});
}

static void plan_type(planning *p)
{
    const char *name = p->names->status;

    if (!p->live->type_exists) {
        p->plan->creates = true;
        render_type(p->s, &p->q);
        plan_step_done(p, plan_text(p, "create type %s", name), "it is missing",
                       &(plan_cost){.rows = -1});
        return;
    }
    /* each alone: a label cannot be used in the transaction that adds it */
    for (size_t i = 0; i < CATALOG_LABEL_COUNT; i++) {
        if (p->live->labels[i])
            continue;
        plan_sql(p, "ALTER TYPE %s ADD VALUE IF NOT EXISTS '%s'", p->q.status,
                 catalog_labels[i].name);
        plan_step_done(p, plan_text(p, "add label %s to type %s", catalog_labels[i].name, name),
                       "it is missing", &(plan_cost){.rows = -1});
    }
}

/* DROP CONCURRENTLY waits for those who use the index, and nobody waits for it. */
static void plan_retired_index(planning *p)
{
    const catalog_index retired = {.suffix = catalog_retired_index_suffix, .table = CATALOG_QUEUE};
    plan_cost cost = plan_cost_of(p, CATALOG_QUEUE, "SHARE UPDATE EXCLUSIVE");
    char *name = catalog_index_name(&p->s->memory, p->names, &retired);
    char *qualified = name != NULL ? names_qualify(&p->s->memory, &p->where, name) : NULL;

    if (!p->live->retired_index_exists)
        return;
    if (qualified == NULL) {
        p->s->broken = true;
        return;
    }
    cost.patient = true;
    plan_sql(p, "DROP INDEX CONCURRENTLY IF EXISTS %s", qualified);
    plan_step_done(p, plan_text(p, "drop index %s", name),
                   "older releases made it; nothing uses it", &cost);
}

static void plan_retired_column(planning *p)
{
    plan_cost cost = plan_cost_of(p, CATALOG_STATISTICS, "ACCESS EXCLUSIVE");

    if (!p->live->retired_column.not_null)
        return;
    plan_sql(p, "ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL", p->q.tables[CATALOG_STATISTICS],
             catalog_retired_column);
    plan_step_done(p, plan_text(p, "let %s.%s be NULL", cost.table, catalog_retired_column),
                   "older releases made the column; nothing fills it", &cost);
}

static void plan_retired_type(planning *p)
{
    if (!p->live->retired_type_exists)
        return;
    plan_sql(p, "DROP TYPE IF EXISTS %s", p->q.retired_type);
    plan_step_done(p, plan_text(p, "drop type %s%s", p->names->prefix, catalog_retired_type_suffix),
                   "older releases made it; nothing uses it", &(plan_cost){.rows = -1});
}

/* One that does its work stays, the Python release's in particular: both upgrades are content with
 * what the other one left. Only with the extras, which are ours, it has to know our setting too. */
static void plan_function(planning *p)
{
    const live_catalog *live = p->live;
    const char *name = p->names->function, *channel, *why = "it is missing";

    channel = names_quote_literal(&p->s->memory, p->names->channel);
    if (channel == NULL) {
        p->s->broken = true;
        return;
    }
    if (live->function_exists && !live->function_returns_trigger) {
        plan_note(p, plan_text(p, "function %s", name),
                  "it does not return trigger: drop or rename it, then upgrade again");
        return;
    }
    if (live->function_exists && !verify_notifies(live->function_body, channel))
        why = "it does not notify the channel";
    else if (live->function_exists && p->options->extras &&
             strstr(live->function_body, CATALOG_EVENTS_SETTING) == NULL)
        why = "the extras are wanted: it cannot leave a backlog's events to its worker";
    else if (live->function_exists)
        return;
    p->plan->creates = true;
    render_function(p->s, &p->q);
    plan_step_done(p, plan_text(p, "create function %s", name), why, &(plan_cost){.rows = -1});
}

static const char *trigger_fault(const planning *p)
{
    const live_trigger *live = &p->live->trigger;

    if (!live->exists)
        return "it is missing";
    if (live->type != CATALOG_TRIGGER_TYPE)
        return "it fires at other events";
    if (live->has_condition)
        return "it has a WHEN condition";
    if (!live->fires)
        return "it is disabled";
    if (live->function == NULL || !base_streq(live->function, p->names->function))
        return "it calls another function";
    return NULL;
}

static void plan_trigger(planning *p)
{
    plan_cost cost = plan_cost_of(p, CATALOG_QUEUE, "SHARE ROW EXCLUSIVE");
    const char *why = trigger_fault(p);

    if (why == NULL)
        return;
    if (!p->live->tables[CATALOG_QUEUE].exists)
        cost = (plan_cost){.rows = -1};
    render_trigger(p->s, &p->q, true);
    plan_step_done(p, plan_text(p, "create trigger %s", p->names->trigger), why, &cost);
}

static void plan_extra_key(planning *p, size_t at, const char *table)
{
    const char *columns = catalog_extras[at].primary_key, *live = p->live->extras[at].primary_key;

    if (columns == NULL || (live != NULL && base_streq(live, columns)))
        return;
    if (live != NULL) {
        plan_refuse(p, "the primary key of %s is (%s) and not (%s)", table, live, columns);
        return;
    }
    plan_sql(p, "ALTER TABLE %s ADD PRIMARY KEY (%s)", p->q.extras[at], columns);
    plan_step_done(p, plan_text(p, "add the primary key of %s", table), "it is missing",
                   &(plan_cost){.table = table, .lock = "ACCESS EXCLUSIVE", .rows = -1});
}

static const char *routine_fault(planning *p, size_t at)
{
    unsigned faults = verify_routine(&p->s->memory, p->names, p->where.schema,
                                     &catalog_routines[at], &p->live->routines[at], &p->s->broken);

    if ((faults & ROUTINE_MISSING) != 0)
        return "it is missing";
    if ((faults & ROUTINE_OTHER) != 0)
        return "it is not the one of this release";
    if ((faults & ROUTINE_RIGHTS) != 0)
        return "it has other rights";
    return faults != 0 ? "it follows the caller's search_path" : NULL;
}

static void plan_routine(planning *p, size_t at)
{
    const char *why = routine_fault(p, at);

    if (why == NULL)
        return;
    if (render_routine(p->s, p->names, &p->q, at, NULL) != PGQ_OK)
        p->s->broken = true;
    plan_step_done(
        p, plan_text(p, "create function %s.%s", p->names->extras, catalog_routines[at].name), why,
        &(plan_cost){.rows = -1});
}

static void plan_extras(planning *p)
{
    const live_catalog *live = p->live;

    if (!p->options->extras && !live->extras_schema_exists)
        return;
    if (!live->extras_schema_exists) {
        plan_sql(p, "CREATE SCHEMA IF NOT EXISTS %s", p->q.extras_schema);
        plan_step_done(p, plan_text(p, "create schema %s", p->names->extras),
                       "the extras are wanted", &(plan_cost){.rows = -1});
    }
    for (size_t i = 0; i < CATALOG_EXTRA_COUNT; i++) {
        const catalog_extra *declared = &catalog_extras[i];
        const char *name = plan_text(p, "%s.%s", p->names->extras, declared->name);

        if (live->extras[i].is_table) {
            plan_extra_columns(p, i, name);
            plan_extra_key(p, i, name);
        } else if (live->extras[i].exists) {
            plan_refuse(p, "%s is not a table", name);
        } else {
            render_extra(p->s, &p->q, i, declared->unlogged[p->options->durability]);
            plan_step_done(p, plan_text(p, "create table %s", name), "it is missing",
                           &(plan_cost){.rows = -1});
        }
    }
    for (size_t i = 0; i < CATALOG_ROUTINE_COUNT; i++)
        plan_routine(p, i);
}

void plan_refuse(planning *p, const char *format, ...)
{
    const char *text;
    va_list args;

    va_start(args, format);
    text = format_text(p, format, args);
    va_end(args);
    if (p->refused || text == NULL)
        return; /* the first one is enough */
    p->refused = true;
    (void)error_set(p->err, PGQ_E_SCHEMA_MISMATCH, "%s", text);
    error_hint(p->err, "alter it by hand, then run the upgrade again");
}

/* In the order of the Python release. */
static void plan_all(planning *p)
{
    plan_schema(p);
    plan_type(p);
    for (size_t i = 0; i < CATALOG_TABLE_COUNT; i++)
        plan_table(p, catalog_tables_by_name[i]);
    plan_retired_index(p);
    plan_retired_column(p);
    for (size_t i = 0; i < CATALOG_INDEX_COUNT; i++)
        plan_index(p, i);
    plan_function(p);
    plan_trigger(p);
    plan_retired_type(p);
    plan_extras(p);
}

pgq_code plan_make(const live_catalog *live, const names *n, const pgq_upgrade_options *options,
                   pgq_plan **ret_plan, pgq_error *err)
{
    pgq_plan *plan = calloc(1, sizeof(*plan));
    planning p = {.live = live, .names = n, .where = *n, .options = options, .err = err};
    pgq_code code;

    if (plan == NULL)
        return error_nomem(err);
    p.plan = plan;
    p.s = &plan->script;
    /* All that is looked at is in one schema, and other schemas of the search_path may hold objects
     * of the same names: what is sent says which ones are meant. */
    p.where.schema = live->schema;
    code = render_begin(p.s, &p.where, &p.q, err);
    if (code == PGQ_OK)
        plan_all(&p);
    if (code == PGQ_OK && p.refused)
        code = PGQ_E_SCHEMA_MISMATCH;
    else if (code == PGQ_OK && p.s->broken)
        code = error_nomem(err);
    if (code != PGQ_OK) {
        (void)pgq_plan_free(plan);
        return code;
    }
    *ret_plan = plan;
    return PGQ_OK;
}

size_t pgq_plan_count(const pgq_plan *plan)
{
    return plan->count;
}

const pgq_plan_step *pgq_plan_step_at(const pgq_plan *plan, size_t at)
{
    return at < plan->count ? &plan->steps[at] : NULL;
}

pgq_plan *pgq_plan_free(pgq_plan *plan)
{
    if (plan == NULL)
        return NULL;
    script_release(&plan->script);
    free(plan);
    return NULL;
}
