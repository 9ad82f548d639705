#include "base/settings.h"
#include "base/error.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define FILE_SECTION "pgqueuer"

enum {
    WORD_BYTES = 64,       /* longer names and choices do not exist in any table */
    FILE_LINES_MAX = 10000 /* a file of more is not a settings file */
};

pgq_code settings_init(settings *s, const setting_row *rows, size_t count, pgq_error *err)
{
    *s = (settings){.rows = rows, .count = count, .memory = ARENA_INIT};
    s->values = arena_array(&s->memory, count, sizeof(*s->values));
    if (s->values == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].default_text == NULL)
            continue;
        s->values[i] = (setting_value){SETTING_DEFAULT, "default", rows[i].default_text, 0};
    }
    return PGQ_OK;
}

void settings_release(settings *s)
{
    arena_release(&s->memory);
    *s = (settings){.memory = ARENA_INIT};
}

pgq_code settings_give(settings *s, size_t index, setting_origin origin, const char *source,
                       const char *text, pgq_error *err)
{
    setting_value *value = &s->values[index];
    char *own_source, *own_text;

    if (value->origin > origin)
        return PGQ_OK;
    own_source = arena_strdup(&s->memory, source);
    own_text = arena_strdup(&s->memory, text);
    if (own_source == NULL || own_text == NULL)
        return error_nomem(err);
    *value = (setting_value){origin, own_source, own_text, 0};
    return PGQ_OK;
}

pgq_code settings_read_environment(settings *s, pgq_error *err)
{
    pgq_code code = PGQ_OK;

    for (size_t i = 0; i < s->count; i++) {
        for (size_t n = 0; n < SETTING_ENV_MAX && s->rows[i].env[n] != NULL; n++) {
            const char *text = getenv(s->rows[i].env[n]);

            if (!base_given(text))
                continue;
            code = settings_give(s, i, SETTING_ENVIRONMENT, s->rows[i].env[n], text, err);
            if (code != PGQ_OK)
                return code;
            break;
        }
    }
    return code;
}

/* What inih's callbacks share. Debian's inih hands no line number to the handler, so the reader
 * counts. The first error is kept. */
typedef struct file_reading {
    settings *s;
    FILE *file;
    const char *path;
    int line;
    pgq_code code;
    pgq_error *err;
} file_reading;

static pgq_code file_error(file_reading *f, const char *what, const char *name)
{
    if (f->code != PGQ_OK)
        return f->code;
    f->code = error_set(f->err, PGQ_E_INVALID, "%s%.*s", what, WORD_BYTES, name);
    error_where(f->err, "%s:%d", f->path, f->line);
    return f->code;
}

static char *read_line(char *line, int size, void *user)
{
    file_reading *f = user;

    if (f->code != PGQ_OK || fgets(line, size, f->file) == NULL)
        return NULL;
    f->line++;
    if (f->line > FILE_LINES_MAX)
        (void)file_error(f, "the file has too many lines", "");
    else if (strlen(line) + 1 == (size_t)size && line[size - 2] != '\n' && !feof(f->file))
        (void)file_error(f, "the line is too long", "");
    return f->code == PGQ_OK ? line : NULL;
}

static bool key_matches(const char *key, const char *name)
{
    for (; *key != '\0' && *name != '\0'; key++, name++) {
        if (*key != *name && !(*key == '_' && *name == '-'))
            return false;
    }
    return *key == *name;
}

static size_t find_key(const settings *s, const char *key)
{
    for (size_t i = 0; i < s->count; i++) {
        if (!s->rows[i].in_file)
            continue;
        if (key_matches(key, s->rows[i].name) ||
            (s->rows[i].alias != NULL && key_matches(key, s->rows[i].alias)))
            return i;
    }
    return s->count;
}

static int read_pair(void *user, const char *section, const char *key, const char *text)
{
    file_reading *f = user;
    char source[PGQ_WHERE_BYTES];
    size_t index;

    if (f->code != PGQ_OK)
        return 0;
    if (section[0] == '\0') {
        (void)file_error(f, "this stands before a [section]: ", key);
        return 0;
    }
    if (!base_streq(section, FILE_SECTION))
        return 1;
    index = find_key(f->s, key);
    if (index == f->s->count) {
        (void)file_error(f, "there is no setting ", key);
        error_hint(f->err, "'pgqueuer config show' lists the settings");
        return 0;
    }
    if (f->s->values[index].origin == SETTING_FILE) {
        (void)file_error(f, "given twice: ", key);
        return 0;
    }
    (void)snprintf(source, sizeof(source), "%s:%d", f->path, f->line);
    if (base_given(text))
        f->code = settings_give(f->s, index, SETTING_FILE, source, text, f->err);
    return f->code == PGQ_OK;
}

pgq_code settings_read_file(settings *s, const char *path, pgq_error *err)
{
    file_reading f = {s, NULL, path, 0, PGQ_OK, err};
    int line;

    f.file = fopen(path, "re");
    if (f.file == NULL) {
        f.code = error_set(err, errno == ENOENT ? PGQ_E_NOT_FOUND : PGQ_E_IO,
                           "cannot read the settings file: %s", strerror(errno));
        error_where(err, "%s", path);
        return f.code;
    }
    line = ini_parse_stream(read_line, &f, read_pair, &f);
    if (f.code == PGQ_OK && ferror(f.file)) {
        f.code = error_set(err, PGQ_E_IO, "cannot read the settings file: %s", strerror(errno));
        error_where(err, "%s", path);
    } else if (line > 0) {
        f.line = line;
        (void)file_error(&f, "this line is neither [section] nor key = value", "");
    } else if (line < 0 && f.code == PGQ_OK) {
        f.code = error_nomem(err);
    }
    (void)fclose(f.file);
    return f.code;
}

bool setting_parse_int(const char *text, int64_t min, int64_t max, int64_t *ret_number)
{
    char *end;
    long long number;

    if ((text[0] < '0' || text[0] > '9') && text[0] != '-')
        return false;
    errno = 0;
    number = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < min || number > max)
        return false;
    *ret_number = number;
    return true;
}

bool setting_parse_seconds(const char *text, int64_t *ret_ms)
{
    const int64_t whole_max = INT64_MAX / 1000 - 1;
    int64_t whole = 0, part = 0, unit = 100;
    bool digits = false, rest = false;

    for (; *text >= '0' && *text <= '9'; text++, digits = true) {
        if (whole > whole_max / 10 - 1)
            return false;
        whole = whole * 10 + (*text - '0');
    }
    if (*text == '.') {
        for (text++; *text >= '0' && *text <= '9'; text++, digits = true) {
            part += (*text - '0') * unit;
            rest = rest || (unit == 0 && *text != '0');
            unit /= 10;
        }
    }
    if (!digits || *text != '\0')
        return false;
    *ret_ms = whole * 1000 + part + (rest ? 1 : 0);
    return true;
}

char *setting_format_seconds(int64_t ms, char text[SETTING_SECONDS_BYTES])
{
    int length = snprintf(text, SETTING_SECONDS_BYTES, "%lld.%03lld", (long long)(ms / 1000),
                          (long long)(ms % 1000));

    while (length > 0 && text[length - 1] == '0')
        text[--length] = '\0';
    if (length > 0 && text[length - 1] == '.')
        text[length - 1] = '\0';
    return text;
}

bool setting_choice(const char *choices, size_t index, char *word, size_t size)
{
    size_t length;

    for (; index > 0; index--) {
        choices = strchr(choices, '|');
        if (choices == NULL)
            return false;
        choices++;
    }
    length = strcspn(choices, "|");
    (void)snprintf(word, size, "%.*s", (int)length, choices);
    return true;
}

static bool parse_choice(const setting_row *row, setting_value *value)
{
    char word[WORD_BYTES];

    for (size_t i = 0; setting_choice(row->choices, i, word, sizeof(word)); i++) {
        if (base_streq(word, value->text) ||
            (row->fold_case && strcasecmp(word, value->text) == 0)) {
            value->number = (int64_t)i;
            return true;
        }
    }
    return false;
}

/* Flags in an environment or a file, in the words that people write there. */
static bool parse_flag(setting_value *value)
{
    static const char *const words[] = {"0", "1", "false", "true", "no", "yes", "off", "on"};

    for (size_t i = 0; i < BASE_COUNT(words); i++) {
        if (strcasecmp(words[i], value->text) == 0) {
            value->number = (int64_t)(i % 2);
            return true;
        }
    }
    return false;
}

static bool parse_value(const setting_row *row, setting_value *value)
{
    switch (row->type) {
    case SETTING_FLAG:
    case SETTING_NEGATABLE:
        return parse_flag(value);
    case SETTING_TEXT:
        return true;
    case SETTING_INT:
        return setting_parse_int(value->text, row->min, row->max, &value->number);
    case SETTING_SECONDS:
        return setting_parse_seconds(value->text, &value->number) && value->number >= row->min &&
               value->number <= row->max;
    case SETTING_CHOICE:
        return parse_choice(row, value);
    }
    return false;
}

static void hint_allowed(const setting_row *row, pgq_error *err)
{
    char low[SETTING_SECONDS_BYTES], high[SETTING_SECONDS_BYTES];
    char words[PGQ_HINT_BYTES] = "", word[WORD_BYTES];

    switch (row->type) {
    case SETTING_FLAG:
    case SETTING_NEGATABLE:
        error_hint(err, "allowed: true, false, yes, no, on, off, 1, 0");
        break;
    case SETTING_INT:
        error_hint(err, "allowed: a whole number from %lld to %lld", (long long)row->min,
                   (long long)row->max);
        break;
    case SETTING_SECONDS:
        error_hint(err, "allowed: seconds as a decimal number from %s to %s",
                   setting_format_seconds(row->min, low), setting_format_seconds(row->max, high));
        break;
    case SETTING_CHOICE:
        for (size_t i = 0, at = 0; setting_choice(row->choices, i, word, sizeof(word)); i++) {
            int length = snprintf(words + at, sizeof(words) - at, "%s%s", i > 0 ? ", " : "", word);

            at = at + (size_t)length < sizeof(words) ? at + (size_t)length : sizeof(words) - 1;
        }
        error_hint(err, "allowed: %s", words);
        break;
    case SETTING_TEXT:
        break;
    }
}

pgq_code settings_parse(settings *s, size_t index, pgq_error *err)
{
    setting_value *value = &s->values[index];
    const setting_row *row = &s->rows[index];

    if (value->origin == SETTING_UNSET || parse_value(row, value))
        return PGQ_OK;
    if (row->secret)
        (void)error_set(err, PGQ_E_INVALID, "the value of %s cannot be used", row->name);
    else
        (void)error_set(err, PGQ_E_INVALID, "%s cannot be '%.100s'", row->name, value->text);
    error_where(err, "%s", value->source);
    hint_allowed(row, err);
    return PGQ_E_INVALID;
}

size_t settings_find(const setting_row *rows, size_t count, const char *name, bool *ret_negated)
{
    for (size_t i = 0; i < count; i++) {
        bool negated = rows[i].type == SETTING_NEGATABLE && strncmp(name, "no-", 3) == 0 &&
                       base_streq(name + 3, rows[i].name);

        if (!negated && !base_streq(name, rows[i].name) &&
            (rows[i].alias == NULL || !base_streq(name, rows[i].alias)))
            continue;
        *ret_negated = negated;
        return i;
    }
    return count;
}

bool setting_takes_value(const setting_row *row)
{
    return row->type != SETTING_FLAG && row->type != SETTING_NEGATABLE;
}

size_t setting_distance(const char *a, const char *b, size_t limit)
{
    size_t row[WORD_BYTES + 1];
    size_t a_len = strlen(a), b_len = strlen(b);

    if (a_len > WORD_BYTES || b_len > WORD_BYTES)
        return limit + 1;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1] ? 1 : 0);

            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b_len] > limit ? limit + 1 : row[b_len];
}
