"""The time by which a process decides: the store's, so that all processes decide by the same.

Between two looks at the store's clock a process counts on a steady one, which nobody sets. What it counts never goes
back. A small lead of the store is followed at once; a lag by going slower for a while. A leap that the process itself
did not live through (the store moved to a machine with another clock) is told in the log and made up for gradually, so
that nothing falls due all at once because somebody set a clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from handrail.store.protocol import Store, StoreDown

LOOK_EVERY = 1.0  # seconds
LEAP = 60_000  # ms by which the store's clock and ours part
SAME = 1_000  # ms within which two clocks are said to have moved alike
PACE = 0.1  # seconds a second by which a difference is made up for

log = structlog.get_logger(__name__)


def wall_clock() -> int:
    return time.time_ns() // 1_000_000


class StoreTime:
    """Milliseconds since 1970 as the store counts them, when called; until it was first heard, as this machine does.

    `wall` is this machine's clock in milliseconds, `steady` one in seconds that nobody sets.
    """

    def __init__(self, *, wall: Callable[[], int] = wall_clock, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._then = steady()
        self._now = float(wall())
        self._owed = 0.0  # ms to gain, or to lose where negative
        self._lead: int | None = None  # of the store before this machine's clock, when we last agreed with the store

    def __call__(self) -> int:
        if self._owed:
            self._pay()
            return int(self._now)
        return int(self._now + (self._steady() - self._then) * 1_000)

    def hear(self, told: int, took: float) -> None:
        """The store said `told`, and its answer took so many seconds."""
        self._pay()
        lead = told - self._wall()
        ahead = told + took * 500 - self._now
        # Where this machine's clock went as far as the store's, time did pass, as it does while a machine sleeps.
        alike = self._lead is None or abs(lead - self._lead) <= SAME
        if abs(ahead) <= took * 500 + 1:  # as near as can be told
            self._owed, self._lead = 0.0, lead
        elif self._lead is None or 0 < ahead < LEAP or (ahead > 0 and alike):
            self._now, self._owed, self._lead = self._now + ahead, 0.0, lead
        else:
            if abs(ahead) >= LEAP and abs(ahead - self._owed) >= LEAP:
                log.error("the store's clock leapt; following it slowly", by_s=round(ahead / 1000))
            self._owed = ahead

    def _pay(self) -> None:
        """Count up to this instant, faster or slower while there is a difference."""
        steady = self._steady()
        passed = (steady - self._then) * 1_000
        share = max(-passed * PACE, min(passed * PACE, self._owed))
        self._owed -= share
        self._now += passed + share
        self._then = steady

    async def look(self, store: Store) -> None:
        """Hear what time it is there. Raises StoreDown."""
        asked = self._steady()
        told = await store.time()
        self.hear(told, self._steady() - asked)

    async def follow(self, store: Store) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self.look(store)
            except StoreDown:
                continue  # it counts on by itself
