/* From fields to a job, with a reason for every one that is none. */
#include "base/error.h"
#include "cli/import.h"
#include "cli/when.h"

#include <stdarg.h>
#include <stdio.h>

const char *const import_field_names[FIELD_COUNT] = {
    [FIELD_ENTRYPOINT] = "entrypoint",
    [FIELD_PAYLOAD] = "payload",
    [FIELD_PAYLOAD_BASE64] = "payload_base64",
    [FIELD_PRIORITY] = "priority",
    [FIELD_HEADERS] = "headers",
    [FIELD_DELAY] = "delay",
    [FIELD_EXECUTE_AFTER] = "execute_after",
    [FIELD_DEDUPE_KEY] = "dedupe_key",
};

_Static_assert((int)FIELD_COUNT <= (int)IMPORT_COLUMNS_MAX, "every field can be a column");

import_field import_field_find(const char *name, size_t len)
{
    for (import_field f = 0; f < FIELD_COUNT; f++) {
        if (strlen(import_field_names[f]) == len && memcmp(import_field_names[f], name, len) == 0)
            return f;
    }
    return FIELD_COUNT;
}

/* A reason may repeat what the record holds: nothing in it may steer a terminal. */
bool import_job_refuse(import_job *j, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(j->reason, sizeof(j->reason), format, args);
    va_end(args);
    for (char *at = j->reason; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7F)
            *at = '?';
    }
    return false;
}

void import_job_init(import_job *j, const pgq_new_job *defaults, arena *memory)
{
    *j = (import_job){.job = *defaults, .memory = memory};
}

static const char *copy(import_job *j, const char *text, size_t len)
{
    char *kept = arena_strndup(j->memory, text, len);

    if (kept == NULL)
        (void)import_job_refuse(j, "out of memory");
    return kept;
}

static bool set_text(import_job *j, import_field field, const char **ret_text, const char *text,
                     size_t len)
{
    if (memchr(text, '\0', len) != NULL)
        return import_job_refuse(j, "the field %s holds a NUL", import_field_names[field]);
    *ret_text = copy(j, text, len);
    return *ret_text != NULL;
}

static bool set_payload(import_job *j, const char *bytes, size_t len)
{
    j->job.payload = (pgq_bytes){copy(j, bytes, len), len};
    return j->job.payload.data != NULL;
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The standard alphabet, with its padding, in one piece: anything else is a mistake. */
static bool set_base64(import_job *j, const char *text, size_t len)
{
    size_t padding = 0, digits, out = 0;
    unsigned char *bytes = arena_alloc(j->memory, len / 4 * 3 + 1);
    uint32_t bits = 0;

    if (bytes == NULL)
        return import_job_refuse(j, "out of memory");
    while (padding < 2 && padding < len && text[len - 1 - padding] == '=')
        padding++;
    digits = len - padding;
    if (len % 4 != 0)
        return import_job_refuse(j, "payload_base64 has %zu characters, not a multiple of 4", len);
    for (size_t i = 0; i < digits; i++) {
        int value = base64_value(text[i]);

        if (value < 0)
            return import_job_refuse(j, "payload_base64 is no base64 at character %zu", i + 1);
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 == 1)
            bytes[out++] = (unsigned char)(bits >> 4 & 0xFF);
        else if (i % 4 == 2)
            bytes[out++] = (unsigned char)(bits >> 2 & 0xFF);
        else if (i % 4 == 3)
            bytes[out++] = (unsigned char)(bits & 0xFF);
    }
    j->job.payload = (pgq_bytes){bytes, out};
    return true;
}

static bool set_priority(import_job *j, const char *text, size_t len)
{
    bool negative = len > 0 && text[0] == '-';
    int64_t value = 0;
    size_t at = negative ? 1 : 0;

    if (at == len)
        return import_job_refuse(j, "the priority is no whole number");
    for (; at < len; at++) {
        if (text[at] < '0' || text[at] > '9')
            return import_job_refuse(j, "the priority is no whole number");
        value = value * 10 + (text[at] - '0');
        if (value > -(int64_t)INT32_MIN)
            break;
    }
    value = negative ? -value : value;
    if (value < INT32_MIN || value > INT32_MAX)
        return import_job_refuse(j, "the priority is not from -2147483648 to 2147483647");
    j->job.priority = (int32_t)value;
    return true;
}

/* Seconds with a fraction, as the option --delay; what is beyond milliseconds is left out. */
static bool set_delay(import_job *j, const char *text, size_t len)
{
    int64_t ms = 0, unit = 100;
    size_t at = 0;

    for (; at < len && text[at] >= '0' && text[at] <= '9'; at++) {
        ms = ms * 10 + (int64_t)(text[at] - '0') * 1000;
        if (ms > PGQ_DELAY_MS_MAX)
            return import_job_refuse(j, "the delay is longer than %lld seconds",
                                     (long long)(PGQ_DELAY_MS_MAX / 1000));
    }
    if (at == 0)
        return import_job_refuse(j, "the delay is not a number of seconds, such as 1.5");
    if (at < len && text[at] == '.' && at + 1 < len) {
        for (at++; at < len && text[at] >= '0' && text[at] <= '9'; at++, unit /= 10)
            ms += (text[at] - '0') * unit;
    }
    if (at < len)
        return import_job_refuse(j, "the delay is not a number of seconds, such as 1.5");
    j->job.delay_ms = ms;
    return true;
}

static bool set_time(import_job *j, const char *text, size_t len)
{
    const char *kept = NULL;

    if (!set_text(j, FIELD_EXECUTE_AFTER, &kept, text, len))
        return false;
    if (when_parse(kept, &j->job.run_at_us))
        return true;
    return import_job_refuse(j, "execute_after is not a time with an offset, such as "
                                "2026-11-24T09:00:00Z");
}

bool import_job_set(import_job *j, import_field field, const char *text, size_t len)
{
    j->given[field] = true;
    switch (field) {
    case FIELD_ENTRYPOINT:
        return set_text(j, field, &j->job.entrypoint, text, len);
    case FIELD_PAYLOAD:
        return set_payload(j, text, len);
    case FIELD_PAYLOAD_BASE64:
        return set_base64(j, text, len);
    case FIELD_PRIORITY:
        return set_priority(j, text, len);
    case FIELD_HEADERS:
        return set_text(j, field, &j->job.headers, text, len);
    case FIELD_DELAY:
        return set_delay(j, text, len);
    case FIELD_EXECUTE_AFTER:
        return set_time(j, text, len);
    case FIELD_DEDUPE_KEY:
        return set_text(j, field, &j->job.dedupe_key, text, len);
    default:
        return import_job_refuse(j, "there is no such field");
    }
}

/* A record's own time stands instead of the default one, whichever kind it is. */
bool import_job_finish(import_job *j)
{
    pgq_error err = PGQ_ERROR_INIT;

    if (j->given[FIELD_PAYLOAD] && j->given[FIELD_PAYLOAD_BASE64])
        return import_job_refuse(j, "payload and payload_base64 contradict each other");
    if (j->given[FIELD_DELAY] && j->given[FIELD_EXECUTE_AFTER])
        return import_job_refuse(j, "delay and execute_after contradict each other");
    if (j->given[FIELD_DELAY])
        j->job.run_at_us = 0;
    if (j->given[FIELD_EXECUTE_AFTER])
        j->job.delay_ms = 0;
    if (j->job.entrypoint == NULL)
        return import_job_refuse(j, "the entrypoint is missing, and there is no --entrypoint");
    if (pgq_new_job_check(&j->job, &err) != PGQ_OK)
        return import_job_refuse(j, "%.200s", err.message);
    return true;
}
