"""`pgqueuer bench`: every kind in a small run, its document, bad input, and that nothing stays behind.
No figure is judged here: that is what `make bench` is for."""

import json
import os
import re
import signal
import statistics
import subprocess

import pytest

from lib import program
from lib.refusal import (CANNOT_CONNECT, DONE, FAILED, NOT_FOUND, USAGE, assert_refused)
from lib.waiting import wait_until

KINDS = ("drain", "latency", "horizon", "backlog")
BARE = program.BUILD / "bare"
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE '%pgqueuer_bench%'"
SESSIONS = ("SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = %s")
WORKER, PARENT = "pgqueuer-bench", "pgqueuer-bench-parent"
LONG = ("--jobs", "100000", "--lane", "row", "--log-policy", "full")


def bench(pgqueuer, database, kind, *options, jobs=200, **arguments):
    done = pgqueuer("bench", kind, "--jobs", jobs, "--rounds", "1", *options, dsn=database, timeout=120,
                    **arguments)
    assert done.returncode == DONE, done.stderr
    return done


def document(pgqueuer, database, kind, *options, **arguments):
    return json.loads(bench(pgqueuer, database, kind, "--json", *options, **arguments).stdout)


def ways(found, **wanted):
    return [way for way in found["ways"] if all(way.get(k) == v for k, v in wanted.items())]


def objects(database):
    return database.rows("SELECT n.nspname, c.relname, c.relkind FROM pg_class AS c JOIN pg_namespace AS n"
                         " ON n.oid = c.relnamespace ORDER BY 1, 2")


@pytest.fixture
def start(processes, home):
    """A benchmark that goes on until something ends it."""

    def run(database, *options):
        return processes(
            [program.PROGRAM, "bench", *options],
            program.clean_environment(home, PGQUEUER_DSN=getattr(database, "dsn", database)),
        )

    return run


def wait_session(database, name):
    return wait_until(lambda: database.rows(SESSIONS, [name]), 60, f"a session of {name}")[0][0]


def assert_nothing_stays(database):
    assert database.rows(SCHEMAS) == []
    wait_until(lambda: not database.rows(SESSIONS, [WORKER]), 10, "the workers' sessions end")


# -- what is measured ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_measures_and_says_under_which_conditions(pgqueuer, db, kind):
    found = document(pgqueuer, db, kind, "--bare", BARE)
    assert found["bench"] == kind and found["version"] == "0.1.0" and found["revision"]
    assert found["machine"]["cores"] > 0 and found["machine"]["memory_bytes"] > 0
    assert found["server"]["version"] and found["server"]["settings"]["fsync"] in ("on", "off")
    assert found["options"]["jobs"] == 200 and found["options"]["rounds"] == 1
    assert ways(found, bare=True) and ways(found, bare=False)
    measured = "p50_ms" if kind == "latency" else "jobs_per_s"
    for way in found["ways"]:
        assert len(way[measured]["rounds"]) == 1 and way[measured]["median"] is not None, way
    assert_nothing_stays(db)


def test_drain_compares_lanes_policies_and_defaults_with_the_bare_loop(pgqueuer, db):
    found = document(pgqueuer, db, "drain", "--bare", BARE)
    for policy in ("full", "terminal", "failures"):
        assert len(ways(found, log_policy=policy, lane="row", defaults=False)) == 1
        assert len(ways(found, log_policy=policy, lane="lease", defaults=False)) == 1
        assert len(ways(found, log_policy=policy, lane="auto", defaults=True)) == 1
        assert len(ways(found, log_policy=policy, bare=True)) == 2
    for way in found["ways"]:
        for metric in ("wal_bytes_per_job", "commits_per_job", "worker_cpu_us_per_job", "worker_rss_mib"):
            assert way[metric]["median"] is not None, (way["name"], metric)
        # what the server counts for certain: a claim that marks its row makes one more dead one
        assert way["dead_tuples_per_job"]["median"] >= (2 if way.get("lane") == "row" else 1), way


def test_medians_and_spreads_are_those_of_the_rounds(pgqueuer, db):
    done = pgqueuer("bench", "drain", "--jobs", "100", "--rounds", "3", "--lane", "lease", "--log-policy",
                    "terminal", "--json", dsn=db, timeout=120)
    [way] = json.loads(done.stdout)["ways"]
    rates = way["jobs_per_s"]
    assert len(rates["rounds"]) == 3
    assert rates["median"] == statistics.median(rates["rounds"])
    assert (rates["min"], rates["max"]) == (min(rates["rounds"]), max(rates["rounds"]))


def test_the_verdict_on_a_budget_follows_from_its_figures(pgqueuer, db):
    budgets = document(pgqueuer, db, "drain", "--bare", BARE)["budgets"]
    assert {b["verdict"] for b in budgets} <= {"ok", "missed"}
    for budget in budgets:
        kept = (budget["is"] >= budget["at_least"] if "at_least" in budget
                else budget["is"] <= budget["at_most"])
        assert budget["verdict"] == ("ok" if kept else "missed"), budget


def test_without_the_bare_loop_its_budgets_are_not_measured(pgqueuer, db):
    budgets = document(pgqueuer, db, "drain", "--lane", "lease", "--log-policy", "failures")["budgets"]
    [ratio] = [b for b in budgets if "bare" in b["what"]]
    assert ratio["verdict"] == "not measured" and ratio["is"] is None


def test_a_lane_and_a_policy_can_be_chosen(pgqueuer, db):
    found = document(pgqueuer, db, "drain", "--lane", "row", "--log-policy", "terminal")
    assert [(way["lane"], way["log_policy"]) for way in found["ways"]] == [("row", "terminal")]


def test_several_workers_share_the_jobs(pgqueuer, db):
    found = document(pgqueuer, db, "drain", "--workers", "3", "--lane", "row", "--log-policy", "full",
                     jobs=2000)
    assert found["options"]["workers"] == 3
    assert found["ways"][0]["jobs_per_s"]["median"] > 0


def test_the_horizon_is_held_where_it_says_so(pgqueuer, db):
    found = document(pgqueuer, db, "horizon", "--lane", "row", "--log-policy", "terminal", jobs=1000)
    [free], [held] = ways(found, held=False), ways(found, held=True)
    assert held["dead_rows"]["median"] >= 1000 > free["dead_rows"]["median"]


def test_the_table_has_a_line_for_every_way_and_the_document_goes_into_a_file(pgqueuer, db, tmp_path):
    file = tmp_path / "result.json"
    done = bench(pgqueuer, db, "drain", "--lane", "lease", "--output", file)
    names = [way["name"] for way in json.loads(file.read_text())["ways"]]
    assert names and all(re.search(rf"^{re.escape(name)} +\d", done.stdout, re.M) for name in names)
    assert "budget" in done.stdout and "fsync" in done.stdout


def test_percentiles_are_those_of_the_samples(pgqueuer, db, tmp_path):
    """Told by a loop whose 200 jobs took 1 ms to 200 ms, in no order."""
    loop = tmp_path / "loop"
    loop.write_text("#!/bin/sh\necho ready\nread line\n[ \"$line\" = 'latency 200' ] || exit 1\n"
                    "seq 2 2 200 | sed 's/.*/sample &000/'\nseq 199 -2 1 | sed 's/.*/sample &000/'\n"
                    "echo drained 200 0 400 2048\nread line\n")
    loop.chmod(0o755)
    found = document(pgqueuer, db, "latency", "--lane", "lease", "--bare", loop)
    [way] = ways(found, bare=True)
    assert [way[p]["median"] for p in ("p50_ms", "p99_ms", "max_ms")] == [100, 198, 200]
    assert (way["worker_cpu_us_per_job"]["median"], way["worker_rss_mib"]["median"]) == (2, 2)


def product_sql(name):
    """The text of a statement of sql/, without comments; see tools/embed.c for what is counted."""
    file = program.REPOSITORY / "sql" / f"{name.removesuffix('_counted')}.sql"
    kept, left_out = ("counted", "uncounted") if name.endswith("_counted") else ("uncounted", "counted")
    lines = [line.removesuffix(f" -- {kept}") for line in file.read_text().splitlines()
             if not line.startswith("--") and not line.endswith(f" -- {left_out}")]
    return re.sub(r"/\*.*?\*/", "", "\n".join(lines))


def test_the_bare_loop_says_what_the_product_says():
    """Its SQL is a copy by hand; when the product's changes, it has to follow."""
    told = subprocess.run([BARE, "--sql"], capture_output=True, text=True, check=True).stdout
    statements = re.findall(r"^-- (\w+)\n(.*?)(?=^-- |\Z)", told, re.M | re.S)
    assert len(statements) >= 5
    for name, sql in statements:
        assert sql.split() == product_sql(name).split(), f"bench/bare.c and sql/{name}.sql differ"


# -- it is a guest in the database -----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_queue_of_the_database_is_not_touched(pgqueuer, queue_db, kind):
    """Its tables, its jobs and its channel, also when its names come from the environment."""
    queue_db.execute("INSERT INTO pgqueuer (priority, status, entrypoint) VALUES (0, 'queued', 'bench')")
    before = objects(queue_db), queue_db.job(1), queue_db.log_counts()
    with queue_db.connect() as listener:
        listener.execute("LISTEN ch_pgqueuer")
        bench(pgqueuer, queue_db, kind, "--lane", "lease", jobs=50, env={"PGQUEUER_CHANNEL": "ch_pgqueuer"})
        assert list(listener.notifies(timeout=0)) == []
    assert (objects(queue_db), queue_db.job(1), queue_db.log_counts()) == before


def test_a_role_that_may_not_checkpoint_measures_without(pgqueuer, cluster, db):
    cluster.admin("CREATE ROLE bench_guest LOGIN")
    try:
        cluster.admin(f"GRANT CREATE ON DATABASE {db.name} TO bench_guest")
        found = document(pgqueuer, cluster.dsn(db.name, "bench_guest"), "drain", "--lane", "lease",
                         "--log-policy", "terminal")
        assert found["server"]["checkpoints"] is False
        assert_nothing_stays(db)
    finally:
        cluster.drop_database(db)
        cluster.admin("DROP ROLE bench_guest")


def test_a_role_that_may_not_create_is_told_what_it_needs(pgqueuer, cluster, db):
    cluster.admin("CREATE ROLE bench_stranger LOGIN")
    try:
        done = pgqueuer("bench", "drain", dsn=cluster.dsn(db.name, "bench_stranger"))
        assert_refused(done, FAILED, "permission", "CREATE on the database")
    finally:
        cluster.admin("DROP ROLE bench_stranger")


# -- it ends early -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("session", [PARENT, WORKER])
def test_a_signal_ends_it_and_nothing_stays(db, start, number, session):
    """While it enqueues, and while its worker works."""
    process = start(db, "drain", *LONG)
    wait_until(lambda: db.rows(SCHEMAS), 30, "its schema")
    wait_session(db, session)
    process.send(number)
    assert process.wait(30) == FAILED
    assert "interrupted" in process.log()
    assert_nothing_stays(db)


@pytest.mark.parametrize("kind", ["latency", "horizon", "backlog"])
def test_the_other_kinds_end_by_a_signal_too(db, start, kind):
    process = start(db, kind, "--jobs", "10000", "--rounds", "100", "--lane", "row")
    wait_session(db, WORKER)
    process.send(signal.SIGINT)
    assert process.wait(30) == FAILED
    assert_nothing_stays(db)


def test_a_signal_ends_the_bare_loop_as_well(db, start):
    process = start(db, "drain", "--jobs", "20000", "--rounds", "100", "--lane", "lease", "--log-policy",
                    "failures", "--bare", BARE)
    for _ in range(2):
        wait_session(db, WORKER)
        wait_until(lambda: not db.rows(SESSIONS, [WORKER]), 30, "the next measurement")
    wait_session(db, WORKER)
    process.send(signal.SIGINT)
    assert process.wait(30) == FAILED
    assert_nothing_stays(db)


def test_the_loss_of_its_connection_ends_it_and_nothing_stays(db, start):
    process = start(db, "drain", *LONG)
    wait_session(db, WORKER)
    db.execute("SELECT pg_terminate_backend(%s)", [wait_session(db, PARENT)])
    assert process.wait(30) not in (DONE, None)
    assert "connection was lost" in process.log()
    assert_nothing_stays(db)


def test_a_worker_that_dies_is_an_error_and_no_result(db, start):
    process = start(db, "drain", *LONG)
    wait_session(db, WORKER)
    children = open(f"/proc/{process.pid}/task/{process.pid}/children").read().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    assert process.wait(30) == FAILED
    assert "ended with signal 9" in process.log() and "jobs/s" not in process.log()
    assert_nothing_stays(db)


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["bench"], ["drain", "latency"]),
        (["bench", "speed"], ["speed"]),
        (["bench", "drain", "more"], ["more"]),
        (["bench", "drain", "--jobs", "9"], ["--jobs", "9", "10"]),
        (["bench", "drain", "--jobs", "100000001"], ["100000001"]),
        (["bench", "drain", "--rounds", "0"], ["--rounds", "100"]),
        (["bench", "drain", "--rounds", "101"], ["--rounds", "101"]),
        (["bench", "drain", "--workers", "65"], ["--workers", "64"]),
        (["bench", "drain", "--lane", "fast"], ["fast", "row", "lease"]),
        (["bench", "drain", "--prefix", "x"], ["--prefix"]),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(pgqueuer, arguments, words):
    done = pgqueuer(*arguments)
    assert done.returncode == USAGE
    for word in words:
        assert word in done.stdout + done.stderr


def test_latency_has_a_limit(pgqueuer, db):
    assert_refused(pgqueuer("bench", "latency", "--jobs", "10001", dsn=db), USAGE, "10000")
    assert db.rows(SCHEMAS) == []


def test_a_missing_bare_loop_is_refused_before_anything_is_made(pgqueuer, db, tmp_path):
    done = pgqueuer("bench", "drain", "--bare", tmp_path / "none", dsn=db)
    assert_refused(done, NOT_FOUND, "none", "bench/bare.c")
    assert db.rows(SCHEMAS) == []


@pytest.mark.parametrize("script, word", [("echo hello", "hello"), ("exit 3", "ended by itself"),
                                          ("head -c 1000 /dev/zero", "too much")])
def test_a_bare_loop_that_speaks_otherwise_is_an_error(pgqueuer, db, tmp_path, script, word):
    other = tmp_path / "other"
    other.write_text(f"#!/bin/sh\n{script}\n")
    other.chmod(0o755)
    done = pgqueuer("bench", "drain", "--jobs", "10", "--rounds", "1", "--lane", "lease", "--log-policy",
                    "terminal", "--bare", other, dsn=db, timeout=60)
    assert_refused(done, FAILED, word)
    assert_nothing_stays(db)


def test_without_a_database_it_says_so(pgqueuer):
    done = pgqueuer("bench", "drain", dsn="postgresql://127.0.0.1:1/none")
    assert_refused(done, CANNOT_CONNECT, "127.0.0.1")
