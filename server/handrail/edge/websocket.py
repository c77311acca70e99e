"""One WebSocket after its handshake, as the application's listener has it.

Nearly all that comes is a whole message in one masked text frame: it is taken straight from the bytes. Anything else
(fragments, control frames, frames that are not complete or not right) goes to the library's state machine, which is
made for it, is given all that follows, and is let go when nothing is unfinished; an idle connection has none. What
leaves is whole frames, written as they are.
"""

from __future__ import annotations

import asyncio
import secrets
from asyncio import TimerHandle
from typing import Protocol

from websockets.frames import BINARY, CLOSE, PONG, TEXT, Frame
from websockets.speedups import apply_mask

from handrail.edge.channel import Channel
from handrail.edge.frames import POLICY, Allowance, Frames
from handrail.edge.shared import Shared

MAX_MESSAGE = 64 * 1024  # bytes of one WebSocket message; an event may have a quarter of that
MESSAGE_WITHIN = 10.0  # seconds from the first byte of a message to its last: 64 kB at 64 kbit/s take eight
CLOSE_WITHIN = 2.0  # seconds for the peer to answer a goodbye
TURN = 16  # messages of one connection before others have theirs
PIECE = 1024  # bytes, of what goes to the library: it can be a frame to every six
INVALID_TEXT = 1007
GONE = 1006  # without a goodbye
RESTART = 1012
SILENT = 1011
_BRANCHES = {1002: "ws_refused_frames", INVALID_TEXT: "ws_refused_text", 1009: "ws_refused_size"}


class Listener(Protocol):
    """The application's end. It is never told anything more once it `ended`."""

    def text(self, data: bytes) -> None:
        """A message, whole and in UTF-8."""

    def binary(self, data: bytes) -> None: ...

    def pause_writing(self) -> None:
        """What was written is not taken; what is written now piles up."""

    def resume_writing(self) -> None: ...

    def ended(self, code: int) -> None:
        """The conversation is over, whoever ended it."""


class WebSocket(asyncio.Protocol):
    """`pause_reading` holds back what has come already, too."""

    __slots__ = (
        "_awaited",
        "_channel",
        "_closing",
        "_control",
        "_frames",
        "_held",
        "_later",
        "_listener",
        "_paused",
        "_shared",
        "_slot",
        "_unfinished",
    )
    message_within = MESSAGE_WITHIN

    def __init__(self, shared: Shared, channel: Channel, listener: Listener) -> None:
        self._shared = shared
        self._channel = channel
        self._listener: Listener | None = listener
        self._frames: Frames | None = None
        self._control: Allowance | None = None
        self._held = b""  # what came and has to wait
        self._later: list[Frame] = []  # before that, what came in other than the usual frames
        self._paused = False
        self._awaited = b""  # what the peer's pong is to say
        self._closing: TimerHandle | None = None
        self._unfinished: TimerHandle | None = None
        self._slot = shared.pings.join(self)
        shared.connections.add(self)
        channel.go_live()

    # --- for the application ---

    def write(self, frames: bytes) -> None:
        """Send whole frames; after the goodbye nothing is."""
        if self._listener is not None:
            self._channel.write(frames)

    def close(self, code: int, reason: str) -> None:
        if self._listener is None:
            return
        frames = self._state()
        frames.send_close(code, reason)
        self._say(frames)
        self._end(code)
        self._closing = self._shared.loop.call_later(CLOSE_WITHIN, self._channel.close)
        self.resume_reading()

    def abort(self) -> None:
        self._channel.abort()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        if self._held or self._later or not self._channel.reads:
            self._shared.loop.call_soon(self._go_on)

    # --- what comes ---

    def data_received(self, data: bytes) -> None:
        channel = self._channel
        if channel.ignores(len(data)):
            return
        channel.received(len(data))
        if self._paused or self._held or self._later:
            self._hold(data)
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Hand over usual frames; from the first that is not, the library has the rest."""
        at, size, turn = 0, len(data), TURN
        while size - at >= 6 and self._frames is None and data[at] == 0x81:
            if self._paused or not turn:
                return self._hold(data[at:])
            length, body = data[at + 1] & 0x7F, at + 6
            if length == 126 and size - at >= 8:
                length, body = int.from_bytes(data[at + 2 : at + 4]), at + 8
            elif length > 125:
                break
            end = body + length
            if end > size or data[at + 1] < 0x80:
                break
            self._tell_text(apply_mask(data[body:end], data[body - 4 : body]))
            at, turn = end, turn - 1
        if at < size and not self._channel.ignores(size - at):
            self._digest(data[at : at + PIECE])
            if size > at + PIECE and not self._channel.is_closing():
                self._hold(data[at + PIECE :])

    def _tell_text(self, data: bytes) -> None:
        if not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError:
                return self._refuse(INVALID_TEXT, "invalid UTF-8", _BRANCHES[INVALID_TEXT])
        if self._listener is not None:
            self._listener.text(data)

    def _digest(self, data: bytes) -> None:
        """Have the library take it."""
        if self._paused:
            return self._hold(data)
        frames = self._state()
        frames.receive_data(data)
        if frames.parser_exc is None and frames.refused is None and frames.close_rcvd is None:
            self._say(frames)
        self._later = list(frames.received())
        self._tell_on()
        if self._channel.is_closing():
            return
        if frames.refused is not None:
            self._part(frames.refused)
        elif frames.parser_exc is not None:
            self._part(_BRANCHES.get(frames.close_sent.code if frames.close_sent else 0, "ws_refused_frames"))
        elif frames.unfinished:
            self._await_rest(frames)
        elif self._listener is not None and frames.close_rcvd is None:
            self._frames = None

    def _tell_on(self) -> None:
        later = self._later
        while later and not self._paused:
            frame = later.pop(0)
            if frame.opcode is TEXT:
                self._tell_text(bytes(frame.data))
            elif frame.opcode is BINARY and self._listener is not None:
                self._listener.binary(bytes(frame.data))
            elif frame.opcode is PONG and frame.data == self._awaited:
                self._awaited = b""
            elif frame.opcode is CLOSE:
                self._close_too()
        if later:
            self._channel.pause_reading()

    def _hold(self, data: bytes) -> None:
        """Keep it for `_go_on`, and have the kernel keep what follows."""
        self._held += data
        self._channel.pause_reading()
        if not self._paused:
            self._shared.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._tell_on()
        if self._paused or self._later or self._channel.is_closing():
            return
        data, self._held = self._held, b""
        if data:
            self._take(data)
        if not self._held and not self._later:
            self._channel.resume_reading()

    # --- what takes too long ---

    def beat(self) -> None:
        """Ask whether the peer is there, who had the time since the last beat to say so."""
        if self._listener is None or not self._channel.reads:
            return
        if self._awaited:
            self._shared.counts.add("ws_closed_silent")
            frames = self._state()
            frames.fail(SILENT, "keepalive ping timeout")
            self._say(frames)
            self._end(SILENT)
            self._channel.close()
        else:
            self._awaited = secrets.token_bytes(4)
            self._channel.write(b"\x89\x04" + self._awaited)

    def _await_rest(self, frames: Frames) -> None:
        if self._unfinished is None:
            self._unfinished = self._shared.loop.call_later(self.message_within, self._look, frames, frames.messages)

    def _look(self, then: Frames, messages: int) -> None:
        """A while ago a message was unfinished, the one after so many."""
        self._unfinished = None
        frames = self._frames
        if frames is None or not frames.unfinished or self._listener is None:
            return
        if frames is not then or frames.messages > messages or not self._channel.reads:  # another, or we do not listen
            self._await_rest(frames)
        else:
            self._refuse(POLICY, "unfinished message", "ws_refused_unfinished")

    # --- the end ---

    def _close_too(self) -> None:
        """Answer a goodbye, after all that was said before it."""
        assert self._frames is not None
        rcvd = self._frames.close_rcvd
        self._say(self._frames)
        self._channel.close()
        self._end(rcvd.code if rcvd is not None else GONE)

    def _refuse(self, code: int, why: str, name: str) -> None:
        self._state().fail(code, why)
        self._part(name)

    def _part(self, name: str) -> None:
        """Send what is ready, last of all why, and go."""
        frames = self._state()
        self._shared.counts.add(name)
        self._say(frames)
        self._channel.part()
        self._end(frames.close_sent.code if frames.close_sent is not None else GONE)

    def _end(self, code: int) -> None:
        listener, self._listener = self._listener, None
        self._shared.pings.leave(self, self._slot)
        if listener is not None:
            listener.ended(code)

    def _state(self) -> Frames:
        if self._frames is None:
            self._control = self._control or Allowance(self._shared.loop.time)
            self._frames = Frames(self._control, max_size=MAX_MESSAGE)
        return self._frames

    def _say(self, frames: Frames) -> None:
        if said := b"".join(frames.data_to_send()):
            self._channel.write(said)

    # --- for the loop and the server ---

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel.lost(exc)
        self._shared.connections.discard(self)
        for timer in (self._closing, self._unfinished):
            if timer is not None:
                timer.cancel()
        self._end(GONE)

    def pause_writing(self) -> None:
        if self._listener is not None:
            self._listener.pause_writing()

    def resume_writing(self) -> None:
        if self._listener is not None:
            self._listener.resume_writing()

    def shutdown(self) -> None:
        self.close(RESTART, "")
        self._channel.close()
