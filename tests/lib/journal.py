"""The journal of handler runs: a file outside the database, so that no rollback hides a run.

Format, one line per event, fields separated by tabs (written by tests/handlers/journal.c and by
tests/interop/py/py_worker.py):
    start  pid  job  attempts  start_ns  entrypoint  priority  size or -1  sha256  headers or -
    end    pid  job  attempts  start_ns  end_ns      outcome
Times are CLOCK_MONOTONIC, so those of different processes of one machine compare.
"""

import collections
import dataclasses
from pathlib import Path

from lib.waiting import wait_until


def most_at_once(timeline):
    """The highest number of runs of a timeline that ran at the same time."""
    steps = sorted([(start, 1) for start, _ in timeline] + [(end, -1) for _, end in timeline])
    most = now = 0
    for _, step in steps:  # at equal times the end goes first
        now += step
        most = max(most, now)
    return most


@dataclasses.dataclass
class Run:
    pid: int
    job_id: int
    attempts: int
    start_ns: int
    entrypoint: str
    priority: int
    size: int | None
    sha256: str
    headers: str | None
    end_ns: int | None = None
    outcome: str | None = None


class Journal:
    def __init__(self, path):
        self.path = Path(path)

    def __fspath__(self):
        return str(self.path)

    def __str__(self):
        return str(self.path)

    def runs(self):
        """Every run so far, in the order of their starts in the file."""
        if not self.path.exists():
            return []
        runs = {}
        for line in self.path.read_text().split("\n")[:-1]:
            kind, *fields = line.split("\t")
            if kind == "start":
                pid, job, attempts, start, entrypoint, priority, size, sha256, headers = fields
                runs[pid, job, start] = Run(
                    int(pid), int(job), int(attempts), int(start), entrypoint, int(priority),
                    None if size == "-1" else int(size), sha256,
                    None if headers == "-" else headers,
                )
            else:
                pid, job, _, start, end, outcome = fields
                run = runs[pid, job, start]
                run.end_ns, run.outcome = int(end), outcome
        return list(runs.values())

    def runs_of(self, job_id):
        return [run for run in self.runs() if run.job_id == job_id]

    def run_counts(self):
        """How often each job was started."""
        return collections.Counter(run.job_id for run in self.runs())

    def wait_runs(self, count, deadline=20.0, ended=False):
        """Waits until at least `count` runs have started (or ended), and returns them."""

        def enough():
            runs = [run for run in self.runs() if run.end_ns is not None or not ended]
            return runs if len(runs) >= count else None

        return wait_until(enough, deadline, lambda: f"{count} runs, there are {len(self.runs())}",
                          interval=0.05)

    def timeline(self, entrypoint, killed=None):
        """The runs of an entrypoint as (start_ns, end_ns). A run without an end ended when its
        process was killed: `killed` has the times by pid. One that is still running has no end."""
        killed = killed or {}
        return [
            (run.start_ns, run.end_ns or killed.get(run.pid, float("inf")))
            for run in self.runs()
            if run.entrypoint == entrypoint
        ]

    def overlapping(self):
        """Pairs of runs of one job that ran at the same time (a run without an end counts as
        ended at once: its process was killed)."""
        by_job = collections.defaultdict(list)
        for run in self.runs():
            by_job[run.job_id].append(run)
        pairs = []
        for runs in by_job.values():
            runs.sort(key=lambda run: run.start_ns)
            for before, after in zip(runs, runs[1:]):
                if before.end_ns is not None and after.start_ns < before.end_ns:
                    pairs.append((before, after))
        return pairs
