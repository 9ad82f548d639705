#include "queue/outcome.h"
#include "base/clock.h"
#include "base/utf8.h"

#include <stdlib.h>

enum { TYPE_BYTES_MAX = 200 };

static const char cut_mark[] = " [cut]";
/* The exception_type of every retry's log row, also of those that an executor makes of a failure.
 */
static const char retry_type[] = "RetryRequested";

/* One allocation: the struct, then both texts. */
static outcome_text *text_new(const char *type, const char *message)
{
    size_t type_len = type != NULL ? strnlen(type, TYPE_BYTES_MAX + 1) : 0;
    size_t len = message != NULL ? strnlen(message, PGQ_OUTCOME_TEXT_BYTES_MAX + 1) : 0;
    bool cut = len > PGQ_OUTCOME_TEXT_BYTES_MAX;
    outcome_text *text;
    char *at;

    if (type_len > TYPE_BYTES_MAX)
        type_len = utf8_cut(type, TYPE_BYTES_MAX);
    if (cut)
        len = utf8_cut(message, PGQ_OUTCOME_TEXT_BYTES_MAX);
    text = calloc(1, sizeof(*text) + type_len + len + sizeof(cut_mark) + 2);
    if (text == NULL)
        return NULL;
    at = (char *)(text + 1);
    if (type != NULL) {
        memcpy(at, type, type_len);
        text->type = at;
        at += type_len + 1;
    }
    if (message != NULL) {
        memcpy(at, message, len);
        if (cut)
            memcpy(at + len, cut_mark, sizeof(cut_mark));
        text->message = at;
    }
    return text;
}

pgq_outcome pgq_done(void)
{
    return (pgq_outcome){.kind = OUTCOME_DONE};
}

pgq_outcome pgq_fail(const char *type, const char *message)
{
    return (pgq_outcome){.kind = OUTCOME_FAIL, .text = text_new(type, message)};
}

pgq_outcome pgq_retry(int64_t delay_ms, const char *reason)
{
    return (pgq_outcome){
        .kind = OUTCOME_RETRY,
        .delay_ms = base_min_i64(base_max_i64(delay_ms, 0), PGQ_DELAY_MS_MAX),
        .text = text_new(retry_type, reason),
    };
}

pgq_outcome pgq_cancelled(void)
{
    return (pgq_outcome){.kind = OUTCOME_CANCELLED};
}

pgq_outcome pgq_later(void)
{
    return (pgq_outcome){.kind = OUTCOME_LATER};
}

size_t outcome_text_bytes(const outcome_text *text)
{
    size_t bytes = 0;

    if (text != NULL && text->type != NULL)
        bytes += strlen(text->type);
    if (text != NULL && text->message != NULL)
        bytes += strlen(text->message);
    return bytes;
}

const char *outcome_reason(const pgq_outcome *outcome)
{
    const outcome_text *text = outcome->text;

    if (text == NULL)
        return "";
    if (text->message != NULL && text->message[0] != '\0')
        return text->message;
    return text->type != NULL ? text->type : "";
}

pgq_outcome outcome_retry(const pgq_outcome *failure, int64_t delay_ms, bool in_process)
{
    return (pgq_outcome){
        .kind = in_process ? OUTCOME_AGAIN : OUTCOME_RETRY,
        .delay_ms = base_min_i64(base_max_i64(delay_ms, 0), PGQ_DELAY_MS_MAX),
        .text = failure->text,
    };
}

void pgq_outcome_discard(pgq_outcome *outcome)
{
    free(outcome->text);
    outcome->text = NULL;
}

void outcome_add_timedelta(buffer *out, int64_t delay_ms)
{
    int64_t seconds = delay_ms / 1000, days = seconds / 86400;

    if (days > 0)
        buffer_add_format(out, "%lld day%s, ", (long long)days, days == 1 ? "" : "s");
    seconds %= 86400;
    buffer_add_format(out, "%lld:%02lld:%02lld", (long long)(seconds / 3600),
                      (long long)(seconds / 60 % 60), (long long)(seconds % 60));
    if (delay_ms % 1000 != 0)
        buffer_add_format(out, ".%06lld", (long long)(delay_ms % 1000 * 1000));
}

static void add_text(buffer *out, const char *key, const char *text)
{
    buffer_add_format(out, ", \"%s\": ", key);
    buffer_add_json(out, text, strlen(text));
}

static void add_trace(buffer *trace, const char *type, const char *message)
{
    buffer_add_text(trace, type);
    buffer_add_text(trace, message[0] != '\0' ? ": " : "");
    buffer_add_text(trace, message);
    buffer_add_char(trace, '\n');
}

void outcome_add_traceback(buffer *out, const traceback_context *context, const outcome_text *text)
{
    const char *cause = text != NULL && text->type != NULL ? text->type : "Failure";
    const char *type = context->retry ? retry_type : cause;
    const char *message = text != NULL && text->message != NULL ? text->message : "";
    buffer trace = BUFFER_INIT;
    char time_text[CLOCK_TEXT_BYTES];

    if (!base_streq(cause, type)) /* the failure of which an executor has made a retry */
        add_trace(&trace, cause, message);
    add_trace(&trace, type, message);
    buffer_add_format(out, "{\"job_id\": %lld", (long long)context->job_id);
    add_text(out, "timestamp", clock_format(context->wall_us, false, time_text));
    add_text(out, "exception_type", type);
    add_text(out, "exception_message", message);
    if (trace.broken)
        out->broken = true;
    else
        add_text(out, "traceback", trace.data);
    buffer_release(&trace);
    buffer_add_text(out, ", \"additional_context\": {\"entrypoint\": ");
    buffer_add_json(out, context->entrypoint, strlen(context->entrypoint));
    add_text(out, "queue_manager_id", context->worker_id);
    if (context->deaths > 0)
        buffer_add_format(out, ", \"deaths\": %d", context->deaths);
    if (context->retry) {
        buffer_add_format(out, ", \"attempt\": %d, \"retry_delay\": \"", context->attempts);
        outcome_add_timedelta(out, context->delay_ms);
        buffer_add_text(out, "\"");
        if (text != NULL && text->message != NULL)
            add_text(out, "reason", message);
        else
            buffer_add_text(out, ", \"reason\": null");
    }
    buffer_add_text(out, "}}");
}
