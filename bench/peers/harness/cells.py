"""The cells: one measurement of one way each, bounded in time.

A cell of work starts a worker beside a queue that is fuller than it can empty in the time, lets it run
warm, and looks twice at how many jobs are left. What a job costs (WAL, commits, statements) is counted
over the whole cell, from before the worker starts until its sessions are gone.
"""

import contextlib
import time
from dataclasses import dataclass

from harness.figures import per_job, percentile, rate
from harness.programs import Failed, Program, cpu_seconds, peak_mib
from harness.systems import environment

READY_SECONDS = 60
FILL_SECONDS = 1800
START_SECONDS = 20  # for a job to start, in `latency`
IDLE_SECONDS = 0.01  # between two jobs of `latency`, for the worker to be idle again
FILL_MIN, FILL_MAX = 2000, 12_000_000
MARGIN = 1.6  # by so much more is filled than will be needed
GROWTH = 3
TRIES = 4
BACKLOG_JOBS = 2_000_000
HORIZON_JOBS = 1_000_000  # that make dead rows; in no less and no more than so many seconds:
HORIZON_SECONDS = (10, 30)


@dataclass
class Box:
    """How long a cell may take, and how large its backlog is."""

    warm_ms: int = 1000
    run_ms: int = 4000
    backlog: int = BACKLOG_JOBS
    horizon: tuple = HORIZON_SECONDS

    @property
    def warm(self):
        return self.warm_ms / 1000

    @property
    def run(self):
        return self.run_ms / 1000


class RanOut(Exception):
    """The queue was empty before the time was over."""


class Bench:
    """A way of a system on a server."""

    def __init__(self, server, system, way, tables, box):
        self.server, self.system, self.way, self.box = server, system, way, box
        self.tables = tables  # makes them
        self.rate = float(way.about)  # what it does in a second, as far as is known

    def measure(self, cell):
        """The figures of a cell."""
        for _ in range(TRIES):
            try:
                return CELLS[cell](self)
            except RanOut:
                self.rate *= GROWTH
        raise Failed("it emptied every queue before the time was over")

    # -- pieces of cells --

    def database(self):
        return self.server.database(self.system.key, self.tables)

    def producer(self, cell):
        program = Program(self.way.produce, environment(cell.environment))
        try:
            program.expect("^ready$", READY_SECONDS)
        except Failed:
            program.stop()
            raise
        return program

    def fill(self, cell, jobs):
        jobs = int(min(max(jobs, FILL_MIN), FILL_MAX))
        cell.checkpoint()
        with self.producer(cell) as producer:
            producer.done(f"fill {jobs}", FILL_SECONDS)
        cell.tidy()
        return jobs

    @contextlib.contextmanager
    def workers(self, cell, count, order):
        """They are ready, and have heard the order if there is one; they are stopped at the end."""
        programs = []
        try:
            for _ in range(count):
                programs.append(Program(self.way.work, environment(cell.environment), self.way.talks))
            for program in programs:
                program.expect(self.way.ready, READY_SECONDS)
            for program in programs:
                if order:
                    program.tell(order)
            yield programs
            for program in programs:
                if not program.alive():
                    raise Failed(f"{program} has ended: {program.last_words()}")
        finally:
            for program in programs:
                program.stop()

    def left(self, cell):
        return cell.count(self.system.left)

    def window(self, cell, programs):
        """Looks twice: (jobs/s, jobs meanwhile, CPU seconds meanwhile)."""
        cpu, before = cpu_seconds(programs), self.left(cell)
        time.sleep(self.box.run)  # not a wait: what is measured goes on meanwhile
        cpu, after = cpu_seconds(programs) - cpu, self.left(cell)
        if after[1] == 0:
            raise RanOut
        return rate(before, after), before[1] - after[1], cpu


def _costs(before, after, jobs, programs_mib, cpu, jobs_meanwhile):
    return {**per_job(before, after, jobs), "rss_mib": programs_mib,
            "cpu_us_per_job": cpu / jobs_meanwhile * 1e6 if jobs_meanwhile > 0 else None}


def _work(bench, jobs):
    """drain and backlog: a worker beside a full queue."""
    with bench.database() as cell:
        filled = bench.fill(cell, jobs)
        before = bench.server.meter()
        with bench.workers(cell, bench.way.processes, bench.way.drain) as programs:
            time.sleep(bench.box.warm)  # not a wait: the warm-up
            found, meanwhile, cpu = bench.window(cell, programs)
            rss = peak_mib(programs)
        after = bench.server.meter()
        done = filled - bench.left(cell)[1]
    bench.rate = max(found, 1)
    return {"jobs_per_s": found, "filled": filled, **_costs(before, after, done, rss, cpu, meanwhile)}


def _seconds(box):
    return (box.warm + box.run) * MARGIN


def drain(bench):
    return _work(bench, bench.rate * _seconds(bench.box))


def backlog(bench):
    return _work(bench, max(bench.box.backlog, bench.rate * _seconds(bench.box)))


def horizon(bench):
    """A transaction elsewhere is open from before the worker starts; the worker runs through."""
    least, most = bench.box.horizon
    seconds = min(max(HORIZON_JOBS / bench.rate, least), most)
    with bench.database() as cell:
        filled = bench.fill(cell, bench.rate * (seconds + bench.box.warm) * MARGIN)
        with cell.held_horizon(), bench.workers(cell, bench.way.processes, bench.way.drain) as programs:
            start = time.monotonic()
            time.sleep(bench.box.warm)  # not a wait: the warm-up
            first, _, _ = bench.window(cell, programs)
            pause = seconds - bench.box.run - (time.monotonic() - start)
            time.sleep(max(pause, 0))  # not a wait: rows die meanwhile
            last, _, _ = bench.window(cell, programs)
            rss = peak_mib(programs)
        done = filled - bench.left(cell)[1]
    return {"first_jobs_per_s": first, "jobs_per_s": last, "jobs_done": done, "rss_mib": rss}


def _enqueue(bench, order):
    """single and bulk: a producer, and no worker."""
    with bench.database() as cell:
        cell.checkpoint()
        with bench.producer(cell) as producer:
            before = bench.server.meter(besides=1 + _sessions(bench.server))
            cpu = cpu_seconds([producer])
            total, jobs, seconds = producer.done(f"{order} {bench.box.warm_ms} {bench.box.run_ms}",
                                                 READY_SECONDS + bench.box.warm + bench.box.run)
            cpu, rss = cpu_seconds([producer]) - cpu, peak_mib([producer])
        after = bench.server.meter()
        there = bench.left(cell)[1]
    if there != total:
        raise Failed(f"{total} jobs were enqueued and {there} are there")
    return {"jobs_per_s": jobs / seconds, **_costs(before, after, total, rss, cpu, total)}


def _sessions(server):
    """Those of a producer that waits for its orders: they stay."""
    return server.admin.execute(
        "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = 'cell'").fetchone()[0]


def bulk(bench):
    return _enqueue(bench, "bulk")


def single1(bench):
    return _enqueue(bench, "single 1")


def single8(bench):
    return _enqueue(bench, "single 8")


def _sample(number, producer, worker):
    """Milliseconds from when the producer knew of the commit to when the handler had the job."""
    producer.tell(f"one {number}")
    sent = int(producer.expect(rf"^sent {number} (\d+)$", START_SECONDS)[1])
    started = int(worker.expect(rf"^start {number} (\d+)$", START_SECONDS)[1])
    return (started - sent) / 1e6


def _samples(bench, cell, worker):
    samples, number = [], 0
    with bench.producer(cell) as producer:
        begin = time.monotonic() + bench.box.warm
        while (now := time.monotonic()) < begin + bench.box.run or not samples:
            number += 1
            sample = _sample(number, producer, worker)
            if now >= begin:
                samples.append(sample)
            time.sleep(IDLE_SECONDS)  # not a wait: the worker is to be idle
    return samples


def latency(bench):
    with bench.database() as cell, bench.workers(cell, 1, bench.way.listen) as programs:
        if bench.way.listen:
            programs[0].expect("^listening$", READY_SECONDS)
        samples = _samples(bench, cell, programs[0])
    return {"p50_ms": percentile(samples, 50), "p99_ms": percentile(samples, 99), "max_ms": max(samples),
            "samples": len(samples)}


CELLS = {"drain": drain, "bulk": bulk, "single1": single1, "single8": single8, "latency": latency,
         "horizon": horizon, "backlog": backlog}
