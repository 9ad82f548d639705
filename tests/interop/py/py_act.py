"""Acts on jobs with the Python release, one act after the other:

    py_act.py ACT [then ACT]...     ACT: cancel ID... | requeue ID... | clear ENTRYPOINT...
"""

import asyncio
import itertools
import os
import sys

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries


async def main():
    connection = await asyncpg.connect(os.environ["PGDSN"])
    queries = Queries(AsyncpgDriver(connection))
    for is_then, words in itertools.groupby(sys.argv[1:], lambda word: word == "then"):
        if is_then:
            continue
        what, *arguments = words
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
