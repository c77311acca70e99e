"""How late the event loop is: what everybody in this process waits for besides their own work."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from handrail.histogram import Histogram

EVERY = 0.05  # seconds between two looks
WINDOW = 100  # looks whose worst is told: five seconds
LIMIT = 5_000  # ms; a loop that was held up that long does not serve
TELL = 1_000  # ms; and this is worth a line in the log

log = structlog.get_logger(__name__)


class Lag:
    """`run` it in the loop that is meant. In milliseconds: how late it was at the `latest` look, and at the `worst` of
    the last seconds."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.seen = Histogram()
        self._sleep = sleep
        self._latest: deque[float] = deque(maxlen=WINDOW)

    @property
    def latest(self) -> float:
        return self._latest[-1] if self._latest else 0.0

    @property
    def worst(self) -> float:
        return max(self._latest, default=0.0)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            await self._sleep(EVERY)
            self.note(max(0.0, (loop.time() - asked - EVERY) * 1_000))

    def note(self, late: float) -> None:
        self._latest.append(late)
        self.seen.observe(late)
        if late >= TELL:
            log.warning("the event loop was held up", ms=round(late))
