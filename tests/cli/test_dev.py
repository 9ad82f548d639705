"""`pgqueuer dev` and `pgqueuer demo`: a private server for a person who has none."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from lib import program
from lib.cluster import run_as, unprivileged_user
from lib.refusal import DONE
from lib.waiting import wait_until

START_SECONDS = 60


def server_pids(folder):
    """The server processes whose data are below the folder."""
    pids = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and "postgres" in os.readlink(entry / "exe"):
                if os.readlink(entry / "cwd").startswith(str(folder)):
                    pids.append(int(entry.name))
    return pids


def postmaster_file(folder):
    return next(Path(folder).rglob("postmaster.pid"))


def postmaster(folder):
    return int(postmaster_file(folder).read_text().split("\n")[0])


@pytest.fixture(params=["as started", "unprivileged"])
def place(request):
    """A folder to work in, and how to run there: as the user of the tests, and as an ordinary one."""
    folder = Path(tempfile.mkdtemp(prefix="pgqd-"))
    folder.chmod(0o755)  # root's server runs as another user, who has to get in
    drop = {}
    if request.param == "unprivileged":
        if os.geteuid() != 0:
            shutil.rmtree(folder)
            pytest.skip("the tests run as an ordinary user anyway")
        user = unprivileged_user()
        drop = run_as(user)
        if subprocess.run(["test", "-x", program.PROGRAM], cwd="/", **drop).returncode != 0:
            shutil.rmtree(folder)
            pytest.skip("the program is where an ordinary user cannot go")
        os.chown(folder, user.pw_uid, user.pw_gid)
    yield folder, drop
    for pid in server_pids(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)
    wait_until(lambda: not server_pids(folder), 20, "the server ends")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def dev(place):
    folder, drop = place

    def run(*arguments, **options):
        program.require_program()
        return program.run([program.PROGRAM, *arguments], program.clean_environment(folder),
                           cwd=folder, timeout=START_SECONDS, **drop, **options)

    return run


def test_a_server_is_started_used_stopped_and_reset(dev, place):
    folder, _ = place
    started = dev("dev", "start")
    assert started.returncode == DONE, started.stderr
    assert server_pids(folder)
    assert (folder / ".pgqueuer").is_dir()
    for private in (postmaster_file(folder).parent, folder / ".pgqueuer" / "password"):
        assert private.stat().st_mode & 0o077 == 0, f"nobody else may look into {private}"

    assert dev("dev", "status").returncode == DONE
    # The other commands find it by themselves and say so.
    assert dev("install").returncode == DONE
    verified = dev("verify", "--expect", "present")
    assert verified.returncode == DONE, verified.stderr
    assert ".pgqueuer" in verified.stderr
    assert dev("queue", "e", "hello").returncode == DONE
    counted = dev("dev", "psql", "--", "-Atc", "SELECT count(*) FROM pgqueuer")
    assert counted.stdout.strip() == "1", counted.stderr

    again = dev("dev", "start")
    assert again.returncode == DONE, "a second start is no error"
    assert len({postmaster(folder)}) == 1

    assert dev("dev", "stop").returncode == DONE
    # pg_ctl is content when the server has removed its file, a moment before its process ends.
    wait_until(lambda: not server_pids(folder), 10, "the server's last process ends")
    assert dev("dev", "status").returncode != DONE
    assert dev("dev", "stop").returncode == DONE, "a second stop is no error"

    # The data outlive a stop.
    assert dev("dev", "start").returncode == DONE
    counted = dev("dev", "psql", "--", "-Atc", "SELECT count(*) FROM pgqueuer")
    assert counted.stdout.strip() == "1", counted.stderr

    refused = dev("dev", "reset")
    assert refused.returncode != DONE and "--yes" in refused.stderr
    assert dev("dev", "reset", "--yes").returncode == DONE
    assert dev("verify", "--expect", "absent").returncode == DONE, "a new server without our tables"
    assert dev("dev", "stop").returncode == DONE


def test_a_killed_server_starts_again(dev, place):
    folder, _ = place
    assert dev("dev", "start").returncode == DONE
    assert dev("install").returncode == DONE
    assert dev("queue", "e", "hello").returncode == DONE
    os.kill(postmaster(folder), signal.SIGKILL)
    wait_until(lambda: not server_pids(folder), 20, "the killed server's processes end")
    assert dev("dev", "status").returncode != DONE
    started = dev("dev", "start")
    assert started.returncode == DONE, started.stderr
    counted = dev("dev", "psql", "--", "-Atc", "SELECT count(*) FROM pgqueuer")
    assert counted.stdout.strip() == "1", counted.stderr


def test_a_killed_start_leaves_nothing_that_stops_the_next_one(dev, place):
    folder, drop = place
    program.require_program()
    first = subprocess.Popen([program.PROGRAM, "dev", "start"], cwd=folder,
                             env=program.clean_environment(folder), stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, **drop)
    wait_until(lambda: (folder / ".pgqueuer").exists(), 20, "the start has begun", interval=0.002)
    first.kill()
    first.wait()
    started = dev("dev", "start")
    assert started.returncode == DONE, started.stderr
    assert dev("install").returncode == DONE


def test_two_starts_at_once_make_one_server(dev, place):
    folder, drop = place
    program.require_program()
    starts = [
        subprocess.Popen([program.PROGRAM, "dev", "start"], cwd=folder,
                         env=program.clean_environment(folder), stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, **drop)
        for _ in range(2)
    ]
    outputs = [start.communicate(timeout=START_SECONDS)[0] for start in starts]
    assert [start.returncode for start in starts] == [DONE, DONE], outputs
    assert dev("install").returncode == DONE


def test_without_a_server_of_its_own_the_hint_names_dev(dev):
    done = dev("queue", "e")
    assert done.returncode == 3
    assert "pgqueuer dev start" in done.stderr


def test_the_demo_shows_jobs_and_leaves_nothing(dev, place):
    folder, _ = place
    for number in range(5):
        (folder / f"file{number}").write_bytes(bytes([number]) * 1000)
    before = set(folder.iterdir())
    done = dev("demo")
    assert done.returncode == DONE, done.stdout + done.stderr
    assert "successful" in done.stdout
    assert set(folder.iterdir()) == before
    wait_until(lambda: not server_pids(folder), 10, "the server's last process ends")
