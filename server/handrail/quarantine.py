"""What was set aside: told loudly once, counted, and kept in the store for the operator to look at."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from handrail.core.events import Event
from handrail.core.inputs import BadInput
from handrail.counts import Counts
from handrail.store.keys import bucket_of
from handrail.store.protocol import CorruptState, Quarantined, Store, StoreDown

KNOWN = 10_000  # users whose state cannot be read, who are told of once
REST = 3_600_000  # ms before an alarm that was set aside rings again

log = structlog.get_logger(__name__)


class Quarantine:
    """The writing side of one process, called `node`. `clock` gives milliseconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], int], node: str, counts: Counts) -> None:
        self._store = store
        self._clock = clock
        self._node = node
        self._counts = counts
        self._unreadable: set[str] = set()

    async def take_event(self, user: str, event: Event, reason: str) -> None:
        """Raises StoreDown."""
        kind = type(event).__name__.lower()
        self._counts.add("set_aside.event")
        log.error("an event is in quarantine, see /api/quarantine", bucket=bucket_of(user), kind=kind)
        body = msgspec.json.encode(event, enc_hook=dict)  # a state in it has ids that are no plain dict
        await self._store.set_aside(self._entry(user, kind, event.id, reason, body))

    async def take_state(self, user: str, fault: CorruptState) -> None:
        """The first time that it is met; whoever needs the state meets it time and again."""
        if user in self._unreadable or len(self._unreadable) >= KNOWN:
            return
        self._unreadable.add(user)
        self._counts.add("set_aside.state")
        log.error("what the store has of a user cannot be read, see /api/quarantine", bucket=bucket_of(user))
        try:
            await self._store.set_aside(self._entry(user, "state", "", str(fault)))
        except StoreDown:
            self._unreadable.discard(user)

    def mend(self, user: str) -> None:
        """The user's state was read."""
        self._unreadable.discard(user)

    def _entry(self, user: str, kind: str, event: str, reason: str, body: bytes = b"null") -> Quarantined:
        at = self._clock()
        return Quarantined(at=at, node=self._node, user=user, kind=kind, id=event, reason=reason, event=body)


def corrupt_state() -> BadInput:
    return BadInput(
        "corrupt-state",
        "What the server has stored of this user cannot be read.",
        "The operator finds it under /api/quarantine; until it is mended there is nothing to connect to.",
    )
