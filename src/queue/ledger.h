/* The ledger that a worker keeps in memory it shares with its parent: which jobs run. Written by
 * the worker's threads without a lock, read by the parent at any time, above all after a crash. */
#ifndef QUEUE_LEDGER_H
#define QUEUE_LEDGER_H

#include <stdatomic.h>

#include <pgqueuer/supervise.h>

/* A slot for each place that the engine has for a job, with all options at their limits. */
enum { LEDGER_SLOTS = PGQ_SUSPECTS_MAX };

_Static_assert(LEDGER_SLOTS >= 2 * (PGQ_THREADS_MAX + 2 * PGQ_BATCH_SIZE_MAX) +
                                   PGQ_LANES_MAX * PGQ_BATCH_SIZE_MAX + PGQ_CONCURRENT_TASKS_MAX,
               "the engine has places without a slot");

struct pgq_ledger {
    char worker_id[40];
    atomic_int named; /* worker_id can be read */
    atomic_int listening;
    _Atomic int64_t alive_us;
    _Atomic int64_t jobs[LEDGER_SLOTS]; /* ids; 0: none */
};

/* All of them take NULL and do nothing then. */
void ledger_name(pgq_ledger *ledger, const char *worker_id);
void ledger_listening(pgq_ledger *ledger, bool listening);
void ledger_alive(pgq_ledger *ledger, int64_t now_us);
void ledger_begin(pgq_ledger *ledger, size_t slot, int64_t id);
/* Nothing when the slot has another job by now: a handler that was given up may end much later. */
void ledger_end(pgq_ledger *ledger, size_t slot, int64_t id);
/* The worker has ended as it should: whatever its handlers still do, nobody is a suspect. */
void ledger_clear(pgq_ledger *ledger);

#endif
