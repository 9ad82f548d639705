"""Databases as older releases left them, with rows of every kind, and whether an upgrade kept them."""

import json
import re

from lib.schema import DUMPS, dump, psql, reference

RELEASES = DUMPS / "releases"
WAYS = json.loads((RELEASES / "index.json").read_text())
SCHEMAS = sorted(set(WAYS.values()))
TABLES = ("pgqueuer", "pgqueuer_log", "pgqueuer_statistics", "pgqueuer_schedules")

# Every kind of row; columns and labels that a release does not have are left out.
QUEUE_ROWS = {
    "queued": {"status": "'queued'", "priority": "n % 7"},
    "deferred": {"status": "'queued'", "execute_after": "now() + n * interval '1 day'"},
    "picked": {
        "status": "'picked'", "queue_manager_id": "gen_random_uuid()",
        "heartbeat": "now() - n * interval '1 second'", "slot": "n",
    },
    "held": {"status": "'failed'", "attempts": "n % 5"},
    "keyed": {"status": "'queued'", "dedupe_key": "'key ' || n"},
    "headed": {"status": "'queued'", "headers": "jsonb_build_object('n', n, 'text', 'ä\"\\')"},
    "loaded": {"status": "'queued'", "payload": "decode(md5(n::text), 'hex') || '\\x00ff'::bytea"},
}
STATUSES = ("queued", "picked", "successful", "exception", "canceled", "deleted", "failed")


# Changes that an upgrade takes back.
DAMAGE = {
    "a table": "DROP TABLE pgqueuer_statistics",
    "the trigger": "DROP TRIGGER tg_pgqueuer_changed ON pgqueuer",
    "the function": "DROP FUNCTION fn_pgqueuer_changed CASCADE",
    "a disabled trigger": "ALTER TABLE pgqueuer DISABLE TRIGGER tg_pgqueuer_changed",
    "a trigger for rows": "DROP TRIGGER tg_pgqueuer_changed ON pgqueuer;"
    " CREATE TRIGGER tg_pgqueuer_changed AFTER INSERT ON pgqueuer FOR EACH ROW"
    " EXECUTE FUNCTION fn_pgqueuer_changed()",
    "a silent function": "CREATE OR REPLACE FUNCTION fn_pgqueuer_changed() RETURNS trigger"
    " LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "a primary key": "ALTER TABLE pgqueuer_log DROP CONSTRAINT pgqueuer_log_pkey",
    "a unique constraint": "ALTER TABLE pgqueuer_schedules"
    " DROP CONSTRAINT pgqueuer_schedules_expression_entrypoint_key",
    "defaults": "ALTER TABLE pgqueuer ALTER heartbeat DROP DEFAULT, ALTER priority SET DEFAULT 7",
    "NULL": "ALTER TABLE pgqueuer ALTER entrypoint DROP NOT NULL, ALTER slot SET NOT NULL",
    "an index of other columns": "DROP INDEX pgqueuer_ep_ea_idx;"
    " CREATE INDEX pgqueuer_ep_ea_idx ON pgqueuer (entrypoint)",
    "an index that is not unique": "DROP INDEX pgqueuer_unique_dedupe_key; CREATE INDEX"
    " pgqueuer_unique_dedupe_key ON pgqueuer (dedupe_key) WHERE status IN ('queued', 'picked')"
    " AND dedupe_key IS NOT NULL",
    "an invalid index": "UPDATE pg_index SET indisvalid = false"
    " WHERE indexrelid = 'pgqueuer_unique_dedupe_key'::regclass",
    "an unfinished replacement": "DROP INDEX pgqueuer_picked_slot_idx;"
    " CREATE INDEX pgq_rebuild_11423d72 ON pgqueuer (slot);"
    " UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pgq_rebuild_11423d72'::regclass",
    "a finished replacement": "ALTER INDEX pgqueuer_picked_slot_idx RENAME TO pgq_rebuild_11423d72",
    "a replacement too many": "CREATE INDEX pgq_rebuild_11423d72 ON pgqueuer (slot)",
    "what was retired": "CREATE INDEX pgqueuer_heartbeat_id_id1_idx ON pgqueuer (heartbeat);"
    " CREATE TYPE pgqueuer_statistics_status AS ENUM ('canceled', 'successful')",
    "a status of the retired type": "CREATE TYPE pgqueuer_statistics_status AS ENUM ('successful');"
    " ALTER TABLE pgqueuer_statistics ALTER status TYPE pgqueuer_statistics_status"
    " USING status::text::pgqueuer_statistics_status",
    "narrow ids": "ALTER TABLE pgqueuer ALTER id TYPE int; ALTER SEQUENCE pgqueuer_id_seq AS int",
}

# Likewise, where the extras are.
CLAIMS_DAMAGE = [
    "ALTER TABLE pgqueuer_c.claims DROP COLUMN front",
    "DROP SEQUENCE pgqueuer_c.claims_front_seq CASCADE",
    "ALTER SEQUENCE pgqueuer_c.claims_front_seq RENAME TO other",
    "ALTER SEQUENCE pgqueuer_c.claims_front_seq OWNED BY NONE",
    "ALTER SEQUENCE pgqueuer_c.claims_front_seq AS integer",
]


def restore(db, name):
    """The schema of a release, by the name of its dump."""
    psql(db, file=RELEASES / f"{name}.sql")


def restore_as(db, release, variant):
    """The dump of a release, as it would be with a prefix or in a schema."""
    text = (RELEASES / f"{release}.sql").read_text()
    if variant == "prefix":
        text = re.sub(r"\b(?=(pgqueuer|fn_pgqueuer|tg_pgqueuer|ch_pgqueuer))", "acme_", text)
    else:
        text = "CREATE SCHEMA jobs;\n" + text.replace("public.", "jobs.")
    psql(db, text=text)


def columns_of(db, table):
    return [
        name
        for (name,) in db.rows(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
            " AND NOT attisdropped ORDER BY attnum", [table]
        )
    ]


def _insert(db, table, values, count, columns):
    values = {name: text for name, text in values.items() if name in columns}
    db.execute(
        f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())}"
        f" FROM generate_series(1, {count}) AS n"
    )


def fill(db, count, prefix=""):
    """`count` rows of every kind that the schema can hold."""
    queue, log, statistics, schedules = (
        prefix + table for table in TABLES
    )
    labels = {label for (label,) in db.rows(
        "SELECT enumlabel::text FROM pg_enum WHERE enumtypid = %s::regtype", [f"{prefix}pgqueuer_status"]
    )}
    columns = columns_of(db, queue)
    for kind, values in QUEUE_ROWS.items():
        if values["status"].strip("'") in labels:
            _insert(db, queue, {"priority": "0", "entrypoint": f"'{kind}'", **values}, count, columns)
    for status in sorted(labels & set(STATUSES)):
        row = {"job_id": "n", "status": f"'{status}'", "priority": "n % 7", "entrypoint": "'a'",
               "traceback": "jsonb_build_object('job_id', n)", "aggregated": "n % 2 = 0"}
        _insert(db, log, row, count, columns_of(db, log))
    row = {"created": "date_trunc('sec', now()) - n * interval '1 second'", "count": "n",
           "priority": "n % 7", "status": "'successful'", "entrypoint": "'a'",
           "time_in_queue": "interval '1 second'"}
    _insert(db, statistics, row, count, columns_of(db, statistics))
    row = {"expression": "'0 ' || n || ' * * *'", "entrypoint": "'schedule ' || n",
           "last_run": "now()", "status": "'picked'"}
    _insert(db, schedules, row, count, columns_of(db, schedules))


def columns_before(db, prefix=""):
    """What to compare afterwards: the columns that are there now, of each table."""
    return {prefix + table: columns_of(db, prefix + table) for table in TABLES}


def checksums(db, columns):
    """Number of rows and a sum over everything that they hold in these columns, of each table."""
    found = {}
    for table, names in columns.items():
        row = ", ".join(f"{name}::text" for name in names)
        found[table] = db.rows(
            f"SELECT count(*), md5(string_agg(md5(ROW({row})::text), '' ORDER BY id)) FROM {table}"
        )[0]
    return found


def without_history(statements):
    """A dump without what upgrades leave as it is: the order of labels and of columns, the retired
    column, and whether a table survives a crash."""
    kept = []
    for text in statements:
        text = text.replace("CREATE UNLOGGED TABLE", "CREATE TABLE")
        if text.startswith(("CREATE TYPE", "CREATE TABLE")):
            lines = [line.rstrip(",") for line in text.splitlines()]
            text = "\n".join(sorted(line for line in lines if "time_in_queue" not in line))
        kept.append(text)
    return sorted(kept)


def assert_up_to_date(db, variant="default"):
    found, wanted = without_history(dump(db)), without_history(reference(variant))
    assert [text for text in found if text not in wanted] == []
    assert [text for text in wanted if text not in found] == []


def upgraded(pgqueuer, db, *options, **arguments):
    done = pgqueuer("upgrade", *options, dsn=db, **arguments)
    assert done.returncode == 0, done.stderr
    return done


def python_plan(python_pgq, db, *options):
    """The statements that Python's upgrade would send."""
    done = python_pgq(db, *options, "upgrade", "--plan")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("--")]
    return re.findall(r"^(?:CREATE|ALTER|DROP|DO|WITH|UPDATE|DELETE)\b.*", "\n".join(lines), re.M)
