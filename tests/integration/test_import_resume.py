"""An import that is killed, and started again with the same arguments, has each line once."""

import json
import random
import time

import pytest

from lib import program
from lib.extent import extent
from lib.pooler import Pooler
from lib.waiting import wait_until

LINES = 200_000
MANY_LINES = extent("IMPORT_LINES", 100_000, 5_000_000)
KILLS = 8
MEMORY_KB = 64 * 1024
DUPLICATE_EVERY = 20_011
BAD_EVERY = 10_007


@pytest.fixture
def extras_db(run_program, queue_db):
    assert run_program("install", "--extras", dsn=queue_db).returncode == 0
    return queue_db


@pytest.fixture
def start(processes, home):
    def start(db, *arguments, **options):
        environment = program.clean_environment(home, PGQUEUER_DSN=db.dsn)
        return processes([program.PROGRAM, "import", *map(str, arguments)], environment, **options)

    return start


def line_of(number):
    if number % BAD_EVERY == 0:
        return f'{{"entrypoint": "e", "payload": {number}\n'
    job = {"entrypoint": "e", "payload": str(number)}
    if number % DUPLICATE_EVERY == 0:
        job["dedupe_key"] = "the same"
    return json.dumps(job) + "\n"


def is_job(number):
    """Of the lines with the same key the first one becomes a job."""
    return number % BAD_EVERY != 0 and (
        number % DUPLICATE_EVERY != 0 or number == DUPLICATE_EVERY)


def write_file(path, lines):
    with path.open("w") as out:
        out.writelines(line_of(number) for number in range(1, lines + 1))
    return path


def position(db):
    """The version of the row, which every commit of the import changes."""
    return db.value("SELECT coalesce(max(version), 0) FROM pgqueuer_c.imports")


def kill_at(process, db, version):
    """Kills the import when it has committed so often; what it is doing then is its own affair."""
    wait_until(lambda: process.returncode is not None or position(db) >= version, 60)
    process.kill()


def assert_each_line_once(db, rejects, lines):
    assert db.value("SELECT count(*) FROM (SELECT payload FROM pgqueuer GROUP BY payload"
                    " HAVING count(*) > 1) AS twice") == 0
    numbers = [number for (number,) in db.rows(
        "SELECT encode(payload, 'escape')::int FROM pgqueuer ORDER BY id")]
    assert numbers == [number for number in range(1, lines + 1) if is_job(number)]
    assert db.log_counts() == {"queued": len(numbers)}
    rejected = [json.loads(line)["line"] for line in rejects.read_text().splitlines()]
    assert sorted(rejected) == [number for number in range(1, lines + 1) if not is_job(number)]


def test_an_import_killed_at_many_points_has_each_line_once(extras_db, start, tmp_path):
    file, rejects = write_file(tmp_path / "jobs.jsonl", LINES), tmp_path / "rejects"
    draw = random.Random(2)
    for _ in range(KILLS):
        process = start(extras_db, file, "--rejects", rejects)
        kill_at(process, extras_db, position(extras_db) + draw.choice([0, 1, 2, 2, 3, 4]))
    last = start(extras_db, file, "--rejects", rejects)
    assert last.wait(120) in (1, 7), last.log()
    assert_each_line_once(extras_db, rejects, LINES)
    assert extras_db.value("SELECT finished FROM pgqueuer_c.imports")
    assert extras_db.value("SELECT lines FROM pgqueuer_c.imports") == LINES


def memory_of(process):
    """VmHWM in kB; 0 when the process has ended."""
    try:
        with open(f"/proc/{process.pid}/status") as status:
            return max((int(line.split()[1]) for line in status if line.startswith("VmHWM")),
                       default=0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def end_of(process, deadline, until=lambda: False):
    """Waits for its end, or for something else; returns what memory it needed."""
    peak = 0

    def ended():
        nonlocal peak
        peak = max(peak, memory_of(process))
        return process.returncode is not None or until()

    wait_until(ended, deadline)
    return peak


@pytest.mark.timeout(120 + MANY_LINES // 2000)
def test_a_long_import_killed_again_and_again_has_each_line_once_in_little_memory(
    extras_db, start, tmp_path
):
    """The server counts, for millions of lines."""
    file, rejects = write_file(tmp_path / "jobs.jsonl", MANY_LINES), tmp_path / "rejects"
    draw, peaks, began = random.Random(3), [], time.monotonic()
    chunks = MANY_LINES // 10_000
    for _ in range(KILLS):
        process = start(extras_db, file, "--rejects", rejects)
        target = position(extras_db) + draw.randint(0, max(1, chunks // KILLS))
        peaks.append(end_of(process, 600, lambda: position(extras_db) >= target))
        time.sleep(draw.uniform(0, 0.2))  # not a wait: to be anywhere in the next chunk
        process.kill()
    last = start(extras_db, file, "--rejects", rejects)
    peaks.append(end_of(last, 60 + MANY_LINES // 2000))
    assert last.returncode in (1, 7), last.log()
    print(f"{MANY_LINES} lines in {time.monotonic() - began:.0f} s, {KILLS} times killed,"
          f" {max(peaks)} kB at most")
    bad = [number for number in range(1, MANY_LINES + 1) if not is_job(number)]
    jobs = MANY_LINES - len(bad)
    assert extras_db.rows(
        "SELECT count(*), count(DISTINCT number), sum(number), bool_and(number > before) FROM"
        " (SELECT number, lag(number, 1, 0) OVER (ORDER BY id) AS before FROM"
        " (SELECT id, encode(payload, 'escape')::int AS number FROM pgqueuer) AS q) AS r"
    ) == [(jobs, jobs, MANY_LINES * (MANY_LINES + 1) // 2 - sum(bad), True)]
    assert extras_db.rows("SELECT count(*), count(DISTINCT job_id) FROM pgqueuer_log") == [(jobs, jobs)]
    assert sorted(json.loads(line)["line"] for line in rejects.read_text().splitlines()) == bad
    assert program.sanitizer() != "none" or max(peaks) < MEMORY_KB, peaks


def test_killed_between_its_jobs_and_its_position_a_chunk_is_not_there(extras_db, start, tmp_path):
    lines = 200_000
    file, rejects = write_file(tmp_path / "jobs.jsonl", lines), tmp_path / "rejects"
    process = start(extras_db, file, "--rejects", rejects)
    wait_until(lambda: position(extras_db) >= 2, 60)
    with extras_db.connect(autocommit=False) as holder:
        [[jobs]] = holder.execute("SELECT jobs FROM pgqueuer_c.imports FOR UPDATE").fetchall()
        wait_until(lambda: extras_db.value(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgqueuer'"
            " AND wait_event_type = 'Lock'"), 60)
        process.kill()
        assert extras_db.job_count() == jobs
    last = start(extras_db, file, "--rejects", rejects)
    assert last.wait(120) == 1, last.log()
    assert_each_line_once(extras_db, rejects, lines)


def test_a_named_stream_that_is_cut_goes_on_where_it_was(extras_db, start, tmp_path):
    file, rejects = write_file(tmp_path / "jobs.jsonl", 60_000), tmp_path / "rejects"
    for turn in range(4):
        with file.open() as stream:
            process = start(extras_db, "-", "--name", "n", "--rejects", rejects, stdin=stream)
        if turn < 3:
            kill_at(process, extras_db, position(extras_db) + 2)
    assert process.wait(120) in (1, 7), process.log()
    assert_each_line_once(extras_db, rejects, 60_000)


def test_a_second_import_takes_over_and_the_first_one_ends(extras_db, start, tmp_path):
    file, rejects = write_file(tmp_path / "jobs.jsonl", 100_000), tmp_path / "rejects"
    first = start(extras_db, file, "--rejects", rejects)
    wait_until(lambda: position(extras_db) >= 2, 60)
    first.send(19)  # SIGSTOP: as a process that hangs
    extras_db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                      " application_name = 'pgqueuer' AND pid <> pg_backend_pid()")
    second = start(extras_db, file, "--rejects", rejects)
    assert second.wait(120) == 1, second.log()
    first.send(18)
    assert first.wait(60) != 0
    assert_each_line_once(extras_db, rejects, 100_000)


def test_two_imports_at_once_have_each_line_once(extras_db, start, tmp_path):
    file = write_file(tmp_path / "jobs.jsonl", BAD_EVERY - 1)
    several = [start(extras_db, file) for _ in range(3)]
    codes = [process.wait(60) for process in several]
    assert set(codes) <= {0, 1, 7} and any(code in (0, 7) for code in codes), codes
    again = start(extras_db, file)
    assert again.wait(60) in (0, 7)
    assert extras_db.job_count() == extras_db.value(
        "SELECT count(DISTINCT payload) FROM pgqueuer") == BAD_EVERY - 1


def test_a_server_that_restarts_ends_the_import_and_the_same_command_goes_on(
    own_queue_db, run_program, start, tmp_path
):
    assert run_program("install", "--extras", dsn=own_queue_db).returncode == 0
    file, rejects = write_file(tmp_path / "jobs.jsonl", 100_000), tmp_path / "rejects"
    process = start(own_queue_db, file, "--rejects", rejects)
    wait_until(lambda: position(own_queue_db) >= 3, 60)
    own_queue_db.cluster.restart("immediate")
    assert process.wait(60) == 3, process.log()
    assert "the same command goes on behind line" in process.log()
    last = start(own_queue_db, file, "--rejects", rejects)
    assert last.wait(120) == 1, last.log()
    assert_each_line_once(own_queue_db, rejects, 100_000)


@pytest.mark.parametrize("round_robin", [False, True])
def test_through_a_pooler_in_transaction_mode_nothing_is_different(
    cluster, extras_db, processes, home, tmp_path, round_robin
):
    pooler = Pooler(cluster, processes, pool_size=3, round_robin=round_robin)
    file, rejects = write_file(tmp_path / "jobs.jsonl", 45_000), tmp_path / "rejects"
    environment = program.clean_environment(home, PGQUEUER_DSN=pooler.dsn(extras_db))
    arguments = [program.PROGRAM, "import", str(file), "--rejects", str(rejects)]
    process = processes(arguments, environment)
    assert process.wait(60) == 1, process.log()
    assert_each_line_once(extras_db, rejects, 45_000)


def peak_memory(db, start, file):
    process = start(db, file)
    peak = end_of(process, 120)
    assert process.returncode == 1, process.log()
    return peak


@pytest.mark.skipif(program.sanitizer() != "none", reason="a sanitizer keeps what is freed")
@pytest.mark.parametrize("good", [True, False])
def test_a_large_file_needs_no_more_memory_than_a_small_one(extras_db, start, tmp_path, good):
    def peak(name, lines):
        file = write_file(tmp_path / name, lines)
        if not good:
            file.write_text(file.read_text().replace('"entrypoint": "e", ', ""))
        return peak_memory(extras_db, start, file)

    small, large = peak("small", 150_000), peak("large", 600_000)
    assert small > 0 and large < small * 1.25 and large < 64 * 1024, (small, large)
