#include "schema/live.h"
#include "base/buffer.h"
#include "base/error.h"

_Static_assert(LIVE_COLUMNS_MAX >= 14, "the queue table has 14 columns");

typedef struct reading {
    const names *names;
    live_catalog *live;
    pg_result rows; /* of the statement under way */
    bool broken;    /* an allocation failed */
} reading;

/* One statement: its parameters beyond the schema, and what becomes of a row. */
typedef struct step {
    statement_id statement;
    void (*give)(reading *r, params *p);
    void (*take)(reading *r, size_t row);
    bool extras; /* in their schema */
} step;

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Whether "schema." stands at `text`, as a whole word. */
static bool is_qualifier(const char *text, char before, const char *schema, size_t schema_len)
{
    return !is_name_char(before) && strncmp(text, schema, schema_len) == 0 &&
           text[schema_len] == '.';
}

static void strip_quotes(char *text)
{
    char *at = text;

    for (; *text != '\0'; text++) {
        if (*text != '"')
            *at++ = *text;
    }
    *at = '\0';
}

/* Takes "schema." away wherever it stands in front of a name. */
static void strip_qualifiers(char *text, const char *schema)
{
    size_t schema_len = strlen(schema);
    char *at = text, before = ' ';

    while (*text != '\0') {
        if (is_qualifier(text, before, schema, schema_len)) {
            text += schema_len + 1;
        } else {
            before = *text;
            *at++ = *text++;
        }
    }
    *at = '\0';
}

/* A text of the catalogue without quotes and without our schema, which may have been quoted itself;
 * NULL for SQL NULL. */
static const char *take_text(reading *r, size_t row, int column)
{
    const char *text = result_text(&r->rows, row, column), *schema = r->live->schema;
    char *out;

    if (text == NULL)
        return NULL;
    out = arena_strdup(&r->live->memory, text);
    if (out == NULL) {
        r->broken = true;
        return NULL;
    }
    strip_quotes(out);
    if (schema != NULL && schema[0] != '\0')
        strip_qualifiers(out, schema);
    return out;
}

/* The index of the name that a row is about, among the `count` that were asked for. */
static size_t take_position(reading *r, size_t row, size_t count)
{
    int64_t position = result_int8(&r->rows, row, 0);

    if (position >= 1 && (uint64_t)position <= count)
        return (size_t)position - 1;
    r->rows.malformed = true;
    return 0;
}

static void give_tables(reading *r, params *p)
{
    param_array_begin(p, PG_OID_TEXT, CATALOG_TABLE_COUNT);
    for (catalog_table_id t = 0; t < CATALOG_TABLE_COUNT; t++)
        element_text(p, catalog_table_name(r->names, t));
    param_array_end(p);
}

static void take_schema(reading *r, size_t row)
{
    r->live->schema = take_text(r, row, 0);
    r->live->schema_exists = result_bool(&r->rows, row, 1);
    r->live->may_create = result_bool(&r->rows, row, 2);
}

static void take_table(reading *r, size_t row)
{
    live_table *table = &r->live->tables[take_position(r, row, CATALOG_TABLE_COUNT)];

    table->exists = true;
    table->is_table = result_bool(&r->rows, row, 1);
    table->logged = result_bool(&r->rows, row, 2);
    table->rows = result_int8(&r->rows, row, 3);
}

/* Where a column goes; NULL for one that is not ours. */
static live_column *column_of(live_catalog *live, size_t table_id, const char *name)
{
    const catalog_table *declared = &catalog_tables[table_id];

    for (size_t i = 0; i < declared->column_count; i++) {
        if (base_streq(declared->columns[i].name, name))
            return &live->tables[table_id].columns[i];
    }
    if (table_id == CATALOG_STATISTICS && base_streq(name, catalog_retired_column))
        return &live->retired_column;
    return NULL;
}

static void fill_column(reading *r, size_t row, live_column *column)
{
    if (column == NULL)
        return;
    column->exists = true;
    column->type = take_text(r, row, 2);
    column->not_null = result_bool(&r->rows, row, 3);
    column->default_text = take_text(r, row, 4);
    column->is_identity = result_bool(&r->rows, row, 5);
}

static void take_column(reading *r, size_t row)
{
    size_t table_id = take_position(r, row, CATALOG_TABLE_COUNT);
    const char *name = result_text(&r->rows, row, 1);

    fill_column(r, row, name != NULL ? column_of(r->live, table_id, name) : NULL);
}

static void take_constraint(reading *r, size_t row)
{
    size_t table_id = take_position(r, row, CATALOG_TABLE_COUNT);
    live_table *table = &r->live->tables[table_id];
    const char *unique = catalog_tables[table_id].unique, *columns = take_text(r, row, 2);

    if (result_bool(&r->rows, row, 1))
        table->primary_key = columns;
    else if (unique != NULL && columns != NULL && base_streq(columns, unique))
        table->has_unique = true;
}

static void take_sequence(reading *r, size_t row)
{
    live_table *table = &r->live->tables[take_position(r, row, CATALOG_TABLE_COUNT)];
    const char *column = result_text(&r->rows, row, 3);

    if (column == NULL || !base_streq(column, "id"))
        return;
    table->sequence = take_text(r, row, 1);
    table->sequence_type = take_text(r, row, 2);
}

static void give_name(reading *r, params *p, const char *name)
{
    if (name == NULL)
        r->broken = true;
    else
        element_text(p, name);
}

/* The declared indexes, their replacements, then the retired one. */
enum { RETIRED_INDEX = 2 * CATALOG_INDEX_COUNT };

static void give_indexes(reading *r, params *p)
{
    const catalog_index retired = {.suffix = catalog_retired_index_suffix, .table = CATALOG_QUEUE};
    arena *a = &r->live->memory;

    param_array_begin(p, PG_OID_TEXT, RETIRED_INDEX + 1);
    for (size_t i = 0; i < CATALOG_INDEX_COUNT; i++)
        give_name(r, p, catalog_index_name(a, r->names, &catalog_indexes[i]));
    for (size_t i = 0; i < CATALOG_INDEX_COUNT; i++)
        give_name(r, p, catalog_replacement_name(a, r->names, &catalog_indexes[i]));
    give_name(r, p, catalog_index_name(a, r->names, &retired));
    param_array_end(p);
}

static void take_index(reading *r, size_t row)
{
    size_t at = take_position(r, row, RETIRED_INDEX + 1);
    live_index *index;

    if (at == RETIRED_INDEX) {
        r->live->retired_index_exists = true;
        return;
    }
    index = at < CATALOG_INDEX_COUNT ? &r->live->indexes[at]
                                     : &r->live->replacements[at - CATALOG_INDEX_COUNT];
    index->exists = true;
    index->table = take_text(r, row, 1);
    index->unique = result_bool(&r->rows, row, 2);
    index->valid = result_bool(&r->rows, row, 3);
    index->definition = take_text(r, row, 4);
}

/* The status type, then the retired one. */
static void give_types(reading *r, params *p)
{
    param_array_begin(p, PG_OID_TEXT, 2);
    element_text(p, r->names->status);
    give_name(r, p, catalog_retired_type(&r->live->memory, r->names));
    param_array_end(p);
}

static void take_label(reading *r, size_t row)
{
    const char *label = result_text(&r->rows, row, 1);

    if (take_position(r, row, 2) == 1) {
        r->live->retired_type_exists = true;
        return;
    }
    r->live->type_exists = true;
    for (size_t i = 0; label != NULL && i < CATALOG_LABEL_COUNT; i++) {
        if (base_streq(catalog_labels[i].name, label))
            r->live->labels[i] = true;
    }
}

static void give_function(reading *r, params *p)
{
    param_text(p, r->names->function);
}

static const char *take_body(reading *r, size_t row)
{
    const char *body = result_text(&r->rows, row, 1);

    body = arena_strdup(&r->live->memory, body != NULL ? body : "");
    if (body == NULL)
        r->broken = true;
    return body;
}

static void take_function(reading *r, size_t row)
{
    r->live->function_exists = true;
    r->live->function_returns_trigger = result_bool(&r->rows, row, 0);
    r->live->function_body = take_body(r, row);
}

static void give_trigger(reading *r, params *p)
{
    param_text(p, r->names->trigger);
    param_text(p, r->names->queue);
}

static void take_trigger(reading *r, size_t row)
{
    live_trigger *trigger = &r->live->trigger;

    trigger->exists = true;
    trigger->type = result_int4(&r->rows, row, 0);
    trigger->fires = result_bool(&r->rows, row, 1);
    trigger->has_condition = result_bool(&r->rows, row, 2);
    trigger->function = take_text(r, row, 3);
}

static void take_extras_schema(reading *r, size_t row)
{
    r->live->extras_schema_exists = result_bool(&r->rows, row, 1);
}

static void give_extras(reading *r, params *p)
{
    (void)r;
    param_array_begin(p, PG_OID_TEXT, CATALOG_EXTRA_COUNT);
    for (size_t i = 0; i < CATALOG_EXTRA_COUNT; i++)
        element_text(p, catalog_extras[i].name);
    param_array_end(p);
}

static void take_extra(reading *r, size_t row)
{
    live_extra *extra = &r->live->extras[take_position(r, row, CATALOG_EXTRA_COUNT)];

    extra->exists = true;
    extra->is_table = result_bool(&r->rows, row, 1);
}

static void take_extra_column(reading *r, size_t row)
{
    size_t at = take_position(r, row, CATALOG_EXTRA_COUNT);
    const catalog_extra *declared = &catalog_extras[at];
    const char *name = result_text(&r->rows, row, 1);

    for (size_t i = 0; name != NULL && i < declared->column_count; i++) {
        if (base_streq(declared->columns[i].name, name))
            fill_column(r, row, &r->live->extras[at].columns[i]);
    }
}

static void give_routines(reading *r, params *p)
{
    (void)r;
    param_array_begin(p, PG_OID_TEXT, CATALOG_ROUTINE_COUNT);
    for (size_t i = 0; i < CATALOG_ROUTINE_COUNT; i++)
        element_text(p, catalog_routines[i].name);
    param_array_end(p);
    param_array_begin(p, PG_OID_TEXT, CATALOG_ROUTINE_COUNT);
    for (size_t i = 0; i < CATALOG_ROUTINE_COUNT; i++)
        element_text(p, catalog_routines[i].arguments);
    param_array_end(p);
}

static void take_routine(reading *r, size_t row)
{
    live_routine *routine = &r->live->routines[take_position(r, row, CATALOG_ROUTINE_COUNT)];

    routine->exists = true;
    routine->body = take_body(r, row);
    routine->definer = result_bool(&r->rows, row, 2);
    routine->pinned = result_bool(&r->rows, row, 3);
}

static void take_extra_constraint(reading *r, size_t row)
{
    size_t at = take_position(r, row, CATALOG_EXTRA_COUNT);
    const char *columns = take_text(r, row, 2);

    if (result_bool(&r->rows, row, 1))
        r->live->extras[at].primary_key = columns;
}

static void take_extra_sequence(reading *r, size_t row)
{
    size_t at = take_position(r, row, CATALOG_EXTRA_COUNT);
    const catalog_extra *declared = &catalog_extras[at];
    const char *name = result_text(&r->rows, row, 1), *column = result_text(&r->rows, row, 3);

    if (declared->sequence != NULL && name != NULL && base_streq(name, declared->sequence) &&
        column != NULL && base_streq(column, declared->columns[0].name))
        r->live->extras[at].sequence_type = take_text(r, row, 2);
}

/* The schema comes first: the other texts are normalised with it. */
static const step steps[] = {
    {STATEMENT_CATALOG_SCHEMA, NULL, take_schema, false},
    {STATEMENT_CATALOG_TABLES, give_tables, take_table, false},
    {STATEMENT_CATALOG_COLUMNS, give_tables, take_column, false},
    {STATEMENT_CATALOG_CONSTRAINTS, give_tables, take_constraint, false},
    {STATEMENT_CATALOG_SEQUENCES, give_tables, take_sequence, false},
    {STATEMENT_CATALOG_INDEXES, give_indexes, take_index, false},
    {STATEMENT_CATALOG_LABELS, give_types, take_label, false},
    {STATEMENT_CATALOG_FUNCTION, give_function, take_function, false},
    {STATEMENT_CATALOG_TRIGGER, give_trigger, take_trigger, false},
    {STATEMENT_CATALOG_SCHEMA, NULL, take_extras_schema, true},
    {STATEMENT_CATALOG_TABLES, give_extras, take_extra, true},
    {STATEMENT_CATALOG_COLUMNS, give_extras, take_extra_column, true},
    {STATEMENT_CATALOG_ROUTINES, give_routines, take_routine, true},
    {STATEMENT_CATALOG_CONSTRAINTS, give_extras, take_extra_constraint, true},
    {STATEMENT_CATALOG_SEQUENCES, give_extras, take_extra_sequence, true},
};

static pgq_code run_step(reading *r, const step *s, pg_conn *conn, int64_t deadline_us,
                         pgq_error *err)
{
    params p = PARAMS_INIT;
    pgq_code code;

    param_text(&p, s->extras ? r->names->extras : r->names->schema);
    if (s->give != NULL)
        s->give(r, &p);
    code = r->broken ? error_nomem(err)
                     : pg_conn_call(conn, s->statement, &p, deadline_us, &r->rows, NULL, err);
    params_release(&p);
    if (code != PGQ_OK)
        return code;
    for (size_t row = 0; row < result_rows(&r->rows); row++)
        s->take(r, row);
    if (r->broken)
        code = error_nomem(err);
    else if (r->rows.malformed)
        code = error_set(err, PGQ_E_INTERNAL, "the catalogue was answered in an unknown form");
    result_release(&r->rows);
    return code;
}

pgq_code live_read(pgq_client *client, int64_t deadline_us, live_catalog *ret_live, pgq_error *err)
{
    live_catalog live = {.memory = ARENA_INIT};
    reading r = {.names = &client->names, .live = &live, .rows = PG_RESULT_INIT};
    pgq_code code = PGQ_OK;

    for (size_t i = 0; code == PGQ_OK && i < BASE_COUNT(steps); i++)
        code = run_step(&r, &steps[i], client->conn, deadline_us, err);
    if (code != PGQ_OK) {
        live_release(&live);
        return code;
    }
    *ret_live = live;
    return PGQ_OK;
}

bool live_is_installed(const live_catalog *live)
{
    bool installed = live->type_exists || live->retired_type_exists;

    for (size_t t = 0; t < CATALOG_TABLE_COUNT; t++)
        installed = installed || live->tables[t].exists;
    return installed;
}

void live_release(live_catalog *live)
{
    arena_release(&live->memory);
    *live = (live_catalog){.memory = ARENA_INIT};
}
