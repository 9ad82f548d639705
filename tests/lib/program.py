"""Running the program and other processes: clean environment, time limit, no sanitizer report."""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from lib.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("PGQUEUER_BUILD") or REPOSITORY / "build").resolve()
PROGRAM = BUILD / "pgqueuer"

SANITIZER = re.compile(
    r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|MemorySanitizer|UndefinedBehaviorSanitizer"
    r"|runtime error: "
)
# A sanitizer's exit status is none of the program's own.
SANITIZER_ENVIRONMENT = {
    "ASAN_OPTIONS": "exitcode=99:abort_on_error=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:exitcode=99",
    "TSAN_OPTIONS": "exitcode=99:halt_on_error=0",
    "LSAN_OPTIONS": "exitcode=99",
}
# The longest that a graceful stop may take when no handler runs.
STOP_SECONDS = 20

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def die_with_parent():
    """For preexec_fn: a process of a test does not outlive the test process."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def sanitizer():
    """The value of meson's b_sanitize in the build under test, such as "address,undefined"."""
    options = BUILD / "meson-info" / "intro-buildoptions.json"
    if not options.exists():
        return "none"
    found = [o["value"] for o in json.loads(options.read_text()) if o["name"] == "b_sanitize"]
    value = found[0] if found else "none"
    return ",".join(value) if isinstance(value, list) else value


# A sanitizer makes everything slower; only the waiting of the tests is scaled.
RUN_SECONDS = 30 if sanitizer() == "none" else 120


def clean_environment(home, **extra):
    """No variable of the caller that could change what the program does."""
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }
    for name, value in SANITIZER_ENVIRONMENT.items():
        environment[name] = os.environ.get(name, value)
    environment.update({key: str(value) for key, value in extra.items()})
    return environment


def require_program():
    if not PROGRAM.exists():
        raise RuntimeError(
            f"there is no program at {PROGRAM}: run `meson setup build && meson compile -C build`,"
            " or set PGQUEUER_BUILD"
        )


def python_bin():
    """The folder of the interpreter that has the Python release: its programs are there too."""
    given = os.environ.get("PGQUEUER_VENV")
    for venv in ([Path(given)] if given else [REPOSITORY / ".venv", Path(sys.prefix)]):
        if (venv / "bin" / "pgq").exists():
            return venv / "bin"
    raise RuntimeError(
        "Python PGQueuer is not installed: run tools/bootstrap, or set PGQUEUER_VENV to a virtual"
        " environment made from tests/requirements.txt"
    )


def assert_no_sanitizer_report(text, who):
    assert not SANITIZER.search(text), f"sanitizer report of {who}:\n{text}"


def run(arguments, environment, stdin=None, timeout=RUN_SECONDS, cwd=None, **popen):
    """A finished process. `stdin` is bytes or text; output that is no UTF-8 shows as \\xNN."""
    if isinstance(stdin, str):
        stdin = stdin.encode()
    done = subprocess.run(
        arguments,
        env=environment,
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        preexec_fn=die_with_parent,
        **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
        **popen,
    )
    done.stdout = done.stdout.decode(errors="backslashreplace")
    done.stderr = done.stderr.decode(errors="backslashreplace")
    assert_no_sanitizer_report(done.stderr, arguments[0])
    return done


class Process:
    """A running process whose output is collected in a file."""

    def __init__(self, arguments, environment, log_path, cwd=None, stdin=None, **popen):
        self.arguments = [str(argument) for argument in arguments]
        self.log_path = Path(log_path)
        with open(self.log_path, "wb") as log:
            self._process = subprocess.Popen(
                self.arguments, env=environment, cwd=cwd, stdin=stdin or subprocess.DEVNULL,
                stdout=log, stderr=log, preexec_fn=die_with_parent, **popen,
            )

    @property
    def pid(self):
        return self._process.pid

    @property
    def returncode(self):
        return self._process.poll()

    def log(self):
        return self.log_path.read_text(errors="backslashreplace")

    def events(self, name):
        """The log lines of one event; one that is not yet written to its end is none."""
        pattern = re.compile(rf"(^|\s){re.escape(name)}(\s|$)")
        return [line for line in self.log().split("\n")[:-1] if pattern.search(line)]

    def wait_log(self, pattern, deadline=15.0):
        """Waits for a line that matches, and returns the match. Fails at once if the process ends."""

        def found():
            ended = self._process.poll() is not None
            match = re.search(pattern, self.log(), re.MULTILINE)
            if not match and ended:
                raise AssertionError(
                    f"ended with {self.returncode} before it logged {pattern!r}:\n{self.log()}"
                )
            return match

        return wait_until(found, deadline, lambda: f"log line {pattern!r} in:\n{self.log()}")

    def wait(self, deadline=RUN_SECONDS):
        """Waits for the end of the process and returns its exit status."""
        try:
            return self._process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {deadline} s:\n{self.log()}") from None

    def write(self, text):
        """To the standard input of a process that was started with a pipe."""
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def send(self, number):
        self._process.send_signal(number)

    def stop(self, number=signal.SIGTERM, deadline=STOP_SECONDS):
        """Asks the process to end and returns its exit status."""
        if self._process.poll() is None:
            self.send(number)
        return self.wait(deadline)

    def kill(self):
        """As a crash: SIGKILL."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def close(self):
        """The end of the test: whatever still runs is killed, and the output is checked."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        self._process.wait()
        assert_no_sanitizer_report(self.log(), self.arguments[0])


class Worker(Process):
    """`pgqueuer run`."""

    @property
    def worker_id(self):
        return self.wait_log(r"worker\.started .*?worker=([0-9a-f-]{36})").group(1)

    def wait_listening(self, deadline=15.0):
        self.wait_log(r"worker\.listening", deadline)
        return self

    def stop_cleanly(self, deadline=STOP_SECONDS):
        status = self.stop(deadline=deadline)
        assert status == 0, f"exit status {status} after SIGTERM:\n{self.log()}"
        return self
