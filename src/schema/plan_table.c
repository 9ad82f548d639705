/* What becomes of a table: it is made, or its columns, keys and sequence are completed. Every
 * change is a statement of its own, so that its lock is held as short as possible; but columns are
 * added and retyped at once. A driver that prepares `RETURNING *` copes with one such change:
 * asyncpg prepares its statement anew and tries once more, and a second change at that moment ends
 * the worker. */
#include "schema/plan_parts.h"
#include "schema/verify.h"

/* A table that is changed: one of the contract's, or one of the extras. */
typedef struct subject {
    const char *sql, *name;
    plan_cost cost;
    bool sequence; /* a step of its own sees to the sequence */
} subject;

/* Changes of a table's columns that become one step. */
typedef struct shape {
    const char *what, *why;
    size_t count;
    bool rewrites;
} shape;

static void change_shape(planning *p, shape *all, const char *what, const char *why, bool rewrites)
{
    all->what = all->count > 0 ? plan_text(p, "%s, %s", all->what, what) : what;
    all->why = all->count > 0
                   ? "an older release had other columns; at once, for the workers that go on"
                   : why;
    all->rewrites = all->rewrites || rewrites;
    all->count++;
}

static void add_column(planning *p, const subject *of, const catalog_column *declared, shape *all)
{
    buffer sql = BUFFER_INIT;

    buffer_add_format(&sql, "ALTER TABLE %s ADD COLUMN IF NOT EXISTS ", of->sql);
    render_column(p->s, &sql, declared, &p->q, "");
    render_add(p->s, &sql);
    /* defaults are constant or computed once, so nothing is rewritten; but ids are given one by one
     */
    change_shape(p, all, plan_text(p, "add column %s.%s", of->name, declared->name),
                 "it is missing", declared->kind != CATALOG_PLAIN);
}

static const char *widening(planning *p, const subject *of, const catalog_column *declared)
{
    return plan_text(p, "widen column %s.%s to bigint", of->name, declared->name);
}

static void widen(planning *p, const subject *of, const catalog_column *declared, shape *all)
{
    if (!p->options->widen_ids)
        return; /* a note says so afterwards */
    plan_sql(p, "ALTER TABLE %s ALTER COLUMN %s TYPE bigint", of->sql, declared->name);
    change_shape(p, all, widening(p, of, declared), "it is of type integer", true);
}

/* A default of the old type would not be cast by itself. */
static void retype(planning *p, const subject *of, const catalog_column *declared,
                   const live_column *live, shape *all)
{
    buffer sql = BUFFER_INIT;

    buffer_add_format(&sql, "ALTER TABLE %s", of->sql);
    if (live->default_text != NULL)
        buffer_add_format(&sql, " ALTER COLUMN %s DROP DEFAULT,", declared->name);
    buffer_add_format(&sql, " ALTER COLUMN %s TYPE %s USING %s::text::%s", declared->name,
                      p->q.status, declared->name, p->q.status);
    if (declared->default_text != NULL) {
        buffer_add_format(&sql, ", ALTER COLUMN %s SET DEFAULT ", declared->name);
        render_filled(p->s, &sql, declared->default_text, &p->q);
    }
    render_add(p->s, &sql);
    change_shape(
        p, all,
        plan_text(p, "change the type of %s.%s to %s", of->name, declared->name, p->names->status),
        plan_text(p, "it is of type %s", live->type), true);
}

static void set_null(planning *p, const subject *of, const catalog_column *declared,
                     const live_column *live)
{
    if (declared->not_null == live->not_null)
        return;
    plan_sql(p, "ALTER TABLE %s ALTER COLUMN %s %s NOT NULL", of->sql, declared->name,
             declared->not_null ? "SET" : "DROP");
    plan_step_done(p,
                   plan_text(p, "let %s.%s %s NULL", of->name, declared->name,
                             declared->not_null ? "not be" : "be"),
                   declared->not_null ? "it accepts NULL" : "it does not accept NULL", &of->cost);
}

static void set_default(planning *p, const subject *of, const catalog_column *declared,
                        const live_column *live)
{
    const char *wanted = NULL;
    buffer sql = BUFFER_INIT;

    if (declared->default_text != NULL)
        wanted = plan_filled(p, declared->default_text);
    if (verify_default(declared, live, wanted) ||
        (declared->kind == CATALOG_SERIAL && of->sequence))
        return;
    if (declared->kind != CATALOG_PLAIN) {
        plan_note(p, plan_text(p, "column %s.%s", of->name, declared->name),
                  "its values do not come from a sequence: give it one by hand");
        return;
    }
    buffer_add_format(&sql, "ALTER TABLE %s ALTER COLUMN %s ", of->sql, declared->name);
    buffer_add_text(&sql, wanted != NULL ? "SET DEFAULT " : "DROP DEFAULT");
    if (wanted != NULL)
        render_filled(p->s, &sql, declared->default_text, &p->q);
    render_add(p->s, &sql);
    plan_step_done(p,
                   plan_text(p, "%s the default of %s.%s", wanted != NULL ? "set" : "drop",
                             of->name, declared->name),
                   live->default_text != NULL ? plan_text(p, "it is %s", live->default_text)
                                              : "it has none",
                   &of->cost);
}

static bool is_narrow(planning *p, const catalog_column *declared, const live_column *live)
{
    return live->type != NULL && base_streq(live->type, "integer") &&
           base_streq(plan_filled(p, declared->type), "bigint");
}

/* A column that has another type, and is to get that of the statuses. */
static bool is_retyped(planning *p, const catalog_column *declared, const live_column *live)
{
    const char *type = plan_filled(p, declared->type);

    return live->type != NULL && !base_streq(live->type, type) &&
           base_streq(type, p->names->status);
}

static void plan_shape(planning *p, const subject *of, const catalog_column *declared,
                       const live_column *live, shape *all)
{
    const char *type = plan_filled(p, declared->type);

    if (!live->exists)
        add_column(p, of, declared, all);
    else if (live->type == NULL || base_streq(live->type, type))
        return; /* as it should be */
    else if (is_narrow(p, declared, live))
        widen(p, of, declared, all);
    else if (is_retyped(p, declared, live))
        retype(p, of, declared, live, all);
    else
        plan_refuse(p,
                    "%s.%s is %s in the database but declared %s; no supported conversion. Alter "
                    "the column by hand, then re-run upgrade.",
                    of->name, declared->name, live->type, type);
}

static void plan_column(planning *p, const subject *of, const catalog_column *declared,
                        const live_column *live)
{
    if (!live->exists)
        return;
    if (is_narrow(p, declared, live) && !p->options->widen_ids)
        plan_note(p, widening(p, of, declared),
                  "it is of type integer, and widening was not wanted; this program's workers need "
                  "it");
    set_null(p, of, declared, live);
    if (!is_retyped(p, declared, live))
        set_default(p, of, declared, live);
}

static void plan_columns(planning *p, const subject *of, const catalog_column *declared,
                         const live_column *live, size_t count)
{
    plan_cost cost = of->cost;
    shape all = {.count = 0};

    for (size_t i = 0; i < count; i++)
        plan_shape(p, of, &declared[i], &live[i], &all);
    cost.rewrites = all.rewrites;
    if (all.count > 0)
        plan_step_done(p, all.what, all.why, &cost);
    for (size_t i = 0; i < count; i++)
        plan_column(p, of, &declared[i], &live[i]);
}

static void plan_sequence(planning *p, const live_table *live)
{
    const char *what = plan_text(p, "widen sequence %s to bigint", live->sequence), *qualified;

    if (!p->options->widen_ids) {
        plan_note(
            p, what,
            plan_text(p, "it is of type %s, and widening was not wanted", live->sequence_type));
        return;
    }
    qualified = names_qualify(&p->s->memory, &p->where, live->sequence);
    plan_sql(p, "ALTER SEQUENCE %s AS bigint", qualified != NULL ? qualified : "");
    if (qualified == NULL)
        p->s->broken = true;
    plan_step_done(
        p, what, plan_text(p, "it is of type %s", live->sequence_type),
        &(plan_cost){.table = live->sequence, .lock = "SHARE ROW EXCLUSIVE", .rows = -1});
}

static void plan_keys(planning *p, catalog_table_id id, const subject *of)
{
    const catalog_table *declared = &catalog_tables[id];
    const live_table *live = &p->live->tables[id];

    if (live->primary_key == NULL) {
        plan_sql(p, "ALTER TABLE %s ADD PRIMARY KEY (%s)", of->sql, declared->primary_key);
        plan_step_done(p,
                       plan_text(p, "add primary key (%s) to %s", declared->primary_key, of->name),
                       "it is missing", &of->cost);
    } else if (!base_streq(live->primary_key, declared->primary_key)) {
        plan_note(
            p, plan_text(p, "primary key of %s", of->name),
            plan_text(p, "it is (%s) instead of (%s)", live->primary_key, declared->primary_key));
    }
    if (declared->unique == NULL || live->has_unique)
        return;
    plan_sql(p, "ALTER TABLE %s ADD UNIQUE (%s)", of->sql, declared->unique);
    plan_step_done(p, plan_text(p, "add unique constraint (%s) to %s", declared->unique, of->name),
                   "it is missing", &of->cost);
}

void plan_table(planning *p, catalog_table_id id)
{
    const catalog_table *declared = &catalog_tables[id];
    const live_table *live = &p->live->tables[id];
    const subject of = {p->q.tables[id], catalog_table_name(p->names, id),
                        plan_cost_of(p, id, "ACCESS EXCLUSIVE"), false};

    if (live->exists && !live->is_table) {
        plan_refuse(p, "%s is not a table", of.name);
        return;
    }
    if (!live->exists) {
        p->plan->creates = true;
        render_table(p->s, &p->q, id, declared->unlogged[p->options->durability]);
        plan_step_done(p, plan_text(p, "create table %s", of.name), "it is missing",
                       &(plan_cost){.rows = -1});
        return;
    }
    plan_columns(p, &of, declared->columns, live->columns, declared->column_count);
    if (live->sequence_type != NULL && !base_streq(live->sequence_type, "bigint"))
        plan_sequence(p, live);
    plan_keys(p, id, &of);
}

/* A column that is missing brings its sequence along. */
static void plan_extra_sequence(planning *p, size_t at, const subject *of)
{
    const catalog_extra *declared = &catalog_extras[at];
    const live_extra *live = &p->live->extras[at];
    const char *type = live->sequence_type;

    if (declared->sequence == NULL || !live->columns[0].exists)
        return;
    if (type != NULL && base_streq(type, "bigint") &&
        verify_default(&declared->columns[0], &live->columns[0], NULL))
        return;
    render_sequence(p->s, &p->q, at);
    plan_step_done(
        p, plan_text(p, "give column %s.%s its sequence", of->name, declared->columns[0].name),
        type == NULL ? "it has not the one that workers use" : "it is not as it was made",
        &of->cost);
}

void plan_extra_columns(planning *p, size_t at, const char *table)
{
    const catalog_extra *declared = &catalog_extras[at];
    const subject of = {p->q.extras[at],
                        table,
                        {.table = table, .lock = "ACCESS EXCLUSIVE", .rows = -1},
                        declared->sequence != NULL};

    plan_columns(p, &of, declared->columns, p->live->extras[at].columns, declared->column_count);
    plan_extra_sequence(p, at, &of);
}
