"""The row lane beside Python's worker, draining the same jobs from one server in one run.

    .venv/bin/python bench/row_lane.py [--jobs N] [--rounds N]

Every round drains N no-op jobs with each worker and batch size in turn; start-up of the process is
part of the time, for both. Prints medians with the smallest and the largest round. The server is
private, with fsync on.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from lib import program  # noqa: E402
from lib.cluster import Cluster  # noqa: E402

HERE = Path(__file__).resolve().parent
FILL = """
WITH ids AS (
    INSERT INTO pgqueuer (priority, status, entrypoint)
    SELECT 0, 'queued', 'noop' FROM generate_series(1, %s) RETURNING id
)
INSERT INTO pgqueuer_log (job_id, status, priority, entrypoint) SELECT id, 'queued', 0, 'noop' FROM ids
"""


def build_handler(folder):
    target = folder / "noop.so"
    include = HERE.parent / "include"
    subprocess.run(["cc", "-std=c11", "-O2", "-shared", "-fPIC", f"-I{include}", "-o", target,
                    HERE / "noop.c"], check=True)
    return target


def drain(database, command, jobs, environment):
    database.execute("TRUNCATE pgqueuer, pgqueuer_log")
    database.execute(FILL, [jobs])
    for statement in ("VACUUM ANALYZE pgqueuer", "VACUUM ANALYZE pgqueuer_log", "CHECKPOINT"):
        database.execute(statement)
    start = time.monotonic()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=600)
    seconds = time.monotonic() - start
    assert database.job_count() == 0, "the worker left jobs"
    assert database.log_counts()["successful"] == jobs
    return jobs / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cluster = Cluster(durable=True)
    try:
        database = cluster.create_database()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            handler = build_handler(folder)
            environment = program.clean_environment(folder, PGDSN=database.dsn)
            subprocess.run([program.PROGRAM, "install"], check=True, env=environment)
            ways = {}
            for batch in (10, 500):
                ways[f"ours, batch {batch}"] = [
                    program.PROGRAM, "run", f"{handler}:factory", "--mode", "drain",
                    "--batch-size", str(batch), "--log-level", "error",
                ]
                ways[f"Python 1.6.0, batch {batch}"] = [
                    sys.executable, HERE / "py_drain.py", str(batch)
                ]
            rates = {way: [] for way in ways}
            for _ in range(options.rounds):
                for way, command in ways.items():
                    rates[way].append(drain(database, command, options.jobs, environment))
    finally:
        cluster.destroy()
    print(f"{options.jobs} no-op jobs, {options.rounds} rounds, jobs/s: median (min - max)")
    for way, found in rates.items():
        print(f"{way:24} {statistics.median(found):8.0f}  ({min(found):.0f} - {max(found):.0f})")


main()
