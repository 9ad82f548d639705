"""`pgqueuer upgrade` from what every release left behind to what install makes."""

import pytest

from lib.extent import extent
from lib.upgrade import (
    CLAIMS_DAMAGE, DAMAGE, SCHEMAS, assert_up_to_date, checksums, columns_before, fill, restore, upgraded,
)
from lib.schema import COLUMNS, INDEXES, dump, verify

ROWS = extent("UPGRADE_ROWS", 300, 100_000)
CURRENT = "PgQueuer schema is already up to date."


@pytest.mark.scenario("upgrade.released-schemas")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_upgrade_of_every_released_schema_ends_at_a_fresh_install_and_keeps_all_rows(
    pgqueuer, db, schema
):
    restore(db, schema)
    fill(db, ROWS)
    columns = columns_before(db)
    before = checksums(db, columns)
    upgraded(pgqueuer, db, timeout=600)
    assert_up_to_date(db)
    assert checksums(db, columns) == before
    assert verify(pgqueuer, db) == []
    assert upgraded(pgqueuer, db).stderr.strip() == CURRENT


@pytest.mark.scenario("upgrade.mends")
@pytest.mark.parametrize("index", INDEXES)
def test_an_upgrade_makes_a_dropped_index_again(pgqueuer, queue_db, index):
    queue_db.execute(f"DROP INDEX {index}")
    upgraded(pgqueuer, queue_db)
    assert_up_to_date(queue_db)


@pytest.mark.scenario("upgrade.mends")
@pytest.mark.parametrize(
    ("table", "column"), [(table, column) for table in COLUMNS for column in COLUMNS[table].split()]
)
def test_an_upgrade_adds_a_dropped_column_and_what_went_with_it(pgqueuer, queue_db, table, column):
    queue_db.execute(f"ALTER TABLE {table} DROP COLUMN {column} CASCADE")
    upgraded(pgqueuer, queue_db)
    assert_up_to_date(queue_db)


@pytest.mark.scenario("upgrade.mends")
@pytest.mark.parametrize("damage", DAMAGE)
def test_an_upgrade_mends(pgqueuer, queue_db, damage):
    queue_db.execute(DAMAGE[damage])
    upgraded(pgqueuer, queue_db)
    assert_up_to_date(queue_db)
    assert verify(pgqueuer, queue_db) == []
    assert upgraded(pgqueuer, queue_db).stderr.strip() == CURRENT


def test_an_upgrade_of_an_empty_database_installs(pgqueuer, db):
    upgraded(pgqueuer, db)
    assert_up_to_date(db)


def test_an_upgrade_leaves_what_others_made(pgqueuer, queue_db):
    queue_db.execute(
        "CREATE INDEX pgqueuer_statistics_created ON pgqueuer_statistics (created);"
        "CREATE INDEX mine ON pgqueuer (payload); ALTER TABLE pgqueuer ADD COLUMN mine text;"
        "ALTER TYPE pgqueuer_status ADD VALUE 'mine';"
        "ALTER TABLE pgqueuer_log SET (fillfactor = 50)"
    )
    before = dump(queue_db)
    assert upgraded(pgqueuer, queue_db, "--plan").stdout == ""
    assert upgraded(pgqueuer, queue_db).stderr.strip() == CURRENT
    assert dump(queue_db) == before


def test_a_function_of_the_python_release_stays_but_for_the_extras(pgqueuer, queue_db):
    body = "SELECT prosrc FROM pg_proc WHERE proname = 'fn_pgqueuer_changed'"
    ours = queue_db.value(body)
    queue_db.execute(
        "CREATE OR REPLACE FUNCTION fn_pgqueuer_changed() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM pg_notify('ch_pgqueuer', 'something else'); RETURN NULL; END$$"
    )
    assert upgraded(pgqueuer, queue_db).stderr.strip() == CURRENT
    assert queue_db.value(body) != ours
    assert "leave a backlog's events to its worker" in upgraded(pgqueuer, queue_db, "--extras", "--plan").stdout
    upgraded(pgqueuer, queue_db, "--extras")
    assert queue_db.value(body) == ours
    assert upgraded(pgqueuer, queue_db, "--extras").stderr.strip() == CURRENT


@pytest.mark.scenario("upgrade.statistics")
def test_rows_that_share_a_key_of_the_statistics_are_added_up(pgqueuer, queue_db):
    queue_db.execute(
        "DROP INDEX pgqueuer_statistics_unique_count;"
        "INSERT INTO pgqueuer_statistics (created, count, priority, status, entrypoint) SELECT"
        " '2026-01-01 00:00:00.1Z'::timestamptz + n % 3 * interval '1 s', n, 0, 'successful', 'a'"
        " FROM generate_series(1, 9) AS n"
    )
    upgraded(pgqueuer, queue_db)
    assert queue_db.rows("SELECT id, count FROM pgqueuer_statistics ORDER BY id") == [
        (1, 1 + 4 + 7), (2, 2 + 5 + 8), (3, 3 + 6 + 9)
    ]
    assert_up_to_date(queue_db)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER TABLE pgqueuer ALTER payload TYPE text USING NULL",
         "pgqueuer.payload is text in the database but declared bytea"),
        ("DROP TABLE pgqueuer_log; CREATE VIEW pgqueuer_log AS SELECT 1 AS id",
         "pgqueuer_log is not a table"),
        ("DROP INDEX pgqueuer_ep_ea_idx; CREATE TABLE other (i int);"
         " CREATE INDEX pgqueuer_ep_ea_idx ON other (i)",
         "the name of index pgqueuer_ep_ea_idx is taken by an index of table other"),
    ],
)
def test_what_no_statement_makes_right_is_refused_before_anything_is_done(
    pgqueuer, queue_db, change, words
):
    queue_db.execute(change + "; DROP INDEX pgqueuer_queue_manager_id_idx")
    before = dump(queue_db)
    for options in ((), ("--plan",)):
        done = pgqueuer("upgrade", *options, dsn=queue_db)
        assert done.returncode == 4
        assert words in done.stderr and "by hand" in done.stderr
    assert dump(queue_db) == before


def test_rows_that_break_a_unique_index_are_explained_and_leave_no_invalid_index(
    pgqueuer, queue_db
):
    queue_db.execute(
        "DROP INDEX pgqueuer_unique_dedupe_key;"
        "INSERT INTO pgqueuer (priority, status, entrypoint, dedupe_key)"
        " SELECT 0, 'queued', 'a', 'same' FROM generate_series(1, 2)"
    )
    done = pgqueuer("upgrade", dsn=queue_db)
    assert done.returncode == 1
    assert "pgqueuer_unique_dedupe_key" in done.stderr and "same key" in done.stderr
    assert queue_db.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0
    queue_db.execute("DELETE FROM pgqueuer WHERE id = 2")
    upgraded(pgqueuer, queue_db)
    assert_up_to_date(queue_db)


def test_ids_stay_narrow_when_widening_is_not_wanted(pgqueuer, queue_db):
    queue_db.execute(DAMAGE["narrow ids"])
    for _ in range(2):
        done = upgraded(pgqueuer, queue_db, "--no-widen-id")
        assert "note: widen column pgqueuer.id to bigint" in done.stderr
        assert done.stderr.endswith(f"{CURRENT}\n")
    assert verify(pgqueuer, queue_db) == [
        "column 'pgqueuer.id' is of type integer instead of bigint",
        "sequence 'pgqueuer_id_seq' is of type integer instead of bigint",
    ]


def test_an_upgrade_with_extras_adds_them_and_completes_them(pgqueuer, queue_db):
    upgraded(pgqueuer, queue_db)
    assert queue_db.value("SELECT to_regclass('pgqueuer_c.counts')") is None
    upgraded(pgqueuer, queue_db, "--extras")
    whole = dump(queue_db)
    queue_db.execute("ALTER TABLE pgqueuer_c.counts DROP COLUMN count")
    upgraded(pgqueuer, queue_db)
    assert dump(queue_db) == whole
    assert verify(pgqueuer, queue_db) == []
    assert upgraded(pgqueuer, queue_db, "--extras").stderr.strip() == CURRENT


@pytest.mark.parametrize("damage", [
    "DROP FUNCTION pgqueuer_c.enqueue_many",
    "ALTER FUNCTION pgqueuer_c.enqueue_arrays SECURITY INVOKER",
    "ALTER FUNCTION pgqueuer_c.enqueue_arrays RESET search_path",
    "CREATE OR REPLACE FUNCTION pgqueuer_c.enqueue_many(jobs jsonb, on_conflict text DEFAULT 'raise',"
    " log_policy text DEFAULT 'full') RETURNS TABLE (place integer, id bigint) LANGUAGE plpgsql"
    " SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN; END'",
    "ALTER TABLE pgqueuer_c.imports DROP CONSTRAINT imports_pkey",
    "DROP TABLE pgqueuer_c.imports",
    "DROP TABLE pgqueuer_c.claims",
])
def test_an_upgrade_mends_what_the_extras_lack(pgqueuer, queue_db, damage):
    upgraded(pgqueuer, queue_db, "--extras")
    whole = dump(queue_db)
    queue_db.execute(damage)
    assert verify(pgqueuer, queue_db) != []
    upgraded(pgqueuer, queue_db)
    assert verify(pgqueuer, queue_db) == []
    assert dump(queue_db) == whole


@pytest.mark.parametrize("damage", CLAIMS_DAMAGE)
def test_an_upgrade_gives_claims_the_sequence_that_workers_use(pgqueuer, queue_db, damage):
    """One that is made again is logged, which does no harm."""
    upgraded(pgqueuer, queue_db, "--extras")
    queue_db.execute(damage)
    assert verify(pgqueuer, queue_db) != []
    plan = upgraded(pgqueuer, queue_db, "--plan").stdout
    assert "column pgqueuer_c.claims.front" in plan and "by hand" not in plan
    upgraded(pgqueuer, queue_db)
    assert verify(pgqueuer, queue_db) == []
    assert upgraded(pgqueuer, queue_db).stderr.strip() == CURRENT
    assert queue_db.value(f"SELECT setval('pgqueuer_c.claims_front_seq', {1 << 60})") == 1 << 60
    assert pgqueuer("uninstall", dsn=queue_db).returncode == 0
