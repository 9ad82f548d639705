"""The programs of PostgreSQL servers: the distribution's, and those of other majors that
tools/fetch-postgres has put into .cache/postgresql."""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from lib.program import REPOSITORY

FETCHED = REPOSITORY / ".cache" / "postgresql"
MAJORS = (14, 16, 17, 18)


def default_bin():
    """Where initdb and postgres are: $PGQUEUER_PG_BINDIR, or the newest installed version."""
    given = os.environ.get("PGQUEUER_PG_BINDIR")
    if given:
        return Path(given)
    found = _installed()
    if found:
        return found[0]
    initdb = shutil.which("initdb")
    if initdb:
        return Path(initdb).resolve().parent
    raise RuntimeError("no PostgreSQL server programs found; set PGQUEUER_PG_BINDIR")


def fetched_bin(major):
    """Of a fetched server, or None where it has not been fetched."""
    folder = FETCHED / str(major) / "bin"
    return folder if (folder.parent / "stamp").exists() else None


def client(name, server_bin):
    """psql or pg_dump for a server: its own, or where its package has none the newest there is, since
    pg_dump refuses newer servers."""
    folders = [Path(server_bin), FETCHED / str(MAJORS[-1]) / "bin", *_installed()]
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    found = shutil.which(name)
    if found:
        return Path(found)
    raise RuntimeError(f"there is no {name} in {', '.join(map(str, folders))}")


def _installed():
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    return sorted(found, key=lambda path: int(path.parent.name.split(".")[0]), reverse=True)


@functools.cache
def reachable(folder, **user):
    """The same programs where `user`, who runs the server, may run them: a copy, if nobody but the
    owner may look into the folder that the repository is in."""
    try:
        subprocess.run([folder / "postgres", "--version"], check=True, capture_output=True,
                       **user)
        return folder
    except PermissionError:
        copy = Path(tempfile.mkdtemp(prefix="pgqb-"))
        copy.chmod(0o755)
        atexit.register(shutil.rmtree, copy, ignore_errors=True)
        shutil.copytree(folder.parent, copy / "server", symlinks=True)
        return copy / "server" / folder.name
