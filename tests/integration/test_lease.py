"""Jobs on the lease lane: locked in a transaction that stays open while they run. How a lease ends,
and what others see of it. Lost leases are in test_lease_lost.py."""

import json
import signal
import time

from lib.core import SLOW
from lib.jobs import NewJob
from lib.leases import Talk, drained, leased, open_gate, shown, warm_up
from lib.proxy import Proxy
from lib.waiting import wait_until

ENDED = ["queued", "picked", "successful"]
BUSY_SECONDS = 1.0  # what a busy machine may add
LEASE_MAX = 5.0  # the longest that the program takes
# An idle worker that saw only locked rows looks again within a second; the bound is two. A deadline is five times that.
FOUND_SECONDS = 2.0


def lane(lease=None):
    options = ["--lane", "lease", "--dequeue-timeout", "600"]
    return options if lease is None else [*options, "--lease", str(lease)]


# ---- a settle that the database refuses ----

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'job % is not to be successful', NEW.job_id;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON pgqueuer_log FOR EACH ROW
    WHEN (NEW.status = 'successful' AND NEW.job_id = {job_id}) EXECUTE FUNCTION refuse();
"""


def test_a_refused_settle_writes_nothing_of_its_batch_and_the_bad_row_ends_alone(
    cluster, queue_db, produce, spawn_worker, journal
):
    """The next lease travels behind the settle. Its claim succeeds, and must not hide that COMMIT has
    rolled the batch back."""
    with Proxy(cluster) as proxy:
        talk = Talk()
        proxy.arm(talk)
        # One lane: what another one leases besides may leave no room for the claim behind the settle.
        worker = spawn_worker(proxy.dsn(queue_db), *lane(0.25 * SLOW), "--lanes", "1", "--threads", "2",
                              "--batch-size", "15", args=["sleep"])
        warm_up(queue_db, produce, NewJob("sleep", b"0"))
        before = len(journal.runs())
        bad = queue_db.value("SELECT nextval('pgqueuer_id_seq') + 10")
        queue_db.execute(REFUSE.format(job_id=bad))
        ids = produce(queue_db, [NewJob("sleep", b"0")] * 60)
        drained(queue_db)
        worker.stop_cleanly()
    assert bad in ids
    settles = [behind for statement, behind in talk.refused if statement.startswith("settle_")]
    assert any("commit" in behind and any(name.startswith("claim_lease") for name in behind)
               for behind in settles), f"no lease travelled behind the refused settle: {talk.refused}"
    logs = {job_id: queue_db.log_of(job_id) for job_id in ids}
    assert logs == {job_id: ["queued", "picked", "exception" if job_id == bad else "successful"]
                    for job_id in ids}
    trace = queue_db.traceback_of(bad)
    assert f"job {bad} is not to be successful" in str(trace)
    counts = journal.run_counts()
    assert [counts[job_id] for job_id in ids] == [1] * len(ids), "nothing was run again"
    assert len(journal.runs()) == before + len(ids)
    refused = worker.events("settle.refused")
    assert len(refused) == 1 and f"job={bad}" in refused[0], refused
    assert not worker.events("claim.lost")


def test_a_log_that_takes_nothing_for_a_while_makes_no_success_an_exception(
    queue_db, produce, spawn_worker
):
    """As when the log is partitioned and the day's partition is missing."""
    worker = spawn_worker(queue_db, *lane(), "--threads", "2", args=["sleep"])
    warm_up(queue_db, produce, NewJob("sleep", b"0"))
    queue_db.execute("ALTER TABLE pgqueuer_log ADD CONSTRAINT missing CHECK (status IN ('queued',"
                     " 'picked')) NOT VALID")
    ids = produce(queue_db, [NewJob("sleep", b"1")] * 100)
    wait_until(lambda: len(worker.events("settle.failed")) >= 20, 10, "outcomes are refused")
    queue_db.execute("ALTER TABLE pgqueuer_log DROP CONSTRAINT missing")
    drained(queue_db)
    worker.stop_cleanly()
    assert {job_id: queue_db.log_of(job_id)[-1] for job_id in ids} == dict.fromkeys(ids, "successful")
    assert not worker.events("settle.refused")


# ---- the end of a lease ----


def test_a_job_that_outlives_its_lease_goes_on_as_a_picked_one_and_every_time_is_told(
    queue_db, produce, spawn_worker, journal
):
    """`picked` in the log is the time of the claim, the row's are those of the demotion, the end's that
    of the settle."""
    lease, run_ms = 0.6, 2600  # it runs on for longer than the time between two beats, 1.2 s
    worker = spawn_worker(queue_db, *lane(lease), "--heartbeat-timeout", "2.4", "--threads", "2",
                          args=["sleep"])
    begin = queue_db.value("SELECT clock_timestamp()")
    slow, quick = produce(queue_db, [NewJob("sleep", str(run_ms).encode()), NewJob("sleep", b"1")])
    journal.wait_runs(2)

    def row_of_demoted():
        job = queue_db.job(slow)
        return job if job and job["status"] == "picked" else None

    demoted = wait_until(row_of_demoted, 10, "the slow job is demoted")
    assert str(demoted["queue_manager_id"]) == worker.worker_id
    assert demoted["slot"] is None and demoted["attempts"] == 0

    def beaten_on():
        job = queue_db.job(slow)
        assert job is not None, "no heartbeat between the demotion and the end"
        return job["heartbeat"] > demoted["heartbeat"] and job

    beaten = wait_until(beaten_on, 10, "a heartbeat")
    assert beaten["updated"] == demoted["updated"], "the claim's token stays"
    drained(queue_db)
    worker.stop_cleanly()
    rows = queue_db.rows("SELECT status::text, created FROM pgqueuer_log WHERE job_id = %s ORDER BY id",
                         [slow])
    assert [status for status, _ in rows] == ENDED
    queued, picked, ended = [created for _, created in rows]
    of_quick = queue_db.rows("SELECT status::text, created FROM pgqueuer_log WHERE job_id = %s"
                             " ORDER BY id", [quick])
    assert [status for status, _ in of_quick] == ENDED
    assert begin <= queued <= picked and of_quick[1][1] == picked, "one claim, one time"
    held = (demoted["updated"] - picked).total_seconds()
    print(f"demoted after {held:.3f} s")
    # Sooner than the deadline only if the lane was wanted for something else.
    assert 0 < held < lease + BUSY_SECONDS
    # Both are clock_timestamp() in one statement, and so is the end of the job beside it.
    assert abs((demoted["heartbeat"] - demoted["updated"]).total_seconds()) < 0.1
    assert abs((of_quick[2][1] - demoted["updated"]).total_seconds()) < 0.1
    assert (ended - picked).total_seconds() >= run_ms / 1000 * 0.95
    assert ended > beaten["heartbeat"]


def test_what_has_not_started_at_the_deadline_never_starts_in_its_lease_and_is_announced(
    queue_db, produce, spawn_worker, journal
):
    """A chunk is half done at the deadline, again and again. The neighbour is idle and looks only when
    it is told."""
    lease = 0.3
    worker = spawn_worker(queue_db, *lane(lease), "--threads", "1", "--lanes", "1", args=["sleep"])
    ids = set(warm_up(queue_db, produce, NewJob("sleep", b"0")))
    with queue_db.connect() as listener:
        listener.execute("LISTEN ch_pgqueuer")
        slow = produce(queue_db, [NewJob("sleep", b"200")] * 12)
        drained(queue_db)
        told = [notify.payload for notify in listener.notifies(timeout=0)]
    worker.stop_cleanly()
    operations = [json.loads(text).get("operation") for text in told]
    assert "update" in operations, f"nothing was announced: {operations[:5]}"
    runs = journal.runs()
    assert sorted(run.job_id for run in runs) == sorted(ids | set(slow))
    check_starts(queue_db, [run for run in runs if run.job_id in slow], lease)
    claims = queue_db.value("SELECT count(DISTINCT created) FROM pgqueuer_log"
                            " WHERE status = 'picked' AND job_id = ANY (%s)", [slow])
    assert claims < len(slow), "no lease had several jobs: there was no chunk"


def check_starts(database, runs, lease):
    """Every run began within the lease that its job was claimed in. The `picked` row in the log has the
    server's time of the claim; the worker counts from its answer. What begins too late begins when the
    second job of 200 ms has ended."""
    offset = time.time_ns() - time.monotonic_ns()
    assert runs
    for run in runs:
        claimed = database.value("SELECT extract(epoch FROM max(created)) FROM pgqueuer_log"
                                 " WHERE job_id = %s AND status = 'picked'", [run.job_id])
        late = (run.start_ns + offset) / 1e9 - float(claimed)
        assert -0.05 < late < lease + 0.09, f"job {run.job_id} began {late:.3f} s after its claim"


def test_an_idle_neighbour_starts_what_a_lease_left_unstarted(queue_db, produce, spawn_worker, journal):
    """The first worker's only thread is busy with a long job; what waits behind it is free at the
    deadline."""
    first = spawn_worker(queue_db, *lane(1.0), "--threads", "1", "--lanes", "1",
                         args=["sleep", "gate"])
    quick = warm_up(queue_db, produce, NewJob("sleep", b"0"))
    [long] = produce(queue_db, [NewJob("gate", b"", priority=1)])
    journal.wait_runs(61)
    wait_until(lambda: (queue_db.job(long) or {}).get("status") == "picked", 10, "it is demoted")
    waiting = produce(queue_db, [NewJob("sleep", b"0")] * 5)
    second = spawn_worker(queue_db, *lane(), args=["sleep"])
    begin = time.monotonic()
    wait_until(lambda: set(waiting) <= set(journal.run_counts()), 5 * (1.0 + FOUND_SECONDS),
               lambda: f"the neighbour starts them, leased: {leased(queue_db)}")
    print(f"started {time.monotonic() - begin:.2f} s after the neighbour had come")
    assert {run.pid for run in journal.runs() if run.job_id in waiting} == {second.pid}
    # Until a thread is free, the first one leaves them to others.
    first.send(signal.SIGUSR1)
    first.wait_log(r"worker\.state")
    assert shown(first.log(), "claimed") <= len(quick) + 1 + 2 * len(waiting)
    open_gate(journal)
    drained(queue_db)
    first.stop_cleanly()
    second.stop_cleanly()
    assert set(journal.run_counts().values()) == {1}


# ---- a holder that dies ----


def test_an_idle_worker_that_saw_only_locked_rows_starts_the_job_when_its_holder_is_killed(
    queue_db, produce, spawn_worker, journal, record_property
):
    """Nobody tells it: the row was locked when it looked, and nothing changes when the lock goes."""
    holder = spawn_worker(queue_db, *lane(LEASE_MAX), args=["job=gate"])
    [job_id] = produce(queue_db, [NewJob("job", b"")])
    journal.wait_runs(1)
    idle = spawn_worker(queue_db, *lane(), args=["job=sleep"])
    probed = ("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
              " AND state = 'idle' AND query LIKE '%AS due,%'")
    wait_until(lambda: queue_db.value(probed) >= 2, 10, "both have looked, and are idle")
    assert leased(queue_db) == [job_id], "the lease ended before the test: the machine is too slow"
    killed = time.monotonic_ns()
    holder.kill()
    runs = journal.wait_runs(2, deadline=5 * FOUND_SECONDS)
    waited = (runs[1].start_ns - killed) / 1e9
    record_property("found", round(waited, 2))
    print(f"started {waited:.2f} s after the kill")
    assert runs[1].pid == idle.pid and runs[1].job_id == job_id
    drained(queue_db)
    idle.stop_cleanly()
    assert queue_db.log_of(job_id) == ENDED


def test_the_leased_jobs_of_a_killed_worker_are_free_at_once_and_each_runs_once_more_at_most(
    queue_db, produce, spawn_worker, journal, record_property
):
    """No heartbeat is waited for; the timeout is far away."""
    options = [*lane(LEASE_MAX), "--threads", "4"]
    victim = spawn_worker(queue_db, *options, args=["sleep", "gate"])
    quick = warm_up(queue_db, produce, NewJob("sleep", b"0"))
    ids = produce(queue_db, [NewJob("gate", b"")] * 12)
    journal.wait_runs(len(quick) + 4)
    held = leased(queue_db)
    assert len(held) > 4, f"only {held} are leased: none waits for a thread"
    heir = spawn_worker(queue_db, *options, "--threads", "16", args=["gate"])
    mine = {run.job_id for run in journal.runs() if run.pid == victim.pid and run.job_id in ids}
    killed = time.monotonic_ns()
    victim.kill()
    wait_until(lambda: {run.job_id for run in journal.runs() if run.pid == heir.pid} == set(ids),
               5 * FOUND_SECONDS, "the neighbour runs all of them")
    last = max(run.start_ns for run in journal.runs() if run.pid == heir.pid)
    record_property("found", round((last - killed) / 1e9, 2))
    print(f"the last started {(last - killed) / 1e9:.2f} s after the kill")
    open_gate(journal)
    drained(queue_db)
    heir.stop_cleanly()
    counts = journal.run_counts()
    assert {job_id: counts[job_id] for job_id in ids} == {
        job_id: 2 if job_id in mine else 1 for job_id in ids}
    assert all(queue_db.log_of(job_id)[-1] == "successful" for job_id in ids)
    assert queue_db.log_counts()["successful"] == len(ids) + len(quick)
