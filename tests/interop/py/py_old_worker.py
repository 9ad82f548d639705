"""A worker of an older release, or one that says what they say, beside an upgrade of their tables.

    py_old_worker.py --journal FILE [--release] -- ENTRYPOINT...

With --release it is the worker of the release that this interpreter has, 0.21.0 or later; otherwise the few
statements of one that all releases' tables understand, by prepared statements as theirs are. Writes the journal
of py_worker.py. SIGTERM ends it gracefully.
"""

import argparse
import asyncio
import hashlib
import os
import signal
import time
import uuid
from datetime import timedelta

import asyncpg

CLAIM = """
    WITH next AS (
        SELECT id FROM pgqueuer WHERE status = 'queued' AND entrypoint = ANY($1)
        ORDER BY priority DESC, id LIMIT 10 FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE pgqueuer AS q SET status = 'picked', updated = now(), heartbeat = now(), queue_manager_id = $2
        FROM next WHERE q.id = next.id RETURNING q.*
    ), logged AS (
        INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority)
        SELECT id, status, entrypoint, priority FROM claimed
    )
    SELECT * FROM claimed ORDER BY priority DESC, id
"""
FINISH = """
    WITH ended AS (DELETE FROM pgqueuer WHERE id = ANY($1) RETURNING id, entrypoint, priority)
    INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority)
    SELECT id, 'successful', entrypoint, priority FROM ended
"""


class Journal:
    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.pid, self.empty = os.getpid(), hashlib.sha256(b"").hexdigest()

    def write(self, *fields):
        os.write(self.fd, ("\t".join(map(str, fields)) + "\n").encode())

    def run(self, job_id, entrypoint):
        start = time.monotonic_ns()
        self.write("start", self.pid, job_id, 0, start, entrypoint, 0, -1, self.empty, "-")
        self.write("end", self.pid, job_id, 0, start, time.monotonic_ns(), "done")


async def by_statements(connection, journal, entrypoints, stop):
    worker = uuid.uuid4()
    while not stop.is_set():
        rows = await connection.fetch(CLAIM, entrypoints, worker)
        for row in rows:
            journal.run(row["id"], row["entrypoint"])
        if rows:
            await connection.execute(FINISH, [row["id"] for row in rows])
        else:
            await asyncio.sleep(0.01)


async def by_release(connection, journal, entrypoints, stop):
    from pgqueuer import PgQueuer
    from pgqueuer.db import AsyncpgDriver

    queuer = PgQueuer(AsyncpgDriver(connection))
    for name in entrypoints:

        @queuer.entrypoint(name)
        async def handle(job):
            journal.run(job.id, job.entrypoint)

    async def pass_on():
        await stop.wait()
        queuer.shutdown.set()

    passing = asyncio.create_task(pass_on())
    await queuer.qm.run(dequeue_timeout=timedelta(seconds=1), batch_size=10)
    passing.cancel()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--journal", required=True)
    parser.add_argument("--release", action="store_true")
    parser.add_argument("entrypoints", nargs="+")
    options = parser.parse_args()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    connection = await asyncpg.connect(os.environ["PGDSN"])
    work = by_release if options.release else by_statements
    await work(connection, Journal(options.journal), options.entrypoints, stop)
    await connection.close()


asyncio.run(main())
