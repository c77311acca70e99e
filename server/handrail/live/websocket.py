"""`/updates`: the live connection over WebSocket, straight on ASGI, without an object a message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import count
from typing import Any

from handrail.limits import address_of
from handrail.live.admission import Refusal
from handrail.live.connection import IDLE, TOO_SLOW, Out
from handrail.live.refusals import refuse_handshake
from handrail.live.visit import Reception, Visit

SUBPROTOCOL = "handrail.v1"
HELLO_WITHIN = 5.0  # seconds
CLOSE_WITHIN = 1.0
TURN = 16  # messages of one connection before others have theirs
LAST_WORDS = 256  # messages that may still come in when the server has said goodbye

_BAD_ORIGIN = Refusal(403, "bad-origin", "Pages of this origin may not connect.", "Add it to HANDRAIL_ORIGINS.")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Updates:
    """The ASGI app of the WebSocket endpoint."""

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
            chosen = SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None
            with self._desk.door.inside(scope):
                await send({"type": "websocket.accept", "subprotocol": chosen})
                await self._converse(scope, receive, send)

    async def _converse(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        lease = asyncio.timeout(self._hello_within)
        transport = Socket(send, lease)
        visit = self._desk.receive(transport, scope["headers"], address_of(scope.get("client")))
        try:
            async with lease:
                await self._hear(visit, lease, receive)
        except TimeoutError:
            slow = visit.connection.closing
            await transport.part(TOO_SLOW if slow else IDLE, "too slow" if slow else "no hello came")
        finally:
            await visit.leave()

    async def _hear(self, visit: Visit, lease: asyncio.Timeout, receive: Receive) -> None:
        late = 0
        for heard in count(1):
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            if heard % TURN == 0:
                await asyncio.sleep(0)  # messages that are here already are read without a wait, however many
            if visit.connection.closing:
                late += 1
                if late > LAST_WORDS:
                    return
                continue
            await visit.listen(message.get("text"))
            if visit.user and not visit.connection.closing:
                lease.reschedule(None)


class Socket:
    """One WebSocket as a transport. `lease` is what the conversation runs under: when it ends, so does that."""

    __slots__ = ("_lease", "_send")
    name = "websocket"

    def __init__(self, send: Send, lease: asyncio.Timeout) -> None:
        self._send = send
        self._lease = lease

    async def write(self, batch: list[Out]) -> None:
        try:
            for out in batch:
                await self._send({"type": "websocket.send", "text": out.data.decode()})
        except RuntimeError as fault:  # how uvicorn says that the closing handshake has begun
            raise ConnectionResetError from fault

    async def close(self, code: int, reason: str, reconnect_ms: int) -> None:
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except RuntimeError as fault:
            raise ConnectionResetError from fault

    def abort(self) -> None:
        end_lease(self._lease)

    async def part(self, code: int, reason: str) -> None:
        """Try to say why before the socket is dropped."""
        try:
            await asyncio.wait_for(self.close(code, reason, 0), CLOSE_WITHIN)
        except (OSError, TimeoutError):
            return


def end_lease(lease: asyncio.Timeout) -> None:
    """Make whatever runs under the lease end now; one that has ended already may stay so."""
    try:
        lease.reschedule(0)
    except RuntimeError:
        return


def read_header(scope: MutableMapping[str, Any], name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return None
