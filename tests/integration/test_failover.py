"""A primary that dies and a standby that is promoted: who has both in the DSN goes on, and what
synchronous replication had acknowledged is there once."""

import collections

import pytest

from lib.jobs import NewJob
from lib.producers import Run, check
from lib.standby import Standby
from lib.waiting import wait_until

THREADS, JOBS = 16, 1000  # of the producer, whose jobs nobody runs
WORKED = 3000


@pytest.fixture
def standby(own_cluster, own_queue_db):
    if not (own_cluster.bin / "pg_basebackup").exists():
        pytest.skip("this server's package has no pg_basebackup")
    server = Standby(own_cluster)
    yield server
    server.destroy()


@pytest.mark.timeout(240)
def test_producer_and_worker_go_on_at_the_promoted_standby(
    own_cluster, own_queue_db, standby, processes, handlers, home, produce, spawn_worker, journal
):
    dsn, after = standby.dsn_of_both(own_queue_db), standby.database(own_queue_db)
    ids = produce(own_queue_db, [NewJob("sleep", b"5")] * WORKED)
    worker = spawn_worker(dsn, "--threads", "4", args=["sleep"])
    run = Run(processes, handlers, home, dsn, THREADS, JOBS, timeout_ms=120_000,
              answer_timeout_ms=120_000)
    wait_until(lambda: run.count() >= 100, 60, "the producer is at work")
    journal.wait_runs(50)
    own_cluster.stop("crash")
    before = run.count()
    assert before < THREADS * JOBS and len(journal.runs()) < WORKED, "stopped too late"
    standby.promote()

    outcomes = run.finish()
    counts = check(after, outcomes)
    # One group was on its way: where its rows have not reached the standby nobody can know.
    assert counts["PGQ_OK"] + counts["PGQ_E_OUTCOME_UNKNOWN"] == THREADS * JOBS
    assert counts["PGQ_E_OUTCOME_UNKNOWN"] <= THREADS and counts["PGQ_OK"] > before

    wait_until(lambda: after.job_count("entrypoint = 'sleep'") == 0, 120, "the queue drains")
    worker.stop_cleanly()
    assert worker.events("connection.lost") and worker.events("connection.restored")
    assert collections.Counter(job_id for (job_id,) in after.rows(
        "SELECT job_id FROM pgqueuer_log WHERE entrypoint = 'sleep' AND status = 'successful'"
    )) == collections.Counter(ids), "each job ended once"
    assert not journal.overlapping()
