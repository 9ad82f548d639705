"""A proxy between a program and the test's server that knows where PostgreSQL's messages begin and
end: it names every message, cuts a connection at one of them, or goes silent.

Only for connections without SSL and GSS encryption, which its DSN asks for. One thread serves all
connections; what the test sets, it sets under the lock."""

import collections
import re
import selectors
import socket
import struct
import threading

from lib import program

READ_BYTES = 65_536

FRONTEND = {
    b"P": "Parse", b"B": "Bind", b"D": "Describe", b"E": "Execute", b"S": "Sync", b"Q": "Query",
    b"X": "Terminate", b"H": "Flush", b"C": "Close",
}
BACKEND = {
    b"R": "Authentication", b"S": "ParameterStatus", b"K": "BackendKeyData", b"Z": "ReadyForQuery",
    b"1": "ParseComplete", b"2": "BindComplete", b"T": "RowDescription", b"n": "NoData",
    b"D": "DataRow", b"C": "CommandComplete", b"I": "EmptyQueryResponse", b"E": "ErrorResponse",
    b"N": "NoticeResponse", b"A": "NotificationResponse",
}
# Which message of the server ends the part that a message of the client plays.
ANSWERS = {b"1": "Parse", b"2": "Bind", b"T": "Describe", b"n": "Describe", b"C": "Execute",
           b"I": "Execute", b"Z": "Sync"}
ASYNCHRONOUS = ("ParameterStatus", "NoticeResponse", "NotificationResponse")


def _lines_of(lines, counted):
    """The lines of one of the statements that a file may hold (see src/pg/statement.h)."""
    mine, others = (" -- counted", " -- uncounted") if counted else (" -- uncounted", " -- counted")
    return [line.removesuffix(mine) for line in lines if not line.endswith(others)]


def _pattern_of(text):
    # `::` is a cast; a placeholder may follow one
    parts = re.split(r"(::)|:[a-z_]+", text.strip())
    texts = [".+?" if part is None else re.escape(part) for part in parts]
    return r"\s*" + "".join(texts) + r"\s*"


def _statement_patterns():
    """For every file of sql/, what its texts look like when their placeholders are filled in."""
    patterns = {}
    for path in (program.REPOSITORY / "sql").glob("*.sql"):
        lines = path.read_text().split("\n")
        while lines and lines[0].startswith("--"):
            lines.pop(0)
        texts = {_pattern_of("\n".join(_lines_of(lines, counted))) for counted in (False, True)}
        patterns[path.stem] = re.compile("|".join(sorted(texts)), re.DOTALL)
    return patterns


class Boundary(collections.namedtuple("Boundary", "side flight message")):
    """A place where a connection can be cut: before this message gets through. `flight` is what
    has been said since the connection was last idle, up to the statement of the message."""

    def __str__(self):
        return f"{self.side} {'+'.join(self.flight)} {self.message}"

    @property
    def place(self):
        """Without what was said before it in the same flight."""
        return self._replace(flight=self.flight[-1:])

    @property
    def statement(self):
        return self.flight[-1] if self.flight else None


class Link:
    """One connection of a client, and ours to the server for it."""

    def __init__(self, number, client, server):
        self.number = number
        self.sockets = {"frontend": client, "backend": server}  # where it is read from
        self.read = {"frontend": bytearray(), "backend": bytearray()}
        self.unsent = {"frontend": bytearray(), "backend": bytearray()}  # read there, for the other
        self.started = False
        self.role = None  # the first statement's name
        self.names = {}  # of prepared statements
        self.current = None
        self.flight = []  # statements, as in Boundary
        self.owed = collections.deque()  # (message, place in the flight)
        self.messages = 0
        self.silent = False  # bytes of it have been swallowed
        self.muted = ()  # the sides from which no message gets through any more
        self.half_closed = False  # the client is gone; the server may finish what it was told


class Proxy:
    """`with Proxy(cluster) as proxy`: a TCP port in front of the cluster.

    arm() sets the one cut to come. `cuts` are those that happened, `seen` counts the messages by
    role and boundary. silence() swallows all traffic of chosen connections."""

    def __init__(self, cluster, host="127.0.0.1", listening=None):
        self._cluster = cluster
        self._statements = _statement_patterns()
        self._listening = listening or socket.create_server((host, 0))
        self.host, self.port = self._listening.getsockname()[:2]
        self._lock = threading.RLock()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ, None)
        self._bell, self._rung = socket.socketpair()
        self._selector.register(self._rung, selectors.EVENT_READ, None)
        self._stopped = False
        self._reset_wanted = False
        self._abandoned = []
        self._armed = collections.deque()
        self._armed_reset, self._armed_nth = True, 1
        self._silent = None
        self._mute, self._mute_sides = None, ()
        self.mutes = []  # where mute() has struck
        self.accepted = 0  # connections so far
        self.links = []
        self.cuts = []
        self.seen = collections.Counter()
        self.swallowed = 0
        self.failure = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with self._lock:
            self._stopped = True
        self._ring()
        self._thread.join(10)
        for link in list(self.links):
            self._drop(link)
        for one in (self._listening, self._bell, self._rung, self._selector):
            one.close()
        assert self.failure is None, self.failure

    def dsn(self, database):
        """Of a database of the cluster, by way of the proxy."""
        return (f"postgresql://postgres@{self.host}:{self.port}/{database.name}"
                "?sslmode=disable&gssencmode=disable")

    def arm(self, *wanted, reset=True, nth=1):
        """Cuts the connection at the `nth` message for which wanted(link, boundary) holds: with a
        reset, or with an orderly end. With several functions, one cut after the other."""
        with self._lock:
            self._armed = collections.deque(wanted)
            self._armed_reset, self._armed_nth = reset, nth

    def disarm(self):
        """Takes the cuts back; False when all of them have happened."""
        with self._lock:
            left = len(self._armed)
            self._armed.clear()
            return left > 0

    def silence(self, wanted):
        """From now on no byte gets through, in either direction, on connections for which
        wanted(link) holds. None: on new connections bytes get through again; those that have lost
        some stay silent for ever, without a reset."""
        with self._lock:
            self._silent = wanted

    def mute(self, wanted, carried_out):
        """From the first message on for which wanted(link, boundary) holds, its connection stays open
        and no answer gets through on it; nor, unless they are to be `carried_out`, do statements."""
        with self._lock:
            self._mute = wanted
            self._mute_sides = ("backend",) if carried_out else ("backend", "frontend")

    def reset_links(self):
        """Resets every connection."""
        with self._lock:
            self._reset_wanted = lambda link: True
        self._ring()

    def abandon(self, wanted):
        """Resets the client's side of the connections for which wanted(link) holds. The server knows
        nothing of it: what it was told it does, and its answers go nowhere. Returns how many."""
        with self._lock:
            links = [link for link in self.links if not link.half_closed and wanted(link)]
            self._abandoned += links
        self._ring()
        return len(links)

    def _ring(self):
        self._bell.send(b"!")

    # ---- the thread ----

    def _run(self):
        try:
            while not self._stopped:
                ready = self._selector.select()
                with self._lock:
                    self._serve(ready)
        except BaseException as failure:  # shown by close(): a thread's exception goes nowhere
            self.failure = failure
            raise

    def _serve(self, ready):
        for key, events in ready:
            if key.fileobj is self._listening:
                self._accept()
            elif key.fileobj is self._rung:
                self._rung.recv(64)
            elif key.data[0] in self.links:
                self._move(*key.data, events)
        if self._reset_wanted:
            for link in [link for link in self.links if self._reset_wanted(link)]:
                self._drop(link, reset=True)
            self._reset_wanted = False
        while self._abandoned:
            link = self._abandoned.pop()
            link.half_closed = True
            self._close(link, "frontend", reset=True)
            if not link.owed:
                self._drop(link)

    def _accept(self):
        client, _ = self._listening.accept()
        try:
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{self._cluster.folder}/.s.PGSQL.{self._cluster.port}")
        except OSError:  # the server is away
            client.close()
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted += 1
        link = Link(self.accepted, client, server)
        self.links.append(link)
        for side, one in link.sockets.items():
            one.setblocking(False)
            self._selector.register(one, selectors.EVENT_READ, (link, side))

    def _move(self, link, side, events):
        """A socket of a link can be read or written."""
        other = "backend" if side == "frontend" else "frontend"
        if events & selectors.EVENT_WRITE:
            self._send(link, other)
        if link not in self.links or not events & selectors.EVENT_READ:
            return
        try:
            data = link.sockets[side].recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(link)
        elif self._is_silent(link):
            self.swallowed += len(data)
        else:
            link.read[side] += data
            self._pass(link, side)

    def _pass(self, link, side):
        """Sends on what has been read in whole messages, up to a cut."""
        while (message := self._take(link, side)) is not None:
            boundary = self._name(link, side, message)
            # known only now: which kind of connection this is
            if self._is_silent(link):
                self.swallowed += len(message)
                continue
            if link.role is not None:
                self.seen[link.role, boundary] += 1
            if self._mute is not None and self._mute(link, boundary):
                link.muted, self._mute = self._mute_sides, None
                self.mutes.append(boundary)
            if side in link.muted:
                self.swallowed += len(message)
                continue
            if self._cut_here(link, boundary):
                return
            if not link.half_closed:
                link.unsent[side] += message
            if link.half_closed and not link.owed:
                self._drop(link)
                return
        self._send(link, side)

    def _is_silent(self, link):
        link.silent = link.silent or (self._silent is not None and self._silent(link))
        return link.silent

    def _take(self, link, side):
        """The next whole message, or None. Only a connection's first message has no type."""
        read = link.read[side]
        head = 0 if side == "frontend" and not link.started else 1
        if len(read) < head + 4:
            return None
        length = head + struct.unpack_from("!I", read, head)[0]
        if len(read) < length:
            return None
        message = bytes(read[:length])
        del read[:length]
        return message

    def _send(self, link, side):
        """Sends what was read on `side` to the other one, as far as it takes it."""
        other = "backend" if side == "frontend" else "frontend"
        target, unsent = link.sockets[other], link.unsent[side]
        if target is None:
            return
        try:
            while unsent:
                del unsent[: target.send(unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(link)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0)
        self._selector.modify(target, events, (link, other))

    def _close(self, link, side, reset):
        one = link.sockets[side]
        if one is None:
            return
        link.sockets[side] = None
        self._selector.unregister(one)
        if reset and one.family == socket.AF_INET:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()

    def _drop(self, link, reset=False):
        self._close(link, "frontend", reset)
        self._close(link, "backend", reset)
        if link in self.links:
            self.links.remove(link)

    def _cut_here(self, link, boundary):
        if not self._armed or link.half_closed or not self._armed[0](link, boundary):
            return False
        self._armed_nth -= 1
        if self._armed_nth > 0:
            return False
        self._armed.popleft()
        self._armed_nth, reset = 1, self._armed_reset
        self.cuts.append(boundary)
        if boundary.side == "frontend":
            self._send(link, "frontend")  # what came before it
            self._drop(link, reset)
            return True
        self._send(link, "backend")
        if link not in self.links:
            return True
        self._close(link, "frontend", reset)
        link.half_closed = True  # the server goes on: what it was told, it commits
        if not link.owed:
            self._drop(link)
            return True
        return False

    # ---- names ----

    def _name(self, link, side, message):
        link.messages += 1
        if side == "frontend":
            return self._name_frontend(link, message)
        return self._name_backend(link, message)

    def _name_frontend(self, link, message):
        if not link.started:
            link.started = True
            link.owed.append(("Sync", ("startup",)))
            return Boundary("frontend", ("startup",), "Startup")
        kind = FRONTEND.get(message[:1], "?")
        if kind == "Parse":
            name, text = message[5:].split(b"\0", 2)[:2]
            link.names[name] = self._statement_of(text.decode())
            self._begin(link, link.names[name])
        elif kind == "Bind":
            name = message[5:].split(b"\0", 2)[1]
            if link.flight[-1:] != [link.names.get(name)] or link.current != "Parse":
                self._begin(link, link.names.get(name, name.decode()))
        link.current = kind
        flight = tuple(link.flight)
        if kind == "Query":
            link.owed.append(("Sync", flight))
        elif kind in ("Parse", "Bind", "Describe", "Execute", "Sync"):
            link.owed.append((kind, flight))
        return Boundary("frontend", flight, kind)

    def _statement_of(self, text):
        for name, pattern in self._statements.items():
            if pattern.fullmatch(text):
                return name
        return "other"

    def _begin(self, link, statement):
        """A statement of a flight; the first one, when everything before it is answered."""
        if not link.owed:
            link.flight = []
        link.flight.append(statement)
        if link.role is None:
            link.role = statement

    def _name_backend(self, link, message):
        kind = BACKEND.get(message[:1], "?")
        if kind in ASYNCHRONOUS or not link.owed:
            return Boundary("backend", (), kind)
        flight = link.owed[0][1]
        ends = ANSWERS.get(message[:1])
        if kind == "ErrorResponse":
            while link.owed and link.owed[0][0] != "Sync":
                link.owed.popleft()
        elif ends is not None and link.owed[0][0] == ends:
            link.owed.popleft()
        return Boundary("backend", flight, kind)
