"""`pgqueuer sql upgrade`: a script for every database, run by psql, that ends where `pgqueuer upgrade` ends."""

import os
import subprocess

import pytest

from lib import servers
from lib.schema import COLUMNS, INDEXES, LABELS, dump, installed, psql, verify
from lib.upgrade import (
    CLAIMS_DAMAGE, DAMAGE, SCHEMAS, TABLES, assert_up_to_date, checksums, columns_before, fill, restore, restore_as,
    upgraded, without_history,
)

SOME = ("0.15.0-to-0.21.0", "0.21.0", "1.1.0", "1.3.0", "0.21.0-to-1.4.0", "1.6.0")  # of eighteen
CURRENT = "PgQueuer schema is already up to date."


@pytest.fixture
def script(pgqueuer):
    """Of these options, and no connection made for it."""

    def write(*options):
        done = pgqueuer("sql", "upgrade", *options, dsn="host=/nonexistent")
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return done.stdout

    return write


def run(db, text, *options):
    """In psql, which says nothing."""
    done = subprocess.run(
        [servers.client("psql", db.cluster.bin), "-X", "-q", "-v", "ON_ERROR_STOP=1", *options, db.dsn], input=text,
        capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.soak
@pytest.mark.parametrize("schema", SCHEMAS if os.environ.get("PGQUEUER_SOAK") else SOME)
def test_the_script_upgrades_every_released_schema_and_keeps_all_rows(pgqueuer, db, script, schema):
    restore(db, schema)
    fill(db, 20)
    columns = columns_before(db)
    before = checksums(db, columns)
    run(db, script(), *(["--single-transaction"] if SCHEMAS.index(schema) % 2 else []))
    assert verify(pgqueuer, db) == []
    assert_up_to_date(db)
    assert checksums(db, columns) == before
    assert upgraded(pgqueuer, db).stderr.strip() == CURRENT


def test_the_script_installs_on_an_empty_database(pgqueuer, db, script):
    run(db, script(), "--single-transaction")
    assert_up_to_date(db)
    assert verify(pgqueuer, db) == []


def test_the_script_mends_whatever_an_upgrade_mends(pgqueuer, queue_db, script):
    """But what an upgrade has left half done: that is for the next upgrade."""
    text = script()
    for name, damage in DAMAGE.items():
        if "replacement" not in name:
            queue_db.execute(damage)
            run(queue_db, text)
            assert verify(pgqueuer, queue_db) == [], name
    assert_up_to_date(queue_db)


def test_the_script_makes_what_was_dropped(pgqueuer, queue_db, script):
    queue_db.execute("".join(f"DROP INDEX {index};" for index in INDEXES))
    run(queue_db, script())
    assert_up_to_date(queue_db)
    for table in TABLES:
        for column in COLUMNS[table].split():
            queue_db.execute(f"ALTER TABLE {table} DROP COLUMN {column} CASCADE")
    run(queue_db, script())
    assert_up_to_date(queue_db)
    assert verify(pgqueuer, queue_db) == []


def test_a_script_that_has_nothing_to_do_locks_no_table_and_changes_nothing(queue_db, script):
    """Somebody reads all tables meanwhile. The labels' statements say that these are there."""
    fill(queue_db, 3)
    before = dump(queue_db)
    with queue_db.connect() as reader:
        reader.autocommit = False
        for table in TABLES:
            reader.execute(f"SELECT FROM {table}")
        said = run(queue_db, "SET lock_timeout = '1s';" + script())
    assert len(said.splitlines()) == len(LABELS) and "skipping" in said
    assert dump(queue_db) == before


@pytest.mark.parametrize("variant, options", [("prefix", ("--prefix", "acme_")), ("schema", ("--schema", "jobs"))])
def test_the_script_is_for_the_names_that_are_given(pgqueuer, db, script, variant, options):
    restore_as(db, "0.21.0", variant)
    run(db, script(*options))
    assert_up_to_date(db, variant)
    assert verify(pgqueuer, db, "present", *options) == []


@pytest.mark.parametrize("options", [
    ("--schema", "group", "--queue-table", "user", "--queue-table-log", "order", "--statistics-table", "select",
     "--schedules-table", "from", "--queue-status-type", "all", "--function", "table", "--trigger", "check"),
    ("--prefix", "queue", "--queue-status-type", "queue", "--schema", "queued"),
])
def test_the_script_takes_names_that_are_hostile_but_legal(pgqueuer, db, script, options):
    installed(pgqueuer, db, *options)
    whole = without_history(dump(db))
    schema, given = options[options.index("--schema") + 1], dict(zip(options[::2], options[1::2]))
    schedules = given.get("--schedules-table", "queuepgqueuer_schedules")
    db.execute(f'ALTER TABLE "{schema}"."{schedules}" ALTER status DROP DEFAULT, DROP COLUMN last_run')
    run(db, script(*options))
    assert without_history(dump(db)) == whole
    said = run(db, "SET lock_timeout = '1s';" + script(*options))
    assert len(said.splitlines()) == len(LABELS)


def test_the_script_leaves_alone_what_has_the_same_names_in_another_schema_of_the_path(pgqueuer, db, script):
    installed(pgqueuer, db, "--schema", "second")
    db.execute("CREATE SCHEMA first; CREATE INDEX pgqueuer_heartbeat_id_id1_idx ON second.pgqueuer (heartbeat);"
               "CREATE TYPE second.pgqueuer_statistics_status AS ENUM ('successful')")
    second = [text for text in dump(db) if "second." in text]
    run(db, "SET search_path = first, second;" + script())
    assert verify(pgqueuer, db, "present", "--schema", "first") == []
    assert [text for text in dump(db) if "second." in text] == second


def test_the_script_widens_no_id_where_that_is_not_wanted(pgqueuer, db, script):
    restore(db, "1.1.0")
    run(db, script("--no-widen-id"))
    assert [line.split(" is of ")[1] for line in verify(pgqueuer, db)] == ["type integer instead of bigint"] * 6
    run(db, script())
    assert_up_to_date(db)


def test_the_script_makes_and_completes_the_extras(pgqueuer, db, script):
    restore(db, "1.3.0")
    run(db, script("--extras"))
    assert verify(pgqueuer, db) == []
    whole = dump(db)
    db.execute("ALTER TABLE pgqueuer_c.counts DROP COLUMN count; DROP FUNCTION pgqueuer_c.enqueue_many")
    run(db, script("--extras"))
    assert without_history(dump(db)) == without_history(whole)
    assert upgraded(pgqueuer, db, "--extras").stderr.strip() == CURRENT


def test_the_script_makes_claims_and_gives_it_the_sequence_that_workers_use(pgqueuer, queue_db, script):
    text = script("--extras")
    run(queue_db, text)
    whole = dump(queue_db)
    queue_db.execute("DROP TABLE pgqueuer_c.claims")
    run(queue_db, text)
    assert dump(queue_db) == whole
    for damage in CLAIMS_DAMAGE:
        queue_db.execute(damage)
        assert verify(pgqueuer, queue_db) != []
        run(queue_db, text, "--single-transaction")
        assert verify(pgqueuer, queue_db) == [], damage
    whole = dump(queue_db)
    run(queue_db, text)
    assert dump(queue_db) == whole
    assert upgraded(pgqueuer, queue_db, "--extras").stderr.strip() == CURRENT


def test_rows_of_the_statistics_that_share_a_key_are_added_up(queue_db, script):
    queue_db.execute("DROP INDEX pgqueuer_statistics_unique_count;"
                     "INSERT INTO pgqueuer_statistics (created, count, priority, status, entrypoint)"
                     " SELECT '2026-11-24', n, 0, 'successful', 'a' FROM generate_series(1, 4) AS n")
    run(queue_db, script())
    assert queue_db.rows("SELECT id, count FROM pgqueuer_statistics") == [(1, 10)]
    assert_up_to_date(queue_db)


def test_a_column_of_another_type_is_named(queue_db, script):
    queue_db.execute("ALTER TABLE pgqueuer ALTER payload TYPE text")
    with pytest.raises(AssertionError, match="pgqueuer.payload is text in the database but declared bytea"):
        run(queue_db, script())
