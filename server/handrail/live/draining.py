"""Sending everybody away before the server stops, one after the other: they must not all arrive elsewhere at once.

Few go within moments (whoever presses ctrl-C need not wait), many over the whole window. Where this process is the only
one, nobody can come back before it was started again: then each stays away for as long as the window lasts, and they
come back as evenly as they were sent.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from handrail.live.connection import Connection

PACE = 50  # connections sent away in a second, at least
NAP = 0.01  # seconds: those who go within such a moment go together


def spread(connections: int, longest_ms: int) -> int:
    """The window for so many, in ms."""
    return min(longest_ms, connections * 1_000 // PACE)


async def send_away(connections: Sequence[Connection], window_ms: int, dismiss: Callable[[Connection], None]) -> None:
    """Dismiss each at its moment within the window, in an order of chance: a user's tabs do not go together. When
    this is cancelled, the others go at once: an event stream that nobody ends would hold the server up."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    waiting = random.sample(connections, len(connections))
    try:
        for index, connection in enumerate(waiting):
            wait = began + window_ms / 1_000 * index / len(connections) - loop.time()
            if wait > NAP:
                await asyncio.sleep(wait)
            if not connection.closing:
                dismiss(connection)
    except asyncio.CancelledError:
        for connection in waiting:
            if not connection.closing:
                dismiss(connection)
        raise
