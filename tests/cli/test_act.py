"""`pgqueuer cancel` and `requeue`: what they say, ask and refuse."""

import os
import pty

import pytest

from lib import program
from lib.refusal import CONFLICT, DONE, FAILED, NOT_FOUND, SCHEMA, USAGE, assert_refused

IDS_MAX = 100_000


def add(database, status, heartbeat="now()", dedupe_key=None):
    return database.value(
        "INSERT INTO pgqueuer (priority, status, entrypoint, heartbeat, dedupe_key)"
        f" VALUES (0, %s, 'e', {heartbeat}, %s) RETURNING id", [status, dedupe_key],
    )


def test_cancel_says_what_it_did(pgqueuer, queue_db):
    ids = [add(queue_db, status) for status in ("queued", "failed", "picked")]
    done = pgqueuer("cancel", "--yes", *ids, dsn=queue_db)
    assert (done.returncode, done.stdout, done.stderr) == (
        DONE, "Cancelled 2 job(s), told the worker of 1.\n", "")
    done = pgqueuer("cancel", add(queue_db, "queued"), dsn=queue_db)
    assert (done.returncode, done.stdout, done.stderr) == (DONE, "Cancelled 1 job(s).\n", "")


def test_cancel_of_jobs_that_are_not_there(pgqueuer, queue_db):
    assert_refused(pgqueuer("cancel", 77, dsn=queue_db), NOT_FOUND, "none of the jobs", "1 unknown")
    assert_refused(pgqueuer("cancel", "--yes", 77, 78, 77, dsn=queue_db), NOT_FOUND, "2 unknown")
    assert queue_db.log_counts() == {}
    done = pgqueuer("cancel", "--yes", add(queue_db, "queued"), 77, dsn=queue_db)
    assert (done.returncode, done.stdout) == (FAILED, "Cancelled 1 job(s).\n")
    assert "some of the jobs are not there: 1 unknown" in done.stderr


def test_cancel_of_several_jobs_needs_a_yes(pgqueuer, queue_db):
    ids = [add(queue_db, "queued") for _ in range(2)]
    assert_refused(pgqueuer("cancel", *ids, dsn=queue_db), USAGE, "--yes", "terminal")
    assert (queue_db.job_count(), queue_db.log_counts()) == (2, {})


@pytest.mark.parametrize("answer, status, left", [("n\n", FAILED, 2), ("\n", FAILED, 2),
                                                  ("y\n", DONE, 0)])
def test_on_a_terminal_cancel_asks(processes, home, queue_db, answer, status, left):
    ids = [str(add(queue_db, "queued")) for _ in range(2)]
    terminal, other = pty.openpty()
    os.write(terminal, answer.encode())
    process = processes([program.PROGRAM, "cancel", *ids],
                        program.clean_environment(home, PGQUEUER_DSN=queue_db.dsn), stdin=other)
    assert process.wait() == status, process.log()
    os.close(other)
    os.close(terminal)
    assert "Cancel 2 jobs? [y/N]" in process.log()
    assert queue_db.job_count() == left


def test_cancel_takes_the_heartbeat_timeout(pgqueuer, queue_db):
    job_id = add(queue_db, "picked", "now() - interval '5 s'")
    done = pgqueuer("cancel", job_id, dsn=queue_db)
    assert done.stdout == "Cancelled 0 job(s), told the worker of 1.\n"
    done = pgqueuer("cancel", job_id, "--heartbeat-timeout", "4", dsn=queue_db)
    assert done.stdout == "Cancelled 1 job(s).\n"


def test_requeue_says_what_python_says(pgqueuer, python_pgq, queue_db):
    """The number of ids that were given, and no failure for unknown ones."""
    for arguments in (["7"], ["7", "8", "7"]):
        ours = pgqueuer("requeue", *arguments, dsn=queue_db)
        theirs = python_pgq(queue_db, "requeue", *arguments)
        assert (ours.returncode, ours.stdout, ours.stderr) == (
            theirs.returncode, theirs.stdout, theirs.stderr)
    held = add(queue_db, "failed")
    done = pgqueuer("requeue", held, 99, dsn=queue_db)
    assert (done.returncode, done.stdout) == (DONE, "Re-queued 2 job(s).\n")
    assert queue_db.job(held)["status"] == "queued"


@pytest.mark.parametrize("policy", ["full", "terminal", "failures"])
def test_requeue_logs_by_its_policy(pgqueuer, queue_db, policy):
    held = add(queue_db, "failed")
    assert pgqueuer("requeue", held, "--log-policy", policy, dsn=queue_db).returncode == DONE
    assert queue_db.log_of(held) == (["queued"] if policy == "full" else [])


def test_requeue_with_a_taken_dedupe_key_is_a_conflict(pgqueuer, queue_db):
    held = add(queue_db, "failed", dedupe_key="k")
    add(queue_db, "queued", dedupe_key="k")
    assert_refused(pgqueuer("requeue", held, dsn=queue_db), CONFLICT, "dedupe key", "none was requeued")


@pytest.mark.parametrize("name", ["cancel", "requeue"])
def test_what_is_no_id_is_a_usage_error(pgqueuer, queue_db, name):
    job_id = add(queue_db, "failed")
    for word in ("x", "0", "1.0", "", "7x", " 7", "9223372036854775808", "0x10", "७"):
        assert_refused(pgqueuer(name, job_id, word, "--", dsn=queue_db), USAGE, "id of a job")
    assert_refused(pgqueuer(name, "--", "-7", dsn=queue_db), USAGE, "'-7'")
    assert_refused(pgqueuer(name, dsn=queue_db), USAGE, "ID...")
    assert queue_db.job(job_id)["status"] == "failed" and queue_db.log_counts() == {}


@pytest.mark.parametrize("name", ["cancel", "requeue"])
def test_without_the_schema_it_says_so(pgqueuer, db, name):
    assert_refused(pgqueuer(name, 1, dsn=db), SCHEMA, "pgqueuer install")
