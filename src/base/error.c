#include "base/error.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>

typedef struct code_row {
    pgq_code code;
    int exit_status;
    const char *name;
    const char *text;
} code_row;

static const code_row code_rows[] = {
#define PGQ_X(name, number, status, text) {PGQ_##name, status, "PGQ_" #name, text},
    PGQ_CODE_MAP(PGQ_X)
#undef PGQ_X
};

static const code_row *find_row(pgq_code code)
{
    for (size_t i = 0; i < BASE_COUNT(code_rows); i++) {
        if (code_rows[i].code == code)
            return &code_rows[i];
    }
    return NULL;
}

const char *pgq_strerror(pgq_code code)
{
    const code_row *row = find_row(code);

    return row != NULL ? row->text : "unknown error code";
}

const char *pgq_code_name(pgq_code code)
{
    const code_row *row = find_row(code);

    return row != NULL ? row->name : "PGQ_E_UNKNOWN";
}

int pgq_code_exit_status(pgq_code code)
{
    const code_row *row = find_row(code);

    return row != NULL ? row->exit_status : 1;
}

static void fill(char *buffer, size_t size, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

/* The length of the first `len` bytes of a cut text without a character that the cut split. */
static size_t whole_characters(const char *text, size_t len)
{
    size_t at = len;

    while (at > 0 && len - at < 3 && ((unsigned char)text[at - 1] & 0xC0u) == 0x80u)
        at--;
    /* the last character begins with the byte before */
    return at > 0 && utf8_next(text + at - 1, len - at + 1) == 0 ? at - 1 : len;
}

/* Formats into a fixed field and cuts it at a whole UTF-8 character. */
static void fill(char *buffer, size_t size, const char *format, va_list args)
{
    int length = vsnprintf(buffer, size, format, args);

    if (length < 0)
        buffer[0] = '\0';
    else if ((size_t)length >= size)
        buffer[whole_characters(buffer, size - 1)] = '\0';
}

pgq_code error_set(pgq_error *err, pgq_code code, const char *format, ...)
{
    va_list args;

    if (err == NULL)
        return code;
    *err = (pgq_error)PGQ_ERROR_INIT;
    err->code = code;
    va_start(args, format);
    fill(err->message, sizeof(err->message), format, args);
    va_end(args);
    return code;
}

void error_hint(pgq_error *err, const char *format, ...)
{
    va_list args;

    if (err == NULL)
        return;
    va_start(args, format);
    fill(err->hint, sizeof(err->hint), format, args);
    va_end(args);
}

void error_where(pgq_error *err, const char *format, ...)
{
    va_list args;

    if (err == NULL)
        return;
    va_start(args, format);
    fill(err->where, sizeof(err->where), format, args);
    va_end(args);
}
