"""A worker of an old release, whichever is on the path, whose handler writes the journal:

    py_release_worker.py JOURNAL ENTRYPOINT...

Prints `RELEASE <version>` on stderr when it starts. SIGTERM ends it gracefully.
"""

import asyncio
import hashlib
import os
import signal
import sys
import time
from datetime import timedelta
from importlib import metadata

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver


async def main():
    path, *names = sys.argv[1:]
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def write(*fields):
        os.write(fd, ("\t".join(map(str, fields)) + "\n").encode())

    async def handle(job):
        start = time.monotonic_ns()
        payload = job.payload or b""
        write("start", os.getpid(), job.id, 0, start, job.entrypoint, job.priority, len(payload),
              hashlib.sha256(payload).hexdigest(), "-")
        await asyncio.sleep(int(payload or b"0") / 1000)
        write("end", os.getpid(), job.id, 0, start, time.monotonic_ns(), "done")

    connection = await asyncpg.connect(os.environ["PGDSN"])
    queuer = PgQueuer(AsyncpgDriver(connection))
    for name in names:
        queuer.entrypoint(name)(handle)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queuer.shutdown.set)
    print(f"RELEASE {metadata.version('pgqueuer')}", file=sys.stderr, flush=True)
    await queuer.qm.run(dequeue_timeout=timedelta(seconds=0.5), batch_size=2)
    await connection.close()


asyncio.run(main())
