"""The log is folded into the statistics exactly, by whoever does it: C workers at short intervals beside
a Python worker that does so too, or beside a reader of Python's that does it without the lock.

One of each kind of Python's: two of them may count a row twice between themselves, since they count
and mark in separate scans (wire contract 4.11), and no other worker can prevent that."""

import pytest

from lib.jobs import NewJob
from lib.waiting import wait_until

NAMES = ["sleep", "fail", "hold", "retry_once"]
KEY = "entrypoint, status::text, priority, date_trunc('second', created)"
OLD_INDEX = """
DROP INDEX pgqueuer_statistics_unique_count;
CREATE UNIQUE INDEX pgqueuer_statistics_unique_count ON pgqueuer_statistics USING btree
    (priority, date_trunc('sec'::text, (created AT TIME ZONE 'UTC'::text)), status, entrypoint);
ALTER TABLE pgqueuer_statistics
    ALTER COLUMN created SET DEFAULT date_trunc('sec'::text, (now() AT TIME ZONE 'UTC'::text))
"""


def mixed_jobs(count):
    """Most of them take a while, so that folds happen in the middle of it; the last one is not due
    in the first second, so that the books have more than one."""
    jobs = [NewJob(name, b"5", priority=i % 3)
            for i in range(count) for name in ["sleep"] * 7 + NAMES[1:]]
    jobs[-1].delay_ms = 1200
    return jobs


def counted(database):
    """Statistics and log, both by entrypoint, status, priority and second."""
    statistics = dict_of(database.rows(f"SELECT {KEY}, sum(count) FROM pgqueuer_statistics GROUP BY 1, 2, 3, 4"))
    log = dict_of(database.rows(f"SELECT {KEY}, count(*) FROM pgqueuer_log GROUP BY 1, 2, 3, 4"))
    return statistics, log


def dict_of(rows):
    return {tuple(key): int(count) for *key, count in rows}


def unaggregated(database):
    return database.value("SELECT count(*) FROM pgqueuer_log WHERE NOT aggregated")


def check_books(database, job_count):
    statistics, log = counted(database)
    wrong = {key: (statistics.get(key), log.get(key)) for key in statistics.keys() | log.keys()
             if statistics.get(key) != log.get(key)}
    assert not wrong, f"statistics and log differ: {list(wrong.items())[:5]}"
    totals = {}
    for (_, status, _, _), count in statistics.items():
        totals[status] = totals.get(status, 0) + count
    each = job_count // 10
    back = totals["picked"] - 11 * each  # picked and given back unstarted, as may be on a busy machine
    assert back >= 0
    assert totals == {"queued": 11 * each + back, "picked": 11 * each + back, "successful": 8 * each,
                      "exception": each, "failed": each}
    assert len({second for _, _, _, second in statistics}) >= 2, "it all happened in one second"
    duplicates = f"SELECT 1 FROM pgqueuer_statistics GROUP BY {KEY} HAVING count(*) > 1"
    assert database.rows(duplicates) == []


def fold_the_rest(database, spawn_worker, produce):
    """A worker folds after it has settled something."""
    worker = spawn_worker(database, "--log-aggregation-interval", "0.05", args=["last=ok"])
    produce(database, [NewJob("last", b"")])
    wait_until(lambda: unaggregated(database) == 0, 20, lambda: f"{unaggregated(database)} rows left")
    worker.stop_cleanly()
    database.execute("DELETE FROM pgqueuer_log WHERE entrypoint = 'last'")
    database.execute("DELETE FROM pgqueuer_statistics WHERE entrypoint = 'last'")


def watch_folds(database, done):
    """Waits for the end, and counts how often the number of folded rows was seen to grow."""
    growths, last = 0, 0
    while not done():  # not a wait: it samples until the end, which has a time limit of its own
        folded = database.value("SELECT count(*) FROM pgqueuer_log WHERE aggregated")
        growths, last = growths + (folded > last), max(last, folded)
    return growths


@pytest.fixture(params=["as installed", "as 1.3.2 spells it"])
def books_db(queue_db, request):
    """A database whose sessions have a time zone of half hours, and both spellings of the index."""
    queue_db.execute(f"ALTER DATABASE {queue_db.name} SET timezone = 'Asia/Kolkata'")
    if request.param != "as installed":
        for statement in OLD_INDEX.split(";"):
            queue_db.execute(statement)
    return queue_db


def finished(database):
    return database.job_count("status <> 'failed'") == 0


@pytest.mark.scenario("statistics.both-fold")
def test_c_and_python_workers_fold_exactly_beside_each_other(
    books_db, produce, spawn_worker, python_worker
):
    fleet = [python_worker(books_db, "--log-aggregation-interval", "0.05", entrypoints=NAMES)]
    fleet += [spawn_worker(books_db, "--log-aggregation-interval", "0.03", "--threads", "2",
                           args=NAMES) for _ in range(2)]
    jobs = mixed_jobs(120)
    produce(books_db, jobs)
    growths = watch_folds(books_db, lambda: finished(books_db))
    assert growths >= 3, "nothing was folded while the jobs ran"
    for worker in fleet:
        assert worker.stop() == 0, worker.log()
    fold_the_rest(books_db, spawn_worker, produce)
    check_books(books_db, len(jobs))


@pytest.mark.scenario("statistics.reader")
def test_c_workers_fold_exactly_beside_a_reader_without_the_lock(
    queue_db, produce, spawn_worker, python_spawn
):
    reader = python_spawn(queue_db, "py_statistics.py", ready=r"^READY")
    fleet = [spawn_worker(queue_db, "--log-aggregation-interval", "0.02", "--threads", "3",
                          args=NAMES) for _ in range(2)]
    jobs = mixed_jobs(120)
    produce(queue_db, jobs)
    growths = watch_folds(queue_db, lambda: finished(queue_db))
    assert growths >= 3, "nothing was folded while the jobs ran"
    for worker in fleet:
        worker.stop_cleanly()
        assert not worker.events("aggregation.refused"), worker.log()
    assert reader.stop() == 0, reader.log()
    assert int(reader.log().rsplit("LOOKS ", 1)[1]) >= 20, "the reader hardly read"
    fold_the_rest(queue_db, spawn_worker, produce)
    check_books(queue_db, len(jobs))


def test_a_worker_that_settles_nothing_folds_nothing_and_zero_means_never(
    queue_db, produce, spawn_worker
):
    never = spawn_worker(queue_db, "--log-aggregation-interval", "0", args=["ok"])
    idle = spawn_worker(queue_db, "--log-aggregation-interval", "0.01", args=["other=ok"])
    produce(queue_db, [NewJob("ok", b"")] * 20)
    wait_until(lambda: queue_db.job_count() == 0, 20, "the jobs end")
    for worker in (never, idle):
        worker.stop_cleanly()
    assert unaggregated(queue_db) == 60
    assert queue_db.value("SELECT count(*) FROM pgqueuer_statistics") == 0


def test_the_advisory_lock_is_that_of_python_also_in_a_schema(db, pgqueuer, spawn_worker, produce):
    db.execute("CREATE SCHEMA jobs")
    assert pgqueuer("install", "--schema", "jobs", dsn=db).returncode == 0
    db.execute(f"ALTER DATABASE {db.name} SET search_path = jobs")
    with db.connect(autocommit=False) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtext('jobs.pgqueuer_statistics'))")
        worker = spawn_worker(db, "--schema", "jobs", "--log-aggregation-interval", "0.01", args=["ok"])
        produce(db, [NewJob("ok", b"")] * 20)
        wait_until(lambda: db.job_count() == 0, 20, "the jobs end")
        assert unaggregated(db) == 60
        other.rollback()
    produce(db, [NewJob("ok", b"")])
    wait_until(lambda: unaggregated(db) == 0, 20, "the rows are folded later")
    worker.stop_cleanly()


@pytest.mark.parametrize("interval", ["2", "0.02"])
def test_what_was_left_out_for_another_who_folds_is_folded_when_that_is_over(
    queue_db, produce, spawn_worker, interval
):
    """However short the interval is: the other one takes a second here, as the longest folds do."""
    queue_db.execute(f"ALTER DATABASE {queue_db.name} SET log_statement = 'all'")
    seen = len(queue_db.cluster.log())
    with queue_db.connect(autocommit=False) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtext('pgqueuer_statistics'))")
        worker = spawn_worker(queue_db, "--log-aggregation-interval", interval, args=["ok"])
        produce(queue_db, [NewJob("ok", b"")])
        wait_until(lambda: "DO $aggregate$" in queue_db.cluster.log()[seen:], 15, "it tries to fold")
        other.execute("SELECT pg_sleep(1)")
        assert unaggregated(queue_db) == 3
        other.rollback()
    wait_until(lambda: unaggregated(queue_db) == 0, 15, "the rows are folded without another job")
    worker.stop_cleanly()


def test_a_worker_waits_for_nobody_who_folds(queue_db, produce, spawn_worker, journal):
    """While another has the advisory lock, or the table's, folding is left out and jobs go on."""
    with queue_db.connect(autocommit=False) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtext('pgqueuer_statistics'))")
        worker = spawn_worker(queue_db, "--log-aggregation-interval", "0.01", args=["ok"])
        produce(queue_db, [NewJob("ok", b"")] * 20)
        wait_until(lambda: queue_db.job_count() == 0, 20, "the jobs end")
        assert unaggregated(queue_db) == 60
        other.rollback()
    produce(queue_db, [NewJob("ok", b"")])
    wait_until(lambda: unaggregated(queue_db) == 0, 20, "the rows are folded later")
    with queue_db.connect(autocommit=False) as other:
        other.execute("LOCK TABLE pgqueuer_statistics IN ROW EXCLUSIVE MODE")
        ids = produce(queue_db, [NewJob("ok", b"")] * 20)
        journal.wait_runs(41)
        wait_until(lambda: queue_db.job_count() == 0, 20, "the jobs end")
        worker.wait_log(r"aggregation\.refused", 15)
        assert unaggregated(queue_db) == 3 * len(ids)
        other.rollback()
    produce(queue_db, [NewJob("ok", b"")])
    wait_until(lambda: unaggregated(queue_db) == 0, 20, "the rows are folded later")
    worker.stop_cleanly()
    assert queue_db.value("SELECT sum(count) FROM pgqueuer_statistics") == 3 * 42
