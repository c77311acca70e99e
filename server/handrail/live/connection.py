"""One open connection as the server sees it: a cursor into the user's numbered messages, and a small outgoing buffer.

States: *attached* (not greeted: nothing numbered is taken), *live* (commits are handed over as they happen) and *stale*
(there may be messages after the cursor that only the store has; the hub reads them). What does not fit into the buffer
is left in the store and makes the connection stale until the reader has caught up. *Lost* means that the store cannot
continue at the cursor: the connection is greeted again, with a snapshot.

What one turn of the event loop has for a connection leaves in one write. While the peer does not take what was written
the connection is *blocked*, and keeps the rest here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from handrail.core.frames import Ack, Error, encode
from handrail.core.inputs import BadInput
from handrail.limits import TooMuch
from handrail.turns import Frame

MAX_PENDING = 256  # messages
MAX_BYTES = 64 * 1024

DRAINING = 4001
TOO_SLOW = 4002
IDLE = 4003
STORE_AWAY = 4004
TOO_MUCH = 4005
BAD_TOKEN = 4500
BAD_ORIGIN = 4502
TOO_MANY = 4503
KNOWN_VISITOR = 4504
CORRUPT_STATE = 4505


class Out:
    """A message on its way out. `offset` is its position in `epoch`, -1 where it has none. As it is on the wire it is
    made by the first transport of a kind that needs it, and is then the same for all."""

    __slots__ = ("data", "epoch", "framed", "lined", "offset")

    def __init__(self, data: bytes, offset: int = -1, epoch: str = "") -> None:
        self.data = data
        self.offset = offset
        self.epoch = epoch
        self.framed = b""  # as a frame of a WebSocket, once somebody needed it
        self.lined = b""  # as an event of a stream, likewise


class Transport(Protocol):
    @property
    def name(self) -> str: ...

    def write(self, batch: list[Out]) -> None:
        """Send these in order. Tells the connection when the peer does not take it (`block`), and when it does."""

    def close(self, code: int, reason: str, reconnect_ms: int) -> None:
        """Say goodbye."""

    def abort(self) -> None:
        """End the conversation now, whatever is unsent."""

    def pause_reading(self) -> None:
        """Hold back what the peer says, also what is here already."""

    def resume_reading(self) -> None: ...


class Watcher(Protocol):
    """Who calls `flush` soon, and is told when a peer stops taking what was written and when it has all of it."""

    def flush_soon(self, connection: Connection) -> None: ...

    def blocked(self, connection: Connection) -> None: ...

    def drained(self, connection: Connection) -> None: ...


class Connection:
    __slots__ = (
        "_ack",
        "_blocked",
        "_bytes",
        "_closing",
        "_due",
        "_pending",
        "_transport",
        "_watcher",
        "cursor",
        "epoch",
        "expires",
        "greeted",
        "id",
        "issued",
        "lost",
        "on_forgotten",
        "seen",
        "since",
        "stale",
        "user",
    )

    def __init__(self, identity: str, transport: Transport, watcher: Watcher) -> None:
        self.id = identity
        self.user = ""
        self.epoch = ""
        self.cursor = 0  # the last offset taken into the buffer
        self.seen = 0  # the last offset the client says its user has seen
        self.greeted = False
        self.stale = False
        self.lost = False
        self.on_forgotten: Callable[[], None] | None = None  # called when the store no longer knows of it
        self.issued = 0  # ms since the epoch: when its token was issued, or it was let in without one
        self.expires = 0  # and when that token expires, 0 for never
        self.since = 0.0  # loop time since when the peer takes nothing
        self._transport = transport
        self._watcher = watcher
        self._pending: list[Out] = []
        self._bytes = 0
        self._ack: str | None = None
        self._closing: tuple[int, str, int] | None = None
        self._due = False  # a flush is
        self._blocked = False

    def expires_in(self, now: int) -> int | None:
        """Seconds for which its token is still good; None where it needs none."""
        return max(0, self.expires - now) // 1000 if self.expires else None

    # --- what there is to send ---

    def greet(self, welcome: bytes, epoch: str, offset: int) -> None:
        """Start over at a position: what follows it comes next. What is acknowledged by now goes ahead of the welcome:
        behind one of a new epoch it would vouch for what only the old one may have had."""
        if (acknowledged := self._take_ack()) is not None:
            self._put(acknowledged)
        self.epoch, self.cursor = epoch, offset
        self.greeted, self.lost = True, False
        self._put(Out(welcome, offset, epoch))

    def push(self, data: bytes) -> None:
        """Send a message without a number."""
        self._put(Out(data))

    def error(self, fault: BadInput, event: str | None = None) -> None:
        more: dict[str, Any] = {} if event is None else {"id": event}
        if isinstance(fault, TooMuch):
            more["retry_ms"] = math.ceil(fault.wait * 1_000)
        self.push(encode(Error(code=fault.code, message=fault.message, fix=fault.fix, **more)))

    def acknowledge(self, event: str) -> None:
        """The store has this event and all before it; of several acknowledgements the newest is sent."""
        if self._closing is None:
            self._ack = event
            self._flush_soon()

    def offer(self, epoch: str, messages: Iterable[Out], head: int) -> bool:
        """A commit happened here and the user's messages now reach up to `head`: whether it cannot follow them."""
        if not self.greeted or self.stale or self.lost:
            self.stale = self.stale or self.cursor < head
        elif epoch != self.epoch:
            self.lost = True
        else:
            self._follow(messages)
            self.stale = self.cursor < head
        return self.stale or self.lost

    def take(self, frames: list[Frame], head: int) -> None:
        """What the store has after the cursor; `head` is how far it must reach, as known before it was asked. A frame
        without data only moves the cursor."""
        wanted = [frame for frame in frames if frame[0] > self.cursor]
        if wanted[0][0] != self.cursor + 1 if wanted else self.cursor < head:
            self.lost = True
        else:
            self._follow(Out(data, offset, self.epoch) for offset, data in wanted)

    def _follow(self, messages: Iterable[Out]) -> None:
        pending = self._pending
        for out in messages:
            if out.offset == self.cursor + 1 and self._bytes < MAX_BYTES and len(pending) < MAX_PENDING:
                self.cursor = out.offset
                if out.data and self._closing is None:
                    pending.append(out)
                    self._bytes += len(out.data)
        if pending and not self._due:
            self._due = True
            self._watcher.flush_soon(self)

    @property
    def transport(self) -> str:
        return self._transport.name

    @property
    def has_room(self) -> bool:
        return self._bytes < MAX_BYTES and len(self._pending) < MAX_PENDING

    @property
    def is_crowded(self) -> bool:
        """Whether the peer is so far behind that it should not be heard: it could make us pile up answers."""
        return self._blocked and len(self._pending) > MAX_PENDING // 4

    @property
    def behind(self) -> bool:
        """Whether the hub should read the store for this connection now."""
        return self.greeted and (self.stale or self.lost) and self.has_room and self._closing is None

    # --- sending it ---

    @property
    def closing(self) -> bool:
        return self._closing is not None

    def finish(self, code: int, reason: str, reconnect_ms: int = 0) -> None:
        """Close with this code once what is pending was written."""
        if self._closing is None:
            self._closing = (code, reason, reconnect_ms)
            self._flush_soon()

    def cut(self) -> None:
        """Give up on a reader that takes nothing."""
        self._pending, self._bytes, self._ack = [], 0, None
        self._closing = (TOO_SLOW, "too slow", 0)
        self._transport.abort()

    def block(self) -> None:
        """The peer does not take what was written."""
        self._blocked = True
        self._watcher.blocked(self)

    def unblock(self) -> None:
        self._blocked = False
        self.flush()
        self._watcher.drained(self)

    def flush(self) -> None:
        self._due = False
        if self._blocked and self._closing is None:
            return
        batch = self._pending
        if self._ack is not None and (acknowledged := self._take_ack()) is not None:
            batch.append(acknowledged)
        if batch:
            self._pending, self._bytes = [], 0
            self._transport.write(batch)
        if self._closing is not None:
            self._transport.close(*self._closing)
        elif (self.stale or self.lost) and not self._blocked:
            self._watcher.drained(self)

    def _take_ack(self) -> Out | None:
        event, self._ack = self._ack, None
        return None if event is None else Out(encode(Ack(up_to=event)))

    def _put(self, out: Out) -> None:
        if self._closing is not None:
            return
        if len(self._pending) >= 2 * MAX_PENDING:  # answers to a peer that asks and does not read
            self.finish(TOO_SLOW, "too slow")
            return
        self._pending.append(out)
        self._bytes += len(out.data)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._due:
            self._due = True
            self._watcher.flush_soon(self)


def name_kind(data: bytes) -> str:
    """The `type` of an encoded message: the encoder writes it first."""
    return data[9 : data.index(b'"', 9)].decode()
