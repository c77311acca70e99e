"""The frames of one WebSocket: budgets for what costs its sender next to nothing, and how a message is written."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from websockets.frames import BINARY, CLOSE, CONT, PING, PONG, TEXT, Frame
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

POLICY = 1008
MAX_FRAGMENTS = 256  # of one message; browsers send a single one, proxies cut at some kilobytes
MAX_EMPTY = 16  # fragments of a message with nothing in them
CONTROL_BURST = 64  # pings and pongs at once
CONTROL_RATE = 8.0  # a second in the long run


def frame_text(message: bytes) -> bytes:
    """A server's message as it is on the wire."""
    size = len(message)
    if size < 126:
        return b"\x81%c%b" % (size, message)
    if size < 1 << 16:
        return b"\x81\x7e%b%b" % (size.to_bytes(2), message)
    return b"\x81\x7f%b%b" % (size.to_bytes(8), message)


class Allowance:
    """How many control frames of one connection are still answered. `clock` gives seconds."""

    __slots__ = ("_at", "_clock", "_level")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._level = float(CONTROL_BURST)
        self._at = 0.0

    def take(self) -> bool:
        now = self._clock()
        self._level = min(CONTROL_BURST, self._level + (now - self._at) * CONTROL_RATE) - 1
        self._at = now
        return self._level >= 0


class Reader(StreamReader):
    """Knows whether the parser is `between` two frames: only there it asks for the end."""

    between = True

    def at_eof(self) -> Generator[None, None, bool]:
        self.between = True
        return super().at_eof()

    def read_exact(self, n: int) -> Generator[None, None, bytearray]:
        self.between = False
        return super().read_exact(n)


class Frames(ServerProtocol):
    """The library's state machine, for as long as something takes more than the usual frame. `refused` names the budget
    that was overdrawn; the closing frame is then ready to be sent, and the rest of what came is dropped unparsed."""

    def __init__(self, control: Allowance, **options: Any) -> None:
        super().__init__(state=OPEN, **options)
        self.reader: Reader = Reader()
        self.parser = self.parse()
        next(self.parser)
        self.refused: str | None = None
        self.messages = 0  # complete ones
        self._control = control
        self._fragments = 0
        self._empty = 0
        self._parts: list[Frame] = []

    @property
    def unfinished(self) -> bool:
        """Whether a message or a frame has begun and not ended."""
        return self.current_size is not None or not self.reader.between

    def received(self) -> Iterator[Frame]:
        """What has come as a whole, messages in one piece."""
        for frame in self.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode is CONT or (not frame.fin and frame.opcode in (TEXT, BINARY)):
                self._parts.append(frame)
                if frame.fin:
                    whole = b"".join(bytes(part.data) for part in self._parts)
                    yield Frame(self._parts[0].opcode, whole)
                    self._parts.clear()
            else:
                yield frame

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is TEXT and frame.fin:  # as nearly all are
            self.messages += 1
        elif frame.opcode is PING or frame.opcode is PONG:
            if not self._control.take():
                return self._refuse("ws_refused_control", "too many pings or pongs")
        elif frame.opcode is CLOSE:
            self.current_size = None  # a peer may go in the middle of a message
        elif not frame.fin or frame.opcode is CONT:
            if not self._allow_fragment(frame):
                return self._refuse("ws_refused_fragments", "too many fragments")
            self.messages += frame.fin
        else:
            self.messages += 1
        super().recv_frame(frame)

    def _allow_fragment(self, frame: Frame) -> bool:
        if frame.opcode is not CONT:
            self._fragments = self._empty = 0
        self._fragments += 1
        self._empty += not frame.data
        return self._fragments <= MAX_FRAGMENTS and self._empty <= MAX_EMPTY

    def _refuse(self, name: str, why: str) -> None:
        self.refused = name
        self.fail(POLICY, why)
