"""`pgqueuer run` with a parent: restarts, signals, exit statuses, systemd, the crash ledger."""

import os
import re
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from lib import invariants
from lib.jobs import NewJob
from lib.refusal import DONE, FAILED, LISTENER, NOT_FOUND, TIMED_OUT, USAGE, assert_refused
from lib.waiting import wait_until

CRASH = "signal 11 (SIGSEGV) killed the worker process that ran only this job"


@pytest.fixture
def supervise(spawn_worker, handlers, journal):
    """`supervise(database, *options, args=…)` starts a parent with the handlers of crash.c."""

    def start(database, *options, args=("job",), processes=1, listening=True, factory="factory",
              **more):
        if not any(option.startswith("--restart-delay") for option in options):
            options = ("--restart-delay", "0", *options)
        parent = spawn_worker(database, "--processes", str(processes), *options, wait=False,
                              factory=f"{handlers['crash']}:{factory}", args=[journal, *args], **more)
        if listening:
            wait_until(lambda: len(parent.events("worker.listening")) >= processes, 20,
                       lambda: f"all processes listen:\n{parent.log()}")
        return parent

    return start


def children(parent):
    """The processes of a parent that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = stat.read_text().rsplit(")", 1)
        except OSError:
            continue
        state, ppid = rest.split()[:2]
        if int(ppid) == parent.pid and state != "Z":
            found.append(int(name.split(" ", 1)[0]))
    return sorted(found)


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def open_gate(journal):
    journal.path.with_name(journal.path.name + ".gate").touch()


def wait_empty(database, deadline=30):
    wait_until(lambda: database.job_count("status <> 'failed'") == 0, deadline, "the queue is worked off")


# -- who has a parent -----------------------------------------------------------------------------


def test_without_a_reason_for_one_there_is_no_parent(queue_db, spawn_worker):
    worker = spawn_worker(queue_db, args=["ok"])
    assert children(worker) == []
    worker.stop_cleanly()


@pytest.mark.parametrize("options, environment, count", [
    (["--processes", "3"], {}, 3),
    (["--restart-on-failure"], {}, 1),
    ([], {"WATCHDOG_USEC": "30000000"}, 1),
    ([], {"PGQUEUER_PROCESSES": "2"}, 2),
])
def test_a_parent_keeps_as_many_processes_as_wanted(queue_db, spawn_worker, options, environment, count):
    parent = spawn_worker(queue_db, *options, args=["ok"], env=environment)
    wait_until(lambda: len(parent.events("worker.listening")) == count, 15, "they listen")
    assert len(children(parent)) == count
    maps = Path(f"/proc/{parent.pid}/maps").read_text()
    assert "journal.so" not in maps, "the parent has loaded the handlers"
    parent.stop_cleanly()


def test_a_watchdog_for_another_process_is_none(queue_db, spawn_worker):
    worker = spawn_worker(queue_db, args=["ok"],
                          env={"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"})
    assert children(worker) == []
    worker.stop_cleanly()


@pytest.mark.parametrize("arguments, words", [
    (["--processes", "0"], ["--processes", "1", "64"]),
    (["--processes", "65"], ["65", "64"]),
    (["--restart-delay", "-1"], ["--restart-delay", "-1", "0"]),
    (["--restart-delay", "3601"], ["3601", "3600"]),
    (["--crash-limit", "0"], ["--crash-limit", "1", "100"]),
    (["--crash-limit", "101"], ["101"]),
])
def test_options_out_of_range_are_refused(pgqueuer, arguments, words):
    assert_refused(pgqueuer("run", "x.so:f", *arguments), USAGE, *words)


# -- working ----------------------------------------------------------------------------------------


def test_several_processes_drain_a_queue_once_each(queue_db, produce, supervise, journal):
    ids = produce(queue_db, [NewJob("job", b"")] * 500)
    parent = supervise(queue_db, "--mode", "drain", processes=3, listening=False)
    assert parent.wait(60) == DONE, parent.log()
    invariants.check_kept(queue_db, ids)
    invariants.check_single(journal, ids)
    assert queue_db.log_counts() == {"queued": 500, "picked": 500, "successful": 500}
    assert not parent.events("worker.restarting"), "a clean end is no reason to start again"
    assert len(parent.events("worker.process_started")) == 3


# -- the end of a process -----------------------------------------------------------------------------


def test_a_crashed_process_is_started_again(queue_db, produce, supervise):
    parent = supervise(queue_db, "--restart-on-failure")
    [first] = children(parent)
    os.kill(first, signal.SIGKILL)
    parent.wait_log(rf"worker\.exited .*pid={first} signal=SIGKILL")
    parent.wait_log(r"worker\.restarting .*delay_ms=0")
    wait_until(lambda: len(parent.events("worker.listening")) == 2, 15, "the new one listens")
    assert children(parent) not in ([first], [])
    [job_id] = produce(queue_db, [NewJob("job", b"")])
    wait_until(lambda: queue_db.log_of(job_id)[-1] == "successful", 15, "the new one works")
    parent.stop_cleanly()


def test_the_delay_doubles_while_processes_do_not_live_long(queue_db, supervise):
    parent = supervise(queue_db, "--restart-on-failure", "--restart-delay", "0.2")
    for count in range(1, 5):
        wait_until(lambda: len(parent.events("worker.listening")) >= count, 20, "it listens")
        [child] = wait_until(lambda: children(parent), 10, "it runs")
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: len(parent.events("worker.restarting")) == count, 10, "it is noticed")
    delays = re.findall(r"worker\.restarting .*delay_ms=(\d+)", parent.log())
    assert delays == ["200", "400", "800", "1600"]
    assert parent.stop() == DONE


def test_without_restart_the_first_failure_ends_all(queue_db, supervise):
    parent = supervise(queue_db, processes=3)
    first, *others = children(parent)
    os.kill(first, signal.SIGSEGV)
    assert parent.wait(20) == FAILED, parent.log()
    assert re.search(rf"worker\.exited pid={first} signal=SIGSEGV", parent.log())
    assert all(is_gone(pid) for pid in others)
    assert len(parent.events("worker.stopped")) == 2, "the others stopped gracefully"


def test_the_status_of_a_handler_that_exits_is_the_parents(queue_db, produce, supervise):
    parent = supervise(queue_db, processes=2)
    produce(queue_db, [NewJob("job", b"exit 43")])
    assert parent.wait(20) == 43, parent.log()


def kill_listeners(database):
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                     " WHERE datname = current_database() AND pid <> pg_backend_pid()")


def test_a_deaf_process_ends_the_parent_with_its_status(queue_db, supervise):
    parent = supervise(queue_db, "--shutdown-on-listener-failure", processes=2)
    kill_listeners(queue_db)
    assert parent.wait(20) == LISTENER, parent.log()


def test_a_deaf_process_is_started_again_when_wanted(queue_db, supervise):
    parent = supervise(queue_db, "--shutdown-on-listener-failure", "--restart-on-failure")
    kill_listeners(queue_db)
    parent.wait_log(r"worker\.exited .*status=5")
    wait_until(lambda: len(parent.events("worker.listening")) == 2, 15, "the new one listens")
    parent.stop_cleanly()


@pytest.mark.parametrize("factory, status", [("refusing_factory", FAILED), ("no_such", NOT_FOUND),
                                             ("dying_factory", FAILED)])
def test_what_cannot_begin_is_not_tried_again(queue_db, supervise, factory, status):
    parent = supervise(queue_db, "--restart-on-failure", factory=factory, listening=False)
    assert parent.wait(20) == status, parent.log()
    assert not parent.events("worker.restarting")
    assert len(re.findall(r"^pgqueuer: error", parent.log(), re.M)) <= 1, "reported once"


def test_a_database_that_comes_later_is_waited_for_with_restarts(own_queue_db, own_cluster, supervise):
    own_cluster.stop()
    parent = supervise(own_queue_db, "--restart-on-failure", listening=False)
    parent.wait_log(r"worker\.restarting")
    own_cluster.start()
    parent.wait_log(r"worker\.listening", 30)
    parent.stop_cleanly()


# -- signals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_the_jobs_of_all_processes_finish(queue_db, produce, supervise, journal, number):
    parent = supervise(queue_db, "--threads", "1", "--batch-size", "1", processes=2)
    ids = produce(queue_db, [NewJob("job", b"gate")] * 2)
    journal.wait_runs(2)
    parent.send(number)
    wait_until(lambda: len(parent.events("worker.stopping")) == 2, 10, "both stop")
    assert parent.returncode is None
    open_gate(journal)
    assert parent.wait(20) == DONE, parent.log()
    assert all(queue_db.log_of(job_id)[-1] == "successful" for job_id in ids)


def test_ctrl_c_is_one_signal_for_each_process(queue_db, produce, supervise, journal):
    """The terminal signals a whole process group; the parent passes on what it gets."""
    parent = supervise(queue_db, processes=2, start_new_session=True)
    produce(queue_db, [NewJob("job", b"gate")])
    journal.wait_runs(1)
    os.killpg(parent.pid, signal.SIGINT)
    wait_until(lambda: len(parent.events("worker.stopping")) == 2, 10, "both stop")
    open_gate(journal)
    assert parent.wait(20) == DONE, parent.log()
    assert len(parent.events("signal.received")) == 3, "one for each, the parent included"


def test_the_second_signal_hurries_and_the_third_kills(queue_db, produce, supervise, journal):
    parent = supervise(queue_db, processes=2)
    [job_id] = produce(queue_db, [NewJob("job", b"gate")])
    journal.wait_runs(1)
    parent.send(signal.SIGTERM)
    wait_until(lambda: len(parent.events("worker.stopping")) == 2, 10, "both stop")
    parent.send(signal.SIGTERM)
    assert parent.wait(10) == TIMED_OUT, parent.log()
    assert queue_db.log_of(job_id)[:2] == ["queued", "picked"]


def test_the_third_signal_kills(queue_db, produce, supervise, journal):
    parent = supervise(queue_db, processes=2)
    produce(queue_db, [NewJob("job", b"gate")])
    pids = children(parent)
    journal.wait_runs(1)
    for pid in pids:  # so that only SIGKILL can end them
        os.kill(pid, signal.SIGSTOP)
    for count in range(1, 4):
        parent.send(signal.SIGTERM)
        if count < 3:
            wait_until(lambda: len(re.findall(r"signal\.received", parent.log())) == count, 10, "heard")
    assert parent.wait(10) == 128 + signal.SIGTERM, parent.log()
    assert all(is_gone(pid) for pid in pids)


def test_sigusr1_shows_the_state_of_parent_and_children(queue_db, supervise):
    parent = supervise(queue_db, "--restart-on-failure", processes=2)
    parent.send(signal.SIGUSR1)
    parent.wait_log(r"supervisor\.state .*processes=2 .*restarts=0 suspects=0")
    wait_until(lambda: len(parent.events("worker.state")) == 2, 10, "each child shows its own")
    parent.stop_cleanly()


def test_sighup_reaches_the_children(queue_db, supervise, tmp_path):
    config = tmp_path / "pgqueuer.ini"
    config.write_text("[pgqueuer]\nlog_level = info\n")
    parent = supervise(queue_db, "--config", str(config), processes=2)
    config.write_text("[pgqueuer]\nlog_level = debug\n")
    parent.send(signal.SIGHUP)
    wait_until(lambda: len(re.findall(r"settings\.reloaded log_level=DEBUG", parent.log())) == 3, 10,
               lambda: f"parent and children have read it:\n{parent.log()}")
    parent.stop_cleanly()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_that_comes_while_a_child_starts_does_not_end_it(queue_db, supervise, number):
    parent = supervise(queue_db, processes=2, listening=False)
    wait_until(lambda: len(parent.events("worker.process_started")) == 2, 10, "they are started")
    for _ in range(5):
        parent.send(number)
    wait_until(lambda: len(parent.events("worker.listening")) == 2, 15,
               lambda: f"both listen:\n{parent.log()}")
    assert not parent.events("worker.exited")
    parent.stop_cleanly()


def test_a_stop_that_comes_while_a_child_starts_is_a_clean_one(queue_db, supervise):
    parent = supervise(queue_db, processes=2, listening=False)
    wait_until(lambda: len(parent.events("worker.process_started")) == 2, 10, "they are started")
    assert parent.stop() == DONE, parent.log()


def test_no_worker_outlives_its_parent(queue_db, supervise):
    parent = supervise(queue_db, "--restart-on-failure", processes=3)
    pids = children(parent)
    assert len(pids) == 3
    parent.kill()
    wait_until(lambda: all(is_gone(pid) for pid in pids), 10, "the children end")


# -- systemd -------------------------------------------------------------------------------------------


class Notifications:
    """The socket of $NOTIFY_SOCKET: what was told, and when."""

    def __init__(self, path):
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self.heard = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            lines = self._socket.recv(4096).decode().split("\n")
            self.heard.append((time.monotonic(), lines))

    def count(self, line):
        return sum(line in lines for _, lines in self.heard)

    def wait(self, line, count=1, deadline=15):
        wait_until(lambda: self.count(line) >= count, deadline, lambda: f"{line} in {self.heard}")


@pytest.fixture
def notifications(tmp_path):
    return Notifications(tmp_path / "notify")


@pytest.mark.parametrize("level", ["debug", "critical"])
def test_systemd_is_told_by_a_worker_alone(queue_db, spawn_worker, notifications, level):
    worker = spawn_worker(queue_db, "--log-level", level, args=["ok"], wait=False,
                          env={"NOTIFY_SOCKET": notifications.path})
    notifications.wait("READY=1")
    assert notifications.count("STOPPING=1") == 0
    worker.stop_cleanly()
    notifications.wait("STOPPING=1")


def test_systemd_hears_ready_when_all_processes_listen(queue_db, produce, supervise, notifications):
    parent = supervise(queue_db, processes=3, env={"NOTIFY_SOCKET": notifications.path})
    notifications.wait("READY=1")
    assert len(parent.events("worker.listening")) == 3
    parent.stop_cleanly()
    notifications.wait("STOPPING=1")
    assert notifications.count("READY=1") == 1, "the children tell nothing"
    assert notifications.count("STOPPING=1") == 1


def test_systemd_hears_nothing_of_a_worker_that_cannot_begin(own_queue_db, own_cluster, supervise,
                                                             notifications):
    own_cluster.stop()
    parent = supervise(own_queue_db, "--restart-on-failure", listening=False,
                       env={"NOTIFY_SOCKET": notifications.path})
    wait_until(lambda: len(parent.events("worker.restarting")) >= 2, 15, "it tries")
    assert notifications.count("READY=1") == 0


def test_the_watchdog_is_fed_until_a_process_hangs(queue_db, supervise, notifications):
    parent = supervise(queue_db, processes=2, env={"NOTIFY_SOCKET": notifications.path,
                                                   "WATCHDOG_USEC": "400000"})
    notifications.wait("WATCHDOG=1", 5)
    hanging = children(parent)[0]
    os.kill(hanging, signal.SIGSTOP)

    def silent():
        return time.monotonic() - max(at for at, lines in notifications.heard if "WATCHDOG=1" in lines) > 2

    wait_until(silent, 20, "the watchdog is not fed any more")
    before = notifications.count("WATCHDOG=1")
    os.kill(hanging, signal.SIGCONT)
    notifications.wait("WATCHDOG=1", before + 1)
    parent.stop_cleanly()


# -- the crash ledger -----------------------------------------------------------------------------------


@pytest.mark.parametrize("payload, message", [
    (b"segv", CRASH),
    (b"abort", CRASH.replace("signal 11 (SIGSEGV)", "signal 6 (SIGABRT)")),
    (b"kill", CRASH.replace("signal 11 (SIGSEGV)", "signal 9 (SIGKILL)")),
    (b"exit 3", "the worker process that ran only this job exited with status 3"),
    (b"exit 0", "the worker process that ran only this job exited with status 0"),
])
def test_a_killer_is_held_with_what_it_did(queue_db, produce, supervise, journal, payload, message):
    parent = supervise(queue_db, "--restart-on-failure")
    [killer] = produce(queue_db, [NewJob("job", payload, priority=7)])
    wait_until(lambda: (queue_db.job(killer) or {}).get("status") == "failed", 30,
               lambda: f"it is held:\n{parent.log()}")
    row = queue_db.job(killer)
    assert (row["attempts"], row["queue_manager_id"], row["slot"]) == (0, None, None)
    traceback = queue_db.traceback_of(killer, "failed")
    assert set(traceback) == {"job_id", "timestamp", "exception_type", "exception_message",
                              "traceback", "additional_context"}
    assert traceback["exception_type"] == "WorkerCrashed"
    assert traceback["exception_message"] == message
    assert set(traceback["additional_context"]) == {"entrypoint", "queue_manager_id", "deaths"}
    assert traceback["additional_context"]["entrypoint"] == "job"
    assert traceback["additional_context"]["deaths"] == 2
    # beside the others, then twice alone
    assert len(journal.runs_of(killer)) == 3
    assert len({run.pid for run in journal.runs_of(killer)}) == 3
    assert queue_db.log_of(killer)[-1] == "failed" and queue_db.log_of(killer).count("failed") == 1
    parent.stop_cleanly()


def test_a_program_that_a_handler_starts_can_be_stopped(queue_db, produce, supervise, journal):
    produce(queue_db, [NewJob("job", b"program")])
    worker = supervise(queue_db, "--mode", "drain", listening=False)
    assert worker.wait() == 0, worker.log()
    assert queue_db.log_counts()["successful"] == 1


@pytest.mark.parametrize("limit", [1, 4])
def test_the_crash_limit_counts_deaths_alone(queue_db, produce, supervise, journal, limit):
    parent = supervise(queue_db, "--restart-on-failure", "--crash-limit", str(limit))
    [killer] = produce(queue_db, [NewJob("job", b"segv")])
    wait_until(lambda: (queue_db.job(killer) or {}).get("status") == "failed", 30, "it is held")
    assert len(journal.runs_of(killer)) == 1 + limit
    assert queue_db.traceback_of(killer, "failed")["additional_context"]["deaths"] == limit
    parent.stop_cleanly()


def test_a_job_that_killed_once_only_is_settled(queue_db, produce, supervise, journal):
    parent = supervise(queue_db, "--restart-on-failure", "--crash-limit", "1")
    [job_id] = produce(queue_db, [NewJob("job", b"once mark")])
    wait_empty(queue_db)
    assert queue_db.log_of(job_id)[-1] == "successful"
    assert len(journal.runs_of(job_id)) == 2
    parent.stop_cleanly()


def test_the_neighbours_of_a_killer_run_alone_and_are_settled(queue_db, produce, supervise, journal):
    parent = supervise(queue_db, "--restart-on-failure", "--threads", "8", "--batch-size", "4")
    neighbours = produce(queue_db, [NewJob("job", b"gate")] * 7)
    journal.wait_runs(7)
    [killer] = produce(queue_db, [NewJob("job", b"segv")])
    parent.wait_log(r"job\.suspect")
    open_gate(journal)
    wait_empty(queue_db)
    assert all(queue_db.log_of(job_id)[-1] == "successful" for job_id in neighbours)
    wait_until(lambda: (queue_db.job(killer) or {}).get("status") == "failed", 30, "it is held")
    assert len(parent.events("job.suspect")) == 8
    # nobody else ran while a suspect did, in its process
    for run in journal.runs()[8:]:
        assert len([other for other in journal.runs() if other.pid == run.pid]) == 1
    parent.stop_cleanly()


def test_suspects_keep_their_claim_while_they_wait(queue_db, produce, supervise, journal):
    """Nobody else starts a suspect, however long its turn takes to come."""
    parent = supervise(queue_db, "--restart-on-failure", "--threads", "4", "--batch-size", "4",
                       "--heartbeat-timeout", "1")
    waiting = produce(queue_db, [NewJob("job", b"gate")] * 3)
    journal.wait_runs(3)
    produce(queue_db, [NewJob("job", b"once mark")])
    wait_until(lambda: len(parent.events("job.suspect")) == 4, 15, "all of them are suspects")
    wait_until(lambda: len(journal.runs()) >= 5, 15, "the first runs alone")
    begun = time.monotonic()
    # three heartbeat timeouts pass
    wait_until(lambda: time.monotonic() - begun > 3, 10, "the heartbeats would be stale")
    assert len(journal.runs()) <= 6, "a suspect was started beside another"
    assert queue_db.job_count("status = 'picked' AND heartbeat < now() - interval '1 second'") == 0
    open_gate(journal)
    wait_empty(queue_db)
    assert all(queue_db.log_of(job_id).count("successful") == 1 for job_id in waiting)
    parent.stop_cleanly()


def test_a_stop_gives_suspects_back_that_have_not_run(queue_db, produce, supervise, journal):
    parent = supervise(queue_db, "--restart-on-failure", "--threads", "4", "--batch-size", "4")
    ids = produce(queue_db, [NewJob("job", b"gate")] * 3)
    journal.wait_runs(3)
    ids += produce(queue_db, [NewJob("job", b"once mark")])
    wait_until(lambda: len(parent.events("job.suspect")) == 4, 15, "all of them are suspects")
    wait_until(lambda: len(journal.runs()) >= 5, 15, "the first runs alone")
    parent.send(signal.SIGTERM)
    parent.wait_log(r"signal\.received")
    open_gate(journal)
    assert parent.wait(20) == DONE, parent.log()
    assert queue_db.job_count("status = 'picked'") == 0, "nothing waits for a heartbeat timeout"
    assert queue_db.job_count("queue_manager_id IS NOT NULL OR slot IS NOT NULL") == 0
    assert queue_db.job_count("status = 'queued'") >= 2
    invariants.check_kept(queue_db, ids)


def test_a_suspect_that_the_third_signal_kills_is_not_held(queue_db, produce, supervise, journal):
    parent = supervise(queue_db, "--restart-on-failure", "--crash-limit", "1")
    [job_id] = produce(queue_db, [NewJob("job", b"gate")])
    journal.wait_runs(1)
    os.kill(children(parent)[0], signal.SIGSEGV)
    journal.wait_runs(2)
    for pid in children(parent):  # so that only SIGKILL can end them
        os.kill(pid, signal.SIGSTOP)
    for count in range(1, 4):
        parent.send(signal.SIGTERM)
        wait_until(lambda: len(re.findall(r"signal\.received", parent.log())) == count, 10, "heard")
    assert parent.wait(10) == 128 + signal.SIGTERM, parent.log()
    assert "failed" not in queue_db.log_of(job_id) and not parent.events("job.died_alone")


def test_suspects_survive_a_database_that_is_away(own_queue_db, own_cluster, produce, supervise, journal):
    parent = supervise(own_queue_db, "--restart-on-failure")
    [killer] = produce(own_queue_db, [NewJob("job", b"gate")])
    journal.wait_runs(1)
    own_cluster.stop("immediate")
    os.kill(children(parent)[0], signal.SIGSEGV)
    parent.wait_log(r"suspects\.database_away")
    open_gate(journal)
    own_cluster.start()
    wait_until(lambda: own_queue_db.log_of(killer)[-1] == "successful", 40, "it ran again")
    assert parent.events("job.suspect"), "it was taken over"
    parent.stop_cleanly()


def test_a_solo_process_that_cannot_begin_says_nothing_of_its_job(
    queue_db, produce, spawn_worker, handlers, journal, tmp_path
):
    library = shutil.copy(handlers["crash"], tmp_path / "moving.so")
    parent = spawn_worker(queue_db, "--restart-on-failure", "--restart-delay", "0", "--crash-limit", "1",
                          factory=f"{library}:factory", args=[journal, "job"])
    [job_id] = produce(queue_db, [NewJob("job", b"gate")])
    journal.wait_runs(1)
    os.rename(library, tmp_path / "away.so")
    os.kill(children(parent)[0], signal.SIGSEGV)
    parent.wait_log(r"job\.suspect")
    # the regular one and the solo one, at least twice
    wait_until(lambda: len(re.findall(r"worker\.exited .*status=6", parent.log())) >= 4, 20,
               lambda: f"they try:\n{parent.log()}")
    assert queue_db.job(job_id)["status"] == "picked" and not parent.events("job.died_alone")
    open_gate(journal)
    os.rename(tmp_path / "away.so", library)
    wait_until(lambda: queue_db.log_of(job_id)[-1] == "successful", 60,
               lambda: f"it is settled:\n{parent.log()}")
    parent.stop_cleanly()


def test_one_killer_among_ten_thousand_harms_nobody(queue_db, produce, supervise, journal):
    jobs = [NewJob("job", b"")] * 10_000
    jobs[5_000] = NewJob("job", b"segv")
    ids = produce(queue_db, jobs)
    killer = ids[5_000]
    # what was claimed with the killer is tried alone, job by job
    options = ["--restart-on-failure", "--threads", "8", "--batch-size", "200"]
    parent = supervise(queue_db, *options, listening=False)
    wait_empty(queue_db, 100)
    wait_until(lambda: (queue_db.job(killer) or {}).get("status") == "failed", 30, "it is held")
    assert queue_db.job_count() == 1, "an innocent job is held"
    assert queue_db.log_counts()["successful"] == 9_999
    assert queue_db.log_counts()["failed"] == 1
    assert queue_db.job(killer)["attempts"] == 0
    assert queue_db.traceback_of(killer, "failed")["exception_message"] == CRASH
    invariants.check_kept(queue_db, ids)
    parent.stop_cleanly()
