"""The examples, built as their head comments and the README say, and run."""

import os
import re
import shlex
import subprocess

import pytest

from lib import program
from lib.refusal import DONE

EXAMPLES = program.REPOSITORY / "examples"


def build(source, target, *options):
    environment = {**os.environ, "PKG_CONFIG_PATH": str(program.BUILD / "meson-uninstalled")}
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "pgqueuer"], env=environment,
                           check=True, capture_output=True, text=True).stdout
    flags = shlex.split(flags)
    paths = [f"-Wl,-rpath,{flag[2:]}" for flag in flags if flag.startswith("-L")]
    sanitizer = program.sanitizer()
    if sanitizer != "none":
        options = (*options, f"-fsanitize={sanitizer}")
    compiler = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run([*compiler, *options, "-Wall", "-Wextra", "-o", target, source, *flags, *paths],
                   check=True)
    return target


def test_the_smallest_worker_works_a_job(queue_db, pgqueuer, drain, tmp_path):
    handler = build(EXAMPLES / "hello.c", tmp_path / "hello.so", "-shared", "-fPIC")
    assert pgqueuer("queue", "hello", "world", dsn=queue_db).returncode == DONE
    drain(queue_db, factory=f"{handler}:factory")
    assert queue_db.log_counts() == {"queued": 1, "picked": 1, "successful": 1}


def test_the_worker_in_the_readme_works_a_job(queue_db, pgqueuer, drain, tmp_path):
    readme = (program.REPOSITORY / "README.md").read_text()
    [source] = re.findall(r"```c\n(#include <pgqueuer/pgqueuer.h>.*?)```", readme, re.DOTALL)
    (tmp_path / "hello.c").write_text(source)
    handler = build(tmp_path / "hello.c", tmp_path / "hello.so", "-shared", "-fPIC")
    assert pgqueuer("queue", "greet", "world", dsn=queue_db).returncode == DONE
    drain(queue_db, factory=f"{handler}:factory")
    assert queue_db.log_counts()["successful"] == 1


@pytest.mark.parametrize("path, status", [("data", None), ("../data", "failed"), ("", "failed")])
def test_the_hashing_worker_hashes_and_holds_what_it_refuses(queue_db, pgqueuer, drain, tmp_path,
                                                             path, status):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "data").write_bytes(b"a")
    handler = build(EXAMPLES / "hash_files.c", tmp_path / "hash_files.so", "-shared", "-fPIC")
    assert pgqueuer("queue", "hash_file", path, dsn=queue_db).returncode == DONE
    drain(queue_db, factory=f"{handler}:factory", args=[str(folder)])
    assert queue_db.value("SELECT min(status::text) FROM pgqueuer") == status


def test_the_producer_enqueues_with_its_own_row(queue_db, home, tmp_path):
    producer = build(EXAMPLES / "enqueue.c", tmp_path / "enqueue")
    done = program.run([producer, queue_db.dsn, "somebody"], program.clean_environment(home))
    assert done.returncode == 0, done.stderr
    assert queue_db.rows("SELECT customer FROM example_orders") == [("somebody",)]
    assert queue_db.rows("SELECT entrypoint, payload FROM pgqueuer") == [("receipt", b"somebody")]


def test_the_charging_worker_retries_holds_and_keeps_its_limits(queue_db, pgqueuer, drain, tmp_path):
    handler = build(EXAMPLES / "retry.c", tmp_path / "retry.so", "-shared", "-fPIC")
    assert pgqueuer("queue", "charge", "4200", dsn=queue_db).returncode == DONE
    assert pgqueuer("queue", "charge", dsn=queue_db).returncode == DONE
    assert pgqueuer("queue", "report", "--count", "3", dsn=queue_db).returncode == DONE
    drain(queue_db, factory=f"{handler}:factory")
    assert queue_db.rows("SELECT status::text, attempts, slot FROM pgqueuer") == [("failed", 5, None)]
    assert queue_db.log_counts() == {"queued": 2 + 3 + 6, "picked": 2 + 3 + 6, "successful": 4,
                                     "failed": 1}


def test_the_waiting_worker_has_more_jobs_under_way_than_threads(queue_db, pgqueuer, drain, tmp_path):
    handler = build(EXAMPLES / "later.c", tmp_path / "later.so", "-shared", "-fPIC", "-pthread")
    assert pgqueuer("queue", "wait", "300", "--count", "200", dsn=queue_db).returncode == DONE
    drain(queue_db, "--threads", "2", factory=f"{handler}:factory")
    assert queue_db.log_counts()["successful"] == 200
    most = queue_db.value("""
        SELECT max(under_way) FROM (
            SELECT sum(CASE status WHEN 'picked' THEN 1 ELSE -1 END) OVER (ORDER BY created, id) AS under_way
            FROM pgqueuer_log WHERE status IN ('picked', 'successful')) AS steps""")
    assert most > 50, "jobs that wait occupy no thread"


def test_the_service_enqueues_from_many_threads(queue_db, home, tmp_path):
    service = build(EXAMPLES / "service.c", tmp_path / "service", "-pthread")
    done = program.run([service, queue_db.dsn, "20"], program.clean_environment(home))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "320 jobs enqueued by 16 threads\n"
    assert queue_db.job_count("entrypoint = 'mail'") == 320
    commits = queue_db.value("SELECT count(DISTINCT xmin::text) FROM pgqueuer")
    assert commits < 160, "calls that come at the same time share a commit"


def test_the_loop_enqueues_every_line_and_tells_its_id(queue_db, home, tmp_path):
    loop = build(EXAMPLES / "poll_loop.c", tmp_path / "poll_loop")
    lines = "".join(f"{i} {'x' * 60}\n" for i in range(3000))  # more than its buffer and its queue hold
    done = program.run([loop, queue_db.dsn], program.clean_environment(home), stdin=lines)
    assert done.returncode == 0, done.stderr
    told = [int(line.removeprefix("job ")) for line in done.stdout.splitlines()]
    there = queue_db.rows("SELECT id, convert_from(payload, 'utf8') || E'\\n' FROM pgqueuer ORDER BY id")
    assert told == [job_id for job_id, _ in there]
    assert "".join(text for _, text in there) == lines
