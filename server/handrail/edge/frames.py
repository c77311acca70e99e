"""The frames of one WebSocket, with budgets for what costs its sender next to nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from websockets.frames import CLOSE, CONT, PING, PONG, TEXT, Frame
from websockets.server import ServerProtocol

POLICY = 1008
MAX_FRAGMENTS = 256  # of one message; browsers send a single one, proxies cut at some kilobytes
MAX_EMPTY = 16  # fragments of a message with nothing in them
CONTROL_BURST = 64  # pings and pongs at once
CONTROL_RATE = 8.0  # a second in the long run


class Frames(ServerProtocol):
    """`refused` names the budget that was overdrawn; the closing frame is then ready to be sent, and the rest of what
    came is dropped unparsed."""

    def __init__(self, clock: Callable[[], float], **options: Any) -> None:
        super().__init__(**options)
        self.refused: str | None = None
        self.messages = 0  # complete ones
        self._clock = clock
        self._fragments = 0
        self._empty = 0
        self._control = float(CONTROL_BURST)
        self._controlled = 0.0

    @property
    def unfinished(self) -> bool:
        """Whether a message or a frame has begun and not ended."""
        return self.current_size is not None or bool(self.reader.buffer)

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is TEXT and frame.fin:  # as nearly all are
            self.messages += 1
        elif frame.opcode is PING or frame.opcode is PONG:
            if not self._allow_control():
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

    def _allow_control(self) -> bool:
        now = self._clock()
        self._control = min(CONTROL_BURST, self._control + (now - self._controlled) * CONTROL_RATE) - 1
        self._controlled = now
        return self._control >= 0

    def _allow_fragment(self, frame: Frame) -> bool:
        if frame.opcode is not CONT:
            self._fragments = self._empty = 0
        self._fragments += 1
        self._empty += not frame.data
        return self._fragments <= MAX_FRAGMENTS and self._empty <= MAX_EMPTY

    def _refuse(self, name: str, why: str) -> None:
        self.refused = name
        self.fail(POLICY, why)
