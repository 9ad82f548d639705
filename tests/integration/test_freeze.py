"""A worker that is frozen (SIGSTOP, so that the server does not notice) for longer than its claims last
and then goes on: others have its jobs meanwhile, and it must neither write anything for them nor
start what it had not begun. Claims last for the heartbeat timeout on the row lane; those of a lease
end when the server ends the silent session. tests/interop/test_settle.py has the same for single
jobs and with Python as the heir."""

import signal
import time

import pytest

from lib import lanes
from lib.jobs import NewJob
from lib.waiting import wait_until

OPTIONS = ("--dequeue-timeout", "0.5")
LIMITS = ",limit=2,retry_timer=1000"


# Long enough that a busy machine freezes the worker while its handler runs.
RUN_MS = 1500


def open_gate(journal):
    journal.path.with_name(journal.path.name + ".gate").touch()


both_lanes = pytest.mark.parametrize("lane", [lanes.ROW, lanes.LEASE], ids=lambda lane: lane.name)


def taken_over(database, journal, ids, zombie, lane):
    """Waits until another worker runs all of the jobs, and returns its rows of the queue."""

    def all_taken():
        others = [run for run in journal.runs() if run.pid != zombie.pid]
        # An heir that leases them has them picked soon, since they do not end.
        return set(ids) <= {run.job_id for run in others} and all(
            status == "picked" and str(owner) != zombie.worker_id
            for _, status, owner, *_ in rows(database, ids))

    left = ("SELECT id, status, queue_manager_id, now() - heartbeat, now() - updated FROM pgqueuer"
            " ORDER BY id")
    wait_until(all_taken, 5 * (lane.free_s + 1),
               lambda: f"the heir runs the frozen worker's jobs: {database.rows(left)}")
    return rows(database, ids)


def rows(database, ids):
    return database.rows(
        "SELECT id, status::text, queue_manager_id, updated, attempts, slot, execute_after"
        " FROM pgqueuer WHERE id = ANY (%s) ORDER BY id", [ids])


def picked_ids(database):
    return {job_id for (job_id,) in database.rows("SELECT id FROM pgqueuer WHERE status = 'picked'")}


def freeze(zombie, journal, ids):
    """Freezes it while the jobs run. Returns when their handlers may have ended at last."""
    zombie.send(signal.SIGSTOP)
    runs = [run for run in journal.runs() if run.job_id in ids]
    assert not any(run.end_ns for run in runs), "frozen too late: the machine is too slow"
    return max(run.start_ns for run in runs) + RUN_MS * 1_000_000


def go_on(zombie, at_ns):
    wait_until(lambda: time.monotonic_ns() >= at_ns, 10, "the handlers' time is over")
    zombie.send(signal.SIGCONT)


def heard(journal, zombie, job_id):
    """The zombie's handler has ended."""
    return [run for run in journal.runs_of(job_id) if run.pid == zombie.pid and run.end_ns]


def end(database, journal, zombie, heir, ids, claimed):
    """`claimed`: the jobs that were picked when it was frozen; what is leased has no such row in the log."""
    open_gate(journal)
    wait_until(lambda: database.job_count() == 0, 20, "the heir ends the jobs")
    zombie.stop_cleanly()
    heir.stop_cleanly()
    assert {job_id: database.log_of(job_id) for job_id in ids} == {
        job_id: ["queued", *["picked"] * (job_id in claimed), "picked", "successful"] for job_id in ids}


@pytest.mark.parametrize("lane, limits", [(lanes.ROW, ""), (lanes.ROW, LIMITS), (lanes.LEASE, "")],
                         ids=["row", "row-limited", "lease"])
@pytest.mark.parametrize("outcome", ["sleep", "sleep_retry", "sleep_hold", "sleep_fail"])
def test_a_frozen_worker_cannot_write_what_its_handler_said(
    queue_db, produce, spawn_worker, journal, outcome, lane, limits
):
    """done, retry, hold and fail; the handler slept on and says it the moment the worker wakes up."""
    zombie = spawn_worker(queue_db, *OPTIONS, *lane.options, args=[f"job={outcome}{limits}"])
    ids = produce(queue_db, [NewJob("job", str(RUN_MS).encode())] * 2)
    journal.wait_runs(2)
    end_ns = freeze(zombie, journal, ids)
    claimed = picked_ids(queue_db)
    heir = spawn_worker(queue_db, *OPTIONS, *lane.options, args=[f"job=gate{limits}"])
    before = taken_over(queue_db, journal, ids, zombie, lane)
    go_on(zombie, end_ns)
    for job_id in ids:
        wait_until(lambda: heard(journal, zombie, job_id), 10, "the zombie's handler ends")
    wait_until(lambda: len(zombie.events("claim.lost")) == 2, 10, "the zombie notices")
    assert rows(queue_db, ids) == before
    end(queue_db, journal, zombie, heir, ids, claimed)


@both_lanes
def test_the_handler_of_a_job_that_another_worker_took_is_told(
    queue_db, produce, spawn_worker, journal, lane
):
    zombie = spawn_worker(queue_db, *OPTIONS, *lane.options, args=["job=watch"])
    [job_id] = produce(queue_db, [NewJob("job", b"")])
    journal.wait_runs(1)
    zombie.send(signal.SIGSTOP)
    claimed = picked_ids(queue_db)
    heir = spawn_worker(queue_db, *OPTIONS, *lane.options, args=["job=gate"])
    before = taken_over(queue_db, journal, [job_id], zombie, lane)
    continued = time.monotonic_ns()
    zombie.send(signal.SIGCONT)
    [told] = wait_until(lambda: heard(journal, zombie, job_id), 10, "the handler is told")
    assert told.outcome == "cancelled"
    # A beat is due as soon as it wakes up; at the latest it is half a timeout later.
    assert told.end_ns - continued < 5 * lane.free_s * 1e9
    # `canceled`, which the handler said, is not written either.
    assert rows(queue_db, [job_id]) == before
    end(queue_db, journal, zombie, heir, [job_id], claimed)
    assert "canceled" not in queue_db.log_counts()


@both_lanes
def test_jobs_that_waited_in_the_frozen_worker_are_not_started_by_it(
    queue_db, produce, spawn_worker, journal, lane
):
    """Jobs wait behind the only thread: when the worker goes on, that is free before anybody can have
    told it that the claims are lost."""
    quick = produce(queue_db, [NewJob("job", b"0")] * 40)  # so that it claims ahead
    zombie = spawn_worker(queue_db, *OPTIONS, *lane.options, "--threads", "1", "--lanes", "1", args=["job=sleep"])
    wait_until(lambda: queue_db.job_count() == 0, 20, "the quick jobs are settled")
    ids = produce(queue_db, [NewJob("job", str(RUN_MS).encode())] + [NewJob("job", b"0")] * 10)
    journal.wait_runs(len(quick) + 1)
    end_ns = freeze(zombie, journal, ids)
    claimed = picked_ids(queue_db) if lane.name == "row" else lanes.leased(queue_db)
    assert ids[0] in claimed and len(claimed) >= 3, "nothing waited in the pool"
    heir = spawn_worker(queue_db, *OPTIONS, *lane.options, "--threads", "12", args=["job=gate"])
    before = taken_over(queue_db, journal, ids, zombie, lane)
    go_on(zombie, end_ns)
    # Of a lease it may have sent the end into the dead session before it saw that: then the job that ran
    # may have been settled, as far as it knows.
    zombie.wait_log(rf"claim\.lost .*job={ids[0]}\b" if lane.name == "row" else r"connection\.restored", 10)
    zombie.stop_cleanly()  # whatever it had claimed it has given up by now
    assert rows(queue_db, ids) == before
    assert {run.job_id for run in journal.runs() if run.pid == zombie.pid} == {*quick, ids[0]}
    open_gate(journal)
    wait_until(lambda: queue_db.job_count() == 0, 20, "the heir ends the jobs")
    heir.stop_cleanly()
    assert queue_db.log_counts()["successful"] == len(quick) + len(ids)


@both_lanes
def test_a_job_that_rested_in_the_frozen_worker_is_not_run_again_by_it(
    queue_db, produce, spawn_worker, journal, lane
):
    """The in-process backoff keeps the job picked; its next run would come while it is frozen."""
    zombie = spawn_worker(queue_db, *OPTIONS, *lane.options, args=["job=fail,backoff=5:1200"])
    [job_id] = produce(queue_db, [NewJob("job", b"")])
    journal.wait_runs(1, ended=True)
    zombie.send(signal.SIGSTOP)
    claimed = picked_ids(queue_db)
    heir = spawn_worker(queue_db, *OPTIONS, *lane.options, args=["job=gate"])
    before = taken_over(queue_db, journal, [job_id], zombie, lane)
    zombie.send(signal.SIGCONT)
    # A lease is over, whoever has the job now; that it was to run again was all there was to lose.
    zombie.wait_log(r"claim\.lost" if lane.name == "row" else r"(claim|connection)\.lost", 10)
    assert rows(queue_db, [job_id]) == before
    end(queue_db, journal, zombie, heir, [job_id], claimed)
    assert len([run for run in journal.runs_of(job_id) if run.pid == zombie.pid]) == 1
