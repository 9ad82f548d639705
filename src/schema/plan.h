/* What lacks between the live catalogue and the declared one, as steps in the order in which they
 * are taken. Knows no connection: it compares and writes texts. */
#ifndef SCHEMA_PLAN_H
#define SCHEMA_PLAN_H

#include "schema/live.h"
#include "schema/render.h"

/* Of a step: which statements of the script are its own, and how they are sent. Several go in one
 * transaction. */
typedef struct plan_part {
    size_t first, count; /* none: a note for people */
    /* It waits for others without keeping anybody from working: it may take its time. */
    bool patient;
    const char *leftover; /* an index, qualified, to drop when the step fails; NULL: none */
} plan_part;

struct pgq_plan {
    script script;
    pgq_plan_step *steps;
    plan_part *parts; /* of each step */
    size_t count, capacity;
    bool creates; /* objects in the schema of the tables, which takes a right on it */
};

/* The names are the client's. PGQ_E_SCHEMA_MISMATCH: something is there that no statement of ours
 * would make right without losing what it holds. Freed by pgq_plan_free. */
pgq_code plan_make(const live_catalog *live, const names *n, const pgq_upgrade_options *options,
                   pgq_plan **ret_plan, pgq_error *err);

#endif
