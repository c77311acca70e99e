"""A response that goes on, as the application's listener has it: an event stream after its header."""

from __future__ import annotations

import asyncio
from typing import Protocol

from handrail.edge.channel import Channel
from handrail.edge.shared import Shared
from handrail.edge.websocket import GONE

HEAD = b"HTTP/1.1 200 OK\r\n"
COMMENT = b"3\r\n:\n\n\r\n"
END = b"0\r\n\r\n"


class Listener(Protocol):
    """The application's end; as that of a WebSocket, but nothing is said to it."""

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def ended(self, code: int) -> None: ...


class EventStream(asyncio.Protocol):
    """Begins with the fields of the header. A comment now and then keeps proxies from closing it while it is quiet."""

    __slots__ = ("_channel", "_listener", "_shared", "_slot")

    def __init__(self, shared: Shared, channel: Channel, listener: Listener, fields: list[tuple[bytes, bytes]]) -> None:
        self._shared = shared
        self._channel = channel
        self._listener: Listener | None = listener
        self._slot = shared.comments.join(self)
        shared.connections.add(self)
        channel.set_protocol(self)
        own = (b"transfer-encoding", b"chunked"), (b"connection", b"close")
        channel.write(b"".join([HEAD, *(b"%b: %b\r\n" % field for field in (*fields, *own)), b"\r\n"]))

    def write(self, chunks: bytes) -> None:
        """Send whole chunks; after the end nothing is."""
        if self._listener is not None:
            self._channel.write(chunks)

    def close(self) -> None:
        self.write(END)
        self._end()
        self._channel.close()

    def abort(self) -> None:
        self._channel.abort()

    def beat(self) -> None:
        self.write(COMMENT)

    def data_received(self, data: bytes) -> None:
        """What is said beside a stream is of no interest."""
        self._channel.received(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel.lost(exc)
        self._shared.connections.discard(self)
        self._end()

    def pause_writing(self) -> None:
        if self._listener is not None:
            self._listener.pause_writing()

    def resume_writing(self) -> None:
        if self._listener is not None:
            self._listener.resume_writing()

    def shutdown(self) -> None:
        self.close()

    def _end(self) -> None:
        listener, self._listener = self._listener, None
        self._shared.comments.leave(self, self._slot)
        if listener is not None:
            listener.ended(GONE)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
