"""Waits for jobs with the completion watcher of the Python release: py_watch.py ID...

`READY` on stderr means that it watches. Prints {"id": "status"} when all of them have ended.
"""

import asyncio
import json
import os
import sys

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.completion import CompletionWatcher


async def main():
    ids = [int(job_id) for job_id in sys.argv[1:]]
    connection = await asyncpg.connect(os.environ["PGDSN"])
    driver = AsyncpgDriver(connection)
    # No poll: only the notifications of the jobs' ends may wake it.
    async with CompletionWatcher(driver, queries=Queries(driver), refresh_interval=None) as watcher:
        futures = {job_id: watcher.wait_for(job_id) for job_id in ids}
        print("READY", file=sys.stderr, flush=True)
        statuses = {job_id: await future for job_id, future in futures.items()}
    print(json.dumps(statuses), flush=True)
    await connection.close()


asyncio.run(main())
