"""The events of jobs that are done: one with each settle as long as a worker keeps up, and from a backlog
ten a second, of which the last one comes after the last job. Whoever waits for jobs to end looks when
an event comes."""

import json
import threading

import pytest

from lib.jobs import NewJob
from lib.leases import drained, insert
from lib.waiting import wait_until

BACKLOG = 20_000
BATCH = 100
LOUD = ("CREATE OR REPLACE FUNCTION fn_pgqueuer_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_notify('ch_pgqueuer', json_build_object('channel', 'ch_pgqueuer', 'operation',"
        " lower(TG_OP), 'sent_at', now(), 'table', TG_TABLE_NAME, 'type', 'table_changed_event')::text);"
        " RETURN NULL; END $$")


class Watcher:
    """Looks, at each event of a delete, how many jobs are left. The trigger's say whose they are."""

    def __init__(self, database):
        [(body,)] = database.rows("SELECT prosrc FROM pg_proc WHERE proname = 'fn_pgqueuer_changed'")
        assert "'type'" in body
        database.execute("CREATE OR REPLACE FUNCTION fn_pgqueuer_changed() RETURNS trigger LANGUAGE plpgsql"
                         " AS $f$" + body.replace("'type'", "'by', 'trigger', 'type'") + "$f$")
        self.left, self.by_trigger = [], 0
        self._listener, self._looker = database.connect(), database.connect()
        self._listener.execute("LISTEN ch_pgqueuer")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self):
        while not self._end.is_set():
            for notify in self._listener.notifies(timeout=0.2, stop_after=1):
                event = json.loads(notify.payload)
                if event.get("operation") == "delete":
                    self.by_trigger += "by" in event
                    [count] = self._looker.execute("SELECT count(*) FROM pgqueuer").fetchone()
                    self.left.append(count)

    def close(self):
        self._end.set()
        self._thread.join()
        self._listener.close()
        self._looker.close()


@pytest.fixture
def watcher(queue_db):
    watch = Watcher(queue_db)
    yield watch
    watch.close()


def work_off(database, spawn_worker):
    with database.connect() as connection:
        insert(connection, "ok", BACKLOG)
    worker = spawn_worker(database, "--lane", "lease", "--batch-size", str(BATCH), "--log-policy", "terminal",
                          args=["ok"])
    drained(database)
    return worker


def test_a_backlog_sends_few_events_and_the_last_one_after_the_last_job(queue_db, spawn_worker, watcher):
    worker = work_off(queue_db, spawn_worker)
    wait_until(lambda: 0 in watcher.left, 5, lambda: f"an event says that all are done: {watcher.left[-5:]}")
    settles = queue_db.value("SELECT count(DISTINCT xmin::text) FROM pgqueuer_log")  # two may begin in a microsecond
    assert settles >= BACKLOG / BATCH, "it was settled in larger batches than it was to be"
    assert len(watcher.left) < settles / 2, f"{len(watcher.left)} events of {settles} settles"
    assert watcher.by_trigger < len(watcher.left), "nothing was announced"
    worker.stop_cleanly()


def test_a_worker_that_keeps_up_tells_of_each_job(queue_db, produce, spawn_worker, watcher):
    worker = spawn_worker(queue_db, "--lane", "lease", args=["ok"])
    for done in range(1, 11):
        produce(queue_db, [NewJob("ok", b"")])
        wait_until(lambda: watcher.by_trigger >= done, 5, f"job {done} is told with its settle")
    worker.stop_cleanly()


def test_a_function_that_tells_all_is_as_good(queue_db, spawn_worker, watcher):
    """The one that an installation of Python's has."""
    queue_db.execute(LOUD)
    worker = work_off(queue_db, spawn_worker)
    wait_until(lambda: 0 in watcher.left, 5, lambda: f"an event says that all are done: {watcher.left[-5:]}")
    assert len(watcher.left) >= BACKLOG / BATCH / 2
    worker.stop_cleanly()
