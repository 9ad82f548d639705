"""The catalogue that the program makes, against dumps of what the Python release makes."""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from lib.program import REPOSITORY
from lib.waiting import wait_until

DUMPS = REPOSITORY / "tests" / "data" / "catalog"
PRESENT = "All required PgQueuer database objects are present."
ABSENT = "No PgQueuer database objects found"
LOCK_KEY = 2389487409  # CRC-32 of "pgqueuer"; the Python release takes it too
LABELS = ("queued", "picked", "successful", "exception", "canceled", "deleted", "failed")

# How each reference dump is made: global options, options of install.
VARIANTS = {
    "default": ((), ()),
    "prefix": (("--prefix", "acme_"), ()),
    "schema": (("--schema", "jobs"), ()),
    "balanced": ((), ("--durability", "balanced")),
    "volatile": ((), ("--durability", "volatile")),
}

COLUMNS = {
    "pgqueuer": "id priority queue_manager_id created updated heartbeat execute_after status"
    " entrypoint dedupe_key payload headers attempts slot",
    "pgqueuer_log": "id created job_id status priority entrypoint traceback aggregated",
    "pgqueuer_statistics": "id created count priority status entrypoint",
    "pgqueuer_schedules": "id expression entrypoint heartbeat created updated next_run last_run"
    " status",
}

INDEXES = (
    "pgqueuer_ep_ea_idx pgqueuer_ep_prio_id_idx pgqueuer_log_created pgqueuer_log_job_id_status"
    " pgqueuer_log_not_aggregated pgqueuer_log_status pgqueuer_picked_heartbeat_idx"
    " pgqueuer_picked_slot_idx pgqueuer_priority_id_id1_idx pgqueuer_queue_manager_id_idx"
    " pgqueuer_statistics_unique_count pgqueuer_unique_dedupe_key pgqueuer_updated_id_id1_idx"
).split()

# Constraints that disappear with a column, and what verify says of them.
CONSTRAINTS = {
    **{f"{table}_pkey": f"missing primary key (id) of table '{table}'" for table in COLUMNS},
    "pgqueuer_schedules_expression_entrypoint_key": "missing unique constraint"
    " (expression, entrypoint) of table 'pgqueuer_schedules'",
}


def statements(dump):
    """The statements of a dump, sorted; without comments, settings and the random keys."""
    lines = [
        line
        for line in dump.splitlines()
        if not line.startswith(
            ("--", "\\restrict", "\\unrestrict", "SET ", "SELECT pg_catalog.set_config")
        )
    ]
    blocks = re.split(r"\n{2,}", "\n".join(lines))
    return sorted(block.strip() for block in blocks if block.strip())


def reference(name):
    return statements((DUMPS / f"{name}.sql").read_text())


def dump(db):
    done = subprocess.run(
        [db.cluster.bin / "pg_dump", "-s", "--no-owner", "--no-privileges", db.dsn],
        check=True, capture_output=True, text=True, timeout=60,
    )
    return statements(done.stdout)


def psql(db, *, file=None, text=None):
    done = subprocess.run(
        [
            db.cluster.bin / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1",
            *(["-f", file] if file else []), db.dsn,
        ],
        input=text, capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0, done.stderr


def installed(pgqueuer, db, *options):
    done = pgqueuer(*options, "install", dsn=db)
    assert done.returncode == 0, done.stderr


def verify(pgqueuer, db, expect="present", *options):
    """The divergences, in order; the exit status must agree with them."""
    done = pgqueuer(*options, "verify", "--expect", expect, dsn=db)
    lines = done.stdout.splitlines()
    if lines == [PRESENT if expect == "present" else ABSENT]:
        lines = []
    assert done.returncode == (1 if lines else 0), done.stderr
    return lines


def index_names(db):
    return {
        name for (name,) in db.rows("SELECT indexname FROM pg_indexes WHERE schemaname = 'public'")
    }


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


def test_verify_names_all_objects_of_an_empty_database(pgqueuer, db):
    assert verify(pgqueuer, db) == [
        "missing table 'pgqueuer'", "missing table 'pgqueuer_statistics'",
        "missing table 'pgqueuer_schedules'", "missing table 'pgqueuer_log'",
        "missing function 'fn_pgqueuer_changed'", "missing trigger 'tg_pgqueuer_changed'",
        "missing type 'pgqueuer_status'",
    ]
    assert verify(pgqueuer, db, "absent") == []


def test_verify_absent_names_all_objects_of_an_installation(pgqueuer, db):
    installed(pgqueuer, db, "--prefix", "acme_")
    assert verify(pgqueuer, db, "absent", "--prefix", "acme_") == [
        "unexpected table 'acme_pgqueuer'", "unexpected table 'acme_pgqueuer_statistics'",
        "unexpected table 'acme_pgqueuer_schedules'", "unexpected table 'acme_pgqueuer_log'",
        "unexpected function 'acme_fn_pgqueuer_changed'",
        "unexpected trigger 'acme_tg_pgqueuer_changed'", "unexpected type 'acme_pgqueuer_status'",
    ]
    assert verify(pgqueuer, db, "absent") == []


def test_verify_names_a_schema_that_is_not_there(pgqueuer, db):
    installed(pgqueuer, db)
    lines = verify(pgqueuer, db, "present", "--schema", "nowhere")
    assert "missing schema 'nowhere'" in lines
    assert "missing table 'pgqueuer'" in lines
    assert verify(pgqueuer, db, "absent", "--schema", "nowhere") == []


@pytest.mark.parametrize(
    ("table", "column"), [(table, column) for table in COLUMNS for column in COLUMNS[table].split()]
)
def test_verify_names_a_dropped_column(pgqueuer, queue_db, table, column):
    before = index_names(queue_db)
    queue_db.execute(f"ALTER TABLE {table} DROP COLUMN {column} CASCADE")
    gone = before - index_names(queue_db)
    assert set(verify(pgqueuer, queue_db)) == {
        f"missing column '{table}.{column}'",
        *(CONSTRAINTS.get(name, f"missing index '{name}'") for name in gone),
    }


@pytest.mark.parametrize("index", INDEXES)
def test_verify_names_a_dropped_index(pgqueuer, queue_db, index):
    queue_db.execute(f"DROP INDEX {index}")
    assert verify(pgqueuer, queue_db) == [f"missing index '{index}'"]


@pytest.mark.parametrize("table", COLUMNS)
def test_verify_names_a_dropped_table(pgqueuer, queue_db, table):
    queue_db.execute(f"DROP TABLE {table}")
    trigger = ["missing trigger 'tg_pgqueuer_changed'"] if table == "pgqueuer" else []
    assert verify(pgqueuer, queue_db) == [f"missing table '{table}'", *trigger]


@pytest.mark.parametrize("schema", [(), ("--schema", "jobs")])
@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ("DROP TRIGGER tg_pgqueuer_changed ON pgqueuer", ["missing trigger 'tg_pgqueuer_changed'"]),
        (
            "DROP FUNCTION fn_pgqueuer_changed CASCADE",
            ["missing function 'fn_pgqueuer_changed'", "missing trigger 'tg_pgqueuer_changed'"],
        ),
        (
            "ALTER TABLE pgqueuer_log DROP CONSTRAINT pgqueuer_log_pkey",
            ["missing primary key (id) of table 'pgqueuer_log'"],
        ),
        (
            "ALTER TABLE pgqueuer_schedules"
            " DROP CONSTRAINT pgqueuer_schedules_expression_entrypoint_key",
            [CONSTRAINTS["pgqueuer_schedules_expression_entrypoint_key"]],
        ),
        (
            "ALTER TABLE pgqueuer ALTER payload TYPE text USING NULL",
            ["column 'pgqueuer.payload' is of type text instead of bytea"],
        ),
        (
            "ALTER TABLE pgqueuer ALTER entrypoint DROP NOT NULL",
            ["column 'pgqueuer.entrypoint' accepts NULL"],
        ),
        (
            "ALTER TABLE pgqueuer ALTER slot SET NOT NULL",
            ["column 'pgqueuer.slot' does not accept NULL"],
        ),
        (
            "ALTER TABLE pgqueuer ALTER attempts SET DEFAULT 1",
            ["column 'pgqueuer.attempts' has the default 1 instead of 0"],
        ),
        (
            "ALTER TABLE pgqueuer ALTER heartbeat DROP DEFAULT",
            ["column 'pgqueuer.heartbeat' has the default none instead of now()"],
        ),
        (
            "ALTER TABLE pgqueuer ALTER priority SET DEFAULT 7",
            ["column 'pgqueuer.priority' has the default 7 instead of none"],
        ),
        (
            "ALTER TABLE pgqueuer_schedules ALTER status SET DEFAULT 'picked'",
            [
                "column 'pgqueuer_schedules.status' has the default 'picked'::pgqueuer_status"
                " instead of 'queued'::pgqueuer_status"
            ],
        ),
        (
            "ALTER TABLE pgqueuer ALTER id DROP DEFAULT",
            ["column 'pgqueuer.id' has the default none instead of a sequence"],
        ),
        (
            "ALTER TABLE pgqueuer_log ALTER id DROP IDENTITY",
            ["column 'pgqueuer_log.id' has the default none instead of a sequence"],
        ),
        (
            "ALTER SEQUENCE pgqueuer_id_seq AS integer",
            ["sequence 'pgqueuer_id_seq' is of type integer instead of bigint"],
        ),
        (
            "ALTER TABLE pgqueuer_statistics ADD time_in_queue interval NOT NULL",
            ["retired column 'pgqueuer_statistics.time_in_queue' does not accept NULL"],
        ),
        (
            "DROP INDEX pgqueuer_log_status;"
            " CREATE UNIQUE INDEX pgqueuer_log_status ON pgqueuer_log (id, status)",
            [
                "index 'pgqueuer_log_status' is unique",
                "index 'pgqueuer_log_status' is btree (id, status) instead of btree (status)",
            ],
        ),
        (
            "DROP INDEX pgqueuer_picked_slot_idx; CREATE UNIQUE INDEX pgqueuer_picked_slot_idx"
            " ON pgqueuer (entrypoint, slot) WHERE slot IS NOT NULL",
            [
                "index 'pgqueuer_picked_slot_idx' is btree (entrypoint, slot) WHERE"
                " (slot IS NOT NULL) instead of btree (entrypoint, slot) WHERE"
                " ((status = 'picked'::pgqueuer_status) AND (slot IS NOT NULL))"
            ],
        ),
        (
            "DROP INDEX pgqueuer_log_created;"
            " CREATE INDEX pgqueuer_log_created ON pgqueuer (created)",
            ["index 'pgqueuer_log_created' is on table 'pgqueuer' instead of 'pgqueuer_log'"],
        ),
        (
            "UPDATE pg_index SET indisvalid = false"
            " WHERE indexrelid = 'pgqueuer_unique_dedupe_key'::regclass",
            ["index 'pgqueuer_unique_dedupe_key' is invalid"],
        ),
        (
            "ALTER TABLE pgqueuer DISABLE TRIGGER tg_pgqueuer_changed",
            ["trigger 'tg_pgqueuer_changed' is disabled"],
        ),
        (
            "CREATE OR REPLACE TRIGGER tg_pgqueuer_changed AFTER INSERT OR DELETE OR UPDATE"
            " ON pgqueuer FOR EACH ROW EXECUTE FUNCTION fn_pgqueuer_changed()",
            [
                "trigger 'tg_pgqueuer_changed' is not AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE"
                " FOR EACH STATEMENT"
            ],
        ),
        (
            "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            " CREATE OR REPLACE TRIGGER tg_pgqueuer_changed AFTER INSERT OR DELETE OR UPDATE OR"
            " TRUNCATE ON pgqueuer FOR EACH STATEMENT EXECUTE FUNCTION other()",
            [
                "trigger 'tg_pgqueuer_changed' calls function 'other' instead of"
                " 'fn_pgqueuer_changed'"
            ],
        ),
        (
            "CREATE OR REPLACE FUNCTION fn_pgqueuer_changed() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN PERFORM pg_notify(''elsewhere'', ''''); RETURN NULL; END'",
            ["function 'fn_pgqueuer_changed' does not notify channel 'ch_pgqueuer'"],
        ),
        (
            "DROP TABLE pgqueuer_log; CREATE VIEW pgqueuer_log AS SELECT 1 AS id",
            ["relation 'pgqueuer_log' is not a table"],
        ),
    ],
)
def test_verify_names_what_is_different(pgqueuer, db, change, lines, schema):
    installed(pgqueuer, db, *schema)
    db.execute((f"SET search_path = {schema[1]};" if schema else "") + change)
    assert verify(pgqueuer, db, "present", *schema) == lines


@pytest.mark.parametrize(
    "change",
    [
        "CREATE INDEX mine ON pgqueuer (created)",
        "ALTER TABLE pgqueuer ADD mine text NOT NULL DEFAULT ''",
        "CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        " CREATE TRIGGER mine AFTER INSERT ON pgqueuer EXECUTE FUNCTION mine()",
        "ALTER TYPE pgqueuer_status ADD VALUE 'mine'",
        "ALTER TABLE pgqueuer SET (fillfactor = 50)",
        "ALTER TABLE pgqueuer ADD CHECK (priority < 100)",
        "ALTER TABLE pgqueuer_log SET UNLOGGED",
        "CREATE INDEX pgqueuer_heartbeat_id_id1_idx ON pgqueuer (heartbeat)",
        "ALTER TABLE pgqueuer ENABLE ALWAYS TRIGGER tg_pgqueuer_changed",
        "CREATE OR REPLACE FUNCTION fn_pgqueuer_changed() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM pg_notify(''ch_pgqueuer'', ''{}''); RETURN NULL; END'",
        # as releases up to 1.3 spelled it
        "DROP INDEX pgqueuer_statistics_unique_count; CREATE UNIQUE INDEX"
        " pgqueuer_statistics_unique_count ON pgqueuer_statistics (priority,"
        " date_trunc('sec', created AT TIME ZONE 'UTC'), status, entrypoint)",
    ],
)
def test_verify_is_silent_about_what_does_no_harm(pgqueuer, queue_db, change):
    queue_db.execute(change)
    assert verify(pgqueuer, queue_db) == []


def test_verify_finds_what_older_releases_lack(pgqueuer, db):
    psql(db, file=DUMPS / "v1.3.2.sql")
    assert verify(pgqueuer, db) == [
        "missing column 'pgqueuer.slot'",
        "column 'pgqueuer_statistics.created' has the default date_trunc('sec'::text, (now() AT"
        " TIME ZONE 'UTC'::text)) instead of date_trunc('sec'::text, now())",
        "missing index 'pgqueuer_picked_heartbeat_idx'",
        "missing index 'pgqueuer_picked_slot_idx'",
    ]


def test_verify_finds_what_the_oldest_supported_release_lacks(pgqueuer, db):
    psql(db, file=DUMPS / "v0.21.0.sql")
    lines = verify(pgqueuer, db)
    assert lines[0] == "missing label 'failed' of type 'pgqueuer_status'"
    assert "column 'pgqueuer.id' is of type integer instead of bigint" in lines
    assert {line for line in lines if line.startswith("missing index")} == {
        f"missing index 'pgqueuer_{name}'"
        for name in ("ep_ea_idx", "ep_prio_id_idx", "log_job_id_status", "picked_heartbeat_idx",
                     "picked_slot_idx")
    }


@pytest.mark.parametrize("release", ["0.21.0", "1.3.2"])
def test_verify_is_content_with_an_upgraded_database(pgqueuer, db, release):
    psql(db, file=DUMPS / f"upgraded_from_{release}.sql")
    assert verify(pgqueuer, db) == []


def test_only_the_first_schema_of_the_search_path_counts(pgqueuer, db):
    installed(pgqueuer, db)
    db.execute("CREATE SCHEMA other")
    other = f"{db.dsn}&options=-csearch_path%3Dother,public"
    assert "missing table 'pgqueuer'" in verify(pgqueuer, other)
    installed(pgqueuer, other)
    assert verify(pgqueuer, other) == []
    assert verify(pgqueuer, db) == []


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


@pytest.mark.interop
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_python_release_finds_nothing_to_do_but_its_function(pgqueuer, python_pgq, db, variant):
    global_options, options = VARIANTS[variant]
    assert pgqueuer(*global_options, "install", *options, dsn=db).returncode == 0
    done = python_pgq(db, *global_options, "verify", "--expect", "present")
    assert done.returncode == 0, done.stdout
    plan = python_pgq(db, *global_options, "upgrade", "--plan")
    assert plan.returncode == 0, plan.stderr
    assert "Would apply 1 statement." in plan.stderr
    statement = "\n".join(
        line for line in plan.stdout.splitlines() if not line.startswith("--")
    ).strip()
    assert statement.startswith("CREATE OR REPLACE FUNCTION ")
    assert statement.count("CREATE ") == 1


@pytest.mark.interop
@pytest.mark.parametrize("variant", ["default", "prefix", "schema"])
def test_an_installation_of_the_python_release_is_complete(pgqueuer, python_pgq, db, variant):
    global_options, _ = VARIANTS[variant]
    assert python_pgq(db, *global_options, "install").returncode == 0
    assert verify(pgqueuer, db, "present", *global_options) == []
    assert pgqueuer(*global_options, "install", dsn=db).returncode == 1
    assert pgqueuer(*global_options, "uninstall", dsn=db).returncode == 0
    assert python_pgq(db, *global_options, "verify", "--expect", "absent").returncode == 0


@pytest.mark.interop
def test_the_python_release_removes_our_installation(pgqueuer, python_pgq, db):
    installed(pgqueuer, db)
    assert python_pgq(db, "uninstall").returncode == 0
    assert dump(db) == []
