"""The catalogue that the program makes, against dumps of what the Python release makes."""

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from lib.schema import (
    COLUMNS, LABELS, LOCK_KEY, VARIANTS, dump, installed, psql, reference, verify,
)
from lib.waiting import wait_until


@pytest.mark.scenario("catalogue.install")
@pytest.mark.parametrize("variant", VARIANTS)
def test_install_makes_what_the_python_release_makes(pgqueuer, db, variant):
    global_options, options = VARIANTS[variant]
    done = pgqueuer(*global_options, "install", *options, dsn=db)
    assert done.returncode == 0, done.stderr
    assert dump(db) == reference(variant)
    assert verify(pgqueuer, db, "present", *global_options) == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_sql_install_is_a_script_of_the_same(pgqueuer, db, variant):
    global_options, options = VARIANTS[variant]
    done = pgqueuer(*global_options, "sql", "install", *options)
    assert done.returncode == 0, done.stderr
    psql(db, text=done.stdout)
    assert dump(db) == reference(variant)


@pytest.mark.scenario("catalogue.second-install")
@pytest.mark.parametrize("variant", ["default", "prefix", "schema"])
def test_second_install_is_refused_and_changes_nothing(pgqueuer, db, variant):
    global_options, _ = VARIANTS[variant]
    installed(pgqueuer, db, *global_options)
    done = pgqueuer(*global_options, "install", "--durability", "volatile", dsn=db)
    assert done.returncode == 1
    prefix = "acme_" if variant == "prefix" else ""
    schema = "jobs" if variant == "schema" else "the connection's search_path"
    assert f"PgQueuer is already installed (prefix='{prefix}', schema={schema})." in done.stderr
    assert "pgqueuer verify" in done.stderr
    assert dump(db) == reference(variant)


@pytest.mark.parametrize(
    "rest",
    [
        "CREATE TABLE pgqueuer (i int)", "CREATE TABLE pgqueuer_log (i int)",
        "CREATE TABLE pgqueuer_statistics (i int)", "CREATE TABLE pgqueuer_schedules (i int)",
        "CREATE VIEW pgqueuer_log AS SELECT 1 AS i", "CREATE TYPE pgqueuer_status AS ENUM ('a')",
        "CREATE TYPE pgqueuer_statistics_status AS ENUM ('a')",
    ],
)
def test_install_is_refused_by_any_object_of_an_installation(pgqueuer, db, rest):
    db.execute(rest)
    before = dump(db)
    done = pgqueuer("install", dsn=db)
    assert done.returncode == 1
    assert "already installed" in done.stderr
    assert dump(db) == before


def test_install_takes_over_a_function_that_was_left_behind(pgqueuer, db):
    installed(pgqueuer, db)
    db.execute("DROP TABLE pgqueuer, pgqueuer_log, pgqueuer_statistics, pgqueuer_schedules;"
               " DROP TYPE pgqueuer_status")
    installed(pgqueuer, db)
    assert dump(db) == reference("default")


@pytest.mark.parametrize("variant", ["default", "prefix", "schema"])
def test_uninstall_leaves_nothing_and_may_be_repeated(pgqueuer, db, variant):
    global_options, _ = VARIANTS[variant]
    installed(pgqueuer, db, *global_options)
    for _ in range(2):
        done = pgqueuer(*global_options, "uninstall", dsn=db)
        assert done.returncode == 0, done.stderr
        assert dump(db) == (["CREATE SCHEMA jobs;"] if variant == "schema" else [])
        assert verify(pgqueuer, db, "absent", *global_options) == []


def test_uninstall_removes_the_retired_type_too(pgqueuer, db):
    installed(pgqueuer, db)
    db.execute("CREATE TYPE pgqueuer_statistics_status AS ENUM ('a')")
    assert pgqueuer("uninstall", dsn=db).returncode == 0
    assert dump(db) == []


def test_uninstall_of_a_schema_that_is_not_there_succeeds(pgqueuer, db):
    assert pgqueuer("--schema", "nowhere", "uninstall", dsn=db).returncode == 0


def test_uninstall_never_drops_what_others_hung_on_our_objects(pgqueuer, db):
    installed(pgqueuer, db)
    db.execute("CREATE VIEW mine AS SELECT id FROM pgqueuer")
    before = dump(db)
    done = pgqueuer("uninstall", dsn=db)
    assert done.returncode == 1
    assert "depend" in done.stderr
    assert dump(db) == before


@pytest.mark.parametrize("level", ["balanced", "volatile", "durable"])
def test_durability_changes_the_tables_and_their_sequences(pgqueuer, db, level):
    assert pgqueuer("install", "--durability", "volatile", dsn=db).returncode == 0
    done = pgqueuer("durability", level, dsn=db)
    assert done.returncode == 0, done.stderr
    assert dump(db) == reference({"durable": "default"}.get(level, level))


def test_durability_refuses_another_word(pgqueuer, queue_db):
    done = pgqueuer("durability", "Durable", dsn=queue_db)
    assert done.returncode == 2
    assert "balanced" in done.stderr


@pytest.mark.parametrize("command", [("durability", "balanced"), ("autovac",)])
def test_a_change_of_what_is_not_installed_says_so(pgqueuer, db, command):
    done = pgqueuer(*command, dsn=db)
    assert done.returncode == 4
    assert "pgqueuer install" in done.stderr


BUSY = {
    "autovacuum_vacuum_scale_factor=0.01", "autovacuum_vacuum_threshold=1000",
    "autovacuum_analyze_scale_factor=0.02", "autovacuum_analyze_threshold=500",
    "autovacuum_vacuum_cost_limit=10000", "autovacuum_vacuum_cost_delay=0", "fillfactor=70",
}
GROWING = {
    "autovacuum_vacuum_scale_factor=0.95", "autovacuum_vacuum_threshold=1000000",
    "autovacuum_analyze_scale_factor=0.05", "autovacuum_analyze_threshold=10000",
}


def settings(db):
    rows = db.rows("SELECT relname, reloptions FROM pg_class WHERE relname = ANY(%s)",
                   [list(COLUMNS)])
    return {name: set(options or ()) for name, options in rows}


def test_autovac_sets_and_its_rollback_resets(pgqueuer, queue_db):
    queue_db.execute("ALTER TABLE pgqueuer SET (toast_tuple_target = 512)")  # not ours: it stays
    assert pgqueuer("autovac", dsn=queue_db).returncode == 0
    assert settings(queue_db) == {
        "pgqueuer": BUSY | {"toast_tuple_target=512"}, "pgqueuer_schedules": BUSY,
        "pgqueuer_log": GROWING, "pgqueuer_statistics": GROWING,
    }
    assert pgqueuer("autovac", "--rollback", dsn=queue_db).returncode == 0
    assert settings(queue_db) == {
        "pgqueuer": {"toast_tuple_target=512"}, "pgqueuer_schedules": set(),
        "pgqueuer_log": set(), "pgqueuer_statistics": set(),
    }


@pytest.mark.parametrize(
    ("command", "check"),
    [
        (("sql", "uninstall"), lambda db: dump(db) == []),
        (("sql", "durability", "balanced"), lambda db: dump(db) == reference("balanced")),
        (("sql", "autovac"), lambda db: settings(db)["pgqueuer"] == BUSY),
    ],
)
def test_the_other_scripts_do_what_the_commands_do(pgqueuer, queue_db, command, check):
    done = pgqueuer(*command)
    assert done.returncode == 0, done.stderr
    psql(queue_db, text=done.stdout)
    assert check(queue_db)


def test_concurrent_installs_make_one_installation(pgqueuer, db):
    with db.connect() as holder, ThreadPoolExecutor(4) as pool:
        holder.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        runs = [pool.submit(pgqueuer, "install", dsn=db) for _ in range(4)]
        wait_until(
            lambda: db.value("SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database"
                             " WHERE locktype = 'advisory' AND NOT granted"
                             " AND datname = current_database()") == 4,
            20, "all installs wait for the lock",
        )
        holder.execute("SELECT pg_advisory_unlock_all()")
        done = [run.result() for run in runs]
    assert sorted(run.returncode for run in done) == [0, 1, 1, 1]
    for run in done:
        assert run.returncode == 0 or "PgQueuer is already installed" in run.stderr
    assert dump(db) == reference("default")


def test_install_beside_one_that_takes_no_lock_says_who_was_faster(pgqueuer, db):
    with db.connect(autocommit=False) as other, ThreadPoolExecutor(1) as pool:
        # as the install of the Python release begins
        other.execute("CREATE TYPE pgqueuer_status AS ENUM ('queued')")
        run = pool.submit(pgqueuer, "install", dsn=db)
        wait_until(
            lambda: db.value("SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid'"
                             " AND NOT granted") == 1,
            20, "our install waits for the other",
        )
        other.commit()
        done = run.result()
    assert done.returncode == 1
    assert "PgQueuer is already installed" in done.stderr


def test_install_makes_no_schema_when_told_so(pgqueuer, db):
    done = pgqueuer("--schema", "jobs", "install", "--no-create-schema", dsn=db)
    assert done.returncode == 1
    assert "the schema 'jobs' does not exist" in done.stderr
    db.execute("CREATE SCHEMA jobs")
    done = pgqueuer("--schema", "jobs", "install", "--no-create-schema", dsn=db)
    assert done.returncode == 0, done.stderr
    assert dump(db) == reference("schema")


def test_a_search_path_without_a_schema_is_explained(pgqueuer, db):
    done = pgqueuer("install", dsn=f"{db.dsn}&options=-csearch_path%3D")
    assert done.returncode == 1
    assert "search_path" in done.stderr and "--schema" in done.stderr


def test_install_refuses_names_that_the_server_would_cut(pgqueuer, db):
    done = pgqueuer("--prefix", "p" * 40, "install", dsn=db)
    assert done.returncode == 2
    assert "longer than 63 bytes" in done.stderr
    assert dump(db) == []


@pytest.fixture
def limited(db):
    """A login of an ordinary role, which owns nothing."""
    role = f"limited_{db.name}"
    db.execute(f"CREATE ROLE {role} LOGIN")
    yield role
    db.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_an_ordinary_role_is_told_what_it_lacks(pgqueuer, db, limited):
    dsn = db.cluster.dsn(db.name, user=limited)
    db.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    for options in ((), ("--schema", "jobs")):
        done = pgqueuer(*options, "install", dsn=dsn)
        assert done.returncode == 1
        assert "CREATE" in done.stderr
    installed(pgqueuer, db)
    for command in (("uninstall",), ("durability", "volatile"), ("autovac",)):
        done = pgqueuer(*command, dsn=dsn)
        assert done.returncode == 1
        assert "owns the tables" in done.stderr
    assert dump(db) == reference("default")
    assert verify(pgqueuer, dsn) == []  # looking needs no right on the tables


def test_a_role_may_install_into_its_schema_without_rights_on_the_database(pgqueuer, db, limited):
    db.execute(f"CREATE SCHEMA jobs AUTHORIZATION {limited}")
    installed(pgqueuer, db.cluster.dsn(db.name, user=limited), "--schema", "jobs")
    assert dump(db) == reference("schema")


@pytest.mark.parametrize("prefix", ["", "acme_"])
def test_every_changing_statement_notifies_once_but_an_update_never(pgqueuer, db, prefix):
    installed(pgqueuer, db, *(("--prefix", prefix) if prefix else ()))
    table, channel = f"{prefix}pgqueuer", f"{prefix}ch_pgqueuer"
    insert = f"INSERT INTO {table} (priority, status, entrypoint) VALUES"
    with db.connect() as listener:
        listener.execute(f'LISTEN "{channel}"')
        for statement in (
            f"{insert} (0, 'queued', 'a'), (0, 'queued', 'b')",
            f"UPDATE {table} SET priority = 1", f"DELETE FROM {table} WHERE false",
            f"TRUNCATE {table}", "SELECT pg_notify(%s, 'end')",
        ):
            db.execute(statement, [channel] if "%s" in statement else None)
        events = []
        for notification in listener.notifies(timeout=20):
            if notification.payload == "end":
                break
            events.append(json.loads(notification.payload))
    assert [event["operation"] for event in events] == ["insert", "delete", "truncate"]
    for event in events:
        assert list(event) == ["channel", "operation", "sent_at", "table", "type"]
        assert (event["channel"], event["table"]) == (channel, table)
        assert event["type"] == "table_changed_event"


def test_rows_take_the_declared_defaults(queue_db):
    job = "INSERT INTO pgqueuer (priority, status, entrypoint) VALUES (0, 'queued', 'a')"
    schedule = "INSERT INTO pgqueuer_schedules (expression, entrypoint) VALUES ('* * * * *', 'a')"
    queue_db.execute(job)
    queue_db.execute(schedule)
    assert queue_db.rows("SELECT id, attempts, slot FROM pgqueuer") == [(1, 0, None)]
    assert queue_db.rows("SELECT id, status::text, last_run FROM pgqueuer_schedules") == [
        (1, "queued", None)
    ]
    with pytest.raises(psycopg.errors.UniqueViolation):
        queue_db.execute(schedule)
    assert queue_db.rows("SELECT unnest(enum_range(NULL::pgqueuer_status))::text") == [
        (label,) for label in LABELS
    ]
