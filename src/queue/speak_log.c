/* What the log policies want. */
#include "queue/speak_internal.h"

void speaker_add_unlogged(speaker *s)
{
    size_t count = 0;

    for (size_t i = 0; i < s->entrypoint_count; i++)
        count += s->entrypoints[i].log_policy != PGQ_LOG_POLICY_FULL;
    param_array_begin(&s->params, PG_OID_TEXT, count);
    for (size_t i = 0; count > 0 && i < s->entrypoint_count; i++) {
        if (s->entrypoints[i].log_policy != PGQ_LOG_POLICY_FULL)
            element_text(&s->params, s->entrypoints[i].name);
    }
    param_array_end(&s->params);
}

bool speaker_logs_end(const speaker *s, const settle_item *item)
{
    pgq_log_policy policy = s->entrypoints[item->entrypoint].log_policy;

    if (policy == PGQ_LOG_POLICY_FULL)
        return true;
    if (item->status == PGQ_STATUS_QUEUED || item->status == PGQ_STATUS_PICKED)
        return false;
    return policy == PGQ_LOG_POLICY_TERMINAL || !s->extras || item->status != PGQ_STATUS_SUCCESSFUL;
}

void speaker_add_logged(speaker *s, const settle_item *items, size_t count)
{
    param_array_begin(&s->params, PG_OID_BOOL, count);
    for (size_t i = 0; i < count; i++)
        element_bool(&s->params, speaker_logs_end(s, &items[i]));
    param_array_end(&s->params);
}
