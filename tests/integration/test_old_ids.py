"""Ids of 32 bits, as releases before 1.1.1 made them: producers, cancel and requeue work with them. A
worker refuses them when it starts (tests/cli/test_connect.py)."""

import pytest

from lib.jobs import NewJob
from lib.refusal import DONE


@pytest.fixture
def old_db(queue_db):
    queue_db.execute(
        "ALTER TABLE pgqueuer ALTER id TYPE integer; ALTER SEQUENCE pgqueuer_id_seq AS integer")
    return queue_db


@pytest.mark.parametrize("on_conflict", ["raise", "skip", "update_priority"])
def test_jobs_are_enqueued_one_by_one_and_in_batches(old_db, produce, on_conflict):
    ids = produce(old_db, [NewJob("a", b"", dedupe_key="k")], on_conflict)
    ids += produce(old_db, [NewJob("a", b"") for _ in range(5)], on_conflict)
    if on_conflict != "raise":
        again = produce(old_db, [NewJob("a", b"", dedupe_key="k", priority=7)], on_conflict)
        assert again == ([0] if on_conflict == "skip" else ids[:1])
    assert old_db.rows("SELECT id FROM pgqueuer ORDER BY id") == [(job_id,) for job_id in ids]
    assert old_db.log_counts() == {"queued": 6}


def test_a_batch_that_would_be_copied_goes_by_arrays(old_db, pgqueuer):
    done = pgqueuer("queue", "a", "--count", "2500", dsn=old_db)
    assert done.returncode == DONE, done.stderr
    assert old_db.job_count() == 2500


def test_jobs_are_cancelled_and_requeued(old_db, pgqueuer, produce):
    first, second = produce(old_db, [NewJob("a", b"")] * 2)
    old_db.execute(f"UPDATE pgqueuer SET status = 'failed' WHERE id = {first}")
    for command in ("requeue", first), ("cancel", second):
        done = pgqueuer(*command, dsn=old_db)
        assert done.returncode == DONE, done.stderr
    assert old_db.job(first)["status"] == "queued"
    assert old_db.log_of(second) == ["queued", "canceled"]


def test_the_functions_of_the_extras_enqueue(old_db, pgqueuer):
    done = pgqueuer("install", "--extras", dsn=old_db)
    assert done.returncode == DONE, done.stderr
    call = "SELECT pgqueuer_c.enqueue('a', 'one', dedupe_key => 'k', on_conflict => %s)"
    assert [old_db.value(call, [way]) for way in ("raise", "skip", "update_priority")] == [1, None, 1]
