/* Enqueueing inside the caller's own transaction, on the caller's own connection.
 *
 * The only public header that needs libpq's. */
#ifndef PGQUEUER_LIBPQ_H
#define PGQUEUER_LIBPQ_H

#include <libpq-fe.h>

#include <pgqueuer/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Enqueues `count` jobs on `conn`. In the caller's transaction nothing is begun, committed or
 * rolled back: the jobs appear with the caller's COMMIT and wake workers then, and a failure leaves
 * the transaction failed, as any failed statement does. Outside of one it is all or nothing by
 * itself: one statement, or, where the jobs are so many that they go by COPY, a transaction that is
 * committed or rolled back before this returns. `names` may be NULL; otherwise as
 * pgq_enqueue_batch.
 * The connection must be idle or in a transaction, with no result pending and not in pipeline mode
 * (else PGQ_E_STATE or PGQ_E_UNSUPPORTED). Blocks as PQexecParams does.
 * Errors: as pgq_enqueue_batch. */
PGQ_API PGQ_CHECKED pgq_code pgq_enqueue_on(PGconn *conn, const pgq_names *names,
                                            const pgq_new_job *jobs, size_t count,
                                            pgq_on_conflict on_conflict, int64_t *ret_ids,
                                            pgq_error *err);

#ifdef __cplusplus
}
#endif
#endif
