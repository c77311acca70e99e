"""One timer for all connections that have to be looked at now and then, instead of one for each."""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from typing import Protocol

TICK = 1.0  # seconds between two looks at what peers have not taken
SLOTS = 20  # parts of a round; members take turns by part, so that thousands do not beat at once


class Member(Protocol):
    def beat(self) -> None: ...


class Writer(Protocol):
    def look(self) -> bool:
        """See what the peer has not taken: whether to look again."""


class Rounds:
    """Every member beats once in `every` seconds, for the first time in the second half of its first round."""

    __slots__ = ("_every", "_joined", "_loop", "_present", "_slots", "_timer")

    def __init__(self, loop: AbstractEventLoop, every: float) -> None:
        self._loop = loop
        self._every = every
        self._slots: list[set[Member]] = [set() for _ in range(SLOTS)]
        self._present = 0
        self._joined = 0
        self._timer: TimerHandle | None = None

    def join(self, member: Member) -> int:
        """The slot, which `leave` asks for."""
        half = SLOTS // 2
        slot = (self._present + half + self._joined % half) % SLOTS
        self._joined += 1
        self._slots[slot].add(member)
        if self._timer is None:
            self._timer = self._loop.call_later(self._every / SLOTS, self._turn)
        return slot

    def leave(self, member: Member, slot: int) -> None:
        self._slots[slot].discard(member)

    def _turn(self) -> None:
        self._timer = self._loop.call_later(self._every / SLOTS, self._turn) if any(self._slots) else None
        self._present = (self._present + 1) % SLOTS
        for member in list(self._slots[self._present]):
            member.beat()


class Watch:
    """Looks at the `writers`, those who were written to, once a tick until all of it is taken."""

    __slots__ = ("_loop", "writers")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self.writers: set[Writer] = set()
        self._look()

    def _look(self) -> None:
        self.writers = {writer for writer in self.writers if writer.look()}
        self._loop.call_later(TICK, self._look)
