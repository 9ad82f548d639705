"""Prints each notification of the queue's channel as the Python release understands it.

`READY` on stderr means that LISTEN is in effect. One JSON object a line on stdout; a payload that
the event model refuses is printed as {"refused": …}. Ends on SIGTERM.
"""

import asyncio
import json
import os
import signal
import sys

import asyncpg
from pgqueuer.models import AnyEvent


def show(_connection, _pid, _channel, payload):
    try:
        event = AnyEvent.model_validate_json(payload)
        print(event.model_dump_json(), flush=True)
    except Exception as error:
        print(json.dumps({"refused": payload, "error": str(error)}), flush=True)


async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    connection = await asyncpg.connect(os.environ["PGDSN"])
    await connection.add_listener("ch_pgqueuer", show)
    print("READY", file=sys.stderr, flush=True)
    await stop.wait()
    await connection.close()


asyncio.run(main())
