#include "pg/statement.h"
#include "base/buffer.h"
#include "base/error.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct placeholder {
    const char *name;
    const char *value;
} placeholder;

enum { PLACEHOLDERS = 19, PREPARED_BYTES = 64 };

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || c == '_';
}

/* The name as Python's release writes it into its statements: qualified, but not quoted. */
static char *unquoted_literal(arena *a, const names *n, const char *name)
{
    size_t size = (n->schema != NULL ? strlen(n->schema) : 0) + strlen(name) + 2;
    char *text = arena_alloc(a, size);

    if (text == NULL)
        return NULL;
    if (n->schema != NULL)
        (void)snprintf(text, size, "%s.%s", n->schema, name);
    else
        (void)snprintf(text, size, "%s", name);
    return names_quote_literal(a, text);
}

/* Fills the table of placeholders for these names; false without memory. */
static bool make_placeholders(arena *a, const names *n, placeholder table[PLACEHOLDERS])
{
    const char *const qualified[][3] = {
        /* placeholder, its literal's placeholder, name */
        {"queue", "queue_literal", n->queue},
        {"log", "log_literal", n->log},
        {"statistics", "statistics_literal", n->statistics},
        {"status", "status_literal", n->status},
    };
    size_t count = 0;
    char *front;

    for (size_t i = 0; i < BASE_COUNT(qualified); i++) {
        char *name = names_qualify(a, n, qualified[i][2]);

        table[count++] = (placeholder){qualified[i][0], name};
        table[count++] =
            (placeholder){qualified[i][1], name != NULL ? names_quote_literal(a, name) : NULL};
    }
    table[count++] = (placeholder){"schedules", names_qualify(a, n, n->schedules)};
    table[count++] =
        (placeholder){"statistics_lock_literal", unquoted_literal(a, n, n->statistics)};
    table[count++] =
        (placeholder){"counts", names_qualify_in(a, n->extras, STATEMENT_COUNTS_TABLE)};
    table[count++] = (placeholder){"extras", names_quote_identifier(a, n->extras)};
    table[count++] =
        (placeholder){"imports", names_qualify_in(a, n->extras, STATEMENT_IMPORTS_TABLE)};
    front = names_qualify_in(a, n->extras, STATEMENT_FRONT_SEQUENCE);
    table[count++] = (placeholder){"front", front};
    table[count++] =
        (placeholder){"front_literal", front != NULL ? names_quote_literal(a, front) : NULL};
    table[count++] = (placeholder){"extras_literal", names_quote_literal(a, n->extras)};
    table[count++] = (placeholder){"channel", names_quote_identifier(a, n->channel)};
    table[count++] = (placeholder){"channel_literal", names_quote_literal(a, n->channel)};
    table[count++] = (placeholder){"queue_name_literal", names_quote_literal(a, n->queue)};
    assert(count == PLACEHOLDERS);
    for (size_t i = 0; i < PLACEHOLDERS; i++) {
        if (table[i].value == NULL)
            return false;
    }
    return true;
}

static const char *find_placeholder(const placeholder table[PLACEHOLDERS], const char *name,
                                    size_t len)
{
    for (size_t i = 0; i < PLACEHOLDERS; i++) {
        if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0)
            return table[i].value;
    }
    return NULL;
}

/* Copies the source, with every :name replaced; a :: cast is no placeholder. */
static pgq_code expand(const statement_source *source, const placeholder table[PLACEHOLDERS],
                       arena *a, const char **ret_text, pgq_error *err)
{
    buffer out = BUFFER_INIT;
    const char *text = source->text, *end = text + source->len, *value;
    pgq_code code = PGQ_OK;

    while (code == PGQ_OK && text < end) {
        const char *colon = memchr(text, ':', (size_t)(end - text)), *name_end;

        if (colon == NULL)
            colon = end;
        buffer_add(&out, text, (size_t)(colon - text));
        if (colon == end)
            break;
        for (name_end = colon + 1; name_end < end && is_name_char(*name_end); name_end++)
            continue;
        if (name_end == colon + 1) {
            size_t colons = colon + 1 < end && colon[1] == ':' ? 2 : 1;

            buffer_add(&out, colon, colons);
            text = colon + colons;
            continue;
        }
        value = find_placeholder(table, colon + 1, (size_t)(name_end - colon - 1));
        if (value == NULL)
            code = error_set(err, PGQ_E_INTERNAL, "sql/%s.sql: unknown placeholder %.*s",
                             source->name, (int)(name_end - colon), colon);
        else
            buffer_add_text(&out, value);
        text = name_end;
    }
    if (code == PGQ_OK) {
        *ret_text = out.broken ? NULL : arena_strndup(a, out.data, out.len);
        if (*ret_text == NULL)
            code = error_nomem(err);
    }
    buffer_release(&out);
    return code;
}

static uint32_t type_oid(const char *name)
{
#define X(text, id, number)     \
    if (base_streq(name, text)) \
        return number;
    PG_OID_MAP(X)
#undef X
    return 0;
}

/* The name and a hash of the text (FNV-1a). */
static const char *name_by_text(arena *a, const char *name, const char *text)
{
    uint64_t hash = 14695981039346656037u;
    char full[PREPARED_BYTES];

    for (const char *at = text; at != NULL && *at != '\0'; at++)
        hash = (hash ^ (unsigned char)*at) * 1099511628211u;
    (void)snprintf(full, sizeof(full), "%s_%016" PRIx64, name, hash);
    return arena_strdup(a, full);
}

static pgq_code fill_statement(const statement_source *source,
                               const placeholder table[PLACEHOLDERS], arena *a, statement *s,
                               pgq_error *err)
{
    pgq_code code;

    s->name = source->name;
    if (source->param_count > STATEMENT_PARAMS_MAX)
        return error_set(err, PGQ_E_INTERNAL, "sql/%s.sql: too many parameters", source->name);
    s->param_count = (int)source->param_count;
    for (size_t i = 0; i < source->param_count; i++) {
        s->param_types[i] = type_oid(source->param_types[i]);
        if (s->param_types[i] == 0)
            return error_set(err, PGQ_E_INTERNAL, "sql/%s.sql: unknown type %s", source->name,
                             source->param_types[i]);
    }
    code = expand(source, table, a, &s->text, err);
    if (code != PGQ_OK)
        return code;
    s->prepared = name_by_text(a, s->name, s->text);
    return s->prepared != NULL ? PGQ_OK : error_nomem(err);
}

pgq_code statement_expand(const names *n, statement_id id, arena *a, statement *ret_statement,
                          pgq_error *err)
{
    placeholder table[PLACEHOLDERS];

    if (!make_placeholders(a, n, table))
        return error_nomem(err);
    return fill_statement(&statement_sources[id], table, a, ret_statement, err);
}

pgq_code statements_new(const names *n, statements **ret_statements, pgq_error *err)
{
    placeholder table[PLACEHOLDERS];
    statements *s = calloc(1, sizeof(*s));
    pgq_code code = PGQ_OK;

    if (s == NULL)
        return error_nomem(err);
    if (!make_placeholders(&s->memory, n, table))
        code = error_nomem(err);
    for (size_t i = 0; code == PGQ_OK && i < STATEMENT_COUNT; i++)
        code = fill_statement(&statement_sources[i], table, &s->memory, &s->all[i], err);
    if (code != PGQ_OK) {
        (void)statements_free(s);
        return code;
    }
    *ret_statements = s;
    return PGQ_OK;
}

statements *statements_free(statements *s)
{
    if (s != NULL) {
        arena_release(&s->memory);
        free(s);
    }
    return NULL;
}
