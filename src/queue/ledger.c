#include "queue/ledger.h"

#include <stdio.h>
#include <string.h>

/* Two processes share them: a lock would be of one process. */
_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "atomics need a lock");

size_t pgq_ledger_size(void)
{
    return sizeof(pgq_ledger);
}

pgq_ledger *pgq_ledger_init(void *memory)
{
    memset(memory, 0, sizeof(pgq_ledger));
    return memory;
}

void pgq_ledger_look(const pgq_ledger *ledger, pgq_ledger_view *ret_view)
{
    *ret_view = (pgq_ledger_view){.listening = atomic_load(&ledger->listening) != 0,
                                  .alive_us = atomic_load(&ledger->alive_us)};
    if (atomic_load(&ledger->named) != 0)
        (void)snprintf(ret_view->worker_id, sizeof(ret_view->worker_id), "%.36s",
                       ledger->worker_id);
}

size_t pgq_ledger_running(const pgq_ledger *ledger, int64_t *ret_ids, size_t max)
{
    size_t count = 0;

    for (size_t i = 0; i < LEDGER_SLOTS; i++) {
        int64_t id = atomic_load(&ledger->jobs[i]);

        if (id != 0 && count++ < max)
            ret_ids[count - 1] = id;
    }
    return count;
}

void ledger_name(pgq_ledger *ledger, const char *worker_id)
{
    if (ledger == NULL)
        return;
    (void)snprintf(ledger->worker_id, sizeof(ledger->worker_id), "%s", worker_id);
    atomic_store(&ledger->named, 1);
}

void ledger_listening(pgq_ledger *ledger, bool listening)
{
    if (ledger != NULL)
        atomic_store(&ledger->listening, listening);
}

void ledger_alive(pgq_ledger *ledger, int64_t now_us)
{
    if (ledger != NULL)
        atomic_store(&ledger->alive_us, now_us);
}

void ledger_begin(pgq_ledger *ledger, size_t slot, int64_t id)
{
    if (ledger != NULL && slot < LEDGER_SLOTS)
        atomic_store(&ledger->jobs[slot], id);
}

void ledger_end(pgq_ledger *ledger, size_t slot, int64_t id)
{
    if (ledger != NULL && slot < LEDGER_SLOTS)
        (void)atomic_compare_exchange_strong(&ledger->jobs[slot], &id, 0);
}

void ledger_clear(pgq_ledger *ledger)
{
    for (size_t i = 0; ledger != NULL && i < LEDGER_SLOTS; i++)
        atomic_store(&ledger->jobs[i], 0);
}
