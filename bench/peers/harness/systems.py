"""Who is measured, in which version and configuration, and how its jobs are counted."""

import os
import subprocess
from dataclasses import dataclass, field
from typing import Callable

from harness import install

# The ways of ours to enqueue (ways[] of ours/produce.c). One more is a line here.
OUR_PRODUCERS = ("calls", "producer")
POLICIES = ("full", "terminal", "failures")
BARE_BATCH, BARE_LANES = 500, 2
WORKING = ("drain", "latency", "horizon", "backlog")
ENQUEUEING = ("bulk", "single1", "single8")


@dataclass(frozen=True)
class Way:
    """A system in one configuration: a line of the tables."""

    system: str
    name: str
    config: str  # best, or default
    settings: str  # as the results show it
    about: int  # jobs/s that it may drain, for the size of the first fill
    work: tuple = ()
    produce: tuple = ()
    ready: str = "^ready$"
    drain: str = ""  # a line that the worker wants to hear after it is ready,
    listen: str = ""  # and the one of `latency`, which it answers with `listening`
    processes: int = 1
    talks: str = "stdout"  # ours says in its log, on stderr, that it is ready
    cells: tuple = WORKING + ENQUEUEING

    @property
    def id(self):
        return f"{self.name}, {self.config}"


@dataclass
class System:
    key: str
    name: str
    version: str
    language: str
    left: str  # how many jobs are not done yet
    prepare: Callable  # prepare(folder) -> the command that install, work and produce are added to
    configs: dict = field(default_factory=dict)  # config -> (settings, about, processes)
    tables: str = "install"

    def ways(self, program):
        """Of a peer: one a configuration."""
        for config, (settings, about, processes) in self.configs.items():
            yield Way(self.key, self.name, config, settings, about, (*program, "work", config),
                      (*program, "produce", config), processes=processes)


def _python(name):
    return lambda folder: (install.python(name, folder), install.PEERS / name / "peer.py")


def _node(name, least):
    return lambda folder: (install.node(name, folder, least), folder / "peer.mjs")


PEERS = (
    System(
        "pgqueuer", "PGQueuer", "1.6.0", "Python",
        "SELECT count(*) FROM pgqueuer", _python("pgqueuer"),
        {"best": ("2 processes, batch_size 500, uvloop, asyncpg", 17000, 2),
         "default": ("1 process, batch_size 10, asyncio, asyncpg", 2900, 1)},
    ),
    System(
        "graphile", "Graphile Worker", "0.18.0", "Node",
        "SELECT count(*) FROM graphile_worker._private_jobs", _node("graphile", "22.18.0"),
        {"best": ("concurrentJobs 24, maxPoolSize 25, localQueue.size 2000, completeJobBatchDelay 0,"
                  " failJobBatchDelay 0", 25000, 1),
         "default": ("concurrentJobs 1, no local queue", 900, 1)},
    ),
    System(
        "river", "River", "0.51.2", "Go",
        "SELECT count(*) FROM river_job WHERE finalized_at IS NULL",
        lambda folder: (install.go("river", folder),),
        {"best": ("MaxWorkers 2000, FetchCooldown 1 ms, FetchPollInterval 50 ms, 20 connections, both ends;"
                  " InsertManyFast", 15000, 1),
         "default": ("MaxWorkers 100 as in its first example; FetchCooldown 100 ms", 1000, 1)},
    ),
    System(
        "pgboss", "pg-boss", "12.38.0", "Node",
        "SELECT count(*) FROM pgboss.job WHERE state < 'completed'", _node("pgboss", "22.12.0"),
        {"best": ("partition, notify with useListenNotify, batchSize 1000, localConcurrency 2,"
                  " burstWhenBatchFull", 19000, 1),
         "default": ("batchSize 1, pollingIntervalSeconds 2", 1, 1)},
    ),
    System(
        "awa", "Awa", "0.6.9", "Rust",
        "SELECT coalesce(sum(awa.sequence_next_value(e.seq_name)"
        " - coalesce(awa.sequence_next_value(c.seq_name), 1)), 0)"
        " FROM awa.queue_enqueue_heads AS e LEFT JOIN awa.queue_claim_heads AS c"
        " USING (queue, priority, enqueue_shard)",
        lambda folder: (install.cargo("awa", folder),),
        {"best": ("max_workers 100, poll_interval 50 ms, no deadline, 20 connections (its own benchmark's);"
                  " enqueue_params_copy", 7000, 1),
         "default": ("max_workers 50, poll_interval 200 ms, 10 connections", 5000, 1)},
    ),
    System(
        "procrastinate", "Procrastinate", "3.10.0", "Python",
        "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
        _python("procrastinate"),
        {"best": ("concurrency 20, delete_jobs successful, 20 connections, uvloop", 350, 1),
         "default": ("concurrency 1", 250, 1)},
    ),
)


# ---- ours, and the bare loop ---------------------------------------------------------------------

OURS_LEFT = "SELECT count(*) FROM bench.pgqueuer"
OURS_ABOUT = {"full": 40000, "terminal": 80000, "failures": 180000}


def our_version(build):
    done = subprocess.run([build / "pgqueuer", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1] if len(done.stdout.split()) > 1 else done.stdout.strip()


def our_tables(build):
    return (build / "pgqueuer", "install", "--extras", "--schema", "bench", "--channel", "bench")


def _policy_cells(policy):
    """To a producer, failures is the same as terminal."""
    return WORKING if policy == "failures" else WORKING + ENQUEUEING


def our_ways(build, folder):
    produce = install.c_program(folder, "produce", ["ours/produce.c"], build / "libpgqueuer.so",
                                f"-Wl,-rpath,{build}")
    handlers = install.c_program(folder, "handlers.so", ["ours/handlers.c"], "-shared", "-fPIC")
    run = (build / "pgqueuer", "run", f"{handlers}:factory", "--schema", "bench", "--channel", "bench",
           "--log-format", "json")
    for policy in POLICIES:
        yield Way("ours", f"ours, {policy}", "best", f"--lane lease --log-policy {policy}", OURS_ABOUT[policy],
                  (*run, "--lane", "lease", "--log-policy", policy), (produce, OUR_PRODUCERS[0], policy),
                  ready="worker\\.listening", talks="both", cells=_policy_cells(policy))
        yield Way("ours", f"ours, {policy}", "default", f"--log-policy {policy}, nothing else",
                  OURS_ABOUT[policy], (*run, "--log-policy", policy), (produce, OUR_PRODUCERS[0], policy),
                  ready="worker\\.listening", talks="both", cells=WORKING)
    for producer in OUR_PRODUCERS[1:]:
        yield Way("ours", f"ours by {producer}", "best", "one for all callers, on one connection", 0, (),
                  (produce, producer, "full"), cells=("single1", "single8"))


def bare_ways(build, folder):
    libpq = subprocess.run([install.tool("pkg-config"), "--cflags", "--libs", "libpq"], capture_output=True,
                           text=True, check=True).stdout.split()
    produce = install.c_program(folder, "produce", ["bare/produce.c"], *libpq)
    for policy in POLICIES:
        yield Way("bare", f"bare loop, {policy}", "best",
                  f"batch {BARE_BATCH}, {BARE_LANES} connections, cursor; COPY of text", OURS_ABOUT[policy],
                  (build / "bare", "bench", policy, str(BARE_BATCH), str(BARE_LANES), "cursor"),
                  (produce, policy), drain="drain 0", listen="listen", cells=_policy_cells(policy))


def own_systems(build):
    return (
        System("ours", "PGQueuer for C", our_version(build), "C", OURS_LEFT, None),
        System("bare", "bare loop", "of this revision", "C", OURS_LEFT, None),
    )


def environment(extra):
    """Of a peer's program: the caller's, without what points to another database."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("PG", "PGQUEUER_", "BARE_"))}
    return {**kept, **extra}
