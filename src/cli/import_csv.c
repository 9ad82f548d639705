/* One record of CSV (RFC 4180) to a job, by the names of the first record. An empty field without
 * quotes is as if it were not there; "" is an empty text. */
#include "base/error.h"
#include "base/utf8.h"
#include "cli/import.h"

/* A field as it stands between commas. */
typedef struct raw_field {
    const char *text;
    size_t len;
} raw_field;

/* Takes the next field off the record; false: there is none. */
static bool take_field(const char **at, const char *end, raw_field *ret_field)
{
    csv_place place = CSV_FIELD_BEGINS;
    const char *from = *at;

    if (*at > end)
        return false;
    for (; *at < end && !(**at == ',' && place != CSV_QUOTED); (*at)++)
        place = csv_next(place, **at);
    *ret_field = (raw_field){from, (size_t)(*at - from)};
    (*at)++; /* behind the comma, or behind the end */
    return true;
}

/* Takes the quotes away, into `memory`; NULL when they do not stand as they should. */
static char *unquote(arena *memory, const raw_field *field, size_t *ret_len)
{
    char *text = arena_alloc(memory, field->len + 1);
    size_t len = 0;

    if (text == NULL || field->len < 2 || field->text[field->len - 1] != '"')
        return NULL;
    for (size_t i = 1; i + 1 < field->len; i++) {
        if (field->text[i] == '"' && (++i + 1 >= field->len || field->text[i] != '"'))
            return NULL;
        text[len++] = field->text[i];
    }
    *ret_len = len;
    return text;
}

static bool is_quoted(const raw_field *field)
{
    return field->len > 0 && field->text[0] == '"';
}

pgq_code import_read_head(import_columns *columns, const char *text, size_t len, pgq_error *err)
{
    arena memory = ARENA_INIT;
    const char *at = text;
    raw_field field;
    pgq_code code = PGQ_OK;

    columns->count = 0;
    while (code == PGQ_OK && take_field(&at, text + len, &field)) {
        import_field found;

        if (is_quoted(&field))
            field.text = unquote(&memory, &field, &field.len);
        found = field.text != NULL ? import_field_find(field.text, field.len) : FIELD_COUNT;
        for (size_t i = 0; i < columns->count; i++) {
            if (columns->fields[i] == found)
                found = FIELD_COUNT;
        }
        if (found == FIELD_COUNT) {
            code = error_set(err, PGQ_E_INVALID,
                             "the first line of CSV names the columns, and column %zu cannot be "
                             "'%.*s'",
                             columns->count + 1,
                             field.text != NULL ? (int)base_min_size(field.len, 64) : 0,
                             field.text != NULL ? field.text : "");
            error_hint(err, "each once: entrypoint, payload, payload_base64, priority, headers, "
                            "delay, execute_after, dedupe_key");
        } else {
            columns->fields[columns->count++] = found;
        }
    }
    arena_release(&memory);
    return code;
}

bool import_read_csv(import_job *j, const import_columns *columns, const char *text, size_t len)
{
    const char *at = text;
    size_t count = 0;
    raw_field field;

    if (!utf8_valid(text, len))
        return import_job_refuse(j, "it is not valid UTF-8");
    for (; take_field(&at, text + len, &field); count++) {
        if (count >= columns->count || field.len == 0)
            continue;
        if (is_quoted(&field)) {
            field.text = unquote(j->memory, &field, &field.len);
            if (field.text == NULL)
                return import_job_refuse(j, "the quotes of field %zu do not fit", count + 1);
        } else if (memchr(field.text, '"', field.len) != NULL) {
            return import_job_refuse(j, "field %zu has a quote, but does not begin with one",
                                     count + 1);
        }
        if (!import_job_set(j, columns->fields[count], field.text, field.len))
            return false;
    }
    if (count != columns->count)
        return import_job_refuse(j, "it has %zu fields, the first line has %zu", count,
                                 columns->count);
    return import_job_finish(j);
}
