"""Drains the queue with a worker of the Python release whose handler does nothing.

    py_drain.py BATCH_SIZE      the database is $PGDSN
"""

import asyncio
import os
import sys
from datetime import timedelta

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.types import QueueExecutionMode


async def main():
    connection = await asyncpg.connect(os.environ["PGDSN"])
    queuer = PgQueuer.from_asyncpg_connection(connection)

    @queuer.entrypoint("noop")
    async def noop(job):
        pass

    await queuer.qm.run(
        dequeue_timeout=timedelta(seconds=1),
        batch_size=int(sys.argv[1]),
        mode=QueueExecutionMode.drain,
    )
    await connection.close()


asyncio.run(main())
