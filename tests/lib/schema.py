"""The catalogue as the tests of the schema see it: the reference dumps, dumps of a database, verify."""

import re
import subprocess

from lib import servers
from lib.program import REPOSITORY

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
    """The statements of a dump, sorted; without comments, settings, the random keys, and the body of the
    function, which is each release's own text."""
    lines = [
        line
        for line in dump.splitlines()
        if not line.startswith(
            ("--", "\\restrict", "\\unrestrict", "SET ", "SELECT pg_catalog.set_config")
        )
    ]
    text = re.sub(r"AS \$(\w*)\$.*?\$\1\$", "AS $$$$", "\n".join(lines), flags=re.DOTALL)
    blocks = re.split(r"\n{2,}", text)
    return sorted(block.strip() for block in blocks if block.strip())


def reference(name):
    return statements((DUMPS / f"{name}.sql").read_text())


def dump(db):
    done = subprocess.run(
        [servers.client("pg_dump", db.cluster.bin), "-s", "--no-owner", "--no-privileges", db.dsn],
        check=True, capture_output=True, text=True, timeout=60,
    )
    return statements(done.stdout if db.cluster.major >= 15 else _as_of_15(done.stdout))


def _as_of_15(text):
    """The reference dumps are of 15. Before that sequences are never unlogged, and a newer pg_dump
    remarks on that; here they count as unlogged as their tables are."""
    text = text.replace("    LOGGED\n", "")
    for table in re.findall(r"^CREATE UNLOGGED TABLE (\S+)", text, re.MULTILINE):
        text = re.sub(rf"^CREATE SEQUENCE (?={re.escape(table)}_(id|front)_seq$)", "CREATE UNLOGGED SEQUENCE ",
                      text, flags=re.MULTILINE)
    return text


def psql(db, *, file=None, text=None):
    done = subprocess.run(
        [
            servers.client("psql", db.cluster.bin), "-X", "-q", "-v", "ON_ERROR_STOP=1",
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
