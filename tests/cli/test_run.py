"""`pgqueuer run`: factories, modes, stopping."""

import json
import re
import signal

import pytest

from lib import invariants
from lib.jobs import NewJob
from lib.refusal import (CANNOT_CONNECT, DONE, FAILED, LISTENER, NOT_FOUND, TIMED_OUT, USAGE,
                         assert_refused)
from lib.waiting import wait_until


def open_gate(journal):
    journal.path.with_name(journal.path.name + ".gate").touch()


# -- factories: refused before any connection is made --------------------------------------------


@pytest.fixture
def run_factory(pgqueuer):
    def run(*arguments):
        return pgqueuer("run", *arguments, dsn="postgresql://127.0.0.1:1/none")

    return run


def test_a_missing_factory_file(run_factory, tmp_path):
    assert_refused(run_factory(f"{tmp_path}/missing.so:factory"), NOT_FOUND, "missing.so")


def test_a_missing_symbol(run_factory, handlers):
    assert_refused(run_factory(f"{handlers['journal']}:no_such"), NOT_FOUND, "no_such",
                   "journal.so")


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF" + b"\0" * 100])
def test_a_file_that_is_no_shared_object(run_factory, tmp_path, content):
    file = tmp_path / "odd.so"
    file.write_bytes(content)
    assert_refused(run_factory(f"{file}:factory"), FAILED, "odd.so")


def test_a_folder_is_no_shared_object(run_factory, tmp_path):
    assert_refused(run_factory(f"{tmp_path}:factory"), FAILED, str(tmp_path))


def test_a_dotted_path_is_refused_with_the_new_spelling(run_factory):
    assert_refused(run_factory("libjobs.factory"), FAILED, "libjobs.factory", "libjobs.so:factory")


@pytest.mark.parametrize("factory", ["libjobs.so", "libjobs.so:", ":factory", ""])
def test_an_incomplete_factory_is_refused(run_factory, factory):
    done = run_factory(factory)
    assert_refused(done, FAILED)
    for word in done.stderr.split():
        assert word.count(":factory") <= 1 and ".so:so" not in word, "a spelling that cannot work"


def test_a_factory_that_refuses_is_quoted(run_factory, handlers):
    done = run_factory(f"{handlers['journal']}:refusing_factory")
    assert_refused(done, FAILED, "does not want to", "reason 42")


def test_a_factory_without_its_arguments_says_so(run_factory, handlers):
    assert_refused(run_factory(f"{handlers['journal']}:factory"), FAILED, "journal's path is missing")


def test_a_factory_that_registers_nothing(run_factory, handlers):
    done = run_factory(f"{handlers['journal']}:empty_factory")
    assert done.returncode in (FAILED, USAGE)
    assert_refused(done, done.returncode, "entrypoint")


def test_an_entrypoint_registered_twice(run_factory, handlers, tmp_path):
    done = run_factory(f"{handlers['journal']}:factory", "--", f"{tmp_path}/journal", "ok", "ok")
    assert done.returncode in (FAILED, USAGE)
    assert_refused(done, done.returncode, "ok")


def test_a_relative_factory_path(pgqueuer, handlers, queue_db, tmp_path):
    """As a person types it: a name in the current folder, with and without ./"""
    for path in ("./journal.so", "journal.so"):
        done = pgqueuer("run", f"{path}:factory", "--mode", "drain", "--", tmp_path / "journal", "ok",
                        dsn=queue_db, cwd=handlers["journal"].parent)
        assert done.returncode == DONE, done.stderr


def test_a_worker_does_not_wait_for_a_database_that_it_never_had(spawn_worker):
    worker = spawn_worker("postgresql://127.0.0.1:1/none", args=["ok"], wait=False)
    assert worker.wait(15) == CANNOT_CONNECT
    assert "127.0.0.1" in worker.log()


# -- working -----------------------------------------------------------------------------------


def test_drain_works_and_ends(queue_db, produce, drain, journal):
    ids = produce(queue_db, [NewJob("ok", b"x")] * 200 + [NewJob("fail", b"")] * 5)
    worker = drain(queue_db, args=["ok", "fail"])
    invariants.check_kept(queue_db, ids)
    invariants.check_single(journal, ids)
    assert queue_db.log_counts() == {"queued": 205, "picked": 205, "successful": 200, "exception": 5}
    [stopped] = worker.events("worker.stopped")
    fields = dict(re.findall(r"(\w+)=(\d+)", stopped))
    assert (fields["claimed"], fields["successful"], fields["failed"]) == ("205", "200", "5")


def test_drain_of_an_empty_queue_ends_at_once(queue_db, drain):
    drain(queue_db, args=["ok"], deadline=10)


def test_drain_waits_for_deferred_jobs_and_retries(queue_db, produce, drain, journal):
    ids = produce(queue_db, [NewJob("ok", b"", delay_ms=1200), NewJob("retry_once", b"700")])
    drain(queue_db, "--dequeue-timeout", "600", args=["ok", "retry_once"], deadline=20)
    assert queue_db.job_count() == 0
    assert journal.run_counts() == {ids[0]: 1, ids[1]: 2}


def test_drain_now_does_not_wait_for_deferred_jobs(queue_db, produce, spawn_worker):
    now, later = produce(queue_db, [NewJob("ok", b""), NewJob("ok", b"", delay_ms=3_600_000)])
    worker = spawn_worker(queue_db, "--mode", "drain-now", wait=False, args=["ok"])
    assert worker.wait() == DONE, worker.log()
    assert queue_db.log_of(now)[-1] == "successful" and queue_db.log_of(later) == ["queued"]
    worker.wait_log(r"worker\.left_deferred jobs=1")


def test_max_concurrent_tasks_limits_what_a_worker_holds(queue_db, produce, spawn_worker, journal):
    worker = spawn_worker(queue_db, "--max-concurrent-tasks", "3", "--threads", "8", args=["gate"])
    produce(queue_db, [NewJob("gate", b"")] * 20)
    journal.wait_runs(3)
    assert queue_db.job_count("status = 'picked'") == 3
    open_gate(journal)
    wait_until(lambda: queue_db.job_count() == 0, 20, "the queue drains")
    assert queue_db.log_counts()["picked"] == 20
    worker.stop_cleanly()


def test_a_deaf_listener_ends_the_worker_when_asked_to(queue_db, spawn_worker):
    worker = spawn_worker(queue_db, "--shutdown-on-listener-failure", "--health-check-interval",
                          "0.2", "--health-check-timeout", "0.5", args=["ok"])
    queue_db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                     " WHERE datname = current_database() AND pid <> pg_backend_pid()")
    assert worker.wait(15) == LISTENER, worker.log()


@pytest.mark.parametrize("interval, folded", [("0.05", True), ("0", False)])
def test_the_log_is_folded_into_the_statistics_as_often_as_told(
    queue_db, produce, spawn_worker, interval, folded
):
    worker = spawn_worker(queue_db, "--log-aggregation-interval", interval, args=["ok"])
    ids = produce(queue_db, [NewJob("ok", b"")] * 5)
    wait_until(lambda: queue_db.log_counts().get("successful") == len(ids), 15, "the jobs run")
    if folded:
        wait_until(lambda: queue_db.value(
            "SELECT coalesce(sum(count), 0) FROM pgqueuer_statistics WHERE status = 'successful'"
        ) == len(ids), 15, "the rows are folded")
    worker.stop_cleanly()
    if not folded:
        assert queue_db.value("SELECT count(*) FROM pgqueuer_statistics") == 0


def test_jobs_of_other_entrypoints_are_left_alone(queue_db, produce, drain, journal):
    mine, other = produce(queue_db, [NewJob("ok", b""), NewJob("fail", b"")])
    drain(queue_db, args=["ok"])
    assert queue_db.log_of(other) == ["queued"] and list(journal.run_counts()) == [mine]


def test_poisoned_headers_are_an_error_of_their_own_job_only(queue_db, produce, drain, journal):
    queue_db.execute("INSERT INTO pgqueuer (priority, status, entrypoint, headers)"
                     " VALUES (9, 'queued', 'ok', '[1]'), (9, 'queued', 'ok', '\"x\"')")
    ids = produce(queue_db, [NewJob("ok", b"")] * 20)
    drain(queue_db, args=["ok"])
    assert all(queue_db.log_of(job_id) == ["queued", "picked", "successful"] for job_id in ids)
    assert queue_db.job_count("status IN ('queued', 'picked')") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_the_running_job_finish_and_leaves_nothing_picked(
    queue_db, produce, spawn_worker, journal, number
):
    worker = spawn_worker(queue_db, "--threads", "1", "--batch-size", "5", args=["gate"])
    ids = produce(queue_db, [NewJob("gate", b"")] * 10)
    journal.wait_runs(1)
    worker.send(number)
    wait_until(lambda: queue_db.job_count("status = 'picked'") <= 1, 10,
               "what has not started is given back")
    assert worker.returncode is None, "the running job is waited for"
    open_gate(journal)
    assert worker.wait() == DONE, worker.log()
    assert [run.outcome for run in journal.runs()] == ["done"]
    assert queue_db.job_count("status = 'picked'") == 0
    assert queue_db.job_count("status = 'queued' AND attempts = 0 AND queue_manager_id IS NULL") == 9
    assert queue_db.log_counts()["successful"] == 1
    invariants.check_kept(queue_db, ids)
    assert worker.events("worker.stopped")


def test_a_second_signal_tells_the_handlers_to_end(queue_db, produce, spawn_worker, journal):
    worker = spawn_worker(queue_db, args=["watch"])
    [job_id] = produce(queue_db, [NewJob("watch", b"")])
    journal.wait_runs(1)
    worker.send(signal.SIGTERM)
    worker.wait_log(r"worker\.stopping")
    assert worker.returncode is None, "the running job is waited for"
    worker.send(signal.SIGINT)
    assert worker.wait(10) == DONE, worker.log()
    # nobody has cancelled the job: it is another worker's
    assert queue_db.log_of(job_id) == ["queued", "picked", "queued"]
    assert queue_db.job(job_id)["attempts"] == 0
    assert len(worker.events("signal.received")) == 2


def test_a_second_signal_leaves_a_handler_that_does_not_listen(queue_db, produce, spawn_worker, journal):
    worker = spawn_worker(queue_db, args=["gate"])
    [job_id] = produce(queue_db, [NewJob("gate", b"")])
    journal.wait_runs(1)
    worker.send(signal.SIGTERM)
    worker.wait_log(r"worker\.stopping")
    worker.send(signal.SIGTERM)
    assert worker.wait(10) == TIMED_OUT, worker.log()
    assert queue_db.log_of(job_id) == ["queued", "picked"]


def test_a_third_signal_ends_the_worker_at_once(queue_db, produce, spawn_worker, journal):
    worker = spawn_worker(queue_db, args=["gate"])
    [job_id] = produce(queue_db, [NewJob("gate", b"")])
    journal.wait_runs(1)
    worker.send(signal.SIGTERM)
    worker.wait_log(r"signal\.received")
    # two that are pending at once would be one: SIGINT and SIGTERM are not, and come in any order
    worker.send(signal.SIGINT)
    worker.send(signal.SIGTERM)
    assert worker.wait(5) in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert queue_db.log_of(job_id) == ["queued", "picked"]


def test_sigusr1_logs_the_state_whatever_the_level(queue_db, produce, spawn_worker):
    worker = spawn_worker(queue_db, args=["ok"])
    worker.send(signal.SIGUSR1)
    worker.wait_log(r"worker\.state .*state=running")
    quiet = spawn_worker(queue_db, "--log-level", "critical", args=["quiet=ok"],
                         wait=False)
    [job_id] = produce(queue_db, [NewJob("quiet", b"")])
    wait_until(lambda: queue_db.log_of(job_id)[-1] == "successful", 15, "the second worker works")
    quiet.send(signal.SIGUSR1)
    quiet.wait_log(r"worker\.state .*state=running")
    assert not quiet.events("worker.started")
    worker.stop_cleanly()
    quiet.stop_cleanly()


def test_sighup_reads_the_log_level_of_the_settings_file_again(queue_db, spawn_worker, tmp_path):
    config = tmp_path / "pgqueuer.ini"
    config.write_text("[pgqueuer]\nlog_level = info\n")
    worker = spawn_worker(queue_db, "--config", str(config), args=["ok"])
    config.write_text("[pgqueuer]\nlog_level = loud\n")
    worker.send(signal.SIGHUP)
    worker.wait_log(r"settings\.refused .*loud")
    config.write_text("[pgqueuer]\nlog_level = debug\n")
    worker.send(signal.SIGHUP)
    worker.wait_log(r"settings\.reloaded log_level=DEBUG")
    config.write_text("[pgqueuer]\nlog_level = error\n")
    worker.send(signal.SIGHUP)
    wait_until(lambda: len(worker.events("signal.received")) == 3, 10, "the signal is logged")
    worker.stop_cleanly()
    assert not worker.events("worker.stopped"), "an INFO line after the level became ERROR"


def test_a_log_level_of_the_command_line_stays(queue_db, spawn_worker, tmp_path):
    config = tmp_path / "pgqueuer.ini"
    config.write_text("[pgqueuer]\nlog_level = error\n")
    worker = spawn_worker(queue_db, "--config", str(config), "--log-level", "info", args=["ok"])
    worker.send(signal.SIGHUP)
    worker.wait_log(r"settings\.reloaded log_level=INFO")
    worker.stop_cleanly()
    assert worker.events("worker.stopped")


def test_the_drain_timeout_ends_a_stop(queue_db, produce, spawn_worker, journal):
    worker = spawn_worker(queue_db, "--drain-timeout", "0.5", args=["gate"])
    [job_id] = produce(queue_db, [NewJob("gate", b"")])
    journal.wait_runs(1)
    assert worker.stop(deadline=15) == TIMED_OUT, worker.log()
    # Nobody may start it before its heartbeat timeout: it may have run on to its end.
    assert queue_db.log_of(job_id)[:2] == ["queued", "picked"]
    assert not set(queue_db.log_of(job_id)) & set(invariants.TERMINAL)


def test_an_idle_worker_stops_at_once(queue_db, spawn_worker):
    spawn_worker(queue_db, args=["ok"]).stop_cleanly(deadline=5)


def test_an_idle_worker_wakes_up_for_a_job(queue_db, produce, spawn_worker):
    worker = spawn_worker(queue_db, "--dequeue-timeout", "600", args=["ok"])
    for _ in range(3):
        [job_id] = produce(queue_db, [NewJob("ok", b"")])
        wait_until(lambda: queue_db.log_of(job_id)[-1] == "successful", 5, "the job runs")
    worker.stop_cleanly()


def test_a_worker_whose_listener_died_still_finds_jobs(queue_db, produce, spawn_worker):
    worker = spawn_worker(queue_db, "--dequeue-timeout", "600", args=["ok"])
    queue_db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    )
    [job_id] = produce(queue_db, [NewJob("ok", b"")])
    wait_until(lambda: queue_db.log_of(job_id)[-1] == "successful", 15, "the job runs")
    worker.stop_cleanly()


def test_more_threads_run_more_jobs_at_once(queue_db, produce, spawn_worker, journal):
    worker = spawn_worker(queue_db, "--threads", "12", args=["gate"])
    produce(queue_db, [NewJob("gate", b"")] * 20)
    journal.wait_runs(12)
    open_gate(journal)
    wait_until(lambda: queue_db.job_count() == 0, 15, "the queue drains")
    worker.stop_cleanly()


# -- logging -----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["debug", "Debug", "DEBUG", "warn", "WARNING", "Critical", "fatal",
                                   "NOTSET", "error", "InFo"])
def test_a_log_level_in_any_case(queue_db, drain, level):
    worker = drain(queue_db, "--log-level", level, args=["ok"])
    shows_info = level.lower() in ("debug", "info", "notset")
    assert bool(worker.events("worker.started")) == shows_info


def test_text_log_lines(queue_db, drain):
    worker = drain(queue_db, args=["ok"])
    [line] = worker.events("worker.started")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z INFO worker\.started worker=[0-9a-f-]{36}", line)


def test_json_log_lines(queue_db, produce, drain):
    produce(queue_db, [NewJob("fail", b"")])
    worker = drain(queue_db, "--log-format", "json", "--log-level", "debug", args=["fail"])
    events = [json.loads(line) for line in worker.log().splitlines()]
    assert {"worker.started", "worker.listening", "worker.stopped"} <= {e["body"] for e in events}


def test_payloads_and_passwords_are_not_logged(queue_db, produce, drain):
    produce(queue_db, [NewJob("fail", b"secret-payload", headers='{"h": "secret-header"}')])
    worker = drain(queue_db, "--log-level", "debug", args=["fail"])
    assert "secret" not in worker.log()
