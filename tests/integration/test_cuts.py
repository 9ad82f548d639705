"""The connection is cut at every message of the protocol: before the server sees it, and after the
server has committed but before the reply gets through.

An undisturbed run shows which boundaries there are; then each of them is cut once, and every time
the work must end as if nothing had happened. Cuts by resets and by orderly ends take turns."""

import collections

import pytest

from lib import invariants
from lib import jobs as job_text
from lib import program
from lib.jobs import NewJob
from lib.proxy import Boundary, Proxy
from lib.waiting import wait_until

# A cut costs at most a reconnect and a look for what the lost reply hid.
RECOVERY_SECONDS = 10
# Undisturbed rounds that show the boundaries. How a worker groups its sentences into flights is a
# matter of timing, so a boundary of a rare flight may take several rounds to come up again.
LEARNING_ROUNDS = 4
TRIES = 3

MESSAGES = {
    "frontend": ("Bind", "Describe", "Execute", "Sync"),
    "backend": ("BindComplete", "RowDescription", "DataRow", "CommandComplete", "ReadyForQuery"),
}


@pytest.fixture
def proxy(cluster):
    with Proxy(cluster) as one:
        yield one


def is_of_control(role):
    return role in ("check_worker", "listen")


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
        fresh = (boundary.message in ("Parse", "ParseComplete")
                 or boundary.statement in ("listen", "ping"))  # a new connection says those at once
        for _ in range(TRIES):
            self.proxy.arm(*after, lambda link, at: wanted(link.role, at) and name(at) == boundary,
                           reset=reset)
            if fresh and not after:
                self.proxy.reset_links()
            self.round(boundary)
            if not self.proxy.disarm():
                assert name(self.proxy.cuts[-1]) == boundary
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


def test_claim_settle_retry_and_hold_survive_a_cut_at_every_message(
    queue_db, proxy, produce, spawn_worker, journal, handlers
):
    """Seats are at stake as well: the retries are of an entrypoint with a limit."""
    names = ["ok", "fail", "hold", "limited=retry_once"]
    worker = spawn_worker(proxy.dsn(queue_db), "--lanes", "1", "--threads", "4",
                          "--dequeue-timeout", "600", factory=f"{handlers['cuts']}:cuts_factory",
                          args=[journal, "2", *names])
    jobs = [NewJob("ok", b""), NewJob("ok", b""), NewJob("fail", b""), NewJob("hold", b"")]
    jobs += [NewJob("limited", b"1")] * 3
    sweep = Sweep(queue_db, proxy, produce, lambda _: jobs)
    sweep.run(lambda role, at: not is_of_control(role) and set(at.flight) <= {"claim_gated", "settle_row"}
              and at.flight)
    for side, messages in MESSAGES.items():
        for message in messages:  # the second cut is in the recovery from the first
            sweep.cut(Boundary(side, ("adopt_row",), message), lambda role, at: True,
                      lambda at: at.place, reset=side == "backend", after=[is_lost_claim])
    done = sweep.report()
    assert_whole(done, "claim_gated")
    assert_whole(done, "settle_row", without=["DataRow"])  # a row is a claim that is lost
    assert_whole(done, "adopt_row", without=["Parse", "ParseComplete"])
    worker.stop_cleanly()
    lost = worker.events("connection.lost")
    assert lost and worker.events("connection.restored")
    assert all('error="the connection was lost: server closed' in line for line in lost), lost
    assert worker.events("claim.adopted"), "a lost reply to a claim hid jobs that were adopted"
    assert not worker.events("claim.lost")
    check_each_ran_once(queue_db, journal, sweep, retried="limited")


def is_lost_claim(_, boundary):
    return boundary == Boundary("backend", ("claim_gated",), "DataRow")


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


def test_heartbeats_and_the_listener_survive_a_cut_at_every_message(
    queue_db, proxy, produce, spawn_worker, journal
):
    """A job runs longer than the heartbeat timeout: in spite of every cut it looks alive."""
    timeout = 1.2
    worker = spawn_worker(proxy.dsn(queue_db), "--lanes", "1", "--threads", "4",
                          "--heartbeat-timeout", str(timeout), "--dequeue-timeout", "600",
                          args=["sleep", "ok"])
    oldest = []

    def watch():
        age = queue_db.value("SELECT max(extract(epoch FROM now() - heartbeat)) FROM pgqueuer"
                             " WHERE status = 'picked'")
        oldest.append(float(age or 0))

    def jobs(boundary):
        beats = boundary is None or boundary.statement == "beat_row"
        return [NewJob("ok", b""), NewJob("sleep", b"700" if beats else b"1")]

    sweep = Sweep(queue_db, proxy, produce, jobs, watch)
    sweep.run(lambda role, at: at.statement == "ping" or (
        is_of_control(role) and at.statement in ("beat_row", "listen", "probe")), lambda at: at.place)
    done = sweep.report()
    assert_whole(done, "beat_row", without=["DataRow"])  # as for settle_row
    assert_whole(done, "listen", without=["RowDescription", "DataRow"])
    assert_whole(done, "ping")
    worker.stop_cleanly()
    print(f"the oldest heartbeat was {max(oldest):.2f} s old")
    assert max(oldest) < timeout
    assert not worker.events("claim.lost")
    check_each_ran_once(queue_db, journal, sweep)


def test_a_worker_that_is_cut_off_while_it_starts_ends_and_says_why(
    queue_db, proxy, processes, handlers, home, journal
):
    def start():
        return processes(
            [program.PROGRAM, "run", f"{handlers['journal']}:factory", "--mode", "drain", "--",
             str(journal), "ok"],
            program.clean_environment(home, PGQUEUER_DSN=proxy.dsn(queue_db)))

    def of_start(link, boundary):
        return link.number == first + 1

    first = 0
    statuses = collections.Counter()
    for nth in range(1, 200):
        first = proxy.accepted
        cuts = len(proxy.cuts)
        proxy.arm(of_start, reset=nth % 2 == 0, nth=nth)
        worker = start()
        status = worker.wait()
        statuses[status] += 1
        assert status in (0, 3), worker.log()
        if status == 3:
            assert "pgqueuer: error: " in worker.log() and proxy.cuts[cuts:], worker.log()
        if proxy.disarm():
            assert status == 0, worker.log()
            break
    else:
        pytest.fail("the start has no end")
    print(f"{len(proxy.cuts)} cuts, exit statuses {dict(statuses)}")
    assert {("frontend", "Startup"), ("backend", "Authentication"), ("backend", "ReadyForQuery"),
            ("frontend", "Parse"), ("frontend", "Sync")} <= {(b.side, b.message) for b in proxy.cuts}
    assert statuses[3] >= 10


@pytest.mark.parametrize("on_conflict", ["raise", "skip"])
def test_an_enqueue_that_is_cut_is_there_as_a_whole_or_not_at_all(
    queue_db, proxy, handlers, home, drain, journal, on_conflict
):
    """Two batches of three jobs: what was printed is there, and a batch whose answer was cut off is
    there whole or not at all. An error that says that nothing was sent is right."""
    batch = 3
    stdin = job_text.encode([NewJob("ok", b"x")] * (2 * batch))
    acknowledged, unknown, errors = set(), 0, collections.Counter()
    for nth in range(1, 200):
        before = set(queue_db.rows("SELECT id FROM pgqueuer"))
        proxy.arm(lambda link, boundary: boundary.message != "Terminate", reset=nth % 2 == 0,
                  nth=nth)
        done = program.run(
            [handlers["prog_produce"], proxy.dsn(queue_db), on_conflict, str(batch), "none"],
            program.clean_environment(home), stdin=stdin)
        untouched = proxy.disarm()
        printed = {int(line) for line in done.stdout.split()}
        new = {job_id for (job_id,) in set(queue_db.rows("SELECT id FROM pgqueuer")) - before}
        assert printed <= new, f"acknowledged and not there, after {proxy.cuts[-1:]}"
        assert len(new - printed) in (0, batch), f"half a batch, after {proxy.cuts[-1:]}"
        acknowledged |= printed
        if untouched:
            assert done.returncode == 0 and len(new) == 2 * batch
            break
        assert done.returncode == 3, done.stderr
        error = done.stderr.split()[0]
        errors[error] += 1
        assert error in ("PGQ_E_CONNECT", "PGQ_E_CONNECTION_LOST", "PGQ_E_OUTCOME_UNKNOWN")
        if new - printed:
            unknown += 1
            assert error == "PGQ_E_OUTCOME_UNKNOWN", f"{error}, and yet it is there"
    else:
        pytest.fail("the enqueue has no end")
    cut = {(b.side, b.message) for b in proxy.cuts if (b.statement or "").startswith("enqueue")}
    print(f"{len(proxy.cuts)} cuts, errors {dict(errors)}, {unknown} batches unacknowledged and there")
    assert {(side, message) for side in MESSAGES for message in MESSAGES[side]} <= cut
    assert {("frontend", "Parse"), ("backend", "ParseComplete")} <= cut
    assert unknown >= 5 and len(acknowledged) > 2 * batch
    invented = invariants.check_kept(queue_db, acknowledged)
    assert len(invented) == unknown * batch
    drain(queue_db, args=["ok"])
    invariants.check_kept(queue_db, acknowledged)
    assert invariants.check_single(journal, acknowledged | invented) == 0
