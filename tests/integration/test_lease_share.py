"""What several entrypoints of a worker get beside each other's backlogs: on the row lane and on the
lease lane, and on the lease lane alone."""

import re
import time

import pytest

from lib import program
from lib.core import SLOW
from lib.jobs import NewJob
from lib.leases import insert, warm_up
from lib.waiting import wait_until

RUN_SECONDS = 0.1 * SLOW


def test_urgent_jobs_of_the_lease_lane_are_started_beside_a_backlog_of_the_row_lane(
    queue_db, produce, spawn_worker, journal, record_property
):
    """A retry timer keeps the slow entrypoint on the row lane. Four threads have 600 of its jobs to do,
    which takes 15 s; the ten quick ones, of a higher priority, are to be begun within five run times."""
    worker = spawn_worker(queue_db, "--lane", "auto", "--threads", "4", "--dequeue-timeout", "600",
                          args=["quick=sleep", "slow=sleep,retry_timer=60000"])
    slow = NewJob("slow", str(round(RUN_SECONDS * 1000)).encode())
    warm = warm_up(queue_db, produce, NewJob("quick", b"0"), 4) + warm_up(queue_db, produce, slow, 40)
    produce(queue_db, [slow] * 600)
    journal.wait_runs(len(warm) + 20)
    begin = time.monotonic_ns()
    urgent = set(produce(queue_db, [NewJob("quick", b"0", priority=100)] * 10))
    wait_until(lambda: urgent <= journal.run_counts().keys(), 30 * SLOW, "they are started")
    runs = journal.runs()
    last_ns = max(run.start_ns for run in runs if run.job_id in urgent)
    before = sum(run.entrypoint == "slow" and begin < run.start_ns < last_ns for run in runs)
    took = (last_ns - begin) / 1e9
    print(f"the last of them was started after {took:.2f} s, and {before} slow ones before it")
    record_property("seconds", took)
    assert took < 5 * 5 * RUN_SECONDS
    worker.stop_cleanly(deadline=20 * SLOW)


# ---- claims for several entrypoints ----


def prepare(connection, statement):
    text = (program.REPOSITORY / "sql" / f"{statement}.sql").read_text().replace(":queue", "pgqueuer")
    types = re.findall(r"^-- \$\d+ +(\w+(?:\[\])?)", text, re.MULTILINE)
    connection.execute(f"PREPARE {statement} ({', '.join(types)}) AS {text}")


def claim(connection, wanted, try_all=None):
    """The ids that a claim brings: behind cursors at the beginning of priority 0, or of everything."""
    if try_all is None:
        arguments = "ARRAY[1, 2], ARRAY[0, 0], ARRAY[0, 0]"
        rows = connection.execute(f"EXECUTE claim_lease_many_after ({wanted}, ARRAY['u', 'v'], 1000, '2000ms',"
                                  f" '{{}}', {arguments})")
    else:
        rows = connection.execute(f"EXECUTE claim_lease_many ({wanted}, ARRAY['u', 'v'], 1000, '2000ms', '{{}}',"
                                  f" {try_all})")
    return [row[1] for row in rows]


@pytest.fixture
def sessions_of_two(queue_db):
    with queue_db.connect(autocommit=False) as one, queue_db.connect(autocommit=False) as other:
        for connection in (one, other):
            prepare(connection, "claim_lease_many")
            prepare(connection, "claim_lease_many_after")
            connection.commit()
        yield one, other


@pytest.mark.parametrize("try_all", [True, False, None])
@pytest.mark.parametrize("wanted", [1, 4, 10])
def test_what_others_have_locked_takes_no_place_of_another_entrypoints_free_jobs(
    queue_db, sessions_of_two, try_all, wanted
):
    one, other = sessions_of_two
    with queue_db.connect() as connection:
        urgent = insert(connection, "u", 12, priority=10)
        free = insert(connection, "v", 100)
    assert claim(one, len(urgent), True) == urgent
    assert claim(other, wanted, try_all) == free[:wanted]


def test_a_claim_that_tries_every_row_finds_those_that_only_seem_to_be_locked(queue_db, sessions_of_two):
    """Whoever had locked them has gone since the snapshot, which holds for a transaction here. Others of
    the same entrypoint are locked and of a higher priority, and some rows are free."""
    one, other = sessions_of_two
    with queue_db.connect() as connection:
        locked = insert(connection, "u", 3, priority=10)
        seems = insert(connection, "u", 2, priority=5)
        free = insert(connection, "v", 2)
    other.execute("SET default_transaction_isolation = 'repeatable read'")
    other.commit()
    assert claim(one, 3, True) == locked
    with queue_db.connect(autocommit=False) as gone:
        gone.execute("SELECT FROM pgqueuer WHERE id = ANY (%s) FOR UPDATE", [seems])
        assert claim(other, 10, False) == free
    other.execute("SAVEPOINT before")
    assert claim(other, 3, True) == [seems[0], *free], "the locked ones have a part, the free ones all"
    other.execute("ROLLBACK TO before")
    assert claim(other, 10, True) == seems + free
    other.rollback()
    one.rollback()
    assert claim(other, 10, True) == locked + seems + free
