"""Acts on jobs with the Python release: py_act.py cancel ID... | requeue ID... | clear ENTRYPOINT"""

import asyncio
import os
import sys

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries


async def main():
    what, *arguments = sys.argv[1:]
    connection = await asyncpg.connect(os.environ["PGDSN"])
    queries = Queries(AsyncpgDriver(connection))
    if what == "cancel":
        await queries.mark_job_as_cancelled([int(job_id) for job_id in arguments])
    elif what == "requeue":
        await queries.requeue_jobs([int(job_id) for job_id in arguments])
    elif what == "clear":
        await queries.clear_queue(arguments)
    else:
        raise SystemExit(f"no such act: {what}")
    await connection.close()


asyncio.run(main())
