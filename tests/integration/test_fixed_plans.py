"""Plans of a worker's statements. A session keeps one for each, whatever it was made for: so the one that
comes out must be the right one also for a queue that is empty, and of which the server knows nothing."""

import json
import re

import pytest

from lib import program
from lib.jobs import NewJob
from lib.pooler import Pooler

SQL = program.REPOSITORY / "sql"
# Not said by workers, or in a DO, whose statements are planned each time.
OTHERS = re.compile(r"enqueue_|extras_|import_|cancel_|catalog_|upgrade_|suspect_|dedupe_taken|requeue"
                    r"|aggregate|fold_counts")
NAMES = {
    ":queue_name_literal": "'pgqueuer'", ":queue_literal": "'pgqueuer'", ":queue": "pgqueuer",
    ":channel_literal": "'ch_pgqueuer'", ":log": "pgqueuer_log", ":::status": "::pgqueuer_status",
    ":statistics_literal": "'pgqueuer_statistics'", ":counts": "pgqueuer_c.counts",
    ":front_literal": "'pgqueuer_c.claims_front_seq'", ":front": "pgqueuer_c.claims_front_seq",
}
# What the indexes are gone by: a part of each, never all of it.
LED_BY = {"pgqueuer_ep_prio_id_idx": "entrypoint", "pgqueuer_pkey": "id", "pgqueuer_ep_ea_idx": "entrypoint",
          "pgqueuer_picked_slot_idx": "entrypoint"}
FILL = """
INSERT INTO pgqueuer (priority, status, entrypoint, payload, queue_manager_id, heartbeat, slot)
SELECT i % 3, CASE WHEN i % 50 = 0 THEN 'picked' ELSE 'queued' END::pgqueuer_status, 'e' || i % {kinds}, 'x',
       CASE WHEN i % 50 = 0 THEN gen_random_uuid() END, now(), CASE WHEN i % 100 = 0 THEN i END
FROM generate_series(1, {rows}) AS i
"""
CONTENTS = {
    "new": [],
    "emptied": [FILL.format(rows=20_000, kinds=3), "TRUNCATE pgqueuer", "VACUUM ANALYZE pgqueuer"],
    "one entrypoint": [FILL.format(rows=50_000, kinds=1), "VACUUM ANALYZE pgqueuer"],
    "entrypoints": [FILL.format(rows=50_000, kinds=7), "VACUUM ANALYZE pgqueuer"],
    "dead rows": [FILL.format(rows=50_000, kinds=3), "DELETE FROM pgqueuer WHERE id % 10 > 0",
                  "ANALYZE pgqueuer"],
}


class Statement:
    def __init__(self, path):
        head, self.body = re.fullmatch(r"((?:--[^\n]*\n)+)(.*)", path.read_text(), re.DOTALL).groups()
        self.name, self.types = path.stem, re.findall(r"^-- \$\d+ +(\w+(?:\[\])?)", head, re.MULTILINE)
        lines = [line for line in self.body.splitlines() if not line.endswith("-- uncounted")]
        self.body = "\n".join(lines)
        for name, ours in NAMES.items():
            self.body = self.body.replace(name, ours)
        index = re.search(r"^-- index: (.*?)(?=\n-- \w+:)", head, re.DOTALL | re.MULTILINE)
        named = re.findall(r"\{queue\}(_\w+)|the (primary) key", index[1] if index else "")
        self.indexes = {f"pgqueuer{suffix or '_pkey'}" for suffix, _ in named}

    def plan(self, connection):
        connection.execute(f"PREPARE this ({', '.join(self.types)}) AS {self.body}" if self.types
                           else f"PREPARE this AS {self.body}")
        nulls = f"({', '.join(['NULL'] * len(self.types))})" if self.types else ""
        [(found,)] = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE this{nulls}").fetchall()
        connection.execute("DEALLOCATE this")
        return (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]


def nodes(plan):
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def indexed():
    """The statements of workers that find rows by an index, and those that delete by place."""
    found = [Statement(path) for path in SQL.glob("*.sql") if not OTHERS.match(path.stem)]
    return [s for s in found if s.indexes or s.name in ("settle_done", "settle_quiet")]


def fix_plans(connection):
    text = Statement(SQL / "fixed_plans.sql").body.replace("$1", str(connection.info.backend_pid))
    assert connection.execute(text).fetchone() == (5,)


@pytest.fixture
def extras_db(run_program, queue_db):
    assert run_program("install", "--extras", dsn=queue_db).returncode == 0
    return queue_db


@pytest.mark.parametrize("content", CONTENTS)
def test_each_statement_of_a_worker_goes_by_its_indexes_whatever_the_queue_holds(extras_db, content):
    for sql in CONTENTS[content]:
        extras_db.execute(sql)
    statements = indexed()
    assert len(statements) > 15
    with extras_db.connect() as connection:
        fix_plans(connection)
        for statement in statements:
            scans = [node for node in nodes(statement.plan(connection))
                     if "Scan" in node["Node Type"] and node["Node Type"] != "Bitmap Heap Scan"
                     and ("Index Name" in node or node.get("Relation Name") == "pgqueuer")]
            used = {node.get("Index Name", node["Node Type"]) for node in scans}
            assert used == (statement.indexes or {"Tid Scan"}), statement.name
            for node in scans:
                column = LED_BY.get(node.get("Index Name"))
                assert column is None or column in node.get("Index Cond", ""), f"{statement.name}: {node}"
                # an index that gives the order is not read to its end to be sorted
                assert "ep_prio_id" not in node.get("Index Name", "") or node["Node Type"] == "Index Scan"


RECORD = """
CREATE TABLE seen (settings text);
CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen SELECT string_agg(current_setting(name), ' ')
    FROM unnest(ARRAY['plan_cache_mode', 'enable_seqscan', 'enable_sort', 'enable_incremental_sort', 'jit'])
         AS s (name);
    RETURN NULL;
END $$;
CREATE TRIGGER record AFTER DELETE ON pgqueuer EXECUTE FUNCTION record();
"""
FIXED, USUAL = "force_generic_plan off off off off", "auto on on on on"


@pytest.mark.parametrize("lane", ["row", "lease"])
def test_a_worker_keeps_plans_in_sessions_of_its_own_and_nowhere_else(
    cluster, queue_db, processes, produce, drain, journal, lane
):
    """A pooler gives the session to others, in transaction mode at once."""
    poolers = [Pooler(cluster, processes, mode=mode, pool_size=6) for mode in ("transaction", "session")]
    queue_db.execute(RECORD)
    for dsn, settings in ((queue_db.dsn, FIXED), *((pooler.dsn(queue_db), USUAL) for pooler in poolers)):
        produce(queue_db, [NewJob("ok", b"")] * 30)
        drain(dsn, "--lane", lane, args=["ok"])
        assert queue_db.rows("SELECT DISTINCT settings FROM seen") == [(settings,)]
        queue_db.execute("TRUNCATE seen")
