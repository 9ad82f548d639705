/* The ledger that a worker keeps in memory it shares with its parent: which jobs run. Written by
 * the worker's threads without a lock, read by the parent at any time, above all after a crash. */
#ifndef QUEUE_LEDGER_H
#define QUEUE_LEDGER_H

#include <stdatomic.h>

#include <pgqueuer/supervise.h>

/* A slot for each place that the engine has for a job; jobs beyond are not noted. */
enum { LEDGER_SLOTS = 16384 };

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
void ledger_end(pgq_ledger *ledger, size_t slot);

#endif
