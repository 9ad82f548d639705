"""The same operations on fleets of different languages: what a seed plays, who plays it, and what is
compared.

A script is a list of steps; after each the fleet comes to rest: nothing is due, and what is picked runs
in a live worker. So what a step finds does not depend on how fast a fleet is, and whatever differs at the
end was done differently. A job goes by its number in the script; each fleet has ids of its own.
"""

import dataclasses
import json
import random

from lib.jobs import NewJob

# name: (behaviour of the journal's handlers with its options, the same for Python's, weight)
ENTRYPOINTS = {
    "fine": ("ok", 6),
    "broken": ("fail", 2),
    "kept": ("hold", 3),
    "again": ("retry_once", 3),
    "stubborn": ("fail,retry_executor=2:40", 2),
    "patient": ("fail,hold,retry_executor=1:40", 2),
    "endless": ("watch", 3),
}
KEYS = ["k1", "k2", "k3", "k4"]
FAR_MS = 3_600_000  # is not due before the end
HEARTBEAT_SECONDS = 2.0


@dataclasses.dataclass
class Step:
    what: str  # enqueue, cancel, requeue, crash
    jobs: list = dataclasses.field(default_factory=list)  # NewJob, or numbers of jobs
    on_conflict: str = "raise"
    by_python: bool = False  # in the mixed fleet

    def __str__(self):
        jobs = [job if isinstance(job, int) else
                f"{job.entrypoint}{'' if job.delay_ms < FAR_MS else ' far'}"
                f"{f' {job.dedupe_key}' if job.dedupe_key else ''}" for job in self.jobs]
        return f"{self.what} {jobs} {self.on_conflict if self.what == 'enqueue' else ''}".strip()


def _job(draw):
    names = list(ENTRYPOINTS)
    entrypoint = draw.choices(names, [ENTRYPOINTS[name][1] for name in names])[0]
    return NewJob(
        entrypoint,
        # The delay of `again`; for the others bytes like any.
        payload=draw.choice([b"0", b"60"] if entrypoint == "again" else [None, b"", b"1", b"x" * 3000]),
        priority=draw.choice([0, 0, 1, -3, 7]),
        delay_ms=draw.choice([0, 0, 0, 0, 80, FAR_MS]),
        dedupe_key=draw.choice([None, None, None, *KEYS]),
        headers=draw.choice([None, None, "{}", '{"a": {"b": [1, "\\u00e9"]}}']),
    )


def _batch(draw):
    on_conflict = draw.choice(["raise", "skip", "skip", "update_priority"])
    jobs = [_job(draw) for _ in range(draw.randrange(1, 6))]
    if on_conflict == "update_priority":  # which refuses a key that comes twice
        taken = set()
        for job in jobs:
            if job.dedupe_key in taken:
                job.dedupe_key = None
            taken.add(job.dedupe_key)
    return jobs, on_conflict


def script(seed, steps):
    """Every kind of step happens; the last one cancels whatever there is that runs."""
    draw = random.Random(seed)
    kinds = draw.choices(["enqueue", "cancel", "requeue"], [5, 3, 3], k=steps - 5)
    kinds += ["enqueue", "cancel", "requeue", "crash"]
    draw.shuffle(kinds)
    played, known = [], 0
    for what in ["enqueue", *kinds]:
        step = Step(what, by_python=draw.random() < 0.5)
        if what == "enqueue":
            step.jobs, step.on_conflict = _batch(draw)
            known += len(step.jobs)
        elif what != "crash":
            step.jobs = sorted(draw.sample(range(known), min(known, draw.randrange(1, 6))))
        played.append(step)
    return played


# --- what is compared ------------------------------------------------------------------------------

QUEUE = ("SELECT id, entrypoint, priority, status::text, attempts, dedupe_key, payload, headers::text,"
         " queue_manager_id IS NULL, slot, execute_after > now() + interval '1 minute' FROM pgqueuer")
LOG = ("SELECT job_id, status::text, priority, entrypoint, traceback, aggregated FROM pgqueuer_log"
       " ORDER BY job_id, id")
STATISTICS = ("SELECT entrypoint, status::text, priority, sum(count)::bigint FROM pgqueuer_statistics"
              " GROUP BY 1, 2, 3")


def _cause(traceback):
    """A log row's traceback without what differs from run to run: times, ids, the stack's text."""
    if traceback is None:
        return None
    context = {**traceback["additional_context"]}
    context.pop("queue_manager_id", None)
    return traceback["exception_type"], traceback["exception_message"], json.dumps(context, sort_keys=True)


def picture(database, numbers):
    """The tables as lines of text; `numbers` is the number in the script of each id."""
    lines = []
    for job_id, entrypoint, *rest in database.rows(QUEUE):
        lines.append(f"queue: job {numbers.get(job_id)} {entrypoint} {rest}")
    for job_id, *row, traceback, aggregated in database.rows(LOG):
        lines.append(f"log: job {numbers.get(job_id)} {row} {_cause(traceback)} aggregated={aggregated}")
    for entrypoint, *row in database.rows(STATISTICS):
        lines.append(f"statistics: {entrypoint} {row}")
    return lines


@dataclasses.dataclass(frozen=True)
class Difference:
    """Where a fleet with ours in it may end otherwise than Python's, and why that is better."""

    name: str
    reason: str
    applies: object  # of a line that one of the two has: whether this explains it


DIFFERENCES = ()


def unexplained(python, other):
    """The lines that only one of the two has, each as often as it is too many, but for what the list
    above explains."""
    left, right = list(python), []
    for line in other:
        if line in left:
            left.remove(line)
        else:
            right.append(line)
    return [f"{sign} {line}" for sign, lines in (("- python", left), ("+ other ", right))
            for line in sorted(lines) if not any(known.applies(line) for known in DIFFERENCES)]
