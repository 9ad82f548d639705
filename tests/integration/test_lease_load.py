"""The lease lane under what is large or many: payloads that no claim should bring at once, sixteen
workers on one database, and a worker that has nothing to do."""

import random
import time

from lib import program
from lib.jobs import NewJob
from lib.leases import drained, insert, open_gate, warm_up
from lib.proxy import Proxy
from lib.waiting import wait_until

NO_POLL = ["--lane", "lease", "--dequeue-timeout", "600"]
# Of payloads and headers in one claim, and what the protocol adds to a batch of rows.
CLAIM_BYTES, ROW_BYTES = 128 * 1024, 120
THREADS = 4


class Meter(Proxy):
    """Knows how many bytes of rows each claim has brought, and how many rows."""

    def __init__(self, cluster):
        self.claims = []  # statement, bytes, rows
        super().__init__(cluster)

    def _name(self, link, side, message):
        boundary = super()._name(link, side, message)
        if (boundary.statement or "").startswith("claim_") and side == "backend":
            if boundary.message == "BindComplete":
                link.claim = [boundary.statement, 0, 0]
                self.claims.append(link.claim)
            elif boundary.message == "DataRow":
                link.claim[1] += len(message)
                link.claim[2] += 1
        return boundary

    def most(self, beginning):
        """The most bytes beyond the rows' own that a claim has brought."""
        return max(size - ROW_BYTES * rows for name, size, rows in self.claims
                   if name.startswith(beginning))


def peak_kib(process):
    status = open(f"/proc/{process.pid}/status").read()
    return int(status.split("VmHWM:")[1].split()[0])


def test_large_payloads_are_worked_unchanged_and_no_claim_and_no_worker_takes_many_of_them(
    cluster, queue_db, produce, spawn_worker, journal, record_property
):
    """The handlers of the large ones wait, so that everything the worker takes stays with it. Headers
    that are small in the table and large on the wire count as what they are."""
    draw = random.Random(5)
    jobs = [NewJob("big", draw.randbytes(1_000_000)) for _ in range(50)]
    jobs += [NewJob("sleep", draw.randbytes(draw.randint(100_000, 300_000))) for _ in range(10)]
    jobs += [NewJob("sleep", draw.randbytes(draw.randint(40, 4000))) for _ in range(150)]
    jobs += [NewJob("sleep", b"0" * 40, headers='{"text": "%s"}' % ("x" * 100_000)) for _ in range(20)]
    draw.shuffle(jobs)
    with Meter(cluster) as meter:
        worker = spawn_worker(meter.dsn(queue_db), *NO_POLL, "--threads", str(THREADS),
                              "--heartbeat-timeout", "60", args=["big=gate", "sleep"])
        quick = warm_up(queue_db, produce, NewJob("sleep", b"0"))
        ids = produce(queue_db, jobs)
        big = [job_id for job, job_id in zip(jobs, ids) if job.entrypoint == "big"]
        wait_until(lambda: len(set(big) & journal.run_counts().keys()) == THREADS, 20, "large ones run")
        begin = time.monotonic()
        wait_until(lambda: time.monotonic() - begin > 0.7, 5, "it claims what it will")
        picked = queue_db.job_count("status = 'picked' AND entrypoint = 'big'")
        open_gate(journal)
        drained(queue_db, 60)
        peak = peak_kib(worker)
        worker.stop_cleanly()
    most = meter.most("claim_lease")
    print(f"a lease brought {most} bytes at most, {picked} large jobs were picked, {peak} KiB at most")
    record_property("bytes", most)
    record_property("peak_kib", peak)
    assert journal.run_counts() == dict.fromkeys(quick + ids, 1)
    sums = {run.job_id: (run.size, run.sha256) for run in journal.runs()}
    assert all(sums[job_id] == (job.size, job.sha256) for job, job_id in zip(jobs, ids))
    assert most <= CLAIM_BYTES
    assert THREADS <= picked <= 2 * THREADS, f"{picked} large jobs were with one worker"
    if program.sanitizer() == "none":
        assert peak < 48 * 1024


def test_a_claim_of_picked_jobs_does_not_bring_more_than_memory_should_hold(
    queue_db, produce, spawn_worker, journal
):
    ids = [job_id for _ in range(8) for job_id in produce(queue_db, [NewJob("sleep", b"0" * 1_000_000)] * 15)]
    worker = spawn_worker(queue_db, *NO_POLL, "--lane", "row", "--threads", "4", args=["sleep"])
    drained(queue_db, 60)
    peak = peak_kib(worker)
    worker.stop_cleanly()
    assert journal.run_counts() == dict.fromkeys(ids, 1)
    if program.sanitizer() == "none":
        assert peak < 80 * 1024


def test_sixteen_workers_on_one_database_do_every_job_once_without_a_deadlock(
    cluster, queue_db, produce, spawn_worker, journal, record_property
):
    queue_db.execute(f"ALTER DATABASE {queue_db.name} SET log_lock_waits = on")
    queue_db.execute(f"ALTER DATABASE {queue_db.name} SET deadlock_timeout = '100ms'")
    logged = len(cluster.log())
    workers = [spawn_worker(queue_db, *NO_POLL, "--threads", "2", "--heartbeat-timeout", "60",
                            wait=False, args=["sleep", "again=retry_once", "fail"])
               for _ in range(16)]
    for worker in workers:
        worker.wait_listening(60)
    jobs = [NewJob("sleep", b"0", priority=i % 5) for i in range(2400)]
    jobs += [NewJob("again", b"10"), NewJob("fail", b""), NewJob("sleep", b"300")] * 50
    ids = produce(queue_db, jobs)
    drained(queue_db, 90)
    for worker in workers:
        worker.stop_cleanly()
    log = cluster.log()[logged:]
    waits = log.count("still waiting for")
    record_property("lock waits", waits)
    print(f"{waits} lock waits of more than 100 ms")
    assert "deadlock detected" not in log
    counts = journal.run_counts()
    assert counts == {job_id: 2 if job.entrypoint == "again" else 1 for job, job_id in zip(jobs, ids)}
    assert len({run.pid for run in journal.runs()}) > 8, "most of them did nothing"
    assert queue_db.log_counts()["successful"] == len(ids) - 50
    assert not [line for worker in workers for line in worker.events("claim.lost")]


def statements(log):
    return log.count("LOG:  execute ") + log.count("LOG:  statement: ")


def test_an_idle_worker_says_less_than_a_statement_a_second_and_costs_next_to_nothing(
    cluster, queue_db, produce, spawn_worker, journal
):
    """A deferred job and a held one are in the table; neither is due."""
    queue_db.execute(f"ALTER DATABASE {queue_db.name} SET log_statement = 'all'")
    worker = spawn_worker(queue_db, "--lane", "lease", args=["sleep", "hold"])
    produce(queue_db, [NewJob("hold", b""), *[NewJob("sleep", b"0")] * 50])
    drained(queue_db)
    with queue_db.connect() as connection:
        insert(connection, "sleep", 1, b"0", delay="1 hour")
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() - begin > 2, 5, "it comes to rest")  # from its last sweep

    def cost():
        stat = open(f"/proc/{worker.pid}/stat").read().rpartition(")")[2].split()
        return len(cluster.log()), (int(stat[11]) + int(stat[12])) / 100

    seconds, (logged, used) = 6, cost()
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() - begin > seconds, 10, "the time that is measured")
    said, before = statements(cluster.log()[logged:]), statements(cluster.log()[:logged])
    used = cost()[1] - used
    print(f"{said} statements and {used:.2f} s of a core in {seconds} s")
    assert before > 10, "no statement was logged"
    assert said < seconds
    assert used <= 0.02 + 0.005 * seconds
    worker.stop_cleanly()


def test_a_large_job_with_a_left_over_slot_is_claimed_without_it(queue_db, drain, journal):
    """A Python worker leaves the slot there on a retry, while seat 0 is taken by somebody."""
    queue_db.execute("INSERT INTO pgqueuer (priority, status, entrypoint, queue_manager_id, slot)"
                     " VALUES (0, 'picked', 'ok', gen_random_uuid(), 0)")
    queue_db.execute("INSERT INTO pgqueuer (priority, status, entrypoint, slot, payload)"
                     " SELECT 0, 'queued', 'ok', 0, convert_to(repeat('x', 200000), 'UTF8')"
                     " FROM generate_series(1, 3)")
    drain(queue_db, "--lane", "lease", deadline=30, args=["ok"])
    assert len(journal.runs()) == 3
    assert queue_db.rows("SELECT status::text, slot FROM pgqueuer") == [("picked", 0)]
