"""The producer's verbs for the peers in Python; harness/programs.py describes them."""

import asyncio
import sys
import time

MS = 1_000_000


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note_start(number):
    """For a handler: job `number` has started now."""
    say(f"start {number} {time.monotonic_ns()}")


async def _repeat(action, warm_ms, run_ms):
    """Repeats `action`, which returns how many jobs it enqueued: (all, measured, nanoseconds).

    Measured is what came between the first end of an action after the warm-up and the last one.
    """
    begin = time.monotonic_ns() + warm_ms * MS
    end = begin + run_ms * MS
    total = counted = 0
    first = None
    while True:
        added = await action()
        now = time.monotonic_ns()
        total += added
        if first is not None:
            counted += added
        elif now >= begin:
            first = now
        if now >= end and counted > 0:
            return total, counted, now - first


async def _measure(actions, warm_ms, run_ms):
    found = await asyncio.gather(*(_repeat(action, warm_ms, run_ms) for action in actions))
    total, counted, spans = (sum(column) for column in zip(*found))
    return f"done {total} {counted} {spans // len(found)}"


async def produce(open_lane, batch):
    """Obeys standard input until it ends.

    `await open_lane()` makes a connection and returns (add_one, add_many): `await add_one(number)`
    enqueues a job, with its number as payload unless that is None; `await add_many(count)` enqueues
    many, with the bulk API, in one transaction.
    """
    lanes = [await open_lane()]
    say("ready")
    while line := sys.stdin.readline():
        verb, *numbers = line.split()
        numbers = [int(number) for number in numbers]
        add_one, add_many = lanes[0]
        if verb == "fill":
            left, start = numbers[0], time.monotonic_ns()
            while left > 0:
                await add_many(min(left, batch))
                left -= min(left, batch)
            say(f"done {numbers[0]} {numbers[0]} {time.monotonic_ns() - start}")
        elif verb == "bulk":

            async def many():
                await add_many(batch)
                return batch

            say(await _measure([many], *numbers))
        elif verb == "single":
            while len(lanes) < numbers[0]:
                lanes.append(await open_lane())
            say(await _measure([_single(add) for add, _ in lanes[:numbers[0]]], *numbers[1:]))
        elif verb == "one":
            await add_one(numbers[0])
            say(f"sent {numbers[0]} {time.monotonic_ns()}")
        else:
            raise SystemExit(f"unknown verb {verb}")


def _single(add_one):
    async def add():
        await add_one(None)
        return 1

    return add
