"""`pgqueuer queue`: what it enqueues, and what it refuses without leaving anything half done."""

import datetime
import os
import re

import pytest

from lib.refusal import CONFLICT, DONE, FAILED, NOT_FOUND, USAGE, assert_refused

PAYLOAD_MAX = 64 * 1024 * 1024


@pytest.fixture
def queue(pgqueuer, queue_db):
    """Enqueues and returns the ids that were printed."""

    def run(*arguments, **options):
        done = pgqueuer("queue", *arguments, dsn=queue_db, **options)
        assert done.returncode == DONE, done.stderr
        return [int(number) for number in re.findall(r"\b\d+\b", done.stdout)]

    return run


@pytest.fixture
def refused(pgqueuer, queue_db):
    """A refused `queue` leaves neither a job nor a log row, and draws no id."""

    def run(status, *arguments, words=(), **options):
        before = queue_db.rows("SELECT * FROM pgqueuer ORDER BY id"), queue_db.log_counts()
        assert_refused(pgqueuer("queue", *arguments, dsn=queue_db, **options), status, *words)
        assert (queue_db.rows("SELECT * FROM pgqueuer ORDER BY id"), queue_db.log_counts()) == before

    return run


def test_a_job_with_everything(queue, queue_db):
    [job_id] = queue("thumbs", "hello", "--priority", "-7", "--headers", '{"trace": {"x": 1}}',
                     "--dedupe-key", "k1")
    job = queue_db.job(job_id)
    assert (job["entrypoint"], job["payload"], job["priority"], job["headers"], job["dedupe_key"],
            job["status"], job["attempts"], job["slot"]) == (
        "thumbs", b"hello", -7, {"trace": {"x": 1}}, "k1", "queued", 0, None)
    assert queue_db.log_of(job_id) == ["queued"]


@pytest.mark.parametrize("policy", ["full", "terminal", "failures"])
def test_the_log_policy_is_an_option_or_a_variable(queue, queue_db, policy):
    rows = ["queued"] if policy == "full" else []
    assert queue_db.log_of(*queue("e", "--log-policy", policy)) == rows
    assert queue_db.log_of(*queue("e", env={"PGQUEUER_LOG_POLICY": policy})) == rows


def test_another_log_policy_is_a_usage_error(refused):
    refused(USAGE, "e", "--log-policy", "none", words=["full, terminal, failures"])


def test_it_says_what_python_says(pgqueuer, queue_db):
    done = pgqueuer("queue", "e", dsn=queue_db)
    assert done.stdout == "Enqueued job 1.\n"
    pgqueuer("queue", "e", "--dedupe-key", "k", dsn=queue_db)
    done = pgqueuer("queue", "e", "--dedupe-key", "k", "--on-conflict", "skip", dsn=queue_db)
    assert (done.returncode, done.stdout) == (DONE, "Skipped: duplicate dedupe_key 'k'.\n")


def test_payloads_come_from_argument_stdin_and_file(queue, queue_db, tmp_path):
    every_byte = bytes(range(256)) * 3
    file = tmp_path / "payload"
    file.write_bytes(every_byte)
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    ids = queue("e", "text") + queue("e", "-", stdin=every_byte) + queue("e", f"@{file}")
    ids += queue("e", f"@{empty}") + queue("e", "") + queue("e")
    payloads = [queue_db.job(job_id)["payload"] for job_id in ids]
    assert payloads == [b"text", every_byte, every_byte, b"", b"", None]


def test_delay_and_time(queue, queue_db):
    [delayed] = queue("e", "--delay", "1.5")
    job = queue_db.job(delayed)
    assert job["execute_after"] - job["created"] == datetime.timedelta(seconds=1.5)
    for text in ("2031-05-06T07:08:09Z", "2031-05-06T08:08:09+01:00"):
        [at] = queue("e", "--at", text)
        assert queue_db.job(at)["execute_after"] == datetime.datetime(
            2031, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc)
    [past] = queue("e", "--at", "2001-01-01T00:00:00Z")
    assert queue_db.job(past)["execute_after"].year == 2001


def test_count(queue, pgqueuer, queue_db):
    done = pgqueuer("queue", "e", "x", "--count", "2500", dsn=queue_db)
    assert done.returncode == DONE, done.stderr
    assert queue_db.job_count("payload = 'x'") == 2500
    assert queue_db.log_counts() == {"queued": 2500}


@pytest.mark.parametrize("priority", [-(2**31), 2**31 - 1])
def test_the_bounds_of_a_priority(queue, queue_db, priority):
    [job_id] = queue("e", f"--priority={priority}")
    assert queue_db.job(job_id)["priority"] == priority


@pytest.mark.parametrize("text", ["2147483648", "-2147483649", "99999999999999999999", "1.5", "ten", ""])
def test_a_priority_beyond_int4_is_refused(refused, text):
    refused(USAGE, "e", f"--priority={text}", words=["priority"])


@pytest.mark.scenario("enqueue.headers-object")
@pytest.mark.parametrize(
    "headers",
    ["[]", '"text"', "1", "null", "true", "{", '{"a": 1', "", "{'a': 1}", '{"a": 1} x', '{"a": "\\u0000"}',
     '{"a": 1, "a": 2}x', '{"x": NaN}'],
)
def test_headers_that_are_no_object_are_refused(refused, headers):
    refused(USAGE, "e", "--headers", headers, words=["headers"])


def test_headers_of_invalid_utf8_are_refused(refused):
    refused(USAGE, "e", "--headers", b'{"a": "\xff"}', words=["headers"])


@pytest.mark.parametrize("name", [b"\xff", b"ab\xc3", b"\xed\xa0\x80", b"", b"x" * 1025])
def test_bad_entrypoints_are_refused(refused, name):
    refused(USAGE, name, words=["entrypoint"])


def test_long_but_allowed_names(queue, queue_db):
    [job_id] = queue("x" * 1024, "--dedupe-key", "y" * 2048)
    assert len(queue_db.job(job_id)["entrypoint"]) == 1024


@pytest.mark.parametrize("key", [b"\xff", b"k" * 2049])
def test_bad_dedupe_keys_are_refused(refused, key):
    refused(USAGE, "e", "--dedupe-key", key, words=["dedupe"])


@pytest.mark.parametrize("arguments", [
    ["--delay", "-1"], ["--delay", "soon"], ["--delay", "1e300"], ["--at", "tomorrow"],
    ["--at", "2026-13-01T00:00:00Z"], ["--at", "2026-02-30T00:00:00Z"], ["--at", "2031-05-06T07:08:09"],
    ["--delay", "1", "--at", "2031-05-06T07:08:09Z"], ["--count", "0"], ["--at", ""], ["--delay", ""],
    ["--count", ""], ["--on-conflict", ""],
])
def test_bad_times_and_counts_are_refused(refused, arguments):
    refused(USAGE, "e", *arguments)


def test_the_payload_limit(refused, queue, queue_db, tmp_path):
    """One byte over the limit is refused, from a file and from a pipe; the limit itself is not."""
    file = tmp_path / "large"
    with open(file, "wb") as large:
        large.truncate(PAYLOAD_MAX + 1)
    refused(USAGE, "e", f"@{file}", words=["67108864"])
    with open(file, "rb") as stdin:
        done = stdin.read()
    refused(USAGE, "e", "-", stdin=done, words=["67108864"])
    os.truncate(file, PAYLOAD_MAX)
    [job_id] = queue("e", f"@{file}")
    assert queue_db.value("SELECT length(payload) FROM pgqueuer WHERE id = %s", [job_id]) == PAYLOAD_MAX


def test_unreadable_payload_files(refused, tmp_path):
    refused(NOT_FOUND, "e", f"@{tmp_path}/missing", words=["missing"])
    refused(FAILED, "e", f"@{tmp_path}", words=[tmp_path.name])


def test_an_endless_payload_is_refused_early(refused):
    """It reads no more than the limit needs: /dev/zero never ends."""
    refused(USAGE, "e", "@/dev/zero", words=["67108864"], timeout=30)


# -- dedupe keys -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--on-conflict", "raise")])
def test_a_taken_key_is_a_conflict(queue, pgqueuer, queue_db, options):
    [first] = queue("e", "--dedupe-key", "k1")
    done = pgqueuer("queue", "e", "--dedupe-key", "k1", *options, dsn=queue_db)
    # The text is that of the Python release: scripts compare it.
    assert (done.returncode, done.stdout, done.stderr) == (
        CONFLICT, "", "Error: duplicate dedupe_key 'k1'.\n")
    assert queue_db.rows("SELECT id FROM pgqueuer") == [(first,)]
    assert queue_db.log_counts() == {"queued": 1}


def test_skip_and_update_priority(queue, pgqueuer, queue_db):
    [first] = queue("e", "--dedupe-key", "k1")
    done = pgqueuer("queue", "e", "--dedupe-key", "k1", "--on-conflict", "skip", dsn=queue_db)
    assert done.returncode == DONE and "k1" in done.stdout
    assert queue("other", "--dedupe-key", "k1", "--on-conflict", "update_priority",
                 "--priority", "9") == [first]
    assert queue_db.job(first)["priority"] == 9
    queue("e", "--dedupe-key", "k1", "--on-conflict", "update_priority", "--priority", "3")
    assert queue_db.job(first)["priority"] == 9
    assert queue_db.job_count() == 1 and queue_db.log_counts() == {"queued": 1}


def test_a_count_with_a_dedupe_key_is_all_or_nothing(queue_db, pgqueuer):
    done = pgqueuer("queue", "e", "--dedupe-key", "k1", "--count", "3", dsn=queue_db)
    assert done.returncode in (USAGE, CONFLICT), done.stderr
    assert queue_db.job_count() == 0 and queue_db.log_counts() == {}


# -- the same refusals through the library, where a NUL can be said ------------------------------


@pytest.mark.scenario("enqueue.headers-object")
def test_the_library_refuses_what_would_poison_a_reader(queue_db, produce):
    from lib.jobs import NewJob

    for job, code in [
        (NewJob("e", headers="[1]"), "PGQ_E_INVALID"),
        (NewJob("e", headers='{"a": "\\u0000"}'), "PGQ_E_INVALID"),
        (NewJob(""), "PGQ_E_INVALID"),
        (NewJob("e", delay_ms=-1), "PGQ_E_LIMIT"),
        (NewJob("e", delay_ms=2**62), "PGQ_E_LIMIT"),
        (NewJob("e", headers='{"a": "' + "x" * (1024 * 1024) + '"}'), "PGQ_E_LIMIT"),
        (NewJob("e" * 1025), "PGQ_E_LIMIT"),
        (NewJob("e", dedupe_key="k" * 2049), "PGQ_E_LIMIT"),
        (NewJob("e", b"\0" * (PAYLOAD_MAX + 1)), "PGQ_E_LIMIT"),
    ]:
        refused = produce(queue_db, [NewJob("good", b"1"), job], check=False)
        assert refused.returncode == USAGE and refused.stderr.startswith(code), refused.stderr
        assert "1" in refused.stderr, "the index of the bad job"
    assert queue_db.job_count() == 0 and queue_db.log_counts() == {}
