/* The names of PGQueuer's objects in one database, resolved once from a caller's pgq_names.
 * Source of the rules: wire contract 1.1 and 7. */
#ifndef PG_NAMES_H
#define PG_NAMES_H

#include <pgqueuer/client.h>

#include "base/arena.h"

/* All members are set but schema, which is NULL when the search_path decides. Unqualified and
 * unquoted: what the catalogue holds. Owned by `memory`. */
typedef struct names {
    arena memory;
    const char *prefix;
    const char *schema;
    const char *channel;
    const char *function;
    const char *trigger;
    const char *queue;
    const char *log;
    const char *statistics;
    const char *schedules;
    const char *status;
    const char *extras; /* the schema of our own objects; the server may cut it */
} names;

/* Checks and completes the names; given NULL: the defaults.
 * PGQ_E_INVALID names the member and what it may be. */
pgq_code names_resolve(const pgq_names *given, names *ret_names, pgq_error *err);

void names_release(names *n);

/* A quoted identifier, "like ""this""", in the arena; NULL without memory. */
char *names_quote_identifier(arena *a, const char *name);

/* A quoted literal, 'like ''this'''; names and channels never hold a backslash. */
char *names_quote_literal(arena *a, const char *text);

/* The quoted name of a table, type or function, with the schema in front if there is one. */
char *names_qualify(arena *a, const names *n, const char *name);

/* The same in another schema; NULL: none. */
char *names_qualify_in(arena *a, const char *schema_name, const char *name);

#endif
