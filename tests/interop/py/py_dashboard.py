"""All that a dashboard of the Python release reads, as one JSON document, and its word on events: the
payloads on stdin, one a line, as its event model understands them.

    py_dashboard.py < PAYLOADS
"""

import asyncio
import json
import os
import sys
from datetime import timedelta

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.models import AnyEvent

WINDOW = timedelta(hours=1)


def understood(payload):
    try:
        return AnyEvent.model_validate_json(payload).root.model_dump(mode="json")
    except Exception as error:
        return {"type": "refused", "payload": payload, "error": str(error)}


def plain(rows):
    """Payloads may be any bytes: they stay out."""
    return [row.model_dump(mode="json", exclude={"payload"}) for row in rows]


async def main():
    events = [understood(line) for line in sys.stdin.read().splitlines()]
    connection = await asyncpg.connect(os.environ["PGDSN"])
    queries = Queries(AsyncpgDriver(connection))
    log = await queries.queue_log()
    ids = sorted({row.job_id for row in log})
    summary = await queries.throughput_summary(WINDOW)
    document = {
        "events": events,
        "log": plain(log),
        "status": await queries.job_status(ids),
        "history": {job_id: plain(await queries.job_log_history(job_id)) for job_id in ids},
        "exceptions": plain(await queries.exception_logs()),
        "failed": plain(await queries.list_failed_jobs()),
        "queue": plain(await queries.browse_queue()),
        "size": plain(await queries.queue_size()),
        "age": plain(await queries.queue_age()),
        "workers": plain(await queries.active_workers()),
        "stale": plain(await queries.stale_jobs(timedelta(0))),
        "summary": plain(summary),
        "timeseries": plain(await queries.throughput_timeseries(WINDOW)),
        "statistics": plain(await queries.log_statistics(None)),
        "durations": plain(await queries.job_duration_percentiles(WINDOW)),
        "unaggregated": await queries.unaggregated_log_count(),
        "tables": plain(await queries.schema_info()),
    }
    print(json.dumps(document))
    await connection.close()


asyncio.run(main())
