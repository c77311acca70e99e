"""Long-lived tasks do not die unnoticed: what ends is logged and started again, after a pause that grows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

FIRST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 5.0
STEADY = 30.0  # what ran this long starts over with the first pause

log = structlog.get_logger(__name__)


class Pauses:
    """How long to wait before the next start of something that ended: longer each time, until it was steady."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    def after(self, ran: float) -> float:
        """In seconds, after it ran that many."""
        pause = FIRST_PAUSE if ran > STEADY else self._next
        self._next = min(pause * 2, LONGEST_PAUSE)
        return pause


async def supervise(
    name: str, run: Callable[[], Awaitable[None]], *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Run `run` for ever, until this is cancelled."""
    loop = asyncio.get_running_loop()
    pauses = Pauses()
    while True:
        began = loop.time()
        try:
            await run()
            log.error("a task ended that should not; starting it again", task=name)
        except Exception:  # the rim of every background task: its death must be seen and mended
            log.exception("a task died; starting it again", task=name)
        await sleep(pauses.after(loop.time() - began))
