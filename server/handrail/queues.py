"""Queues: a user's events that wait for their turn, and who waits for what becomes of them."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from handrail.core.events import Event
from handrail.core.state import State
from handrail.turns import Outcome

BATCH = 256  # events in one turn


class Waiting(NamedTuple):
    """An event, who waits for it, the loop's time when it came, and perhaps a state without ids to decide it on."""

    event: Event
    future: asyncio.Future[Outcome]
    since: float
    bare: State | None = None

    def settle(self, result: Outcome | BaseException) -> None:
        if self.future.done():
            return
        if isinstance(result, Outcome):
            self.future.set_result(result)
        elif isinstance(result, asyncio.CancelledError):
            self.future.cancel()
        else:
            self.future.set_exception(result)


class Queues:
    """A user has a queue, be it an empty one, from `put` until `leave`: as long as turns of theirs are taken."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Waiting]] = {}
        self._quiet: asyncio.Event | None = None  # for those who wait until nobody has one

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, user: str, entry: Waiting) -> bool:
        """Whether it is the first, so that somebody has to take the user's turns."""
        waiting = self._waiting.get(user)
        if waiting is not None:
            waiting.append(entry)
            return False
        self._waiting[user] = [entry]
        return True

    def take(self, user: str) -> list[Waiting]:
        waiting = self._waiting[user]
        self._waiting[user] = waiting[BATCH:]
        return waiting[:BATCH]

    def take_all(self, user: str) -> list[Waiting]:
        waiting, self._waiting[user] = self._waiting[user], []
        return waiting

    def has_more(self, user: str) -> bool:
        return bool(self._waiting[user])

    def leave(self, user: str) -> None:
        """Nothing of the user's is waiting any more."""
        del self._waiting[user]
        if self._quiet is not None and not self._waiting:
            self._quiet.set()
            self._quiet = None

    async def quiet(self) -> None:
        """Return when nobody has a queue."""
        if self._waiting:
            self._quiet = self._quiet or asyncio.Event()
            await self._quiet.wait()
