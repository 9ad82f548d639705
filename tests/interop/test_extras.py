"""Python's workers, readers and schema commands on a database that has our extras."""

from collections import Counter

import pytest

from lib.jobs import NewJob
from lib.schema import dump, installed, verify
from lib.waiting import wait_until

NAMES = ["sleep", "fail", "hold", "retry_once"]
KEY = "entrypoint, status::text, priority, date_trunc('second', created)"
COUNTS = "SELECT coalesce(sum(count), 0) FROM pgqueuer_c.counts"


@pytest.fixture
def extras_db(queue_db, pgqueuer):
    done = pgqueuer("install", "--extras", dsn=queue_db)
    assert done.returncode == 0, done.stderr
    return queue_db


def sums(database, table, count):
    rows = database.rows(f"SELECT {KEY}, sum({count}) FROM {table} GROUP BY 1, 2, 3, 4")
    return {tuple(key): int(total) for *key, total in rows}


def check_equal(database):
    statistics, log = sums(database, "pgqueuer_statistics", "count"), sums(database, "pgqueuer_log", "1")
    wrong = {key: (statistics.get(key), log.get(key)) for key in statistics.keys() | log.keys()
             if statistics.get(key) != log.get(key)}
    assert not wrong, f"statistics and log differ: {list(wrong.items())[:5]}"
    assert len({second for _, _, _, second in statistics}) >= 2, "it all happened in one second"


def all_folded(database):
    return (database.job_count("status <> 'failed'") == 0 and database.value(COUNTS) == 0
            and database.value("SELECT count(*) FROM pgqueuer_log WHERE NOT aggregated") == 0)


def fold_the_rest(database, spawn_worker, produce):
    worker = spawn_worker(database, "--log-aggregation-interval", "0.05", args=["last=ok"])
    produce(database, [NewJob("last", b"")])
    wait_until(lambda: all_folded(database), 20, "everything is folded")
    worker.stop_cleanly()


@pytest.mark.scenario("statistics.extras", "catalogue.extras")
@pytest.mark.parametrize("lane", ["row", "lease"])
def test_c_and_python_workers_count_exactly_beside_each_other(
    extras_db, produce, spawn_worker, python_worker, lane
):
    """Under full every status of a job is logged, by whichever worker has it, and counted once."""
    seen = len(extras_db.cluster.log())
    fleet = [python_worker(extras_db, "--log-aggregation-interval", "0.05", entrypoints=NAMES)]
    fleet += [spawn_worker(extras_db, "--log-aggregation-interval", "0.03", "--threads", "2", "--lane",
                           lane, args=NAMES) for _ in range(2)]
    jobs = [NewJob(name, b"5", priority=i % 3) for i in range(100) for name in ["sleep"] * 7 + NAMES[1:]]
    jobs[-1].delay_ms = 1200
    produce(extras_db, jobs)
    wait_until(lambda: extras_db.job_count("status <> 'failed'") == 0, 40, "the jobs end")
    for worker in fleet:
        assert worker.stop() == 0, worker.log()
    fold_the_rest(extras_db, spawn_worker, produce)
    check_equal(extras_db)
    assert extras_db.log_counts() == {"queued": 1101, "picked": 1101, "successful": 801,
                                      "exception": 100, "failed": 100}
    assert "deadlock" not in extras_db.cluster.log()[seen:]


@pytest.mark.scenario("statistics.extras")
def test_a_reader_of_python_that_takes_no_lock_does_not_disturb_the_counts(
    extras_db, produce, spawn_worker, python_spawn
):
    reader = python_spawn(extras_db, "py_statistics.py", ready=r"^READY")
    worker = spawn_worker(extras_db, "--log-aggregation-interval", "0.02", args=NAMES)
    jobs = [NewJob(name, b"2", priority=i % 3) for i in range(100) for name in NAMES]
    jobs[-1].delay_ms = 1200
    produce(extras_db, jobs)
    wait_until(lambda: all_folded(extras_db), 40, "the jobs end and are folded")
    worker.stop_cleanly()
    assert reader.stop() == 0, reader.log()
    check_equal(extras_db)


@pytest.mark.scenario("statistics.extras")
def test_python_reads_what_our_policy_failures_has_counted(extras_db, produce, drain, python_pgq):
    produce(extras_db, [NewJob("ok", b"")] * 7 + [NewJob("fail", b"")] * 2, log_policy="failures")
    drain(extras_db, "--log-policy", "failures", args=["ok", "fail"])
    table = python_pgq(extras_db, "--pg-dsn", extras_db.dsn, "dashboard").stdout
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "|" in line]
    # The dashboard has a row for each second, and the jobs may have been made in two of them.
    shown = Counter()
    for _created, count, entrypoint, status, _priority in rows[1:]:
        shown[entrypoint, status] += int(count)
    assert shown["ok", "successful"] == 7, table
    assert shown["fail", "exception"] == 2, table


@pytest.mark.scenario("catalogue.extras")
@pytest.mark.parametrize("options", [(), ("--prefix", "acme_"), ("--schema", "jobs")])
def test_the_python_release_finds_nothing_to_do_with_extras(pgqueuer, python_pgq, db, options):
    if "--schema" in options:
        db.execute("CREATE SCHEMA jobs")
    done = pgqueuer(*options, "install", "--extras", dsn=db)
    assert done.returncode == 0, done.stderr
    given = ("--pg-dsn", db.dsn, *options)
    assert python_pgq(db, *given, "verify", "--expect", "present").returncode == 0
    plan = python_pgq(db, *given, "upgrade", "--plan")
    assert plan.returncode == 0, plan.stderr
    assert not any(ours in plan.stdout for ours in ("counts", "claims", "enqueue"))
    assert plan.stdout.count("CREATE OR REPLACE FUNCTION") == 1
    assert python_pgq(db, *given, "upgrade").returncode == 0
    assert verify(pgqueuer, db, "present", *options) == []
    assert db.value("SELECT count(*) FROM pg_tables WHERE tablename IN ('counts', 'claims')") == 2


@pytest.mark.scenario("catalogue.extras")
def test_the_python_release_removes_its_objects_and_leaves_ours(
    pgqueuer, python_pgq, extras_db, produce, drain
):
    produce(extras_db, [NewJob("ok", b"")])
    drain(extras_db, args=["ok"])
    done = python_pgq(extras_db, "--pg-dsn", extras_db.dsn, "uninstall")
    assert done.returncode == 0, done.stderr
    assert verify(pgqueuer, extras_db, "absent") == [
        "unexpected table 'pgqueuer_c.counts'", "unexpected table 'pgqueuer_c.imports'",
        "unexpected table 'pgqueuer_c.claims'",
        "unexpected function 'pgqueuer_c.enqueue_arrays'", "unexpected function 'pgqueuer_c.enqueue'",
        "unexpected function 'pgqueuer_c.enqueue_many'"]
    assert pgqueuer("uninstall", dsn=extras_db).returncode == 0
    assert verify(pgqueuer, extras_db, "absent") == [] and dump(extras_db) == []


@pytest.mark.scenario("catalogue.extras")
def test_extras_that_were_left_behind_serve_the_next_installation(
    pgqueuer, python_pgq, extras_db, produce, drain
):
    assert python_pgq(extras_db, "--pg-dsn", extras_db.dsn, "uninstall").returncode == 0
    installed(pgqueuer, extras_db)
    produce(extras_db, [NewJob("ok", b"")], log_policy="failures")
    worker = drain(extras_db, "--log-policy", "failures", args=["ok"])
    assert not worker.events("extras.missing")
    assert extras_db.value("SELECT sum(count) FROM pgqueuer_statistics") == 1
