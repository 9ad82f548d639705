"""`pgqueuer bench limits`: what it finds in a database, and that it is a guest there."""

import json
import re
import socket
import threading
import time

import psycopg
import pytest

from lib.pooler import Pooler
from lib.refusal import CANNOT_CONNECT, DONE, USAGE, assert_refused

SLOW_MS = 40
BURN = ("DO $$ BEGIN FOR i IN 1..100001 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")


def limits(pgqueuer, database, **options):
    done = pgqueuer("bench", "limits", "--json", dsn=database, **options)
    assert done.returncode == DONE, done.stderr
    found = json.loads(done.stdout)
    assert found["bench"] == "limits" and "ways" not in found
    return found["limits"]


def findings(found):
    return {finding["about"]: finding["is"] for finding in found["findings"]}


class SlowLink:
    """A way to the server on which what the client sends takes long, if `slow` says so of it."""

    def __init__(self, cluster, slow):
        self._slow, self._server = slow, ("127.0.0.1", cluster.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # it is closed
                return
            server = socket.create_connection(self._server)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for ends in ((client, server, self._slow), (server, client, lambda data: False)):
                threading.Thread(target=self._move, args=ends, daemon=True).start()

    def _move(self, source, target, slow):
        try:
            while data := source.recv(65536):
                if slow(data):
                    time.sleep(SLOW_MS / 1000)  # not a wait: the link is slow
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:  # the other side has gone
            target.close()

    def dsn(self, database):
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database.name}?sslmode=disable&gssencmode=disable"

    def close(self):
        self._listener.close()


@pytest.fixture
def slow_link(cluster):
    made = []

    def make(slow):
        made.append(SlowLink(cluster, slow))
        return made[-1]

    yield make
    for link in made:
        link.close()


# -- what limits -------------------------------------------------------------------------------------


def test_a_slow_commit_is_told_from_a_slow_network(pgqueuer, db, slow_link):
    commit = limits(pgqueuer, slow_link(lambda data: b"pg_logical_emit_message" in data).dsn(db))
    network = limits(pgqueuer, slow_link(lambda data: True).dsn(db))
    assert commit["limit"] == "commit" and network["limit"] == "round trip"
    assert commit["round_trip_ms"]["median"] < SLOW_MS <= commit["commit_ms"]["median"]
    assert SLOW_MS <= network["round_trip_ms"]["median"]
    rate = int(re.search(r"(\d+) jobs/s", findings(commit)["commit"])[1])
    assert rate == pytest.approx(1000 / commit["commit_ms"]["median"], abs=1)
    assert "jobs/s" in findings(network)["round trip"] and "commit" not in findings(network)


def test_the_times_are_those_of_the_samples(pgqueuer, db):
    found = limits(pgqueuer, db)
    for name in ("round_trip_ms", "commit_ms"):
        times = found[name]
        assert 2 <= len(times["rounds"]) <= 100
        assert min(times["rounds"]) == times["min"] <= times["median"] <= times["max"] == max(times["rounds"])
        assert times["min"] > 0


def test_a_transaction_that_holds_the_horizon_is_named(pgqueuer, db):
    with psycopg.connect(db.dsn, application_name="report\x01\n2026") as holder:
        holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        holder.execute("SELECT 1")
        young = limits(pgqueuer, db)
        db.execute(BURN)
        old = limits(pgqueuer, db)
        pid = holder.info.backend_pid
    assert "horizon" not in findings(young)
    assert old["horizon"]["age"] > 100_000
    assert old["horizon"]["holder"].startswith(f"session {pid} ")
    assert f"session {pid} " in findings(old)["horizon"]
    assert findings(old)["horizon"].isprintable()
    assert "horizon" not in findings(limits(pgqueuer, db))


def test_a_prepared_transaction_holds_it_too(pgqueuer, own_cluster):
    own_cluster.admin("ALTER SYSTEM SET max_prepared_transactions = 2")
    own_cluster.restart()
    database = own_cluster.create_database()
    with database.connect(autocommit=False) as connection:
        connection.execute("CREATE TABLE t (i int)")
        connection.execute("PREPARE TRANSACTION 'forgotten'")
    assert limits(pgqueuer, database)["horizon"]["holder"] == "prepared transaction forgotten"


def test_a_pooler_in_between_is_noticed(pgqueuer, cluster, db, processes):
    pooled = limits(pgqueuer, Pooler(cluster, processes).dsn(db))
    direct = limits(pgqueuer, db.tcp_dsn)
    assert (pooled["pooled"], direct["pooled"]) == (True, False)
    assert "pooler" in findings(pooled) and "pooler" not in findings(direct)
    assert pooled["cores"] is None and direct["cores"] > 0


@pytest.mark.parametrize("option, about", [("synchronous_commit=off", "durability"),
                                           ("synchronous_commit=on", None)])
def test_a_commit_that_is_not_waited_for_is_said(pgqueuer, db, option, about):
    found = limits(pgqueuer, db, env={"PGOPTIONS": f"-c {option}"})
    assert found["settings"]["synchronous_commit"] == option.split("=")[1]
    assert ("durability" in findings(found)) == (about is not None)


def test_settings_that_matter_are_judged(pgqueuer, db, own_cluster):
    fast, durable = limits(pgqueuer, db), limits(pgqueuer, own_cluster.create_database())
    assert fast["settings"]["fsync"] == "off" and "fsync" in findings(fast)
    assert durable["settings"]["fsync"] == "on" and "fsync" not in findings(durable)
    assert "WAL" in findings(durable) and "WAL" not in findings(fast)  # it writes no full pages


def test_few_connections_left_are_said(pgqueuer, own_cluster):
    own_cluster.admin("ALTER SYSTEM SET max_connections = 10")
    own_cluster.restart()
    database = own_cluster.create_database()
    assert "connections" not in findings(limits(pgqueuer, database))
    taken = [database.connect() for _ in range(7)]
    try:
        assert findings(limits(pgqueuer, database))["connections"] == "8 of 10 connections are taken"
    finally:
        for connection in taken:
            connection.close()


def test_the_text_says_what_and_what_helps(pgqueuer, db):
    done = pgqueuer("bench", "limits", dsn=db)
    assert done.returncode == DONE, done.stderr
    assert re.search(r"^what limits here: round trip \d+\.\d+ ms .*, commit \d+\.\d+ ms ", done.stdout, re.M)
    assert done.stdout.count("helps: ") >= 2 and "fsync is off" in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 250


def test_the_document_goes_into_a_file(pgqueuer, db, tmp_path):
    done = pgqueuer("bench", "limits", "--output", tmp_path / "limits.json", dsn=db)
    assert done.returncode == DONE and "what limits here" in done.stdout
    assert json.loads((tmp_path / "limits.json").read_text())["limits"]["limit"]


def test_the_other_kinds_say_it_below_their_table(pgqueuer, db, tmp_path):
    done = pgqueuer("bench", "drain", "--jobs", "100", "--rounds", "1", "--lane", "lease", "--log-policy",
                    "terminal", "--output", tmp_path / "drain.json", dsn=db, timeout=120)
    assert done.returncode == DONE, done.stderr
    assert "what limits here: " in done.stdout.split("budget")[1]
    assert json.loads((tmp_path / "drain.json").read_text())["limits"]["commit_ms"]["median"] > 0


# -- it is a guest -----------------------------------------------------------------------------------

OBJECTS = "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"


def test_nothing_is_made_and_the_queue_is_not_touched(pgqueuer, queue_db):
    queue_db.execute("INSERT INTO pgqueuer (priority, status, entrypoint) VALUES (0, 'queued', 'bench')")
    before = sorted(queue_db.rows(OBJECTS)), queue_db.job(1), queue_db.log_counts()
    with queue_db.connect() as listener:
        listener.execute("LISTEN ch_pgqueuer")
        limits(pgqueuer, queue_db)
        assert list(listener.notifies(timeout=0)) == []
    assert (sorted(queue_db.rows(OBJECTS)), queue_db.job(1), queue_db.log_counts()) == before


def test_a_role_that_may_only_connect_is_enough(pgqueuer, cluster, db):
    cluster.admin("CREATE ROLE limits_guest LOGIN")
    try:
        found = limits(pgqueuer, cluster.dsn(db.name, "limits_guest"))
        assert found["commit_ms"]["median"] > 0 and found["limit"] != "unknown"
        db.execute("REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) FROM PUBLIC")
        found = limits(pgqueuer, cluster.dsn(db.name, "limits_guest"))
        assert found["limit"] == "unknown" and found["commit_ms"]["median"] is None
        assert "does not let this role" in findings(found)["commit"]
    finally:
        cluster.drop_database(db)
        cluster.admin("DROP ROLE limits_guest")


def test_a_wrong_command_line_and_a_missing_database_are_refused(pgqueuer):
    done = pgqueuer("bench", "limits", "--jobs", "10")
    assert done.returncode == USAGE and "--jobs" in done.stderr
    assert_refused(pgqueuer("bench", "limits", dsn="postgresql://127.0.0.1:1/none"), CANNOT_CONNECT, "127.0.0.1")
