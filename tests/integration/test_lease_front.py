"""Workers of one queue that lease beside each other: with the extras each claim begins where those of the
others will end, and nobody walks over what others have locked. What tells them so is a hint, which may be
wrong, or gone."""

import pytest

from lib.leases import drained, insert
from lib.waiting import wait_until

FRONT = "pgqueuer_c.claims_front_seq"
IDS = 1 << 48  # the upper bits say whose cursor it is
JOBS, WORKERS = 20_000, 4
LEASES = ("--lane", "lease", "--batch-size", "100", "--dequeue-timeout", "600")


@pytest.fixture
def extras_db(queue_db, pgqueuer):
    assert pgqueuer("install", "--extras", dsn=queue_db).returncode == 0
    return queue_db


def fleet(database, spawn_worker, *options):
    return [spawn_worker(database, *LEASES, *options, args=["ok"]) for _ in range(WORKERS)]


def enqueue(database, count):
    with database.connect() as connection:
        ids = insert(connection, "ok", count)
        connection.execute("NOTIFY ch_pgqueuer, '{}'")
    return ids


def front(database):
    return database.value(f"SELECT last_value FROM {FRONT}") % IDS


def reads(database, index="pgqueuer_ep_prio_id_idx"):
    """How many entries of an index the server has read; by default of the one that claims walk."""
    return database.value("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = %s", [index])


def work(database, spawn_worker, journal, count=JOBS):
    """Several workers do a backlog. Returns how many entries the server has read for each job."""
    done, before = journal.run_counts(), reads(database)
    workers = fleet(database, spawn_worker)
    ids = enqueue(database, count)
    drained(database)
    for worker in workers:
        worker.stop_cleanly()
    assert journal.run_counts() == {**done, **dict.fromkeys(ids, 1)}
    return (reads(database) - before) / count


def test_workers_do_not_walk_over_each_others_rows(extras_db, spawn_worker, journal, record_property):
    """Ten entries for each job where they do, as every lane looks at every row; less only where a busy
    machine lets them work one after the other."""
    entries = work(extras_db, spawn_worker, journal)
    record_property("index entries read for each job", round(entries, 2))
    assert entries < 4


@pytest.fixture
def role_dsn(extras_db):
    """Of a role with the rights of a worker, and no more."""
    extras_db.execute("DROP ROLE IF EXISTS worker; CREATE ROLE worker LOGIN;"
                      "GRANT ALL ON ALL TABLES IN SCHEMA public TO worker;"
                      "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO worker;"
                      "GRANT USAGE ON SCHEMA pgqueuer_c TO worker;"
                      "GRANT ALL ON pgqueuer_c.counts TO worker;"
                      f"GRANT SELECT, UPDATE ON SEQUENCE {FRONT} TO worker")
    yield extras_db.cluster.dsn(extras_db.name, user="worker")
    extras_db.execute("DROP OWNED BY worker; DROP ROLE worker")


@pytest.mark.parametrize("taken", ["DROP TABLE pgqueuer_c.claims",
                                   f"REVOKE UPDATE ON SEQUENCE {FRONT} FROM worker"])
def test_when_it_is_taken_away_they_go_on(extras_db, role_dsn, spawn_worker, journal, taken):
    workers = fleet(role_dsn, spawn_worker)
    ids = enqueue(extras_db, JOBS)
    journal.wait_runs(JOBS // 10)
    assert front(extras_db) >= min(ids)
    extras_db.execute(taken)
    drained(extras_db)
    ids += enqueue(extras_db, 100)
    drained(extras_db)
    for worker in workers:
        worker.stop_cleanly()
    assert journal.run_counts() == dict.fromkeys(ids, 1)


FAR = f"SELECT setval('{FRONT}', last_value + 1000000000) FROM {FRONT}"


@pytest.mark.parametrize("wrong", [
    FAR,
    f"SELECT setval('{FRONT}', 9223372036854775807)",
    "ALTER SEQUENCE pgqueuer_id_seq RESTART 8800000000000000000",  # no room for its upper bits
    "TRUNCATE pgqueuer RESTART IDENTITY",
    "CREATE TABLE claims_front_seq (i int)",
])
def test_a_front_that_is_wrong_keeps_no_job_from_being_done(extras_db, spawn_worker, journal, wrong):
    work(extras_db, spawn_worker, journal, count=500)
    extras_db.execute(wrong)
    journal.path.unlink()  # ids may begin again
    work(extras_db, spawn_worker, journal, count=5000)


def test_a_front_that_becomes_wrong_keeps_no_job_from_being_done(extras_db, spawn_worker, journal):
    workers = fleet(extras_db, spawn_worker)
    ids = enqueue(extras_db, JOBS)
    journal.wait_runs(JOBS // 10)
    extras_db.execute(FAR)
    drained(extras_db)
    for worker in workers:
        worker.stop_cleanly()
    assert journal.run_counts() == dict.fromkeys(ids, 1)


def test_late_jobs_are_not_looked_for_among_all_jobs_that_are_older(extras_db, spawn_worker, journal):
    """Of another entrypoint that nobody serves. The server could find the order by the primary key."""
    with extras_db.connect() as connection:
        insert(connection, "else", 100_000)
        ids = insert(connection, "ok", JOBS)
        connection.execute("DELETE FROM pgqueuer WHERE id = ANY (%s)", [ids[:JOBS // 2]])
    extras_db.execute("VACUUM ANALYZE pgqueuer")
    before = reads(extras_db, "pgqueuer_pkey")
    worker = spawn_worker(extras_db, *LEASES, args=["ok"])
    journal.wait_runs(JOBS // 2)
    wait_until(lambda: not extras_db.job_count("entrypoint = 'ok'"), 30, "the queue drains")
    worker.stop_cleanly()
    assert reads(extras_db, "pgqueuer_pkey") - before < 100_000


def test_a_worker_that_joins_begins_where_the_others_are(extras_db, spawn_worker, journal):
    """It does not follow them through all that they have done; and what they have left there is done,
    too."""
    late = extras_db.connect(autocommit=False)
    left = insert(late, "ok", 3)
    workers = fleet(extras_db, spawn_worker)
    ids = enqueue(extras_db, JOBS)
    journal.wait_runs(JOBS // 3)
    late.commit()
    workers.append(spawn_worker(extras_db, *LEASES, args=["ok"]))
    drained(extras_db)
    for worker in workers:
        worker.stop_cleanly()
    late.close()
    assert journal.run_counts() == dict.fromkeys(left + ids, 1)
