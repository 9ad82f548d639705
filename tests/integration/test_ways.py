"""The ways that the core list goes (tests/lib/core.py): that they are what they are called, and what
none of its tests shows."""

import itertools
import re

from lib import core, invariants, program
from lib.jobs import NewJob
from lib.pooler import Pooler
from lib.proxy import Proxy
from lib.waiting import wait_until


def test_the_tests_of_the_core_list_exist():
    defined = set()
    for path in (program.REPOSITORY / "tests").glob("*/test_*.py"):
        defined |= set(re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE))
    assert not (core.CORE.keys() | core.LONG.keys()) - defined


class Settles:
    """Which lane the outcomes are written on, as `proxy.arm(settles)`; cuts nothing."""

    def __init__(self):
        self.lanes = []

    def __call__(self, link, boundary):
        if boundary.message == "Execute" and boundary.statement in ("settle_row", "settle_done",
                                                                    "settle_lease"):
            self.lanes.append("row" if boundary.statement == "settle_row" else "lease")
        return False

    def stretches(self):
        return [lane for lane, _ in itertools.groupby(self.lanes)]


def test_an_entrypoint_goes_from_leases_to_the_row_lane_and_back_as_its_runs_are_slow_or_quick(
    cluster, queue_db, produce, spawn_worker, journal
):
    """Runs that are slow for a while, as on the way `switching`. How many jobs a stretch takes is the
    machine's: what it had to measure a run's time with."""
    settles = Settles()
    ids = []

    def there_and_back():
        ids.extend(produce(queue_db, [NewJob("ok", b"")] * 200))
        wait_until(lambda: not queue_db.job_count(), 30, "the jobs end")
        return min(settles.stretches().count(lane) for lane in ("lease", "row")) >= 3

    with Proxy(cluster) as proxy:
        proxy.arm(settles)
        worker = spawn_worker(proxy.dsn(queue_db), "--lanes", "1", "--batch-size", "10",
                              env=core.UNSTEADY, args=["ok"])
        wait_until(there_and_back, 60, "it goes to leases and back, twice")
        worker.stop_cleanly()
    assert not invariants.check_kept(queue_db, ids)
    assert invariants.check_single(journal, ids) == 0


def test_more_lanes_than_the_pooler_has_sessions_take_turns(
    cluster, queue_db, produce, processes, spawn_worker, journal
):
    """Each lease has a session for itself while it lasts. Beats wait for one no longer than that, so
    that no claim is lost; the jobs that outlast a lease go on as picked ones."""
    dsn = Pooler(cluster, processes, pool_size=2).dsn(queue_db)
    fleet = [spawn_worker(dsn, "--lane", "lease", "--lanes", "3", "--heartbeat-timeout", "3",
                          env=core.DEAF, args=["ok", "sleep"]) for _ in range(2)]
    ids = produce(queue_db, [NewJob("ok", b"")] * 500 + [NewJob("sleep", b"4000")] * 4, batch=504)
    wait_until(lambda: not queue_db.job_count(), 30, "the jobs end")
    for worker in fleet:
        worker.stop_cleanly()
        # That sessions are shared shows when a name is another's; then statements go without names. The
        # pooler ends a session whose client went away in the middle, and may let one wait too long.
        assert all(re.search("prepared statement|the server closed|no answer has come", line)
                   for line in worker.events("connection.lost"))
        assert not worker.events("claim.lost")
    assert not invariants.check_kept(queue_db, ids)
    assert invariants.check_single(journal, ids) == 0
    assert queue_db.log_counts() == dict.fromkeys(("queued", "picked", "successful"), len(ids))
