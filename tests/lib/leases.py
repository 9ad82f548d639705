"""What the server shows of leases: jobs whose rows an open transaction of a worker has locked."""

import re
import time
from pathlib import Path

from lib import lanes
from lib.waiting import wait_until

# What the server ends a session after that is idle in a lease: four of them, two seconds at least.
HOLD_LEASES, HOLD_SECONDS = 4, 2.0

def hold_seconds(lease):
    return max(HOLD_LEASES * lease, HOLD_SECONDS)


def leased(database):
    """The ids of the queued jobs that somebody has locked, in order."""
    return sorted(lanes.leased(database))


def seconds_until_free(database, job_id, most):
    """Waits for the row as a statement of somebody else's does, and returns for how long."""
    begin = time.monotonic()
    with database.connect() as connection:
        connection.execute(f"SET lock_timeout = '{most}s'")
        connection.execute("SELECT FROM pgqueuer WHERE id = %s FOR UPDATE", [job_id])
    return time.monotonic() - begin


def open_gate(journal):
    journal.path.with_name(journal.path.name + ".gate").touch()


def drained(database, deadline=30, but="failed"):
    left = f"SELECT id, status::text, attempts, updated FROM pgqueuer WHERE status <> '{but}'"
    wait_until(lambda: not database.rows(left), deadline,
               lambda: f"the queue drains, left: {database.rows(left)[:20]}")


def sessions(database, state="idle in transaction"):
    """The server's processes of the worker's sessions that are in a state."""
    return [pid for (pid,) in database.rows(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = %s"
        " AND pid <> pg_backend_pid() ORDER BY backend_start", [state])]


def insert(connection, entrypoint, count=1, payload=b"", priority=0, delay="0"):
    """Enqueues without a notification of the producer's, in the caller's transaction; returns ids."""
    return [job_id for (job_id,) in connection.execute(
        "INSERT INTO pgqueuer (priority, status, entrypoint, payload, execute_after)"
        " SELECT %s, 'queued', %s, %s, now() + %s::interval FROM generate_series(1, %s) RETURNING id",
        [priority, entrypoint, payload, delay, count])]


def warm_up(database, produce, job, count=60):
    """Quick jobs, so that the worker learns to lease more than it has threads."""
    ids = produce(database, [job] * count)
    wait_until(lambda: not database.job_count(), 20, "the quick jobs end")
    return ids


GATE = """
CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_advisory_xact_lock_shared(5);
    RETURN NEW;
END $$;
CREATE TRIGGER wait_at_gate BEFORE INSERT ON pgqueuer_log FOR EACH ROW EXECUTE FUNCTION wait_at_gate();
"""


class LogGate:
    """`with LogGate(database) as gate`: whoever writes a row of the log waits, inside its statement,
    until the block ends. A lock of the table would hold up everything that might write one."""

    def __init__(self, database):
        self._database = database
        self._connection = database.connect()
        self._connection.execute(GATE)

    def __enter__(self):
        self._connection.execute("SELECT pg_advisory_lock(5)")
        return self

    def __exit__(self, *_):
        self._connection.close()

    def wait(self):
        """Waits until somebody waits, and returns the server's process of it."""
        waiting = ("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                   " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
        [(pid,)] = wait_until(lambda: self._database.rows(waiting), 10, "somebody writes to the log")
        return pid


def wait_asleep(process):
    """Waits until the process's first thread, which talks to the database, has said everything: it was
    not interrupted in the middle."""
    path = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: path.read_text().rpartition(")")[2].split()[0] == "S", 10, "it is asleep")


class Talk:
    """Reads what is said on a connection through a lib.proxy, as `proxy.arm(talk)`; cuts nothing."""

    def __init__(self):
        self.refused = []  # of every error: the statement, and what travelled from the next commit on
        self._said = {}  # of each link, its statements in order
        self._open = {}  # of each link, the entry of `refused` whose commit is not answered

    def __call__(self, link, boundary):
        said = self._said.setdefault(link, [])
        if boundary.message == "Bind":
            said.append(boundary.statement)
        elif boundary.message == "ErrorResponse":
            self._open[link] = [boundary.statement, []]
            self.refused.append(self._open[link])
        elif boundary.message == "ReadyForQuery" and boundary.statement == "commit" and link in self._open:
            last = len(said) - 1 - said[::-1].index("commit")
            self._open.pop(link)[1] += said[last:]
        return False


def shown(text, name):
    """A number in the last `worker.state` line."""
    lines = [line for line in text.splitlines() if "worker.state" in line]
    return int(re.search(rf"\b{name}=(\d+)", lines[-1]).group(1))
