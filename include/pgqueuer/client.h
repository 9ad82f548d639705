/* Connecting, enqueueing jobs, and acting on those that are there.
 *
 * A pgq_client owns one connection and belongs to one thread at a time. Its functions block until
 * the server has answered or the deadline of the call has passed. */
#ifndef PGQUEUER_CLIENT_H
#define PGQUEUER_CLIENT_H

#include <pgqueuer/job.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Limits checked before anything is sent; over a limit is PGQ_E_LIMIT. */
#define PGQ_PAYLOAD_BYTES_MAX ((size_t)64 * 1024 * 1024)
#define PGQ_HEADERS_BYTES_MAX ((size_t)1024 * 1024)
#define PGQ_ENTRYPOINT_BYTES_MAX ((size_t)1024)
#define PGQ_DEDUPE_KEY_BYTES_MAX ((size_t)2048)
#define PGQ_BATCH_JOBS_MAX ((size_t)100000)
#define PGQ_BATCH_BYTES_MAX ((size_t)256 * 1024 * 1024)
#define PGQ_CANCEL_IDS_MAX ((size_t)100000)
#define PGQ_REQUEUE_IDS_MAX ((size_t)100000)
#define PGQ_DELAY_MS_MAX ((int64_t)100 * 366 * 86400 * 1000)

/* The names of PGQueuer's objects. NULL members take their default. `prefix` is put in front of
 * every default name, verbatim; a name that is given is not prefixed. Names are lower-case
 * identifiers (upper case is refused: the Python release folds it in some places and not in
 * others). Source: wire contract, "Names, prefix, schema". */
typedef struct pgq_names {
    size_t struct_size;
    const char *prefix;
    const char *schema; /* NULL: the connection's search_path decides */
    const char *channel;
    const char *function;
    const char *trigger;
    const char *queue_table;
    const char *log_table;
    const char *statistics_table;
    const char *schedules_table;
    const char *status_type;
} pgq_names;

#define PGQ_NAMES_INIT                                                                \
    {                                                                                 \
        sizeof(pgq_names), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
    }

/* What of a job's life becomes a row of the log. The producer writes the first of them, the worker
 * the others; each follows its own setting. */
typedef enum pgq_log_policy {
    PGQ_LOG_POLICY_DEFAULT = 0,  /* of a job: the client's; of an entrypoint: the run's; of a client
                                    or a run: full */
    PGQ_LOG_POLICY_FULL = 1,     /* queued, picked, retries and its end, as Python writes them */
    PGQ_LOG_POLICY_TERMINAL = 2, /* its end */
    PGQ_LOG_POLICY_FAILURES = 3  /* its end unless it was successful. Successes are only counted,
                                    in the statistics, which takes the extras of pgq_schema_install;
                                    without them it is as TERMINAL */
} pgq_log_policy;

typedef struct pgq_connect_options {
    size_t struct_size;
    const char *dsn;              /* URI or key=value; NULL or "": libpq's own variables */
    const pgq_names *names;       /* NULL: the defaults */
    const char *application_name; /* NULL: "pgqueuer" unless the DSN says another */
    int connect_timeout_ms;       /* for each host of the DSN; 10 000 by default, at least 1 */
    int call_timeout_ms;          /* for each call of a client; 0 (the default): no limit */
    pgq_log_policy log_policy;    /* of a client: what it enqueues and requeues is logged as queued
                                     under FULL (the default) only */
} pgq_connect_options;

#define PGQ_CONNECT_OPTIONS_INIT                                                        \
    {                                                                                   \
        sizeof(pgq_connect_options), NULL, NULL, NULL, 10000, 0, PGQ_LOG_POLICY_DEFAULT \
    }

typedef struct pgq_client pgq_client;

/* Connects. The strings of the options are copied. Tries the hosts of the DSN in order, each with
 * its own deadline; blocks at most for their sum.
 * Errors: PGQ_E_INVALID (options, names or DSN), PGQ_E_CONNECT, PGQ_E_AUTH, PGQ_E_NOMEM. */
PGQ_API PGQ_CHECKED pgq_code pgq_client_open(const pgq_connect_options *options,
                                             pgq_client **ret_client, pgq_error *err);

/* Closes the connection and frees the client. Takes NULL; returns NULL. */
PGQ_API pgq_client *pgq_client_free(pgq_client *client);

typedef enum pgq_on_conflict {
    PGQ_ON_CONFLICT_RAISE = 0,          /* a taken dedupe key fails the whole batch */
    PGQ_ON_CONFLICT_SKIP = 1,           /* a job with a taken dedupe key is left out, its id is 0 */
    PGQ_ON_CONFLICT_UPDATE_PRIORITY = 2 /* the existing job's priority is raised, its id returned */
} pgq_on_conflict;

/* One job to enqueue. Everything is borrowed for the time of the call. */
typedef struct pgq_new_job {
    size_t struct_size;
    const char *entrypoint;    /* required, not empty, UTF-8 */
    pgq_bytes payload;         /* opaque; data NULL: SQL NULL */
    const char *headers;       /* text of one JSON object, or NULL */
    int32_t priority;          /* larger runs first */
    int64_t delay_ms;          /* from the server's clock, 0 to PGQ_DELAY_MS_MAX */
    int64_t run_at_us;         /* absolute: microseconds since 1970-01-01 UTC; 0: use delay_ms */
    const char *dedupe_key;    /* at most one queued or picked job may have it; NULL: none */
    pgq_log_policy log_policy; /* logged as queued under FULL only; DEFAULT: the client's, or FULL
                                  with pgq_enqueue_on */
} pgq_new_job;

#define PGQ_NEW_JOB_INIT                                                                  \
    {                                                                                     \
        sizeof(pgq_new_job), NULL, {NULL, 0}, NULL, 0, 0, 0, NULL, PGQ_LOG_POLICY_DEFAULT \
    }

/* Checks a job as an enqueue does before it sends anything: PGQ_OK, PGQ_E_INVALID, PGQ_E_LIMIT,
 * PGQ_E_NOMEM. Any thread. */
PGQ_API PGQ_CHECKED pgq_code pgq_new_job_check(const pgq_new_job *job, pgq_error *err);

/* Enqueues one job in a transaction of its own and returns its id (0: left out by skip).
 * Errors: PGQ_E_INVALID, PGQ_E_LIMIT, PGQ_E_DUPLICATE (raise), PGQ_E_SCHEMA_MISSING,
 * PGQ_E_CONNECTION_LOST (nothing was sent), PGQ_E_OUTCOME_UNKNOWN (it may be enqueued),
 * PGQ_E_TIMEOUT (likewise), PGQ_E_DATABASE. After a lost connection the next call connects again.
 */
PGQ_API PGQ_CHECKED pgq_code pgq_enqueue(pgq_client *client, const pgq_new_job *job,
                                         pgq_on_conflict on_conflict, int64_t *ret_id,
                                         pgq_error *err);

/* Enqueues `count` jobs in one transaction: all of them or none. The array's stride is the
 * struct_size of its first element. ret_ids (may be NULL) has room for `count` ids and receives
 * them in input order. With update_priority a dedupe key may stand at most once in a call.
 * `where` of the error names the job by its index: of one that is refused before anything is sent,
 * and of one whose dedupe key is taken (where the role may not SELECT the queue's keys, it is the
 * index's name). From 2000 jobs on, on_conflict raise goes by COPY; nothing else differs. An empty
 * batch succeeds and sends nothing.
 * Errors: as pgq_enqueue. */
PGQ_API PGQ_CHECKED pgq_code pgq_enqueue_batch(pgq_client *client, const pgq_new_job *jobs,
                                               size_t count, pgq_on_conflict on_conflict,
                                               int64_t *ret_ids, pgq_error *err);

typedef struct pgq_cancel_options {
    size_t struct_size;
    int64_t heartbeat_timeout_ms; /* a picked job without a beat for so long has no worker any more,
                                     100 to 86 400 000; 30 000 */
} pgq_cancel_options;

#define PGQ_CANCEL_OPTIONS_INIT           \
    {                                     \
        sizeof(pgq_cancel_options), 30000 \
    }

/* What became of the ids, each of them counted once. */
typedef struct pgq_cancel_counts {
    size_t cancelled; /* taken out of the queue by this call */
    size_t told;      /* a worker had it: that was told, and ends or has ended the job */
    size_t unknown;   /* there is no such job, or it has ended */
} pgq_cancel_counts;

/* Cancels jobs, by their ids. The workers are told first; then the jobs that are queued, held, or
 * picked by a worker that went silent are deleted and logged as canceled. A job that a live worker
 * runs is left to that worker, which tells the handler and ends the job as canceled, whatever the
 * handler says. When there are such jobs, the call waits 0.3 s, tells the workers once more, and
 * looks again: a retry may have put one back into the queue.
 * An id may stand more than once. options may be NULL; so may ret_counts, which is filled also on
 * failure: what was done before it stays done (without `unknown`), and the call may be repeated.
 * Errors: PGQ_E_INVALID, PGQ_E_LIMIT (more than PGQ_CANCEL_IDS_MAX ids), PGQ_E_SCHEMA_MISSING,
 * PGQ_E_CONNECTION_LOST, PGQ_E_OUTCOME_UNKNOWN, PGQ_E_TIMEOUT, PGQ_E_DATABASE, PGQ_E_NOMEM. */
PGQ_API PGQ_CHECKED pgq_code pgq_cancel(pgq_client *client, const int64_t *ids, size_t count,
                                        const pgq_cancel_options *options,
                                        pgq_cancel_counts *ret_counts, pgq_error *err);

/* Puts held jobs (status failed) back into the queue, due at once and with no attempt counted, and
 * wakes the workers. Other ids are passed over: *ret_requeued (may be NULL) says how many were
 * held. All in one transaction: when an active job, or another of these, has the dedupe key of one
 * of them, that is PGQ_E_DUPLICATE and nothing has changed. Errors: PGQ_E_DUPLICATE, PGQ_E_INVALID,
 * PGQ_E_LIMIT (more than PGQ_REQUEUE_IDS_MAX ids), PGQ_E_SCHEMA_MISSING, PGQ_E_CONNECTION_LOST,
 * PGQ_E_OUTCOME_UNKNOWN, PGQ_E_TIMEOUT, PGQ_E_DATABASE, PGQ_E_NOMEM. */
PGQ_API PGQ_CHECKED pgq_code pgq_requeue(pgq_client *client, const int64_t *ids, size_t count,
                                         size_t *ret_requeued, pgq_error *err);

/* Frees a text that a function of this library returned. Takes NULL. */
PGQ_API void pgq_text_free(char *text);

#ifdef __cplusplus
}
#endif
#endif
