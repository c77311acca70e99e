"""Who fails too often to say who they are, at one address, is not heard for a while. Wraps an ASGI app."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handrail.limits import Limits, TooMuch, address_of
from handrail.web.problems import refusal

PREFIXES = ("/v1/", "/api/")  # where keys and tokens are; a proxy that is not known as one may still ask for health


class Offences:
    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIXES):
            return await self._app(scope, receive, send)
        address = address_of(scope.get("client"))
        if wait := self._limits.offended(address):
            self._limits.counts.add("requests_refused_offences")
            return await refusal(TooMuch("Too many attempts from this address failed.", wait))(scope, receive, send)

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                self._limits.offend(address)
            await send(message)

        await self._app(scope, receive, watch)
