/* PGQueuer: a job queue whose only server is PostgreSQL. Includes every public header but libpq.h.
 */
#ifndef PGQUEUER_PGQUEUER_H
#define PGQUEUER_PGQUEUER_H

#include <pgqueuer/error.h>
#include <pgqueuer/job.h>
#include <pgqueuer/client.h>
#include <pgqueuer/producer.h>
#include <pgqueuer/import.h>
#include <pgqueuer/admin.h>
#include <pgqueuer/executor.h>
#include <pgqueuer/worker.h>
#include <pgqueuer/supervise.h>
#include <pgqueuer/version.h>

#endif
