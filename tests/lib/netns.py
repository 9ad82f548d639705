"""A network of the test's own, whose packets can be dropped without a reset: two network namespaces
with a pair of veth devices between them. Programs run in the first; the second has the address that
they connect to. Works as root, and for others where the kernel lets them make user namespaces."""

import array
import os
import socket
import subprocess
import sys

NEAR = ("10.91.0.1", "02:00:00:00:91:01")
FAR = ("10.91.0.2", "02:00:00:00:91:02")

# Runs in the far namespace and hands the listening socket over: a socket stays in the namespace in
# which it was made.
LISTEN = """
import array, socket, sys
listening = socket.create_server((sys.argv[1], 0))
with socket.socket(socket.AF_UNIX, fileno=int(sys.argv[2])) as to:
    to.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listening.fileno()]))])
"""


class Unavailable(Exception):
    """The kernel or the machine's rights do not allow it."""


class Network:
    """`with Network() as network`."""

    def __init__(self):
        self._holders = []
        self._user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        try:
            self._near = self._hold(["unshare", *([] if os.geteuid() == 0 else ["-Ur"]), "-n"])
            self._far = self._hold([*self.inside, "unshare", "-n"])
            self._connect()
        except (OSError, subprocess.CalledProcessError, AssertionError) as failure:
            self.close()
            text = getattr(failure, "stderr", None) or failure
            raise Unavailable(f"no network namespaces here: {text}") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for holder in reversed(self._holders):
            holder.stdin.close()
            holder.wait(10)

    def _hold(self, prefix):
        """The process id of a process in a new namespace, which lives until its stdin closes."""
        holder = subprocess.Popen([*prefix, "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._holders.append(holder)
        if holder.stdout.read(1) != b"\n":
            raise OSError(holder.stderr.read().decode().strip())
        return holder.pid

    @property
    def inside(self):
        """What to put in front of a command that is to run in the near namespace."""
        return ["nsenter", "--target", str(self._near), *self._user, "--net"]

    def _run(self, target, *command):
        subprocess.run(["nsenter", "--target", str(target), *self._user, "--net", *command],
                       check=True, capture_output=True, text=True, timeout=10)

    def _ip(self, target, text):
        self._run(target, "ip", *text.split())

    def _connect(self):
        self._ip(self._near, f"link add near address {NEAR[1]} type veth"
                             f" peer name far address {FAR[1]} netns {self._far}")
        # Neighbours that are known for good: no host is reported unreachable for want of an answer.
        for target, name, own, other in ((self._near, "near", NEAR, FAR), (self._far, "far", FAR, NEAR)):
            self._ip(target, f"addr add {own[0]}/30 dev {name}")
            self._ip(target, f"link set {name} up")
            self._ip(target, f"neigh replace {other[0]} lladdr {other[1]} dev {name} nud permanent")

    def listening(self):
        """A socket that listens at the far address."""
        here, there = socket.socketpair(socket.AF_UNIX)
        with here, there:
            there.set_inheritable(True)
            subprocess.run(
                ["nsenter", "--target", str(self._far), *self._user, "--net", sys.executable, "-c",
                 LISTEN, FAR[0], str(there.fileno())],
                check=True, capture_output=True, timeout=20, pass_fds=[there.fileno()])
            _, rights, _, _ = here.recvmsg(1, socket.CMSG_SPACE(4))
        descriptors = array.array("i")
        descriptors.frombytes(rights[0][2])
        return socket.socket(fileno=descriptors[0])

    def drop(self):
        """From now on no packet arrives, and nobody is told."""
        self._ip(self._far, "link set far down")

    def mend(self):
        self._ip(self._far, "link set far up")
        self._ip(self._far, f"neigh replace {NEAR[0]} lladdr {NEAR[1]} dev far nud permanent")


def network_or_reason():
    """A network, or the text why there can be none."""
    try:
        return Network()
    except Unavailable as why:
        return str(why)
