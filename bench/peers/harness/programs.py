"""The programs of the peers, and what the kernel says of them.

Each system has one program of its own, which is found in bench/peers/NAME:

    PROGRAM install         makes the tables
    PROGRAM work CONFIG     a worker: prints `ready`, works until SIGTERM. Its handler does nothing, but
                            for a job with a number in its payload prints `start NUMBER NS`
    PROGRAM produce CONFIG  prints `ready`, then obeys the lines of its standard input:
        fill COUNT                      enqueues so many      -> done TOTAL JOBS NS
        bulk WARM_MS RUN_MS             many at a time        -> done TOTAL JOBS NS
        single LANES WARM_MS RUN_MS     one commit a job      -> done TOTAL JOBS NS
        one NUMBER                      one with a payload    -> sent NUMBER NS

TOTAL counts the warm-up too; JOBS were enqueued in the NS nanoseconds after it. Instants are of the
monotonic clock, which all processes of a machine share. The database is that of PGHOST, PGPORT, PGUSER
and PGDATABASE; PEER_DSN is the same as one URI.
"""

import collections
import contextlib
import ctypes
import os
import queue
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

STOP_SECONDS = 15
LAST_LINES = 8  # kept of what a program says, for when it fails
TICKS = os.sysconf("SC_CLK_TCK")

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """A peer's program did not do what it was asked for."""


def die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Program:
    """A running program, spoken to in lines."""

    def __init__(self, command, environment, talks="stdout"):
        self.command = [str(word) for word in command]
        self._process = subprocess.Popen(
            self.command, env=environment, text=True, errors="replace", bufsize=1,
            preexec_fn=die_with_parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._lines = queue.Queue()
        self._last = collections.deque(maxlen=LAST_LINES)
        self._readers = [threading.Thread(target=self._read, args=(stream, talks in (name, "both")))
                         for name, stream in (("stdout", self._process.stdout),
                                              ("stderr", self._process.stderr))]
        for reader in self._readers:
            reader.daemon = True
            reader.start()

    def _read(self, stream, heard):
        for line in stream:
            self._last.append(line.rstrip("\n"))
            if heard:
                self._lines.put(line.rstrip("\n"))
        if heard:
            self._lines.put(None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def pid(self):
        return self._process.pid

    def tell(self, line):
        try:
            self._process.stdin.write(line + "\n")
        except OSError:
            raise Failed(f"{self} has ended: {self.last_words()}") from None

    def expect(self, pattern, seconds):
        """The match of the next line that fits; others are passed over."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise Failed(f"{self} said nothing like {pattern!r} in {seconds:g} s") from None
            if line is None:
                raise Failed(f"{self} has ended: {self.last_words()}")
            if match := re.search(pattern, line):
                return match

    def done(self, line, seconds):
        """Tells it to enqueue; returns all jobs, those measured, and their seconds."""
        self.tell(line)
        total, jobs, ns = map(int, self.expect(r"^done (\d+) (\d+) (\d+)$", seconds).groups())
        return total, jobs, ns / 1e9

    def alive(self):
        return self._process.poll() is None

    def stop(self):
        """Asks it to end, and then does not ask."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        if self.alive():
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def last_words(self):
        for reader in self._readers:
            reader.join(1)
        return " ".join(self._last).strip()[-400:] or f"exit status {self._process.poll()}, without a word"

    def __str__(self):
        return " ".join(Path(word).name for word in self.command[:3])


def cpu_seconds(programs):
    """What the processes have used so far, in user and system mode."""
    ticks = 0
    for program in programs:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def peak_mib(programs):
    """The largest resident size of each, added up."""
    kib = 0
    for program in programs:
        with contextlib.suppress(OSError):
            if match := re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{program.pid}/status").read_text()):
                kib += int(match[1])
    return kib / 1024
