"""After an upgrade both languages go on, and while it runs too."""

import os
import statistics
import threading
import time

import pytest

from lib import program
from lib.extent import extent
from lib.jobs import NewJob
from lib.schema import COLUMNS, INDEXES, LOCK_KEY
from lib.upgrade import (
    SCHEMAS, assert_up_to_date, checksums, columns_before, fill, python_plan, restore, upgraded,
)
from lib.waiting import wait_until

pytestmark = pytest.mark.interop
PYTHON_SCRIPTS = program.REPOSITORY / "tests" / "interop" / "py"
ROWS = extent("UPGRADE_ROWS", 3, 100_000)  # of each of some twenty kinds
LOAD_ROWS = extent("UPGRADE_LOAD_ROWS", 20_000, 1_000_000)
LOAD_JOBS_A_SECOND = 400

# What an upgrade has to do on a database whose workers, of either release, start already.
HALF_OLD = """
    DROP INDEX pgqueuer_picked_heartbeat_idx, pgqueuer_ep_ea_idx, pgqueuer_ep_prio_id_idx,
        pgqueuer_log_status, pgqueuer_statistics_unique_count;
    CREATE UNIQUE INDEX pgqueuer_statistics_unique_count ON pgqueuer_statistics
        (priority, date_trunc('sec'::text, created AT TIME ZONE 'UTC'::text), status, entrypoint);
    CREATE INDEX pgqueuer_heartbeat_id_id1_idx ON pgqueuer (heartbeat, id DESC) INCLUDE (id)
        WHERE status = 'picked';
    ALTER TABLE pgqueuer_statistics ALTER created SET DEFAULT now(), ALTER id TYPE integer;
    ALTER SEQUENCE pgqueuer_statistics_id_seq AS integer;
    ALTER TABLE pgqueuer ALTER priority SET DEFAULT 7;
"""
# Only workers of Python's start on such a table; to widen it is the longest step of all.
NARROW = "ALTER TABLE pgqueuer ALTER id TYPE integer; ALTER SEQUENCE pgqueuer_id_seq AS integer;"


@pytest.mark.scenario("upgrade.then-both-work")
@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_after_an_upgrade_python_plans_its_function_only_and_both_sides_work(
    pgqueuer, python_pgq, db, schema, produce, python_enqueue, spawn_worker, python_worker, journal
):
    """Whatever release it comes from: the catalogue is that of a new installation, and no row differs."""
    restore(db, schema)
    fill(db, ROWS)
    db.execute("ANALYZE")
    columns = columns_before(db)
    before = checksums(db, columns)
    begin = time.monotonic()
    upgraded(pgqueuer, db, timeout=300)
    print(f"{schema}: {sum(rows for rows, _ in before.values())} rows upgraded in {time.monotonic() - begin:.1f} s")
    assert_up_to_date(db)
    assert checksums(db, columns) == before
    plan = python_plan(python_pgq, db)
    assert len(plan) == 1 and plan[0].startswith("CREATE OR REPLACE FUNCTION ")
    jobs = [NewJob(name) for name in ("for_c", "for_python")]
    ids = produce(db, jobs) + python_enqueue(db, jobs)
    spawn_worker(db, args=["for_c=ok"])
    python_worker(db, entrypoints=["for_python=ok"])
    runs = journal.wait_runs(4, ended=True)
    assert sorted(run.job_id for run in runs) == sorted(ids)
    wait_until(lambda: db.job_count("entrypoint LIKE 'for_%%'") == 0, 10, "their rows are gone")


DROPPED = {
    "indexes": "DROP INDEX " + ", ".join(INDEXES),
    "columns": ";".join(f"ALTER TABLE {table} " + ", ".join(
        f"DROP COLUMN {column} CASCADE" for column in columns.split()) for table, columns in COLUMNS.items()),
    "function and trigger": "DROP FUNCTION fn_pgqueuer_changed CASCADE",
}


@pytest.mark.scenario("upgrade.mends-for-python")
@pytest.mark.parametrize("what", DROPPED)
def test_after_an_upgrade_has_made_dropped_objects_again_python_plans_its_function_only(
    pgqueuer, python_pgq, queue_db, what
):
    queue_db.execute(DROPPED[what])
    upgraded(pgqueuer, queue_db)
    plan = python_plan(python_pgq, queue_db)
    assert len(plan) == 1 and plan[0].startswith("CREATE OR REPLACE FUNCTION ")


@pytest.mark.scenario("upgrade.either-first")
@pytest.mark.parametrize("first", ["c", "python"])
def test_both_upgrades_are_content_with_what_the_other_one_left(pgqueuer, python_pgq, db, first):
    restore(db, "0.21.0")
    fill(db, 20)
    columns = columns_before(db)
    before = checksums(db, columns)
    if first == "c":
        upgraded(pgqueuer, db)
    assert python_pgq(db, "upgrade").returncode == 0
    assert upgraded(pgqueuer, db).stderr.strip() == "PgQueuer schema is already up to date."
    assert python_plan(python_pgq, db) == []
    assert checksums(db, columns) == before


@pytest.mark.scenario("upgrade.lock-both")
def test_upgrades_of_both_sides_at_once_end_at_the_same(
    pgqueuer, db, processes, home
):
    restore(db, "0.21.0")
    fill(db, 1000)
    columns = columns_before(db)
    before = checksums(db, columns)
    environment = program.clean_environment(home, PGQUEUER_DSN=db.dsn, PGDSN=db.dsn)
    with db.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        upgrades = [processes([program.PROGRAM, "upgrade"], environment) for _ in range(2)]
        python = processes([program.python_bin() / "pgq", "upgrade"], environment)
        wait_until(
            lambda: db.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                             " AND NOT granted") == 1, 30, "Python's upgrade waits")
    assert [run.wait(60) for run in (*upgrades, python)] == [0, 0, 0]
    assert checksums(db, columns) == before
    db.execute("DROP FUNCTION fn_pgqueuer_changed CASCADE")  # Python's may be there instead of ours
    upgraded(pgqueuer, db)
    assert_up_to_date(db)


class Load:
    """Jobs come in all the time, a few at once."""

    def __init__(self, database):
        self.database, self.ids, self.stalls = database, [], []
        self._stop = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        assert self._failure is None, self._failure

    def _run(self):
        insert = ("INSERT INTO pgqueuer (priority, status, entrypoint) SELECT 0, 'queued', e"
                  " FROM unnest(ARRAY['for_c', 'for_python', 'for_both', 'for_both']) AS e RETURNING id")
        try:
            with self.database.connect() as connection:
                connection.prepare_threshold = None
                while not self._stop.wait(4 / LOAD_JOBS_A_SECOND):
                    begin = time.monotonic()
                    self.ids += [job_id for (job_id,) in connection.execute(insert)]
                    self.stalls.append(time.monotonic() - begin)
        except Exception as failure:
            self._failure = failure


def longest_gap(runs, begin_ns, end_ns):
    """The longest time between two starts of jobs, of those that touch the span."""
    starts = sorted(run.start_ns for run in runs)
    gaps = [(later - earlier) / 1e9 for earlier, later in zip(starts, starts[1:])
            if later > begin_ns and earlier < end_ns]
    return max(gaps)


@pytest.fixture
def under_load(pgqueuer, journal):
    """`under_load(database, workers, what)`: upgrades while jobs come in and these workers work; says what the
    longest stall was, and looks that each job has run once, and none failed."""

    def measure(database, workers, what):
        with Load(database) as load:
            journal.wait_runs(300)
            begin = time.monotonic_ns()
            done = upgraded(pgqueuer, database, timeout=240)
            end = time.monotonic_ns()
            journal.wait_runs(len(journal.runs()) + 300, deadline=60)
        left = ("SELECT entrypoint, status::text, count(*) FROM pgqueuer"
                " WHERE entrypoint LIKE 'for_%%' GROUP BY 1, 2")
        wait_until(lambda: not database.rows(left), 60, lambda: f"all end, left: {database.rows(left)}")
        for worker in workers:
            assert worker.stop(deadline=60) == 0, worker.log()
        runs = journal.runs()
        print(f"{what}, {LOAD_ROWS} rows, {len(load.ids)} jobs; upgrade {(end - begin) / 1e9:.2f} s;"
              f" longest stall of the workers {longest_gap(runs, begin, end):.2f} s, of an enqueue"
              f" {max(load.stalls):.2f} s (median {statistics.median(load.stalls) * 1000:.1f} ms);"
              f" {done.stderr.count('trying again')} attempts given up")
        assert sorted(run.job_id for run in runs) == sorted(load.ids)
        assert {run.outcome for run in runs} == {"done"}
        ended = dict(database.rows("SELECT status::text, count(*) FROM pgqueuer_log"
                                   " WHERE entrypoint LIKE 'for_%%' AND status <> 'queued' GROUP BY status"))
        assert ended == {"picked": len(load.ids), "successful": len(load.ids)}
        assert_up_to_date(database)

    return measure


def fill_for_load(db):
    fill(db, LOAD_ROWS // 20)  # of each of some twenty kinds
    db.execute("DELETE FROM pgqueuer WHERE entrypoint = 'picked'")  # nobody's


BOTH_SIDES = [["for_python", "for_both"], ["for_c", "for_both"]]  # the entrypoints of two workers


@pytest.mark.scenario("upgrade.under-load")
@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fleet", ["mixed", "python"])
def test_an_upgrade_under_load_fails_no_job(queue_db, spawn_worker, python_worker, under_load, fleet):
    fill_for_load(queue_db)
    queue_db.execute(HALF_OLD + (NARROW if fleet == "python" else ""))
    options = ("--log-aggregation-interval", "0.5")
    python = [[f"{name}=ok" for name in names] for names in BOTH_SIDES]
    workers = [python_worker(queue_db, *options, entrypoints=python[0])]
    if fleet == "python":
        workers.append(python_worker(queue_db, *options, entrypoints=python[1]))
    else:
        workers += [spawn_worker(queue_db, *options, "--lane", lane, args=["for_c=ok", "for_both=ok"])
                    for lane in ("auto", "row")]
    under_load(queue_db, workers, fleet)


@pytest.mark.scenario("upgrade.under-load")
@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("schema", ["0.21.0"] + (["1.1.0", "1.3.0", "1.4.0"] if LOAD_ROWS > 20_000 else []))
def test_an_upgrade_of_a_released_schema_under_load_fails_no_job(
    db, schema, spawn_worker, python_worker, python_spawn, processes, home, journal, under_load
):
    """Today's workers, of both sides, start from 1.4.0's tables on. On older ones work such as $PGQUEUER_OLD_PYTHON
    has (`1.3.0=/path/to/python ...`, with that release), or else the statements of such workers."""
    restore(db, schema)
    fill_for_load(db)
    old = dict(pair.split("=", 1) for pair in os.environ.get("PGQUEUER_OLD_PYTHON", "").split())
    if schema == "1.4.0":
        what = "both sides"
        workers = [python_worker(db, entrypoints=[f"{name}=ok" for name in BOTH_SIDES[0]]),
                   spawn_worker(db, args=["for_c=ok", "for_both=ok"])]
    elif schema in old:
        what = "workers of that time"
        environment = program.clean_environment(home, PGDSN=db.dsn, PYTHONDONTWRITEBYTECODE=1)
        workers = [processes([old[schema], PYTHON_SCRIPTS / "py_old_worker.py", "--journal", journal, "--release",
                              "--", *names], environment) for names in BOTH_SIDES]
    else:
        what = "their statements"
        workers = [python_spawn(db, "py_old_worker.py", "--journal", journal, "--", *names)
                   for names in BOTH_SIDES]
    under_load(db, workers, f"{schema}, {what}")
