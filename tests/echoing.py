"""A server whose application gives back what it gets, on the protocols and loop of the real one, and raw peers of it.

What a peer sends is bytes, so that it can be wrong in every way.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from websockets.frames import Frame, Opcode

from handrail import edge
from handrail.counts import Counts
from handrail.edge.counting import lend_counts
from handrail.edge.frames import frame_text
from handrail.edge.sockets import harden
from handrail.edge.websocket import WebSocket

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
HANDSHAKE = (
    b"GET /updates HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
PATIENCE = 10.0  # seconds that a peer waits for the server


class Echo:
    """The application; `counts` is what the protocols counted, `closed` the codes that the application was told and
    `sockets` what it was given."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.closed: list[int] = []
        self.sockets: list[WebSocket] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            lend_counts(scope["state"], self.counts)
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await self._talk(scope, receive, send)
        else:
            await _answer(scope, receive, send)

    async def _talk(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/never":
            self.closed.append((await receive())["code"])
        elif scope["path"] == "/plain":
            await send({"type": "websocket.accept"})
        else:
            echoes = {"/slow": Slow, "/brief": Brief}.get(scope["path"], Echoes)(self.closed)
            echoes.socket = scope["extensions"]["handrail.frames"](echoes, None)
            self.sockets.append(echoes.socket)


class Echoes:
    """Says what is said."""

    socket: WebSocket

    def __init__(self, closed: list[int]) -> None:
        self._closed = closed

    def text(self, data: bytes) -> None:
        self.socket.write(frame_text(data))

    def binary(self, data: bytes) -> None:
        self.socket.write(Frame(Opcode.BINARY, data).serialize(mask=False))

    def pause_writing(self) -> None:
        self.socket.pause_reading()

    def resume_writing(self) -> None:
        self.socket.resume_reading()

    def ended(self, code: int) -> None:
        self._closed.append(code)


class Slow(Echoes):
    """Takes a message only now and then."""

    def text(self, data: bytes) -> None:
        super().text(data)
        self._rest()

    def binary(self, data: bytes) -> None:
        super().binary(data)
        self._rest()

    def _rest(self) -> None:
        self.socket.pause_reading()
        asyncio.get_running_loop().call_later(0.001, self.socket.resume_reading)


class Brief(Echoes):
    """Has heard enough after one message."""

    def text(self, data: bytes) -> None:
        super().text(data)
        self.socket.close(4000, "enough")


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    """How many bytes came; with `?N`, so many bytes."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    body = b"x" * int(scope["query_string"]) if scope["query_string"] else b"%d" % size
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


class Ground:
    def __init__(self, port: int, echo: Echo) -> None:
        self.port = port
        self.echo = echo

    @property
    def counts(self) -> dict[str, int]:
        return self.echo.counts.totals


@contextmanager
def echoing(**options: Any) -> Iterator[Ground]:
    """`options` are uvicorn's, over those of the edge."""
    echo = Echo()
    with harden(socket.create_server(("127.0.0.1", 0))) as listening:
        config = uvicorn.Config(echo, log_config=None, log_level="error", **{**edge.options(), **options})
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        port = listening.getsockname()[1]
        thread.start()
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as probe:
                probe.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert probe.recv(12) == b"HTTP/1.1 200"
            yield Ground(port, echo)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


class Peer:
    """One raw connection."""

    def __init__(self, port: int, *, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self._read = b""

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all, or as much as a server that has gone lets one send."""
        with suppress(ConnectionError):
            self.socket.sendall(data)

    def pause(self, seconds: float) -> None:
        """Say nothing for a while; the server must not say anything either."""
        self.socket.settimeout(seconds)
        with suppress(TimeoutError):
            self._read += self.socket.recv(1)
        self.socket.settimeout(PATIENCE)

    def upgrade(self, *fields: bytes, path: bytes = b"/updates") -> bytes:
        """Ask for a WebSocket; the status line."""
        self.send(HANDSHAKE.replace(b"/updates", path) + b"".join(field + b"\r\n" for field in fields) + b"\r\n")
        return self.head()

    def head(self) -> bytes:
        """The status line of an answer, whose header is then read; nothing if the server closes instead."""
        while b"\r\n\r\n" not in self._read:
            if not (data := self._take()):
                return b""
            self._read += data
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        return head.partition(b"\r\n")[0]

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """(opcode, payload) of what the server sends until it closes."""
        while (head := self._exact(2)) is not None:
            size = head[1]
            if size == 126:
                (size,) = struct.unpack("!H", self._exact(2) or b"\0\0")
            elif size == 127:
                (size,) = struct.unpack("!Q", self._exact(8) or b"\0" * 8)
            payload = self._exact(size)
            if payload is None:
                return
            yield head[0] & 15, payload

    def rest(self) -> bytes:
        """All until the server closes."""
        while data := self._take():
            self._read += data
        return self._read

    def _exact(self, size: int) -> bytes | None:
        while len(self._read) < size:
            if not (data := self._take()):
                return None
            self._read += data
        taken, self._read = self._read[:size], self._read[size:]
        return taken

    def _take(self) -> bytes:
        try:
            return self.socket.recv(65_536)
        except ConnectionError:
            return b""


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    key: bytes | None = b"\x37\xfa\x21\x3d",
    form: int = 0,
    size: int | None = None,
) -> bytes:
    """A client's frame. `form` 126 or 127: the length written that long; `size`: claims another; no `key`: unmasked."""
    size = len(payload) if size is None else size
    form = form or (size if size < 126 else 126 if size < 65_536 else 127)
    length = {126: struct.pack("!H", size & 0xFFFF), 127: struct.pack("!Q", size)}.get(form, b"")
    head = bytes([(128 if fin else 0) | reserved << 4 | opcode, (128 if key is not None else 0) | form]) + length
    if key is None:
        return head + payload
    stream = key * (len(payload) // 4 + 1)
    return head + key + bytes(a ^ b for a, b in zip(payload, stream, strict=False))


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)
