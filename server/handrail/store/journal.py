"""Following the event log: a blocking read on connections of its own, so that nobody else waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import TimeoutError as TooLate


class Journal:
    def __init__(self, url: str) -> None:
        self._url = url
        self._redis: Redis | None = None

    async def follow(self, key: bytes, user: str, start_ms: int) -> AsyncIterator[dict[str, Any]]:
        """A user's lines of a bucket's stream, from `start_ms` on and then as they come; waits while Redis is away."""
        name, last = user.encode(), b"0-0"
        while True:
            for entry, fields in await self._read(key, last):
                last = entry
                if fields.get(b"user") == name and int(fields[b"at"]) >= start_ms:
                    yield msgspec.json.decode(fields[b"line"])

    async def _read(self, key: bytes, last: bytes) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """What follows `last`, waiting a second for it."""
        if self._redis is None:
            self._redis = Redis.from_url(
                self._url, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=5, socket_connect_timeout=1
            )
        try:
            reply: Any = await self._redis.xread({key: last}, count=200, block=1_000)
        except (Unreachable, TooLate):
            await asyncio.sleep(0.5)
            return []
        return reply[0][1] if reply else []

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()
