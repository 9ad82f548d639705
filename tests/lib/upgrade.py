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


def restore(db, name):
    """The schema of a release, by the name of its dump."""
    psql(db, file=RELEASES / f"{name}.sql")


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
