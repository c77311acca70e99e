"""A WebSocket client that does as little as it can, so that what is measured is the server.

The handshake is written by hand and messages are not decoded: their type stands at a known place. It answers the
server's pings, so a connection may stay as long as it likes.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from time import perf_counter
from typing import Any, cast

import msgspec

TEXT, PING, PONG = 1, 9, 10
UPGRADED = "101"  # a type no message has
_encode = msgspec.json.Encoder().encode


class Client(asyncio.Protocol):
    """One connection. `heard` is called with the type of every message and the message."""

    __slots__ = ("_arrivals", "_buffer", "_transport", "_upgraded", "closed", "heard")

    def __init__(self) -> None:
        self.heard: Callable[[str, bytes], None] | None = None
        self._arrivals: dict[str, asyncio.Future[float]] = {}
        self._buffer = b""
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        key = base64.b64encode(os.urandom(16)).decode()
        head = "GET /updates HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        rest = f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: handrail.v1\r\n\r\n"
        self._transport.write((head + rest).encode())

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        for future in self._arrivals.values():
            if not future.done():
                future.set_exception(ConnectionError(f"the server closed the connection ({exc or 'without a fault'})"))
                future.exception()  # one that nobody awaits any more is no news

    def data_received(self, data: bytes) -> None:
        arrived = perf_counter()
        data = self._buffer + data if self._buffer else data
        if not self._upgraded:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self._buffer = data
                return
            assert data.startswith(b"HTTP/1.1 101 "), data
            self._upgraded, data = True, data[end:]
            self._arrivals.pop(UPGRADED).set_result(arrived)
        self._buffer = self._read(data, arrived)

    def _read(self, data: bytes, arrived: float) -> bytes:
        """Take whole frames; what is left is the beginning of another."""
        start = 0
        while (found := frame_at(data, start)) is not None:
            opcode, body, end = found
            self._take(opcode, data[body:end], arrived)
            start = end
        return data[start:]

    def _take(self, opcode: int, payload: bytes, arrived: float) -> None:
        if opcode == PING:
            self._write(PONG, payload)
        elif opcode == TEXT:
            kind = payload[9 : payload.index(b'"', 9)].decode()  # after {"type":"
            future = self._arrivals.pop(kind, None)
            if future is not None and not future.done():
                future.set_result(arrived)
            if self.heard is not None:
                self.heard(kind, payload)

    def _write(self, opcode: int, payload: bytes) -> None:
        assert self._transport is not None
        self._transport.write(frame(opcode, payload))

    # --- for measurements ---

    def send(self, message: dict[str, Any]) -> None:
        self._write(TEXT, _encode(message))

    def arrival(self, kind: str) -> asyncio.Future[float]:
        """When the next message of this type arrives, as `perf_counter` has it; one waiter a type."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        if self.closed:
            future.set_exception(ConnectionError("the connection is closed"))
        self._arrivals[kind] = future
        return future

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def frame_at(data: bytes, start: int) -> tuple[int, int, int] | None:
    """(opcode, where its payload begins, where it ends) of the whole frame at `start`, or None. Servers do not mask."""
    if len(data) < start + 2:
        return None
    size, body = data[start + 1], start + 2
    if size >= 126:
        wide = 2 if size == 126 else 8
        size, body = int.from_bytes(data[body : body + wide]), body + wide
    return (data[start] & 15, body, body + size) if len(data) >= body + size else None


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame under 64 KiB. The mask is zero: the server's work is the same, ours is less."""
    size = len(payload)
    length = bytes((128 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes((128 | opcode,)) + length + bytes(4) + payload


async def dial(port: int, user: str) -> Client:
    """Connect, say hello as this user, and return when welcomed."""
    client = Client()
    upgraded, welcomed = client.arrival(UPGRADED), client.arrival("welcome")
    await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", port)
    await upgraded
    client.send({"type": "hello", "user_id": user})
    await welcomed
    return client
