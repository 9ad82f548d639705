/* What becomes of an index. It is built beside the old one under the name that the Python release
 * gives to replacements, without keeping anybody from writing, and takes the declared name only
 * when it is valid: Python does not look at validity, and would find an unfinished one to be there.
 */
#include "schema/plan_parts.h"

typedef struct wanted_index {
    const catalog_index *declared;
    const char *definition, *table;
    const char *name, *replacement;         /* as in the catalogue */
    const char *name_sql, *replacement_sql; /* qualified and quoted */
} wanted_index;

static bool fits(const wanted_index *w, const live_index *live)
{
    return live->exists && live->valid && live->unique == w->declared->unique &&
           live->table != NULL && base_streq(live->table, w->table) && live->definition != NULL &&
           base_streq(live->definition, w->definition);
}

static const char *fault(const live_index *live)
{
    if (!live->exists)
        return "it is missing";
    return live->valid ? "it is defined otherwise" : "it is invalid: its building was cut off";
}

static void drop_concurrently(planning *p, const wanted_index *w, const char *name,
                              const char *name_sql, const char *why)
{
    plan_cost cost = plan_cost_of(p, w->declared->table, "SHARE UPDATE EXCLUSIVE");

    cost.patient = true;
    plan_sql(p, "DROP INDEX CONCURRENTLY IF EXISTS %s", name_sql);
    plan_step_done(p, plan_text(p, "drop index %s", name), why, &cost);
}

static void fold_statistics(planning *p)
{
    plan_cost cost = plan_cost_of(p, CATALOG_STATISTICS, "SHARE ROW EXCLUSIVE");

    render_fold(p->s, &p->q);
    plan_step_done(p, plan_text(p, "fold rows of %s that share a key", cost.table),
                   "its unique index is to be built; without such rows nothing changes", &cost);
}

/* Up to 1.3 the key was spelled otherwise and meant the same: no two rows share it. */
static bool may_share_keys(const live_index *live)
{
    return !live->exists || !live->valid || !live->unique || live->definition == NULL ||
           strstr(live->definition, "(created AT TIME ZONE 'UTC'::text)") == NULL;
}

static void build(planning *p, const wanted_index *w, const char *why)
{
    plan_cost cost = plan_cost_of(p, w->declared->table, "SHARE UPDATE EXCLUSIVE");

    cost.patient = true;
    cost.leftover = w->replacement_sql;
    render_index(p->s, &p->q, w->declared, w->replacement, true);
    plan_step_done(p, plan_text(p, "build index %s as %s", w->name, w->replacement), why, &cost);
}

/* In one transaction, so that whoever looks finds an index of the name. */
static void swap(planning *p, const wanted_index *w, bool drop_old)
{
    plan_cost cost = plan_cost_of(p, w->declared->table,
                                  drop_old ? "ACCESS EXCLUSIVE" : "SHARE UPDATE EXCLUSIVE");
    const char *quoted = names_quote_identifier(&p->s->memory, w->name);

    p->plan->creates = true; /* a new name is asked for like a new object */
    if (!drop_old)
        cost = (plan_cost){.table = w->replacement, .lock = cost.lock, .rows = -1};
    if (drop_old)
        plan_sql(p, "DROP INDEX IF EXISTS %s", w->name_sql);
    plan_sql(p, "ALTER INDEX %s RENAME TO %s", w->replacement_sql, quoted != NULL ? quoted : "");
    if (quoted == NULL)
        p->s->broken = true;
    plan_step_done(p, plan_text(p, "rename index %s to %s", w->replacement, w->name),
                   "it is complete and valid", &cost);
}

static void replace(planning *p, const wanted_index *w, const live_index *live,
                    const live_index *left)
{
    bool built = fits(w, left);

    if (left->exists && !built)
        drop_concurrently(p, w, w->replacement, w->replacement_sql,
                          "an earlier run left it unfinished");
    if (live->exists && !live->valid)
        drop_concurrently(p, w, w->name, w->name_sql, fault(live));
    if (!built) {
        if (w->declared->table == CATALOG_STATISTICS && w->declared->unique && may_share_keys(live))
            fold_statistics(p);
        build(p, w, fault(live));
    }
    swap(p, w, live->exists && live->valid);
}

static bool name_index(planning *p, const catalog_index *declared, wanted_index *w)
{
    arena *a = &p->s->memory;

    *w = (wanted_index){
        .declared = declared,
        .definition = plan_filled(p, declared->definition),
        .table = catalog_table_name(p->names, declared->table),
        .name = catalog_index_name(a, p->names, declared),
        .replacement = catalog_replacement_name(a, p->names, declared),
    };
    if (w->name != NULL && w->replacement != NULL) {
        w->name_sql = names_qualify(a, &p->where, w->name);
        w->replacement_sql = names_qualify(a, &p->where, w->replacement);
    }
    if (w->name_sql != NULL && w->replacement_sql != NULL)
        return true;
    p->s->broken = true;
    return false;
}

void plan_index(planning *p, size_t at)
{
    const catalog_index *declared = &catalog_indexes[at];
    const live_index *live = &p->live->indexes[at], *left = &p->live->replacements[at];
    wanted_index w;

    if (!name_index(p, declared, &w))
        return;
    if (live->exists && (live->table == NULL || !base_streq(live->table, w.table))) {
        plan_refuse(p, "the name of index %s is taken by an index of table %s", w.name,
                    live->table != NULL ? live->table : "");
    } else if (!p->live->tables[declared->table].exists) {
        /* it is made in this run, and nobody has it yet */
        p->plan->creates = true;
        render_index(p->s, &p->q, declared, w.name, false);
        plan_step_done(p, plan_text(p, "create index %s", w.name), "it is missing",
                       &(plan_cost){.rows = -1});
    } else if (!fits(&w, live)) {
        replace(p, &w, live, left);
    } else if (left->exists) {
        drop_concurrently(p, &w, w.replacement, w.replacement_sql,
                          "an earlier run left it, and the index is complete");
    }
}
