"""A worker that is frozen (SIGSTOP, so that the server does not notice) for longer than the heartbeat
timeout and then goes on: others have its jobs meanwhile, and it must neither write anything for them
nor start what it had not begun. tests/interop/test_settle.py has the same for single jobs and with
Python as the heir."""

import signal
import time

import pytest

from lib.jobs import NewJob
from lib.waiting import wait_until

HEARTBEAT = 1.0
OPTIONS = ("--heartbeat-timeout", str(HEARTBEAT), "--dequeue-timeout", "0.5")


# Long enough that a busy machine freezes the worker while its handler runs.
RUN_MS = 1500


def open_gate(journal):
    journal.path.with_name(journal.path.name + ".gate").touch()


def taken_over(database, journal, ids, zombie):
    """Waits until another worker runs all of the jobs, and returns its rows of the queue."""

    def all_taken():
        runs = {run.job_id for run in journal.runs() if run.pid != zombie.pid}
        return set(ids) <= runs

    left = ("SELECT id, status, queue_manager_id, now() - heartbeat, now() - updated FROM pgqueuer"
            " ORDER BY id")
    wait_until(all_taken, 5 * (HEARTBEAT + 1),
               lambda: f"the heir runs the frozen worker's jobs: {database.rows(left)}")
    return rows(database, ids)


def rows(database, ids):
    return database.rows(
        "SELECT id, status::text, queue_manager_id, updated, attempts, slot, execute_after"
        " FROM pgqueuer WHERE id = ANY (%s) ORDER BY id", [ids])


def freeze(zombie, journal, ids):
    """Freezes it while the jobs run, and returns when their handlers may have ended at last."""
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


def end(database, journal, zombie, heir, ids, statuses=("queued", "picked", "picked", "successful")):
    open_gate(journal)
    wait_until(lambda: database.job_count() == 0, 20, "the heir ends the jobs")
    zombie.stop_cleanly()
    heir.stop_cleanly()
    assert {job_id: tuple(database.log_of(job_id)) for job_id in ids} == dict.fromkeys(ids, statuses)


@pytest.mark.parametrize("limits", ["", ",limit=2,retry_timer=1000"])
@pytest.mark.parametrize("outcome", ["sleep", "sleep_retry", "sleep_hold", "sleep_fail"])
def test_a_frozen_worker_cannot_write_what_its_handler_said(
    queue_db, produce, spawn_worker, journal, outcome, limits
):
    """done, retry, hold and fail; the handler slept on and says it the moment the worker wakes up."""
    zombie = spawn_worker(queue_db, *OPTIONS, args=[f"job={outcome}{limits}"])
    ids = produce(queue_db, [NewJob("job", str(RUN_MS).encode())] * 2)
    journal.wait_runs(2)
    end_ns = freeze(zombie, journal, ids)
    heir = spawn_worker(queue_db, *OPTIONS, args=[f"job=gate{limits}"])
    before = taken_over(queue_db, journal, ids, zombie)
    go_on(zombie, end_ns)
    for job_id in ids:
        wait_until(lambda: heard(journal, zombie, job_id), 10, "the zombie's handler ends")
    wait_until(lambda: len(zombie.events("claim.lost")) == 2, 10, "the zombie notices")
    assert rows(queue_db, ids) == before
    end(queue_db, journal, zombie, heir, ids)


def test_the_handler_of_a_job_that_another_worker_took_is_told(
    queue_db, produce, spawn_worker, journal
):
    zombie = spawn_worker(queue_db, *OPTIONS, args=["job=watch"])
    [job_id] = produce(queue_db, [NewJob("job", b"")])
    journal.wait_runs(1)
    zombie.send(signal.SIGSTOP)
    heir = spawn_worker(queue_db, *OPTIONS, args=["job=gate"])
    before = taken_over(queue_db, journal, [job_id], zombie)
    continued = time.monotonic_ns()
    zombie.send(signal.SIGCONT)
    [told] = wait_until(lambda: heard(journal, zombie, job_id), 10, "the handler is told")
    assert told.outcome == "cancelled"
    # A beat is due as soon as it wakes up; at the latest it is half a timeout later.
    assert told.end_ns - continued < 5 * HEARTBEAT * 1e9
    # `canceled`, which the handler said, is not written either.
    assert rows(queue_db, [job_id]) == before
    end(queue_db, journal, zombie, heir, [job_id])
    assert "canceled" not in queue_db.log_counts()


def test_jobs_that_waited_in_the_frozen_worker_are_not_started_by_it(
    queue_db, produce, spawn_worker, journal
):
    """Jobs wait behind the only thread: when the worker goes on, that is free before anybody can have
    told it that the claims are lost."""
    quick = produce(queue_db, [NewJob("job", b"0", priority=1)] * 40)  # so that it claims ahead
    ids = produce(queue_db, [NewJob("job", str(RUN_MS).encode())] + [NewJob("job", b"0")] * 10)
    zombie = spawn_worker(queue_db, *OPTIONS, "--threads", "1", "--lanes", "1", args=["job=sleep"])
    journal.wait_runs(len(quick) + 1)
    wait_until(lambda: queue_db.log_counts().get("successful") == len(quick), 5, "they are settled")
    end_ns = freeze(zombie, journal, ids)
    claimed = [job_id for (job_id,) in queue_db.rows("SELECT id FROM pgqueuer WHERE status = 'picked'")]
    assert ids[0] in claimed and len(claimed) >= 3, "nothing waited in the pool"
    heir = spawn_worker(queue_db, *OPTIONS, "--threads", "12", args=["job=gate"])
    before = taken_over(queue_db, journal, ids, zombie)
    go_on(zombie, end_ns)
    zombie.wait_log(rf"claim\.lost .*job={ids[0]}\b", 10)
    zombie.stop_cleanly()  # whatever it had claimed it has given up by now
    assert rows(queue_db, ids) == before
    assert {run.job_id for run in journal.runs() if run.pid == zombie.pid} == {*quick, ids[0]}
    open_gate(journal)
    wait_until(lambda: queue_db.job_count() == 0, 20, "the heir ends the jobs")
    heir.stop_cleanly()
    assert queue_db.log_counts()["successful"] == len(quick) + len(ids)


def test_a_job_that_rested_in_the_frozen_worker_is_not_run_again_by_it(
    queue_db, produce, spawn_worker, journal
):
    """The in-process backoff keeps the job picked; its next run would come while it is frozen."""
    zombie = spawn_worker(queue_db, *OPTIONS, args=["job=fail,backoff=5:1200"])
    [job_id] = produce(queue_db, [NewJob("job", b"")])
    journal.wait_runs(1, ended=True)
    zombie.send(signal.SIGSTOP)
    heir = spawn_worker(queue_db, *OPTIONS, args=["job=gate"])
    before = taken_over(queue_db, journal, [job_id], zombie)
    zombie.send(signal.SIGCONT)
    zombie.wait_log(r"claim\.lost", 10)
    assert rows(queue_db, [job_id]) == before
    end(queue_db, journal, zombie, heir, [job_id])
    assert len([run for run in journal.runs_of(job_id) if run.pid == zombie.pid]) == 1
