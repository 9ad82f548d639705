"""Private PostgreSQL servers. No test touches a server that it did not start."""

import contextlib
import functools
import itertools
import os
import pwd
import random
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg

from lib import servers
from lib.waiting import wait_until

SUPERUSER = "postgres"
START_SECONDS = 30
STOP_SECONDS = 30

# Ends the server and removes its folder when the pipe on stdin closes: also when the test process
# is killed and cannot clean up itself.
REAPER = """
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
    kill -QUIT "$pid" 2>/dev/null
    i=0
    while kill -0 "$pid" 2>/dev/null && [ $i -lt 100 ]; do sleep 0.1; i=$((i + 1)); done
    kill -KILL "$pid" 2>/dev/null
fi
rm -rf "$1"
"""


def unprivileged_user():
    """The account that runs the server when the tests run as root, which PostgreSQL refuses."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("the tests run as root and there is no user postgres or nobody")


def run_as(user):
    """The subprocess arguments that drop root; none when the tests do not run as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}


def free_port():
    """Not one of those that the system gives to connections: until it is used, and while a server
    restarts, nobody else takes it but by much bad luck."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("there is no free port")


class Database:
    """One database of a test."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name

    @property
    def dsn(self):
        return self.cluster.dsn(self.name)

    @property
    def tcp_dsn(self):
        return self.cluster.tcp_dsn(self.name)

    def connect(self, **options):
        return psycopg.connect(self.dsn, **{"autocommit": True, **options})

    def rows(self, sql, parameters=None):
        with self.connect() as connection:
            cursor = connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def value(self, sql, parameters=None):
        rows = self.rows(sql, parameters)
        return rows[0][0] if rows else None

    def execute(self, sql, parameters=None):
        self.rows(sql, parameters)

    def job(self, job_id):
        """The queue row as a dictionary, or None."""
        with self.connect(row_factory=psycopg.rows.dict_row) as connection:
            return connection.execute("SELECT * FROM pgqueuer WHERE id = %s", [job_id]).fetchone()

    def job_count(self, where="true"):
        return self.value(f"SELECT count(*) FROM pgqueuer WHERE {where}")

    def log_of(self, job_id):
        """The statuses of a job's log rows, in order."""
        return [
            status
            for (status,) in self.rows(
                "SELECT status::text FROM pgqueuer_log WHERE job_id = %s ORDER BY id", [job_id]
            )
        ]

    def log_counts(self):
        return dict(self.rows("SELECT status::text, count(*) FROM pgqueuer_log GROUP BY status"))

    def traceback_of(self, job_id, status="exception"):
        return self.value(
            "SELECT traceback FROM pgqueuer_log WHERE job_id = %s AND status = %s"
            " ORDER BY id DESC LIMIT 1",
            [job_id, status],
        )


class Cluster:
    """A PostgreSQL server of its own: a unix socket in a short folder and a free TCP port."""

    # Bounds of a test server; fsync is off except where a test needs a server that may crash.
    SETTINGS = {
        "listen_addresses": "127.0.0.1",
        "max_connections": "100",
        "shared_buffers": "64MB",
        "timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%a ",
        "log_timezone": "UTC",
        "unix_socket_permissions": "0777",
        "password_encryption": "scram-sha-256",
    }
    FAST = {"fsync": "off", "full_page_writes": "off", "autovacuum_naptime": "10s"}

    def __init__(self, durable=False, settings=None, bin_folder=None):
        self.folder = Path(tempfile.mkdtemp(prefix="pgqt-"))
        self.folder.chmod(0o755)
        self._names = itertools.count(1)
        self._process = None
        self._reaper = subprocess.Popen(
            ["sh", "-c", REAPER, "sh", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self.user = unprivileged_user()
            self.data = self.folder / "data"
            self.log_path = self.folder / "server.log"
            self.bin = servers.reachable(bin_folder or servers.default_bin(), **run_as(self.user))
            self._settings = {**self.SETTINGS, **({} if durable else self.FAST), **(settings or {})}
            if os.geteuid() == 0:
                os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
            self._initdb()
            for _ in range(5):
                self.port = free_port()
                self._configure()
                with contextlib.suppress(RuntimeError):  # another process took the port meanwhile
                    self.start()
                    break
            else:
                raise RuntimeError(f"the server does not start:\n{self.log()}")
        except BaseException:
            self.destroy()
            raise

    @functools.cached_property
    def major(self):
        with psycopg.connect(self.dsn("postgres")) as connection:
            return connection.info.server_version // 10000

    def _initdb(self):
        subprocess.run(
            [
                self.bin / "initdb", "--pgdata", self.data, "--username", SUPERUSER,
                "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync",
                "--no-instructions",
            ],
            check=True, capture_output=True, text=True, timeout=60, cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, **run_as(self.user),
        )
        # Everybody may log in without a password but the users of tests about passwords.
        hba = "local all all trust\nhost all +needs_password 127.0.0.1/32 scram-sha-256\n"
        (self.data / "pg_hba.conf").write_text(hba + "host all all 127.0.0.1/32 trust\n")

    def _configure(self):
        settings = {**self._settings, "unix_socket_directories": self.folder, "port": self.port}
        text = "".join(f"{key} = '{value}'\n" for key, value in settings.items())
        (self.data / "postgresql.auto.conf").write_text(text)

    def start(self):
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                [self.bin / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, start_new_session=True,
                **run_as(self.user),
            )
        wait_until(self.answers, START_SECONDS, "the server answers")

    def answers(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"the server ended with {self._process.returncode}:\n{self.log()}")
        try:
            psycopg.connect(self.dsn("postgres"), connect_timeout=5).close()
            return True
        except psycopg.OperationalError:
            return False

    def stop(self, mode="fast"):
        """`fast` and `immediate` as pg_ctl knows them; `crash` kills the postmaster."""
        signals = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "crash": signal.SIGKILL}
        if self._process is None or self._process.poll() is not None:
            return
        children = self._children() if mode == "crash" else []
        self._process.send_signal(signals[mode])
        self._process.wait(STOP_SECONDS)
        # Backends notice a dead postmaster by themselves, and a new one waits for them.
        wait_until(
            lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children),
            STOP_SECONDS, "the killed server's processes end",
        )
        self._process = None

    def _children(self):
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return path.read_text().split() if path.exists() else []

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def destroy(self):
        """Leaves no process and no folder. May be called twice."""
        if self._process is not None:
            with contextlib.suppress(Exception):
                self.stop("immediate")
        if self._reaper is not None:
            self._reaper.stdin.close()
            self._reaper.wait(STOP_SECONDS)
            self._reaper = None

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def dsn(self, database, user=SUPERUSER):
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"

    def tcp_dsn(self, database, user=SUPERUSER, password=None):
        login = user if password is None else f"{user}:{password}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{database}"

    def admin(self, sql):
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql)

    def create_database(self, template=None):
        name = f"test_{next(self._names)}"
        self.admin(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return Database(self, name)

    def drop_database(self, database):
        self.admin(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")
