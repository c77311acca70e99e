"""How often each branch fired that hardly ever does: refused frames, cut readers, late requests."""

from __future__ import annotations


class Counts:
    """Counters by name, for one event loop. Names are lower case with underscores, such as `ws_refused_fragments`."""

    __slots__ = ("totals",)

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}

    def add(self, name: str, by: int = 1) -> None:
        self.totals[name] = self.totals.get(name, 0) + by
