#include "worker/note.h"

/* One row a note: its event's name, its level, what its number counts (NULL: no number). */
static const struct note_row {
    const char *event;
    pgq_log_level level;
    const char *number;
} note_rows[NOTE_COUNT] = {
    [NOTE_LISTENING] = {"worker.listening", PGQ_LOG_INFO, NULL},
    [NOTE_CONNECTION_LOST] = {"connection.lost", PGQ_LOG_WARNING, "retry_ms"},
    [NOTE_CONNECTION_RESTORED] = {"connection.restored", PGQ_LOG_INFO, NULL},
    [NOTE_CONNECT_FAILED] = {"connection.failed", PGQ_LOG_WARNING, "retry_ms"},
    [NOTE_CLAIM_LOST] = {"claim.lost", PGQ_LOG_WARNING, NULL},
    [NOTE_CLAIM_REFUSED] = {"claim.refused", PGQ_LOG_WARNING, "retry_ms"},
    [NOTE_CLAIM_ADOPTED] = {"claim.adopted", PGQ_LOG_INFO, "jobs"},
    [NOTE_SETTLE_REFUSED] = {"settle.refused", PGQ_LOG_ERROR, NULL},
    [NOTE_SETTLE_FAILED] = {"settle.failed", PGQ_LOG_WARNING, "jobs"},
    [NOTE_STATEMENT_REFUSED] = {"statement.refused", PGQ_LOG_WARNING, "jobs"},
    [NOTE_STOPPING] = {"worker.stopping", PGQ_LOG_INFO, "jobs"},
    [NOTE_DRAIN_TIMEOUT] = {"worker.drain_timeout", PGQ_LOG_ERROR, "jobs"},
    [NOTE_LISTENER_FAILED] = {"listener.failed", PGQ_LOG_ERROR, "timeout_ms"},
    [NOTE_LISTENER_RESTORED] = {"listener.restored", PGQ_LOG_INFO, NULL},
    [NOTE_JOB_CANCELLED] = {"job.cancelled", PGQ_LOG_INFO, NULL},
    [NOTE_JOB_TIMEOUT] = {"job.timeout", PGQ_LOG_WARNING, "timeout_ms"},
    [NOTE_JOB_STUCK] = {"job.stuck", PGQ_LOG_ERROR, "stuck_threads"},
    [NOTE_POOL_EXHAUSTED] = {"pool.exhausted", PGQ_LOG_CRITICAL, "stuck_threads"},
    [NOTE_LIMITS_DIFFER] = {"limits.differ", PGQ_LOG_WARNING, NULL}, /* see note_limits */
    [NOTE_AGGREGATE_REFUSED] = {"aggregation.refused", PGQ_LOG_WARNING, NULL},
    [NOTE_LEASE_ENDED] = {"lease.ended", PGQ_LOG_WARNING, "sessions"},
    [NOTE_HORIZON_HELD] = {"horizon.held", PGQ_LOG_WARNING, "transactions"},
    [NOTE_LEASE_LOST] = {"lease.lost", PGQ_LOG_WARNING, "jobs"},
    [NOTE_NO_EXTRAS] = {"extras.missing", PGQ_LOG_WARNING, NULL},
    [NOTE_DEFERRED] = {"worker.left_deferred", PGQ_LOG_INFO, "jobs"},
};

void note_event(const note_log *log, pgq_log_level level, const char *event,
                const pgq_log_field *fields, size_t count)
{
    int lowest = atomic_load_explicit(log->level, memory_order_relaxed);

    if (log->sink != NULL && (int)level >= lowest && lowest != PGQ_LOG_NONE)
        log->sink(log->user, level, event, fields, count);
}

void note_engine(const note_log *log, const engine_note *note)
{
    const struct note_row *row = &note_rows[note->kind];
    pgq_log_field fields[6];
    size_t count = 0;

    if (note->lane >= 0)
        fields[count++] = (pgq_log_field){"lane", NULL, note->lane};
    if (note->job_id != 0)
        fields[count++] = (pgq_log_field){"job", NULL, note->job_id};
    if (row->number != NULL)
        fields[count++] = (pgq_log_field){row->number, NULL, note->number};
    if (note->error != NULL) {
        fields[count++] = (pgq_log_field){note->kind == NOTE_HORIZON_HELD ? "holder" : "error",
                                          note->error->message, 0};
        if (note->error->sqlstate[0] != '\0')
            fields[count++] = (pgq_log_field){"sqlstate", note->error->sqlstate, 0};
    }
    note_event(log, row->level, row->event, fields, count);
}

void note_limits(const note_log *log, const char *entrypoint, survey_kind kind)
{
    static const char *const texts[] = {
        [SURVEY_HIGHER] = "another worker's limit is higher than ours",
        [SURVEY_UNLIMITED] = "another worker does not limit it, and we do",
        [SURVEY_LIMITED] = "another worker limits it, and we do not",
    };
    const pgq_log_field fields[] = {
        {"entrypoint", entrypoint, 0},
        {"difference", texts[kind], 0},
    };

    note_event(log, note_rows[NOTE_LIMITS_DIFFER].level, note_rows[NOTE_LIMITS_DIFFER].event,
               fields, BASE_COUNT(fields));
}

void note_report(const note_log *log, const engine_report *report, const pgq_worker_counts *counts)
{
    const pgq_log_field fields[] = {
        {"state", report->state, 0},
        {"listener", report->listener, 0},
        {"wakeup", base_streq(report->listener, "healthy") ? "notify" : "poll", 0},
        {"lanes_up", NULL, report->lanes_up},
        {"lanes", NULL, report->lanes},
        {"entrypoints_leased", NULL, report->leasing},
        {"in_pool", NULL, (int64_t)report->waiting_or_running},
        {"leased", NULL, (int64_t)report->leased},
        {"parked", NULL, (int64_t)report->parked},
        {"finished", NULL, (int64_t)report->finished},
        {"settling", NULL, (int64_t)report->settling},
        {"refused", NULL, (int64_t)report->refused},
        {"releasing", NULL, (int64_t)report->releasing},
        {"stuck_threads", NULL, (int64_t)report->stragglers},
        {"backlog", report->backlog ? "yes" : "no", 0},
        {"claimed", NULL, (int64_t)counts->claimed},
        {"successful", NULL, (int64_t)counts->successful},
        {"failed", NULL, (int64_t)counts->failed},
        {"retried", NULL, (int64_t)counts->retried},
        {"cancelled", NULL, (int64_t)counts->cancelled},
        {"lost", NULL, (int64_t)counts->lost},
    };

    if (log->sink != NULL)
        log->sink(log->user, PGQ_LOG_INFO, "worker.state", fields, BASE_COUNT(fields));
}
