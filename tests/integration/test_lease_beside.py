"""Leases beside everybody else: cancels by the command line and by Python, Python's workers, statements
that wait for a leased row, entrypoints with limits in the same worker and in others."""

import datetime
import json
import signal
import time

import pytest

from lib.jobs import NewJob
from lib.journal import most_at_once
from lib.leases import drained, leased, open_gate, seconds_until_free, shown, warm_up
from lib.waiting import wait_until

# Nobody waits longer for a row than a lease; what a busy machine adds comes on top.
BUSY_SECONDS = 1.0
NO_POLL = ["--dequeue-timeout", "600"]


def sent_at(listener, job_id):
    """When the event of a job's cancel was sent, in seconds of the clock."""
    events = [json.loads(notify.payload) for notify in listener.notifies(timeout=0)]
    [first, *_] = [event for event in events if job_id in event.get("ids", ())]
    return datetime.datetime.fromisoformat(first["sent_at"]).timestamp()


@pytest.mark.parametrize("by, lease", [("c", 1.5), ("python", 5.0)])  # Python starts for seconds
def test_the_handler_of_a_leased_job_is_told_of_its_cancel_at_once_and_the_cancel_ends_with_the_lease(
    queue_db, produce, spawn_worker, pgqueuer, python_run, journal, by, lease
):
    """Another job of the same lease runs on, so that the lease lasts as long as it can. Python's event
    comes with the commit of its DELETE, which waits for the row."""
    worker = spawn_worker(queue_db, *NO_POLL, "--lane", "lease", "--lease", str(lease),
                          args=["watch", "gate"])
    with queue_db.connect() as listener:
        listener.execute("LISTEN ch_pgqueuer")
        gone, other = produce(queue_db, [NewJob("watch", b""), NewJob("gate", b"")])
        journal.wait_runs(2)
        assert leased(queue_db) == [gone, other], "too late: the machine is too slow"
        if by == "c":
            assert pgqueuer("cancel", gone, dsn=queue_db).returncode == 0
        else:
            python_run(queue_db, "py_act.py", "cancel", gone)
        sent = sent_at(listener, gone)
    [run] = wait_until(lambda: [run for run in journal.runs_of(gone) if run.end_ns], 10, "it is told")
    told = (run.end_ns + time.time_ns() - time.monotonic_ns()) / 1e9 - sent
    assert run.outcome == "cancelled"
    ended = float(queue_db.value("SELECT extract(epoch FROM created) FROM pgqueuer_log"
                                 " WHERE job_id = %s AND status = 'canceled'", [gone])) - sent
    print(f"told after {told:.2f} s, complete after {ended:.2f} s")
    assert told < BUSY_SECONDS + (lease if by == "python" else 0)
    assert ended < lease + BUSY_SECONDS
    assert queue_db.log_of(gone) == ["queued", "picked", "canceled"], "it is not complete"
    assert queue_db.job(other)["status"] == "picked", "it runs on"
    open_gate(journal)
    drained(queue_db)
    worker.stop_cleanly()
    assert queue_db.log_of(other) == ["queued", "picked", "successful"]
    assert not worker.events("claim.lost")


def test_a_cancelled_job_that_waits_in_a_lease_is_not_started(
    queue_db, produce, spawn_worker, pgqueuer, journal
):
    """Behind the only thread. Whoever cancels it waits for the row, and finds it gone."""
    worker = spawn_worker(queue_db, *NO_POLL, "--lane", "lease", "--lease", "1.5",
                          "--threads", "1", "--lanes", "1", args=["ok", "gate"])
    quick = warm_up(queue_db, produce, NewJob("ok", b""))
    first, waits = produce(queue_db, [NewJob("gate", b"", priority=1), NewJob("ok", b"")])
    journal.wait_runs(len(quick) + 1)
    assert leased(queue_db) == [first, waits], "too late, or it is not leased"
    assert pgqueuer("cancel", waits, dsn=queue_db).returncode == 0
    assert queue_db.job(waits) is None and queue_db.log_of(waits)[-1] == "canceled"
    open_gate(journal)
    drained(queue_db)
    worker.stop_cleanly()
    assert not journal.runs_of(waits)
    assert queue_db.log_counts()["canceled"] == 1


def test_nobody_waits_longer_for_a_row_than_a_lease(
    queue_db, produce, spawn_worker, python_worker, journal, record_property
):
    """Jobs of all lengths, a Python worker beside, and somebody who wants one row
    after the other."""
    lease = 0.5
    worker = spawn_worker(queue_db, *NO_POLL, "--lane", "lease", "--lease", str(lease),
                          "--heartbeat-timeout", "5", "--threads", "4", args=["sleep"])
    python = python_worker(queue_db, "--heartbeat-timeout", "5", "--dequeue-timeout", "0.2",
                           "--batch-size", "2", entrypoints=["sleep=sleep"])
    lengths = [300, 40, 40, 100] * 60
    ids = produce(queue_db, [NewJob("sleep", str(ms).encode()) for ms in lengths])
    waits = []

    def wait_for_another():
        held = leased(queue_db)
        if held:
            waits.append(seconds_until_free(queue_db, held[-1], most=60))
        return len(waits) == 8 or not queue_db.job_count()

    wait_until(wait_for_another, 60, "all of them are free at last")
    drained(queue_db)
    worker.stop_cleanly()
    assert python.stop() == 0
    record_property("longest wait", round(max(waits), 2))
    print(f"{len(waits)} waits, the longest {max(waits):.2f} s")
    assert len(waits) >= 2 and max(waits) < lease + BUSY_SECONDS
    assert journal.run_counts() == dict.fromkeys(ids, 1)
    assert len({run.pid for run in journal.runs()}) == 2, "one of them did nothing"


# ---- limits ----


def state(worker, name):
    """Not to be asked often: one event has twenty lines in a while and no more."""
    before = len(worker.events("worker.state"))
    worker.send(signal.SIGUSR1)
    wait_until(lambda: len(worker.events("worker.state")) > before, 10, "its state")
    return shown(worker.log(), name)


def until_leased(worker, produce, database, what):
    """Waits until the worker leases what has been measured as quick. A slow run needs many quick ones
    until it counts no more; returns the jobs that were added for that."""
    added = []

    def leases():
        if state(worker, "entrypoints_leased") == 1:
            return True
        added.extend(produce(database, [NewJob("free", b"0")] * 60))
        return False

    wait_until(leases, 20, what, interval=0.5)
    return added


def test_limited_and_leased_entrypoints_live_in_one_worker(queue_db, produce, spawn_worker, journal):
    worker = spawn_worker(queue_db, *NO_POLL, "--threads", "6",
                          args=["limited=gate,limit=2", "free=sleep"])
    quick = warm_up(queue_db, produce, NewJob("free", b"0"))
    quick += until_leased(worker, produce, queue_db, "it leases what is measured")
    limited = produce(queue_db, [NewJob("limited", b"")] * 5)
    free = produce(queue_db, [NewJob("free", b"1")] * 300)
    wait_until(lambda: queue_db.job_count() == len(limited), 20, "the leased ones end")
    slots = queue_db.rows("SELECT slot FROM pgqueuer WHERE status = 'picked' ORDER BY slot")
    assert slots == [(0,), (1,)] and not leased(queue_db)
    open_gate(journal)
    drained(queue_db)
    worker.stop_cleanly()
    assert most_at_once(journal.timeline("limited")) == 2
    assert journal.run_counts() == dict.fromkeys(quick + limited + free, 1)


def test_an_entrypoint_that_another_worker_limits_is_not_leased(
    queue_db, produce, spawn_worker, journal
):
    """Its jobs are picked, so that the other one sees them."""
    limiting = spawn_worker(queue_db, *NO_POLL, args=["job=gate,limit=1"])
    [first] = produce(queue_db, [NewJob("job", b"")])
    journal.wait_runs(1)
    other = spawn_worker(queue_db, *NO_POLL, args=["job=gate", "free=sleep"])
    other.wait_log(r"limits\.differ .*entrypoint=job")
    quick = produce(queue_db, [NewJob("free", b"0")] * 60)
    quick += until_leased(other, produce, queue_db, "it leases that which nobody limits")
    second = produce(queue_db, [NewJob("job", b"")] * 2)
    journal.wait_runs(3 + len(quick))
    assert not leased(queue_db)
    assert {queue_db.job(job_id)["status"] for job_id in second} == {"picked"}
    open_gate(journal)
    drained(queue_db)
    other.stop_cleanly()
    limiting.stop_cleanly()
    assert journal.run_counts() == dict.fromkeys([first, *quick, *second], 1)
