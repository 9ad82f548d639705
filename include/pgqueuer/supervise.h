/* For a program that keeps workers in child processes and survives their crashes.
 *
 * The parent makes a ledger in memory that it shares with each child. The worker in the child
 * (pgq_run_options.ledger) notes there which jobs run, so that after a crash the parent knows the
 * suspects. It takes them over under an id of its own, and runs each of them alone in a child
 * (pgq_worker_set_id, pgq_run_options.only_job). What dies alone is a killer and can be held; what
 * does not is settled as usual. The program's `run --restart-on-failure` does all that. */
#ifndef PGQUEUER_SUPERVISE_H
#define PGQUEUER_SUPERVISE_H

#include <pgqueuer/worker.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PGQ_SUSPECTS_MAX 81920 /* as many as a ledger has places for */

/* The bytes of a ledger. */
PGQ_API size_t pgq_ledger_size(void);

/* Makes an empty ledger in `memory`, which is aligned for any type and shared by parent and child.
 * A ledger serves one child after the other: this empties it again. */
PGQ_API pgq_ledger *pgq_ledger_init(void *memory);

/* What a worker has said of itself. */
typedef struct pgq_ledger_view {
    char worker_id[37]; /* "" until it has begun */
    bool listening;     /* it is ready for work */
    int64_t alive_us;   /* CLOCK_MONOTONIC of the last turn of its loop; 0: none yet */
} pgq_ledger_view;

PGQ_API void pgq_ledger_look(const pgq_ledger *ledger, pgq_ledger_view *ret_view);

/* The ids of the jobs that run, at most `max`; how many there are. */
PGQ_API size_t pgq_ledger_running(const pgq_ledger *ledger, int64_t *ret_ids, size_t max);

/* Takes over jobs that a worker, which has ended, left picked: they are picked by `own_id` from now
 * on, with a new heartbeat. Whatever else that worker left picked is given back to the queue.
 * Returns in ret_taken, of `count` elements, which of the jobs were still there.
 * Errors: as pgq_enqueue; PGQ_E_OUTCOME_UNKNOWN: call it again. */
PGQ_API PGQ_CHECKED pgq_code pgq_suspects_take(pgq_client *client, const char *worker_id,
                                               const char *own_id, const int64_t *ids, size_t count,
                                               bool *ret_taken, pgq_error *err);

/* Renews the heartbeats of everything picked under own_id: call it a few times in a heartbeat
 * timeout while suspects wait. */
PGQ_API PGQ_CHECKED pgq_code pgq_suspects_beat(pgq_client *client, const char *own_id,
                                               pgq_error *err);

/* Holds a job picked under own_id as `failed`, with an error of this type and message in its log
 * row and `deaths` in the row's context. ret_held: false when it is not picked by own_id any more,
 * since its run was settled. */
PGQ_API PGQ_CHECKED pgq_code pgq_suspect_hold(pgq_client *client, const char *own_id, int64_t id,
                                              const char *type, const char *message, int deaths,
                                              bool *ret_held, pgq_error *err);

/* Gives everything that is picked under an id back to the queue. */
PGQ_API PGQ_CHECKED pgq_code pgq_suspects_release(pgq_client *client, const char *own_id,
                                                  pgq_error *err);

#ifdef __cplusplus
}
#endif
#endif
