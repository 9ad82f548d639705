"""Claiming beside Python workers: once each, in order, in time, and after a worker's death."""

import time

import pytest

from lib import invariants, program
from lib.extent import extent
from lib.jobs import NewJob
from lib.waiting import wait_until

HEARTBEAT = 2.0  # seconds, set by the tests; the default of 30 s is exercised elsewhere
MIXED_JOBS = extent("MIXED_JOBS", 750, 2500)  # of each producer


def open_gate(journal):
    journal.path.with_name(journal.path.name + ".gate").touch()


def end_of(database, job_id, status="successful", deadline=20):
    wait_until(lambda: database.log_of(job_id)[-1:] == [status], deadline,
               lambda: f"job {job_id} ends as {status}, log: {database.log_of(job_id)}")


@pytest.mark.scenario("claim.mixed-fleet")
def test_a_mixed_fleet_runs_each_job_once(queue_db, produce, python_enqueue, spawn_worker,
                                          python_worker, journal):
    fleet = [spawn_worker(queue_db, "--batch-size", "5", args=["work=sleep"]) for _ in range(2)]
    fleet += [
        python_worker(queue_db, "--batch-size", "5", "--max-concurrent-tasks", "10",
                      entrypoints=["work=sleep"])
        for _ in range(2)
    ]
    jobs = [NewJob("work", b"4", priority=i % 3) for i in range(MIXED_JOBS)]
    ids = produce(queue_db, jobs) + python_enqueue(queue_db, jobs)
    wait_until(lambda: queue_db.job_count() == 0, 60, "the fleet drains the queue", interval=0.1)
    for worker in fleet:
        assert worker.stop() == 0, worker.log()
    invariants.check_kept(queue_db, ids)
    invariants.check_single(journal, ids)
    assert queue_db.log_counts() == dict.fromkeys(("queued", "picked", "successful"), 2 * MIXED_JOBS)
    assert len({run.pid for run in journal.runs()}) == 4, "a worker of the fleet had nothing to do"


@pytest.mark.scenario("claim.priority")
@pytest.mark.parametrize("lane", ["row", "lease", "auto"])
def test_priority_goes_before_age_across_entrypoints(queue_db, produce, drain, journal, lane):
    jobs = [NewJob(name, b"", priority=p) for p in (0, 5, -5, 5, 0) for name in ("b", "a", "c")]
    ids = produce(queue_db, jobs)
    drain(queue_db, "--lane", lane, "--threads", "1", "--lanes", "1",
          args=["a=ok", "b=ok", "c=ok"])
    wanted = [i for _, i in sorted((-job.priority, i) for job, i in zip(jobs, ids))]
    assert [run.job_id for run in journal.runs()] == wanted


@pytest.mark.scenario("claim.deferred")
def test_a_deferred_job_starts_at_its_time_and_not_at_the_poll(
    queue_db, produce, spawn_worker, journal, way
):
    # The poll is far beyond the test's deadline: only the job's own time can wake the worker. One that
    # is deaf looks once a second.
    bound_s = 5 * (1.0 if way.name == "pooled" else 0.2)
    worker = spawn_worker(queue_db, "--dequeue-timeout", "600", args=["ok"])
    [deferred] = produce(queue_db, [NewJob("ok", b"", delay_ms=1500)])
    [now] = produce(queue_db, [NewJob("ok", b"")])
    end_of(queue_db, now, deadline=10)
    end_of(queue_db, deferred, deadline=10)
    early, late = queue_db.rows(
        "SELECT extract(epoch FROM l.created - q.created)::float8 FROM pgqueuer_log q"
        " JOIN pgqueuer_log l USING (job_id) WHERE q.status = 'queued' AND l.status = 'picked'"
        " ORDER BY job_id DESC"
    )
    assert early[0] < bound_s
    assert 1.5 <= late[0] < 1.5 + bound_s
    worker.stop_cleanly()


@pytest.mark.scenario("claim.due-now")
def test_a_job_that_is_due_exactly_now_is_claimed(queue_db):
    """The worker's own statement, since no clock can be made to stand still outside of one
    transaction."""
    text = (program.REPOSITORY / "sql" / "claim_row.sql").read_text()
    # the form that does not count: see CONTRIBUTING.md
    text = "\n".join(line for line in text.splitlines() if not line.endswith("-- counted"))
    text = text.replace(":queue", "pgqueuer").replace(":log", "pgqueuer_log")
    with queue_db.connect(autocommit=False) as connection:
        connection.execute(
            "INSERT INTO pgqueuer (priority, status, entrypoint, execute_after)"
            " VALUES (0, 'queued', 'e', now()), (0, 'queued', 'e', now() + interval '1 us')"
        )
        connection.execute(
            f"PREPARE claim (int4, text[], uuid, int8, int8[], text[]) AS {text}"
        )
        claimed = connection.execute(
            "EXECUTE claim (10, '{e}', '00000000-0000-0000-0000-000000000001', 30000, NULL, '{}')"
        ).fetchall()
        assert [row[0] for row in claimed] == [1]
        connection.rollback()


REFUSALS = 3
REFUSE_CLAIMS = f"""
CREATE SEQUENCE refusals;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status = 'queued' AND NEW.status = 'picked' AND nextval('refusals') <= {REFUSALS} THEN
        RAISE 'refused' USING ERRCODE = '%s', CONSTRAINT = '%s';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON pgqueuer FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.mark.scenario("claim.seat-race")
@pytest.mark.parametrize("sqlstate, constraint", [("23505", "pgqueuer_picked_slot_idx"), ("40P01", "")])
def test_a_lost_race_for_a_seat_is_an_empty_claim(
    queue_db, produce, drain, journal, sqlstate, constraint
):
    queue_db.execute(REFUSE_CLAIMS % (sqlstate, constraint))
    [job_id] = produce(queue_db, [NewJob("ok", b"")])
    worker = drain(queue_db, args=["ok,limit=2"])
    assert queue_db.value("SELECT last_value FROM refusals") == REFUSALS + 1
    assert len(journal.runs_of(job_id)) == 1
    assert queue_db.log_of(job_id) == ["queued", "picked", "successful"]
    assert not worker.events("claim.refused"), worker.log()


@pytest.mark.scenario("claim.seat-race")
def test_a_claim_that_violates_another_unique_index_ends_the_worker(queue_db, produce, spawn_worker):
    queue_db.execute(REFUSE_CLAIMS % ("23505", "somebody_elses_idx"))
    [job_id] = produce(queue_db, [NewJob("ok", b"")])
    worker = spawn_worker(queue_db, "--mode", "drain", args=["ok,limit=2"], wait=False)
    assert worker.wait() != 0
    assert "the database refused it: refused" in worker.log()
    assert queue_db.log_of(job_id) == ["queued"]


@pytest.mark.scenario("claim.left-over-slot")
def test_a_left_over_slot_does_not_stop_an_unlimited_worker(queue_db, drain, journal):
    """A Python worker with a limit leaves the slot on a row that it retries; seat 0 is taken by
    another of its jobs meanwhile."""
    queue_db.execute(
        "INSERT INTO pgqueuer (priority, status, entrypoint, queue_manager_id, slot)"
        " VALUES (0, 'picked', 'ok', gen_random_uuid(), 0)"
    )
    queue_db.execute(
        "INSERT INTO pgqueuer (priority, status, entrypoint, slot) SELECT 0, 'queued', 'ok', 0"
        " FROM generate_series(1, 3)"
    )
    drain(queue_db, args=["ok"])
    assert sorted(journal.run_counts()) == [2, 3, 4]
    assert queue_db.job_count("slot = 0 AND status = 'picked'") == 1
    assert queue_db.job_count() == 1


@pytest.mark.scenario("claim.no-slot")
def test_retry_and_hold_leave_no_slot(queue_db, spawn_worker):
    queue_db.execute(
        "INSERT INTO pgqueuer (priority, status, entrypoint, slot, payload)"
        " VALUES (0, 'queued', 'retry_once', 7, '3600000'), (0, 'queued', 'hold', 8, '')"
    )
    worker = spawn_worker(queue_db, args=["retry_once", "hold"])
    wait_until(lambda: queue_db.job_count("status = 'failed' OR attempts = 1") == 2, 10, "both end")
    assert queue_db.job_count("slot IS NOT NULL OR queue_manager_id IS NOT NULL") == 0
    worker.stop_cleanly()


def check_takeover(database, job_id, journal, killed_at_ns):
    first, second = journal.runs_of(job_id)
    assert first.pid != second.pid
    assert (first.attempts, second.attempts) == (0, 0)
    assert first.end_ns is None, "the first run was killed"
    # The last beat is at most H/2 and one flush (Python's: H/8 * 1.2) older than the kill.
    assert second.start_ns - killed_at_ns > 0.1 * HEARTBEAT * 1e9, "taken from a live worker"
    assert database.log_of(job_id) == ["queued", "picked", "picked", "successful"]


@pytest.mark.scenario("claim.takeover-by-c")
def test_c_takes_over_the_job_of_a_killed_python_worker(
    queue_db, produce, spawn_worker, python_worker, journal
):
    victim = python_worker(queue_db, "--heartbeat-timeout", str(HEARTBEAT), entrypoints=["gate"])
    [job_id] = produce(queue_db, [NewJob("gate", b"payload")])
    journal.wait_runs(1)
    successor = spawn_worker(queue_db, "--heartbeat-timeout", str(HEARTBEAT), args=["gate"])
    killed_at = time.monotonic_ns()
    victim.kill()
    journal.wait_runs(2, deadline=5 * (HEARTBEAT + 1))
    open_gate(journal)
    end_of(queue_db, job_id)
    successor.stop_cleanly()
    check_takeover(queue_db, job_id, journal, killed_at)


@pytest.mark.scenario("claim.takeover-by-python")
def test_python_takes_over_the_job_of_a_killed_c_worker(
    queue_db, produce, spawn_worker, python_worker, journal
):
    victim = spawn_worker(queue_db, "--heartbeat-timeout", str(HEARTBEAT), args=["gate"])
    [job_id] = produce(queue_db, [NewJob("gate", b"payload")])
    journal.wait_runs(1)
    # A job that is still leased would be free with its owner's session, before any heartbeat.
    wait_until(lambda: queue_db.job_count("status = 'picked'") == 1, 10, "the job is picked")
    successor = python_worker(queue_db, "--heartbeat-timeout", str(HEARTBEAT),
                              "--dequeue-timeout", "0.5", entrypoints=["gate"])
    killed_at = time.monotonic_ns()
    victim.kill()
    journal.wait_runs(2, deadline=5 * (HEARTBEAT + 1))
    open_gate(journal)
    end_of(queue_db, job_id)
    assert successor.stop() == 0
    check_takeover(queue_db, job_id, journal, killed_at)


@pytest.mark.scenario("claim.live")
def test_a_live_job_is_never_taken_over(queue_db, produce, spawn_worker, python_worker, journal):
    """Jobs that run for several heartbeat timeouts, with idle workers of both kinds waiting."""
    timeout = ("--heartbeat-timeout", "2")
    owner = spawn_worker(queue_db, *timeout, args=["sleep"])
    ids = produce(queue_db, [NewJob("sleep", b"7000")] * 3)
    journal.wait_runs(3)
    idle = spawn_worker(queue_db, *timeout, "--dequeue-timeout", "0.2", args=["sleep"])
    python_idle = python_worker(queue_db, *timeout, "--dequeue-timeout", "0.2", entrypoints=["sleep"])
    for job_id in ids:
        end_of(queue_db, job_id, deadline=30)
    for worker in (owner, idle, python_idle):
        assert worker.stop() == 0, worker.log()
    invariants.check_single(journal, ids)
    assert all(queue_db.log_of(job_id) == ["queued", "picked", "successful"] for job_id in ids)


@pytest.mark.scenario("claim.live")
def test_a_live_job_is_not_taken_over_by_workers_that_wait_shorter_or_longer(
    queue_db, produce, spawn_worker, python_worker, journal
):
    """Each owner beats in time for the shortest of the fleet's timeouts."""
    shortest, job_s = 3.0, 5.0
    owners = [spawn_worker(queue_db, "--heartbeat-timeout", "1", args=["for_c=sleep"]),
              python_worker(queue_db, "--heartbeat-timeout", "1", entrypoints=["for_python=sleep"])]
    names = ("for_c", "for_python")
    ids = produce(queue_db, [NewJob(name, str(int(job_s * 1000)).encode()) for name in names])
    journal.wait_runs(2)
    both = [f"{name}=sleep" for name in names]
    idle = [spawn_worker(queue_db, "--heartbeat-timeout", str(timeout), "--dequeue-timeout", "0.2",
                         args=both) for timeout in (shortest, 10)]
    idle.append(python_worker(queue_db, "--heartbeat-timeout", str(shortest), "--dequeue-timeout", "0.2",
                              entrypoints=both))
    for job_id in ids:
        end_of(queue_db, job_id)
        assert queue_db.log_of(job_id) == ["queued", "picked", "successful"]
    for worker in (*owners, *idle):
        assert worker.stop() == 0, worker.log()
    invariants.check_single(journal, ids)
