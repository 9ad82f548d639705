#include "pg/names.h"
#include "base/error.h"

#include <stdio.h>

enum { NAME_BYTES_MAX = 63 }; /* NAMEDATALEN - 1; a longer name would be cut by the server */

typedef enum name_kind { NAME_IDENTIFIER, NAME_PREFIX, NAME_SCHEMA, NAME_CHANNEL } name_kind;

typedef struct name_row {
    const char *what;
    size_t given_at, resolved_at;
    const char *fallback; /* what the prefix is put in front of; NULL: no default */
    name_kind kind;
} name_row;

/* One row a name: where it is given, where it goes, what it is by default. */
static const name_row name_rows[] = {
#define ROW(what, given, resolved, fallback, kind)                                  \
    {                                                                               \
        what, offsetof(pgq_names, given), offsetof(names, resolved), fallback, kind \
    }
    ROW("prefix", prefix, prefix, NULL, NAME_PREFIX),
    ROW("schema", schema, schema, NULL, NAME_SCHEMA),
    ROW("channel", channel, channel, "ch_pgqueuer", NAME_CHANNEL),
    ROW("function", function, function, "fn_pgqueuer_changed", NAME_IDENTIFIER),
    ROW("trigger", trigger, trigger, "tg_pgqueuer_changed", NAME_IDENTIFIER),
    ROW("queue table", queue_table, queue, "pgqueuer", NAME_IDENTIFIER),
    ROW("log table", log_table, log, "pgqueuer_log", NAME_IDENTIFIER),
    ROW("statistics table", statistics_table, statistics, "pgqueuer_statistics", NAME_IDENTIFIER),
    ROW("schedules table", schedules_table, schedules, "pgqueuer_schedules", NAME_IDENTIFIER),
    ROW("status type", status_type, status, "pgqueuer_status", NAME_IDENTIFIER),
#undef ROW
};

static bool is_lower(char c)
{
    return (c >= 'a' && c <= 'z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

/* Channels are case-exact on both sides; identifiers are folded in some places of the Python
 * release and compared exactly in others, so upper case in them is refused. */
static pgq_code check_name(const name_row *row, const char *name, pgq_error *err)
{
    if (strlen(name) > NAME_BYTES_MAX)
        return error_set(err, PGQ_E_LIMIT, "the %s name is longer than %d bytes: %.80s...",
                         row->what, NAME_BYTES_MAX, name);
    for (const char *at = name; *at != '\0'; at++) {
        bool fits = is_lower(*at) || (is_digit(*at) && at > name);

        if (row->kind == NAME_CHANNEL)
            fits = is_lower(*at) || is_upper(*at) || is_digit(*at) ||
                   (at > name && (*at == '.' || *at == '-'));
        if (fits)
            continue;
        (void)error_set(err, PGQ_E_INVALID, "the %s name cannot be used: %.64s", row->what, name);
        if (is_upper(*at))
            error_hint(err, "use lower case: PostgreSQL folds unquoted names, and the Python "
                            "release looks for them as written");
        else if (row->kind == NAME_CHANNEL)
            error_hint(err, "letters, digits, '_', and after the first character '.' and '-'");
        else
            error_hint(err, "lower-case letters, '_', and after the first character digits; the "
                            "schema is an option of its own");
        return PGQ_E_INVALID;
    }
    return PGQ_OK;
}

/* The schema is lower-cased before it is used, as the Python release does. */
static void lower(char *text)
{
    for (; *text != '\0'; text++) {
        if (is_upper(*text))
            *text = (char)(*text - 'A' + 'a');
    }
}

static pgq_code resolve_row(const name_row *row, const pgq_names *given, names *n, pgq_error *err)
{
    const char *value;
    char *resolved;
    size_t size;
    pgq_code code;

    memcpy(&value, (const char *)given + row->given_at, sizeof(value));
    if (!base_given(value) && row->fallback == NULL)
        return PGQ_OK;
    if (base_given(value)) {
        resolved = arena_strdup(&n->memory, value);
    } else {
        size = strlen(n->prefix) + strlen(row->fallback) + 1;
        resolved = arena_alloc(&n->memory, size);
        if (resolved != NULL)
            (void)snprintf(resolved, size, "%s%s", n->prefix, row->fallback);
    }
    if (resolved == NULL)
        return error_nomem(err);
    if (row->kind == NAME_SCHEMA)
        lower(resolved);
    code = check_name(row, resolved, err);
    if (code == PGQ_OK)
        memcpy((char *)n + row->resolved_at, &resolved, sizeof(resolved));
    return code;
}

/* pgqueuer_c, and what tells this installation from others of the database. */
static pgq_code name_extras(names *n, pgq_error *err)
{
    const char *schema = n->schema != NULL ? n->schema : "";
    size_t size = sizeof("pgqueuer_c__") + strlen(schema) + strlen(n->prefix);
    char *name = arena_alloc(&n->memory, size);

    if (name == NULL)
        return error_nomem(err);
    (void)snprintf(name, size, "pgqueuer_c%s%s%s%s", schema[0] != '\0' ? "_" : "", schema,
                   n->prefix[0] != '\0' ? "_" : "", n->prefix);
    n->extras = name;
    return PGQ_OK;
}

pgq_code names_resolve(const pgq_names *given, names *ret_names, pgq_error *err)
{
    pgq_names own = PGQ_NAMES_INIT;
    names n = {.memory = ARENA_INIT, .prefix = ""};
    pgq_code code = base_copy_options(&own, sizeof(own), given, "pgq_names", err);

    for (size_t i = 0; code == PGQ_OK && i < BASE_COUNT(name_rows); i++)
        code = resolve_row(&name_rows[i], &own, &n, err);
    if (code == PGQ_OK)
        code = name_extras(&n, err);
    if (code != PGQ_OK) {
        names_release(&n);
        return code;
    }
    *ret_names = n;
    return PGQ_OK;
}

void names_release(names *n)
{
    arena_release(&n->memory);
    *n = (names){.memory = ARENA_INIT};
}

static char *quote(arena *a, const char *text, char mark)
{
    char *quoted = arena_alloc(a, strlen(text) * 2 + 3), *at = quoted;

    if (quoted == NULL)
        return NULL;
    *at++ = mark;
    for (; *text != '\0'; text++) {
        if (*text == mark)
            *at++ = mark;
        *at++ = *text;
    }
    *at++ = mark;
    *at = '\0';
    return quoted;
}

char *names_quote_identifier(arena *a, const char *name)
{
    return quote(a, name, '"');
}

char *names_quote_literal(arena *a, const char *text)
{
    return quote(a, text, '\'');
}

char *names_qualify(arena *a, const names *n, const char *name)
{
    return names_qualify_in(a, n->schema, name);
}

char *names_qualify_in(arena *a, const char *schema_name, const char *name)
{
    char *schema, *object, *qualified;
    size_t size;

    object = names_quote_identifier(a, name);
    if (schema_name == NULL || object == NULL)
        return object;
    schema = names_quote_identifier(a, schema_name);
    if (schema == NULL)
        return NULL;
    size = strlen(schema) + strlen(object) + 2;
    qualified = arena_alloc(a, size);
    if (qualified != NULL)
        (void)snprintf(qualified, size, "%s.%s", schema, object);
    return qualified;
}
