"""How a handshake is refused: as a problem over HTTP (RFC 9457), for WebSockets where the server can."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from handrail.identity import Headers
from handrail.live.admission import Refusal
from handrail.live.connection import BAD_ORIGIN, DRAINING

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def refuse_stream(send: Send, refusal: Refusal, headers: Headers = ()) -> None:
    """Answer a request for a stream."""
    await _answer(send, "http", refusal, headers)


async def refuse_handshake(scope: MutableMapping[str, Any], send: Send, refusal: Refusal) -> None:
    """Refuse a WebSocket before its handshake."""
    if "websocket.http.response" in scope.get("extensions", {}):
        await _answer(send, "websocket.http", refusal, ())
    else:
        code = BAD_ORIGIN if refusal.status == 403 else DRAINING
        await send({"type": "websocket.close", "code": code, "reason": refusal.detail})


async def _answer(send: Send, kind: str, refusal: Refusal, more: Headers) -> None:
    body = {
        "type": f"urn:handrail:problem:{refusal.code}",
        "title": "The connection cannot be opened",
        "status": refusal.status,
        "detail": refusal.detail,
        "fix": refusal.fix,
    }
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store"), *more]
    if refusal.retry_s:
        headers.append((b"retry-after", b"%d" % refusal.retry_s))
    if refusal.status == 405:
        headers.append((b"allow", b"GET"))
    await send({"type": f"{kind}.response.start", "status": refusal.status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": msgspec.json.encode(body)})
