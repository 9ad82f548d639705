"""PgBouncer in front of a test's server, as a pooler in transaction mode is the usual one."""

import shutil

from lib.cluster import free_port, run_as
from lib.waiting import wait_until

CONFIGURATION = """
[databases]
* = host={folder} port={server_port} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {pool_size}
max_client_conn = 100
server_round_robin = {round_robin}
server_login_retry = 1
"""


class Pooler:
    """`round_robin`: every transaction takes the connection to the server that waited longest, so
    that no client meets the same one twice in a row."""

    def __init__(self, cluster, processes, mode="transaction", pool_size=3, round_robin=False):
        program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
        if program is None:
            raise RuntimeError("pgbouncer is not installed: run tools/bootstrap --for test")
        self._cluster, self._processes, self._program = cluster, processes, program
        self._pool_size, self._round_robin = pool_size, int(round_robin)
        for _ in range(5):  # another process may take the port meanwhile
            self.port = free_port()
            if self._started(mode):
                return
        raise RuntimeError(f"pgbouncer does not start: {self.process.log()}")

    def start(self, mode):
        assert self._started(mode), self.process.log()

    def _started(self, mode):
        path = self._cluster.folder / f"pgbouncer-{self.port}.ini"
        path.write_text(CONFIGURATION.format(
            folder=self._cluster.folder, server_port=self._cluster.port, port=self.port, mode=mode,
            pool_size=self._pool_size, round_robin=self._round_robin))
        path.chmod(0o644)
        self.process = self._processes([self._program, path], {"PATH": "/usr/bin:/bin"},
                                       cwd=self._cluster.folder, **run_as(self._cluster.user))
        return wait_until(lambda: "process up" in self.process.log() or self.process.returncode is not None,
                          10, self.process.log) and self.process.returncode is None

    def restart(self, mode):
        """All connections end, and the new ones are of the other mode."""
        self.process.kill()
        self.start(mode)

    def dsn(self, database):
        return (f"postgresql://postgres@127.0.0.1:{self.port}/{database.name}"
                "?sslmode=disable&gssencmode=disable")
