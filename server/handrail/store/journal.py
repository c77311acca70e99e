"""Following the event log: a look at its streams every moment, so that nobody waits for a read that blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import hiredis

from handrail.counts import Counts
from handrail.store.keys import BUCKET_KEYS
from handrail.store.nodes import Nodes
from handrail.store.parsing import parse_line
from handrail.store.pipeline import pack
from handrail.store.protocol import StoreDown

AT_ONCE = 4_000  # lines read in one go, over all streams
POLL = 0.1  # seconds between two looks
AWAY = 0.5  # and while the store is away


async def follow(
    nodes: Nodes, buckets: Sequence[int], user: str | None, start_ms: int, *, live: bool, counts: Counts
) -> AsyncIterator[dict[str, Any]]:
    """The lines of these buckets since `start_ms`, in the order of each bucket, of one user or of all. With `live` it
    goes on with what comes, and waits while the store is away; else it ends, or raises StoreDown. Lines that cannot be
    read are passed over and counted."""
    name = None if user is None else user.encode()
    last = dict.fromkeys(buckets, b"0-0")
    while True:
        found = False
        try:
            async for bucket, entries in _read(nodes, last, whole=not live):
                found = True
                last[bucket] = entries[-1][0]
                for _, fields in entries:
                    entry = parse_line(dict(zip(fields[::2], fields[1::2], strict=False)))
                    if entry is None:
                        counts.add("unreadable.line")
                    elif name in (None, entry.user) and entry.at >= start_ms:
                        yield entry.line
        except StoreDown:
            if not live:
                raise
            await asyncio.sleep(AWAY)
        if not found:
            if not live:
                return
            await asyncio.sleep(POLL)


async def _read(nodes: Nodes, last: dict[int, bytes], *, whole: bool) -> AsyncIterator[tuple[int, Any]]:
    """(bucket, entries that follow the last), of those that have any."""
    count = max(1, AT_ONCE // len(last))

    def packed(part: Sequence[int]) -> bytes:
        reads = (("XRANGE", BUCKET_KEYS[bucket].log, b"(" + last[bucket], "+", "COUNT", count) for bucket in part)
        return b"".join(map(pack, reads))

    async for bucket, reply in nodes.sweep(tuple(last), packed, whole=whole):
        if isinstance(reply, hiredis.ReplyError):
            raise StoreDown(f"the event log cannot be read: {reply}")
        yield bucket, reply
