"""What becomes of a job: log rows and tracebacks that the Python release reads, and fencing."""

import json
import signal

import pytest

from lib import lanes
from lib.jobs import NewJob
from lib.leases import insert
from lib.waiting import wait_until

TRACEBACK_KEYS = {"job_id", "timestamp", "exception_type", "exception_message", "traceback",
                  "additional_context"}


def open_gate(journal):
    journal.path.with_name(journal.path.name + ".gate").touch()


def ended(database, job_id, status, deadline=20):
    wait_until(lambda: database.log_of(job_id)[-1:] == [status], deadline,
               lambda: f"job {job_id} ends as {status}, log: {database.log_of(job_id)}")


def python_reads(python_run, database, *what):
    return json.loads(python_run(database, "py_read.py", *what).stdout)


@pytest.mark.scenario("settle.log-rows")
def test_log_rows_are_those_of_python(cluster, queue_template, produce, drain, python_worker,
                                      journal):
    """The same jobs, run by each side in a database of its own."""
    names = ["ok", "fail", "hold", "retry_once"]
    jobs = [NewJob(name, b"0", priority=p) for name in names for p in (0, 3)]
    logs = []
    for side in ("c", "python"):
        database = cluster.create_database(queue_template)
        ids = produce(database, jobs)
        if side == "c":
            drain(database, args=names)
        else:
            assert python_worker(database, "--mode", "drain", entrypoints=names, wait=False).wait() == 0
        logs.append([_normal_history(database, job_id) for job_id in ids])
        queue = database.rows(
            "SELECT entrypoint, status::text, attempts, queue_manager_id FROM pgqueuer ORDER BY id"
        )
        assert queue == [("hold", "failed", 0, None)] * 2
        cluster.drop_database(database)
    assert logs[0] == logs[1]


def _normal_history(database, job_id):
    """The log of a job without what differs from run to run (times, ids, the stack's text)."""
    history = []
    for status, priority, entrypoint, traceback, aggregated in database.rows(
        "SELECT status::text, priority, entrypoint, traceback, aggregated FROM pgqueuer_log"
        " WHERE job_id = %s ORDER BY id", [job_id],
    ):
        if traceback is not None:
            assert traceback.keys() == TRACEBACK_KEYS
            assert traceback["job_id"] == job_id and isinstance(traceback["traceback"], str)
            context = {**traceback["additional_context"]}
            assert len(context.pop("queue_manager_id")) == 36
            traceback = (traceback["exception_type"], traceback["exception_message"], context)
        history.append((status, priority, entrypoint, traceback, aggregated))
    return history


@pytest.mark.scenario("settle.tracebacks")
def test_python_reads_the_tracebacks_of_c(queue_db, produce, drain, python_run):
    names = ["fail", "fail_null", "fail_invalid_utf8", "fail_long", "hold", "ok"]
    ids = dict(zip(names, produce(queue_db, [NewJob(name, b"") for name in names])))
    drain(queue_db, args=names)
    assert queue_db.log_of(ids["ok"]) == ["queued", "picked", "successful"]
    rows = {row["job_id"]: row for row in python_reads(python_run, queue_db, "exceptions")}
    assert set(rows) == {ids[name] for name in names if name.startswith("fail")}
    for row in rows.values():
        assert row["traceback"].keys() == TRACEBACK_KEYS
        assert row["traceback"]["additional_context"]["entrypoint"] == row["entrypoint"]
    assert rows[ids["fail"]]["traceback"]["exception_type"] == "ValueError"
    assert rows[ids["fail"]]["traceback"]["exception_message"] == "boom"
    assert "ValueError: boom" in rows[ids["fail"]]["traceback"]["traceback"]
    long = rows[ids["fail_long"]]["traceback"]["exception_message"]
    assert 60_000 <= len(long.encode()) <= 64 * 1024 + 256
    # Python reads the whole log, the held job included, without refusing a row.
    assert len(python_reads(python_run, queue_db, "log")) == 3 * len(names)
    [held] = [row for row in python_reads(python_run, queue_db, "log") if row["status"] == "failed"]
    assert held["traceback"]["exception_message"] == "boom"


@pytest.mark.scenario("settle.odd-texts")
def test_an_odd_error_text_is_written_and_delays_nobody(queue_db, produce, drain, journal):
    jobs = [NewJob(name, b"") for name in ("fail_invalid_utf8", "ok", "fail_null", "ok") * 25]
    ids = produce(queue_db, jobs)
    drain(queue_db, args=["fail_invalid_utf8", "fail_null", "ok"])
    assert len(journal.runs()) == 100, "each job ran once"
    assert queue_db.log_counts() == {"queued": 100, "picked": 100, "successful": 50, "exception": 50}
    odd = queue_db.traceback_of(ids[0])
    assert "Odd" in odd["exception_type"] and "text" in odd["exception_message"]
    assert "surrogate" in odd["exception_message"] and "\x01" in odd["exception_message"]


@pytest.mark.scenario("settle.hold")
def test_a_held_job_is_listed_requeued_and_run_again(
    queue_db, produce, spawn_worker, python_pgq, python_run, journal
):
    worker = spawn_worker(queue_db, "--dequeue-timeout", "0.5", args=["hold_unless_open"])
    [job_id] = produce(queue_db, [NewJob("hold_unless_open", b"abc", headers='{"trace": {"x": 1}}')])
    ended(queue_db, job_id, "failed")
    [held] = json.loads(python_pgq(queue_db, "failed", "--json").stdout)
    assert (held["id"], held["status"], held["attempts"], held["queue_manager_id"], held["slot"],
            held["headers"], held["payload_bytes"]) == (
        job_id, "failed", 0, None, None, {"trace": {"x": 1}}, 3)
    open_gate(journal)
    assert python_pgq(queue_db, "requeue", str(job_id)).returncode == 0
    ended(queue_db, job_id, "successful")
    assert queue_db.log_of(job_id) == ["queued", "picked", "failed", "queued", "picked", "successful"]
    assert [run.attempts for run in journal.runs_of(job_id)] == [0, 0]
    worker.stop_cleanly()


@pytest.mark.scenario("settle.retry")
@pytest.mark.parametrize("behaviour, reason", [("retry_once", "asked to"), ("retry_no_reason", None)])
def test_a_retry_is_what_python_would_have_written(queue_db, produce, spawn_worker, journal,
                                                   python_run, behaviour, reason):
    worker = spawn_worker(queue_db, args=[behaviour])
    later, job_id = produce(queue_db, [NewJob(behaviour, b"93784005"), NewJob(behaviour, b"1500")])
    wait_until(lambda: queue_db.log_of(later) == ["queued", "picked", "queued"], 10, "the retry")
    job = queue_db.job(later)
    assert (job["status"], job["attempts"], job["queue_manager_id"], job["slot"]) == (
        "queued", 1, None, None)
    assert (job["execute_after"] - job["updated"]).total_seconds() == pytest.approx(93784.005, abs=1e-4)
    [queued] = [row for row in python_reads(python_run, queue_db, "queue") if row["id"] == later]
    assert queued["attempts"] == 1
    context = queue_db.traceback_of(later, "queued")["additional_context"]
    assert context["retry_delay"] == "1 day, 2:03:04.005000"
    ended(queue_db, job_id, "successful", deadline=10)
    worker.stop_cleanly()
    first, second = journal.runs_of(job_id)
    assert (first.attempts, second.attempts) == (0, 1)
    assert second.start_ns - first.end_ns >= 1.45e9
    history = python_reads(python_run, queue_db, "history", str(job_id))
    assert [row["status"] for row in history] == ["queued", "picked", "queued", "picked", "successful"]
    traceback = history[2]["traceback"]
    assert traceback["exception_type"] == "RetryRequested"
    context = traceback["additional_context"]
    assert context["reason"] == reason
    assert (context["attempt"], context["entrypoint"]) == (0, behaviour)
    assert context["retry_delay"] == "0:00:01.500000"


@pytest.mark.scenario("settle.watcher")
def test_the_completion_watcher_sees_the_ends_of_jobs_run_by_c(
    queue_db, produce, spawn_worker, python_spawn, python_run
):
    names = ["ok", "fail", "cancelled", "nobody"]
    ids = produce(queue_db, [NewJob(name, b"", delay_ms=0) for name in names])
    watcher = python_spawn(queue_db, "py_watch.py", *map(str, ids), ready="READY")
    worker = spawn_worker(queue_db, args=["ok", "fail", "cancelled"])
    python_run(queue_db, "py_act.py", "clear", "nobody")
    assert watcher.wait() == 0, watcher.log()
    statuses = json.loads(watcher.log().strip().splitlines()[-1])
    assert [statuses[str(job_id)] for job_id in ids] == ["successful", "exception", "canceled", "deleted"]
    worker.stop_cleanly()


@pytest.mark.scenario("settle.watcher")
def test_the_completion_watcher_sees_the_ends_of_a_backlog_of_which_few_events_are_sent(
    queue_db, spawn_worker, python_spawn
):
    with queue_db.connect() as connection:
        ids = insert(connection, "ok", 5000)
    watched = [*ids[::500], *ids[-3:]]
    watcher = python_spawn(queue_db, "py_watch.py", *map(str, watched), ready="READY")
    worker = spawn_worker(queue_db, "--lane", "lease", "--batch-size", "100", args=["ok"])
    assert watcher.wait() == 0, watcher.log()
    statuses = json.loads(watcher.log().strip().splitlines()[-1])
    assert statuses == {str(job_id): "successful" for job_id in watched}
    worker.stop_cleanly()


# -- fencing: a worker that lost its claim writes nothing ---------------------------------------


@pytest.fixture(params=["python", "c"])
def heir_worker(request, spawn_worker, python_worker):
    """Starts the worker that takes a stopped worker's job over: one of each kind."""
    if request.param == "c":
        return lambda database, *options: spawn_worker(database, *options, args=["job=gate"])
    return lambda database, *options: python_worker(database, *options, entrypoints=["job=gate"])


both_lanes = pytest.mark.parametrize("lane", [lanes.ROW, lanes.LEASE], ids=lambda lane: lane.name)


def frozen_claim(database, produce, spawn_worker, heir_worker, journal, behaviour, lane):
    """A C worker is stopped while it runs a job, until another worker runs it too, as a picked one.
    Returns the stopped worker, the other one, and the job."""
    zombie = spawn_worker(database, *lane.options, args=[f"job={behaviour}"])
    [job_id] = produce(database, [NewJob("job", b"900")])  # less than anybody waits to take it over
    journal.wait_runs(1)
    zombie.send(signal.SIGSTOP)
    heir = heir_worker(database, "--heartbeat-timeout", "1", "--dequeue-timeout", "0.2")
    journal.wait_runs(2, deadline=15)
    wait_until(lambda: str(database.job(job_id)["queue_manager_id"]) not in ("None", zombie.worker_id),
               10, lambda: f"the heir has it: {database.job(job_id)}")
    return zombie, heir, job_id


@pytest.mark.scenario("settle.zombie")
@both_lanes
@pytest.mark.parametrize("behaviour", ["sleep", "sleep_fail", "sleep_hold", "sleep_retry"])
def test_a_zombie_changes_nothing_while_another_worker_runs_its_job(
    queue_db, produce, spawn_worker, heir_worker, journal, behaviour, lane
):
    zombie, heir, job_id = frozen_claim(queue_db, produce, spawn_worker, heir_worker, journal,
                                        behaviour, lane)
    owner = queue_db.job(job_id)["queue_manager_id"]
    zombie.send(signal.SIGCONT)
    wait_until(lambda: any(run.end_ns for run in journal.runs_of(job_id)), 10, "the zombie's handler")
    zombie.wait_log(r"claim\.lost")
    job = queue_db.job(job_id)
    assert (job["status"], job["queue_manager_id"], job["attempts"]) == ("picked", owner, 0)
    assert queue_db.log_of(job_id) == ["queued", *lane.claim, "picked"]
    open_gate(journal)
    ended(queue_db, job_id, "successful")
    zombie.stop_cleanly()
    assert heir.stop() == 0
    assert queue_db.log_of(job_id) == ["queued", *lane.claim, "picked", "successful"]
    assert queue_db.job_count() == 0


@pytest.mark.scenario("settle.zombie")
@both_lanes
def test_a_zombie_changes_nothing_after_another_worker_has_ended_its_job(
    queue_db, produce, spawn_worker, heir_worker, journal, lane
):
    zombie, heir, job_id = frozen_claim(queue_db, produce, spawn_worker, heir_worker, journal,
                                        "sleep_retry", lane)
    open_gate(journal)
    ended(queue_db, job_id, "successful")
    zombie.send(signal.SIGCONT)
    zombie.wait_log(r"claim\.lost")
    zombie.stop_cleanly()
    assert heir.stop() == 0
    assert queue_db.log_of(job_id) == ["queued", *lane.claim, "picked", "successful"]
    assert queue_db.job_count() == 0
