"""The two ways to claim a job (docs/internals/worker.md, Leases), for tests of rules that hold on both
and show in other rows and log entries."""

import collections

# `options`: of the worker. `claim`: what a claim that was lost before its end has left in the log.
# `free_s`: after so long without a sign of life the rows are others' to have.
Lane = collections.namedtuple("Lane", "name options claim free_s")

# The lease is as long as a slow machine needs to freeze or kill a worker within it; four of them are
# the two seconds after which the server ends a session that is silent in a lease.
LEASE_S = 0.5
LEASE = Lane("lease", ("--lane", "lease", "--lease", str(LEASE_S), "--heartbeat-timeout",
                       str(4 * LEASE_S)), [], max(4 * LEASE_S, 2.0))
ROW = Lane("row", ("--lane", "row", "--heartbeat-timeout", "1"), ["picked"], 1.0)


def leased(database):
    """The ids of the queued jobs whose rows somebody has locked."""
    return {job_id for (job_id,) in database.rows(
        "WITH free AS MATERIALIZED"
        " (SELECT id FROM pgqueuer WHERE status = 'queued' FOR UPDATE SKIP LOCKED)"
        " SELECT id FROM pgqueuer WHERE status = 'queued' AND id NOT IN (SELECT id FROM free)")}
