/* Inside the making of a plan: plan.c walks the catalogue, plan_table.c and plan_index.c know what
 * becomes of a table and of an index. */
#ifndef SCHEMA_PLAN_PARTS_H
#define SCHEMA_PLAN_PARTS_H

#include "schema/plan.h"
#include "schema/render_parts.h"

typedef struct planning {
    const live_catalog *live;
    const names *names; /* the client's */
    names where;        /* the same, always with the schema; borrows everything */
    const pgq_upgrade_options *options;
    sql_names q;
    pgq_plan *plan;
    script *s;    /* the plan's */
    size_t first; /* statement of the step under way */
    bool refused;
    pgq_error *err;
} planning;

typedef struct plan_cost {
    const char *table; /* NULL: nothing that others use is locked */
    const char *lock;
    bool rewrites;
    int64_t rows;
    bool patient;         /* see plan_part */
    const char *leftover; /* likewise */
} plan_cost;

/* Texts in the plan's memory; "" without memory, which breaks the script. */
const char *plan_text(planning *p, const char *format, ...) BASE_PRINTF(2, 3);

/* A declared text, as the live one is normalised. */
const char *plan_filled(planning *p, const char *text);

/* Adds a statement to the step under way. */
void plan_sql(planning *p, const char *format, ...) BASE_PRINTF(2, 3);

/* Ends the step: what was added since the last one is its own. The texts live in the plan's memory
 * or for ever. */
void plan_step_done(planning *p, const char *what, const char *why, const plan_cost *cost);

/* A step without statements. */
void plan_note(planning *p, const char *what, const char *why);

/* Says what no statement can make right. */
void plan_refuse(planning *p, const char *format, ...) BASE_PRINTF(2, 3);

plan_cost plan_cost_of(const planning *p, catalog_table_id id, const char *lock);

void plan_table(planning *p, catalog_table_id id);
void plan_extra_columns(planning *p, size_t at, const char *table);
void plan_index(planning *p, size_t at);

#endif
