"""How much a test does: little in `make test`, all of it in a soak."""

import os


def extent(name, usual, full):
    """$PGQUEUER_<name>, or `full` when PGQUEUER_SOAK is set, or `usual`."""
    given = os.environ.get(f"PGQUEUER_{name}")
    if given:
        return type(full)(given)
    return full if os.environ.get("PGQUEUER_SOAK") else usual
