"""`pgqueuer import`: a job for each line, rejects with reasons, and what it refuses."""

import base64
import json
import os

import pytest

from lib.refusal import CONFLICT, DONE, FAILED, NOT_FOUND, SCHEMA, USAGE, assert_refused

PAYLOAD_MAX = 64 * 1024 * 1024


@pytest.fixture
def extras_db(pgqueuer, queue_db):
    done = pgqueuer("install", "--extras", dsn=queue_db)
    assert done.returncode == DONE, done.stderr
    return queue_db


@pytest.fixture
def write(tmp_path):
    def write(*lines, name="jobs.jsonl"):
        file = tmp_path / name
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        file.write_text("".join(text + "\n" for text in texts))
        return file

    return write


def jobs(count, **more):
    return [{"entrypoint": "e", "payload": str(i), **more} for i in range(count)]


def rejects_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def payloads(db):
    return [bytes(p).decode() for (p,) in db.rows("SELECT payload FROM pgqueuer ORDER BY id")]


def test_a_line_with_everything_becomes_a_job(pgqueuer, extras_db, write):
    file = write(
        {"entrypoint": "thumbs", "payload": "héllo", "priority": -7, "headers": {"t": {"x": 1}},
         "dedupe_key": "k", "execute_after": "2031-05-06T08:08:09+01:00"},
        "",
        {"payload_base64": base64.b64encode(bytes(range(256))).decode(), "delay": 1.5},
    )
    done = pgqueuer("import", file, "-e", "other", "--priority", "3", dsn=extras_db)
    assert (done.returncode, done.stdout) == (DONE, "Imported 2 jobs from 3 lines.\n"), done.stderr
    first, second = extras_db.job(1), extras_db.job(2)
    assert (first["entrypoint"], first["payload"], first["priority"], first["headers"],
            first["dedupe_key"], first["status"]) == (
        "thumbs", "héllo".encode(), -7, {"t": {"x": 1}}, "k", "queued")
    assert first["execute_after"].isoformat() == "2031-05-06T07:08:09+00:00"
    assert (second["entrypoint"], second["payload"], second["priority"]) == (
        "other", bytes(range(256)), 3)
    assert (second["execute_after"] - second["created"]).total_seconds() == 1.5
    assert extras_db.log_of(1) == extras_db.log_of(2) == ["queued"]


@pytest.mark.parametrize("policy", ["full", "terminal"])
def test_many_lines_go_in_in_order_whatever_the_log_policy(pgqueuer, queue_db, write, policy):
    file = write(*jobs(25_000))
    done = pgqueuer("import", file, "--log-policy", policy, dsn=queue_db)
    assert done.stdout == "Imported 25000 jobs from 25000 lines.\n", done.stderr
    assert payloads(queue_db) == [str(i) for i in range(25_000)]
    assert queue_db.log_counts() == ({"queued": 25_000} if policy == "full" else {})


def test_a_bad_line_in_the_middle_is_rejected_and_the_others_are_in(
    pgqueuer, extras_db, write, tmp_path
):
    lines = jobs(5000)
    bad = {100: "{nonsense", 2500: {"entrypoint": "e", "headers": []},
           4999: {"entrypoint": "x" * 1025}}
    for index, line in bad.items():
        lines[index] = line
    file, rejects = write(*lines), tmp_path / "rejects"
    done = pgqueuer("import", file, "--rejects", rejects, dsn=extras_db)
    assert (done.returncode, done.stdout) == (
        FAILED, "Imported 4997 jobs from 5000 lines, rejected 3.\n"), done.stderr
    rows = rejects_of(rejects)
    assert [row["line"] for row in rows] == [101, 2501, 5000]
    assert [row["text"] for row in rows] == [
        text if isinstance(text, str) else json.dumps(text) for text in bad.values()]
    for row, word in zip(rows, ["JSON", "object", "1024"]):
        assert word in row["reason"]
    assert payloads(extras_db) == [str(i) for i in range(5000) if i not in bad]


def test_without_a_file_the_first_rejects_are_shown(pgqueuer, queue_db, write):
    done = pgqueuer("import", write(*["{"] * 12), dsn=queue_db)
    assert done.returncode == FAILED
    assert "line 1 is rejected: " in done.stderr and "line 10 is rejected: " in done.stderr
    assert "line 11" not in done.stderr and "--rejects FILE" in done.stderr
    assert "rejected 12" in done.stdout


def test_rejects_can_be_mended_and_imported(pgqueuer, extras_db, write, tmp_path):
    rejects = tmp_path / "rejects"
    file = write({"entrypoint": "e", "priority": "5"})
    assert pgqueuer("import", file, "--rejects", rejects, dsn=extras_db).returncode == FAILED
    [row] = rejects_of(rejects)
    mended = write(row["text"].replace('"5"', "5"), name="mended.jsonl")
    assert pgqueuer("import", mended, dsn=extras_db).returncode == DONE
    assert extras_db.job_count("priority = 5") == 1


def test_a_file_of_rejects_that_holds_something_else_is_left_alone(
    pgqueuer, extras_db, write, tmp_path
):
    rejects = tmp_path / "rejects"
    rejects.write_text('{"line": 1, "reason": "of another import"}\n')
    before = rejects.read_text()
    file = write(*jobs(3), "{")
    for _ in range(2):
        assert_refused(pgqueuer("import", file, "--rejects", rejects, dsn=extras_db), FAILED,
                       "rejects", "move it away")
    assert rejects.read_text() == before and extras_db.job_count() == 0


@pytest.mark.parametrize("mode", ["raise", "skip", "update_priority"])
@pytest.mark.parametrize("filler", [0, 3000])
def test_taken_keys_by_mode(pgqueuer, extras_db, write, tmp_path, mode, filler):
    """With and without the extras' position, by arrays and by COPY."""
    pgqueuer("queue", "e", "old", "--dedupe-key", "there", dsn=extras_db)
    file = write(
        *jobs(filler),
        {"entrypoint": "e", "payload": "a", "dedupe_key": "there", "priority": 4},
        {"entrypoint": "e", "payload": "b", "dedupe_key": "new"},
        {"entrypoint": "e", "payload": "c", "dedupe_key": "new", "priority": 9},
        {"entrypoint": "e", "payload": "d"},
    )
    rejects = tmp_path / "rejects"
    done = pgqueuer("import", file, "--on-conflict", mode, "--rejects", rejects, dsn=extras_db)
    assert payloads(extras_db)[filler and 1 + filler:] == (["old"] if not filler else []) + ["b", "d"]
    keys = dict(extras_db.rows("SELECT dedupe_key, priority FROM pgqueuer WHERE dedupe_key > ''"))
    if mode == "raise":
        assert done.returncode == FAILED
        assert [(row["line"], row["reason"]) for row in rejects_of(rejects)] == [
            (filler + 1, "the dedupe key there is taken"), (filler + 3, "the dedupe key new is taken")]
        assert json.loads(rejects_of(rejects)[1]["text"])["payload"] == "c"
        assert "rejected 2" in done.stdout and keys == {"there": 0, "new": 0}
    elif mode == "skip":
        assert done.returncode == DONE and "skipped 2." in done.stdout
        assert keys == {"there": 0, "new": 0} and rejects.read_text() == ""
    else:
        assert done.returncode == DONE and keys == {"there": 4, "new": 9}
        assert f"Imported {filler + 4} jobs" in done.stdout


RULES = {
    "check": "ALTER TABLE pgqueuer ADD CONSTRAINT sane CHECK (octet_length(payload) < 20)",
    "trigger": """
        CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF octet_length(NEW.payload) >= 20 THEN RAISE EXCEPTION 'not sane'; END IF;
            RETURN NEW; END $$;
        CREATE TRIGGER look BEFORE INSERT ON pgqueuer FOR EACH ROW EXECUTE FUNCTION look()""",
    "at commit": """
        CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF octet_length(NEW.payload) >= 20 THEN RAISE EXCEPTION 'not sane'; END IF;
            RETURN NEW; END $$;
        CREATE CONSTRAINT TRIGGER look AFTER INSERT ON pgqueuer DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION look()""",
}


@pytest.mark.parametrize("rule, mode", [
    ("check", "raise"), ("check", "skip"), ("check", "update_priority"), ("trigger", "raise"),
    ("at commit", "raise")])
def test_a_line_that_breaks_a_rule_of_the_database_is_rejected(
    pgqueuer, extras_db, write, tmp_path, rule, mode
):
    extras_db.execute(RULES[rule])
    good = jobs(3000)
    bad = [{"entrypoint": "e", "payload": f"longer than it may be: {i}"} for i in range(3)]
    file = write(bad[0], *good[:1500], bad[1], *good[1500:], bad[2])
    rejects = tmp_path / "rejects"
    done = pgqueuer("import", file, "--on-conflict", mode, "--rejects", rejects, dsn=extras_db)
    assert done.returncode == FAILED, done.stderr
    assert "Imported 3000 jobs from 3003 lines, rejected 3" in done.stdout
    assert payloads(extras_db) == [job["payload"] for job in good]
    assert [row["line"] for row in rejects_of(rejects)] == [1, 1502, 3003]
    assert all("sane" in row["reason"] for row in rejects_of(rejects))
    assert [json.loads(row["text"]) for row in rejects_of(rejects)] == bad
    assert extras_db.log_counts() == {"queued": 3000}


def test_of_lines_that_exclude_each_other_the_first_one_is_in(
    pgqueuer, extras_db, write, tmp_path
):
    extras_db.execute("CREATE UNIQUE INDEX ours ON pgqueuer (md5(payload))")
    pgqueuer("queue", "e", "7", dsn=extras_db)
    rejects = tmp_path / "rejects"
    done = pgqueuer("import", write(*jobs(12), *jobs(2)), "--rejects", rejects, dsn=extras_db)
    assert done.returncode == FAILED and "Imported 11 jobs" in done.stdout, done.stderr
    assert [row["line"] for row in rejects_of(rejects)] == [8, 13, 14]
    assert sorted(map(int, payloads(extras_db))) == list(range(12))


def test_a_role_that_may_not_enqueue_is_told_so_and_no_line_is_rejected(
    pgqueuer, extras_db, write, tmp_path
):
    extras_db.execute("REVOKE ALL ON pgqueuer FROM PUBLIC; CREATE ROLE import_nobody LOGIN")
    try:
        dsn = extras_db.cluster.dsn(extras_db.name, user="import_nobody")
        rejects = tmp_path / "rejects"
        done = pgqueuer("import", write(*jobs(3)), "--rejects", rejects, dsn=dsn)
        assert done.returncode != DONE and "permission denied" in done.stderr
        assert rejects.read_text() == ""
    finally:
        extras_db.execute("DROP ROLE import_nobody")


def test_csv_by_its_name_and_by_option(pgqueuer, extras_db, write):
    text = 'entrypoint,payload,priority\ne,"a ""b"",\nc",5\ne,,\n'
    file = write(text.rstrip("\n"), name="jobs.csv")
    done = pgqueuer("import", file, dsn=extras_db)
    assert done.stdout == "Imported 2 jobs from 4 lines.\n", done.stderr
    assert extras_db.rows("SELECT payload, priority FROM pgqueuer ORDER BY id") == [
        (b'a "b",\nc', 5), (None, 0)]
    done = pgqueuer("import", "-", "--format", "csv", stdin=text, dsn=extras_db)
    assert done.returncode == DONE and extras_db.job_count() == 4


def test_csv_with_a_column_that_is_no_field_is_refused(pgqueuer, extras_db, write):
    file = write("entrypoint,id", "e,1", name="jobs.csv")
    assert_refused(pgqueuer("import", file, dsn=extras_db), USAGE, "column 2", "'id'", "dedupe_key")
    assert extras_db.job_count() == 0


def test_the_longest_payload_goes_in_and_a_longer_one_is_rejected(
    pgqueuer, queue_db, tmp_path
):
    file = tmp_path / "big.jsonl"
    with file.open("w") as out:
        for size in (PAYLOAD_MAX, PAYLOAD_MAX + 1):
            out.write('{"entrypoint": "e", "payload": "' + "x" * size + '"}\n')
        out.write('{"entrypoint": "e"}' + " " * 96 * 1024 * 1024 + "\n")
        out.write('{"entrypoint": "last"}\n')
    rejects = tmp_path / "rejects"
    done = pgqueuer("import", file, "--rejects", rejects, dsn=queue_db, timeout=120)
    assert "Imported 2 jobs from 4 lines, rejected 2." in done.stdout, done.stderr
    assert queue_db.rows("SELECT entrypoint, length(payload) FROM pgqueuer ORDER BY id") == [
        ("e", PAYLOAD_MAX), ("last", None)]
    long, longer = rejects_of(rejects)
    assert str(PAYLOAD_MAX) in long["reason"] and long["cut"] and len(long["text"]) == 1024 * 1024
    assert "longer than" in longer["reason"] and longer["cut"] and longer["line"] == 3


# ---- again and again ----


def test_an_import_that_is_finished_is_not_doubled(pgqueuer, extras_db, write, tmp_path):
    file = write(*jobs(3))
    assert pgqueuer("import", file, dsn=extras_db).returncode == DONE
    moved = tmp_path / "moved"
    for path in (file, moved):
        done = pgqueuer("import", path if path.exists() else file.rename(moved), dsn=extras_db)
        assert_refused(done, CONFLICT, "imported already", "3 jobs from 3 lines", "--again")
    assert extras_db.job_count() == 3
    done = pgqueuer("import", moved, "--again", dsn=extras_db)
    assert done.stdout == "Imported 3 jobs from 3 lines.\n"
    assert extras_db.job_count() == 6
    assert pgqueuer("import", moved, dsn=extras_db).returncode == CONFLICT


def test_what_was_appended_is_imported_and_nothing_else(pgqueuer, extras_db, write):
    file = write(*jobs(3))
    assert pgqueuer("import", file, dsn=extras_db).returncode == DONE
    with file.open("a") as out:
        out.write('{"entrypoint": "e", "payload": "new"}\n')
    done = pgqueuer("import", file, dsn=extras_db)
    assert "behind line 3: 3 jobs are in already" in done.stderr
    assert payloads(extras_db) == ["0", "1", "2", "new"]
    assert pgqueuer("import", file, dsn=extras_db).returncode == CONFLICT


def test_another_file_at_the_same_path_is_another_import(pgqueuer, extras_db, write):
    assert pgqueuer("import", write(*jobs(3)), dsn=extras_db).returncode == DONE
    done = pgqueuer("import", write(*jobs(2, priority=1)), dsn=extras_db)
    assert done.stdout == "Imported 2 jobs from 2 lines.\n", done.stderr


def test_other_options_are_not_mixed_into_an_import(pgqueuer, extras_db, write):
    file = write(*jobs(3))
    assert pgqueuer("import", file, dsn=extras_db).returncode == DONE
    done = pgqueuer("import", file, "--priority", "5", dsn=extras_db)
    assert_refused(done, FAILED, "other options", "--priority 0", "--name")
    done = pgqueuer("import", file, "--priority", "5", "--name", "second", dsn=extras_db)
    assert done.returncode == DONE and extras_db.job_count() == 6


def test_a_stream_is_remembered_by_its_name_only(pgqueuer, extras_db):
    text = '{"entrypoint": "e"}\n' * 3
    for _ in range(2):
        assert pgqueuer("import", "-", stdin=text, dsn=extras_db).returncode == DONE
    assert extras_db.job_count() == 6
    arguments = ("import", "-", "--name", "nightly")
    assert pgqueuer(*arguments, stdin=text, dsn=extras_db).returncode == DONE
    assert_refused(pgqueuer(*arguments, stdin=text, dsn=extras_db), CONFLICT, "imported already")
    done = pgqueuer(*arguments, stdin=text + '{"entrypoint": "more"}\n', dsn=extras_db)
    assert done.returncode == DONE and extras_db.job_count("entrypoint = 'more'") == 1
    other = '{"entrypoint": "other"}\n' * 9
    assert_refused(pgqueuer(*arguments, stdin=other, dsn=extras_db), FAILED,
                   "does not begin with what was imported", "--name")
    assert extras_db.job_count() == 10
    assert pgqueuer(*arguments, "--again", stdin=other, dsn=extras_db).returncode == DONE
    assert extras_db.job_count() == 19


def test_resume_needs_something_to_go_on_with(pgqueuer, extras_db, write):
    file = write(*jobs(3))
    assert_refused(pgqueuer("import", file, "--resume", dsn=extras_db), NOT_FOUND, "interrupted")
    assert_refused(pgqueuer("import", "-", "--resume", stdin="", dsn=extras_db), USAGE, "--name")
    assert_refused(pgqueuer("import", file, "--resume", "--again", dsn=extras_db), USAGE, "--again")
    assert extras_db.job_count() == 0


def test_without_the_extras_it_imports_and_says_what_is_missing(pgqueuer, queue_db, write):
    file = write(*jobs(3))
    for option in (["--resume"], ["--name", "a"]):
        assert_refused(pgqueuer("import", file, *option, dsn=queue_db), SCHEMA, option[0],
                       "pgqueuer install --extras")
    assert queue_db.job_count() == 0
    done = pgqueuer("import", file, dsn=queue_db)
    assert done.stdout == "Imported 3 jobs from 3 lines.\n"
    assert "install --extras" in done.stderr and "first line" in done.stderr


def test_a_role_without_rights_to_the_extras_imports_all_the_same(pgqueuer, extras_db, write):
    extras_db.execute("DROP ROLE IF EXISTS importer; CREATE ROLE importer LOGIN; GRANT ALL ON"
                      " pgqueuer, pgqueuer_log TO importer; GRANT ALL ON ALL SEQUENCES IN SCHEMA"
                      " public TO importer")
    dsn = extras_db.cluster.dsn(extras_db.name, user="importer")
    done = pgqueuer("import", write(*jobs(3)), dsn=dsn)
    assert done.returncode == DONE and "permission denied" in done.stderr
    assert extras_db.job_count() == 3
    extras_db.execute("DROP OWNED BY importer; DROP ROLE importer")


def test_two_installations_do_not_share_an_import(pgqueuer, extras_db, write):
    file = write(*jobs(3))
    assert pgqueuer("import", file, dsn=extras_db).returncode == DONE
    assert pgqueuer("install", "--extras", "--prefix", "b_", dsn=extras_db).returncode == DONE
    assert pgqueuer("import", file, "--prefix", "b_", dsn=extras_db).returncode == DONE
    assert extras_db.value("SELECT count(*) FROM b_pgqueuer") == 3


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["missing.jsonl"], NOT_FOUND, "missing.jsonl"),
        ([], USAGE, "FILE"),
        (["-", "--format", "xml"], USAGE, "jsonl"),
        (["-", "--headers", "[]"], USAGE, "headers"),
        (["-", "--entrypoint", "x" * 1025], USAGE, "1024"),
        (["-", "--at", "2100-01-01T00:00Z", "--delay", "1"], USAGE, "--delay"),
        (["-", "--name", "x" * 1025], USAGE, "1024"),
        (["-", "--name", b"\xff"], USAGE, "UTF-8"),
        (["/"], FAILED, "directory"),
    ],
)
def test_what_cannot_be_is_refused(pgqueuer, extras_db, arguments, status, word):
    assert_refused(pgqueuer("import", *arguments, stdin="", dsn=extras_db), status, word)


def test_an_empty_file_is_imported_once(pgqueuer, extras_db, write):
    file = write()
    assert pgqueuer("import", file, dsn=extras_db).stdout == "Imported 0 jobs from 0 lines.\n"
    assert pgqueuer("import", file, dsn=extras_db).returncode == CONFLICT


def test_a_pipe_by_its_path_is_a_stream(pgqueuer, extras_db):
    reader, writer = os.pipe()
    os.write(writer, b'{"entrypoint": "e"}\n')
    os.close(writer)
    done = pgqueuer("import", f"/dev/fd/{reader}", dsn=extras_db, pass_fds=[reader])
    os.close(reader)
    assert done.stdout == "Imported 1 jobs from 1 lines.\n", done.stderr
    assert extras_db.value("SELECT count(*) FROM pgqueuer_c.imports") == 0
