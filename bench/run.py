"""The standard set of benchmarks, on a private server with fsync on: what `make bench` runs.

    .venv/bin/python bench/run.py [--quick | --full] [--rounds N] [--kinds drain,latency] [--out FOLDER]

Runs `pgqueuer bench KIND` for every kind, beside the bare loop (bench/bare.c), prints the tables and leaves
them in the folder, as KIND.txt and KIND.json. --quick takes a minute and says little;
--full has 500 000 dead rows and 10 million queued ones, needs some gigabytes, and takes long.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from lib import program  # noqa: E402
from lib.cluster import Cluster  # noqa: E402

# With a checkpoint in the middle of a measurement the WAL is full of page images.
SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "8GB", "checkpoint_timeout": "1h",
            "shared_preload_libraries": "pg_stat_statements"}
JOBS = {
    "quick": {"drain": 10000, "latency": 100, "horizon": 10000, "backlog": 20000},
    "standard": {"drain": 100000, "latency": 1000, "horizon": 100000, "backlog": 1000000},
    "full": {"drain": 500000, "latency": 2000, "horizon": 500000, "backlog": 10000000},
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true")
    size.add_argument("--full", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--kinds", default="drain,latency,horizon,backlog")
    parser.add_argument("--out", type=Path, default=program.BUILD / "bench")
    options = parser.parse_args()
    options.size = "quick" if options.quick else "full" if options.full else "standard"
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.kinds = options.kinds.split(",")
    if unknown := set(options.kinds) - set(JOBS["quick"]):
        parser.error(f"there is no kind {', '.join(sorted(unknown))}")
    return options


def run_kind(kind, database, options, home):
    """Runs one kind and shows its table; returns its document."""
    files = {suffix: options.out / f"{kind}.{suffix}" for suffix in ("json", "txt")}
    done = subprocess.run(
        [program.PROGRAM, "bench", kind, "--jobs", str(JOBS[options.size][kind]), "--rounds",
         str(options.rounds), "--bare", program.BUILD / "bare", "--output", files["json"]],
        env=program.clean_environment(home, PGQUEUER_DSN=database.dsn), stdout=subprocess.PIPE,
        text=True, check=True,
    )
    print(done.stdout, flush=True)
    files["txt"].write_text(done.stdout)
    return json.loads(files["json"].read_text())


def main():
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    missed = []
    with tempfile.TemporaryDirectory() as home:
        cluster = Cluster(durable=True, settings=SETTINGS)
        try:
            database = cluster.create_database()
            database.execute("CREATE EXTENSION pg_stat_statements")
            for kind in options.kinds:
                document = run_kind(kind, database, options, home)
                missed += [b["what"] for b in document["budgets"] if b["verdict"] == "missed"]
        finally:
            cluster.destroy()
    print(f"The results are in {options.out}. Budgets missed: {len(missed)}")
    for what in missed:
        print(f"  {what}")


main()
