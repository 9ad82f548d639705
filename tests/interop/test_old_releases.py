"""Workers of old releases of Python PGQueuer beside ours, on the schema of today. They are where
`tools/refresh-release-schemas` has left them: $PGQUEUER_OLD_RELEASES names that folder."""

import os
from pathlib import Path

import pytest

from lib import invariants, program
from lib.jobs import NewJob
from lib.waiting import wait_until

FOLDER = os.environ.get("PGQUEUER_OLD_RELEASES")
JOBS = 1200
SCRIPT = program.REPOSITORY / "tests" / "interop" / "py" / "py_release_worker.py"


@pytest.fixture
def old_worker(processes, home, journal):
    def start(database, release, *entrypoints):
        folder = Path(FOLDER).resolve()
        environment = program.clean_environment(
            home, PGDSN=database.dsn, PYTHONPATH=f"{folder / release}:{folder / 'support'}",
            PYTHONDONTWRITEBYTECODE=1)
        worker = processes([program.python_bin() / "python", SCRIPT, journal, *entrypoints], environment)
        assert worker.wait_log(r"^RELEASE (.*)$").group(1) == release
        return worker

    return start


@pytest.mark.scenario("claim.old-releases")
@pytest.mark.skipif(not FOLDER, reason="PGQUEUER_OLD_RELEASES is not set")
@pytest.mark.parametrize("lane", ["row", "lease"])
def test_workers_of_old_releases_beside_ours_run_each_job_once(
    queue_db, produce, spawn_worker, old_worker, journal, lane
):
    fleet = [old_worker(queue_db, release, "work") for release in ("0.21.0", "1.3.2")]
    fleet.append(spawn_worker(queue_db, "--lane", lane, "--threads", "2", "--batch-size", "5",
                              "--log-aggregation-interval", "0.1", args=["work=sleep"]))
    ids = produce(queue_db, [NewJob("work", b"5", priority=i % 3) for i in range(JOBS)])
    wait_until(lambda: queue_db.job_count() == 0, 90, "the fleet drains the queue", interval=0.1)
    for worker in fleet:
        assert worker.stop() == 0, worker.log()
    assert {run.pid for run in journal.runs()} == {worker.pid for worker in fleet}, "all had a part"
    invariants.check_kept(queue_db, ids)
    invariants.check_single(journal, ids)
    assert queue_db.log_counts() == dict.fromkeys(("queued", "picked", "successful"), JOBS)
