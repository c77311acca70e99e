"""Following the event log: a blocking read on connections of its own, so that nobody else waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import TimeoutError as TooLate

from handrail.counts import Counts
from handrail.store.parsing import parse_line
from handrail.store.protocol import StoreDown

AT_ONCE = 4_000  # lines read in one go, over all streams

Entry = tuple[bytes, dict[bytes, bytes]]  # id and fields


class Journal:
    """Lines that cannot be read are passed over and counted."""

    def __init__(self, url: str, counts: Counts) -> None:
        self._url = url
        self._counts = counts
        self._redis: Redis | None = None

    async def follow(
        self, keys: Sequence[bytes], user: str | None, start_ms: int, *, live: bool
    ) -> AsyncIterator[dict[str, Any]]:
        """The lines of these streams since `start_ms`, in the order of each stream, of one user or of all. With `live`
        it goes on with what comes, and waits while Redis is away; else it ends, or raises StoreDown."""
        name = None if user is None else user.encode()
        last = dict.fromkeys(keys, b"0-0")
        while True:
            try:
                found = await self._read(last, live=live)
            except (Unreachable, TooLate) as fault:
                if not live:
                    raise StoreDown from fault
                await asyncio.sleep(0.5)
                continue
            for key, entries in found:
                last[key] = entries[-1][0]
                for _, fields in entries:
                    entry = parse_line(fields)
                    if entry is None:
                        self._counts.add("unreadable.line")
                    elif name in (None, entry.user) and entry.at >= start_ms:
                        yield entry.line
            if not found and not live:
                return

    async def _read(self, last: dict[bytes, bytes], *, live: bool) -> list[tuple[bytes, list[Entry]]]:
        """What follows the `last` ids; with `live` it is waited for a second."""
        if self._redis is None:
            self._redis = Redis.from_url(
                self._url, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=5, socket_connect_timeout=1
            )
        count = max(1, AT_ONCE // len(last))
        streams: dict[Any, Any] = {**last}
        reply: Any = await self._redis.xread(streams, count=count, block=1_000 if live else None)
        return reply or []

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()
