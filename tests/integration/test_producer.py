"""One producer and many threads, while the server restarts and connections are cut: what was
acknowledged is there once, what was refused is not, and what is unknown is there at most once."""

import collections
import contextlib
import re
import threading

import psycopg
import pytest

from lib import program
from lib.extent import extent
from lib.pooler import Pooler
from lib.producers import Run, check
from lib.proxy import Proxy
from lib.waiting import wait_until

THREADS = 64
JOBS = extent("PRODUCER_JOBS", 300, 10_000)  # a thread


@pytest.fixture
def run_producer(processes, handlers, home):
    return lambda *args, **options: Run(processes, handlers, home, *args, **options)


class Others:
    """Somebody else who commits all the time: what a crash forgets, it gives to them."""

    def __init__(self, database):
        self._database, self._over = database, threading.Event()
        database.execute("CREATE TABLE others (at timestamptz)")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._over.is_set():
            with contextlib.suppress(psycopg.Error), self._database.connect() as connection:
                while not self._over.wait(0.005):
                    connection.execute("INSERT INTO others VALUES (now())")

    def end(self):
        self._over.set()
        self._thread.join(20)


@pytest.mark.timeout(180 + JOBS)
def test_restarts_and_cuts_under_load_lose_and_double_no_acknowledged_job(
    own_cluster, own_queue_db, run_producer
):
    others = Others(own_queue_db)
    with Proxy(own_cluster) as proxy:
        run = run_producer(proxy.dsn(own_queue_db), THREADS, JOBS)
        faults = collections.Counter()
        kinds = ["terminate", "immediate", "cut_commit", "fast", "cut_answer", "crash", "reset",
                 "immediate", "terminate", "cut_answer", "fast", "cut_commit"]
        for number, kind in enumerate(kinds, 1):
            reached = run.total * number // (len(kinds) + 4)
            wait_until(lambda: run.count() >= reached or run.process.returncode is not None, 120 + JOBS,
                       lambda: f"{run.count()} of {reached} jobs have an outcome")
            if run.process.returncode is not None:
                break
            inflict(kind, own_cluster, own_queue_db, proxy)
            faults[kind] += 1
        outcomes = run.finish(120 + JOBS)
        print(f"faults: {dict(faults)}, cuts: {[str(cut) for cut in proxy.cuts]}")
    others.end()
    counts = check(own_queue_db, outcomes)
    assert sum(faults.values()) == len(kinds)
    assert counts["PGQ_OK"] > 0.9 * run.total


def is_commit(boundary):
    return boundary.statement == "commit"


def inflict(kind, cluster, database, proxy):
    if kind == "terminate":
        database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                         " WHERE application_name = 'pgqueuer'")
    elif kind == "cut_commit":  # before the server has it
        proxy.arm(lambda link, at: is_commit(at) and at.side == "frontend")
    elif kind == "cut_answer":  # after the server has done it
        proxy.arm(lambda link, at: is_commit(at) and at.side == "backend")
    elif kind == "reset":
        proxy.reset_links()
    else:
        cluster.restart(kind)


class Nth:
    """Cuts the n-th message of the producer's connection, and then of as many that follow as it says,
    their startup included. The first connection has its startup: the producer's open waits for it."""

    def __init__(self, proxy, nth, times):
        self.left = times
        self._first, self._nth, self._count = proxy.accepted + 1, nth, 0
        proxy.arm(*[self._wanted] * times, reset=nth % 2 == 0)

    def _wanted(self, link, boundary):
        if boundary.message == "Terminate" or (link.number == self._first and link.role is None):
            return False
        self._count += 1
        if self._count < self._nth:
            return False
        self._count = 0
        self.left -= 1
        return True


@pytest.mark.parametrize("times, jobs", [(1, 3), (3, 1)])
def test_a_cut_at_every_message_of_a_group_and_of_the_question_for_it_costs_nothing(
    queue_db, cluster, run_producer, times, jobs
):
    with Proxy(cluster) as proxy:
        for nth in range(1, 400):
            queue_db.execute("TRUNCATE pgqueuer, pgqueuer_log")
            cuts = Nth(proxy, nth, times)
            outcomes = run_producer(proxy.dsn(queue_db), 1, jobs).finish()
            assert check(queue_db, outcomes) == {"PGQ_OK": jobs}, proxy.cuts[-times:]
            if cuts.left == times:
                break
        else:
            pytest.fail("the run has no end")
        cut = {(b.side, b.message) for b in proxy.cuts if b.statement == "commit"}
        asked = {b.statement for b in proxy.cuts}
        print(f"{len(proxy.cuts)} cuts, of COMMIT: {sorted(cut)}, statements: {asked}")
    assert cut >= {("frontend", "Parse"), ("frontend", "Sync"), ("backend", "CommandComplete"),
                   ("backend", "ReadyForQuery")}
    assert {"server_identify", "begin", "enqueue_skip", "xact_id", "commit"} <= asked
    assert jobs == 1 or "enqueue_raise" in asked
    assert times == 1 or "xact_status" in asked


class Stop:
    """The first COMMIT is cut, or (`cut` false) its connection left as it is, and from then on nothing
    gets through until `release`."""

    def __init__(self, proxy, side, cut=True):
        self._proxy, self._side, self._cut = proxy, side, cut
        self._stopped = threading.Event()
        proxy.arm(self._wanted)

    def _wanted(self, link, boundary):
        if self._stopped.is_set() or not is_commit(boundary) or boundary.side != self._side:
            return False
        self._proxy.silence(lambda link: True)
        self._stopped.set()
        return self._cut

    def wait(self):
        assert self._stopped.wait(20), "no COMMIT has come"

    def release(self):
        self._proxy.silence(None)
        self._proxy.reset_links()


def plain_role(database):
    """The name of a role that may not ask who the server is."""
    role = f"plain_{database.name}"
    database.execute(f"""
        CREATE ROLE {role} LOGIN;
        GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};
        GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role};
        REVOKE EXECUTE ON FUNCTION pg_control_system FROM PUBLIC""")
    return role


@pytest.mark.parametrize("meanwhile", ["nothing", "checkpoint", "restart", "no_rights"])
@pytest.mark.parametrize("side", ["frontend", "backend"])
def test_a_commit_whose_answer_is_lost_is_decided_by_the_server(
    request, run_producer, side, meanwhile
):
    database = request.getfixturevalue("own_queue_db" if meanwhile == "restart" else "queue_db")
    with Proxy(database.cluster) as proxy:
        dsn = proxy.dsn(database)
        if meanwhile == "no_rights":
            dsn = dsn.replace("//postgres@", f"//{plain_role(database)}@")
        stop = Stop(proxy, side)
        run = run_producer(dsn, 4, 1)
        stop.wait()
        there = database.job_count() if side == "backend" else 0
        if meanwhile == "checkpoint":
            database.execute("CHECKPOINT")
        elif meanwhile == "restart":
            database.cluster.restart("immediate")
        stop.release()
        outcomes = run.finish()
    counts = check(database, outcomes)
    if side == "backend":
        assert there > 0, "the cut came after the commit"
    if side == "frontend" and meanwhile == "no_rights":
        # not to be seen, and the server does not say whether it is the same one
        assert counts["PGQ_E_OUTCOME_UNKNOWN"] >= 1
        assert counts["PGQ_OK"] + counts["PGQ_E_OUTCOME_UNKNOWN"] == 4
    else:
        assert counts == {"PGQ_OK": 4}


def test_ids_that_a_crash_gave_to_somebody_else_acknowledge_nothing(
    own_cluster, own_queue_db, run_producer
):
    """The server crashes before anything of the group is on disk, and gives the transaction's id and
    the job's to others."""
    own_queue_db.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
    own_queue_db.execute("SELECT pg_reload_conf()")
    own_queue_db.execute("CHECKPOINT")
    with Proxy(own_cluster) as proxy:
        # a transaction that ends would be written to the log at once: it must not end before the crash
        stop = Stop(proxy, "frontend", cut=False)
        run = run_producer(proxy.dsn(own_queue_db), 1, 1)
        stop.wait()
        own_cluster.restart("immediate")
        for _ in range(30):
            own_queue_db.execute("INSERT INTO pgqueuer (priority, status, entrypoint)"
                                 " VALUES (0, 'queued', 'others')")
        stop.release()
        [(code, _, message)] = run.finish().values()
    assert code == "PGQ_E_OUTCOME_UNKNOWN", message
    job_id, xid = map(int, re.search(r"job (\d+) was enqueued, in transaction (\d+)", message).groups())
    assert own_queue_db.value(f"SELECT pg_xact_status('{xid}')") == "committed", "it was not used again"
    assert own_queue_db.job(job_id)["entrypoint"] == "others"
    assert own_queue_db.job_count("entrypoint <> 'others'") == 0


def test_an_outcome_that_cannot_be_asked_for_is_unknown_and_says_what_to_look_for(
    queue_db, cluster, run_producer
):
    with Proxy(cluster) as proxy:
        stop = Stop(proxy, "backend")
        run = run_producer(proxy.dsn(queue_db), 1, 1, timeout_ms=20_000, answer_timeout_ms=500)
        stop.wait()
        [(code, _, message)] = run.finish().values()
        stop.release()
    assert code == "PGQ_E_OUTCOME_UNKNOWN"
    job_id = queue_db.value("SELECT id FROM pgqueuer")
    assert f"job {job_id} was enqueued" in message


@pytest.mark.parametrize("round_robin", [False, True])
def test_a_pooler_in_transaction_mode_and_its_restart_cost_no_job(
    queue_db, cluster, processes, run_producer, round_robin
):
    pooler = Pooler(cluster, processes, round_robin=round_robin)
    run = run_producer(pooler.dsn(queue_db), 16, 100)
    wait_until(lambda: run.count() >= 400, 60, "a quarter has an outcome")
    pooler.restart("transaction")
    counts = check(queue_db, run.finish())
    assert counts["PGQ_OK"] == run.total


def test_a_loop_that_submits_is_told_of_every_job_through_restarts(
    own_cluster, own_queue_db, run_producer
):
    run = run_producer(own_queue_db.dsn, 1, 2000, "submit")
    for mode in ("immediate", "fast"):
        before = run.count()
        wait_until(lambda: run.count() >= min(before + 300, run.total), 60, "some have an outcome")
        own_cluster.restart(mode)
    counts = check(own_queue_db, run.finish())
    assert counts["PGQ_OK"] > 0.9 * run.total
