"""A request for a WebSocket, from its header to the answer.

The application is asked as ASGI has it, and may refuse as ASGI has it. To accept, it calls what it finds in the scope's
extensions under `handrail.frames` with its listener and a subprotocol: that answers the request and gives back the
open WebSocket, which needs the application's coroutine no more. A request that is as all browsers send it is answered
here; the library judges any other.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from asyncio import Future, Task
from binascii import Error as Invalid
from binascii import a2b_base64
from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote

import structlog
from starlette.types import ASGIApp
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol

from handrail.edge.channel import Channel
from handrail.edge.refusals import Reply, compose_reply
from handrail.edge.shared import Shared
from handrail.edge.websocket import GONE, Listener, WebSocket

EXTENSION = "handrail.frames"
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "

log = structlog.get_logger(__name__)
Fields = list[tuple[bytes, bytes]]
Message = MutableMapping[str, Any]


class Handshake(asyncio.Protocol):
    """`scope` is what the HTTP protocol knows of the request, `url` as it was asked for, `more` the fields that every
    answer of the server has."""

    __slots__ = ("_answer", "_answered", "_asked", "_channel", "_key", "_lost", "_more", "_shared", "_socket")

    def __init__(self, shared: Shared, channel: Channel, socket: type[WebSocket], more: Fields) -> None:
        self._shared = shared
        self._channel = channel
        self._socket = socket
        self._more = more
        self._key = b""
        self._asked = False
        self._answered = False
        self._answer: Reply | None = None  # of a refusal, as far as it is known
        self._lost: Future[None] | None = None
        shared.connections.add(self)

    def begin(self, application: ASGIApp, scope: Mapping[str, Any], url: bytes) -> Task[None] | None:
        """Ask the application, if this is a request for a WebSocket."""
        self._channel.set_protocol(self)
        headers: Fields = scope["headers"]
        self._key = find_key(scope["method"], scope["http_version"], headers) or self._judge(scope, url)
        if not self._key:
            return None
        path, _, query = url.partition(b"?")
        asked = {
            **scope,
            "type": "websocket",
            "scheme": "wss" if scope["scheme"] == "https" else "ws",
            "path": scope["root_path"] + unquote(path.decode("latin-1")),
            "raw_path": scope["root_path"].encode("ascii") + path,
            "query_string": query,
            "subprotocols": [part.strip() for part in _all(headers, b"sec-websocket-protocol")],
            "extensions": {"websocket.http.response": {}, EXTENSION: self._accept},
        }
        return self._shared.loop.create_task(self._run(application, asked))

    def _judge(self, scope: Mapping[str, Any], url: bytes) -> bytes:
        """What the library makes of the request: the key, or nothing when it is refused."""
        headers = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]])
        version = f"HTTP/{scope['http_version']}"
        request = Request(url.decode("latin-1"), headers, scope["method"], version)
        response = ServerProtocol().accept(request)
        if response.status_code == 101:
            return headers["Sec-WebSocket-Key"].encode()
        self._shared.counts.add("ws_refused_handshake")
        self._channel.write(response.serialize())
        self._part()
        return b""

    async def _run(self, application: ASGIApp, scope: Message) -> None:
        try:
            await application(scope, self._receive, self._send)
        except Exception:  # the rim of the application
            log.exception("the application failed at a handshake")
        if not self._answered and self._answer is None:
            self._refuse(Reply(500, [], b"Internal Server Error"))

    # --- what the application does ---

    def _accept(self, listener: Listener, subprotocol: str | None) -> WebSocket | None:
        """None when the peer is gone."""
        if self._answered or self._channel.is_closing():
            return None
        self._answered = True
        self._shared.connections.discard(self)
        chosen = [] if subprotocol is None else [(b"Sec-WebSocket-Protocol", subprotocol.encode())]
        lines = [b"%b: %b\r\n" % field for field in (*self._more, *chosen)]
        accept = base64.b64encode(hashlib.sha1(self._key + _MAGIC, usedforsecurity=False).digest())
        self._channel.write(b"".join([_HEAD, accept, b"\r\n", *lines, b"\r\n"]))
        socket = self._socket(self._shared, self._channel, listener)
        self._channel.set_protocol(socket)
        return socket

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        if self._lost is None:
            self._lost = self._shared.loop.create_future()
            if self._answered:
                self._lost.set_result(None)
        await self._lost
        return {"type": "websocket.disconnect", "code": GONE}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._answered:
            raise OSError("the handshake is over")
        if kind == "websocket.close":
            self._refuse(Reply(403, [], b""))
        elif kind == "websocket.http.response.start" and self._answer is None:
            self._answer = Reply(message["status"], list(message.get("headers", ())), b"")
        elif kind == "websocket.http.response.body" and self._answer is not None:
            self._answer = self._answer._replace(body=self._answer.body + message.get("body", b""))
            if not message.get("more_body", False):
                self._refuse(self._answer)
        else:
            raise RuntimeError(f"{kind} is not for here: WebSockets are accepted by scope['extensions']['{EXTENSION}']")

    def _refuse(self, answer: Reply) -> None:
        if not self._answered:
            self._channel.write(compose_reply(answer, self._more))
            self._part()

    def _part(self) -> None:
        self._end()
        self._channel.part()

    def _end(self) -> None:
        self._answered = True
        self._shared.connections.discard(self)
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    # --- for the loop and the server ---

    def data_received(self, data: bytes) -> None:
        if not self._channel.ignores(len(data)):  # it may not speak before it was answered
            self._shared.counts.add("ws_refused_early")
            self._part()

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel.lost(exc)
        self._end()

    def shutdown(self) -> None:
        self._refuse(Reply(503, [], b"The server is about to stop."))


def find_key(method: str, version: str, headers: Fields) -> bytes:
    """The key of a request that is as usual, or nothing."""
    keys = [value for name, value in headers if name == b"sec-websocket-key"]
    versions = [value for name, value in headers if name == b"sec-websocket-version"]
    upgrades = [value for name, value in headers if name == b"upgrade"]
    if (method, version, len(keys), versions, len(upgrades)) != ("GET", "1.1", 1, [b"13"], 1):
        return b""
    try:
        return keys[0] if len(keys[0]) == 24 and len(a2b_base64(keys[0], strict_mode=True)) == 16 else b""
    except Invalid:
        return b""


def _all(headers: Fields, name: bytes) -> list[str]:
    return [part for each, value in headers if each == name for part in value.decode("latin-1").split(",")]
