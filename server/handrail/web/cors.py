"""Which pages may post events: the same origins that may connect. Wraps an ASGI app, looking only at `/v1/`."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handrail.core.inputs import BadInput
from handrail.identity import Identity, hides_origin
from handrail.web.problems import refusal

PREFIXES = ("/v1/", "/sourceConfig")
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "authorization, content-type, content-encoding, x-write-key, anonymousid",
    "Access-Control-Max-Age": "600",
}


class Cors:
    def __init__(self, app: ASGIApp, identity: Identity) -> None:
        self._app = app
        self._identity = identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIXES):
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None and not hides_origin(headers.raw):  # a server, not a page
            return await self._app(scope, receive, send)
        if origin is None or not self._identity.page_allowed(headers.raw):
            fix = "Add the page's origin to HANDRAIL_ORIGINS."
            return await refusal(BadInput("bad-origin", "Pages of this origin may not send events.", fix))(
                scope, receive, send
            )
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            answer = Response(status_code=204, headers=_PREFLIGHT | _allow(origin))
            return await answer(scope, receive, send)
        await self._app(scope, receive, _allowing(send, origin))


def _allow(origin: str) -> dict[str, str]:
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": "Retry-After", "Vary": "Origin"}


def _allowing(send: Send, origin: str) -> Send:
    async def send_allowed(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_allow(origin))
        await send(message)

    return send_allowed
