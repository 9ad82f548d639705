"""Carries out operations with the Python release as they come: a line of JSON each on stdin, ANSWER
and what came of it on stdout (tests/interop/test_differential.py)."""

import asyncio
import json
import os
import sys
from datetime import timedelta

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.errors import DuplicateJobError


async def enqueue(queries, jobs, on_conflict):
    try:
        return await queries.enqueue(
            [job["entrypoint"] for job in jobs],
            [None if job["payload"] is None else job["payload"].encode() for job in jobs],
            [job["priority"] for job in jobs],
            execute_after=[timedelta(milliseconds=job["delay_ms"]) for job in jobs],
            dedupe_key=[job["dedupe_key"] for job in jobs],
            headers=[None if job["headers"] is None else json.loads(job["headers"]) for job in jobs],
            on_conflict=on_conflict,
        )
    except DuplicateJobError:
        return "duplicate"


async def carry_out(queries, what, arguments):
    if what == "enqueue":
        return await enqueue(queries, *arguments)
    if what == "cancel":
        await queries.mark_job_as_cancelled(arguments)
    elif what == "requeue":
        try:
            await queries.requeue_jobs(arguments)
        except asyncpg.UniqueViolationError:  # an active job has taken the key of one meanwhile
            return "duplicate"
    elif what == "fold":
        await queries.log_statistics(limit=1)  # folds the log first
    else:
        raise SystemExit(f"no such operation: {what}")
    return None


async def main():
    connection = await asyncpg.connect(os.environ["PGDSN"], server_settings={"application_name": "play"})
    queries = Queries(AsyncpgDriver(connection))
    for line in sys.stdin:
        print("ANSWER", json.dumps(await carry_out(queries, *json.loads(line))), flush=True)
    await connection.close()


asyncio.run(main())
