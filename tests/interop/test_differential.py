"""One seed's operations played by a fleet of Python's, by one of ours, and by one of both: queue, log and
statistics are the same at the end, but for what tests/lib/differential.py lists with its reason.

$PGQUEUER_SEED replays a seed; $PGQUEUER_DIFFERENTIAL_SEEDS is how many are played."""

import itertools
import json
import os
import random
import subprocess
from collections import Counter

import pytest

from lib import differential, program
from lib.extent import extent
from lib.jobs import encode
from lib.journal import Journal
from lib.waiting import wait_until

pytestmark = [pytest.mark.interop, pytest.mark.soak]

SEED = os.environ.get("PGQUEUER_SEED")
SEEDS = 1 if SEED else extent("DIFFERENTIAL_SEEDS", 1, 50)
USUAL_SEED = 2  # short, and has every kind of conflict, of held job and of cancel
STEPS = extent("DIFFERENTIAL_STEPS", 14, 40)
REST_SECONDS = 60
# Connections of workers: neither this one nor that of py_play.py.
OTHERS = ("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
          " AND backend_type = 'client backend' AND application_name <> 'play'")
KINDS = {"python": ("python", "python"), "c": ("c", "c"), "mixed": ("c", "python")}


class Players:
    """Workers that come back after a crash, and who enqueues and acts beside them."""

    def __init__(self, kind, lane, database, tmp_path, tools):
        self.lane = lane
        self.kind, self.database, self.tools = kind, database, tools
        self.journal = Journal(tmp_path / f"journal-{kind}")
        self.ids = []  # by number in the script; None: left out
        self.results = []
        self.python = tools.python_spawn(database, "py_play.py", stdin=subprocess.PIPE)
        self.workers = []
        self.start()

    def start(self):
        options = ["--heartbeat-timeout", "60", "--dequeue-timeout", "0.3"]
        entrypoints = [f"{name}={row[0]}" for name, row in differential.ENTRYPOINTS.items()]
        for number, language in enumerate(KINDS[self.kind]):
            # Two workers of Python's may fold a row twice between themselves (wire contract, 4.11).
            fold = ["--log-aggregation-interval", "0.5" if number == 0 else "3600"]
            if language == "c":
                # A thread for each endless job, of which Python's worker has as many as there are.
                self.workers.append(self.tools.spawn_worker(
                    self.database, *options, *fold, "--lane", self.lane, "--threads", "64", wait=False,
                    factory=f"{self.tools.handlers['journal']}:factory", args=[self.journal, *entrypoints]))
            else:
                self.workers.append(self.tools.python_spawn(
                    self.database, "py_worker.py", "--journal", self.journal, *options, *fold, "--",
                    *entrypoints))

    def wait_started(self):
        for worker, language in zip(self.workers, KINDS[self.kind]):
            worker.wait_log(r"worker\.listening" if language == "c" else r"^LISTENING ", 60)

    # --- steps

    def play(self, step):
        if step.what == "crash":
            self.crash()
            return
        by_python = {"python": True, "c": False, "mixed": step.by_python}[self.kind]
        if step.what == "enqueue":
            found = (self.enqueue_python if by_python else self.enqueue_c)(step)
            ids = [None] * len(step.jobs) if found == "duplicate" else found
            # An existing job keeps its number.
            self.results.append(found if found == "duplicate" else
                                [self.ids.index(i) if i in self.ids else i is not None for i in ids])
            self.ids += [None if i in self.ids else i for i in ids]
            return
        ids = [self.ids[number] for number in step.jobs if self.ids[number] is not None]
        if ids:
            found = (self.ask if by_python else self.act_c)(step.what, ids)
            self.results.append(f"{step.what} {found}")

    def act_c(self, what, ids):
        done = self.tools.pgqueuer(what, *(["--yes"] if what == "cancel" else []), *ids, dsn=self.database)
        if done.returncode == 7:
            return "duplicate"
        assert done.returncode in (0, 1, 6), done.stderr  # some of the jobs are not there, or none
        return None

    def crash(self):
        for worker in self.workers:
            worker.kill()
        wait_until(lambda: self.database.value(OTHERS) == 0, 20, "their connections end")
        # The time until their jobs are taken over passes at once. It is long, so that on a busy machine
        # nobody takes a job over that is alive.
        self.database.execute("UPDATE pgqueuer SET heartbeat = now() - interval '1 hour' WHERE status = 'picked'")
        self.workers = []
        self.start()

    def enqueue_python(self, step):
        jobs = [{**vars(job), "payload": None if job.payload is None else job.payload.decode()}
                for job in step.jobs]
        return self.ask("enqueue", [jobs, step.on_conflict])

    def enqueue_c(self, step):
        done = self.tools.produce(self.database, step.jobs, step.on_conflict, check=False)
        if done.returncode == 7:
            return "duplicate"
        assert done.returncode == 0, done.stderr
        return [int(line) or None for line in done.stdout.split()]

    def ask(self, what, arguments):
        before = len(self.python.events("ANSWER"))
        self.python.write(json.dumps([what, arguments]) + "\n")
        answers = wait_until(lambda: self.python.events("ANSWER")[before:], 30, f"the answer to {what}")
        return json.loads(answers[0].removeprefix("ANSWER "))

    # --- rest

    def restless(self):
        """What there is yet to wait for, or None."""
        live = {worker.pid for worker in self.workers}
        for worker in self.workers:
            assert worker.returncode is None, worker.log()
        runs = self.journal.runs()
        running = {run.job_id for run in runs if run.end_ns is None and run.pid in live}
        rows = self.database.rows(
            "SELECT id, entrypoint, status::text FROM pgqueuer WHERE status = 'picked'"
            " OR status = 'queued' AND execute_after < now() + interval '1 minute'")
        waiting = [row for row in rows if row[2] == "queued" or row[0] not in running]
        gone = running - {row[0] for row in rows}
        return waiting or gone or None

    def stop(self):
        for worker in self.workers:
            assert worker.stop(deadline=60) == 0, worker.log()

    def books_closed(self):
        return self.database.value("SELECT count(*) FROM pgqueuer_log WHERE NOT aggregated") == 0

    def picture(self):
        numbers = {job_id: number for number, job_id in enumerate(self.ids) if job_id is not None}
        return [f"result {n}: {result}" for n, result in enumerate(self.results)] + differential.picture(
            self.database, numbers)


@pytest.fixture
def tools(spawn_worker, python_spawn, pgqueuer, produce, handlers):
    class Tools:
        pass

    tools = Tools()
    tools.__dict__.update(spawn_worker=spawn_worker, python_spawn=python_spawn, pgqueuer=pgqueuer,
                          produce=produce, handlers=handlers)
    return tools


def play(fleets, steps):
    for fleet in fleets:
        fleet.wait_started()
    for step in steps:
        for fleet in fleets:
            fleet.play(step)
        for fleet in fleets:
            wait_until(lambda: fleet.restless() is None, REST_SECONDS,
                       lambda: f"the {fleet.kind} fleet comes to rest after {step}: {fleet.restless()}",
                       interval=0.05)
    running = differential.Step("cancel")
    for fleet in fleets:
        picked = {job for (job,) in fleet.database.rows("SELECT id FROM pgqueuer WHERE status = 'picked'")}
        running.jobs = [number for number, job in enumerate(fleet.ids) if job in picked]
        fleet.play(running)
    for fleet in fleets:
        wait_until(lambda: fleet.restless() is None, REST_SECONDS, "the last jobs end", interval=0.05)
        fleet.stop()
        if not fleet.books_closed():
            fleet.ask("fold", [])
        assert fleet.books_closed()


@pytest.mark.scenario("fleets.differential")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(SEEDS))
def test_fleets_of_either_language_and_of_both_end_at_the_same(
    number, cluster, queue_template, tmp_path, tools
):
    seed = int(SEED) if SEED else USUAL_SEED if number == 0 else random.randrange(2**32)
    steps = differential.script(seed, STEPS)
    played = "\n".join(itertools.starmap("{}: {}".format, enumerate(map(str, steps))))
    lane = random.Random(seed).choice(["auto", "row", "lease"])
    print(f"seed {seed}, lane {lane}: PGQUEUER_SEED={seed} PGQUEUER_DIFFERENTIAL_STEPS={STEPS} plays it again\n{played}")
    fleets = [Players(kind, lane, cluster.create_database(queue_template), tmp_path, tools)
              for kind in KINDS]
    play(fleets, steps)
    pictures = {fleet.kind: fleet.picture() for fleet in fleets}
    statuses = Counter(line.split("'")[1] for line in pictures["python"] if line.startswith("log: "))
    assert statuses.keys() >= {"queued", "picked", "successful", "exception", "failed", "canceled"}, statuses
    for known in differential.DIFFERENCES:
        print(f"{known.name}: {sum(map(known.met, pictures['python']))} times")
    wrong = {kind: differential.unexplained(pictures["python"], pictures[kind]) for kind in ("c", "mixed")}
    told = "\n".join(f"{kind}:\n  " + "\n  ".join(lines) for kind, lines in wrong.items() if lines)
    assert not told, f"seed {seed} ends differently\n{told}"
    for fleet in fleets:
        cluster.drop_database(fleet.database)
