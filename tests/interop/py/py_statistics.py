"""A reader of the Python release that looks at the statistics again and again: every look folds the
log into them first, without the advisory lock. Prints READY after the first look, and on SIGTERM how
often it looked."""

import asyncio
import os
import signal

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries


async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    connection = await asyncpg.connect(os.environ["PGDSN"])
    queries = Queries(AsyncpgDriver(connection))
    looks = 0
    while not stop.is_set():
        await queries.log_statistics(limit=10)
        looks += 1
        if looks == 1:
            print("READY", flush=True)
        await asyncio.sleep(0.01)
    print(f"LOOKS {looks}", flush=True)
    await connection.close()


asyncio.run(main())
