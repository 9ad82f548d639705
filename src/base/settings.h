/* Settings: one table row says everything about a value that a person can give, on the command
 * line, in the environment or in a file. Parsing, help, completion and `config show` all walk the
 * same rows. The rows belong to the program; this file knows none of them. Not thread safe.
 *
 * A value is collected as text from its strongest origin first and parsed afterwards, so that a
 * broken weaker value never stops a good stronger one. */
#ifndef BASE_SETTINGS_H
#define BASE_SETTINGS_H

#include "base/arena.h"

typedef enum setting_type {
    SETTING_FLAG,      /* --name; number 0 or 1 */
    SETTING_NEGATABLE, /* --name and --no-name */
    SETTING_TEXT,
    SETTING_INT,     /* number, min to max */
    SETTING_SECONDS, /* decimal seconds; number, min and max are milliseconds */
    SETTING_CHOICE   /* one of `choices`; number is its index there */
} setting_type;

enum { SETTING_ENV_MAX = 3 };

typedef struct setting_row {
    const char *name;  /* long option without the dashes */
    const char *alias; /* another long option for the same, or NULL */
    char letter;       /* short option, or 0 */
    setting_type type;
    const char *env[SETTING_ENV_MAX]; /* preferred first */
    bool in_file;                     /* may stand in the file, '-' of the name as '_' */
    bool secret;                      /* never shown */
    bool fold_case;                   /* choices are compared without case */
    int64_t min, max;
    const char *choices;      /* "a|b|c" */
    const char *placeholder;  /* what stands for the value in the help */
    const char *default_text; /* NULL: none */
    const char *help;
    int group; /* the program's own sorting */
} setting_row;

typedef enum setting_origin {
    SETTING_UNSET,
    SETTING_DEFAULT,
    SETTING_FILE,
    SETTING_ENVIRONMENT,
    SETTING_ARGUMENT
} setting_origin;

typedef struct setting_value {
    setting_origin origin;
    const char *source; /* "--name", "VARIABLE" or "file:line"; as long as the settings live */
    const char *text;   /* as long as the settings live; NULL while unset */
    int64_t number;
} setting_value;

typedef struct settings {
    const setting_row *rows; /* borrowed */
    setting_value *values;   /* one a row, in the same order */
    size_t count;
    arena memory;
} settings;

/* Starts with the defaults. PGQ_E_NOMEM. */
pgq_code settings_init(settings *s, const setting_row *rows, size_t count, pgq_error *err);
void settings_release(settings *s);

/* Gives row `index` a text, unless a stronger origin did already. An equal origin is replaced: the
 * last option on a command line wins. Both texts are copied. PGQ_E_NOMEM. */
pgq_code settings_give(settings *s, size_t index, setting_origin origin, const char *source,
                       const char *text, pgq_error *err);

/* Takes the variables of the process; an empty one counts as not given. PGQ_E_NOMEM. */
pgq_code settings_read_environment(settings *s, pgq_error *err);

/* Takes the section [pgqueuer] of an ini file; other sections are left to others.
 * Errors: PGQ_E_NOT_FOUND, PGQ_E_IO, PGQ_E_INVALID (syntax, unknown or repeated key; `where` has
 * the line). */
pgq_code settings_read_file(settings *s, const char *path, pgq_error *err);

/* Parses the text of one row. PGQ_E_INVALID says what was given, where, and what is allowed. */
pgq_code settings_parse(settings *s, size_t index, pgq_error *err);

/* The row with this long name (name or alias); `count` when there is none. For a negatable flag
 * *ret_negated says whether it was the --no- form. */
size_t settings_find(const setting_row *rows, size_t count, const char *name, bool *ret_negated);

/* Whether the option is followed by a value. */
bool setting_takes_value(const setting_row *row);

/* Decimal text to milliseconds, exact, rounded up below one millisecond. False for another text or
 * one over INT64_MAX. */
bool setting_parse_seconds(const char *text, int64_t *ret_ms);

/* Decimal text to a number; false for another text or one out of range. */
bool setting_parse_int(const char *text, int64_t min, int64_t max, int64_t *ret_number);

/* Copies choice `index` of "a|b|c" into `word` (cut at its size); false when there is none. */
bool setting_choice(const char *choices, size_t index, char *word, size_t size);

/* Milliseconds as the shortest decimal text of seconds, for messages and `config show`. */
enum { SETTING_SECONDS_BYTES = 32 };
char *setting_format_seconds(int64_t ms, char text[SETTING_SECONDS_BYTES]);

/* The number of single-character edits that make `a` into `b`, at most `limit` + 1. */
size_t setting_distance(const char *a, const char *b, size_t limit);

#endif
