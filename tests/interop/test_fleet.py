"""A fleet of C and Python workers that are killed and restarted at random: limits and order hold, and
nothing is lost. What ran when is taken from the handlers' own journal, not from the database."""

import random
import signal
import time

import pytest

from lib import invariants
from lib.extent import extent
from lib.jobs import NewJob
from lib.journal import most_at_once
from lib.waiting import wait_until

JOBS = extent("FLEET_JOBS", 3000, 20_000)
SERIALIZED = JOBS // 20
KILLS = max(6, JOBS // 500)
LIMIT = 3
# Long beside what a beat of Python's may be late on a busy machine: Python has no fence.
HEARTBEAT = 5.0
SECONDS = 90 + JOBS // 50


class Fleet:
    """Five C and three Python workers; whoever is killed comes back as the same kind."""

    ENTRYPOINTS = {
        "c": [f"limited=sleep,limit={LIMIT}", "serialized=sleep,serialized", "free=sleep"],
        "python": [f"limited=sleep,limit={LIMIT}", "serialized=sleep,limit=1", "free=sleep"],
    }

    def __init__(self, database, spawn_worker, python_worker):
        self.database, self.spawn_worker, self.python_worker = database, spawn_worker, python_worker
        self.members = [self.spawn(kind) for kind in ["python"] * 3 + ["c"] * 5]
        for kind, worker in self.members:
            worker.wait_log(r"worker\.listening" if kind == "c" else r"^LISTENING ", 60)
        self.killed = {}

    def spawn(self, kind):
        options = ["--heartbeat-timeout", str(HEARTBEAT), "--batch-size", "2"]
        if kind == "c":
            worker = self.spawn_worker(self.database, *options, "--threads", "4", wait=False,
                                       args=self.ENTRYPOINTS["c"])
        else:
            worker = self.python_worker(self.database, *options, wait=False,
                                        entrypoints=self.ENTRYPOINTS["python"])
        return kind, worker

    def busy(self, journal):
        """The members that are in the middle of a long job."""
        running = {run.pid for run in journal.runs() if run.end_ns is None and run.size == 3}
        return [i for i, (_, worker) in enumerate(self.members) if worker.pid in running]

    def freeze_busy(self, journal, draw):
        """One of them, that stands still there: its job does not end before it is killed."""
        busy = self.busy(journal)
        draw.shuffle(busy)
        for i in busy:
            self.members[i][1].send(signal.SIGSTOP)
            if i in self.busy(journal):
                return [i]
            self.members[i][1].send(signal.SIGCONT)
        return []

    def replace(self, index):
        kind, worker = self.members[index]
        self.killed[worker.pid] = time.monotonic_ns()  # a moment early: its job is not yet anybody's
        worker.kill()
        self.members[index] = self.spawn(kind)

    def stop(self):
        for _, worker in self.members:
            assert worker.stop(deadline=60) == 0, worker.log()


def random_jobs(draw):
    """Most are short; a few are so long that a kill meets them."""
    lengths = [0, 0, 1, 2, 5, 10] * 10 + [200]
    jobs = [NewJob(draw.choice(["limited", "free"]), str(draw.choice(lengths)).encode(),
                   priority=draw.choice([0, 0, 1, 5])) for _ in range(JOBS - SERIALIZED)]
    jobs += [NewJob("serialized", str(draw.choice(lengths)).encode(),
                    priority=draw.choice([-3, 0, 0, 7])) for _ in range(SERIALIZED)]
    draw.shuffle(jobs)
    return jobs


def check_order(journal, jobs, ids, killed):
    """A serialized job starts when all before it have ended; one whose worker was killed starts
    again before the next."""
    wanted = [job_id for _, job_id in
              sorted((-job.priority, job_id) for job, job_id in zip(jobs, ids)
                     if job.entrypoint == "serialized")]
    runs = sorted((run for run in journal.runs() if run.entrypoint == "serialized"),
                  key=lambda run: run.start_ns)
    order = [run.job_id for run in runs]
    repeated = [(before, after) for before, after in zip(runs, runs[1:])
                if before.job_id == after.job_id]
    assert all(before.pid in killed for before, _ in repeated)
    again = [after for _, after in repeated]
    assert [run.job_id for run in runs if run not in again] == wanted, f"started as {order}"


@pytest.mark.scenario("claim.limits")
@pytest.mark.timeout(SECONDS + 120)
def test_a_mixed_fleet_keeps_limits_and_order_though_workers_are_killed(
    queue_db, produce, spawn_worker, python_worker, journal
):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    jobs = random_jobs(draw)
    fleet = Fleet(queue_db, spawn_worker, python_worker)
    with queue_db.connect(autocommit=False) as together:
        # All become visible at once, so that the order of the serialized ones is known.
        ids = insert(together, jobs)
        together.commit()
    begin = time.monotonic()
    for kill in range(KILLS):
        done = (kill + 1) * JOBS // (KILLS + 2)
        wait_until(lambda: ended_jobs(queue_db) >= done, SECONDS,
                   lambda: f"{done} jobs end, {ended_jobs(queue_db)} have", interval=0.2)
        victims = list(range(8))
        if kill % 2 == 0:
            victims = wait_until(lambda: fleet.freeze_busy(journal, draw), 60, "a long job runs")
        fleet.replace(draw.choice(victims))
    wait_until(lambda: queue_db.job_count() == 0, SECONDS,
               lambda: f"the queue drains, left: {queue_db.rows('SELECT * FROM pgqueuer')[:9]}",
               interval=0.2)
    print(f"{JOBS} jobs in {time.monotonic() - begin:.1f} s")
    fleet.stop()
    check_history(queue_db, journal, ids, fleet.killed)
    check_order(journal, jobs, ids, fleet.killed)
    check_seats(queue_db, produce, spawn_worker, journal)


def insert(connection, jobs):
    rows = connection.execute(
        "WITH added AS (INSERT INTO pgqueuer (priority, status, entrypoint, payload)"
        " SELECT p, 'queued', e, convert_to(t, 'UTF8')"
        " FROM unnest(%s::int[], %s::text[], %s::text[]) WITH ORDINALITY AS j (p, e, t, n)"
        " ORDER BY n RETURNING id, entrypoint, priority),"
        " logged AS (INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority)"
        " SELECT id, 'queued', entrypoint, priority FROM added) SELECT id FROM added ORDER BY id",
        [[job.priority for job in jobs], [job.entrypoint for job in jobs],
         [job.payload.decode() for job in jobs]],
    )
    return [job_id for (job_id,) in rows]


def ended_jobs(database):
    return database.value("SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'")


def check_history(database, journal, ids, killed):
    invariants.check_kept(database, ids)
    assert database.log_counts()["successful"] == JOBS
    runs = {}
    for run in sorted(journal.runs(), key=lambda run: run.start_ns):
        runs.setdefault(run.job_id, []).append(run)
    assert runs.keys() == set(ids), "every job ran"
    for of_job in runs.values():
        assert of_job[-1].end_ns is not None, f"ended without a run to its end: {of_job}"
        assert all(run.pid in killed for run in of_job[:-1]), f"run again without a kill: {of_job}"
    pids = {run.pid for run in journal.runs()}
    assert len(pids) >= 8 and len(killed) == KILLS, "the whole fleet was at work"
    assert any(run.end_ns is None for run in journal.runs()), "no kill hit a running job"
    assert not journal.overlapping()
    limited, serialized = (journal.timeline(name, killed) for name in ("limited", "serialized"))
    assert most_at_once(limited) == LIMIT, "the limit was used, and never exceeded"
    assert most_at_once(serialized) == 1


def check_seats(database, produce, spawn_worker, journal):
    """After all that, a worker on its own can run as many jobs as the limit says, at once."""
    worker = spawn_worker(database, args=[f"limited=gate,limit={LIMIT}", "serialized=gate,serialized"])
    before = len(journal.runs())
    produce(database, [NewJob("limited", b"")] * LIMIT + [NewJob("serialized", b"")])
    runs = journal.wait_runs(before + LIMIT + 1)[before:]
    assert all(run.end_ns is None for run in runs)
    slots = "SELECT entrypoint, slot FROM pgqueuer WHERE status = 'picked' ORDER BY 1, 2"
    assert database.rows(slots) == [("limited", 0), ("limited", 1), ("limited", 2), ("serialized", 0)]
    journal.path.with_name(journal.path.name + ".gate").touch()
    wait_until(lambda: database.job_count() == 0, 20, "the last jobs end")
    worker.stop_cleanly()


# -- what one language leaves behind, the other goes on with ------------------------------------------


@pytest.mark.scenario("claim.retried-across")
def test_python_picks_with_a_limit_what_c_retried_and_the_other_way_round(
    queue_db, produce, spawn_worker, python_worker, journal
):
    """The retry of either language; the other has the same limit, of one. Python leaves the seat's
    number on the row that it puts back."""
    c_options, python_options = ["job=retry_once,limit=1"], ["job=retry_once,limit=1"]
    for first, second in (("c", "python"), ("python", "c")):
        workers = {}
        for side in (first, second):
            if side == "c":
                workers[side] = spawn_worker(queue_db, "--dequeue-timeout", "0.3", args=c_options)
            else:
                workers[side] = python_worker(queue_db, "--dequeue-timeout", "0.3",
                                              entrypoints=python_options)
            if side == first:
                [job_id] = produce(queue_db, [NewJob("job", b"1500")])
                wait_until(lambda: queue_db.log_of(job_id)[2:] == ["queued"], 10, "the retry")
                assert workers[first].stop() == 0
        # Another job takes the seat meanwhile; it is free again when the retry is due.
        [other] = produce(queue_db, [NewJob("job", b"0")])
        wait_until(lambda: queue_db.job_count() == 0, 20, lambda: f"log {queue_db.log_of(job_id)}")
        assert workers[second].stop() == 0
        before, after = journal.runs_of(job_id)
        assert before.pid == workers[first].pid and after.pid == workers[second].pid
        assert (before.attempts, after.attempts) == (0, 1)
        assert queue_db.log_of(job_id) == ["queued", "picked", "queued", "picked", "successful"]
        assert queue_db.log_of(other)[-1] == "successful"


@pytest.mark.scenario("settle.retry-executor")
def test_the_retry_executors_of_both_languages_write_the_same(
    cluster, queue_template, produce, drain, python_worker
):
    """Attempts, delays as Python shows them, reasons, log rows; the same job on each side."""
    entrypoints = ["job=fail,retry_executor=3:150", "held=fail,hold,retry_executor=1:90"]
    jobs = [NewJob("job", b"", priority=2), NewJob("held", b"")]
    seen = []
    for side in ("c", "python"):
        database = cluster.create_database(queue_template)
        ids = produce(database, jobs)
        if side == "c":
            drain(database, args=entrypoints)
        else:
            worker = python_worker(database, "--mode", "drain", entrypoints=entrypoints, wait=False)
            assert worker.wait(60) == 0, worker.log()
        seen.append([history(database, job_id) for job_id in ids])
        [held] = database.rows("SELECT status::text, attempts, queue_manager_id, execute_after"
                               " - updated > interval '1 s' FROM pgqueuer")
        assert held == ("failed", 1, None, False)
        cluster.drop_database(database)
    c, python = seen
    assert c == python
    delays = [row[2]["retry_delay"] for row in c[0] if row[2] and "retry_delay" in row[2]]
    assert delays == ["0:00:00.150000", "0:00:00.300000", "0:00:00.600000"]


def history(database, job_id):
    """The log of a job, without what differs from run to run."""
    rows = []
    for status, traceback in database.rows(
        "SELECT status::text, traceback FROM pgqueuer_log WHERE job_id = %s ORDER BY id", [job_id]
    ):
        context = traceback and traceback["additional_context"]
        if context:
            context = {key: value for key, value in context.items() if key != "queue_manager_id"}
        rows.append((status, traceback and (traceback["exception_type"],
                                            traceback["exception_message"]), context))
    return rows
