"""The other supported majors of PostgreSQL, in short: `make test-matrix` runs the integration and
interop tests on each of them."""

import pytest

from lib import servers
from lib.cluster import Cluster
from lib.jobs import NewJob
from lib.schema import verify
from lib.upgrade import assert_up_to_date, checksums, columns_before, fill, restore, upgraded

pytestmark = pytest.mark.interop


@pytest.mark.scenario("majors.both-work")
@pytest.mark.parametrize("major", servers.MAJORS)
def test_the_queue_works_on_postgresql(major, pgqueuer, produce, drain, python_pgq):
    folder = servers.fetched_bin(major)
    if folder is None:
        pytest.skip(f"PostgreSQL {major} is not here: tools/fetch-postgres says why")
    cluster = Cluster(bin_folder=folder)
    try:
        assert cluster.major == major
        works_fresh(cluster, pgqueuer, produce, drain)
        works_upgraded(cluster, pgqueuer, produce, drain, python_pgq)
        assert "ERROR:" not in cluster.log()
    finally:
        cluster.destroy()


def works_fresh(cluster, pgqueuer, produce, drain):
    database = cluster.create_database()
    assert pgqueuer("install", "--extras", dsn=database).returncode == 0
    assert verify(pgqueuer, database) == []
    for lane in ("row", "lease"):
        done = produce(database, [NewJob("ok", b"x"), NewJob("ok", priority=3, headers='{"a": 1}')])
        [retried] = produce(database, [NewJob("retry_once", b"0", dedupe_key="key")])
        [failed, held] = produce(database, [NewJob("fail"), NewJob("hold")])
        [cancelled] = produce(database, [NewJob("ok", delay_ms=3_600_000)])
        assert pgqueuer("cancel", cancelled, dsn=database).stdout == "Cancelled 1 job(s).\n"
        drain(database, "--lane", lane, args=["ok", "fail", "hold", "retry_once"])
        ends = {done[0]: "successful", done[1]: "successful", retried: "successful", failed: "exception",
                held: "failed", cancelled: "canceled"}
        assert {job: database.log_of(job)[-1] for job in ends} == ends
        assert database.rows("SELECT id, status::text FROM pgqueuer") == [(held, "failed")]
        assert pgqueuer("cancel", held, dsn=database).returncode == 0


def works_upgraded(cluster, pgqueuer, produce, drain, python_pgq):
    database = cluster.create_database()
    restore(database, "0.21.0")
    fill(database, 20)
    columns = columns_before(database)
    before = checksums(database, columns)
    upgraded(pgqueuer, database)
    assert checksums(database, columns) == before
    assert_up_to_date(database)
    assert python_pgq(database, "verify", "--expect", "present").returncode == 0
    [job] = produce(database, [NewJob("ok")])
    drain(database, args=["ok"])
    assert database.log_of(job)[-1] == "successful"
