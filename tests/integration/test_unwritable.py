"""A database that locks rows and does not let anybody write what became of them: a log without a
partition for today, a full disk, a trigger that refuses."""

from lib.jobs import NewJob
from lib.leases import drained, insert, warm_up
from lib.waiting import wait_until

WORKERS = 2
THREADS = 4
JOBS = 600
LEASES_EACH = 6  # that are under way when the first one is refused, and small ones afterwards
BOUND = WORKERS * LEASES_EACH * THREADS

ONE_ROW = """
CREATE FUNCTION refuse_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.job_id = {job} AND NEW.status <> 'queued' THEN RAISE EXCEPTION 'not this one'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_one BEFORE INSERT ON pgqueuer_log FOR EACH ROW EXECUTE FUNCTION refuse_one();
"""


def test_what_cannot_be_written_is_not_run_by_every_worker(queue_db, produce, spawn_worker, journal):
    """The constraint lets a lease begin, and nothing end."""
    workers = [spawn_worker(queue_db, "--lane", "lease", "--threads", str(THREADS), args=["ok"])
               for _ in range(WORKERS)]
    queue_db.execute("ALTER TABLE pgqueuer_log ADD CONSTRAINT none CHECK (status = 'queued') NOT VALID")
    ids = produce(queue_db, [NewJob("ok", b"0")] * JOBS)
    for worker in workers:
        wait_until(lambda: len(worker.events("lease.lost")) >= 3, 30, "it has tried again, and again")
    queue_db.execute("ALTER TABLE pgqueuer_log DROP CONSTRAINT none")
    drained(queue_db, 60)
    for worker in workers:
        worker.stop_cleanly()
    counts = journal.run_counts()
    assert set(counts) == set(ids), "each has run"
    again = sum(count - 1 for count in counts.values())
    assert again <= BOUND, f"{again} of {JOBS} jobs were run in vain"
    ends = queue_db.rows("SELECT status::text, count(*), count(DISTINCT job_id) FROM pgqueuer_log"
                         " WHERE status NOT IN ('queued', 'picked') GROUP BY 1")
    assert ends == [("successful", JOBS, JOBS)], "that nothing could be written is no job's fault"


def test_a_worker_that_is_told_to_stop_leaves_what_is_refused_and_says_so(
    queue_db, produce, spawn_worker
):
    worker = spawn_worker(queue_db, "--lane", "lease", args=["ok"])
    warm_up(queue_db, produce, NewJob("ok", b"0"))
    with queue_db.connect() as connection:
        [job] = insert(connection, "ok", payload=b"0", delay="1 s")
        connection.execute(ONE_ROW.format(job=job))
    worker.wait_log(rf"settle\.failed job={job}\b", 20)
    assert worker.stop() == 1
    assert f"the outcome of job {job} could not be written" in worker.log() and "not this one" in worker.log()
