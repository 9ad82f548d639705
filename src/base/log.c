#include "base/log.h"
#include "base/clock.h"

#include <stdio.h>
#include <strings.h>

#define WINDOW_US 1000000

typedef struct level_row {
    const char *name;
    pgq_log_level level;
} level_row;

/* The first row of a level has its name in lines. */
static const level_row level_rows[] = {
    {"DEBUG", PGQ_LOG_DEBUG},    {"INFO", PGQ_LOG_INFO},         {"WARNING", PGQ_LOG_WARNING},
    {"ERROR", PGQ_LOG_ERROR},    {"CRITICAL", PGQ_LOG_CRITICAL}, {"WARN", PGQ_LOG_WARNING},
    {"FATAL", PGQ_LOG_CRITICAL}, {"NOTSET", PGQ_LOG_DEBUG},
};

bool log_level_parse(const char *name, pgq_log_level *ret_level)
{
    for (size_t i = 0; i < BASE_COUNT(level_rows); i++) {
        if (strcasecmp(name, level_rows[i].name) == 0) {
            *ret_level = level_rows[i].level;
            return true;
        }
    }
    return false;
}

const char *log_level_name(pgq_log_level level)
{
    for (size_t i = 0; i < BASE_COUNT(level_rows); i++) {
        if (level_rows[i].level == level)
            return level_rows[i].name;
    }
    return "NOTSET";
}

static bool is_plain(const char *text)
{
    if (text[0] == '\0')
        return false;
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c <= ' ' || c == '"' || c == '\\' || c == '=' || c >= 0x7F)
            return false;
    }
    return true;
}

static void add_value(buffer *out, const pgq_log_field *field, bool quoted)
{
    if (field->text == NULL)
        buffer_add_format(out, "%lld", (long long)field->number);
    else if (quoted || !is_plain(field->text))
        buffer_add_json(out, field->text, strlen(field->text));
    else
        buffer_add_text(out, field->text);
}

static void add_text_line(buffer *out, const char *time, pgq_log_level level, const char *event,
                          const pgq_log_field *fields, size_t count)
{
    buffer_add_format(out, "%s %s %s", time, log_level_name(level), event);
    for (size_t i = 0; i < count; i++) {
        buffer_add_format(out, " %s=", fields[i].key);
        add_value(out, &fields[i], false);
    }
    buffer_add_char(out, '\n');
}

static void add_json_line(buffer *out, const char *time, pgq_log_level level, const char *event,
                          const pgq_log_field *fields, size_t count)
{
    buffer_add_format(out, "{\"timestamp\":\"%s\",\"severity_text\":\"%s\",\"body\":", time,
                      log_level_name(level));
    buffer_add_json(out, event, strlen(event));
    buffer_add_text(out, ",\"attributes\":{");
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buffer_add_char(out, ',');
        buffer_add_json(out, fields[i].key, strlen(fields[i].key));
        buffer_add_char(out, ':');
        add_value(out, &fields[i], true);
    }
    buffer_add_text(out, "}}\n");
}

void log_format_line(buffer *out, log_format format, int64_t wall_us, pgq_log_level level,
                     const char *event, const pgq_log_field *fields, size_t count)
{
    char time[CLOCK_TEXT_BYTES];

    (void)clock_format(wall_us, true, time);
    if (format == LOG_JSON)
        add_json_line(out, time, level, event, fields, count);
    else
        add_text_line(out, time, level, event, fields, count);
}

void log_open(log_writer *w, log_format format, pgq_log_level level,
              void (*write)(void *user, const char *line, size_t len), void *user)
{
    *w = (log_writer){.format = format, .level = level, .write = write, .user = user};
    w->line = (buffer)BUFFER_INIT;
}

static void write_line(log_writer *w, pgq_log_level level, const char *event,
                       const pgq_log_field *fields, size_t count)
{
    buffer_clear(&w->line);
    log_format_line(&w->line, w->format, clock_wall_us(), level, event, fields, count);
    if (!w->line.broken)
        w->write(w->user, w->line.data, w->line.len);
}

/* Ends a window: says what it kept back, and makes it free. */
static void end_window(log_writer *w, log_window *window)
{
    const pgq_log_field fields[] = {
        {"event", window->event, 0},
        {"count", NULL, (int64_t)window->suppressed},
    };

    if (window->suppressed > 0)
        write_line(w, PGQ_LOG_WARNING, "log.suppressed", fields, BASE_COUNT(fields));
    *window = (log_window){.event = ""};
}

/* The window of an event, a new one if needed; ends those that are over. NULL when all are taken:
 * then the event is not limited. */
static log_window *find_window(log_writer *w, const char *event, int64_t now_us)
{
    log_window *found = NULL, *unused = NULL;

    for (size_t i = 0; i < LOG_EVENT_NAMES; i++) {
        log_window *window = &w->windows[i];

        if (window->event[0] != '\0' && now_us - window->since_us >= WINDOW_US)
            end_window(w, window);
        if (window->event[0] == '\0')
            unused = unused != NULL ? unused : window;
        else if (strncmp(window->event, event, LOG_EVENT_BYTES - 1) == 0)
            found = window;
    }
    if (found == NULL && unused != NULL) {
        found = unused;
        found->since_us = now_us;
        (void)snprintf(found->event, sizeof(found->event), "%s", event);
    }
    return found;
}

void log_write(void *writer, pgq_log_level level, const char *event, const pgq_log_field *fields,
               size_t count)
{
    log_writer *w = writer;
    log_window *window;

    if (level < w->level)
        return;
    window = find_window(w, event, clock_monotonic_us());
    if (window != NULL && window->written >= LOG_EVENTS_PER_SECOND) {
        window->suppressed++;
        return;
    }
    if (window != NULL)
        window->written++;
    write_line(w, level, event, fields, count);
}

void log_close(log_writer *w)
{
    for (size_t i = 0; i < LOG_EVENT_NAMES; i++)
        end_window(w, &w->windows[i]);
    buffer_release(&w->line);
}
