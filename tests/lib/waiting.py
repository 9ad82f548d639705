"""Waiting for a condition instead of sleeping."""

import time

POLL_SECONDS = 0.02


def wait_until(condition, deadline=10.0, what=None, interval=POLL_SECONDS):
    """Calls `condition` until it returns something true, and returns that.

    After `deadline` seconds it fails with `what` (a text, or a function that makes one). The
    condition is always tried once more at the end, so a slow machine does not fail a test that
    has come true meanwhile.
    """
    end = time.monotonic() + deadline
    while True:
        late = time.monotonic() >= end
        value = condition()
        if value:
            return value
        if late:
            text = what() if callable(what) else what or getattr(condition, "__name__", "condition")
            raise AssertionError(f"not within {deadline:g} s: {text} (last value: {value!r})")
        time.sleep(interval)
