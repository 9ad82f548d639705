"""The private server: a database a cell, and what the server counts."""

import contextlib
import time

import psycopg

from lib.cluster import SUPERUSER, Cluster

# As bench/run.py: no checkpoint in the middle of a cell, or its WAL is full of page images.
SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "16GB", "checkpoint_timeout": "1h",
            "max_connections": "200", "shared_preload_libraries": "pg_stat_statements"}
SHOWN = ("fsync", "synchronous_commit", "full_page_writes", "wal_level", "wal_compression",
         "shared_buffers", "max_wal_size", "checkpoint_timeout", "autovacuum", "max_connections",
         "jit", "random_page_cost")
GONE_SECONDS = 10
METER = """
SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS wal_bytes,
       (SELECT xact_commit FROM pg_stat_database WHERE datname = %(name)s) AS commits,
       (SELECT sum(calls) FROM pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = %(name)s)) AS statements
"""


class Server:
    """One PostgreSQL for the whole run."""

    def __init__(self, durable=True):
        self.cluster = Cluster(durable=durable, settings=SETTINGS)
        self.admin = self._connect("postgres")
        self.admin.execute("CREATE EXTENSION pg_stat_statements")
        self._templates = {}

    def _connect(self, database):
        return psycopg.connect(self.cluster.dsn(database), autocommit=True)

    def close(self):
        self.admin.close()
        self.cluster.destroy()

    def describe(self):
        found = self.admin.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY (%s)", [list(SHOWN)])
        version = self.admin.execute("SHOW server_version").fetchone()[0]
        return {"version": version, "settings": dict(sorted(found.fetchall()))}

    def environment(self, database):
        """How a program is told where to connect."""
        return {"PGHOST": str(self.cluster.folder), "PGPORT": str(self.cluster.port),
                "PGUSER": SUPERUSER, "PGDATABASE": database, "PEER_DSN": self.cluster.dsn(database),
                "BARE_DSN": self.cluster.dsn(database), "PGQUEUER_DSN": self.cluster.dsn(database)}

    @contextlib.contextmanager
    def database(self, key, install):
        """A new database with the system's tables; `install` makes them, once, in a template."""
        if key not in self._templates:
            template = f"template_{len(self._templates)}"
            self.admin.execute(f"CREATE DATABASE {template}")
            install(self.environment(template))
            self._templates[key] = template
        self._wait_unused(self._templates[key])
        self.admin.execute(f"CREATE DATABASE cell TEMPLATE {self._templates[key]}")
        try:
            with self._connect("cell") as connection:
                yield Cell(self, connection)
        finally:
            self.admin.execute("DROP DATABASE cell WITH (FORCE)")

    def _wait_unused(self, database, besides=0):
        deadline = time.monotonic() + GONE_SECONDS
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        while (self.admin.execute(sessions, [database]).fetchone()[0] > besides
               and time.monotonic() < deadline):
            time.sleep(0.005)

    def meter(self, besides=1):
        """The counters, once the sessions are gone that report to them at their end."""
        self._wait_unused("cell", besides)
        row = self.admin.execute(METER, {"name": "cell"}).fetchone()
        return dict(zip(("wal_bytes", "commits", "statements"), map(float, row)))


class Cell:
    """The database of one cell."""

    def __init__(self, server, connection):
        self.server = server
        self.connection = connection
        self.environment = server.environment("cell")

    def checkpoint(self):
        """Pages that are new since a checkpoint need no images: it comes before what fills them."""
        self.connection.execute("CHECKPOINT")

    def tidy(self):
        self.connection.execute("VACUUM ANALYZE")

    def count(self, sql):
        """When the count was true, in seconds, and the count."""
        row = self.connection.execute(
            f"SELECT extract(epoch FROM statement_timestamp()), ({sql})").fetchone()
        return float(row[0]), int(row[1])

    @contextlib.contextmanager
    def held_horizon(self):
        """Nothing that dies meanwhile can be removed."""
        with self.server._connect("cell") as holder:
            holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            holder.execute("SELECT count(*) FROM pg_class")
            yield
            holder.execute("ROLLBACK")
