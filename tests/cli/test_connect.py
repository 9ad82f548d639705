"""Connecting: which database is taken, and what is said when there is none."""

import socket

import pytest

from lib.cluster import free_port
from lib.refusal import CANNOT_CONNECT, DONE, FAILED, SCHEMA, assert_refused
from lib.waiting import wait_until

PASSWORD = "s3same-0pen-never-print"


@pytest.fixture(scope="module")
def login(cluster):
    """A role that has a password, over TCP."""
    cluster.admin("CREATE ROLE needs_password")
    cluster.admin(f"CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}' IN ROLE needs_password")
    yield "guarded"
    cluster.admin("DROP ROLE guarded")
    cluster.admin("DROP ROLE needs_password")


def test_an_unreachable_server(pgqueuer):
    port = free_port()
    dsn = f"postgresql://nobody:{PASSWORD}@127.0.0.1:{port}/none"
    for arguments in (["install"], ["verify", "--expect", "present"], ["queue", "e"]):
        done = pgqueuer(*arguments, dsn=dsn)
        assert_refused(done, CANNOT_CONNECT, "127.0.0.1", str(port))
        assert PASSWORD not in done.stderr


def test_a_silent_server_is_given_up_after_the_connect_timeout(pgqueuer):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        done = pgqueuer("queue", "e", "--connect-timeout", "1", timeout=10,
                        dsn=f"postgresql://127.0.0.1:{port}/none")
    assert_refused(done, CANNOT_CONNECT, "127.0.0.1")


def test_a_wrong_password_is_refused_and_never_printed(pgqueuer, cluster, db, login):
    wrong = "wr0ng-" + PASSWORD
    ways = [
        dict(arguments=["queue", "e"], dsn=cluster.tcp_dsn(db.name, login, wrong)),
        dict(arguments=["queue", "e", "--dsn", cluster.tcp_dsn(db.name, login, wrong)]),
        dict(arguments=["queue", "e", "--pg-host", "127.0.0.1", "--pg-port", str(cluster.port),
                        "--pg-user", login, "--pg-database", db.name, "--pg-password", wrong]),
        dict(arguments=["queue", "e"], env={"PGPASSWORD": wrong},
             dsn=cluster.tcp_dsn(db.name, login)),
        dict(arguments=["queue", "e"], dsn=f"host=127.0.0.1 port={cluster.port} dbname={db.name}"
                                           f" user={login} password={wrong}"),
    ]
    for way in ways:
        done = pgqueuer(*way.pop("arguments"), **way)
        assert_refused(done, CANNOT_CONNECT, "guarded")
        assert PASSWORD not in done.stderr and "wr0ng" not in done.stderr


def test_a_worker_never_logs_the_password(pgqueuer, spawn_worker, cluster, db, login):
    worker = spawn_worker(cluster.tcp_dsn(db.name, login, "wr0ng-" + PASSWORD),
                          "--log-level", "debug", wait=False)
    assert worker.wait() == CANNOT_CONNECT
    assert "wr0ng" not in worker.log()


def test_the_right_password_in_every_way(pgqueuer, cluster, queue_db, login):
    queue_db.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {login}")
    queue_db.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {login}")
    host = ["--pg-host", "127.0.0.1", "--pg-port", str(cluster.port), "--pg-user", login,
            "--pg-database", queue_db.name]
    ways = [
        dict(arguments=["queue", "e"], dsn=cluster.tcp_dsn(queue_db.name, login, PASSWORD)),
        dict(arguments=["queue", "e", *host, "--pg-password", PASSWORD]),
        dict(arguments=["queue", "e", *host], env={"PGPASSWORD": PASSWORD}),
        dict(arguments=["queue", "e"], env={
            "PGHOST": "127.0.0.1", "PGPORT": cluster.port, "PGUSER": login,
            "PGDATABASE": queue_db.name, "PGPASSWORD": PASSWORD}),
    ]
    for way in ways:
        done = pgqueuer(*way.pop("arguments"), **way)
        assert done.returncode == DONE, done.stderr
    assert queue_db.job_count() == len(ways)
    queue_db.execute(f"DROP OWNED BY {login}")


def test_the_order_of_the_dsn_sources(pgqueuer, queue_db):
    nowhere = "postgresql://127.0.0.1:1/none"
    done = pgqueuer("queue", "e", "--dsn", queue_db.dsn,
                    env={"PGQUEUER_DSN": nowhere, "PGDSN": nowhere})
    assert done.returncode == DONE, done.stderr
    done = pgqueuer("queue", "e", env={"PGQUEUER_DSN": queue_db.dsn, "PGDSN": nowhere})
    assert done.returncode == DONE, done.stderr
    done = pgqueuer("queue", "e", env={"PGDSN": queue_db.dsn, "PGHOST": "/nowhere"})
    assert done.returncode == DONE, done.stderr
    assert pgqueuer("queue", "e", env={"PGQUEUER_DSN": nowhere, "PGDSN": queue_db.dsn}).returncode == 3


def test_a_missing_database_is_named(pgqueuer, cluster):
    assert_refused(pgqueuer("queue", "e", dsn=cluster.dsn("no_such_db")), CANNOT_CONNECT, "no_such_db")


def test_several_hosts_are_tried_in_order(pgqueuer, cluster, queue_db):
    dsn = f"postgresql://postgres@127.0.0.1:{free_port()},127.0.0.1:{cluster.port}/{queue_db.name}"
    assert pgqueuer("queue", "e", dsn=dsn).returncode == DONE
    done = pgqueuer("queue", "e", dsn=dsn + "?target_session_attrs=standby")
    assert_refused(done, CANNOT_CONNECT)


@pytest.mark.parametrize("dsn", ["postgresql://127.0.0.1:port/x", "nonsense", "host=a bogus=1"])
def test_a_malformed_dsn_is_refused_without_showing_it_whole(pgqueuer, dsn):
    done = pgqueuer("queue", "e", dsn=dsn)
    assert done.returncode in (2, CANNOT_CONNECT)
    assert_refused(done, done.returncode)


# -- the schema --------------------------------------------------------------------------------


def test_a_missing_schema_says_install(pgqueuer, db, spawn_worker):
    assert_refused(pgqueuer("queue", "e", dsn=db), SCHEMA, "pgqueuer install")
    worker = spawn_worker(db, wait=False)
    assert worker.wait() == SCHEMA
    assert "pgqueuer install" in worker.log()
    assert db.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'pgqueuer%'") == 0


@pytest.mark.scenario("worker.old-schema")
@pytest.mark.parametrize(
    "damage, named",
    [
        ("ALTER TABLE pgqueuer DROP COLUMN slot", "slot"),
        ("DROP INDEX pgqueuer_picked_slot_idx", "pgqueuer_picked_slot_idx"),
        ("ALTER TABLE pgqueuer DROP COLUMN headers", "headers"),
        ("ALTER TABLE pgqueuer_log DROP COLUMN traceback", "traceback"),
        ("DROP TABLE pgqueuer_log", "pgqueuer_log"),
        ("DROP INDEX pgqueuer_log_job_id_status", "pgqueuer_log_job_id_status"),
        ("ALTER TABLE pgqueuer ALTER id TYPE integer", "is not of type bigint"),
    ],
)
def test_a_worker_refuses_another_version_of_the_schema(queue_db, spawn_worker, damage, named):
    queue_db.execute("INSERT INTO pgqueuer (priority, status, entrypoint) VALUES (0, 'queued', 'ok')")
    queue_db.execute(damage)
    worker = spawn_worker(queue_db, "--mode", "drain", args=["ok"], wait=False)
    assert worker.wait() == SCHEMA, worker.log()
    assert named in worker.log()
    mend = "pgqueuer install" if damage.startswith("DROP TABLE") else "pgqueuer upgrade"
    assert mend in worker.log()
    assert queue_db.value("SELECT status::text FROM pgqueuer") == "queued"


def test_an_old_layout_is_named_by_verify(pgqueuer, queue_db):
    queue_db.execute("ALTER TABLE pgqueuer DROP COLUMN slot")
    done = pgqueuer("verify", "--expect", "present", dsn=queue_db)
    assert done.returncode == FAILED
    assert "slot" in done.stdout + done.stderr


# -- install and uninstall ---------------------------------------------------------------------


def test_install_verify_uninstall(pgqueuer, db):
    assert pgqueuer("verify", "--expect", "absent", dsn=db).returncode == DONE
    assert pgqueuer("verify", "--expect", "present", dsn=db).returncode == FAILED
    assert pgqueuer("install", dsn=db).returncode == DONE
    assert pgqueuer("verify", "--expect", "present", dsn=db).returncode == DONE
    assert pgqueuer("verify", "--expect", "absent", dsn=db).returncode == FAILED
    assert_refused(pgqueuer("install", dsn=db), FAILED, "already installed")
    assert pgqueuer("uninstall", dsn=db).returncode == DONE
    assert pgqueuer("verify", "--expect", "absent", dsn=db).returncode == DONE
    assert pgqueuer("uninstall", dsn=db).returncode == DONE, "nothing to drop is no error"


def test_prefix_and_schema_are_followed(pgqueuer, db):
    for options in (["--prefix", "acme_"], ["--schema", "jobs"]):
        assert pgqueuer("install", *options, dsn=db).returncode == DONE
        assert pgqueuer("queue", "e", "x", *options, dsn=db).returncode == DONE
    assert db.value("SELECT count(*) FROM acme_pgqueuer") == 1
    assert db.value("SELECT count(*) FROM jobs.pgqueuer") == 1
    assert pgqueuer("queue", "e", dsn=db).returncode == SCHEMA


def test_a_role_without_privileges_is_told_so(pgqueuer, cluster, queue_db):
    cluster.admin("CREATE ROLE bystander LOGIN")
    try:
        done = pgqueuer("queue", "e", dsn=cluster.dsn(queue_db.name, "bystander"))
        assert_refused(done, FAILED, "permission denied")
    finally:
        cluster.admin("DROP ROLE bystander")


def test_durability_and_autovac(pgqueuer, queue_db):
    def persistence():
        return dict(queue_db.rows("SELECT relname, relpersistence::text FROM pg_class"
                                  " WHERE relname LIKE 'pgqueuer%' AND relkind = 'r'"))

    assert pgqueuer("durability", "balanced", dsn=queue_db).returncode == DONE
    assert persistence() == {"pgqueuer": "p", "pgqueuer_log": "u", "pgqueuer_statistics": "u",
                             "pgqueuer_schedules": "p"}
    assert pgqueuer("durability", "durable", dsn=queue_db).returncode == DONE
    assert set(persistence().values()) == {"p"}

    def reloptions():
        return queue_db.value("SELECT reloptions FROM pg_class WHERE relname = 'pgqueuer'")

    assert pgqueuer("autovac", dsn=queue_db).returncode == DONE
    assert "fillfactor=70" in reloptions()
    assert pgqueuer("autovac", "--rollback", dsn=queue_db).returncode == DONE
    assert reloptions() is None


def test_nothing_stays_connected(pgqueuer, queue_db):
    assert pgqueuer("queue", "e", dsn=queue_db).returncode == DONE
    wait_until(lambda: queue_db.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()") == 0, 5, "the connection is closed")
