"""Many connections to one server, driven by one epoll loop: the load that measurements put on Handrail and its peers.

It decodes nothing. What it sends is made beforehand, but for a number of fixed width; what it waits for is counted by a
mark that stands once in every message that matters, whoever sends it. That leaves about ten microseconds a round trip,
most of them the kernel's, so that a core carries it beside the store.
"""

from __future__ import annotations

import gc
import select
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from benchmarks.client import PONG, frame, frame_at
from benchmarks.figures import MeasurementFault

AT_A_TIME = 4_096  # bytes; what is left is read next
AT_ONCE = 64  # handshakes under way
AGAIN = 0.25  # seconds until a connection that was refused for the moment (503) is tried again
PATIENCE = 60.0  # seconds a server may take for what it always does at once
MOMENT = 0.001  # seconds between two looks at the clock while events are sent at a pace
FIRST = 10_000_000  # numbers are eight digits wide, so every event has the same length
_PING_OF_ENGINE_IO = b"\x81\x012"
_PONG_OF_ENGINE_IO = frame(1, b"3")

Steps = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Dialect:
    """How to speak with a server: for the connection of a number, what is sent to open it and the bytes awaited after
    each; an event around its number, if it takes any; and what stands once in every message that counts."""

    opening: Callable[[int], Steps]
    mark: bytes
    event: bytes = b""
    frames: bool = True  # WebSocket frames come back, pings among them


@dataclass(eq=False, slots=True)
class _Line:
    """One connection; `ahead` are the steps of its opening that are still to come."""

    number: int
    socket: socket.socket
    ahead: deque[tuple[bytes, bytes]]
    tail: bytes = b""
    sent: deque[float] = field(default_factory=deque)


class Crowd:
    """`count` is how many messages with the mark have come in all, `refused` how often a handshake was put off."""

    def __init__(self, port: int, dialect: Dialect) -> None:
        self._address = ("127.0.0.1", port)
        self._dialect = dialect
        self._poll = select.epoll()
        self._lines: dict[int, _Line] = {}
        self._opened: list[_Line] = []
        self._waiting: deque[tuple[float, int]] = deque()  # (when, which) to connect
        self._number = FIRST
        self._heard: Callable[[_Line, int], None] = lambda line, found: None
        self._now = perf_counter()
        self.count = 0
        self.refused = 0

    @property
    def size(self) -> int:
        return len(self._opened)

    def close(self) -> None:
        for line in self._lines.values():
            line.socket.close()
        self._poll.close()

    # --- coming ---

    def connect(self, many: int, *, first: int = 0) -> None:
        """Open so many more connections, a few at a time, and return when all are open."""
        wanted, last = len(self._opened) + many, perf_counter() + PATIENCE * (1 + many / 2_000)
        self._waiting = deque((0.0, number) for number in range(first, first + many))
        while len(self._opened) < wanted:
            now = perf_counter()
            while self._waiting and self._waiting[0][0] <= now and len(self._lines) - len(self._opened) < AT_ONCE:
                self._begin(self._waiting.popleft()[1])
            self._turn(AGAIN)
            if now > last:
                raise MeasurementFault(f"{len(self._opened):,} of {wanted:,} connections opened in time")

    def _begin(self, number: int) -> None:
        opened = socket.socket()
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.connect(self._address)
        opened.setblocking(False)
        line = _Line(number, opened, deque(self._dialect.opening(number)))
        self._lines[opened.fileno()] = line
        self._poll.register(opened.fileno(), select.EPOLLIN)
        self._send(line, line.ahead[0][0])

    def _advance(self, line: _Line, data: bytes) -> None:
        line.tail += data
        if line.tail.startswith(b"HTTP/1.1 503 "):
            self._postpone(line)
            return
        if line.tail.startswith(b"HTTP/1.1 ") and line.tail[9:12] not in (b"", b"101", b"200"):
            raise MeasurementFault(f"the server refuses to be connected to: {line.tail[:200]!r}")
        while line.ahead:
            _, _, rest = found = line.tail.partition(line.ahead[0][1])
            if not found[1]:
                return
            line.tail = rest
            line.ahead.popleft()
            if line.ahead:
                self._send(line, line.ahead[0][0])
        line.tail = b""
        self._opened.append(line)

    def _postpone(self, line: _Line) -> None:
        self.refused += 1
        del self._lines[line.socket.fileno()]
        line.socket.close()
        self._waiting.append((perf_counter() + AGAIN, line.number))

    # --- what comes in ---

    def _turn(self, timeout: float) -> None:
        ready = self._poll.poll(timeout)
        self._now = perf_counter()
        for descriptor, _ in ready:
            line = self._lines[descriptor]
            try:
                data = line.socket.recv(AT_A_TIME)
            except BlockingIOError:
                continue
            except ConnectionError:
                data = b""
            if not data:
                raise MeasurementFault("the server closed a connection that was to stay")
            if line.ahead:
                self._advance(line, data)
            else:
                self._hear(line, data)

    def _hear(self, line: _Line, data: bytes) -> None:
        if self._dialect.frames and (b"\x89" in data or data[-3:] == _PING_OF_ENGINE_IO):
            self._answer(line, data)
        mark = self._dialect.mark
        if line.tail:
            data = line.tail + data
        found = data.count(mark)
        line.tail = b"" if data.endswith((b"}", b"\n\n")) else data[1 - len(mark) :]
        if found:
            self.count += found
            self._heard(line, found)

    def _answer(self, line: _Line, data: bytes) -> None:
        """Pong to pings, of WebSocket and of Engine.IO; what came begins with a frame, or else waits for the next."""
        if data[-3:] == _PING_OF_ENGINE_IO:
            self._send(line, _PONG_OF_ENGINE_IO)
        start = 0
        while (found := frame_at(data, start)) is not None:
            opcode, body, start = found
            if opcode == 9:
                self._send(line, frame(PONG, data[body:start]))

    def _send(self, line: _Line, data: bytes) -> None:
        if line.socket.send(data) != len(data):
            raise MeasurementFault("the server does not read what it is sent")

    # --- what is done with them ---

    def rest(self, seconds: float) -> None:
        """Do nothing but answer pings."""
        until = perf_counter() + seconds
        while (left := until - perf_counter()) > 0:
            self._turn(left)

    def hurry(self, seconds: float) -> tuple[int, float]:
        """Each connection sends its next event when the last one is answered: (answers, seconds). All are answered
        before this returns, the last ones outside the count."""

        def heard(line: _Line, found: int) -> None:
            for _ in range(found):
                self._send_event(line)

        with self._listening(heard):
            start, before = perf_counter(), self.count
            for line in self._opened:
                self._send_event(line)
            while perf_counter() - start < seconds:
                self._turn(0.1)
            came, taken = self.count - before, perf_counter() - start
        self._settle(before + came + len(self._opened))
        return came, taken

    def pace(self, rate: float, seconds: float) -> list[float]:
        """Send events at this rate, whatever is answered meanwhile, and return how many seconds each answer took."""
        taken: list[float] = []

        def heard(line: _Line, found: int) -> None:
            taken.extend(self._now - line.sent.popleft() for _ in range(found))

        with self._listening(heard):
            start, before, sent = perf_counter(), self.count, 0
            turns = _round_and_round(self._opened)
            while (now := perf_counter()) - start < seconds:
                while sent < (now - start) * rate:
                    line = next(turns)
                    line.sent.append(perf_counter())
                    self._send_event(line)
                    sent += 1
                self._turn(MOMENT)
            self._settle(before + sent)
        return taken

    def await_marks(self, wanted: int) -> None:
        """Return when so many have come in all."""
        last = perf_counter() + PATIENCE
        while self.count < wanted:
            self._turn(0.1)
            if perf_counter() > last:
                raise MeasurementFault(f"{wanted - self.count:,} messages are missing after {PATIENCE:g} s")

    def _settle(self, wanted: int) -> None:
        self.await_marks(wanted)
        if self.count != wanted:
            raise MeasurementFault(f"{self.count - wanted:,} messages came that nothing asked for")

    def _send_event(self, line: _Line) -> None:
        self._number += 1
        self._send(line, self._dialect.event.replace(b"########", b"%d" % self._number))

    @contextmanager
    def _listening(self, heard: Callable[[_Line, int], None]) -> Iterator[None]:
        before, self._heard = self._heard, heard
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            self._heard = before


def _round_and_round(lines: list[_Line]) -> Iterator[_Line]:
    while True:
        yield from lines


def upgrade(path: str, *, protocol: str = "", origin: str = "") -> bytes:
    """A WebSocket handshake; every connection may have the same key."""
    more = f"Sec-WebSocket-Protocol: {protocol}\r\n" * bool(protocol) + f"Origin: {origin}\r\n" * bool(origin)
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    ).encode()


def stream(path: str, *, origin: str = "") -> bytes:
    """A request for server-sent events."""
    more = f"Origin: {origin}\r\n" * bool(origin)
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{more}\r\n".encode()
