"""The command lines of both sides: what Python's commands show of either side's jobs, and exit statuses."""

import json

import pytest

from lib.jobs import NewJob
from lib.refusal import CANNOT_CONNECT, CONFLICT, DONE, FAILED, SCHEMA, USAGE
from lib.waiting import wait_until

UNREACHABLE = "postgresql://127.0.0.1:1/nowhere"
PRESENT, ABSENT = ("verify", "--expect", "present"), ("verify", "--expect", "absent")
KEYED = ("queue", "e", "x", "--dedupe-key", "k")

# One after the other on one database, which is empty at first: arguments, Python's status and ours.
STATUSES = [
    ((), 2, USAGE),
    (("nonsense",), 2, USAGE),
    (("verify",), 2, USAGE),
    (PRESENT, 1, FAILED),
    (ABSENT, 0, DONE),
    (("queue", "e", "x"), 1, SCHEMA),
    (("install", "--durability", "nothing"), 2, USAGE),
    (("install",), 0, DONE),
    (("install",), 1, FAILED),
    (PRESENT, 0, DONE),
    (ABSENT, 1, FAILED),
    (("upgrade", "--plan"), 0, DONE),
    (("upgrade",), 0, DONE),
    (("upgrade",), 0, DONE),
    (("queue", "e", "x"), 0, DONE),
    (KEYED, 0, DONE),
    (KEYED, 1, CONFLICT),
    ((*KEYED, "--on-conflict", "skip"), 0, DONE),
    ((*KEYED, "--on-conflict", "nothing"), 2, USAGE),
    (("queue",), 2, USAGE),
    (("requeue", "1", "4711"), 0, DONE),
    (("requeue", "x"), 2, USAGE),
    (("requeue",), 2, USAGE),
    (("durability", "balanced"), 0, DONE),
    (("durability", "nothing"), 2, USAGE),
    (("autovac",), 0, DONE),
    (("autovac", "--rollback"), 0, DONE),
    (("sql", "install"), 0, DONE),
    (("sql", "nothing"), 2, USAGE),
    (("run",), 2, USAGE),
    (("uninstall",), 0, DONE),
    (("uninstall",), 0, DONE),
    (("requeue", "1"), 1, SCHEMA),
    (("--pg-dsn", UNREACHABLE, *PRESENT), 1, CANNOT_CONNECT),
]


@pytest.mark.scenario("cli.exit-status")
def test_exit_statuses_agree_on_success_and_usage_and_ours_say_more_of_failures(
    cluster, pgqueuer, python_run
):
    commands = [arguments for arguments, _, _ in STATUSES]
    found = {}
    for side in ("c", "python"):
        database = cluster.create_database()
        if side == "c":
            found[side] = [pgqueuer(*arguments, dsn=database).returncode for arguments in commands]
        else:
            found[side] = json.loads(
                python_run(database, "py_cli.py", stdin=json.dumps(commands)).stdout)
        cluster.drop_database(database)
    assert list(zip(commands, found["python"], found["c"])) == STATUSES
    for arguments, python, c in STATUSES:
        assert (c == python) if python in (0, 2) else c not in (0, 2), arguments


# -- what Python's commands show -----------------------------------------------------------------------

HOUR_MS = 3_600_000
JOBS = [NewJob("hold", b"abcd", priority=3, headers='{"trace": {"x": 1}}'), NewJob("gate", b""),
        NewJob("gate", b""), NewJob("other", b""), NewJob("nobodys", b""),
        NewJob("nobodys", b"", delay_ms=HOUR_MS)]
TIMES = {"created", "updated", "heartbeat", "execute_after", "oldest_created", "oldest_heartbeat",
         "newest_heartbeat"}


@pytest.mark.scenario("readers.held")
def test_pythons_commands_show_the_same_of_workers_of_either_side(
    cluster, queue_template, produce, spawn_worker, python_worker, python_pgq, journal
):
    shown = {}
    for side in ("c", "python"):
        database = cluster.create_database(queue_template)
        entrypoints = ["hold", "gate", "other=gate"]
        if side == "c":
            worker = spawn_worker(database, args=entrypoints)
        else:
            worker = python_worker(database, entrypoints=entrypoints)
        produce(database, JOBS)
        wait_until(lambda: database.job_count("status = 'failed'") == 1
                   and database.job_count("status = 'picked'") == 3, 20, "one is held, three run")
        owner = str(database.value("SELECT DISTINCT queue_manager_id FROM pgqueuer"
                                   " WHERE status = 'picked'"))
        shown[side] = {
            command[0]: json.loads(python_pgq(database, *command, "--json").stdout)
            for command in (["failed"], ["stale", "-t", "0"], ["workers"], ["backlog"])
        }
        check_times(shown[side])
        plain(shown[side], owner)
        journal.path.with_name(journal.path.name + ".gate").touch()
        wait_until(lambda: database.job_count("status = 'picked'") == 0, 20, "they end")
        assert worker.stop() == 0, worker.log()
        journal.path.with_name(journal.path.name + ".gate").unlink()
        cluster.drop_database(database)
    assert shown["c"] == shown["python"]
    assert shown["c"]["workers"] == [
        {"queue_manager_id": "the worker", "active_jobs": 3, "entrypoints": ["gate", "other"]}]
    assert [(row["entrypoint"], row["queued_count"]) for row in shown["c"]["backlog"]] == [("nobodys", 2)]
    assert [(row["id"], row["status"]) for row in shown["c"]["stale"]] == [
        (2, "picked"), (3, "picked"), (4, "picked")]
    [held] = shown["c"]["failed"]
    assert (held["id"], held["headers"], held["payload_bytes"]) == (1, {"trace": {"x": 1}}, 4)


def check_times(documents):
    """A heartbeat of now, ages of seconds: also what the worker did not write by itself."""
    for row in documents["stale"]:
        assert 0 <= row["seconds_since_heartbeat"] < 60
    for row in documents["backlog"]:
        assert 0 <= row["avg_age_seconds"] <= row["oldest_age_seconds"] < 60
    [worker] = documents["workers"]
    assert worker["oldest_heartbeat"] <= worker["newest_heartbeat"]


def plain(documents, owner):
    """Without what differs from run to run; in the order of ids."""
    for rows in documents.values():
        for row in rows:
            if row.get("queue_manager_id") == owner:
                row["queue_manager_id"] = "the worker"
            for name in [name for name in row if name in TIMES or name.endswith("_seconds")
                         or name.startswith("seconds_")]:
                del row[name]
        rows.sort(key=lambda row: row.get("id", 0))
