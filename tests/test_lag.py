"""The event loop's lateness, measured where a clock can be moved."""

from __future__ import annotations

import asyncio
import time

from handrail.histogram import Histogram
from handrail.lag import EVERY, WINDOW, Lag


async def test_a_loop_that_is_held_up_is_late() -> None:
    lag = Lag()
    task = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    time.sleep(EVERY + 0.2)  # noqa: ASYNC251 - the very thing to be noticed
    while not lag.worst:  # noqa: ASYNC110 - the measuring task has its turn in between
        await asyncio.sleep(0)
    task.cancel()
    assert lag.worst >= 150


def test_the_worst_is_forgotten_after_a_while() -> None:
    lag = Lag()
    for late in (900.0, *[1.0] * (WINDOW - 1)):
        lag.note(late)
    assert lag.worst == 900
    assert lag.latest == 1
    lag.note(2.0)
    assert (lag.latest, lag.worst) == (2, 2)
    assert sum(lag.seen.tallies) == WINDOW + 1


def test_a_histogram_counts_up_to_each_bound() -> None:
    seen = Histogram((1, 10))
    for value in (0, 1, 1.5, 10, 11):
        seen.observe(value)
    assert (seen.tallies, seen.sum) == ([2, 2, 1], 23.5)
