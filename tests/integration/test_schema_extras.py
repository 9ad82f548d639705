"""The extras: a schema of our own beside the tables that Python knows."""

import re
import subprocess

import pytest

from lib import servers
from lib.schema import PRESENT, VARIANTS, dump, installed, psql, reference, verify

SCHEMAS = {
    (): "pgqueuer_c",
    ("--prefix", "acme_"): "pgqueuer_c_acme_",
    ("--schema", "jobs"): "pgqueuer_c_jobs",
    ("--schema", "jobs", "--prefix", "acme_"): "pgqueuer_c_jobs_acme_",
}

NO_SEQUENCE = "missing sequence 'pgqueuer_c.claims_front_seq' of column 'pgqueuer_c.claims.front'"


def install_extras(pgqueuer, database, *options):
    done = pgqueuer(*options, "install", "--extras", dsn=database)
    assert done.returncode == 0, done.stderr
    return done


def extras(statements):
    return [text for text in statements if re.search(r"\bpgqueuer_c(_\w+)?[.;]", text)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_extras_add_a_schema_and_leave_the_rest_as_it_is(pgqueuer, db, variant):
    global_options, options = VARIANTS[variant]
    done = pgqueuer(*global_options, "install", "--extras", *options, dsn=db)
    assert done.returncode == 0, done.stderr
    statements = dump(db)
    schema = SCHEMAS[tuple(global_options)]
    assert sorted(set(statements) - set(extras(statements))) == reference(variant)
    found = extras(statements)
    functions = [text for text in found if text.startswith("CREATE FUNCTION")]
    owned, default, key, create, *tables = [text for text in found if text not in functions]
    assert [re.match(r"CREATE FUNCTION ([\w.]+)", text)[1] for text in functions] == [
        f"{schema}.{name}" for name in ("enqueue", "enqueue_arrays", "enqueue_many")]
    assert key.endswith("ADD CONSTRAINT imports_pkey PRIMARY KEY (queue, name);")
    assert create == f"CREATE SCHEMA {schema};"
    assert owned == f"ALTER SEQUENCE {schema}.claims_front_seq OWNED BY {schema}.claims.front;"
    assert f"{schema}.claims ALTER COLUMN front SET DEFAULT nextval('{schema}.claims_front_seq'" in default
    assert any(text.startswith(f"CREATE UNLOGGED SEQUENCE {schema}.claims_front_seq\n") for text in tables)
    unlogged = {"counts": variant in ("balanced", "volatile"), "imports": variant == "volatile", "claims": True}
    for name in unlogged:
        kind = "UNLOGGED TABLE" if unlogged[name] else "TABLE"
        assert any(text.startswith(f"CREATE {kind} {schema}.{name} (") for text in tables)
    assert len(tables) == 4 and "pgqueuer_status" not in "".join(tables)


@pytest.mark.parametrize("options", SCHEMAS)
def test_extras_are_added_to_an_installation_and_adding_them_again_changes_nothing(
    pgqueuer, db, options
):
    installed(pgqueuer, db, *options)
    before = dump(db)
    install_extras(pgqueuer, db, *options)
    after = dump(db)
    assert f"CREATE SCHEMA {SCHEMAS[options]};" in extras(after) and len(extras(after)) == 11
    assert [text for text in after if text not in extras(after)] == before
    db.execute(f"INSERT INTO {SCHEMAS[options]}.counts SELECT 'pg_class', now(), 'a', 0, 'queued', 1")
    install_extras(pgqueuer, db, *options)
    assert dump(db) == after
    assert db.value(f"SELECT count(*) FROM {SCHEMAS[options]}.counts") == 1
    assert verify(pgqueuer, db, "present", *options) == []


def test_a_dump_that_is_restored_has_all_of_it(pgqueuer, queue_db, cluster):
    install_extras(pgqueuer, queue_db)
    queue_db.execute("SELECT setval('pgqueuer_c.claims_front_seq', 1234567)")
    whole = subprocess.run([servers.client("pg_dump", cluster.bin), queue_db.dsn], check=True,
                           capture_output=True, text=True, timeout=60).stdout
    whole = re.sub(r"^SET transaction_timeout = 0;$", "", whole, flags=re.MULTILINE)  # of a newer pg_dump
    other = cluster.create_database()
    psql(other, text=whole)
    assert verify(pgqueuer, other) == []
    assert dump(other) == dump(queue_db)
    assert other.value("SELECT last_value FROM pgqueuer_c.claims_front_seq") == 1234567
    cluster.drop_database(other)


def test_sql_install_is_a_script_of_the_same(pgqueuer, db, cluster):
    done = pgqueuer("sql", "install", "--extras")
    psql(db, text=done.stdout)
    other = cluster.create_database()
    install_extras(pgqueuer, other)
    assert dump(db) == dump(other)
    cluster.drop_database(other)


@pytest.mark.parametrize("options", SCHEMAS)
def test_uninstall_removes_the_extras(pgqueuer, db, options):
    install_extras(pgqueuer, db, *options)
    for _ in range(2):
        done = pgqueuer(*options, "uninstall", dsn=db)
        assert done.returncode == 0, done.stderr
        assert dump(db) == (["CREATE SCHEMA jobs;"] if "--schema" in options else [])
        assert verify(pgqueuer, db, "absent", *options) == []


def test_uninstall_never_drops_what_others_put_into_the_schema(pgqueuer, db):
    install_extras(pgqueuer, db)
    db.execute("CREATE TABLE pgqueuer_c.mine (i int)")
    before = dump(db)
    done = pgqueuer("uninstall", dsn=db)
    assert done.returncode != 0 and "depend" in done.stderr
    assert dump(db) == before


def test_verify_says_whether_the_extras_are_there(pgqueuer, queue_db):
    without = pgqueuer("verify", "--expect", "present", dsn=queue_db)
    install_extras(pgqueuer, queue_db)
    with_them = pgqueuer("verify", "--expect", "present", dsn=queue_db)
    assert without.stdout.strip() == with_them.stdout.strip() == PRESENT
    assert "install --extras" in without.stderr
    assert "The extras are installed (schema pgqueuer_c)." in with_them.stderr


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ("DROP TABLE pgqueuer_c.counts", ["missing table 'pgqueuer_c.counts'"]),
        ("ALTER TABLE pgqueuer_c.counts DROP status", ["missing column 'pgqueuer_c.counts.status'"]),
        ("ALTER TABLE pgqueuer_c.counts ALTER count TYPE integer",
         ["column 'pgqueuer_c.counts.count' is of type integer instead of bigint"]),
        ("ALTER TABLE pgqueuer_c.counts ALTER second DROP NOT NULL",
         ["column 'pgqueuer_c.counts.second' accepts NULL"]),
        ("DROP TABLE pgqueuer_c.counts; CREATE VIEW pgqueuer_c.counts AS SELECT 1 AS i",
         ["relation 'pgqueuer_c.counts' is not a table"]),
        ("DROP TABLE pgqueuer_c.imports", ["missing table 'pgqueuer_c.imports'"]),
        ("ALTER TABLE pgqueuer_c.imports DROP CONSTRAINT imports_pkey",
         ["missing primary key (queue, name) of table 'pgqueuer_c.imports'"]),
        ("DROP TABLE pgqueuer_c.claims", ["missing table 'pgqueuer_c.claims'"]),
        ("ALTER TABLE pgqueuer_c.claims DROP front", ["missing column 'pgqueuer_c.claims.front'"]),
        ("ALTER TABLE pgqueuer_c.claims ALTER front TYPE integer",
         ["column 'pgqueuer_c.claims.front' is of type integer instead of bigint"]),
        ("DROP SEQUENCE pgqueuer_c.claims_front_seq CASCADE",
         ["column 'pgqueuer_c.claims.front' has the default none instead of a sequence", NO_SEQUENCE]),
        ("ALTER SEQUENCE pgqueuer_c.claims_front_seq RENAME TO other", [NO_SEQUENCE]),
        ("ALTER SEQUENCE pgqueuer_c.claims_front_seq OWNED BY NONE", [NO_SEQUENCE]),
        ("ALTER SEQUENCE pgqueuer_c.claims_front_seq AS integer",
         ["sequence 'pgqueuer_c.claims_front_seq' is of type integer instead of bigint"]),
        ("DROP SCHEMA pgqueuer_c CASCADE", []),
        ("ALTER TABLE pgqueuer_c.counts ADD more int; CREATE TABLE pgqueuer_c.mine (i int)", []),
    ],
)
def test_verify_names_what_is_different_in_the_extras(pgqueuer, queue_db, change, lines):
    install_extras(pgqueuer, queue_db)
    queue_db.execute(change)
    assert verify(pgqueuer, queue_db) == lines


@pytest.mark.parametrize("table", ["counts", "imports", "claims"])
def test_a_table_that_is_missing_is_made_again(pgqueuer, queue_db, table):
    """An older release's extras had fewer."""
    install_extras(pgqueuer, queue_db)
    whole = dump(queue_db)
    queue_db.execute(f"DROP TABLE pgqueuer_c.{table}")
    install_extras(pgqueuer, queue_db)
    assert verify(pgqueuer, queue_db) == [] and dump(queue_db) == whole


@pytest.mark.parametrize("level", ["durable", "balanced", "volatile"])
def test_durability_is_that_of_the_statistics_and_of_the_queue(pgqueuer, queue_db, level):
    install_extras(pgqueuer, queue_db)
    for wanted in ("volatile", level):
        assert pgqueuer("durability", wanted, dsn=queue_db).returncode == 0
    persistence = "SELECT relpersistence FROM pg_class WHERE oid = %s::regclass"
    assert (queue_db.value(persistence, ["pgqueuer_c.counts"])
            == queue_db.value(persistence, ["pgqueuer_statistics"]))
    assert (queue_db.value(persistence, ["pgqueuer_c.imports"])
            == queue_db.value(persistence, ["pgqueuer"]))
    assert queue_db.value(persistence, ["pgqueuer_c.claims"]) == "u"


def test_a_role_that_may_not_make_schemas_is_told_so(pgqueuer, queue_db):
    queue_db.execute("DROP ROLE IF EXISTS maker; CREATE ROLE maker LOGIN")
    done = pgqueuer("install", "--extras", dsn=queue_db.cluster.dsn(queue_db.name, user="maker"))
    assert done.returncode == 1
    assert "permission denied for database" in done.stderr and "CREATE" in done.stderr
    queue_db.execute("DROP ROLE maker")


def test_a_schema_name_that_the_server_would_cut_is_refused(pgqueuer, db):
    db.execute(f"CREATE SCHEMA {'s' * 52}")
    installed(pgqueuer, db, "--schema", "s" * 52)
    done = pgqueuer("--schema", "s" * 53, "install", "--extras", dsn=db)
    assert done.returncode == 2 and "longer than 63 bytes" in done.stderr
    install_extras(pgqueuer, db, "--schema", "s" * 52)
    assert verify(pgqueuer, db, "present", "--schema", "s" * 52) == []
