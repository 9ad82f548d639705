"""Leases that are lost: their session ended by the server or by somebody, their connection cut while
the server goes on, their worker frozen or without a network. Whoever has the job then, each ends once,
and a worker that wakes up neither writes for others' jobs nor starts what it had not begun."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib import program
from lib.jobs import NewJob
from lib.leases import (LogGate, drained, hold_seconds, insert, leased, open_gate, seconds_until_free,
                        sessions, wait_asleep, warm_up)
from lib.netns import network_or_reason
from lib.proxy import Proxy
from lib.waiting import wait_until

LEASE = 1.0
BOUND = hold_seconds(LEASE) + 1.0
DEADLINE = 2 * BOUND  # on a busy machine
OPTIONS = ["--lane", "lease", "--lease", str(LEASE), "--dequeue-timeout", "600"]

# One job of every outcome, and one that runs on; and how their logs read in the end.
NAMES = ["done=sleep", "bad=sleep_fail", "held=sleep_hold", "again=sleep_retry", "on=gate"]
LOGS = {
    "done": ["queued", "picked", "successful"],
    "bad": ["queued", "picked", "exception"],
    "held": ["queued", "picked", "failed"],
    "again": ["queued", "picked", "queued", "picked", "successful"],
    "on": ["queued", "picked", "successful"],
}


def one_of_each(database, produce, journal, run_ms):
    """Enqueues them in one transaction, waits until they run in a lease, and returns ids by name."""
    names = list(LOGS)
    ids = dict(zip(names, produce(database, [NewJob(name, str(run_ms).encode()) for name in names])))
    journal.wait_runs(len(names))
    return ids


def check_each_once(database, journal, ids):
    assert {name: database.log_of(job_id) for name, job_id in ids.items()} == LOGS
    attempts = {name: [run.attempts for run in journal.runs_of(job_id)] for name, job_id in ids.items()}
    assert attempts == {name: [0, 1] if name == "again" else [0] for name in ids}
    assert database.job(ids["held"])["status"] == "failed" and database.job_count() == 1


@pytest.mark.parametrize("old_backend", ["commits", "ends"])
def test_a_conclusion_whose_backend_outlives_its_connection_is_written_once(
    cluster, queue_db, produce, spawn_worker, journal, old_backend
):
    """The server's process waits for a lock inside the settle while the worker, reconnected, asks for
    the same rows. Then it commits after all, or it does not."""
    with Proxy(cluster) as proxy:
        worker = spawn_worker(proxy.dsn(queue_db), *OPTIONS, "--threads", "8", args=NAMES)
        gate = LogGate(queue_db)
        ids = one_of_each(queue_db, produce, journal, 500)
        with gate as log:
            assert leased(queue_db) == sorted(ids.values()), "locked too late: the machine is too slow"
            ghost = log.wait()
            cut = proxy.abandon(lambda link: any(
                flight and flight[-1].startswith("settle_") for _, flight in link.owed))
            assert cut == 1
            worker.wait_log(r"lease\.lost")
            worker.wait_log(r"settle\.failed", 20)  # it waited for the rows, and not for ever
            if old_backend == "ends":
                queue_db.execute("SELECT pg_terminate_backend(%s)", [ghost])
                wait_until(lambda: not queue_db.rows("SELECT 1 FROM pg_stat_activity WHERE pid = %s",
                                                     [ghost]), 10, "it has ended")
        wait_until(lambda: queue_db.log_of(ids["done"]) == LOGS["done"], 20, "the outcomes are there")
        open_gate(journal)
        drained(queue_db)
        worker.stop_cleanly()
    check_each_once(queue_db, journal, ids)
    assert not worker.events("claim.lost")


def test_a_lease_whose_session_the_server_ends_costs_no_outcome_and_no_second_run(
    queue_db, produce, spawn_worker, journal
):
    worker = spawn_worker(queue_db, *OPTIONS, "--threads", "8", args=NAMES)
    begin = queue_db.value("SELECT clock_timestamp()")
    ids = one_of_each(queue_db, produce, journal, 100)
    killed = sessions(queue_db)
    assert leased(queue_db) == sorted(ids.values()), "too late: the machine is too slow"
    for pid in killed:
        queue_db.execute("SELECT pg_terminate_backend(%s)", [pid])
    wait_until(lambda: queue_db.log_of(ids["done"]) == LOGS["done"], 20, "the outcomes are there")
    wait_until(lambda: queue_db.job(ids["on"])["status"] == "picked", 10, "the last one runs on, picked")
    assert str(queue_db.job(ids["on"])["queue_manager_id"]) == worker.worker_id
    open_gate(journal)
    drained(queue_db)
    worker.stop_cleanly()
    check_each_once(queue_db, journal, ids)
    claimed = queue_db.rows("SELECT DISTINCT created FROM pgqueuer_log WHERE status = 'picked'"
                            " AND job_id = ANY (%s)", [[ids["done"], ids["on"], ids["held"]]])
    assert len(claimed) == 1 and begin <= claimed[0][0], "the time of the claim, not of the resolve"
    assert worker.events("lease.lost") and not worker.events("claim.lost")


def test_a_row_that_somebody_keeps_locked_holds_up_no_other_outcome_of_a_lost_lease(
    queue_db, produce, spawn_worker, journal
):
    worker = spawn_worker(queue_db, *OPTIONS, "--threads", "8", args=NAMES)
    ids = one_of_each(queue_db, produce, journal, 700)
    with queue_db.connect() as locker, ThreadPoolExecutor() as pool:
        locker.execute("BEGIN")
        lock = pool.submit(locker.execute, "SELECT 1 FROM pgqueuer WHERE id = %s FOR UPDATE", [ids["done"]])
        waits = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        wait_until(lambda: queue_db.rows(waits, [locker.info.backend_pid]), 10, "it waits for the row")
        killed = sessions(queue_db)
        assert leased(queue_db) == sorted(ids.values()), "too late: the machine is too slow"
        for pid in killed:
            queue_db.execute("SELECT pg_terminate_backend(%s)", [pid])
        lock.result(timeout=10)
        others = {name: ids[name] for name in ("bad", "held")}
        wait_until(lambda: all(queue_db.log_of(others[name]) == LOGS[name] for name in others), 30,
                   "the others' outcomes are there")
        assert queue_db.log_of(ids["done"]) == ["queued"]
        locker.execute("ROLLBACK")
    open_gate(journal)
    drained(queue_db)
    worker.stop_cleanly()
    # A lease that travels behind a resolve which waits may be over when its answer comes: then the
    # second claim of this one gives it back unstarted, and it has a third.
    again = ids.pop("again")
    assert [run.attempts for run in journal.runs_of(again)] == [0, 1]
    assert queue_db.log_of(again)[:3] == LOGS["again"][:3] and queue_db.log_of(again)[-1] == "successful"
    for name, job_id in ids.items():
        assert queue_db.log_of(job_id) == LOGS[name]
        assert [run.attempts for run in journal.runs_of(job_id)] == [0], name
    assert not worker.events("claim.lost")


def test_a_frozen_worker_goes_on_when_the_server_has_ended_its_lease_and_nobody_took_the_job(
    queue_db, produce, spawn_worker, journal
):
    worker = spawn_worker(queue_db, *OPTIONS, "--threads", "8", args=NAMES)
    ids = one_of_each(queue_db, produce, journal, 100)
    worker.send(signal.SIGSTOP)
    assert leased(queue_db) == sorted(ids.values()), "frozen too late: the machine is too slow"
    seconds = seconds_until_free(queue_db, ids["on"], most=5 * BOUND)
    wait_until(lambda: not sessions(queue_db), 10, "the server has ended the session")
    worker.send(signal.SIGCONT)
    wait_until(lambda: queue_db.log_of(ids["done"]) == LOGS["done"], 20, "the outcomes are there")
    open_gate(journal)
    drained(queue_db)
    worker.stop_cleanly()
    assert seconds <= DEADLINE, f"the row was free after {seconds:.2f} s"
    check_each_once(queue_db, journal, ids)


# ---- frozen, or without a network, while a neighbour takes over ----

OUTCOMES = ["sleep", "sleep_fail", "sleep_hold", "sleep_retry"]
RUN_MS = 2000
WAITING_JOBS = 8


class Zombie:
    """A worker whose threads are all busy, one job of every outcome, while more jobs of the same lease
    wait for a thread."""

    def __init__(self, database, produce, journal, worker):
        self.database, self.journal, self.worker = database, journal, worker
        self.quick = warm_up(database, produce, NewJob("sleep", b"0"))
        run_ms = str(RUN_MS).encode()
        jobs = [NewJob(name, run_ms, priority=1) for name in OUTCOMES]
        jobs += [NewJob("sleep", b"0")] * WAITING_JOBS
        self.ids = produce(database, jobs)
        self.running, self.waiting = self.ids[: len(OUTCOMES)], self.ids[len(OUTCOMES):]
        journal.wait_runs(len(self.quick) + len(OUTCOMES))

    def check_leased(self):
        held = leased(self.database)
        assert held == self.ids, f"too late, or nothing waited: {held} of {self.ids} are leased"

    def rows(self):
        return self.database.rows("SELECT id, status::text, queue_manager_id, updated, attempts,"
                                  " execute_after FROM pgqueuer ORDER BY id")

    def taken_over(self, heir):
        """Waits until the heir runs all of them as picked jobs, and returns the rows."""
        mine = ("SELECT count(*) FROM pgqueuer WHERE status = 'picked' AND queue_manager_id = %s")
        wait_until(lambda: self.database.value(mine, [heir.worker_id]) == len(self.ids), 30,
                   lambda: f"the heir runs them: {self.rows()}")
        return self.rows()

    def check_nothing_done(self, before, log_before):
        """It lives again, and its handlers have said what they had to say."""
        for job_id in self.running:
            wait_until(lambda: [run for run in self.journal.runs_of(job_id)
                                if run.pid == self.worker.pid and run.end_ns], 10, "its handlers end")
        self.worker.stop_cleanly()  # it holds nothing any more
        assert self.worker.events("lease.lost")
        assert self.rows() == before
        assert self.database.value("SELECT max(id) FROM pgqueuer_log") == log_before
        started = {run.job_id for run in self.journal.runs() if run.pid == self.worker.pid}
        assert started == {*self.quick, *self.running}, "it started a job of the dead lease"


def test_a_frozen_workers_leased_jobs_are_free_in_time_and_it_writes_nothing_and_starts_nothing(
    queue_db, produce, spawn_worker, journal, record_property
):
    worker = spawn_worker(queue_db, *OPTIONS, "--threads", str(len(OUTCOMES)), "--lanes", "1",
                          args=OUTCOMES)
    zombie = Zombie(queue_db, produce, journal, worker)
    worker.send(signal.SIGSTOP)
    zombie.check_leased()
    seconds = seconds_until_free(queue_db, zombie.ids[0], most=5 * BOUND)
    record_property("free", round(seconds, 2))
    print(f"free after {seconds:.2f} s")
    heir = spawn_worker(queue_db, *OPTIONS, "--threads", "16", args=[f"{n}=gate" for n in OUTCOMES])
    before = zombie.taken_over(heir)
    log_before = queue_db.value("SELECT max(id) FROM pgqueuer_log")
    worker.send(signal.SIGCONT)
    zombie.check_nothing_done(before, log_before)
    open_gate(journal)
    drained(queue_db)
    heir.stop_cleanly()
    assert seconds <= DEADLINE
    counts = journal.run_counts()
    assert {job_id: counts[job_id] for job_id in zombie.ids} == {
        job_id: 2 if job_id in zombie.running else 1 for job_id in zombie.ids}


def test_the_leased_jobs_of_a_worker_without_a_network_are_free_in_time(
    cluster, queue_db, produce, spawn_worker, processes, home, handlers, journal, record_property
):
    network = network_or_reason()
    if isinstance(network, str):
        pytest.skip(network)
    with network, Proxy(cluster, listening=network.listening()) as proxy:
        worker = processes(
            [*network.inside, program.PROGRAM, "run", f"{handlers['journal']}:factory", *OPTIONS,
             "--threads", str(len(OUTCOMES)), "--lanes", "1", "--", journal, *OUTCOMES],
            program.clean_environment(home, PGQUEUER_DSN=proxy.dsn(queue_db)), kind=program.Worker)
        worker.wait_listening()
        zombie = Zombie(queue_db, produce, journal, worker)
        network.drop()
        zombie.check_leased()
        seconds = seconds_until_free(queue_db, zombie.ids[0], most=5 * BOUND)
        record_property("free", round(seconds, 2))
        print(f"free after {seconds:.2f} s")
        heir = spawn_worker(queue_db, *OPTIONS, "--threads", "16",
                            args=[f"{name}=gate" for name in OUTCOMES])
        before = zombie.taken_over(heir)
        log_before = queue_db.value("SELECT max(id) FROM pgqueuer_log")
        network.mend()
        zombie.check_nothing_done(before, log_before)
        open_gate(journal)
        drained(queue_db)
        heir.stop_cleanly()
    assert seconds <= DEADLINE


def test_a_worker_frozen_while_its_settle_and_its_next_claim_are_under_way_holds_nothing_for_long(
    queue_db, produce, spawn_worker, journal, record_property
):
    """Mid-settle and mid-result: the server carries both out for a client that takes nothing of the
    reply, a full claim's. What was settled stays, what was claimed is free in time."""
    worker = spawn_worker(queue_db, *OPTIONS, "--threads", "1", "--lanes", "1", args=["sleep"])
    payload = b"x" * 1200
    quick = warm_up(queue_db, produce, NewJob("sleep", payload))
    with LogGate(queue_db) as log, queue_db.connect() as enqueue:
        ids = insert(enqueue, "sleep", 200, payload)
        log.wait()
        wait_asleep(worker)
        runs_before = {run.job_id for run in journal.runs()}
        worker.send(signal.SIGSTOP)
    released = time.monotonic()
    wait_until(lambda: queue_db.log_of(ids[0]) == ["picked", "successful"], 10,
               lambda: f"it is carried out: {queue_db.rows('SELECT * FROM pgqueuer_log')[-9:]}")
    held = leased(queue_db)
    assert len(held) >= 3, f"the claim behind the settle has brought {len(held)} jobs"
    seconds_until_free(queue_db, held[0], most=5 * BOUND)
    seconds = time.monotonic() - released
    record_property("free", round(seconds, 2))
    print(f"{len(held)} rows free after {seconds:.2f} s")
    heir = spawn_worker(queue_db, *OPTIONS, "--threads", "2", args=["sleep"])
    drained(queue_db)
    worker.send(signal.SIGCONT)
    worker.wait_log(r"connection\.(lost|restored)")
    worker.stop_cleanly()
    heir.stop_cleanly()
    assert {run.job_id for run in journal.runs() if run.pid == worker.pid} == runs_before
    assert journal.run_counts() == dict.fromkeys(quick + ids, 1)
    assert queue_db.log_counts()["successful"] == len(quick) + len(ids)
    assert seconds <= DEADLINE
