"""The queue before one webhook, and how long it may grow.

A hung endpoint must not fill the courier with its calls, nor a burst to a quick one be turned away. So a lane may hold
what it works off in PATIENCE_S at its present pace. That pace is what tries took lately or, if longer, how long the
lane has been waiting for any answer: an endpoint that hangs shows at once, not first when its tries time out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

AT_ONCE = 8
PATIENCE_S = 30.0
FIRST_GUESS_S = 0.01
WEIGHT = 0.2  # of the newest try in the average


class Lane:
    """`clock` is seconds, monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._average = FIRST_GUESS_S
        self._trying = 0
        self._since = 0.0  # the latest answer, or the first try after a pause
        self.held = 0
        self.queue: dict[asyncio.Task[None], None] = {}  # those that wait for their turn, in order

    @property
    def pace(self) -> float:
        """Seconds that a try takes."""
        return max(self._average, self._clock() - self._since) if self._trying else self._average

    @property
    def room(self) -> int:
        """How many jobs the lane may hold."""
        return max(AT_ONCE, int(AT_ONCE * PATIENCE_S / self.pace))

    def shed(self) -> None:
        """Cancel the newest of those that wait, as many as there is no room for."""
        excess = min(self.held - self.room, len(self.queue))
        for task in list(self.queue)[len(self.queue) - excess :] if excess > 0 else ():
            task.cancel()

    @asynccontextmanager
    async def turn(self, shared: asyncio.Semaphore) -> AsyncIterator[None]:
        """A turn of this lane and of all lanes; the present task is in `queue` until it has both."""
        task = asyncio.current_task()
        assert task is not None
        self.queue[task] = None
        try:
            async with self._turns, shared:
                del self.queue[task]
                yield
        finally:
            self.queue.pop(task, None)

    @asynccontextmanager
    async def timed(self) -> AsyncIterator[None]:
        """Around one try."""
        began = self._clock()
        if not self._trying:
            self._since = began
        self._trying += 1
        try:
            yield
        finally:
            self._trying -= 1
            self._since = self._clock()
            self._average += WEIGHT * (self._since - began - self._average)
