"""A sweep of cuts: a worker behind a proxy does rounds of work, and in each of them its connection is
cut somewhere else. After each cut the work must end as if nothing had happened."""

import collections

from lib import invariants
from lib.waiting import wait_until

# A cut costs at most a reconnect and a look for what the lost reply hid.
RECOVERY_SECONDS = 10
# Undisturbed rounds that show the boundaries. How a worker groups its sentences into flights is a
# matter of timing, so a boundary of a rare flight may take several rounds to come up again.
LEARNING_ROUNDS = 4
TRIES = 8

MESSAGES = {
    "frontend": ("Bind", "Describe", "Execute", "Sync"),
    "backend": ("BindComplete", "RowDescription", "DataRow", "CommandComplete", "ReadyForQuery"),
}


class Sweep:
    """Rounds of work with one worker behind the proxy, and a cut in each of them."""

    def __init__(self, database, proxy, produce, jobs, watch=lambda: None):
        self.database, self.proxy, self.produce = database, proxy, produce
        self.jobs = jobs  # of a round, for a boundary; None: of a round that shows the boundaries
        self.watch = watch  # called while a round's jobs are under way
        self.ids = []
        self.made = collections.Counter()  # jobs by entrypoint
        self.missed = []

    def round(self, boundary=None):
        jobs = self.jobs(boundary)
        ids = self.produce(self.database, jobs)
        self.ids += ids
        self.made.update(job.entrypoint for job in jobs)
        left = ("SELECT id, entrypoint, status::text, attempts, slot, now() - heartbeat FROM pgqueuer"
                " WHERE id = ANY (%s) AND status <> 'failed'")

        def ended():
            self.watch()
            return not self.database.rows(left, [ids])

        wait_until(ended, RECOVERY_SECONDS, lambda: (
            f"the jobs end after the cut {self.proxy.cuts[-1:]}, left:"
            f" {self.database.rows(left, [ids])}"), interval=0.03)
        occupied = "SELECT id, status::text, slot FROM pgqueuer WHERE status <> 'picked' AND slot IS NOT NULL"
        assert not self.database.rows(occupied), f"seats that nobody has, after {self.proxy.cuts[-1:]}"

    def learn(self, wanted, name):
        """The boundaries that undisturbed rounds show, a new connection's included."""
        for number in range(LEARNING_ROUNDS):
            if number % 2:
                self.proxy.reset_links()
            self.round()
        return sorted({name(at) for (role, at) in self.proxy.seen if wanted(role, at)})

    def cut(self, boundary, wanted, name, reset, after=()):
        """One round with a cut there, after the cuts that come first. False: the boundary did not
        come up."""
        prepares = boundary.message in ("Parse", "ParseComplete")
        fresh = prepares or boundary.statement in ("listen", "ping")  # a new connection says those at once

        def is_there(at):  # in which flight a statement is prepared is a matter of luck
            return at.place == boundary.place if prepares else name(at) == boundary

        for _ in range(TRIES):
            self.proxy.arm(*after, lambda link, at: wanted(link.role, at) and is_there(at), reset=reset)
            if fresh and not after:
                self.proxy.reset_links()
            self.round(boundary)
            if not self.proxy.disarm():
                assert is_there(self.proxy.cuts[-1])
                return True
        self.missed.append(boundary)
        return False

    def run(self, wanted, name=lambda boundary: boundary):
        boundaries = self.learn(wanted, name)
        for number, boundary in enumerate(boundaries):
            self.cut(boundary, wanted, name, reset=number % 2 == 0)

    def report(self):
        done = {}
        for boundary in self.proxy.cuts:
            done.setdefault(boundary.statement, set()).add((boundary.side, boundary.message))
        print(f"{len(self.proxy.cuts)} cuts at {len(set(self.proxy.cuts))} boundaries;"
              f" {len(self.missed)} did not come up again: {[str(b) for b in self.missed]}")
        counts = collections.Counter(b.statement for b in self.proxy.cuts)
        print("cuts by statement:", dict(counts))
        return done


def assert_whole(done, statement, without=()):
    """A statement was cut at every message of it, those of its preparation included."""
    for side, messages in MESSAGES.items():
        preparation = "Parse" if side == "frontend" else "ParseComplete"
        for message in {*messages, preparation} - set(without):
            assert (side, message) in done.get(statement, ()), f"{statement}: no cut at {side} {message}"


def check_each_ran_once(database, journal, sweep, retried=None):
    """The worker lived on, so that no cut explains another run of any job."""
    assert not invariants.check_kept(database, sweep.ids)
    assert not journal.overlapping()
    runs = collections.defaultdict(list)
    for run in journal.runs():
        runs[run.job_id, run.entrypoint].append((run.attempts, run.outcome))
    assert {job_id for job_id, _ in runs} == set(sweep.ids)
    for (job_id, entrypoint), of_job in runs.items():
        expected = [0, 1] if entrypoint == retried else [0]
        assert [attempts for attempts, _ in of_job] == expected, (job_id, entrypoint, of_job)
    assert database.job_count("status <> 'failed'") == 0
    ends = collections.Counter()
    for entrypoint, count in sweep.made.items():
        ends[{"fail": "exception", "hold": "failed"}.get(entrypoint, "successful")] += count
    counts = database.log_counts()
    assert {status: counts[status] for status in ends} == ends
