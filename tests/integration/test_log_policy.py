"""The log policies: which rows a job leaves in the log, and that the statistics are those of Python's
aggregation all the same, with the extras and without."""

import collections
import signal

import pytest

from lib.jobs import NewJob
from lib.proxy import Proxy
from lib.waiting import wait_until

NAMES = ["ok", "fail", "hold", "retry_once"]
EACH = 20
PATHS = {  # the statuses of a job's life, under full
    "ok": ["queued", "picked", "successful"],
    "fail": ["queued", "picked", "exception"],
    "hold": ["queued", "picked", "failed"],
    "retry_once": ["queued", "picked", "queued", "picked", "successful"],
}
LOGGED = {
    "full": {"queued", "picked", "successful", "exception", "failed"},
    "terminal": {"successful", "exception", "failed"},
    "failures": {"exception", "failed"},
}
COUNTED = {**LOGGED, "failures": LOGGED["terminal"]}
KEY = "entrypoint, status::text, priority"
FAST = ("--log-aggregation-interval", "0.05")


@pytest.fixture(params=["row", "lease"])
def lane(request):
    """The options of a worker on this lane."""
    return ("--lane", request.param)


@pytest.fixture
def extras_db(queue_db, pgqueuer):
    done = pgqueuer("install", "--extras", dsn=queue_db)
    assert done.returncode == 0, done.stderr
    return queue_db


def mixed_jobs(each=EACH):
    return [NewJob(name, b"0", priority=i % 3) for i in range(each) for name in PATHS]


def expected(policies, statuses_of, jobs):
    """How many of each status the jobs' paths give, by entrypoint and priority."""
    counts = collections.Counter()
    for job in jobs:
        for status in PATHS[job.entrypoint]:
            if status in statuses_of[policies[job.entrypoint]]:
                counts[job.entrypoint, status, job.priority] += 1
    return dict(counts)


def all_of(policy):
    return dict.fromkeys(PATHS, policy)


def logged(database):
    return {(e, s, p): n for e, s, p, n in
            database.rows(f"SELECT {KEY}, count(*) FROM pgqueuer_log GROUP BY 1, 2, 3")}


def counted(database):
    return {(e, s, p): int(n) for e, s, p, n in
            database.rows(f"SELECT {KEY}, sum(count) FROM pgqueuer_statistics GROUP BY 1, 2, 3")}


def unaggregated(database):
    return database.value("SELECT count(*) FROM pgqueuer_log WHERE NOT aggregated")


def pending(database):
    return database.value("SELECT coalesce(sum(count), 0) FROM pgqueuer_c.counts")


def finished(database):
    return database.job_count("status <> 'failed'") == 0


def left(database):
    return database.rows(
        "SELECT id, entrypoint, status::text, attempts, queue_manager_id, execute_after - now() "
        "FROM pgqueuer WHERE status <> 'failed' ORDER BY id LIMIT 5")


def wait_folded(database, extras=True):
    wait_until(lambda: finished(database) and unaggregated(database) == 0
               and (not extras or pending(database) == 0), 20,
               lambda: f"left: jobs {left(database)}, {unaggregated(database)} log rows, "
                       f"{pending(database) if extras else 0} counts")


@pytest.mark.parametrize("policy", LOGGED)
def test_each_policy_leaves_its_rows_and_its_statistics(
    extras_db, produce, spawn_worker, journal, lane, policy
):
    produce(extras_db, mixed_jobs(), log_policy=policy)
    worker = spawn_worker(extras_db, "--log-policy", policy, *FAST, *lane, args=NAMES)
    wait_folded(extras_db)
    worker.stop_cleanly()
    assert logged(extras_db) == expected(all_of(policy), LOGGED, mixed_jobs())
    assert counted(extras_db) == expected(all_of(policy), COUNTED, mixed_jobs())
    assert not worker.events("extras.missing"), worker.log()
    assert len(journal.runs()) == 5 * EACH


@pytest.mark.parametrize("policy", LOGGED)
def test_without_the_extras_failures_is_as_terminal_with_one_warning(
    queue_db, produce, spawn_worker, lane, policy
):
    produce(queue_db, mixed_jobs(), log_policy=policy)
    worker = spawn_worker(queue_db, "--log-policy", policy, *FAST, *lane, args=NAMES)
    wait_folded(queue_db, extras=False)
    worker.stop_cleanly()
    warnings = worker.events("extras.missing")
    as_if = "terminal" if policy == "failures" else policy
    assert logged(queue_db) == counted(queue_db) == expected(all_of(as_if), LOGGED, mixed_jobs())
    assert len(warnings) == (1 if policy == "failures" else 0), warnings
    assert all("install --extras" in line for line in warnings)


def test_an_entrypoint_may_have_a_policy_of_its_own(extras_db, produce, spawn_worker, lane):
    policies = {"ok": "failures", "fail": "full", "hold": "terminal", "retry_once": "terminal"}
    jobs = mixed_jobs()
    for policy in set(policies.values()):
        produce(extras_db, [job for job in jobs if policies[job.entrypoint] == policy],
                log_policy=policy)
    args = [f"{name}={name},log={policies[name]}" for name in ("ok", "fail", "hold")]
    worker = spawn_worker(extras_db, "--log-policy", "terminal", *FAST, *lane, args=[*args, "retry_once"])
    wait_folded(extras_db)
    worker.stop_cleanly()
    assert logged(extras_db) == expected(policies, LOGGED, jobs)
    assert counted(extras_db) == expected(policies, COUNTED, jobs)


def test_a_limited_entrypoint_keeps_to_its_policy(extras_db, produce, spawn_worker):
    produce(extras_db, [NewJob("ok", b"")] * 20, log_policy="failures")
    worker = spawn_worker(extras_db, "--log-policy", "failures", *FAST,
                          args=["ok=ok,limit=3", "other=ok"])
    wait_folded(extras_db)
    worker.stop_cleanly()
    assert logged(extras_db) == {}
    assert counted(extras_db) == {("ok", "successful", 0): 20}


@pytest.mark.parametrize("policy", LOGGED)
@pytest.mark.parametrize("transaction", ["none", "commit"])
@pytest.mark.parametrize("on_conflict", ["raise", "skip", "update_priority"])
def test_a_producer_logs_queued_under_full_only(queue_db, produce, policy, transaction, on_conflict):
    ids = produce(queue_db, [NewJob("ok", dedupe_key="a"), NewJob("ok")], on_conflict,
                  transaction=transaction, log_policy=policy)
    assert queue_db.job_count() == 2
    assert [queue_db.log_of(job_id) for job_id in ids] == [["queued"] if policy == "full" else []] * 2


def test_a_cancelled_job_is_logged_and_counted_also_under_failures(
    extras_db, pgqueuer, produce, spawn_worker, journal
):
    (job_id,) = produce(extras_db, [NewJob("watch", b"")], log_policy="failures")
    worker = spawn_worker(extras_db, "--log-policy", "failures", *FAST, args=["watch"])
    journal.wait_runs(1)
    assert pgqueuer("cancel", job_id, dsn=extras_db).returncode == 0
    wait_folded(extras_db)
    worker.stop_cleanly()
    assert extras_db.log_of(job_id) == ["canceled"]
    assert counted(extras_db) == {("watch", "canceled", 0): 1}


@pytest.mark.parametrize("policy", ["full", "terminal"])
def test_a_job_given_back_unstarted_leaves_rows_under_full_only(
    extras_db, produce, spawn_worker, journal, policy
):
    worker = spawn_worker(extras_db, "--log-policy", policy, "--threads", "1", *FAST, "--lane", "row",
                          args=["ok", "gate"])
    produce(extras_db, [NewJob("ok", b"")] * 50, log_policy=policy)
    wait_until(lambda: finished(extras_db), 20, "the worker knows that its jobs are quick")
    ids = produce(extras_db, [NewJob("gate", b"")] * 4, log_policy=policy)
    journal.wait_runs(51)
    wait_until(lambda: extras_db.job_count("status = 'picked'") > 1, 10, "more are picked than run")
    picked = {i for (i,) in extras_db.rows("SELECT id FROM pgqueuer WHERE status = 'picked'")}
    back = picked - {run.job_id for run in journal.runs()}
    worker.send(signal.SIGTERM)
    wait_until(lambda: extras_db.job_count("status = 'picked'") == 1, 10, "they are given back")
    rows = ["queued", "picked", "queued"] if policy == "full" else []
    assert back & set(ids) and all(extras_db.log_of(job_id) == rows for job_id in back)
    worker.kill()


def killed_fleet(database, produce, spawn_worker, policy, lane):
    """Three workers work and fold at short intervals; two of them are killed in the middle."""
    jobs = [NewJob("sleep", b"2", priority=i % 3) for i in range(600)]
    fleet = [spawn_worker(database, "--log-policy", policy, "--log-aggregation-interval", "0.02",
                          "--heartbeat-timeout", "0.5", "--threads", "4", *lane, args=["sleep"])
             for _ in range(3)]
    ids = produce(database, jobs, log_policy=policy)
    for rest, worker in ((450, fleet[0]), (250, fleet[1])):
        wait_until(lambda: database.job_count() <= rest, 20, f"{rest} are left", interval=0.005)
        worker.kill()
    wait_until(lambda: finished(database), 30, "the jobs end")
    wait_folded(database)
    fleet[2].stop_cleanly()
    return ids


def test_folds_of_several_workers_are_exact_though_some_are_killed(
    extras_db, produce, spawn_worker, lane
):
    seen = len(extras_db.cluster.log())
    killed_fleet(extras_db, produce, spawn_worker, "full", lane)
    assert counted(extras_db) == logged(extras_db)
    seconds = "SELECT date_trunc('second', created), status, priority, sum({}) FROM {} GROUP BY 1, 2, 3"
    assert (sorted(extras_db.rows(seconds.format("count", "pgqueuer_statistics")))
            == sorted(extras_db.rows(seconds.format("1", "pgqueuer_log"))))
    assert extras_db.log_counts()["successful"] == 600
    assert "deadlock" not in extras_db.cluster.log()[seen:]


def test_successes_that_only_are_counted_are_counted_once_though_workers_are_killed(
    extras_db, produce, spawn_worker, journal, lane
):
    ids = killed_fleet(extras_db, produce, spawn_worker, "failures", lane)
    assert logged(extras_db) == {}
    assert sum(counted(extras_db).values()) == len(ids)
    assert {run.job_id for run in journal.runs()} == set(ids)


CUTS = {"row": ["claim_row", "settle_row"],
        "lease": ["settle_done", "settle_quiet", "settle_lease", "commit"]}


@pytest.mark.parametrize("policy", ["full", "failures"])
def test_lost_replies_count_nothing_twice_and_lose_nothing(
    extras_db, cluster, produce, spawn_worker, journal, lane, policy
):
    """Each statement is cut before the server sees it and after it was carried out."""
    with Proxy(cluster) as proxy:
        worker = spawn_worker(proxy.dsn(extras_db), "--lanes", "1", "--log-policy", policy, *FAST, *lane,
                              "--dequeue-timeout", "600", args=["ok", "fail"])
        ids = produce(extras_db, [NewJob("ok", b"0")] * 10, log_policy=policy)
        wait_until(lambda: finished(extras_db), 20, "the first jobs end")
        cuts = [(what, side, message) for what in CUTS[lane[1]]
                for side, message in (("frontend", "Execute"), ("backend", "CommandComplete"))]
        for number, (what, side, message) in enumerate(cuts * 2):
            proxy.arm(lambda link, at, cut=(what, side, message):
                      (at.statement, at.side, at.message) == cut, reset=number % 2 == 0)
            names = ["ok", "fail"] if what == "settle_lease" else ["ok"]
            ids += produce(extras_db, [NewJob(name, b"0", priority=1) for name in names * 5],
                           log_policy=policy)
            wait_until(lambda: finished(extras_db), 20, lambda: f"the jobs end after {proxy.cuts[-1:]}")
            proxy.disarm()
        assert {at.statement for at in proxy.cuts} >= {"row": {"claim_row", "settle_row"}, "lease": {
            "commit", "settle_lease", "settle_done" if policy == "full" else "settle_quiet"}}[lane[1]]
        wait_folded(extras_db)
        worker.stop_cleanly()
    ended = {key: count for key, count in counted(extras_db).items() if key[1] not in ("queued", "picked")}
    assert sum(ended.values()) == len(ids)
    if policy == "full":
        assert counted(extras_db) == logged(extras_db)
    else:
        assert logged(extras_db) == {key: n for key, n in ended.items() if key[1] == "exception"}


def test_a_new_worker_folds_what_a_killed_one_left(extras_db, produce, spawn_worker):
    killed = spawn_worker(extras_db, "--log-policy", "failures", "--log-aggregation-interval", "0",
                          args=["ok"])
    produce(extras_db, [NewJob("ok", b"")] * 20, log_policy="failures")
    wait_until(lambda: finished(extras_db), 20, "the jobs end")
    killed.kill()
    assert pending(extras_db) == 20 and counted(extras_db) == {}
    spawn_worker(extras_db, *FAST, args=["other=ok"])
    wait_until(lambda: counted(extras_db) == {("ok", "successful", 0): 20}, 20, "they are folded")
    assert pending(extras_db) == 0


def test_a_worker_that_ends_folds_its_counts(extras_db, produce, drain):
    produce(extras_db, [NewJob("ok", b"")] * 20, log_policy="failures")
    drain(extras_db, "--log-policy", "failures", "--log-aggregation-interval", "3600", args=["ok"])
    assert counted(extras_db) == {("ok", "successful", 0): 20}
    assert pending(extras_db) == 0


def test_a_worker_that_settles_nothing_does_not_fold_on_and_on(extras_db, produce, spawn_worker):
    extras_db.execute(f"ALTER DATABASE {extras_db.name} SET log_statement = 'all'")
    seen = len(extras_db.cluster.log())

    def said(what):
        return extras_db.cluster.log()[seen:].count(what)

    worker = spawn_worker(extras_db, "--log-aggregation-interval", "0.01",
                          "--health-check-interval", "0.01", args=["ok"])
    produce(extras_db, [NewJob("ok", b"")])
    wait_until(lambda: said("DO $fold$") >= 3, 20, "the start's fold and those after a settle")
    pings = said("health_check_event")
    wait_until(lambda: said("health_check_event") >= pings + 30, 20, "30 more health checks")
    assert said("DO $fold$") <= 5
    worker.stop_cleanly()


def test_counts_of_another_installation_are_left_alone(extras_db, produce, drain):
    extras_db.execute("INSERT INTO pgqueuer_c.counts SELECT 'pg_class', now(), 'ok', 0, 'successful', 5")
    produce(extras_db, [NewJob("ok", b"")], log_policy="failures")
    drain(extras_db, "--log-policy", "failures", args=["ok"])
    assert counted(extras_db) == {("ok", "successful", 0): 1}
    assert pending(extras_db) == 5


@pytest.mark.parametrize("taken", ["DROP SCHEMA pgqueuer_c CASCADE",
                                   "REVOKE ALL ON pgqueuer_c.counts FROM worker"])
def test_extras_that_are_taken_away_stop_nobody(
    extras_db, produce, spawn_worker, journal, lane, taken
):
    extras_db.execute("DROP ROLE IF EXISTS worker; CREATE ROLE worker LOGIN;"
                      "GRANT ALL ON ALL TABLES IN SCHEMA public TO worker;"
                      "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO worker;"
                      "GRANT USAGE ON SCHEMA pgqueuer_c TO worker;"
                      "GRANT ALL ON pgqueuer_c.counts TO worker")
    dsn = extras_db.cluster.dsn(extras_db.name, user="worker")
    worker = spawn_worker(dsn, "--log-policy", "failures", *FAST, "--lanes", "4", *lane,
                          args=["ok", "gate"])
    produce(extras_db, [NewJob("gate", b"")], log_policy="failures")
    journal.wait_runs(1)
    extras_db.execute(taken)
    produce(extras_db, [NewJob("ok", b"")] * 50, log_policy="failures")
    journal.path.with_name(journal.path.name + ".gate").touch()
    wait_until(lambda: finished(extras_db) and unaggregated(extras_db) == 0, 20, "the jobs end")
    worker.stop_cleanly()
    assert extras_db.log_counts() == {"successful": 51}
    assert len(journal.runs()) == 51
    extras_db.execute("DROP OWNED BY worker; DROP ROLE worker")


def test_a_role_that_may_not_use_the_extras_works_without_them(extras_db, produce, spawn_worker):
    extras_db.execute("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN;"
                      "GRANT ALL ON ALL TABLES IN SCHEMA public TO stranger;"
                      "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO stranger")
    produce(extras_db, [NewJob("ok", b"")] * 5, log_policy="failures")
    worker = spawn_worker(extras_db.cluster.dsn(extras_db.name, user="stranger"), "--log-policy",
                          "failures", *FAST, args=["ok"])
    wait_until(lambda: finished(extras_db) and unaggregated(extras_db) == 0, 20, "the jobs end")
    worker.stop_cleanly()
    assert extras_db.log_counts() == {"successful": 5}
    assert len(worker.events("extras.missing")) == 1
    extras_db.execute("DROP OWNED BY stranger; DROP ROLE stranger")
