"""Limits of one language's workers: over the fleet, in the process, in time. The mixed fleet is in
tests/interop/test_fleet.py. What ran at once is measured by the handlers' journal."""

import time

import pytest

from lib import lanes
from lib.jobs import NewJob
from lib.journal import most_at_once
from lib.waiting import wait_until


def open_gate(journal):
    journal.path.with_name(journal.path.name + ".gate").touch()


def drained(database, deadline=60):
    wait_until(lambda: database.job_count() == 0, deadline,
               lambda: f"the queue drains, left: {database.rows('SELECT * FROM pgqueuer')[:9]}")


def picked(database, entrypoint):
    return database.rows("SELECT slot FROM pgqueuer WHERE status = 'picked' AND entrypoint = %s"
                         " ORDER BY slot", [entrypoint])


def test_two_workers_keep_a_limit_and_a_serialized_entrypoint_and_use_them(
    queue_db, produce, spawn_worker, journal
):
    entrypoints = ["three=sleep,limit=3", "one=sleep,serialized", "free=sleep"]
    jobs = [NewJob(name, b"8", priority=i % 2) for i in range(150) for name in ("three", "one", "free")]
    ids = produce(queue_db, jobs)
    fleet = [spawn_worker(queue_db, "--threads", "8", wait=False, args=entrypoints) for _ in range(2)]
    drained(queue_db)
    for worker in fleet:
        worker.stop_cleanly()
    assert most_at_once(journal.timeline("three")) == 3
    assert most_at_once(journal.timeline("one")) == 1
    assert most_at_once(journal.timeline("free")) > 3, "the limits of others do not count for it"
    started = [run.job_id for run in sorted(journal.runs(), key=lambda run: run.start_ns)
               if run.entrypoint == "one"]
    assert started == [job_id for _, job_id in sorted(
        (-job.priority, job_id) for job, job_id in zip(jobs, ids) if job.entrypoint == "one")]
    assert journal.run_counts() == dict.fromkeys(ids, 1)


def test_a_stale_job_of_a_limited_entrypoint_is_taken_by_a_fresh_worker_in_its_retry_timer(
    queue_db, produce, spawn_worker, journal
):
    """The dead worker's jobs fill the limit themselves; they must not block their own recovery. The
    heartbeat timeout is far away: only the retry timer finds them."""
    entrypoints = ["two=gate,limit=2,retry_timer=800", "one=gate,serialized,retry_timer=800", "ok"]
    options = ("--heartbeat-timeout", "600", "--dequeue-timeout", "600")
    victim = spawn_worker(queue_db, *options, args=entrypoints)
    ids = produce(queue_db, [NewJob("two", b"")] * 4 + [NewJob("one", b"")] * 2)
    running = {run.job_id for run in journal.wait_runs(3)}
    killed = {victim.pid: time.monotonic_ns()}
    victim.kill()
    successor = spawn_worker(queue_db, *options, args=entrypoints)
    again = journal.wait_runs(6, deadline=5 * 1.8)[3:]
    assert {run.job_id for run in again} == running == {ids[0], ids[1], ids[4]}
    assert picked(queue_db, "two") == [(0,), (1,)] and picked(queue_db, "one") == [(0,)]
    open_gate(journal)
    drained(queue_db)
    successor.stop_cleanly()
    assert most_at_once(journal.timeline("two", killed)) == 2
    assert most_at_once(journal.timeline("one", killed)) == 1
    for job_id in ids:
        wanted = ["queued", "picked"] + ["picked"] * (job_id in running) + ["successful"]
        assert queue_db.log_of(job_id) == wanted
    assert {run.attempts for run in journal.runs()} == {0}


def test_a_job_with_a_long_retry_timer_is_not_taken_at_the_timer_of_another(
    queue_db, produce, spawn_worker, journal
):
    entrypoints = ["short=gate,retry_timer=500", "long=gate,retry_timer=60000"]
    victim = spawn_worker(queue_db, args=entrypoints)
    produce(queue_db, [NewJob("long", b""), NewJob("short", b"")])
    journal.wait_runs(2)
    victim.kill()
    successor = spawn_worker(queue_db, args=entrypoints)
    runs = journal.wait_runs(3)
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() - begin > 1.5, 10, "several timers of the short one pass")
    assert [run.entrypoint for run in runs[2:]] == ["short"] and len(journal.runs()) == 3
    assert queue_db.value("SELECT now() - heartbeat > interval '1 s' FROM pgqueuer"
                          " WHERE entrypoint = 'long'")
    open_gate(journal)
    successor.stop_cleanly()


@pytest.mark.scenario("claim.budget")
def test_a_worker_never_holds_more_than_max_concurrent_tasks(
    queue_db, produce, spawn_worker, journal
):
    worker = spawn_worker(queue_db, "--threads", "8", "--max-concurrent-tasks", "5",
                          args=["gate", "ok"])
    produce(queue_db, [NewJob("ok", b"")] * 300)  # quick ones: the worker learns to claim ahead
    wait_until(lambda: queue_db.job_count() == 0, 20, "the quick jobs end")
    produce(queue_db, [NewJob("gate", b"")] * 20)
    journal.wait_runs(305)
    wait_until(lambda: queue_db.job_count("status = 'picked'") == 5, 10, "they outlast a lease")
    begin = time.monotonic()
    while time.monotonic() - begin < 0.7:  # not a wait: it samples what is picked
        assert queue_db.job_count("status = 'picked'") == 5 and not lanes.leased(queue_db)
    assert len(journal.runs()) == 305
    open_gate(journal)
    drained(queue_db)
    worker.stop_cleanly()
    assert most_at_once(journal.timeline("gate")) == 5
    # Also of the quick ones never more were held, finished and unsettled ones included.
    assert _most_held(queue_db) == 5


def _most_held(database):
    """From the log: a claim's time is that of its transaction, on the lease lane the one in which it is
    settled, later. At one time the settle goes first, because it makes the room. A job may be given back
    unstarted, on a busy machine."""
    steps = database.rows(
        "SELECT CASE WHEN status = 'picked' THEN 1 ELSE -1 END FROM pgqueuer_log AS l"
        " WHERE status IN ('picked', 'successful') OR status = 'queued' AND EXISTS"
        " (SELECT FROM pgqueuer_log AS e WHERE e.job_id = l.job_id AND e.status = 'picked' AND e.id < l.id)"
        " ORDER BY created, status = 'picked'")
    most = now = 0
    for (step,) in steps:
        now += step
        most = max(most, now)
    return most


@pytest.mark.parametrize("rate, jobs, seconds", [(50, 120, 1.5), (5, 12, 1.5)])
def test_no_more_jobs_start_than_the_rate_allows(
    queue_db, produce, spawn_worker, journal, rate, jobs, seconds
):
    worker = spawn_worker(queue_db, "--threads", "8", args=[f"slow=ok,rate={rate}", "free=ok"])
    produce(queue_db, [NewJob("slow", b"", priority=9)] * jobs + [NewJob("free", b"")] * 200)
    wait_until(lambda: queue_db.job_count("entrypoint = 'free'") == 0, 20, "the others are not held up")
    assert queue_db.job_count() > 0, "the rate held up nothing"
    drained(queue_db)
    worker.stop_cleanly()
    starts = sorted(start for start, _ in journal.timeline("slow"))
    burst = max(1, rate / 10)
    # Between any two starts: rate x t and the burst. A start is a little later than its claim, so
    # that two of them may be closer together than what let them through.
    late_s = 0.25
    for first in range(jobs):
        for last in range(first + 1, jobs):
            gap = (starts[last] - starts[first]) / 1e9
            assert last - first + 1 <= rate * (gap + late_s) + burst + 1e-6, (first, last, gap)
    # And the rate is used: it takes about as long as it must.
    needed = (jobs - burst) / rate
    assert needed - late_s <= (starts[-1] - starts[0]) / 1e9 < needed + 5 * seconds


def test_rate_zero_never_runs_and_a_drain_does_not_wait_for_it(queue_db, produce, drain, journal):
    never, job_id = produce(queue_db, [NewJob("never", b"", priority=9), NewJob("ok", b"")])
    drain(queue_db, args=["never=ok,rate=0", "ok"], deadline=20)
    assert [run.job_id for run in journal.runs()] == [job_id]
    assert queue_db.log_of(never) == ["queued"]


def test_a_row_with_a_left_over_slot_is_claimed_by_limited_and_unlimited_workers(
    queue_db, drain, journal
):
    """Rows queued with slot 0 (a Python worker leaves it there on a retry) while seat 0 is taken."""
    for entrypoint in ("limited", "free"):
        queue_db.execute(
            "INSERT INTO pgqueuer (priority, status, entrypoint, queue_manager_id, slot)"
            " VALUES (0, 'picked', %s, gen_random_uuid(), 0)", [entrypoint])
        queue_db.execute("INSERT INTO pgqueuer (priority, status, entrypoint, slot)"
                         " SELECT 0, 'queued', %s, n %% 2 FROM generate_series(1, 6) n", [entrypoint])
    drain(queue_db, "--log-level", "debug", deadline=30, args=["limited=ok,limit=3", "free=ok"])
    assert len(journal.runs()) == 12
    assert queue_db.rows("SELECT entrypoint, status::text, slot FROM pgqueuer ORDER BY 1") == [
        ("free", "picked", 0), ("limited", "picked", 0)]


@pytest.mark.scenario("claim.seat-back")
def test_retry_hold_and_requeue_of_a_limited_job_give_its_seat_back(
    queue_db, produce, spawn_worker, pgqueuer, journal
):
    worker = spawn_worker(queue_db, args=["job=retry_once,limit=2", "bad=hold_unless_open,limit=1"])
    retried, held = produce(queue_db, [NewJob("job", b"3600000"), NewJob("bad", b"")])
    wait_until(lambda: queue_db.job_count("attempts = 1 OR status = 'failed'") == 2, 10, "both ended")
    seats = queue_db.rows("SELECT slot, queue_manager_id FROM pgqueuer")
    assert seats == [(None, None)] * 2
    # The seat of the held one is really free: the next of the entrypoint gets it.
    [second] = produce(queue_db, [NewJob("bad", b"")])
    wait_until(lambda: queue_db.log_of(second)[-1] == "failed", 10, "the next one runs")
    queue_db.execute("UPDATE pgqueuer SET slot = 0 WHERE id = %s", [held])  # as Python leaves it
    worker.stop_cleanly()
    assert pgqueuer("requeue", held, dsn=queue_db).returncode == 0
    assert queue_db.job(held)["slot"] is None
    assert queue_db.job(retried)["slot"] is None


def test_different_limits_in_a_fleet_are_reported(queue_db, produce, spawn_worker, journal):
    others = spawn_worker(queue_db, "--threads", "9",
                          args=["higher=gate,limit=3", "unlimited=gate", "limited=gate,limit=1",
                                "same=gate,limit=2", "free=gate"])
    produce(queue_db, [NewJob(name, b"") for name in
                       ("higher", "higher", "higher", "unlimited", "limited", "same", "same", "free")])
    journal.wait_runs(8)
    # What is leased shows nobody who limits it; what runs for longer is picked.
    wait_until(lambda: queue_db.job_count("status = 'picked'") == 8, 10, "they outlast a lease")
    worker = spawn_worker(queue_db, args=["higher=ok,limit=2", "unlimited=ok,limit=2", "limited=ok",
                                          "same=ok,limit=2", "free=ok"])
    wait_until(lambda: len(worker.events("limits.differ")) >= 3, 15, "the differences are logged")
    lines = worker.events("limits.differ")
    told = {name: line for line in lines for name in ("higher", "unlimited", "limited")
            if f"entrypoint={name} " in line}
    assert len(lines) == 3 and told.keys() == {"higher", "unlimited", "limited"}
    assert "limit is higher than ours" in told["higher"]
    assert "does not limit it, and we do" in told["unlimited"]
    assert "limits it, and we do not" in told["limited"]
    open_gate(journal)
    for each in (others, worker):
        each.stop_cleanly()


# -- drains --------------------------------------------------------------------------------------


def test_drain_now_leaves_deferred_jobs_and_says_how_many(queue_db, produce, spawn_worker, journal):
    jobs = [NewJob("ok", b"")] * 5 + [NewJob("ok", b"", delay_ms=600_000)] * 3
    ids = produce(queue_db, jobs + [NewJob("foreign", b"", delay_ms=600_000)])
    worker = spawn_worker(queue_db, "--mode", "drain-now", wait=False, args=["ok"])
    assert worker.wait(30) == 0, worker.log()
    assert journal.run_counts() == dict.fromkeys(ids[:5], 1)
    [line] = worker.events("worker.left_deferred")
    assert "jobs=3" in line.split()
    assert queue_db.job_count() == 4


@pytest.mark.parametrize("soonest", ["infinity", "294276-12-31 23:59:59+00"])
def test_times_without_a_bound_hold_up_no_drain(queue_db, produce, spawn_worker, journal, soonest):
    """PostgreSQL 15 and 16 refuse the difference of an infinite time and another one."""
    ids = produce(queue_db, [NewJob("ok", b"")] * 3 + [NewJob("ok", b"", delay_ms=600_000)] * 3)
    with queue_db.connect() as connection:
        for job_id, time in zip(ids[2:], ["-infinity", "infinity", "infinity", soonest]):
            connection.execute("UPDATE pgqueuer SET execute_after = %s WHERE id = %s", [time, job_id])
        connection.execute("UPDATE pgqueuer SET status = 'picked', queue_manager_id = gen_random_uuid(),"
                           " heartbeat = '-infinity' WHERE id = %s", [ids[1]])
    worker = spawn_worker(queue_db, "--mode", "drain-now", wait=False, args=["ok"])
    assert worker.wait(30) == 0, worker.log()
    assert journal.run_counts() == dict.fromkeys(ids[:3], 1)
    [line] = worker.events("worker.left_deferred")
    assert "jobs=3" in line.split()
    assert not worker.events("statement.refused")


def test_drain_waits_for_deferred_jobs_and_for_its_own_retries(queue_db, produce, drain, journal):
    ids = produce(queue_db, [NewJob("ok", b"", delay_ms=1500), NewJob("retry_once", b"1000")])
    worker = drain(queue_db, args=["ok", "retry_once"], deadline=30)
    assert journal.run_counts() == {ids[0]: 1, ids[1]: 2}
    assert queue_db.job_count() == 0 and not worker.events("worker.left_deferred")


def test_drain_now_has_nothing_to_say_when_nothing_is_left(queue_db, produce, spawn_worker, journal):
    produce(queue_db, [NewJob("ok", b"")] * 3)
    worker = spawn_worker(queue_db, "--mode", "drain-now", wait=False, args=["ok"])
    assert worker.wait(30) == 0, worker.log()
    assert len(journal.runs()) == 3 and not worker.events("worker.left_deferred")
