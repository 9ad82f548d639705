"""A server that is away for a while, under load: the worker outlives it, keeps what its handlers
said meanwhile, and settles it once when the server is back."""

import time

import pytest

from lib import invariants
from lib.extent import extent
from lib.jobs import NewJob
from lib.waiting import wait_until

OUTAGE = extent("OUTAGE_SECONDS", 8.0, 30.0)
# Not stale while the server is away: nobody may take what the worker still has.
HEARTBEAT = OUTAGE + 30
THREADS = 8


@pytest.mark.timeout(int(OUTAGE) + 150)
def test_a_server_that_is_away_for_a_while_costs_no_job_and_no_outcome(
    own_cluster, own_queue_db, produce, spawn_worker, journal
):
    jobs = [NewJob("sleep", b"3")] * 3000
    # These are in the middle when the server stops, and say each something else while it is away.
    during = [NewJob(name, b"2500") for name in
              ("slow", "slow", "slow_fail", "slow_fail", "slow_hold", "slow_hold", "slow_retry")]
    worker = spawn_worker(
        own_queue_db, "--heartbeat-timeout", str(HEARTBEAT), "--threads", str(THREADS + len(during)),
        args=["sleep", "slow=sleep", "slow_fail=sleep_fail", "slow_hold=sleep_hold",
              "slow_retry=sleep_retry"])
    ids = produce(own_queue_db, jobs)
    journal.wait_runs(200)
    slow = produce(own_queue_db, [NewJob(job.entrypoint, job.payload, priority=1) for job in during])
    wait_until(lambda: started(journal, slow) == len(slow), 10, "the slow jobs run")
    own_cluster.stop("immediate")
    stopped = time.monotonic_ns()
    assert all(run.end_ns is None for run in journal.runs() if run.job_id in slow), "stopped too late"
    wait_until(lambda: time.monotonic_ns() - stopped >= OUTAGE * 1e9, OUTAGE + 10,
               "the server is away for as long as the test says")
    assert worker.returncode is None, worker.log()
    ended_in_outage = [run for run in journal.runs() if run.job_id in slow and run.end_ns]
    assert len(ended_in_outage) == len(slow), "their outcomes came while there was no database"
    own_cluster.start()
    wait_until(lambda: own_queue_db.job_count("status <> 'failed'") == 0, 60,
               lambda: f"the queue drains, left: {own_queue_db.rows('SELECT * FROM pgqueuer')[:9]}")
    worker.stop_cleanly()
    check_kept_outcomes(own_queue_db, slow, journal)
    invariants.check_kept(own_queue_db, ids + slow)
    # Not one job of the load ran twice: the retry is the only one that may.
    ordinary = [run.job_id for run in journal.runs() if run.job_id not in slow]
    assert sorted(ordinary) == sorted(ids)
    assert not journal.overlapping()
    assert worker.events("connection.lost") and worker.events("connection.restored")


def started(journal, ids):
    return len({run.job_id for run in journal.runs()} & set(ids))


def check_kept_outcomes(database, slow, journal):
    """Each as its handler said during the outage, without a second run."""
    logs = [database.log_of(job_id) for job_id in slow]
    assert logs[:2] == [["queued", "picked", "successful"]] * 2
    assert logs[2:4] == [["queued", "picked", "exception"]] * 2
    assert logs[4:6] == [["queued", "picked", "failed"]] * 2
    assert logs[6] == ["queued", "picked", "queued", "picked", "successful"]
    assert all(len(journal.runs_of(job_id)) == 1 for job_id in slow[:6])
    assert [database.job(job_id)["status"] for job_id in slow[4:6]] == ["failed"] * 2
    assert [run.attempts for run in journal.runs_of(slow[6])] == [0, 1]
