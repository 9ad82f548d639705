"""What `pgqueuer verify` finds, and what it is silent about."""

import pytest

from lib.schema import (
    COLUMNS, CONSTRAINTS, DUMPS, INDEXES, index_names, installed, psql, verify,
)


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
