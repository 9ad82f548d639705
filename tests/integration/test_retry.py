"""Retries: asked for by the handler, made by the wrappers of an executor, after a hold; and handlers
that take too long."""

import json

import pytest

from lib import program
from lib.jobs import NewJob
from lib.waiting import wait_until


def open_gate(journal):
    journal.path.with_name(journal.path.name + ".gate").touch()


def ended(database, job_id, status, deadline=20):
    wait_until(lambda: database.log_of(job_id)[-1:] == [status], deadline,
               lambda: f"job {job_id} ends as {status}, log: {database.log_of(job_id)}")


def retries(database, job_id):
    """The retry rows of a job's log: (attempt, retry_delay, reason, exception_message)."""
    return database.rows(
        "SELECT (traceback->'additional_context'->>'attempt')::int,"
        " traceback->'additional_context'->>'retry_delay',"
        " traceback->'additional_context'->>'reason', traceback->>'exception_message'"
        " FROM pgqueuer_log WHERE job_id = %s AND status = 'queued' AND traceback IS NOT NULL"
        " ORDER BY id", [job_id])


def pauses(runs):
    """Seconds between the end of a run and the start of the next."""
    return [(after.start_ns - before.end_ns) / 1e9 for before, after in zip(runs, runs[1:])]


def test_the_retry_executor_puts_the_job_back_with_growing_delays_and_then_fails_it(
    queue_db, produce, spawn_worker, journal
):
    worker = spawn_worker(queue_db, "--dequeue-timeout", "600",
                          args=["job=fail,retry_executor=3:200:500", "other=ok"])
    [job_id] = produce(queue_db, [NewJob("job", b"", dedupe_key="k", priority=4)])
    ended(queue_db, job_id, "exception")
    worker.stop_cleanly()
    assert queue_db.log_of(job_id) == ["queued"] + ["picked", "queued"] * 3 + ["picked", "exception"]
    assert retries(queue_db, job_id) == [
        (0, "0:00:00.200000", "boom", "boom"),
        (1, "0:00:00.400000", "boom", "boom"),
        (2, "0:00:00.500000", "boom", "boom"),
    ]
    runs = journal.runs_of(job_id)
    assert [run.attempts for run in runs] == [0, 1, 2, 3]
    for pause, delay in zip(pauses(runs), (0.2, 0.4, 0.5)):
        assert delay - 0.01 <= pause < delay + 5 * 0.2
    assert queue_db.traceback_of(job_id)["exception_message"] == "boom"
    assert queue_db.job_count() == 0


def test_the_workers_log_says_which_job_failed_and_why_and_nothing_of_its_payload(
    queue_db, produce, spawn_worker
):
    worker = spawn_worker(
        queue_db, "--log-level", "Info", "--log-format", "json",
        args=["once=fail,retry_executor=1:50:50", "odd=fail_invalid_utf8", "bare=fail_null",
              "long=fail_long", "good=ok"])
    names = ["once", "odd", "bare", "long", "good"]
    ids = dict(zip(names, produce(queue_db, [NewJob(name, b"card 4111") for name in names])))
    for name in names[:-1]:
        ended(queue_db, ids[name], "exception")
    ended(queue_db, ids["good"], "successful")
    worker.stop_cleanly()
    lines = [json.loads(line) for line in worker.log().splitlines()]
    runs = [line for line in lines if line["body"] in ("job.failed", "job.retried")]
    assert all(run["attributes"]["job"] == ids[run["attributes"]["entrypoint"]] for run in runs)
    said = {(run["body"], run["severity_text"], run["attributes"]["entrypoint"],
             run["attributes"]["attempts"], run["attributes"]["exception_type"]) for run in runs}
    assert said == {
        ("job.retried", "WARNING", "once", 0, "ValueError"),
        ("job.failed", "ERROR", "once", 1, "ValueError"),
        ("job.failed", "ERROR", "odd", 0, "Odd\ufffdType"),
        ("job.failed", "ERROR", "bare", 0, "Failure"),
        ("job.failed", "ERROR", "long", 0, "LongError"),
    }
    texts = {run["attributes"]["entrypoint"]: run["attributes"]["error"] for run in runs}
    assert texts["once"] == "boom" and texts["bare"] == ""
    assert 298 <= len(texts["long"].encode()) <= 300, "cut, between two characters"
    assert [run["attributes"].get("delay_ms") for run in runs if run["body"] == "job.retried"] == [50]
    assert "4111" not in worker.log()


def test_retries_that_succeed_end_successfully_and_leave_nothing(
    queue_db, produce, spawn_worker, journal
):
    worker = spawn_worker(queue_db, args=["job=fail_unless_open,retry_executor=50:20:100"])
    [job_id] = produce(queue_db, [NewJob("job", b"")])
    journal.wait_runs(3, ended=True)
    assert queue_db.job(job_id)["attempts"] >= 2, "the count is in the row, where all workers see it"
    open_gate(journal)
    ended(queue_db, job_id, "successful")
    worker.stop_cleanly()
    assert "exception" not in queue_db.log_of(job_id) and queue_db.job_count() == 0
    assert [run.attempts for run in journal.runs_of(job_id)] == list(range(len(journal.runs())))


def test_a_crash_loses_no_attempt_of_the_retry_executor(queue_db, produce, spawn_worker, journal):
    entrypoint = "job=fail,retry_executor=2:1500:1500"
    victim = spawn_worker(queue_db, args=[entrypoint])
    [job_id] = produce(queue_db, [NewJob("job", b"")])
    wait_until(lambda: len(retries(queue_db, job_id)) == 1, 10, "the first retry")
    victim.kill()
    successor = spawn_worker(queue_db, args=[entrypoint])
    ended(queue_db, job_id, "exception")
    successor.stop_cleanly()
    assert [run.attempts for run in journal.runs_of(job_id)] == [0, 1, 2]


def test_a_job_whose_retries_are_used_up_is_held_if_the_entrypoint_holds(
    queue_db, produce, spawn_worker, pgqueuer, journal
):
    worker = spawn_worker(queue_db, "--dequeue-timeout", "600",
                          args=["job=fail_unless_open,hold,retry_executor=1:50"])
    [job_id] = produce(queue_db, [NewJob("job", b"abc")])
    ended(queue_db, job_id, "failed")
    held = queue_db.job(job_id)
    assert (held["status"], held["attempts"], held["queue_manager_id"], held["slot"]) == (
        "failed", 1, None, None)
    open_gate(journal)
    assert pgqueuer("requeue", job_id, dsn=queue_db).returncode == 0
    ended(queue_db, job_id, "successful")
    worker.stop_cleanly()
    assert queue_db.log_of(job_id) == ["queued", "picked", "queued", "picked", "failed",
                                       "queued", "picked", "successful"]
    assert [run.attempts for run in journal.runs_of(job_id)] == [0, 1, 0]


def test_the_backoff_executor_retries_in_the_process_and_keeps_the_job(
    queue_db, produce, spawn_worker, journal
):
    """The rests are longer than the heartbeat timeout, and than a lease, after which the job is a picked
    one; and an idle worker waits for its chance."""
    options = ("--heartbeat-timeout", "1.4", "--dequeue-timeout", "0.2", "--threads", "1")
    owner = spawn_worker(queue_db, *options, args=["job=fail,backoff=3:1500", "ok"])
    [job_id] = produce(queue_db, [NewJob("job", b"")])
    journal.wait_runs(1, ended=True)
    rival = spawn_worker(queue_db, *options, args=["job=fail,backoff=3:1500"])
    wait_until(lambda: queue_db.job(job_id)["status"] == "picked", 5, "the job is kept")
    assert queue_db.job(job_id)["attempts"] == 0
    [other] = produce(queue_db, [NewJob("ok", b"")])
    ended(queue_db, other, "successful")
    assert len(journal.runs_of(job_id)) < 3, "a resting job occupies no thread"
    ended(queue_db, job_id, "exception")
    for worker in (owner, rival):
        worker.stop_cleanly()
    assert queue_db.log_of(job_id) == ["queued", "picked", "exception"]
    runs = journal.runs_of(job_id)
    assert [run.attempts for run in runs] == [0, 0, 0] and {run.pid for run in runs} == {owner.pid}
    # min(initial * 2^n / 2 + u * initial / 2, max), n failures so far, u from 0 to 1
    for pause, least in zip(pauses(runs), (1.5, 3.0)):
        assert least - 0.01 <= pause < least + 0.75 + 1.0
    error = queue_db.traceback_of(job_id)
    assert error["exception_type"] == "MaxRetriesExceeded"
    assert "boom" in error["exception_message"] + error["traceback"]


def test_the_backoff_executor_ends_when_its_time_is_over(queue_db, produce, drain, journal):
    [job_id] = produce(queue_db, [NewJob("job", b"")])
    drain(queue_db, args=["job=fail,hold,backoff=0:100:700"])
    assert queue_db.traceback_of(job_id, "failed")["exception_type"] == "MaxTimeExceeded"
    assert queue_db.job(job_id)["status"] == "failed"
    assert 2 <= len(journal.runs_of(job_id)) <= 5


@pytest.mark.parametrize("behaviour", ["fail_10mb", "fail_invalid_utf8"])
def test_an_error_text_of_any_kind_is_recorded_and_harms_none_of_its_batch(
    queue_db, produce, drain, journal, behaviour
):
    ids = produce(queue_db, [NewJob(name, b"") for name in ("ok", behaviour, "hold", "ok") * 5])
    drain(queue_db, "--batch-size", "20", "--threads", "8", args=["ok", f"{behaviour},hold", "hold"])
    assert all(count == 1 for count in journal.run_counts().values()) and len(journal.runs()) == 20
    counts = queue_db.log_counts()
    back = counts["queued"] - 20  # of a lease, picked and given back unstarted, as may be on a busy machine
    assert back >= 0 and counts == {"queued": 20 + back, "picked": 20 + back, "successful": 10, "failed": 10}
    assert queue_db.job_count("status = 'failed'") == 10
    message = queue_db.traceback_of(ids[1], "failed")["exception_message"]
    if behaviour == "fail_10mb":
        assert message.endswith(" [cut]") and 60_000 < len(message.encode()) <= 64 * 1024 + 6
        assert set(message.removesuffix(" [cut]")) == {"\u00e9"}, "cut between two characters"
    else:
        assert "control" in message and "surrogate" in message


# -- timeouts ------------------------------------------------------------------------------------


def test_a_handler_that_is_told_in_time_fails_with_the_timeout(
    queue_db, produce, spawn_worker, journal
):
    worker = spawn_worker(queue_db, args=["job=watch,timeout=300,grace=5000", "quick=sleep,timeout=300"])
    [job_id, quick] = produce(queue_db, [NewJob("job", b""), NewJob("quick", b"10")])
    ended(queue_db, job_id, "exception")
    ended(queue_db, quick, "successful")
    worker.stop_cleanly()
    [run] = journal.runs_of(job_id)
    assert run.outcome == "cancelled", "told by pgq_job_cancelled"
    assert 0.29e9 <= run.end_ns - run.start_ns < 0.3e9 + 2e9
    assert queue_db.traceback_of(job_id)["exception_type"] == "JobTimeout"
    assert len(worker.events("job.timeout")) == 1 and not worker.events("job.stuck")


def test_a_handler_that_will_not_end_loses_its_job_and_its_seat_and_keeps_a_thread(
    queue_db, produce, spawn_worker, journal
):
    worker = spawn_worker(queue_db, "--threads", "3", "--dequeue-timeout", "600",
                          args=["stuck=gate,serialized,timeout=300,grace=200,hold", "ok"])
    first, second = produce(queue_db, [NewJob("stuck", b"")] * 2)
    ended(queue_db, first, "failed")
    [run] = journal.runs_of(first)
    assert run.end_ns is None, "the handler still runs"
    # The seat is free while it does: the next one of the serialized entrypoint starts.
    wait_until(lambda: journal.runs_of(second), 10, "the second job starts")
    ended(queue_db, second, "failed")
    assert all(run.end_ns is None for run in journal.runs())
    assert queue_db.job_count("slot IS NOT NULL OR queue_manager_id IS NOT NULL") == 0
    error = queue_db.traceback_of(first, "failed")
    assert error["exception_type"] == "JobTimeout"
    assert len(worker.events("job.stuck")) == 2
    # The third thread goes on serving.
    others = produce(queue_db, [NewJob("ok", b"")] * 50)
    wait_until(lambda: queue_db.log_counts().get("successful") == 50, 20, "the others are served")
    assert worker.returncode is None
    open_gate(journal)
    journal.wait_runs(52, ended=True)
    worker.stop_cleanly()
    assert queue_db.log_of(first) == queue_db.log_of(second) == ["queued", "picked", "failed"], \
        "what the handlers said at last counts no more"
    assert set(journal.run_counts().values()) == {1} and len(others) == 50


def test_the_retry_executor_retries_a_run_that_timed_out(queue_db, produce, spawn_worker, journal):
    worker = spawn_worker(queue_db, args=["job=watch,timeout=200,grace=5000,retry_executor=1:50"])
    [job_id] = produce(queue_db, [NewJob("job", b"")])
    ended(queue_db, job_id, "exception")
    worker.stop_cleanly()
    assert queue_db.log_of(job_id) == ["queued", "picked", "queued", "picked", "exception"]
    assert [run.attempts for run in journal.runs_of(job_id)] == [0, 1]
    assert queue_db.traceback_of(job_id)["exception_type"] == "JobTimeout"


def test_a_job_may_be_finished_after_its_worker_has_given_it_up_and_ended(queue_db, produce, handlers,
                                                                          home):
    [late] = produce(queue_db, [NewJob("late", b"")])
    done = program.run([handlers["prog_late"], queue_db.dsn], program.clean_environment(home))
    assert (done.returncode, done.stdout) == (0, "ended\nfinished\n"), done.stderr
    assert queue_db.job(late) is None
    assert queue_db.traceback_of(late, "exception")["exception_type"] == "JobTimeout"
