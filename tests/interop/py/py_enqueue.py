"""Enqueues the jobs on stdin (tests/lib/jobs.py describes the format) with the Python release.

Prints one id a line, 0 for a job that was left out. A duplicate exits with 7.
"""

import argparse
import asyncio
import json
import os
import sys
from datetime import timedelta

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.errors import DuplicateJobError


def read_jobs(stream):
    while line := stream.readline():
        entrypoint, priority, delay, dedupe, headers, size = line.decode()[:-1].split("\t")
        yield (
            entrypoint,
            None if size == "-1" else stream.read(int(size)),
            int(priority),
            timedelta(milliseconds=int(delay)),
            None if dedupe == "-" else dedupe,
            None if headers == "-" else json.loads(headers),
        )


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--on-conflict", default="raise")
    parser.add_argument("--batch", type=int, default=1000)
    options = parser.parse_args()
    connection = await asyncpg.connect(os.environ["PGDSN"])
    queries = Queries(AsyncpgDriver(connection))
    jobs = list(read_jobs(sys.stdin.buffer))
    for start in range(0, len(jobs), options.batch):
        columns = [list(column) for column in zip(*jobs[start : start + options.batch])]
        entrypoint, payload, priority, delay, dedupe, headers = columns
        try:
            ids = await queries.enqueue(
                entrypoint, payload, priority, execute_after=delay, dedupe_key=dedupe,
                headers=headers, on_conflict=options.on_conflict,
            )
        except DuplicateJobError as error:
            print(f"duplicate: {error}", file=sys.stderr)
            sys.exit(7)
        print(*(job_id or 0 for job_id in ids), sep="\n", flush=True)
    await connection.close()


asyncio.run(main())
