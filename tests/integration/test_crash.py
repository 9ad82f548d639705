"""Crashes of workers, backends and servers: nothing acknowledged is lost, nothing ends twice.

A killed process is no dead machine and a stopped server no lost power: what is claimed here is
crash safety only (reliability notes, "traps")."""

import os
import signal
import time

import pytest

from lib import invariants
from lib.jobs import NewJob
from lib.waiting import wait_until

HEARTBEAT = 1.0
AHEAD = 2 * 20  # two lanes with a batch each


def open_gate(journal):
    journal.path.with_name(journal.path.name + ".gate").touch()


def drained(database, deadline=60):
    left = "SELECT id, status::text, updated, now() - heartbeat FROM pgqueuer WHERE status <> 'failed'"
    wait_until(lambda: not database.rows(left), deadline,
               lambda: f"the queue drains, left: {database.rows(left)[:50]}", interval=0.1)


def worker_backends(database):
    """The process ids of the server's processes that serve the worker's connections."""
    with database.connect() as connection:
        return [
            pid
            for (pid,) in connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        ]


def busy_backends(database):
    return database.value("SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle'"
                          " AND datname = current_database() AND pid <> pg_backend_pid()")


def test_the_jobs_of_a_killed_worker_run_again(queue_db, produce, spawn_worker, journal):
    victim = spawn_worker(queue_db, "--threads", "4", "--heartbeat-timeout", str(HEARTBEAT),
                          args=["gate"])
    ids = produce(queue_db, [NewJob("gate", b"")] * 30)
    running = journal.wait_runs(4)
    wait_until(lambda: queue_db.job_count("status = 'picked'") >= 4, 10, "picked jobs")
    victim.kill()
    picked = queue_db.job_count("status = 'picked'")
    assert picked >= 4
    open_gate(journal)
    successor = spawn_worker(queue_db, "--heartbeat-timeout", str(HEARTBEAT),
                             "--dequeue-timeout", "600", args=["gate"])
    drained(queue_db, 5 * (HEARTBEAT + 1) + 10)
    successor.stop_cleanly()
    invariants.check_kept(queue_db, ids)
    again = invariants.check_single(journal, ids, extra=len(running))
    assert again == len(running) == 4, "exactly the jobs that the victim ran have run twice"
    assert {run.attempts for run in journal.runs()} == {0}
    assert queue_db.log_counts()["successful"] == 30


def test_killed_workers_in_a_row_lose_nothing(queue_db, produce, spawn_worker, journal, way):
    """Runs that had ended may not have been settled yet: exactly those run again, besides the
    running ones."""
    options = ("--threads", "4", "--batch-size", "20", "--heartbeat-timeout",
               str(HEARTBEAT))
    ids = produce(queue_db, [NewJob("sleep", b"3")] * 2500)
    kills = 0
    in_flight = 0
    for round_number in range(4):
        done_before = len(journal.runs())
        worker = spawn_worker(queue_db, *options, args=["sleep"])
        journal.wait_runs(done_before + 40 * (round_number + 1))
        worker.kill()
        kills += 1
        # What it had sent is carried out or not; then the books show what runs again.
        # One that is idle may have something left to read. A pooler's connections stay.
        at_work = busy_backends if way.name == "pooled" else worker_backends
        wait_until(lambda: not at_work(queue_db), 20, "the server has noticed")
        victims = {run.job_id for run in journal.runs() if run.pid == worker.pid}
        unsettled = queue_db.job_count(f"id IN ({', '.join(map(str, victims))})")
        assert unsettled <= 4 + AHEAD, "jobs that had ended were not settled in time"
        in_flight += unsettled
    assert kills == 4 and queue_db.job_count() > 0, "the workers were killed at work"
    last = spawn_worker(queue_db, *options, args=["sleep"])
    drained(queue_db)
    last.stop_cleanly()
    invariants.check_kept(queue_db, ids)
    again = invariants.check_single(journal, ids, extra=in_flight)
    # A pooler may have had a settle to pass on, though all its sessions were idle.
    assert 0 < again <= in_flight and (way.name == "pooled" or again == in_flight)
    assert queue_db.log_counts()["successful"] == 2500


def test_ended_backends_cost_the_worker_only_its_connections(
    queue_db, produce, spawn_worker, journal
):
    worker = spawn_worker(queue_db, "--heartbeat-timeout", "5", args=["sleep"])
    ids = produce(queue_db, [NewJob("sleep", b"2")] * 6000)
    terminated = 0
    for _ in range(5):
        journal.wait_runs(len(journal.runs()) + 50)
        wait_until(lambda: len(worker_backends(queue_db)) >= 2, 15, "a lane and the listener are there")
        with queue_db.connect() as connection:
            terminated += connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            ).fetchone()[0]
        wait_until(lambda: worker.events("connection.restored"), 15, "the worker connects again")
    assert terminated >= 10, "each round ended the lanes' backends and the listener's"
    drained(queue_db)
    worker.stop_cleanly()
    assert worker.events("connection.lost")
    invariants.check_kept(queue_db, ids)
    invariants.check_single(journal, ids)
    assert queue_db.log_counts()["successful"] == 6000


def test_a_killed_backend_restarts_the_server_and_loses_nothing(
    own_cluster, own_queue_db, produce, spawn_worker, journal
):
    worker = spawn_worker(own_queue_db, "--heartbeat-timeout", "5", args=["sleep"])
    ids = produce(own_queue_db, [NewJob("sleep", b"2")] * 5000)
    for kill in range(1, 4):  # how a lane learns of it is a matter of luck
        journal.wait_runs(len(journal.runs()) + 200)
        os.kill(worker_backends(own_queue_db)[0], signal.SIGKILL)
        wait_until(lambda: own_cluster.log().count("reinitializing") >= kill, 20, "it recovers")
        wait_until(own_cluster.answers, 30, "the server answers again")
    drained(own_queue_db)
    worker.stop_cleanly()
    assert worker.events("connection.lost") and worker.events("connection.restored")
    invariants.check_kept(own_queue_db, ids)
    invariants.check_single(journal, ids)


@pytest.mark.scenario("settle.restart")
@pytest.mark.parametrize("mode", ["fast", "immediate", "crash"])
def test_a_server_restart_in_the_middle_of_work(
    own_cluster, own_queue_db, produce, spawn_worker, journal, mode
):
    worker = spawn_worker(own_queue_db, "--heartbeat-timeout", "5", args=["sleep", "hold", "retry_once"])
    jobs = [NewJob("sleep", b"2")] * 1500 + [NewJob("hold", b"")] * 20 + [NewJob("retry_once", b"10")] * 20
    ids = produce(own_queue_db, jobs)
    for restart in range(2):
        journal.wait_runs(len(journal.runs()) + 200)
        own_cluster.restart(mode)
    drained(own_queue_db)
    worker.stop_cleanly()
    assert worker.events("connection.lost") and worker.events("connection.restored")
    invariants.check_kept(own_queue_db, ids)
    invariants.check_single(journal, ids, extra=20)  # the retries
    counts = own_queue_db.log_counts()
    assert (counts["successful"], counts["failed"]) == (1520, 20)
    assert {run.attempts for run in journal.runs() if run.entrypoint == "sleep"} == {0}


def test_a_worker_outlives_a_longer_outage_and_stays_calm(
    own_cluster, own_queue_db, produce, spawn_worker, journal
):
    worker = spawn_worker(own_queue_db, "--heartbeat-timeout", "30", args=["gate", "ok"])
    [running] = produce(own_queue_db, [NewJob("gate", b"")])
    journal.wait_runs(1)
    own_cluster.stop("immediate")
    worker.wait_log(r"connection\.lost")
    open_gate(journal)  # the handler ends while there is no database
    cpu_before, wall_before = _cpu_seconds(worker.pid), time.monotonic()
    wait_until(lambda: time.monotonic() - wall_before >= 3, 10, "an outage of 3 s")
    used = (_cpu_seconds(worker.pid) - cpu_before) / (time.monotonic() - wall_before)
    assert used <= 0.05, f"{used:.0%} of a core while there is no database"
    own_cluster.start()
    wait_until(lambda: own_queue_db.log_of(running)[-1] == "successful", 30,
               "the outcome arrives after the outage")
    [after] = produce(own_queue_db, [NewJob("ok", b"")])
    wait_until(lambda: own_queue_db.log_of(after)[-1] == "successful", 15, "work goes on")
    worker.stop_cleanly()
    assert own_queue_db.log_of(running) == ["queued", "picked", "successful"]
    assert len(journal.runs_of(running)) == 1


def _cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("mode", ["fast", "immediate", "crash"])
def test_a_server_restart_in_the_middle_of_enqueueing(
    own_cluster, own_queue_db, processes, handlers, home, drain, journal, tmp_path, mode
):
    """What the producer printed was acknowledged: it must be there. What it did not print may be
    there or not, but never by half."""
    from lib import jobs as job_text
    from lib import program

    source = tmp_path / "jobs"
    source.write_bytes(job_text.encode([NewJob("ok", b"x" * 100)] * 20_000))
    with open(source, "rb") as stdin:
        producer = processes(
            [handlers["prog_produce"], own_queue_db.dsn, "raise", "5", "none"],
            program.clean_environment(home), stdin=stdin,
        )
    wait_until(lambda: producer.log().count("\n") >= 100, 20, "the producer is at work")
    own_cluster.stop(mode)
    status = producer.wait()
    own_cluster.start()
    *lines, error = producer.log().strip().split("\n")
    assert status == 3, producer.log()[-500:]
    assert error.split()[0] in ("PGQ_E_CONNECTION_LOST", "PGQ_E_OUTCOME_UNKNOWN", "PGQ_E_CONNECT")
    acknowledged = {int(line) for line in lines}
    assert 100 <= len(acknowledged) < 20_000
    unknown = invariants.check_kept(own_queue_db, acknowledged)
    assert len(unknown) in (0, 5), "at most the one batch whose answer did not come, as a whole"
    drain(own_queue_db, args=["ok"])
    invariants.check_kept(own_queue_db, acknowledged)
    invariants.check_single(journal, acknowledged)


@pytest.mark.parametrize("lane", ["row", "lease"])
def test_answers_with_other_columns_lose_the_lane_and_the_third_in_a_row_ends_the_worker(
    queue_db, produce, spawn_worker, journal, lane
):
    """As the answers of somebody else do that an old pooler hands out."""
    worker = spawn_worker(queue_db, "--lane", lane, "--lanes", "1", args=["ok"])
    queue_db.execute("ALTER TABLE pgqueuer ALTER attempts TYPE bigint")
    [job_id] = produce(queue_db, [NewJob("ok", b"")])
    assert worker.wait(30) == 4, worker.log()
    lost = [line for line in worker.events("connection.lost") if "other columns than a claim" in line]
    assert len(lost) >= 1 and "other types than expected" in worker.log()
    assert journal.runs() == [] and queue_db.job(job_id) is not None
