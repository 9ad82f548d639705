"""An upgrade that is killed at every statement in turn, and run again."""

import collections
import threading

import pytest

from lib import program
from lib.extent import extent
from lib.proxy import Proxy
from lib.upgrade import assert_up_to_date, checksums, columns_before, fill, restore, upgraded
from lib.waiting import wait_until

ROWS = extent("UPGRADE_CUT_ROWS", 50, 2000)
SCHEMA = "0.15.0-to-0.21.0"  # has all there is to do
# When the server has carried it out and the answer does not arrive; before the server has it, which
# leaves behind what the statement before it did.
PLACES = {"backend": "CommandComplete", "frontend": "Execute"}
SIDES = extent("UPGRADE_CUT_SIDES", "backend", "backend frontend").split()


@pytest.fixture(scope="module")
def old(cluster):
    """A database as an old release left it, to make copies of."""
    database = cluster.create_database()
    restore(database, SCHEMA)
    fill(database, ROWS)
    yield database
    cluster.drop_database(database)


class Run:
    """One upgrade behind the proxy."""

    def __init__(self, processes, home, database, proxy):
        self.seen = collections.Counter()
        environment = program.clean_environment(home, PGQUEUER_DSN=proxy.dsn(database))
        self.started = threading.Event()
        self.wanted = None
        proxy.arm(self._look)
        self.process = processes([program.PROGRAM, "upgrade"], environment)
        self.started.set()

    def kill_at(self, side, number):
        self.wanted = side, number
        return self

    def _look(self, link, boundary):
        """Counts the statements; kills the program at the wanted one."""
        self.started.wait(30)
        if PLACES.get(boundary.side) != boundary.message or boundary.statement != "other":
            return False  # `other`: what is no file of sql/, and so makes a change
        self.seen[boundary.side] += 1
        if self.wanted != (boundary.side, self.seen[boundary.side]):
            return False
        self.process.send(9)
        return True


def nobody_upgrades(database):
    return database.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    ) == 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("side", SIDES)
def test_an_upgrade_that_is_killed_at_any_statement_is_completed_by_the_next_one(
    pgqueuer, cluster, old, processes, home, side
):
    columns = columns_before(old)
    before = checksums(old, columns)
    with Proxy(cluster) as proxy:
        number = 0
        while True:
            number += 1
            database = cluster.create_database(old.name)
            run = Run(processes, home, database, proxy).kill_at(side, number)
            status = run.process.wait(60)
            if not proxy.disarm():  # it was killed
                assert status == -9, run.process.log()
                wait_until(lambda: nobody_upgrades(database), 10, "the server notices")
                upgraded(pgqueuer, database)
            assert_up_to_date(database)
            assert checksums(database, columns) == before
            assert database.value("SELECT count(*) FROM pg_class WHERE relname ~ '^pgq_rebuild'") == 0
            cluster.drop_database(database)
            if run.seen[side] < number:
                break
    assert status == 0
    assert number > 30


def test_the_server_ends_a_killed_upgrade_that_waits_for_a_lock(
    pgqueuer, queue_db, processes, home
):
    queue_db.execute("ALTER TABLE pgqueuer DROP COLUMN slot")
    environment = program.clean_environment(home, PGQUEUER_DSN=queue_db.dsn)
    with queue_db.connect(autocommit=False) as holder:
        holder.execute("SELECT FROM pgqueuer")
        process = processes([program.PROGRAM, "upgrade", "--lock-timeout", "600"], environment)
        process.wait_log(f"waiting for pid {holder.info.backend_pid} ")
        process.kill()
        wait_until(
            lambda: queue_db.value(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND NOT granted") == 0,
            10, "its lock is wanted no more",
        )
    upgraded(pgqueuer, queue_db)
    assert_up_to_date(queue_db)
