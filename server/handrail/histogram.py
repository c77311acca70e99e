"""How often something took how long."""

from __future__ import annotations

from bisect import bisect_left

MILLISECONDS = (1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000)


class Histogram:
    """`tallies` has one count for each of `bounds` (at most that much, and more than the one before) and one beyond."""

    __slots__ = ("bounds", "sum", "tallies")

    def __init__(self, bounds: tuple[int, ...] = MILLISECONDS) -> None:
        self.bounds = bounds
        self.tallies = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.tallies[bisect_left(self.bounds, value)] += 1
        self.sum += value
