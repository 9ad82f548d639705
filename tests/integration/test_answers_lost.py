"""An answer that never comes while its connection stays open, as behind a proxy or a firewall that
swallows it: TCP sees nothing wrong. The lane is given up, and nothing is lost or done twice."""

import os
import time

import pytest

from lib.jobs import NewJob
from lib.leases import drained, warm_up
from lib.proxy import Proxy
from lib.waiting import wait_until

HEARTBEAT = 1.0
# An answer has a heartbeat timeout, half a second more for what the socket has, and the next attempt
# its way. What the server holds for a lease of a lost lane it holds for two seconds.
BOUND = HEARTBEAT + 0.5 + 0.5
HELD = 2.0
JOBS = 40

CLAIM = ("row", lambda at: at.statement.startswith("claim"))
SETTLE = ("row", lambda at: at.statement.startswith("settle"))
LEASE_SETTLE = ("lease", lambda at: at.statement.startswith("settle"))
LEASE_CLAIM = ("lease", lambda at: at.statement.startswith("claim_lease")
               and any(said.startswith("settle") for said in at.flight))


PLACES = {"claim": CLAIM, "settle": SETTLE, "lease's settle": LEASE_SETTLE,
          "settle and claim": LEASE_CLAIM}
# What the server never got costs the same wait: all of it in the soak, one in the ordinary run.
CASES = [pytest.param(*place, carried_out, id=f"{name} {'carried out' if carried_out else 'lost'}")
         for name, place in PLACES.items() for carried_out in (True, False)
         if carried_out or name == "lease's settle" or os.environ.get("PGQUEUER_SOAK")]


@pytest.mark.parametrize("lane, place, carried_out", CASES)
def test_a_lane_whose_answer_never_comes_is_given_up_and_each_job_ends_once(
    cluster, queue_db, produce, spawn_worker, journal, lane, place, carried_out
):
    side, message = ("backend", "BindComplete") if carried_out else ("frontend", "Bind")
    with Proxy(cluster) as proxy:
        worker = spawn_worker(proxy.dsn(queue_db), "--lane", lane, "--heartbeat-timeout",
                              str(HEARTBEAT), "--dequeue-timeout", "600", "--threads", "2",
                              "--batch-size", "10", args=["sleep"])
        ids = warm_up(queue_db, produce, NewJob("sleep", b"0"))
        proxy.mute(lambda link, at: at.side == side and at.message == message and at.statement
                   and place(at), carried_out)
        ids += produce(queue_db, [NewJob("sleep", b"1")] * JOBS)
        wait_until(lambda: proxy.mutes, 10, "an answer is swallowed")
        begin = time.monotonic()
        drained(queue_db, deadline=5 * (BOUND + HELD))
        worker.wait_log(r"connection\.lost", 5 * BOUND)
        seconds = time.monotonic() - begin
        worker.wait_log(r"connection\.restored")
        worker.stop_cleanly()
    print(f"{proxy.mutes[0]}: over after {seconds:.2f} s")
    [lost] = worker.events("connection.lost")
    assert "no answer has come" in lost
    assert journal.run_counts() == dict.fromkeys(ids, 1)
    assert queue_db.log_counts()["successful"] == len(ids)
    assert not worker.events("claim.lost")


KILL = """
CREATE FUNCTION kill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_terminate_backend(pg_backend_pid());
    PERFORM pg_sleep(10);
    RETURN OLD;
END $$;
CREATE TRIGGER kill BEFORE DELETE ON pgqueuer FOR EACH ROW WHEN (OLD.id = {job_id})
    EXECUTE FUNCTION kill();
"""


@pytest.mark.parametrize("lane", ["row", "lease"])
def test_a_row_that_kills_the_session_of_its_settle_is_found_by_halves_and_the_others_are_written(
    queue_db, produce, spawn_worker, journal, lane
):
    worker = spawn_worker(queue_db, "--lane", lane, "--dequeue-timeout", "600", args=["sleep"])
    ids = warm_up(queue_db, produce, NewJob("sleep", b"0"))
    bad = queue_db.value("SELECT nextval('pgqueuer_id_seq') + 20")
    queue_db.execute(KILL.format(job_id=bad))
    ids += produce(queue_db, [NewJob("sleep", b"1")] * JOBS)
    assert bad in ids
    wait_until(lambda: queue_db.rows("SELECT id FROM pgqueuer") == [(bad,)], 30,
               lambda: f"only the bad one is left: {queue_db.rows('SELECT id, status FROM pgqueuer')}")
    queue_db.execute("DROP TRIGGER kill ON pgqueuer")
    drained(queue_db)
    worker.stop_cleanly()
    assert journal.run_counts() == dict.fromkeys(ids, 1)
    assert queue_db.log_counts()["successful"] == len(ids)
