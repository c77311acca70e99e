"""What the protocols of one server share. uvicorn makes each of them itself, and hands them only what it has."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import MutableMapping
from typing import Any

from uvicorn.server import ServerState

from handrail.counts import Counts
from handrail.edge.counting import find_counts
from handrail.edge.rounds import Rounds, Watch

KEEP_ALIVE = 15.0  # seconds between comments on an event stream, which keep proxies from closing a quiet one
_KEY = "handrail.edge"


class Shared:
    """`pings` asks peers whether they are there, `comments` keeps event streams open, `watch` looks after slow readers;
    `connections` are those of the server, by uvicorn's reckoning."""

    __slots__ = ("comments", "connections", "counts", "loop", "pings", "watch")

    def __init__(self, loop: AbstractEventLoop, server: ServerState, counts: Counts, *, ping_every: float) -> None:
        self.loop = loop
        self.counts = counts
        self.connections: set[Any] = server.connections
        self.pings = Rounds(loop, ping_every)
        self.comments = Rounds(loop, KEEP_ALIVE)
        self.watch = Watch(loop)


def find_shared(
    state: MutableMapping[str, Any], loop: AbstractEventLoop, server: ServerState, ping_every: float
) -> Shared:
    """That of the server whose lifespan has this `state`."""
    found = state.get(_KEY)
    if not isinstance(found, Shared):
        found = state[_KEY] = Shared(loop, server, find_counts(state), ping_every=ping_every)
    return found
