"""One peer's transport, with bounds that hold in both directions and an end that is certain.

What leaves is counted, so that what the peer has not taken has an age: `close` alone would wait for ever until it is
taken, and a peer that takes a little now and then evades the kernel's timeout. What comes may be held to a rate.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio import BaseProtocol, TimerHandle
from contextlib import suppress
from typing import Any

from handrail.edge.shared import Shared

WRITE_HIGH = 32 * 1024  # bytes waiting here, above the kernel's, from which on writers wait
PLAIN_PATIENCE = 60  # seconds that a response may wait to be taken: some 2 kB/s is enough
LIVE_PATIENCE = 10  # seconds for what is live: older than that, it is of no use on a page
LINGER = 2.0  # seconds that a live connection may take to take its last words
PART_WITHIN = 1.0  # seconds for a peer that was refused to hear so and go
PART_BYTES = 1024 * 1024  # how much more of such a peer is read and dropped
RATE = 1024 * 1024  # bytes a second of one WebSocket: what a page sends in a day
BURST = 1024 * 1024  # bytes at once, for a queue that was long offline


class Channel(asyncio.Transport):
    __slots__ = (
        "_allowance",
        "_closing",
        "_gone",
        "_marks",
        "_metered",
        "_parting",
        "_patience",
        "_paused",
        "_shared",
        "_spare",
        "_throttle",
        "_transport",
        "_written",
    )

    def __init__(self, transport: asyncio.Transport, shared: Shared) -> None:
        self._transport = transport
        self._shared = shared
        self._patience = PLAIN_PATIENCE
        self._gone = False
        self._written = 0
        self._marks: list[int] | None = None  # what had been written at the latest looks, oldest first
        self._closing: TimerHandle | None = None
        self._parting: TimerHandle | None = None
        self._spare = PART_BYTES
        self._paused = False
        self._throttle: TimerHandle | None = None
        self._allowance = float(BURST)
        self._metered = 0.0
        transport.set_write_buffer_limits(high=WRITE_HIGH)

    @property
    def reads(self) -> bool:
        """Whether the peer is listened to at present."""
        return not self._paused and self._throttle is None

    def go_live(self) -> None:
        """From now on what is written is for a page that shows it."""
        self._patience = LIVE_PATIENCE

    def lost(self, fault: Exception | None) -> None:
        """The connection is no more."""
        self._gone = True
        if isinstance(fault, TimeoutError):
            self._shared.counts.add("cut_stalled_readers")
        self._shared.watch.writers.discard(self)
        for timer in (self._closing, self._parting, self._throttle):
            if timer is not None:
                timer.cancel()

    # --- what leaves ---

    def write(self, data: Any) -> None:
        """Never raises: one peer's end must not stop whoever writes to many."""
        if self._gone or self._parting is not None:
            return
        self._written += len(data)
        self._transport.write(data)
        self._shared.watch.writers.add(self)

    def look(self) -> bool:
        """See what the peer has not taken, and how old it is: whether to look again."""
        left = self._transport.get_write_buffer_size()
        if not left:
            self._marks = None
            return False
        marks = self._marks = self._marks or []
        if len(marks) >= self._patience and self._written - left < marks.pop(0):
            self._shared.counts.add("cut_slow_readers")
            self.abort()
            return False
        marks.append(self._written)
        return True

    # --- what comes ---

    def received(self, size: int) -> None:
        """Count what came of a peer that is held to a rate: one that is faster is not read for a while."""
        now = self._shared.loop.time()
        self._allowance = min(BURST, self._allowance + (now - self._metered) * RATE) - size
        self._metered = now
        if self._allowance < 0 and self._throttle is None and not self._gone:
            self._shared.counts.add("ws_throttled")
            self._transport.pause_reading()
            self._throttle = self._shared.loop.call_later(-self._allowance / RATE, self._read_on)

    def _read_on(self) -> None:
        self._throttle = None
        if not self._paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def pause_reading(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if self._throttle is None:
            self._transport.resume_reading()

    # --- the end ---

    def close(self) -> None:
        if self._parting is not None:
            return  # it ends soon, in its own way
        self._transport.close()
        live = self._patience == LIVE_PATIENCE
        if live and not self._gone and self._closing is None and self._transport.get_write_buffer_size():
            self._closing = self._shared.loop.call_later(LINGER, self.abort)

    def part(self) -> None:
        """End with a peer that may be in full flow: to close on what it still sends would reset the connection, and the
        last words would be lost."""
        if self._gone or self._parting is not None:
            return
        self._parting = self._shared.loop.call_later(PART_WITHIN, self.abort)
        with suppress(OSError):  # who has gone resets the connection at the last words
            self._transport.write_eof()
        self._transport.resume_reading()

    def ignores(self, size: int) -> bool:
        """Whether what came is of no interest, because the peer was told to go."""
        if self._parting is None:
            return False
        self._spare -= size
        if self._spare < 0:
            self.abort()
        return True

    def abort(self) -> None:
        """End at once, for the kernel too, which else would go on offering what it has."""
        if not self._gone and (peer := self._transport.get_extra_info("socket")) is not None:
            with suppress(OSError):  # it may have closed at this moment
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # --- as it is ---

    def is_closing(self) -> bool:
        return self._parting is not None or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def set_protocol(self, protocol: BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> BaseProtocol:
        return self._transport.get_protocol()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()
