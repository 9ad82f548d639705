"""Cancel and requeue: what they do to rows, log and channel, and to running jobs."""

import json
import time

import pytest

from lib import lanes, program
from lib.jobs import NewJob
from lib.refusal import CONFLICT, DONE
from lib.waiting import wait_until

# The bound is one second on a machine that does nothing else.
TOLD_SECONDS = 1.0 * 5
# What the row of a job that a worker ran has to be without, wherever it leaves `picked`.
UNOWNED = {"queue_manager_id": None, "slot": None}


def open_gate(journal):
    journal.path.with_name(journal.path.name + ".gate").touch()


@pytest.fixture
def cancel(pgqueuer, queue_db):
    def run(*ids, status=DONE, says=None, options=()):
        done = pgqueuer("cancel", "--yes", *options, *ids, dsn=queue_db)
        assert done.returncode == status, done.stderr
        assert says is None or done.stdout == says
        return done

    return run


@pytest.fixture
def requeue(pgqueuer, queue_db):
    def run(*ids):
        done = pgqueuer("requeue", *ids, dsn=queue_db)
        assert done.returncode == DONE, done.stderr

    return run


def add(database, **columns):
    """A row as some worker or producer left it."""
    columns = {"priority": 3, "status": "queued", "entrypoint": "e", **columns}
    names, values = ", ".join(columns), ", ".join(["%s"] * len(columns))
    return database.value(f"INSERT INTO pgqueuer ({names}) VALUES ({values}) RETURNING id",
                          list(columns.values()))


def add_picked(database, age="0 s", **columns):
    job_id = add(database, status="picked", queue_manager_id="11111111-2222-3333-4444-555555555555",
                 **columns)
    database.execute("UPDATE pgqueuer SET heartbeat = now() - %s::interval WHERE id = %s",
                     [age, job_id])
    return job_id


class Channel:
    """What is sent on the queue's channel."""

    def __init__(self, database):
        self._connection = database.connect()
        self._connection.execute("LISTEN ch_pgqueuer")

    def events(self):
        """All so far: what the caller has seen committed has been sent."""
        self._connection.execute("SELECT 1")
        return [json.loads(notify.payload) for notify in self._connection.notifies(timeout=0)]

    def close(self):
        self._connection.close()


@pytest.fixture
def channel(queue_db):
    made = Channel(queue_db)
    yield made
    made.close()


def kinds(events):
    return [event.get("operation", event["type"]) for event in events]


# -- cancel: rows ------------------------------------------------------------------------------


def test_jobs_that_no_worker_runs_are_deleted_and_logged(queue_db, cancel, channel):
    ids = [
        add(queue_db, dedupe_key="k", payload=b"x"),
        add(queue_db, execute_after="2099-01-01T00:00:00Z"),
        add(queue_db, status="failed"),
        add_picked(queue_db, age="31 s", slot=0),
    ]
    other = add(queue_db)
    channel.events()
    cancel(*ids, says="Cancelled 4 job(s).\n")
    assert queue_db.rows("SELECT id FROM pgqueuer") == [(other,)]
    log = "SELECT job_id, status::text, priority, entrypoint, traceback, aggregated FROM pgqueuer_log"
    assert queue_db.rows(f"{log} ORDER BY job_id") == [
        (job_id, "canceled", 3, "e", None, False) for job_id in ids]
    events = channel.events()
    assert kinds(events) == ["cancellation_event", "delete"], "the workers are told first"
    assert events[0]["ids"] == ids and events[0]["channel"] == "ch_pgqueuer"
    add(queue_db, dedupe_key="k")
    add_picked(queue_db, slot=0)


def test_a_job_of_a_live_worker_is_left_to_it(queue_db, cancel, channel):
    job_id = add_picked(queue_db, age="20 s")
    row = queue_db.job(job_id)
    cancel(job_id, says="Cancelled 0 job(s), told the worker of 1.\n")
    assert queue_db.job(job_id) == row and queue_db.log_of(job_id) == []
    told = [event["ids"] for event in channel.events() if event["type"] == "cancellation_event"]
    # Once more for a worker that claimed between the event and the look.
    assert told == [[job_id], [job_id]]


def test_an_id_that_stands_twice_counts_once(queue_db, cancel, channel):
    first, second = add(queue_db), add(queue_db)
    channel.events()
    cancel(second, first, second, second, first, says="Cancelled 2 job(s).\n")
    assert channel.events()[0]["ids"] == [first, second]
    assert queue_db.log_counts() == {"canceled": 2}


def test_a_job_that_is_retried_meanwhile_is_cancelled_all_the_same(queue_db, cancel):
    """It goes back to the queue in the very transaction that found it picked."""
    picked, queued = add_picked(queue_db), add(queue_db)
    queue_db.execute(
        "CREATE FUNCTION retry() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE pgqueuer"
        " SET status = 'queued', attempts = 1, execute_after = now() + interval '1 h'"
        " WHERE status = 'picked'; RETURN NULL; END $$;"
        "CREATE TRIGGER retry AFTER DELETE ON pgqueuer EXECUTE FUNCTION retry()"
    )
    cancel(picked, queued, says="Cancelled 2 job(s).\n")
    assert queue_db.job_count() == 0
    assert queue_db.log_of(picked) == queue_db.log_of(queued) == ["canceled"]


def test_a_job_that_is_claimed_while_cancel_waits_for_it_is_not_deleted(queue_db, processes, home):
    job_id = add(queue_db)
    with queue_db.connect(autocommit=False) as claim:
        claim.execute("UPDATE pgqueuer SET status = 'picked', heartbeat = now() WHERE id = %s",
                      [job_id])
        process = processes([program.PROGRAM, "cancel", str(job_id)],
                            program.clean_environment(home, PGQUEUER_DSN=queue_db.dsn))
        waiting = ("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                   " AND datname = current_database()")
        wait_until(lambda: queue_db.value(waiting) == 1, 10, "cancel waits for the row")
        claim.commit()
    assert process.wait() == DONE
    assert process.log() == "Cancelled 0 job(s), told the worker of 1.\n"
    assert queue_db.job(job_id)["status"] == "picked" and queue_db.log_of(job_id) == []


def test_a_job_whose_worker_is_quicker_than_cancel_is_not_unknown(queue_db, produce, processes, home):
    """It ends between the event and the look, which a lock on the first job holds up: the rows are
    looked at in groups of 1000, so the last one has not been read then."""
    ids = produce(queue_db, [NewJob("e", b"")] * 1000)
    running = add_picked(queue_db)
    with queue_db.connect(autocommit=False) as lock:
        lock.execute("SELECT FROM pgqueuer WHERE id = %s FOR UPDATE", [ids[0]])
        process = processes([program.PROGRAM, "cancel", "--yes", *map(str, ids), str(running)],
                            program.clean_environment(home, PGQUEUER_DSN=queue_db.dsn))
        waiting = ("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                   " AND datname = current_database()")
        wait_until(lambda: queue_db.value(waiting) == 1, 10, "cancel waits for the row")
        queue_db.execute("DELETE FROM pgqueuer WHERE id = %s", [running])
        lock.commit()
    assert process.wait() == DONE
    assert process.log() == "Cancelled 1000 job(s), told the worker of 1.\n"


@pytest.mark.scenario("cancel.many")
def test_five_thousand_jobs_are_cancelled_and_told_in_events_of_the_right_size(
    queue_db, produce, cancel, channel
):
    queue_db.execute("SELECT setval('pgqueuer_id_seq', 1000000000000000000)")
    ids = produce(queue_db, [NewJob("e", b"")] * 5000)
    channel.events()
    cancel(*ids, says="Cancelled 5000 job(s).\n")
    assert queue_db.job_count() == 0
    assert queue_db.log_counts() == {"queued": 5000, "canceled": 5000}
    events = channel.events()
    told = [event["ids"] for event in events if event["type"] == "cancellation_event"]
    assert sum(told, []) == ids and len(told) < 15
    assert kinds(events) == ["cancellation_event"] * len(told) + ["delete"] * 5


# -- requeue: rows -----------------------------------------------------------------------------


def test_a_held_job_is_queued_as_if_it_had_never_run(queue_db, requeue, channel):
    held = add(queue_db, status="failed", attempts=4, payload=b"p", dedupe_key="k", slot=2,
               execute_after="2099-01-01T00:00:00Z", headers='{"a": 1}', priority=-9)
    before = queue_db.job(held)
    queue_db.execute("UPDATE pgqueuer SET updated = now() - interval '1 h'")
    channel.events()
    requeue(held)
    after = queue_db.job(held)
    changed = {"status": "queued", "attempts": 0, **UNOWNED, "execute_after": after["updated"],
               "updated": after["updated"]}
    assert after == {**before, **changed}
    assert queue_db.value("SELECT now() - updated < interval '1 min' FROM pgqueuer")
    assert queue_db.rows("SELECT status::text, priority, entrypoint, traceback FROM pgqueuer_log") == [
        ("queued", -9, "e", None)]
    [event] = channel.events()
    assert (event["type"], event["operation"], event["table"], event["channel"]) == (
        "table_changed_event", "update", "pgqueuer", "ch_pgqueuer")


def test_jobs_that_are_not_held_are_passed_over(queue_db, requeue, channel):
    rows = [add(queue_db, attempts=2), add_picked(queue_db), add(queue_db, attempts=1)]
    before = [queue_db.job(job_id) for job_id in rows]
    channel.events()
    requeue(*rows, 4711)
    assert [queue_db.job(job_id) for job_id in rows] == before
    assert queue_db.log_counts() == {} and channel.events() == []
    held = [add(queue_db, status="failed") for _ in range(3)]
    requeue(*held, rows[0], held[0])
    assert queue_db.log_counts() == {"queued": 3}
    assert kinds(channel.events()) == ["insert"] * 3 + ["update"]


@pytest.mark.parametrize("other", ["queued", "picked", "held too"])
def test_a_taken_dedupe_key_requeues_none(queue_db, pgqueuer, channel, other):
    held = [add(queue_db, status="failed", attempts=1), add(queue_db, status="failed", dedupe_key="k")]
    third = add(queue_db, status="failed" if other == "held too" else other, dedupe_key="k")
    before = [queue_db.job(job_id) for job_id in held]
    channel.events()
    done = pgqueuer("requeue", *held, *([third] if other == "held too" else []), dsn=queue_db)
    assert done.returncode == CONFLICT and "dedupe key" in done.stderr
    assert [queue_db.job(job_id) for job_id in held] == before
    assert queue_db.log_counts() == {} and channel.events() == []


# -- jobs that a worker of ours has --------------------------------------------------------------


def ended(database, job_id, status, deadline=20):
    wait_until(lambda: database.log_of(job_id)[-1:] == [status], deadline,
               lambda: f"job {job_id} ends as {status}, log: {database.log_of(job_id)}")


def test_the_handler_of_a_running_job_is_told(queue_db, produce, spawn_worker, cancel, journal):
    worker = spawn_worker(queue_db, "--dequeue-timeout", "600", args=["watch"])
    [job_id] = produce(queue_db, [NewJob("watch", b"", dedupe_key="k")])
    journal.wait_runs(1)
    begin = time.monotonic_ns()
    cancel(job_id, says="Cancelled 0 job(s), told the worker of 1.\n")
    [run] = journal.wait_runs(1, ended=True)
    assert run.outcome == "cancelled" and run.end_ns - begin < TOLD_SECONDS * 1e9
    wait_until(lambda: queue_db.job_count() == 0, 10, "the row goes")
    worker.stop_cleanly()
    assert queue_db.log_of(job_id) == ["queued", "picked", "canceled"]
    assert queue_db.traceback_of(job_id, "canceled") is None
    assert len(worker.events("job.cancelled")) == 1


@pytest.mark.parametrize("behaviour", ["sleep", "sleep_fail", "sleep_hold", "sleep_retry"])
def test_a_cancelled_job_ends_as_canceled_whatever_its_handler_says(
    queue_db, produce, spawn_worker, cancel, journal, behaviour
):
    worker = spawn_worker(queue_db, args=[f"job={behaviour}"])
    [job_id] = produce(queue_db, [NewJob("job", b"1500")])
    journal.wait_runs(1)
    cancel(job_id, says="Cancelled 0 job(s), told the worker of 1.\n")
    wait_until(lambda: queue_db.job_count() == 0, 10, "the row goes")
    worker.stop_cleanly()
    assert queue_db.log_of(job_id) == ["queued", "picked", "canceled"]
    assert len(journal.runs_of(job_id)) == 1


@pytest.mark.scenario("cancel.before-start-c")
def test_a_job_that_waits_behind_a_busy_thread_never_starts(
    queue_db, produce, spawn_worker, cancel, journal
):
    worker = spawn_worker(queue_db, "--threads", "1", "--lanes", "1", "--lane", "row",
                          args=["gate", "ok"])
    # A worker takes jobs ahead once it has seen that they are short.
    produce(queue_db, [NewJob("ok", b"")] * 20)
    wait_until(lambda: queue_db.job_count() == 0, 10, "the short jobs")
    busy, waiting = produce(queue_db, [NewJob("gate", b"", priority=1), NewJob("ok", b"")])
    wait_until(lambda: queue_db.job(waiting)["status"] == "picked", 10, "the second job is claimed")
    cancel(waiting, says="Cancelled 0 job(s), told the worker of 1.\n")
    ended(queue_db, waiting, "canceled")
    assert queue_db.log_of(busy) == ["queued", "picked"], "the thread is still busy"
    open_gate(journal)
    ended(queue_db, busy, "successful")
    worker.stop_cleanly()
    assert queue_db.log_of(waiting) == ["queued", "picked", "canceled"]
    assert len(journal.runs_of(busy)) == 1 and journal.runs_of(waiting) == []


@pytest.mark.scenario("cancel.before-start-c")
def test_a_leased_job_that_waits_behind_a_busy_thread_never_starts_and_goes_with_the_lease(
    queue_db, produce, spawn_worker, cancel, journal
):
    """The event takes it from the handlers at once; whoever cancels it waits for its row, and for no
    longer than the lease lasts."""
    worker = spawn_worker(queue_db, "--threads", "1", "--lanes", "1", "--lane", "lease", "--lease",
                          "2", args=["gate", "ok"])
    produce(queue_db, [NewJob("ok", b"")] * 20)
    wait_until(lambda: queue_db.job_count() == 0, 10, "the short jobs")
    busy, waiting = produce(queue_db, [NewJob("gate", b"", priority=1), NewJob("ok", b"")])
    wait_until(lambda: lanes.leased(queue_db) >= {busy, waiting}, 10, "both jobs are leased")
    begin = time.monotonic()
    cancel(waiting, says="Cancelled 0 job(s), told the worker of 1.\n")
    assert time.monotonic() - begin < 2 + TOLD_SECONDS
    assert queue_db.job(waiting) is None and queue_db.log_of(waiting)[-1] == "canceled"
    [run] = journal.runs_of(busy)
    assert run.end_ns is None, "the thread is still busy"
    open_gate(journal)
    ended(queue_db, busy, "successful")
    worker.stop_cleanly()
    assert queue_db.log_of(waiting) == ["queued", "picked", "canceled"]
    assert len(journal.runs_of(busy)) == 1 and journal.runs_of(waiting) == []


@pytest.mark.scenario("cancel.before-start-c")
def test_an_event_that_comes_before_the_claim_counts(queue_db, produce, spawn_worker, journal):
    worker = spawn_worker(queue_db, "--dequeue-timeout", "600", args=["ok"])
    [before] = produce(queue_db, [NewJob("ok", b"")])
    ended(queue_db, before, "successful")
    event = {"channel": "ch_pgqueuer", "sent_at": "2026-11-24T00:30:09.510604Z",
             "type": "cancellation_event", "ids": [before + 1]}
    queue_db.execute("SELECT pg_notify('ch_pgqueuer', %s)", [json.dumps(event)])
    [cancelled, after] = produce(queue_db, [NewJob("ok", b"")] * 2)
    assert cancelled == before + 1
    ended(queue_db, cancelled, "canceled", deadline=10)
    ended(queue_db, after, "successful", deadline=10)
    worker.stop_cleanly()
    assert queue_db.log_of(cancelled) == ["queued", "picked", "canceled"]
    assert journal.run_counts() == {before: 1, after: 1}


@pytest.mark.scenario("cancel.event-alone")
def test_the_event_alone_ends_a_running_job(queue_db, produce, spawn_worker, journal):
    """As a producer of another release may send it: the row stays until the worker deletes it."""
    worker = spawn_worker(queue_db, args=["watch"])
    [job_id] = produce(queue_db, [NewJob("watch", b"")])
    journal.wait_runs(1)
    event = {"channel": "ch_pgqueuer", "sent_at": "2026-11-24T00:30:09.510604Z",
             "type": "cancellation_event", "ids": [4711, job_id]}
    queue_db.execute("SELECT pg_notify('ch_pgqueuer', %s)", [json.dumps(event)])
    ended(queue_db, job_id, "canceled")
    worker.stop_cleanly()
    assert queue_db.job_count() == 0
    assert queue_db.log_of(job_id) == ["queued", "picked", "canceled"]


def test_a_requeued_job_wakes_an_idle_worker(queue_db, requeue, spawn_worker, journal):
    worker = spawn_worker(queue_db, "--dequeue-timeout", "600", args=["e=ok"])
    held = add(queue_db, status="failed", attempts=3)
    begin = time.monotonic_ns()
    requeue(held)
    [run] = journal.wait_runs(1)
    assert run.attempts == 0 and run.start_ns - begin < TOLD_SECONDS * 1e9
    ended(queue_db, held, "successful")
    worker.stop_cleanly()
