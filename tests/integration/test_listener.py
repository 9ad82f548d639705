"""Listeners that die: their backend killed, their packets dropped without a reset, their LISTEN
swallowed by a pooler. Each is found by the health check, whose interval and timeout are the bound; a
deadline here is five times the bound, and what was measured is printed."""

import re
import signal
import time

import pytest

from lib import invariants, program
from lib.jobs import NewJob
from lib.leases import open_gate
from lib.netns import network_or_reason
from lib.pooler import Pooler
from lib.proxy import Proxy
from lib.waiting import wait_until

INTERVAL = TIMEOUT = 1.0
BOUND = INTERVAL + TIMEOUT
DEADLINE = 5 * BOUND
CHECKS = ["--health-check-interval", str(INTERVAL), "--health-check-timeout", str(TIMEOUT)]
# Only a notification can make a job start promptly.
NO_POLL = ["--dequeue-timeout", "600"]
# A job that nobody was notified of is found within that.
FOUND_SECONDS = 5.0
# And one of which a listener was notified.
PROMPT_SECONDS = 2.0
# A worker that ends waits so long for a database that is gone, as it may have been given jobs.
AWAY_SECONDS = 30.0


class KilledBackend:
    """The server ends the listener's session, and says so."""

    inside = ()

    def __init__(self, database):
        self.dsn, self._database = database.dsn, database

    def strike(self):
        # The lane that listens connects before all others.
        assert self._database.value(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend' ORDER BY backend_start LIMIT 1")

    def mend(self):
        pass


class SilentPath:
    """What the listening connection carries is swallowed, and so is it on every new one."""

    inside = ()

    def __init__(self, database, proxy):
        self.dsn, self._proxy = proxy.dsn(database), proxy

    def strike(self):
        self._proxy.silence(lambda link: link.role in ("check_worker", "listen"))

    def mend(self):
        assert self._proxy.swallowed > 0
        self._proxy.silence(None)


class DroppedPackets:
    """The network between worker and server drops every packet."""

    def __init__(self, database, proxy, network):
        self.dsn, self._network, self.inside = proxy.dsn(database), network, network.inside

    def strike(self):
        self._network.drop()

    def mend(self):
        self._network.mend()


class SwallowedListen:
    """PgBouncer in transaction mode: LISTEN succeeds and is of no use."""

    inside = ()

    def __init__(self, database, pooler):
        self.dsn, self._pooler = pooler.dsn(database), pooler

    def strike(self):
        pass  # it is so from the beginning

    def mend(self):
        self._pooler.restart("session")


@pytest.fixture
def fault(request, cluster, queue_db, processes):
    """The fault that the test's parameter names."""
    if request.param == "killed":
        yield KilledBackend(queue_db)
    elif request.param == "silent":
        with Proxy(cluster) as proxy:
            yield SilentPath(queue_db, proxy)
    elif request.param == "pooler":
        yield SwallowedListen(queue_db, Pooler(cluster, processes))
    else:
        network = network_or_reason()
        if isinstance(network, str):
            pytest.skip(network)
        with network, Proxy(cluster, listening=network.listening()) as proxy:
            yield DroppedPackets(queue_db, proxy, network)


@pytest.fixture
def start(processes, home, handlers, journal):
    """`start(fault, *options)` starts a worker of the journal's behaviours on the fault's path."""

    def run(path, *options, wait=True, names=("ok", "sleep")):
        worker = processes(
            [*path.inside, program.PROGRAM, "run", f"{handlers['journal']}:factory",
             "--connect-timeout", "2", *options, "--", journal, *names],
            program.clean_environment(home, PGQUEUER_DSN=path.dsn), kind=program.Worker)
        return worker.wait_listening() if wait else worker

    return run


def report(request, record_property, what, seconds):
    record_property(what, round(seconds, 2))
    print(f"{request.node.name}: {what} {seconds:.2f} s")


def handled(database, produce, journal, within):
    """Enqueues a job and returns in how many seconds it started."""
    begin = time.monotonic_ns()
    [job_id] = produce(database, [NewJob("ok", b"")])
    [run] = wait_until(lambda: journal.runs_of(job_id), within, f"job {job_id} starts")
    return (run.start_ns - begin) / 1e9


@pytest.mark.scenario("events.listener")
@pytest.mark.parametrize("fault", ["killed", "silent", "dropped", "pooler"], indirect=True)
def test_a_dead_listener_ends_the_worker_if_so_configured(
    request, fault, start, queue_db, produce, journal, record_property
):
    worker = start(fault, "--shutdown-on-listener-failure", *NO_POLL, *CHECKS)
    if not isinstance(fault, SwallowedListen):  # which may have been found already
        assert handled(queue_db, produce, journal, FOUND_SECONDS) < PROMPT_SECONDS
        wait_until(lambda: not queue_db.job_count(), FOUND_SECONDS, "the job ends")
    begin = time.monotonic()
    fault.strike()
    wait_until(lambda: worker.events("listener.failed"), DEADLINE, worker.log)
    report(request, record_property, "detection", time.monotonic() - begin)
    status = worker.wait(AWAY_SECONDS + DEADLINE if isinstance(fault, DroppedPackets) else DEADLINE)
    report(request, record_property, "end", time.monotonic() - begin)
    assert status == 5, worker.log()
    last = worker.log().splitlines()[-4:]
    assert any(re.match("pgqueuer: error: .*FailingListenerError", line) for line in last), last


@pytest.mark.parametrize("fault", ["silent", "pooler"], indirect=True)
def test_a_deaf_worker_goes_on_finding_jobs_and_hears_again_when_it_can(
    request, fault, start, queue_db, produce, journal, record_property
):
    worker = start(fault, *NO_POLL, *CHECKS)
    begin = time.monotonic()
    fault.strike()
    worker.wait_log(r"ERROR listener\.failed .*FailingListenerError", DEADLINE)
    report(request, record_property, "detection", time.monotonic() - begin)
    waits = [handled(queue_db, produce, journal, FOUND_SECONDS) for _ in range(5)]
    report(request, record_property, "longest wait of a job while deaf", max(waits))
    assert not worker.events("listener.restored")
    begin = time.monotonic()
    fault.mend()
    worker.wait_log(r"listener\.restored", DEADLINE)
    report(request, record_property, "restored after", time.monotonic() - begin)
    check_hears(worker, queue_db, produce, journal)
    assert len(worker.events("listener.failed")) == 1, "it is said once"


def check_hears(worker, database, produce, journal):
    """The listener is in order, and stays so: jobs start at once, and no failure is seen any more."""
    said = len(worker.events("listener.failed"))
    for _ in range(3):
        assert handled(database, produce, journal, FOUND_SECONDS) < PROMPT_SECONDS
    assert len(worker.events("listener.failed")) == said
    wait_until(lambda: not database.job_count(), FOUND_SECONDS, "all jobs end")
    worker.stop_cleanly()
    assert not journal.overlapping()
    assert max(journal.run_counts().values()) == 1


@pytest.mark.parametrize("fault", ["dropped"], indirect=True)
def test_a_worker_whose_network_drops_everything_is_back_with_the_network(
    request, fault, start, queue_db, produce, journal, record_property
):
    worker = start(fault, *NO_POLL, *CHECKS)
    assert handled(queue_db, produce, journal, FOUND_SECONDS) < PROMPT_SECONDS
    begin = time.monotonic()
    fault.strike()
    worker.wait_log(r"ERROR listener\.failed .*FailingListenerError", DEADLINE)
    report(request, record_property, "detection", time.monotonic() - begin)
    [waiting] = produce(queue_db, [NewJob("ok", b"")])
    begin = time.monotonic()
    fault.mend()
    worker.wait_log(r"listener\.restored", 2 * DEADLINE)
    report(request, record_property, "restored after", time.monotonic() - begin)
    wait_until(lambda: journal.runs_of(waiting), DEADLINE, "the job of the time between starts")
    check_hears(worker, queue_db, produce, journal)


@pytest.mark.scenario("events.listener")
@pytest.mark.parametrize("fault", ["killed"], indirect=True)
def test_a_worker_whose_listener_is_killed_listens_again(
    request, fault, start, queue_db, produce, journal, record_property
):
    worker = start(fault, *NO_POLL, *CHECKS)
    for kill in range(1, 4):
        begin = time.monotonic()
        fault.strike()
        assert handled(queue_db, produce, journal, FOUND_SECONDS) < FOUND_SECONDS
        wait_until(lambda: len(worker.events("connection.restored")) >= kill, DEADLINE, worker.log)
        report(request, record_property, "listening again after", time.monotonic() - begin)
    assert len(worker.events("connection.lost")) >= 3
    assert not worker.events("listener.failed")
    check_hears(worker, queue_db, produce, journal)


@pytest.mark.parametrize("fault", ["pooler"], indirect=True)
def test_the_default_health_check_finds_a_swallowed_listen(request, fault, start, record_property):
    worker = start(fault, "--shutdown-on-listener-failure")
    begin = time.monotonic()
    assert worker.wait(5 * 20) == 5, worker.log()
    report(request, record_property, "detection", time.monotonic() - begin)
    assert "FailingListenerError" in worker.log()


@pytest.mark.parametrize("fault", ["pooler", "killed"], indirect=True)
def test_a_drain_does_not_end_for_its_listener(fault, start, queue_db, produce, journal):
    ids = produce(queue_db, [NewJob("sleep", b"2500")] + [NewJob("sleep", b"200")] * 10)
    worker = start(fault, "--mode", "drain", "--shutdown-on-listener-failure", "--threads", "2",
                   "--health-check-interval", "0.3", "--health-check-timeout", "0.3")
    journal.wait_runs(1)
    fault.strike()
    assert worker.wait() == 0, worker.log()
    assert worker.events("listener.failed") or worker.events("connection.lost")
    invariants.check_kept(queue_db, ids)
    assert invariants.check_single(journal, ids) == 0
    assert queue_db.log_counts()["successful"] == len(ids)


def pings(proxy):
    return sum(count for (_, at), count in list(proxy.seen.items())
               if at.statement == "ping" and at.message == "Execute")


def more_checks(proxy, count=4):
    before = pings(proxy)
    wait_until(lambda: pings(proxy) >= before + count, 30, f"{count} health checks more")


SHORT = 1.5
SHORT_CHECKS = ["--health-check-interval", str(SHORT), "--health-check-timeout", str(SHORT)]


def test_a_stopped_worker_that_goes_on_does_not_take_its_listener_for_dead(
    cluster, queue_db, produce, start, journal
):
    with Proxy(cluster) as proxy:
        worker = start(SilentPath(queue_db, proxy), "--shutdown-on-listener-failure", *NO_POLL,
                       *SHORT_CHECKS)
        for _ in range(3):
            more_checks(proxy, 1)
            worker.send(signal.SIGSTOP)
            time.sleep(3 * SHORT)  # not a wait: it is stopped for longer than interval and timeout
            worker.send(signal.SIGCONT)
        more_checks(proxy)
        check_hears(worker, queue_db, produce, journal)
        assert not worker.events("listener.failed")


def test_a_lane_that_waits_for_a_lock_does_not_make_the_listener_look_dead(
    cluster, queue_db, produce, start, journal
):
    """The only lane that claims waits to settle a job whose row somebody has locked."""
    with Proxy(cluster) as proxy:
        worker = start(SilentPath(queue_db, proxy), "--shutdown-on-listener-failure", "--lanes", "1",
                       *NO_POLL, *SHORT_CHECKS, names=("ok", "gate"))
        [job_id] = produce(queue_db, [NewJob("gate", b"")])
        journal.wait_runs(1)
        with queue_db.connect(autocommit=False) as holder:
            holder.execute("SELECT FROM pgqueuer WHERE id = %s FOR UPDATE", [job_id])
            open_gate(journal)
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            wait_until(lambda: queue_db.value(waiting), 10, "the settle waits for the lock")
            more_checks(proxy)
        check_hears(worker, queue_db, produce, journal)
        assert not worker.events("listener.failed")


@pytest.mark.parametrize("pool_size, round_robin", [(1, False), (3, False), (3, True)])
def test_a_drain_through_a_pooler_in_transaction_mode_runs_each_job_once(
    cluster, queue_db, processes, handlers, home, produce, drain, journal, pool_size, round_robin
):
    """Sessions change from transaction to transaction, and what others have prepared is in them."""
    pooler = Pooler(cluster, processes, pool_size=pool_size, round_robin=round_robin)

    class Pooled:
        dsn = pooler.dsn(queue_db)

    ids = produce(Pooled, [NewJob("ok", b"")] * 150, batch=10)
    ids += produce(Pooled, [NewJob("ok", b"")] * 150, batch=30, on_conflict="skip")
    drain(pooler.dsn(queue_db), args=["ok"])
    assert len(set(ids)) == 300
    assert not invariants.check_kept(queue_db, ids)
    assert invariants.check_single(journal, ids) == 0
    counts = queue_db.log_counts()
    assert (counts["queued"], counts["successful"]) == (300, 300) and len(counts) == 3
