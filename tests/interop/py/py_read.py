"""Reads with the models of the Python release and prints one JSON document.

    py_read.py exceptions | failed | log | queue | history ID | status ID...
"""

import asyncio
import json
import os
import sys

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries


async def main():
    what, *ids = sys.argv[1:]
    ids = [int(job_id) for job_id in ids]
    connection = await asyncpg.connect(os.environ["PGDSN"])
    queries = Queries(AsyncpgDriver(connection))
    if what == "exceptions":
        rows = await queries.exception_logs(limit=10_000)
    elif what == "failed":
        rows = await queries.list_failed_jobs(limit=10_000)
    elif what == "log":
        rows = await queries.queue_log()
    elif what == "queue":
        rows = await queries.browse_queue(limit=10_000)
    elif what == "history":
        rows = await queries.job_log_history(ids[0], limit=10_000)
    else:
        rows = [(await queries.job_status(ids))][0]
    # Payloads may be any bytes: as hexadecimal digits.
    documents = []
    for row in rows:
        document = row if isinstance(row, tuple) else row.model_dump(exclude={"payload"})
        if hasattr(row, "payload"):
            document["payload_hex"] = None if row.payload is None else row.payload.hex()
        documents.append(document)
    print(json.dumps(documents, default=str))
    await connection.close()


asyncio.run(main())
