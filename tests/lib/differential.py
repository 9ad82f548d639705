"""The same operations on fleets of different languages: what a seed plays, who plays it, and what is
compared.

A script is a list of steps; after each the fleet comes to rest: nothing is due, and what is picked runs
in a live worker. So what a step finds does not depend on how fast a fleet is, and whatever differs at the
end was done differently. A job goes by its number in the script; each fleet has ids of its own.
"""

import dataclasses
import itertools
import json
import random
import re
from collections import Counter

import psycopg

from lib.jobs import NewJob

# name: (behaviour of the handlers of both journals with its options, weight)
ENTRYPOINTS = {
    "fine": ("ok", 6),
    "broken": ("fail", 2),
    "kept": ("hold", 3),
    "again": ("retry_once", 3),
    "stubborn": ("fail,retry_executor=2:40", 2),
    "patient": ("fail,hold,retry_executor=1:40", 2),
    "endless": ("watch", 3),
}
KEYS = ["k1", "k2", "k3"]
FAR_MS = 3_600_000  # is not due before the end


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
        dedupe_key=draw.choice([None, None, *KEYS]),
        headers=draw.choice([None, None, "{}", '{"a": {"b": [1, "\\u00e9"]}}']),
    )


def _batch(draw, on_conflict):
    jobs = [_job(draw) for _ in range(draw.randrange(1, 6))]
    if on_conflict == "update_priority":  # which refuses a key that comes twice
        jobs[0].dedupe_key = KEYS[0]
        taken = set()
        for job in jobs:
            if job.dedupe_key in taken:
                job.dedupe_key = None
            taken.add(job.dedupe_key)
    return jobs


def _some(draw, what, jobs):
    """Numbers of jobs, rather of such as the step finds in the queue."""
    apt = {"requeue": {"kept", "patient"}, "cancel": {"kept", "patient", "endless"}}[what]
    weights = [5 if job.entrypoint in apt or job.delay_ms == FAR_MS and what == "cancel" else 1 for job in jobs]
    return sorted(set(draw.choices(range(len(jobs)), weights, k=draw.randrange(1, 6))))


def script(seed, steps):
    """Every kind of step and of job happens, and a job runs at the crash."""
    draw = random.Random(seed)
    kinds = draw.choices(["enqueue", "cancel", "requeue"], [5, 3, 3], k=max(0, steps - 6))
    kinds += ["enqueue", "cancel", "requeue", "crash"]
    draw.shuffle(kinds)
    on_conflict = itertools.cycle(["update_priority", "skip", "raise"])
    played = [Step("enqueue", [NewJob(name, b"0") for name in ENTRYPOINTS]
                   + [NewJob("fine", priority=1, delay_ms=FAR_MS, dedupe_key=KEYS[0])])]
    for what in kinds:
        step = Step(what, by_python=draw.random() < 0.5)
        if what == "enqueue":
            step.on_conflict = next(on_conflict)
            step.jobs = _batch(draw, step.on_conflict)
        elif what == "crash":
            played.append(Step("enqueue", [NewJob("endless"), NewJob("fine")], by_python=step.by_python))
        else:
            step.jobs = _some(draw, what, [job for one in played if one.what == "enqueue" for job in one.jobs])
        played.append(step)
    return played


# --- what is compared ------------------------------------------------------------------------------

QUEUE = ("SELECT id, entrypoint, priority, status::text, attempts, dedupe_key, payload, headers::text,"
         " queue_manager_id IS NOT NULL AS taken, slot, execute_after > now() + interval '1 minute' AS deferred"
         " FROM pgqueuer")
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
    with database.connect(row_factory=psycopg.rows.dict_row) as connection:
        for row in connection.execute(QUEUE):
            row["id"] = numbers.get(row["id"])
            lines.append("queue: " + " ".join(f"{name}={value!r}" for name, value in row.items()))
    for job_id, *row, traceback, aggregated in database.rows(LOG):
        lines.append(f"log: job {numbers.get(job_id)} {row} {_cause(traceback)} aggregated={aggregated}")
    for entrypoint, *row in database.rows(STATISTICS):
        lines.append(f"statistics: {entrypoint} {row}")
    return lines


@dataclasses.dataclass(frozen=True)
class Difference:
    """Where ours writes something else than Python does, and why that is better."""

    name: str
    reason: str
    python: str  # a pattern in a line
    ours: str  # what ours has there

    def met(self, line):
        return re.search(self.python, line) is not None


# All that may differ. Whoever adds a line here says why in a way that a user of Python's would agree with.
DIFFERENCES = (
    Difference(
        "no headers",
        "A job without headers has none: SQL NULL, which costs no byte and is found by IS NULL. Python"
        " writes the JSON value null; both of its readers and ours take either for no headers.",
        r"^(queue: .*) headers='null'", r"\1 headers=None"),
)


def _in_our_words(line):
    for known in DIFFERENCES:
        line = re.sub(known.python, known.ours, line)
    return line


def unexplained(python, other):
    """The lines that only one of the two has, each as often as it is too many, but for what the list
    above explains."""
    left, right = Counter(map(_in_our_words, python)), Counter(map(_in_our_words, other))
    return [f"{sign} {line}" for sign, lines in (("- python", left - right), ("+ other ", right - left))
            for line in sorted(lines.elements())]
