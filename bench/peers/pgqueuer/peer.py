"""PGQueuer, the Python release: tables, worker, producer. See harness/programs.py."""

import asyncio
import signal
import sys
from pathlib import Path

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.queries import Queries

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))

from producing import note_start, produce, say  # noqa: E402

BATCH = 5000
BATCH_SIZE = {"best": 500, "default": 10}


async def install():
    await Queries.from_asyncpg_connection(await asyncpg.connect()).install()


async def work(config):
    queuer = PgQueuer.from_asyncpg_connection(await asyncpg.connect())

    @queuer.entrypoint("bench")
    async def bench(job):
        if job.payload is not None:
            note_start(int(job.payload))

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queuer.shutdown.set)
    say("ready")
    await queuer.run(batch_size=BATCH_SIZE[config])


async def open_lane():
    queries = Queries.from_asyncpg_connection(await asyncpg.connect())

    async def add_one(number):
        await queries.enqueue("bench", None if number is None else str(number).encode())

    async def add_many(count):
        await queries.enqueue(["bench"] * count, [None] * count, [0] * count)

    return add_one, add_many


def main():
    verb, *rest = sys.argv[1:]
    actions = {"install": install, "work": lambda: work(*rest),
               "produce": lambda: produce(open_lane, BATCH)}
    runner = asyncio.run if rest == ["default"] else uvloop.run
    runner(actions[verb]())


main()
