"""A life of a queue in every combination of who produces, who works, and who cancels and requeues. Whoever
it was: the rows of the log, the events, the statistics and what a dashboard shows are the same."""

import collections
import itertools
import json
import os

import pytest

from lib.jobs import NewJob
from lib.waiting import wait_until

SIDES = ("c", "python")
# ours on each lane, in a soak
WORKERS = ("c", "c row", "c lease", "python") if os.environ.get("PGQUEUER_SOAK") else SIDES
HOUR_MS = 3_600_000

# A job each: what it is, and the statuses of its log.
LIVES = {
    "low": (NewJob("ok", b"x" * 3000, priority=-1, headers='{"trace": {"x": 1}}'),
            ["queued", "picked", "successful"]),
    "high": (NewJob("ok", b"", priority=7, dedupe_key="key"), ["queued", "picked", "successful"]),
    "fails": (NewJob("fail", b""), ["queued", "picked", "exception"]),
    "held": (NewJob("hold", b""), ["queued", "picked", "failed", "canceled"]),
    "requeued": (NewJob("hold_unless_open", b""),
                 ["queued", "picked", "failed", "queued", "picked", "successful"]),
    "retried": (NewJob("retry_once", b"20"), ["queued", "picked", "queued", "picked", "successful"]),
    "running": (NewJob("watch", b""), ["queued", "picked", "canceled"]),
    "waiting": (NewJob("later", b"", delay_ms=HOUR_MS), ["queued", "canceled"]),
}
CANCELLED = ("held", "running", "waiting")
ENTRYPOINTS = ["ok", "fail", "hold", "hold_unless_open", "retry_once", "watch", "later=ok"]
# How often a run of each entrypoint came to an end, as the dashboard's percentiles count it.
RUNS_ENDED = {"ok": 2, "fail": 1, "hold": 1, "hold_unless_open": 2, "retry_once": 1, "watch": 1}


@pytest.fixture
def produce_by(produce, python_enqueue):
    return {"c": produce, "python": python_enqueue}


@pytest.fixture
def work(spawn_worker, python_worker):
    options = ("--dequeue-timeout", "0.5", "--log-aggregation-interval", "0.05")

    def start(worker, database):
        side, *lane = worker.split(" ")
        if side == "python":
            return python_worker(database, *options, entrypoints=ENTRYPOINTS)
        return spawn_worker(database, *options, "--lane", *(lane or ["auto"]), args=ENTRYPOINTS,
                            env={"PGQUEUER_HEALTH_CHECK_INTERVAL": "0.2"})

    return start


@pytest.fixture
def act_by(pgqueuer, python_run):
    """Cancels some jobs and requeues one."""

    def c(database, cancelled, requeued):
        for command in (["cancel", "--yes", *cancelled], ["requeue", requeued]):
            done = pgqueuer(*command, dsn=database)
            assert done.returncode == 0, done.stderr

    def python(database, cancelled, requeued):
        python_run(database, "py_act.py", "cancel", *cancelled, "then", "requeue", requeued)

    return {"c": c, "python": python}


@pytest.mark.scenario("combination.life", "events.accepted")
@pytest.mark.parametrize("producer, worker, actor", list(itertools.product(SIDES, WORKERS, SIDES)))
def test_a_queue_lives_the_same_whoever_produces_works_and_acts(
    queue_db, produce_by, work, act_by, python_run, journal, producer, worker, actor
):
    with queue_db.connect() as listener:
        listener.execute("LISTEN ch_pgqueuer")
        running = work(worker, queue_db)
        ids = dict(zip(LIVES, produce_by[producer](queue_db, [job for job, _ in LIVES.values()])))
        live(queue_db, journal, ids, act_by[actor])
        assert running.stop() == 0, running.log()
        payloads = [event.payload for event in listener.notifies(timeout=0.1)]
    check_rows(queue_db, ids)
    check_runs(journal, ids)
    shown = json.loads(python_run(queue_db, "py_dashboard.py", stdin="\n".join(payloads)).stdout)
    check_events(shown["events"], ids, worker, actor)
    check_dashboard(shown, ids)


def live(database, journal, ids, act):
    def log_is(name, length):
        return database.log_of(ids[name]) == LIVES[name][1][:length]

    wait_until(lambda: log_is("held", 3) and log_is("requeued", 3), 20, "two jobs are held")
    wait_until(lambda: journal.runs_of(ids["running"]), 20, "the job to cancel runs")
    journal.path.with_name(journal.path.name + ".gate").touch()
    act(database, [ids[name] for name in CANCELLED], ids["requeued"])
    wait_until(lambda: database.job_count() == 0, 20,
               lambda: f"all jobs end, left: {database.rows('SELECT * FROM pgqueuer')}")


def check_rows(database, ids):
    assert {name: database.log_of(ids[name]) for name in LIVES} == {
        name: statuses for name, (_, statuses) in LIVES.items()}
    priorities = dict(database.rows("SELECT job_id, max(priority) FROM pgqueuer_log GROUP BY job_id"
                                    " HAVING max(priority) = min(priority)"))
    assert priorities == {ids[name]: job.priority for name, (job, _) in LIVES.items()}


def check_runs(journal, ids):
    names = {job_id: name for name, job_id in ids.items()}
    for run in journal.runs():
        job, _ = LIVES[names[run.job_id]]
        assert (run.entrypoint, run.priority, run.size, run.sha256) == (
            job.entrypoint, job.priority, job.size, job.sha256)
        assert json.loads(run.headers or "null") == json.loads(job.headers or "null")
    ends = {name: [run.outcome for run in journal.runs_of(job_id)] for name, job_id in ids.items()}
    assert [run.attempts for run in journal.runs_of(ids["retried"])] == [0, 1]
    assert [run.attempts for run in journal.runs_of(ids["requeued"])] == [0, 0]
    assert ends == {"low": ["done"], "high": ["done"], "fails": ["failed"], "held": ["failed"],
                    "requeued": ["failed", "done"], "retried": ["retry", "done"],
                    "running": ["cancelled"], "waiting": []}


def check_events(events, ids, worker, actor):
    assert not [event for event in events if event["type"] == "refused"]
    told = {job_id for event in events if event["type"] == "cancellation_event"
            for job_id in event["ids"]}  # ours tells of a running job twice
    assert told == {ids[name] for name in CANCELLED}
    operations = collections.Counter(event["operation"] for event in events
                                     if event["type"] == "table_changed_event")
    assert operations["insert"] == 1 and operations["delete"] >= 2
    # of a retry and of a requeue, which are silent upstream
    assert operations["update"] >= (worker != "python") + (actor == "c")
    if worker != "python":
        assert [event for event in events if event["type"] == "health_check_event"]


def check_dashboard(shown, ids):
    statuses = {ids[name]: statuses for name, (_, statuses) in LIVES.items()}
    assert dict(map(tuple, shown["status"])) == {i: rows[-1] for i, rows in statuses.items()}
    assert {int(job_id): [row["status"] for row in rows] for job_id, rows in shown["history"].items()} \
        == statuses
    [failure] = shown["exceptions"]
    assert (failure["job_id"], failure["traceback"]["exception_type"],
            failure["traceback"]["exception_message"]) == (ids["fails"], "ValueError", "boom")
    assert not any(shown[empty] for empty in ("failed", "queue", "size", "age", "workers", "stale"))

    counts = collections.Counter((job.entrypoint, status)
                                 for job, statuses in LIVES.values() for status in statuses)
    assert {(row["entrypoint"], row["status"]): row["total_count"] for row in shown["summary"]} == counts
    for what in ("timeseries", "statistics"):
        sums = collections.Counter()
        for row in shown[what]:
            sums[row["entrypoint"], row["status"]] += row["count"]
        assert sums == counts, what
    assert shown["unaggregated"] == 0
    assert {row["entrypoint"]: row["completed"] for row in shown["durations"]} == RUNS_ENDED
    assert {row["table_name"]: row["persistence"] for row in shown["tables"]} == dict.fromkeys(
        ("pgqueuer", "pgqueuer_log", "pgqueuer_schedules", "pgqueuer_statistics"), "LOGGED")
