"""A worker of the Python release whose handlers write the same journal as tests/handlers/journal.c.

    py_worker.py --journal FILE [options] -- NAME=BEHAVIOUR[,limit=N][,hold][,retry_executor=N:MS]...

Prints `LISTENING <worker id>` on stderr once its LISTEN is in effect. SIGTERM ends it gracefully.
"""

import argparse
import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from datetime import timedelta

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.core import qm
from pgqueuer.errors import RetryRequested
from pgqueuer.executors import DatabaseRetryEntrypointExecutor
from pgqueuer.types import QueueExecutionMode

GATE_SECONDS = 600


class JournalWriter:
    def __init__(self, path):
        self.path = path
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def write(self, *fields):
        os.write(self.fd, ("\t".join(map(str, fields)) + "\n").encode())

    def gate_is_open(self):
        return os.path.exists(self.path + ".gate")


async def run_behaviour(behaviour, job, journal, scope):
    """The outcome for the journal."""
    if behaviour == "watch":
        # A handler of the Python release is told only through the scope that it enters.
        with scope:
            await asyncio.sleep(GATE_SECONDS)
        return "cancelled" if scope.cancel_called else "watch-timeout"
    if behaviour == "sleep":
        await asyncio.sleep(int(job.payload) / 1000)
    elif behaviour == "gate":
        async with asyncio.timeout(GATE_SECONDS):
            while not journal.gate_is_open():
                await asyncio.sleep(0.005)
    elif behaviour in ("fail", "hold"):
        raise ValueError("boom")
    elif behaviour in ("hold_unless_open", "fail_unless_open"):
        if not journal.gate_is_open():
            raise ValueError("boom")
    elif behaviour == "retry_once":
        if job.attempts == 0:
            delay = timedelta(milliseconds=int(job.payload or b"0"))
            raise RetryRequested(delay=delay, reason="asked to")
    elif behaviour != "ok":
        raise SystemExit(f"no such behaviour: {behaviour}")
    return "done"


def entrypoint_options(behaviour, texts):
    """As option_rows of journal.c reads them."""
    options = {"on_failure": "hold" if behaviour.startswith("hold") else "delete"}
    for text in texts:
        option, _, value = text.partition("=")
        if option == "limit":
            options["concurrency_limit"] = int(value)
        elif option == "hold":
            options["on_failure"] = "hold"
        elif option == "retry_executor":
            retries, initial_ms = map(int, value.split(":"))
            options["executor_factory"] = lambda parameters: DatabaseRetryEntrypointExecutor(
                parameters, max_attempts=retries, initial_delay=timedelta(milliseconds=initial_ms))
        else:
            raise SystemExit(f"no such option: {text}")
    return options


def register(queuer, text, journal):
    head, *options = text.split(",")
    name, _, behaviour = head.partition("=")
    behaviour = behaviour or name

    async def handle(job):
        start = time.monotonic_ns()
        payload = job.payload
        journal.write(
            "start", os.getpid(), job.id, job.attempts, start, job.entrypoint, job.priority,
            -1 if payload is None else len(payload), hashlib.sha256(payload or b"").hexdigest(),
            "-" if job.headers is None else json.dumps(job.headers),
        )
        outcome = "failed"
        try:
            scope = queuer.qm.get_context(job.id).cancellation
            outcome = await run_behaviour(behaviour, job, journal, scope)
        except RetryRequested:
            outcome = "retry"
            raise
        finally:
            journal.write("end", os.getpid(), job.id, job.attempts, start, time.monotonic_ns(),
                          outcome)

    queuer.entrypoint(name, **entrypoint_options(behaviour, options))(handle)


def announce_listening(queuer):
    original = qm.listeners.initialize_notice_event_listener

    async def listen_and_announce(*arguments, **options):
        await original(*arguments, **options)
        print(f"LISTENING {queuer.qm.queue_manager_id}", file=sys.stderr, flush=True)

    qm.listeners.initialize_notice_event_listener = listen_and_announce


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--journal", required=True)
    parser.add_argument("--mode", default="continuous")
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--dequeue-timeout", type=float, default=30)
    parser.add_argument("--heartbeat-timeout", type=float, default=30)
    parser.add_argument("--max-concurrent-tasks", type=int)
    parser.add_argument("--log-aggregation-interval", type=float, default=30)
    parser.add_argument("entrypoints", nargs="+")
    options = parser.parse_args()

    connection = await asyncpg.connect(os.environ["PGDSN"])
    queuer = PgQueuer.from_asyncpg_connection(connection)
    journal = JournalWriter(options.journal)
    for text in options.entrypoints:
        register(queuer, text, journal)
    announce_listening(queuer)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queuer.shutdown.set)
    await queuer.qm.run(
        dequeue_timeout=timedelta(seconds=options.dequeue_timeout),
        batch_size=options.batch_size,
        mode=QueueExecutionMode[options.mode],
        max_concurrent_tasks=options.max_concurrent_tasks,
        heartbeat_timeout=timedelta(seconds=options.heartbeat_timeout),
        log_aggregation_interval=timedelta(seconds=options.log_aggregation_interval),
    )
    await connection.close()


asyncio.run(main())
