/* Log lines: formatting, levels by name, and a limit on how often one event is written. Formats
 * only; the bytes go to a function of the owner, one call a line. One thread at a time. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/buffer.h"

#include <pgqueuer/worker.h>

/* The names of levels, in any case, for a setting's choices. notset means everything. */
#define LOG_LEVEL_CHOICES "debug|info|warning|warn|error|critical|fatal|notset"

typedef enum log_format { LOG_TEXT = 0, LOG_JSON = 1 } log_format;

/* False for a name that is none. */
bool log_level_parse(const char *name, pgq_log_level *ret_level);

/* "INFO" and so on: static. */
const char *log_level_name(pgq_log_level level);

/* Adds one line, ended by '\n', to `out`. Text: `TIME LEVEL event key=value ...`, values quoted
 * where a blank, quote, control character or emptiness would make the line ambiguous. JSON:
 * timestamp, severity_text, body (the event) and attributes, the words of OpenTelemetry. */
void log_format_line(buffer *out, log_format format, int64_t wall_us, pgq_log_level level,
                     const char *event, const pgq_log_field *fields, size_t count);

enum {
    LOG_EVENTS_PER_SECOND = 20, /* of one name; more are counted, not written */
    LOG_EVENT_NAMES = 32,       /* names that are counted at a time */
    LOG_EVENT_BYTES = 48
};

/* How often one event came in the second that began at `since_us`. */
typedef struct log_window {
    char event[LOG_EVENT_BYTES];
    int64_t since_us;
    uint64_t written, suppressed;
} log_window;

typedef struct log_writer {
    log_format format;
    pgq_log_level level; /* lower ones are left out */
    void (*write)(void *user, const char *line, size_t len);
    void *user;
    buffer line;
    log_window windows[LOG_EVENT_NAMES];
} log_writer;

void log_open(log_writer *w, log_format format, pgq_log_level level,
              void (*write)(void *user, const char *line, size_t len), void *user);

/* Writes one event. A pgq_log_sink with the log_writer as `user`. After a second with more than
 * LOG_EVENTS_PER_SECOND events of a name follows one `log.suppressed event=... count=...`. */
void log_write(void *writer, pgq_log_level level, const char *event, const pgq_log_field *fields,
               size_t count);

/* Reports what is still suppressed and frees the memory. */
void log_close(log_writer *w);

#endif
