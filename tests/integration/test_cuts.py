"""The connection is cut at every message of the protocol: before the server sees it, and after the
server has committed but before the reply gets through.

An undisturbed run shows which boundaries there are; then each of them is cut once, and every time
the work must end as if nothing had happened. Cuts by resets and by orderly ends take turns."""

import collections

import pytest

from lib import invariants
from lib import jobs as job_text
from lib import program
from lib.cuts import MESSAGES, Sweep, assert_whole, check_each_ran_once
from lib.jobs import NewJob
from lib.proxy import Boundary, Proxy

@pytest.fixture
def proxy(cluster):
    with Proxy(cluster) as one:
        yield one


def is_of_control(role):
    return role in ("check_worker", "listen")


def test_claim_settle_retry_and_hold_survive_a_cut_at_every_message(
    queue_db, proxy, produce, spawn_worker, journal, handlers
):
    """Seats are at stake as well: the retries are of an entrypoint with a limit."""
    names = ["ok", "fail", "hold", "limited=retry_once"]
    worker = spawn_worker(proxy.dsn(queue_db), "--lane", "row", "--lanes", "1", "--threads", "4",
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


def test_heartbeats_and_the_listener_survive_a_cut_at_every_message(
    queue_db, proxy, produce, spawn_worker, journal
):
    """A job runs longer than the heartbeat timeout: in spite of every cut it looks alive."""
    timeout = 2.0
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
        return [NewJob("ok", b""), NewJob("sleep", b"1150" if beats else b"1")]

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
