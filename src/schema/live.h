/* The live catalogue: what the database holds of the declared objects, and nothing of others'.
 *
 * Everything is looked up by name in one schema: the given one, else current_schema(). Texts are
 * normalised so that they compare with the declared ones: without quotes and without that schema
 * in front of a name. */
#ifndef SCHEMA_LIVE_H
#define SCHEMA_LIVE_H

#include "pg/client.h"
#include "schema/catalog.h"

enum { LIVE_COLUMNS_MAX = 16 };

typedef struct live_column {
    bool exists, not_null, is_identity;
    const char *type;
    const char *default_text; /* NULL: none */
} live_column;

typedef struct live_table {
    bool exists;   /* a relation of this name that can be read from */
    bool is_table; /* and it is no view or the like */
    bool logged;
    bool has_unique;                       /* the declared UNIQUE constraint */
    int64_t rows;                          /* the server's estimate; -1: it has none */
    const char *primary_key;               /* columns, separated by ", "; NULL: none */
    const char *sequence, *sequence_type;  /* the one that "id" owns; NULL: none */
    live_column columns[LIVE_COLUMNS_MAX]; /* one for each declared column */
} live_table;

typedef struct live_index {
    bool exists, unique, valid;
    const char *table;
    const char *definition;
} live_index;

typedef struct live_trigger {
    bool exists, fires, has_condition;
    int32_t type;         /* pg_trigger.tgtype */
    const char *function; /* with another schema in front, if it is there; normalised */
} live_trigger;

typedef struct live_extra {
    bool exists, is_table;
    const char *primary_key;   /* columns, separated by ", "; NULL: none */
    const char *sequence_type; /* of the declared one; NULL: its column does not own it */
    live_column columns[LIVE_COLUMNS_MAX];
} live_extra;

typedef struct live_routine {
    bool exists, definer, pinned;
    const char *body; /* as it is */
} live_routine;

/* Owned by `memory`. */
typedef struct live_catalog {
    arena memory;
    const char *schema; /* NULL: nothing of the search_path exists */
    bool schema_exists, may_create;
    live_table tables[CATALOG_TABLE_COUNT];
    live_column retired_column;
    live_index indexes[CATALOG_INDEX_COUNT];
    live_index
        replacements[CATALOG_INDEX_COUNT]; /* of these, left by an upgrade that was cut off */
    bool retired_index_exists;
    bool type_exists, labels[CATALOG_LABEL_COUNT], retired_type_exists;
    bool function_exists, function_returns_trigger;
    const char *function_body; /* as it is */
    live_trigger trigger;
    bool extras_schema_exists;
    live_extra extras[CATALOG_EXTRA_COUNT];
    live_routine routines[CATALOG_ROUTINE_COUNT];
} live_catalog;

/* Reads it, one statement for each kind of object. The connection is ready. On failure there is
 * nothing to release. */
pgq_code live_read(pgq_client *client, int64_t deadline_us, live_catalog *ret_live, pgq_error *err);

/* Whether something of an installation is there that keeps another one from being made: a table,
 * the status type or the retired type. */
bool live_is_installed(const live_catalog *live);

void live_release(live_catalog *live);

#endif
