"""Cancel and requeue across the languages: who acts, and who runs the job."""

import json
import signal
import time

import pytest

from lib import program
from lib.jobs import NewJob
from lib.waiting import wait_until

# The bound is one second on a machine that does nothing else.
TOLD_SECONDS = 1.0 * 5


def open_gate(journal):
    journal.path.with_name(journal.path.name + ".gate").touch()


def ended(database, job_id, status, deadline=20):
    wait_until(lambda: database.log_of(job_id)[-1:] == [status], deadline,
               lambda: f"job {job_id} ends as {status}, log: {database.log_of(job_id)}")


def act(pgqueuer, database, *arguments):
    done = pgqueuer(*arguments, dsn=database)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.scenario("cancel.by-c")
def test_c_cancels_a_job_that_python_runs(queue_db, produce, python_worker, pgqueuer, journal):
    worker = python_worker(queue_db, entrypoints=["job=watch"])
    [job_id] = produce(queue_db, [NewJob("job", b"")])
    journal.wait_runs(1)
    begin = time.monotonic_ns()
    assert act(pgqueuer, queue_db, "cancel", job_id) == "Cancelled 0 job(s), told the worker of 1.\n"
    [run] = journal.wait_runs(1, ended=True)
    assert run.outcome == "cancelled" and run.end_ns - begin < TOLD_SECONDS * 1e9
    ended(queue_db, job_id, "canceled")
    assert worker.stop() == 0
    assert queue_db.log_of(job_id) == ["queued", "picked", "canceled"]
    assert queue_db.job_count() == 0


@pytest.mark.scenario("cancel.by-python")
def test_python_cancels_a_job_that_c_runs(queue_db, produce, spawn_worker, python_run, journal):
    worker = spawn_worker(queue_db, "--dequeue-timeout", "600", args=["watch"])
    [job_id] = produce(queue_db, [NewJob("watch", b"")])
    journal.wait_runs(1)
    python_run(queue_db, "py_act.py", "cancel", job_id)
    begin = time.monotonic_ns()
    [run] = journal.wait_runs(1, ended=True)
    assert run.outcome == "cancelled" and run.end_ns - begin < TOLD_SECONDS * 1e9
    worker.stop_cleanly()
    assert queue_db.log_of(job_id) == ["queued", "picked", "canceled"]
    assert queue_db.job_count() == 0
    assert not worker.events("claim.lost"), "whoever cancels takes the row away: nothing is lost"


@pytest.mark.scenario("cancel.before-start-python")
def test_a_job_that_python_claims_between_the_event_and_the_look_is_told_too(
    queue_db, python_worker, pgqueuer, processes, home, journal
):
    """Python forgets an event about a job that it does not have yet, so cancel tells it twice. The
    look at the rows is held up by a lock on the first of them."""
    add = ("INSERT INTO pgqueuer (priority, status, entrypoint, execute_after)"
           " VALUES (0, 'queued', %s, now() + interval '1 h') RETURNING id")
    locked, job_id = queue_db.value(add, ["nobody"]), queue_db.value(add, ["job"])
    worker = python_worker(queue_db, "--dequeue-timeout", "0.2", entrypoints=["job=watch"])
    with queue_db.connect(autocommit=False) as lock:
        lock.execute("SELECT FROM pgqueuer WHERE id = %s FOR UPDATE", [locked])
        cancel = processes([program.PROGRAM, "cancel", "--yes", str(locked), str(job_id)],
                           program.clean_environment(home, PGQUEUER_DSN=queue_db.dsn))
        waiting = ("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                   " AND datname = current_database()")
        wait_until(lambda: queue_db.value(waiting) == 1, 10, "cancel waits for the row")
        queue_db.execute("UPDATE pgqueuer SET execute_after = now() WHERE id = %s", [job_id])
        journal.wait_runs(1)
        lock.commit()
    assert cancel.wait() == 0
    assert cancel.log() == "Cancelled 1 job(s), told the worker of 1.\n"
    ended(queue_db, job_id, "canceled")
    assert worker.stop() == 0
    assert queue_db.log_of(job_id) == ["picked", "canceled"]
    assert queue_db.job_count() == 0


@pytest.mark.scenario("events.accepted")
def test_python_accepts_the_events_of_cancel_and_requeue(queue_db, produce, python_spawn, pgqueuer):
    ids = produce(queue_db, [NewJob("e", b"")] * 3)
    queue_db.execute("UPDATE pgqueuer SET status = 'failed' WHERE id = %s", [ids[0]])
    events = python_spawn(queue_db, "py_events.py", ready="READY")
    act(pgqueuer, queue_db, "requeue", ids[0])
    many = range(10**18, 10**18 + 1000)
    done = pgqueuer("cancel", "--yes", *ids, *many, dsn=queue_db)
    assert done.stdout == "Cancelled 3 job(s).\n"

    def lines():
        return [json.loads(line) for line in events.log().split("\n")[:-1] if line.startswith("{")]

    # A delete a statement, also when it deletes nothing.
    wait_until(lambda: len(lines()) == 6, 10, "the events")
    assert events.stop(signal.SIGTERM) == 0
    assert not [line for line in lines() if "refused" in line]
    assert [line.get("operation", line["type"]) for line in lines()] == [
        "update", "cancellation_event", "cancellation_event", "cancellation_event", "delete", "delete"]
    assert sum((line.get("ids", []) for line in lines()), []) == [*ids, *many]


@pytest.mark.scenario("events.requeue-wakes")
def test_a_requeue_by_c_wakes_an_idle_python_worker(queue_db, python_worker, pgqueuer, journal):
    held = queue_db.value("INSERT INTO pgqueuer (priority, status, entrypoint, attempts)"
                          " VALUES (0, 'failed', 'job', 2) RETURNING id")
    worker = python_worker(queue_db, "--dequeue-timeout", "600", entrypoints=["job=ok"])
    begin = time.monotonic_ns()
    act(pgqueuer, queue_db, "requeue", held)
    [run] = journal.wait_runs(1)
    assert run.attempts == 0 and run.start_ns - begin < TOLD_SECONDS * 1e9
    ended(queue_db, held, "successful")
    assert worker.stop() == 0


@pytest.mark.scenario("events.retry-wakes")
@pytest.mark.parametrize("side, lane", [("python", "lease"), ("c", "row"), ("c", "lease")])
def test_a_retry_by_c_wakes_an_idle_worker_of_either_side(
    queue_db, spawn_worker, python_worker, journal, side, lane
):
    """Its own poll is far off, and nothing told it of the job before: the row comes without an event, and
    the worker that wants the retry has gone when it is due."""
    if side == "c":
        idle = spawn_worker(queue_db, "--dequeue-timeout", "600", args=["job=retry_once"])
    else:
        idle = python_worker(queue_db, "--dequeue-timeout", "600", entrypoints=["job=retry_once"])
    with queue_db.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # no trigger fires
        [job_id] = connection.execute(
            "INSERT INTO pgqueuer (priority, status, entrypoint, payload)"
            " VALUES (0, 'queued', 'job', '2000') RETURNING id").fetchone()
    worker = spawn_worker(queue_db, "--lane", lane, args=["job=retry_once"])
    wait_until(lambda: queue_db.log_of(job_id)[-1:] == ["queued"], 20, "the retry")
    due = queue_db.value("SELECT extract(epoch FROM execute_after - now())::float8 FROM pgqueuer")
    due_ns = time.monotonic_ns() + int(due * 1e9)
    worker.stop_cleanly()
    _, second = journal.wait_runs(2, ended=True)
    assert (second.pid, second.attempts) == (idle.pid, 1)
    assert second.start_ns - due_ns < TOLD_SECONDS * 1e9
    ended(queue_db, job_id, "successful")
    assert idle.stop() == 0


@pytest.mark.scenario("settle.requeue")
@pytest.mark.parametrize("holder", ["python", "c"])
@pytest.mark.parametrize("actor", ["python", "c"])
def test_a_held_job_is_requeued_and_run_again(queue_db, produce, spawn_worker, python_worker,
                                              pgqueuer, python_run, journal, holder, actor):
    if holder == "c":
        worker = spawn_worker(queue_db, "--dequeue-timeout", "0.5", args=["hold_unless_open"])
    else:
        worker = python_worker(queue_db, "--dequeue-timeout", "0.5", entrypoints=["hold_unless_open"])
    [job_id] = produce(queue_db, [NewJob("hold_unless_open", b"abc")])
    ended(queue_db, job_id, "failed")
    open_gate(journal)
    if actor == "c":
        act(pgqueuer, queue_db, "requeue", job_id)
    else:
        python_run(queue_db, "py_act.py", "requeue", job_id)
    ended(queue_db, job_id, "successful")
    assert queue_db.log_of(job_id) == ["queued", "picked", "failed", "queued", "picked", "successful"]
    assert [run.attempts for run in journal.runs_of(job_id)] == [0, 0]
    assert worker.stop() == 0


# What no worker of today's sends, and what nobody should.
UNKNOWN = [
    '{"channel":"ch_pgqueuer","sent_at":"2026-11-24T00:30:10.226931Z","type":"requests_per_second_event",'
    '"entrypoint_count":{"ok":1000000}}',
    '{"channel":"ch_pgqueuer","sent_at":"2026-11-24T00:30:10.226931Z","type":"of_tomorrow"}',
    '{"channel":"ch_pgqueuer","sent_at":"2026-11-24T00:30:10.226931Z","type":"cancellation_event",'
    '"ids":["x",null,1.5]}',
    '{"channel":"ch_pgqueuer","type":"health_check_event","id":"926aff6f-e5d4-413a-8216-4b7bc0160d19"}',
    '{"type":"table_changed_event"}', "[]", "null", "junk", "{", "[" * 7999, "x" * 7999,
    '{"type":"' + "y" * 7980 + '"}',
]


@pytest.mark.scenario("events.ignored")
def test_events_that_a_c_worker_does_not_know_change_nothing(queue_db, produce, spawn_worker, journal):
    worker = spawn_worker(queue_db, "--dequeue-timeout", "600", args=["gate", "ok"])
    [running] = produce(queue_db, [NewJob("gate", b"")])
    journal.wait_runs(1)
    for payload in UNKNOWN:
        queue_db.execute("SELECT pg_notify('ch_pgqueuer', %s)", [payload])
    [after] = produce(queue_db, [NewJob("ok", b"")])  # its event comes behind all of them
    ended(queue_db, after, "successful", deadline=5)
    open_gate(journal)
    ended(queue_db, running, "successful")
    worker.stop_cleanly()
    assert queue_db.log_of(running) == ["queued", "picked", "successful"]
    assert not [line for line in worker.log().splitlines() if " WARN" in line or " ERROR" in line]
