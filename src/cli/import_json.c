/* One line of JSON to a job. jansson says whether it is JSON and decodes its texts; what is no text
 * is taken as it is written, so that no number changes its shape. */
#include "cli/import.h"

#include <jansson.h>

/* What follows a value at its own level; the text is valid JSON. */
static const char *end_of_value(const char *at)
{
    int depth = 0;
    bool quoted = false;

    for (;; at++) {
        if (quoted) {
            if (*at == '\\')
                at++;
            else if (*at == '"')
                quoted = false;
        } else if (*at == '"') {
            quoted = true;
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if (depth > 0 && (*at == '}' || *at == ']')) {
            depth--;
        } else if (depth == 0 && (*at == ',' || *at == '}')) {
            return at;
        }
    }
}

static const char *skip_space(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n')
        at++;
    return at;
}

static size_t trimmed(const char *text, const char *end)
{
    while (end > text && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r' || end[-1] == '\n'))
        end--;
    return (size_t)(end - text);
}

/* A text as it was decoded, the others as they are written; null is as if it were not there. */
static bool set_value(import_job *j, import_field field, const json_t *value, const char *raw,
                      size_t len)
{
    bool is_number = field == FIELD_PRIORITY || field == FIELD_DELAY;

    if (json_is_null(value))
        return true;
    if (field == FIELD_HEADERS ? !json_is_object(value)
        : is_number            ? !json_is_number(value)
                               : field != FIELD_PAYLOAD && !json_is_string(value))
        return import_job_refuse(j, "the field %s is not %s", import_field_names[field],
                                 field == FIELD_HEADERS ? "an object"
                                 : is_number            ? "a number"
                                                        : "a text");
    if (json_is_string(value))
        return import_job_set(j, field, json_string_value(value), json_string_length(value));
    return import_job_set(j, field, raw, len);
}

static bool read_members(import_job *j, const json_t *object, const char *text)
{
    const char *at = skip_space(text) + 1; /* behind the brace */

    for (at = skip_space(at); *at != '}'; at = skip_space(at)) {
        const char *name = at + 1, *name_end = name, *value, *end;
        import_field field;

        while (*name_end != '"')
            name_end += *name_end == '\\' ? 2 : 1;
        field = import_field_find(name, (size_t)(name_end - name));
        if (field == FIELD_COUNT)
            return import_job_refuse(j, "there is no field %.*s",
                                     (int)base_min_size((size_t)(name_end - name), 64), name);
        value = skip_space(skip_space(name_end + 1) + 1);
        end = end_of_value(value);
        if (!set_value(j, field, json_object_get(object, import_field_names[field]), value,
                       trimmed(value, end)))
            return false;
        at = *end == ',' ? end + 1 : end;
    }
    return true;
}

bool import_read_json(import_job *j, const char *text, size_t len)
{
    json_error_t reason;
    json_t *object = json_loadb(text, len,
                                JSON_DECODE_INT_AS_REAL | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL |
                                    JSON_DECODE_ANY,
                                &reason);
    bool done;

    if (object == NULL)
        return import_job_refuse(j, "it is not JSON, at column %d: %.150s", reason.column,
                                 reason.text);
    if (json_is_object(object))
        done = read_members(j, object, text);
    else
        done = import_job_refuse(j, "it is JSON, but not an object");
    json_decref(object);
    return done && import_job_finish(j);
}
