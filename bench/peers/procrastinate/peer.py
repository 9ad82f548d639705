"""Procrastinate: tables, worker, producer. See harness/programs.py."""

import asyncio
import sys
from pathlib import Path

import procrastinate
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))

from producing import note_start, produce, say  # noqa: E402

BATCH = 5000
OPTIONS = {"best": {"concurrency": 20, "delete_jobs": "successful"}, "default": {}}
POOL = {"best": {"min_size": 20, "max_size": 22}, "default": {}}


def make_app(**pool):
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(**pool))

    @app.task(name="bench")
    async def bench(number=None):
        if number is not None:
            note_start(number)

    return app, bench


async def install():
    app, _ = make_app()
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def work(config):
    app, _ = make_app(**POOL[config])
    async with app.open_async():
        say("ready")
        await app.run_worker_async(**OPTIONS[config])


async def open_lane():
    app, task = make_app(min_size=1, max_size=1)
    await app.open_async()

    async def add_one(number):
        await task.defer_async(**({} if number is None else {"number": number}))

    async def add_many(count):
        await task.batch_defer_async(*({} for _ in range(count)))

    return add_one, add_many


def main():
    verb, *rest = sys.argv[1:]
    actions = {"install": install, "work": lambda: work(*rest),
               "produce": lambda: produce(open_lane, BATCH)}
    runner = asyncio.run if rest == ["default"] else uvloop.run
    runner(actions[verb]())


main()
