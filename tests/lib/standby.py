"""A second server that follows a first one, and takes its place."""

import os
import subprocess

from lib.cluster import SUPERUSER, Cluster, Database, run_as
from lib.waiting import wait_until

FOLLOW_SECONDS = 30


class Standby(Cluster):
    """A hot standby of `primary`, whose commits wait for it from now on."""

    def __init__(self, primary):
        self._primary = primary
        with (primary.data / "pg_hba.conf").open("a") as hba:
            hba.write("local replication all trust\n")
        primary.admin("SELECT pg_reload_conf()")
        follow = f"host={primary.folder} port={primary.port} user={SUPERUSER} application_name=standby"
        super().__init__(settings={"primary_conninfo": follow})
        try:
            self._follow()
        except BaseException:
            self.destroy()
            raise

    def _initdb(self):
        subprocess.run(
            [self.bin / "pg_basebackup", "--pgdata", self.data, "--host", self._primary.folder,
             "--port", str(self._primary.port), "--username", SUPERUSER, "--wal-method", "stream",
             "--checkpoint", "fast", "--no-sync"],
            check=True, capture_output=True, text=True, timeout=120, cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, **run_as(self.user),
        )
        (self.data / "standby.signal").touch()

    def _follow(self):
        self._primary.admin("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        self._primary.admin("SELECT pg_reload_conf()")
        postgres = Database(self._primary, "postgres")
        wait_until(
            lambda: postgres.value("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"),
            FOLLOW_SECONDS, "the standby follows, and commits wait for it")

    def promote(self):
        assert Database(self, "postgres").value(f"SELECT pg_promote(true, {FOLLOW_SECONDS})")

    def database(self, of_primary):
        """The copy of a database of the primary."""
        return Database(self, of_primary.name)

    def dsn_of_both(self, of_primary):
        """Of a database wherever it can be written to."""
        hosts = f"host={self._primary.folder},{self.folder}&port={self._primary.port},{self.port}"
        return f"postgresql://{SUPERUSER}@/{of_primary.name}?{hosts}&target_session_attrs=read-write"
