/* From the declared catalogue to SQL: what install, uninstall, durability and autovac send. Writes
 * text only; knows no connection and no live database. */
#ifndef SCHEMA_RENDER_H
#define SCHEMA_RENDER_H

#include "schema/catalog.h"

/* Statements in order, each without a semicolon, meant for one transaction. */
typedef struct script {
    arena memory;
    const char **sqls;
    size_t count, capacity;
    bool broken; /* an allocation failed */
} script;

#define SCRIPT_INIT          \
    {                        \
        .memory = ARENA_INIT \
    }

/* Takes the advisory lock of the catalogue until the transaction ends. */
void render_lock(script *s, int64_t key);

/* These add statements; PGQ_E_NOMEM. create_schema counts when the names have a schema. */
pgq_code render_install(script *s, const names *n, pgq_durability durability, bool create_schema,
                        pgq_error *err);
pgq_code render_extras(script *s, const names *n, pgq_durability durability, bool create_schema,
                       pgq_error *err);
pgq_code render_uninstall(script *s, const names *n, pgq_error *err);
pgq_code render_durability(script *s, const names *n, pgq_durability durability, pgq_error *err);
pgq_code render_autovac(script *s, const names *n, bool rollback, pgq_error *err);

/* The statements as one text for people and tools, each ended by a semicolon; NULL without memory.
 * The caller frees it. */
char *script_text(const script *s);

void script_release(script *s);

#endif
