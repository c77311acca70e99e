"""The ids of events that were applied: a value that shares what it has with the one it was made from.

A state is forked with every event, and may remember thousands of ids. So adding to them copies nothing: the newest
value writes at the end of what all of them read, each up to its own end. Whoever adds to an older value gets a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Self

SPARE = 64  # forgotten ids that may stay where they are, beside as many as are remembered


class Seen(Mapping[str, int]):
    """When each id was applied (milliseconds since the epoch), in the order of being added."""

    __slots__ = ("_first", "_next", "_places", "_sorted", "_times")

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._places = dict(zip(ids, range(len(ids)), strict=True))
        self._times = list(ids.values())
        self._first, self._next = 0, len(self._times)
        self._sorted = self._times == sorted(self._times)

    @classmethod
    def of(cls, ids: Mapping[str, int]) -> Self:
        return ids if isinstance(ids, cls) else cls(ids)

    def __getitem__(self, name: str) -> int:
        place = self._places[name]
        if not self._first <= place < self._next:
            raise KeyError(name)
        return self._times[place]

    def __contains__(self, name: object) -> bool:
        place = self._places.get(name, -1)  # type: ignore[call-overload]
        return bool(self._first <= place < self._next)

    def __iter__(self) -> Iterator[str]:
        return islice(self._places, self._first, self._next)

    def __len__(self) -> int:
        return self._next - self._first

    def __repr__(self) -> str:
        return f"Seen({dict(self)})"

    def add(self, name: str, at: int) -> Seen:
        """These and one more, which is not among them."""
        if self._next != len(self._times):
            return self._branch().add(name, at)
        if name in self._places or self._first > len(self) + SPARE:
            return Seen(dict(self._pairs())).add(name, at)
        new = self._upto(self._first)
        new._sorted = self._sorted and (not self._next or at >= self._times[-1])
        new._next = self._next + 1
        self._places[name] = self._next
        self._times.append(at)
        return new

    def forget(self, edge: int, most: int) -> Seen:
        """Without those applied by `edge`, and of the others no more than the last `most`."""
        times, first = self._times, max(self._first, self._next - most)
        if not self._sorted and min(times[first : self._next], default=edge + 1) <= edge:
            return Seen({name: at for name, at in self._pairs() if at > edge}).forget(edge, most)
        while first < self._next and times[first] <= edge:
            first += 1
        return self if first == self._first else self._upto(first)

    def _pairs(self) -> Iterator[tuple[str, int]]:
        return zip(self, self._times[self._first : self._next], strict=True)

    def _branch(self) -> Seen:
        """A copy that nobody else has gone on from."""
        new = self._upto(self._first)
        new._places, new._times = self._places.copy(), self._times[: self._next]
        while len(new._places) > self._next:
            new._places.popitem()
        return new

    def _upto(self, first: int) -> Seen:
        """The same without those before the place `first`."""
        new = Seen.__new__(Seen)
        new._places, new._times, new._sorted = self._places, self._times, self._sorted
        new._first, new._next = first, self._next
        return new
