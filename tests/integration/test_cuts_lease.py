"""As test_cuts.py, on the lease lane: the flight that ends a lease, commits and begins the next, and what
follows when it is lost. A lost reply may hide that all of it was carried out, or nothing."""

import re

import pytest

from lib.cuts import MESSAGES, Sweep, assert_whole, check_each_ran_once
from lib.jobs import NewJob
from lib.proxy import Boundary, Proxy

LEASE_SECONDS = 0.1
# Of a payload that no lease brings along.
LARGE = b"x" * (128 * 1024 + 1)
ENDS = ("settle_done", "settle_lease")
STATEMENTS = {"begin", "commit", "announce", "claim_ids", "claim_lease_many", "claim_lease_many_after",
              *ENDS}
# The jobs of a round, by what is to be cut in it.
MIXED = ["ok", "fail", "hold", "retry_once", "ok"]
SLOW = ["sleep"] * 2  # they outlast the lease, and have all threads
BACKLOG = ["ok"] * 12
# After many quick ones the worker claims ahead, and leaves jobs behind that wait for a thread.
AHEAD = ["ok"] * 40 + SLOW + ["ok"] * 3
WORK = {"settle_lease": MIXED + SLOW, "resolve": MIXED + SLOW, "announce": AHEAD,
        "claim_ids": ["large", "ok"], "settle_done": BACKLOG, "claim_lease_many_after": BACKLOG}
PAYLOADS = {"sleep": str(int(2500 * LEASE_SECONDS)).encode(), "retry_once": b"1", "large": LARGE}


@pytest.fixture
def proxy(cluster):
    with Proxy(cluster) as one:
        yield one


def jobs_for(boundary):
    names = MIXED + AHEAD + ["large"] if boundary is None else WORK.get(boundary.statement, MIXED)
    return [NewJob(name, PAYLOADS.get(name, b"")) for name in names]


def is_of_end(at):
    """And not of a lease that had brought nothing."""
    return bool(set(ENDS) & set(at.flight))


def wanted(role, at):
    return (at.statement in STATEMENTS and role not in ("check_worker", "listen")
            and (at.statement != "commit" or is_of_end(at)))


def name(at):
    """By its statement; and whether a lease began in one flight with the end of another."""
    behind = ("commit",) if at.statement in ("begin", "claim_lease_many") and "commit" in at.flight else ()
    return at._replace(flight=(*behind, at.statement))


def is_lost_commit(_, at):
    return (at.statement == "commit" and is_of_end(at)
            and (at.side, at.message) == ("backend", "CommandComplete"))


def is_unsaid_end(_, at):
    return at.statement in ENDS and (at.side, at.message) == ("frontend", "Bind")


def test_leases_survive_a_cut_at_every_message(queue_db, proxy, produce, spawn_worker, journal):
    names = ["ok", "fail", "hold", "retry_once", "sleep", "large=ok"]
    worker = spawn_worker(proxy.dsn(queue_db), "--lane", "lease", "--lease", str(LEASE_SECONDS),
                          "--lanes", "1", "--threads", "2", "--batch-size", "5",
                          "--dequeue-timeout", "600", args=names)
    sweep = Sweep(queue_db, proxy, produce, jobs_for)
    sweep.run(wanted, name)
    for side, messages in MESSAGES.items():
        first = is_lost_commit if side == "frontend" else is_unsaid_end
        for message in messages:  # the second cut is in finding out what the first one hid
            sweep.cut(Boundary(side, ("resolve",), message), lambda role, at: True,
                      lambda at: at.place, reset=side == "backend", after=[first])
    done = sweep.report()
    for statement in ("settle_lease", "claim_lease_many", "claim_lease_many_after", "claim_ids", "announce"):
        assert_whole(done, statement)
    assert_whole(done, "resolve", without=["Parse", "ParseComplete"])
    silent = ["RowDescription", "DataRow"]
    assert_whole(done, "settle_done", without=silent)
    assert_whole(done, "commit", without=silent)
    assert_whole(done, "begin", without=[*silent, "Sync", "ReadyForQuery"])  # the claim's
    worker.stop_cleanly()
    assert worker.events("lease.lost") and worker.events("connection.restored")
    assert not worker.events("claim.lost")
    check_each_ran_once(queue_db, journal, sweep, retried="retry_once")
    # Adopting a claim whose reply was lost is another claim.
    adopted = sum(int(re.search(r"jobs=(\d+)", line)[1]) for line in worker.events("claim.adopted"))
    counts = queue_db.log_counts()
    # Of a lease, picked and given back unstarted, as may be on a busy machine.
    back = counts["queued"] - len(sweep.ids) - sweep.made["retry_once"]
    assert adopted > 0 and back >= 0 and counts["picked"] == len(journal.runs()) + adopted + back
