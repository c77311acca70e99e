"""Where a Redis is and how to get in."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url

from handrail.store.protocol import StoreUnusable


class Address:
    """Where the store is, from a redis://, rediss:// or unix:// URL; `shown` leaves the password out."""

    def __init__(self, url: str) -> None:
        try:
            parts: dict[str, Any] = dict(parse_url(url))
        except ValueError as error:
            raise StoreUnusable(f"the store's URL is not one Handrail knows: {error}") from None
        self.kind = parts.get("connection_class")
        self.host = str(parts.get("host") or "localhost")
        self.port = int(parts.get("port", 6379))
        self.path = str(parts.get("path", ""))
        self.db = int(parts.get("db", 0))
        self.username = str(parts.get("username") or "default")
        self.password = parts.get("password")
        self.authorities = parts.get("ssl_ca_certs")
        self.checked = parts.get("ssl_cert_reqs") != "none"
        self.shown = f"unix://{self.path}" if self.path else f"redis://{self.host}:{self.port}/{self.db}"

    async def dial(self, wire: asyncio.Protocol) -> None:
        loop = asyncio.get_running_loop()
        if self.kind is UnixDomainSocketConnection:
            await loop.create_unix_connection(lambda: wire, self.path)
        else:
            await loop.create_connection(lambda: wire, self.host, self.port, ssl=self._tls())

    def _tls(self) -> ssl.SSLContext | None:
        if self.kind is not SSLConnection:
            return None
        context = ssl.create_default_context(cafile=self.authorities)
        if not self.checked:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def greeting(self) -> list[tuple[Any, ...]]:
        auth = ("AUTH", self.username, self.password) if self.password else ()
        return [("HELLO", 3, *auth), *([("SELECT", self.db)] if self.db else [])]
