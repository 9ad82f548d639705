"""Producers: what either side enqueues, the other one runs; dedupe keys; transactions."""

import bisect
import json

import pytest

from lib.jobs import NewJob, varied_jobs
from lib.waiting import wait_until

ENTRYPOINTS = ["alpha", "beta", "gamma"]
BEHAVIOURS = [f"{name}=ok" for name in ENTRYPOINTS]


def assert_all_ran_unchanged(journal, jobs, ids):
    runs = {run.job_id: run for run in journal.runs()}
    assert len(runs) == len(journal.runs()) == len(jobs)
    for job, job_id in zip(jobs, ids):
        run = runs[job_id]
        assert (run.entrypoint, run.priority, run.size, run.sha256) == (
            job.entrypoint, job.priority, job.size, job.sha256,
        )
        assert (None if run.headers is None else json.loads(run.headers)) == (
            None if job.headers is None else json.loads(job.headers)
        ), f"headers of {job}"


def assert_ran_in_order(journal, jobs, ids):
    wanted = [i for _, i in sorted((-job.priority, i) for job, i in zip(jobs, ids))]
    assert [run.job_id for run in sorted(journal.runs(), key=lambda r: r.start_ns)] == wanted


def assert_log_is_complete(database, count):
    assert database.log_counts() == {"queued": count, "picked": count, "successful": count}
    assert database.job_count() == 0


@pytest.mark.scenario("enqueue.python-to-c")
def test_c_drains_what_python_enqueued_in_order_and_unchanged(
    queue_db, python_enqueue, drain, journal
):
    jobs = varied_jobs(1000, seed=12, entrypoints=ENTRYPOINTS)
    ids = python_enqueue(queue_db, jobs)
    drain(queue_db, "--threads", "1", "--lanes", "1", "--lane", "row", args=BEHAVIOURS)
    assert_all_ran_unchanged(journal, jobs, ids)
    assert_ran_in_order(journal, jobs, ids)
    assert_log_is_complete(queue_db, 1000)


@pytest.mark.scenario("enqueue.python-to-c")
def test_c_leases_what_python_enqueued_in_order_and_runs_it_unchanged_however_large(
    queue_db, python_enqueue, drain, journal
):
    """A lease leaves a job behind that is much larger than others have been, and what it cannot start
    in its time; they run soon after. All others start in the order of the queue."""
    jobs = varied_jobs(1000, seed=15, entrypoints=ENTRYPOINTS)
    ids = python_enqueue(queue_db, jobs)
    drain(queue_db, "--threads", "1", "--lanes", "1", "--lane", "lease", "--batch-size", "10",
          args=BEHAVIOURS)
    assert_all_ran_unchanged(journal, jobs, ids)
    assert_log_is_complete(queue_db, 1000)
    wanted = {i: place for place, (_, i) in
              enumerate(sorted((-job.priority, i) for job, i in zip(jobs, ids)))}
    ran = [run.job_id for run in sorted(journal.runs(), key=lambda run: run.start_ns)]
    in_order = longest_rise([wanted[job_id] for job_id in ran])
    print(f"{in_order} of {len(ran)} jobs in the order of the queue")
    assert in_order >= 0.9 * len(ran)


def longest_rise(numbers):
    """How many of them stand in order, when those that stand in the way are taken out."""
    ends = []  # of rises of 1, 2, ... numbers, the lowest last one
    for number in numbers:
        place = bisect.bisect_left(ends, number)
        ends[place:place + 1] = [number]
    return len(ends)


@pytest.mark.scenario("enqueue.c-to-python")
def test_python_drains_what_c_enqueued_unchanged(queue_db, produce, python_worker, journal):
    jobs = varied_jobs(1000, seed=13, entrypoints=ENTRYPOINTS)
    ids = produce(queue_db, jobs)
    worker = python_worker(queue_db, "--mode", "drain", "--batch-size", "100",
                           entrypoints=BEHAVIOURS)
    assert worker.wait(60) == 0, worker.log()
    assert_all_ran_unchanged(journal, jobs, ids)
    assert_ran_in_order(journal, jobs, ids)
    assert_log_is_complete(queue_db, 1000)


@pytest.mark.scenario("enqueue.same-rows")
def test_both_producers_store_the_same_rows(cluster, queue_template, produce, python_enqueue):
    jobs = varied_jobs(60, seed=14, entrypoints=ENTRYPOINTS)
    jobs += [NewJob("alpha", b"x", dedupe_key="k1", delay_ms=3_600_000), NewJob("\u00e9 \u4e2d", b"")]
    stored = []
    for enqueue in (produce, python_enqueue):
        database = cluster.create_database(queue_template)
        enqueue(database, jobs)
        rows = database.rows(
            "SELECT id, priority, queue_manager_id, created = updated, created = heartbeat,"
            " execute_after - created, status::text, entrypoint, dedupe_key, payload,"
            " nullif(headers, 'null'), attempts, slot FROM pgqueuer ORDER BY id"
        )
        log = database.rows(
            "SELECT job_id, status::text, priority, entrypoint, traceback, aggregated"
            " FROM pgqueuer_log ORDER BY job_id"
        )
        stored.append((rows, log))
        cluster.drop_database(database)
    assert stored[0] == stored[1]


@pytest.mark.scenario("enqueue.no-headers")
def test_python_reads_jobs_without_headers_from_c(queue_db, produce, python_run):
    produce(queue_db, [NewJob("alpha", b"1"), NewJob("alpha", b"2", headers="{}")])
    rows = json.loads(python_run(queue_db, "py_read.py", "queue").stdout)
    assert [row["headers"] for row in rows] == [None, {}]


# -- dedupe keys -------------------------------------------------------------------------------


@pytest.fixture(params=["c", "python"])
def enqueue(request, produce, python_enqueue):
    """Both producers must behave alike."""
    return produce if request.param == "c" else python_enqueue


@pytest.mark.scenario("enqueue.raise")
def test_raise_refuses_the_whole_batch(queue_db, enqueue):
    [first] = enqueue(queue_db, [NewJob("alpha", b"1", dedupe_key="k1")])
    refused = enqueue(queue_db, [NewJob("alpha", b"2", dedupe_key="k0"),
                                 NewJob("alpha", b"3", dedupe_key="k1")], check=False)
    assert refused.returncode == 7
    assert [row for (row,) in queue_db.rows("SELECT id FROM pgqueuer")] == [first]
    assert queue_db.log_counts() == {"queued": 1}


@pytest.mark.scenario("enqueue.skip")
def test_skip_leaves_out_taken_and_repeated_keys(queue_db, enqueue):
    enqueue(queue_db, [NewJob("alpha", b"1", dedupe_key="k1")])
    ids = enqueue(queue_db, [NewJob("alpha", b"2", dedupe_key=key) for key in ("k1", "k2", "k2")],
                  on_conflict="skip")
    assert ids[0] == ids[2] == 0 and ids[1] > 0
    assert queue_db.log_of(ids[1]) == ["queued"]
    assert queue_db.log_counts() == {"queued": 2}


@pytest.mark.scenario("enqueue.update-priority")
def test_update_priority_raises_and_never_lowers(queue_db, enqueue):
    [first] = enqueue(queue_db, [NewJob("alpha", b"1", dedupe_key="k1", headers='{"a": 1}')])
    before = queue_db.job(first)

    [again] = enqueue(queue_db, [NewJob("beta", b"2", priority=9, dedupe_key="k1")],
                      on_conflict="update_priority")
    assert again == first
    assert queue_db.job(first) == {**before, "priority": 9}

    enqueue(queue_db, [NewJob("alpha", b"3", priority=3, dedupe_key="k1")],
            on_conflict="update_priority")
    assert queue_db.job(first) == {**before, "priority": 9}
    assert queue_db.log_counts() == {"queued": 1}


@pytest.mark.scenario("enqueue.update-priority")
def test_update_priority_reaches_a_picked_job(queue_db, enqueue):
    [first] = enqueue(queue_db, [NewJob("alpha", b"1", dedupe_key="k1")])
    queue_db.execute("UPDATE pgqueuer SET status = 'picked', queue_manager_id = gen_random_uuid()")
    before = queue_db.job(first)
    ids = enqueue(queue_db, [NewJob("alpha", b"2", dedupe_key="k2"),
                             NewJob("alpha", b"2", priority=5, dedupe_key="k1")],
                  on_conflict="update_priority")
    assert ids[1] == first and ids[0] not in (0, first)
    assert queue_db.job(first) == {**before, "priority": 5}


@pytest.mark.scenario("enqueue.update-priority-repeated")
def test_update_priority_refuses_a_repeated_key_before_any_sql(queue_db, produce):
    refused = produce(queue_db, [NewJob("alpha", b"1", dedupe_key="k1")] * 2,
                      on_conflict="update_priority", check=False)
    assert refused.returncode == 2, refused.stderr
    assert "PGQ_E_INVALID" in refused.stderr and "k1" not in queue_db.rows("SELECT * FROM pgqueuer")
    assert queue_db.job_count() == 0
    assert queue_db.value("SELECT last_value FROM pgqueuer_id_seq WHERE is_called") is None


@pytest.mark.scenario("enqueue.key-lifetime")
def test_a_key_is_freed_by_the_end_of_its_job_and_not_by_the_pick(
    queue_db, produce, spawn_worker, journal, python_run
):
    def taken(key):
        return produce(queue_db, [NewJob("unused", dedupe_key=key)], on_conflict="skip") == [0]

    keys = {"ok": "done", "hold": "held", "gate": "running", "other": "cancelled"}
    ids = produce(queue_db, [NewJob(name, b"", dedupe_key=key) for name, key in keys.items()])
    assert all(taken(key) for key in keys.values())
    worker = spawn_worker(queue_db, args=["ok", "hold", "gate"])
    wait_until(lambda: queue_db.log_of(ids[0])[-1:] == ["successful"]
               and queue_db.log_of(ids[1])[-1:] == ["failed"], 10, "two jobs end")
    journal.wait_runs(3)
    assert queue_db.job(ids[2])["status"] == "picked"
    python_run(queue_db, "py_act.py", "cancel", ids[3])
    assert [key for key in keys.values() if taken(key)] == ["running"]
    journal.path.with_name(journal.path.name + ".gate").touch()
    wait_until(lambda: queue_db.log_of(ids[2])[-1] == "successful", 10, "the running job ends")
    assert not taken("running")
    worker.stop_cleanly()


# -- transactions and notifications ------------------------------------------------------------


@pytest.mark.scenario("enqueue.rollback")
def test_a_rolled_back_transaction_leaves_nothing_and_wakes_nobody(
    queue_db, produce, python_spawn
):
    events = python_spawn(queue_db, "py_events.py", ready="READY")
    produce(queue_db, [NewJob("alpha", b"1")] * 3, transaction="rollback")
    assert queue_db.job_count() == 0 and queue_db.log_counts() == {}
    # What is sent later arrives later: when the commit's event is there, the other never comes.
    assert len(produce(queue_db, [NewJob("alpha", b"1")], transaction="commit")) == 1
    events.wait_log('"operation":"insert"')
    assert queue_db.job_count() == 1
    assert events.stop() == 0
    assert events.log().count("table_changed_event") == 1


@pytest.mark.scenario("enqueue.one-notification")
def test_a_large_batch_is_one_notification(queue_db, produce, python_spawn):
    events = python_spawn(queue_db, "py_events.py", ready="READY")
    ids = produce(queue_db, [NewJob("alpha", b"x")] * 10_000, batch=10_000)
    assert len(set(ids)) == 10_000
    assert queue_db.job_count() == 10_000
    queue_db.execute("TRUNCATE pgqueuer")
    events.wait_log('"operation":"truncate"')
    assert events.stop() == 0
    assert events.log().count('"operation":"insert"') == 1
    assert "refused" not in events.log()
