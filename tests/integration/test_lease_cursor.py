"""Cursors of the lease lane: a worker under saturation looks behind what it has claimed already. What it
has passed, a row that committed late or was locked once, a retry, a release, a deferred job, one with
another priority, it finds all the same, in time, whether or not somebody holds the server's horizon back."""

import time

import psycopg
import pytest

from lib import program
from lib.cluster import Cluster
from lib.jobs import NewJob
from lib.leases import drained, insert, warm_up
from lib.waiting import wait_until

BACKLOG = 60_000
RUN_MS = b"1"
# The bounds: with a free horizon, and with one that is held. A machine with other work on it gets five
# times the first.
FREE_SECONDS, HELD_SECONDS = 0.25, 10.0
MARK = 900_000  # priorities of no other jobs


class Saturated:
    """A worker with far more jobs than it can do, whose cursors have passed many of them."""

    def __init__(self, database, produce, spawn_worker, journal):
        self.database, self.journal = database, journal
        self.worker = spawn_worker(
            database, "--lane", "lease", "--dequeue-timeout", "600", "--threads", "4",
            args=["work=sleep", "again=retry_once"])
        warm_up(database, produce, NewJob("work", RUN_MS))
        self.late = database.connect(autocommit=False)  # ids drawn early
        self.committed_late = insert(self.late, "work", 3, b"0")
        with database.connect() as connection:
            self.parked = insert(connection, "work", 3, b"0", delay="1 hour")
            self.lowered = insert(connection, "work", 3, b"0", priority=0, delay="1 hour")
            self.backlog = insert(connection, "work", BACKLOG, RUN_MS)

    def wait_passed(self, place):
        """Waits until that job of the backlog has been done."""
        wait_until(lambda: not self.database.rows("SELECT 1 FROM pgqueuer WHERE id = %s",
                                                  [self.backlog[place]]), 30,
                   "the worker passes the first jobs of the backlog")

    def saturated(self):
        return self.database.rows("SELECT 1 FROM pgqueuer WHERE id = %s", [self.backlog[-1]])

    def wait_started(self, ids, since_ns, what, runs=1):
        """How many seconds after `since_ns` the last of the jobs started, under saturation."""
        starts = {job_id: [] for job_id in ids}

        def started():
            for of_job in starts.values():
                of_job.clear()
            for run in self.journal.runs():
                starts.get(run.job_id, []).append(run.start_ns)
            return all(len(of_job) >= runs for of_job in starts.values())

        wait_until(started, 5 * HELD_SECONDS, f"{what} start", interval=0.1)
        assert self.saturated(), f"{what}: the backlog was done first, which shows nothing"
        return (max(of_job[runs - 1] for of_job in starts.values()) - since_ns) / 1e9


def hold_horizon(database):
    """A session whose snapshot keeps every dead row, as a backup's does."""
    connection = database.connect(autocommit=False)
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.execute("SELECT count(*) FROM pgqueuer")
    return connection


@pytest.mark.parametrize("horizon", ["free", "held", "free, told by others"])
def test_what_the_cursors_have_passed_is_found_in_time_under_saturation(
    queue_db, pgqueuer, produce, spawn_worker, journal, record_property, horizon
):
    pin = hold_horizon(queue_db) if horizon == "held" else None
    if horizon == "free, told by others":  # where their claims will end; here it is this worker itself
        assert pgqueuer("install", "--extras", dsn=queue_db).returncode == 0
    work = Saturated(queue_db, produce, spawn_worker, journal)
    waited = {}

    touched = work.backlog[1800:1803]
    with queue_db.connect(autocommit=False) as toucher:
        toucher.execute("SELECT FROM pgqueuer WHERE id = ANY (%s) FOR UPDATE", [touched])
        toucher.rollback()
    work.wait_passed(2000)
    waited["locked before"] = work.wait_started(touched, time.monotonic_ns(), "rows locked before")

    work.late.commit()
    waited["committed late"] = work.wait_started(work.committed_late, time.monotonic_ns(), "late rows")

    queue_db.execute("UPDATE pgqueuer SET execute_after = now() + interval '0.3 s' WHERE id = ANY (%s)",
                     [work.parked])
    due = time.monotonic_ns() + 300_000_000
    waited["deferred"] = work.wait_started(work.parked, due, "deferred rows")

    [again] = produce(queue_db, [NewJob("again", b"100", priority=MARK)])
    wait_until(lambda: journal.runs_of(again), 10, "its first run")
    due = journal.runs_of(again)[0].start_ns + 100_000_000
    waited["retried"] = work.wait_started([again], due, "retries", runs=2)

    queue_db.execute("UPDATE pgqueuer SET priority = 5, execute_after = now() WHERE id = ANY (%s)",
                     [work.lowered])
    waited["changed priority"] = work.wait_started(work.lowered, time.monotonic_ns(), "raised rows")

    with queue_db.connect() as connection:
        urgent = insert(connection, "work", 1, b"0", priority=MARK)
    committed = time.monotonic_ns()
    waited["urgent"] = work.wait_started(urgent, committed, "urgent rows")
    # Only what was claimed before may start before it.
    start = journal.runs_of(urgent[0])[0].start_ns
    before = [run for run in journal.runs() if committed < run.start_ns < start]
    print({what: round(seconds, 3) for what, seconds in waited.items()}, len(before))
    for what, seconds in waited.items():
        record_property(what, round(seconds, 3))
    most = 5 * FREE_SECONDS if pin is None else HELD_SECONDS
    assert not {what: seconds for what, seconds in waited.items() if seconds > most}
    assert len(before) <= 500, "the urgent job waited for older ones of a lower priority"
    if pin is not None:
        dead = queue_db.value("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'pgqueuer'")
        print(f"{dead} dead rows were kept")
        pin.close()
    queue_db.execute("DELETE FROM pgqueuer WHERE id IN"
                     " (SELECT id FROM pgqueuer WHERE id >= %s FOR UPDATE SKIP LOCKED)",
                     [work.backlog[0]])
    drained(queue_db)
    work.worker.stop_cleanly()
    work.late.close()
    assert set(journal.run_counts().values()) <= {1, 2}
    assert not journal.overlapping()


def test_a_session_that_is_in_a_young_transaction_is_not_named_as_holding_the_horizon(queue_db):
    """As those of leases are; a report that has begun long ago is."""
    asked = (program.REPOSITORY / "sql" / "horizon.sql").read_text()
    pin = hold_horizon(queue_db)
    queue_db.execute("CREATE TABLE one (id int)")  # transactions pass
    assert queue_db.rows(asked) == []
    older = asked.replace("interval '10 seconds'", "interval '0'")
    [(kind, name, pid, age)] = queue_db.rows(older)
    assert (kind, pid) == ("session", pin.info.backend_pid) and "idle in transaction" in name and age > 0
    pin.close()


def test_a_role_that_may_not_look_into_other_sessions_names_them_as_holding_the_horizon(queue_db):
    asked = (program.REPOSITORY / "sql" / "horizon.sql").read_text()
    pin = hold_horizon(queue_db)
    queue_db.execute("CREATE TABLE one (id int)")
    queue_db.execute("CREATE ROLE nobody_special")
    try:
        with queue_db.connect() as connection:
            connection.execute("SET ROLE nobody_special")
            [(kind, _, pid, age)] = connection.execute(asked).fetchall()
        assert (kind, pid) == ("session", pin.info.backend_pid) and age > 0
    finally:
        pin.close()
        queue_db.execute("DROP ROLE nobody_special")


def test_what_keeps_no_row_of_this_database_does_not_hold_its_horizon():
    """A logical slot keeps dead rows of the catalogs only, and a prepared transaction those of its own
    database."""
    asked = (program.REPOSITORY / "sql" / "horizon.sql").read_text()
    server = Cluster(settings={"wal_level": "logical", "max_prepared_transactions": "5"})
    try:
        with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE other")
            connection.execute("SELECT pg_create_logical_replication_slot('feed', 'test_decoding')")
            with psycopg.connect(server.dsn("other"), autocommit=True) as other:
                for statement in ("BEGIN", "CREATE TABLE it (id int)", "PREPARE TRANSACTION 'away'"):
                    other.execute(statement)
            for number in range(5):
                connection.execute(f"CREATE TABLE passes_{number} (id int)")
            assert connection.execute(asked).fetchall() == []
            for statement in ("BEGIN", "CREATE TABLE it (id int)", "PREPARE TRANSACTION 'here'",
                              "CREATE TABLE passes (id int)"):
                connection.execute(statement)
            [(kind, name, pid, _)] = connection.execute(asked).fetchall()
            assert (kind, name, pid) == ("prepared transaction", "here", None)
    finally:
        server.destroy()
