"""`/updates`: the live connection over WebSocket, frames handed over and taken without an object a message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from handrail.edge.frames import frame_text
from handrail.edge.handshake import EXTENSION
from handrail.edge.websocket import WebSocket
from handrail.limits import address_of
from handrail.live.admission import Refusal
from handrail.live.connection import Out
from handrail.live.reception import Reception
from handrail.live.refusals import Send, refuse_handshake
from handrail.live.visit import Visit

SUBPROTOCOL = "handrail.v1"
HELLO_WITHIN = 5.0  # seconds

_BAD_ORIGIN = Refusal(403, "bad-origin", "Pages of this origin may not connect.", "Add it to HANDRAIL_ORIGINS.")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class Updates:
    """The ASGI app of the WebSocket endpoint, on a server that has `handrail.frames`; it ends with the handshake."""

    def __init__(self, desk: Reception, *, hello_within: float = HELLO_WITHIN) -> None:
        self._desk = desk
        self._hello_within = hello_within

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        if refusal := self._desk.refuse(scope):
            await refuse_handshake(scope, send, refusal)
        elif not self._desk.gate.page_allowed(scope["headers"]):
            self._desk.runner.counts.add("refused.bad-origin")
            await refuse_handshake(scope, send, _BAD_ORIGIN)
        else:
            Socket(self._desk, scope).open(scope, self._hello_within)


class Socket:
    """One WebSocket: what the edge tells it goes to its visit, what the connection has to say goes to the edge."""

    __slots__ = ("_address", "_socket", "_visit")
    name = "websocket"

    def __init__(self, desk: Reception, scope: Message) -> None:
        self._address = address_of(scope.get("client"))
        self._visit = Visit(desk, self, scope["headers"], self._address)
        self._socket: WebSocket | None = None

    def open(self, scope: Message, hello_within: float) -> None:
        chosen = SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None
        self._socket = scope["extensions"][EXTENSION](self, chosen)
        if self._socket is not None:
            self._visit.desk.door.enter(self._address)
            self._visit.expect_hello(hello_within)

    # --- what the peer does ---

    def text(self, data: bytes) -> None:
        self._visit.hear(data)

    def binary(self, data: bytes) -> None:
        self._visit.hear_binary(data)

    def pause_writing(self) -> None:
        self._visit.block()

    def resume_writing(self) -> None:
        self._visit.unblock()

    def ended(self, code: int) -> None:
        self._visit.desk.door.leave(self._address)
        self._visit.leave()

    # --- what the connection does ---

    def write(self, batch: list[Out]) -> None:
        assert self._socket is not None
        if len(batch) == 1:
            self._socket.write(batch[0].framed or _frame(batch[0]))
        else:
            self._socket.write(b"".join([out.framed or _frame(out) for out in batch]))

    def close(self, code: int, reason: str, reconnect_ms: int) -> None:
        assert self._socket is not None
        self._socket.close(code, reason)

    def abort(self) -> None:
        assert self._socket is not None
        self._socket.abort()

    def pause_reading(self) -> None:
        assert self._socket is not None
        self._socket.pause_reading()

    def resume_reading(self) -> None:
        assert self._socket is not None
        self._socket.resume_reading()


def _frame(out: Out) -> bytes:
    out.framed = frame_text(out.data)
    return out.framed
