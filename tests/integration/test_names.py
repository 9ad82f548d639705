"""Other names of the objects: prefix, schema, each name by itself, several installations in one
database, and names that are hostile but legal. Every command works with them."""

import pytest

from lib.schema import dump, installed, verify
from lib.upgrade import (
    assert_up_to_date, checksums, columns_before, fill, restore_as, upgraded, without_history,
)

CURRENT = "PgQueuer schema is already up to date."
LONG = "a" * (63 - len("pgqueuer_schedules_expression_entrypoint_key"))

NAMES = {
    "prefix": ("--prefix", "acme_"),
    "schema": ("--schema", "jobs"),
    "prefix and schema": ("--prefix", "acme_", "--schema", "jobs"),
    "channel": ("--channel", "Other.channel-1"),
    "function": ("--function", "other_function"),
    "trigger": ("--trigger", "other_trigger"),
    "queue table": ("--queue-table", "other_queue"),
    "log table": ("--queue-table-log", "other_log"),
    "statistics table": ("--statistics-table", "other_statistics"),
    "schedules table": ("--schedules-table", "other_schedules"),
    "status type": ("--queue-status-type", "other_status"),
    "all, and a prefix that none of them takes": (
        "--prefix", "no_", "--channel", "ch", "--function", "fn", "--trigger", "tg",
        "--queue-table", "q", "--queue-table-log", "l", "--statistics-table", "st",
        "--schedules-table", "sch", "--queue-status-type", "ty",
    ),
    "key words": (
        "--schema", "group", "--channel", "select", "--function", "table", "--trigger", "check",
        "--queue-table", "user", "--queue-table-log", "order", "--statistics-table", "select",
        "--schedules-table", "from", "--queue-status-type", "all",
    ),
    "the server's own words": (
        "--schema", "information", "--queue-table", "pg_type_", "--queue-table-log", "excluded",
        "--statistics-table", "same", "--schedules-table", "now", "--queue-status-type", "text_",
        "--function", "count",
    ),
    "columns' names": (
        "--queue-table", "id", "--queue-table-log", "created", "--statistics-table", "count",
        "--schedules-table", "status", "--queue-status-type", "priority", "--function", "entrypoint",
        "--trigger", "payload",
    ),
    "underscores and digits": ("--prefix", "_0_1__", "--schema", "_"),
    "long": ("--prefix", LONG, "--schema", "b" * 30, "--channel", "c" * 63),
}

# What an older release lacks, by the names of the installation.
AGE = """
    ALTER TABLE {queue} DROP COLUMN slot, DROP COLUMN headers;
    ALTER TABLE {queue} ALTER id TYPE integer;
    ALTER TABLE {statistics} ALTER created SET DEFAULT now();
    DROP INDEX {schema}"{q}_ep_ea_idx", {schema}"{s}_unique_count", {schema}"{l}_job_id_status";
    DROP TRIGGER "{trigger}" ON {queue};
    ALTER TABLE {schedules} ALTER status DROP DEFAULT;
"""


def names_of(options):
    """The names that the options lead to."""
    given = dict(zip(options[::2], options[1::2]))
    prefix = given.get("--prefix", "")

    def name(option, default):
        return given.get(option, prefix + default)

    return {
        "schema": f'"{given["--schema"]}".' if "--schema" in given else "",
        "q": name("--queue-table", "pgqueuer"), "l": name("--queue-table-log", "pgqueuer_log"),
        "s": name("--statistics-table", "pgqueuer_statistics"),
        "c": name("--schedules-table", "pgqueuer_schedules"),
        "trigger": name("--trigger", "tg_pgqueuer_changed"),
        "channel": name("--channel", "ch_pgqueuer"),
    }


def age(db, options):
    names = names_of(options)
    tables = {long: f'{names["schema"]}"{names[short]}"'
              for short, long in (("q", "queue"), ("s", "statistics"), ("c", "schedules"))}
    db.execute(AGE.format(**names, **tables))


@pytest.mark.scenario("events.channel")
@pytest.mark.parametrize("which", NAMES)
def test_every_command_works_with_other_names(pgqueuer, db, drain, journal, which):
    options = NAMES[which]
    names = names_of(options)
    installed(pgqueuer, db, *options)
    assert verify(pgqueuer, db, "present", *options) == []
    assert upgraded(pgqueuer, db, *options).stderr.strip() == CURRENT
    whole = without_history(dump(db))
    age(db, options)
    assert verify(pgqueuer, db, "present", *options) != []
    upgraded(pgqueuer, db, *options)
    assert without_history(dump(db)) == whole
    assert verify(pgqueuer, db, "present", *options) == []
    with db.connect() as listener:
        listener.execute(f'LISTEN "{names["channel"]}"')
        done = pgqueuer("queue", "ok", "payload", *options, dsn=db)
        assert done.returncode == 0, done.stderr
        event = next(listener.notifies(timeout=10, stop_after=1))
        assert event.channel == names["channel"]
    drain(db, *options, args=["ok"])
    assert [run.entrypoint for run in journal.runs()] == ["ok"]
    log = db.rows(f'SELECT status::text FROM {names["schema"]}"{names["l"]}" ORDER BY id')
    assert [status for (status,) in log] == ["queued", "picked", "successful"]
    assert pgqueuer(*options, "uninstall", dsn=db).returncode == 0
    schema = names["schema"].rstrip(".").strip('"')
    quoted = f'"{schema}"' if schema == "group" else schema
    assert dump(db) == ([f"CREATE SCHEMA {quoted};"] if schema else [])


@pytest.mark.parametrize("variant", ["prefix", "schema"])
@pytest.mark.parametrize("release", ["0.21.0", "1.3.0"])
def test_an_upgrade_of_a_released_schema_with_other_names(pgqueuer, db, release, variant):
    restore_as(db, release, variant)
    prefix = "acme_" if variant == "prefix" else "jobs."
    columns = {}
    if variant == "prefix":
        fill(db, 20, prefix)
        columns = columns_before(db, prefix)
    before = checksums(db, columns)
    upgraded(pgqueuer, db, *NAMES[variant])
    assert_up_to_date(db, variant)
    assert checksums(db, columns) == before
    assert verify(pgqueuer, db, "present", *NAMES[variant]) == []


INSTALLATIONS = {
    "default": (), "prefix": ("--prefix", "acme_"), "schema": ("--schema", "jobs"),
    "both": ("--schema", "jobs", "--prefix", "acme_"),
}


def test_several_installations_of_a_database_have_nothing_to_do_with_each_other(
    pgqueuer, db, drain, journal
):
    for options in INSTALLATIONS.values():
        done = pgqueuer("install", "--extras", *options, dsn=db)
        assert done.returncode == 0, done.stderr
    whole = dump(db)
    for options in INSTALLATIONS.values():
        age(db, options)
        upgraded(pgqueuer, db, *options)
        assert without_history(dump(db)) == without_history(whole)
        assert pgqueuer("queue", "ok", *options, "--count", "3", dsn=db).returncode == 0
    for number, options in enumerate(INSTALLATIONS.values(), 1):
        drain(db, *options, args=["ok"])
        assert len(journal.runs()) == 3 * number
    for options in INSTALLATIONS.values():
        before = dump(db)
        assert pgqueuer("uninstall", *options, dsn=db).returncode == 0
        assert verify(pgqueuer, db, "absent", *options) == []
        gone = set(before) - set(dump(db))
        assert gone and len(gone) < len(before)
    assert dump(db) == ["CREATE SCHEMA jobs;"]


def test_an_upgrade_finds_its_own_schema_when_another_one_of_the_path_has_the_same_names(
    pgqueuer, db
):
    installed(pgqueuer, db, "--schema", "second")
    installed(pgqueuer, db, "--schema", "first")
    db.execute("DROP INDEX first.pgqueuer_ep_ea_idx; ALTER TABLE first.pgqueuer DROP COLUMN slot")
    # the replacement of an index of `second` must not be taken for one of `first`
    db.execute("CREATE INDEX pgq_rebuild_50a18114 ON second.pgqueuer (id)")
    upgraded(pgqueuer, f"{db.dsn}&options=-csearch_path%3Dfirst,second")
    assert verify(pgqueuer, db, "present", "--schema", "first") == []
    assert db.value("SELECT to_regclass('second.pgq_rebuild_50a18114')") is not None


@pytest.mark.scenario("catalogue.upper-case")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--prefix", "Big"), "lower case"), (("--queue-table", "a.b"), "lower-case letters"),
        (("--queue-table", 'a"b'), "lower-case letters"), (("--prefix", "a;drop"), "cannot be used"),
        (("--schema", "a" * 64), "longer than 63 bytes"), (("--channel", "a b"), "cannot be used"),
        (("--trigger", "1a"), "cannot be used"), (("--prefix", "p" * 40), "longer than 63 bytes"),
    ],
)
def test_an_upgrade_refuses_names_that_cannot_be_used(pgqueuer, queue_db, options, words):
    before = dump(queue_db)
    done = pgqueuer("upgrade", *options, dsn=queue_db)
    assert done.returncode == 2
    assert words in done.stderr
    assert dump(queue_db) == before
