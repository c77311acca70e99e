"""What the log says of servers that go, stay away, refuse commands, come back or are replaced: a line when it begins,
one every ten seconds while it lasts, one when it is over; however many callers are refused meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import structlog
from msgspec import Struct

from handrail.store.address import Address

EVERY = 10.0  # seconds between two lines about the same
QUIET = 30.0  # seconds without a refusal after which a server is taken to refuse nothing any more

log = structlog.get_logger(__name__)


class Server(Protocol):
    """A connection: `missed` counts the commands that failed because it was away, `refused` those that it would not
    carry out, `reason` and `refusal` say why."""

    address: Address
    missed: int
    reason: str
    refused: int
    refusal: str

    @property
    def is_open(self) -> bool: ...


class _Spell(Struct):
    """Something that began at `since`, when `count` commands had failed; last told at `told` (0: it was not), and last
    seen to go on at `seen`."""

    since: float
    count: int
    told: float = 0.0
    seen: float = 0.0


Spells = WeakKeyDictionary[Server, _Spell]


class Outages:
    """`clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._away: Spells = WeakKeyDictionary()
        self._refusing: Spells = WeakKeyDictionary()
        self._missed: WeakKeyDictionary[Server, int] = WeakKeyDictionary()  # when it was last there
        self._refused: WeakKeyDictionary[Server, int] = WeakKeyDictionary()
        self._began: WeakKeyDictionary[Server, float] = WeakKeyDictionary()  # when it was last told that it went
        self._moves: Counter[tuple[str, str]] = Counter()
        self._moves_told = -EVERY

    def lost(self, server: Server) -> None:
        """Its connection was lost, or could not be made."""
        if server in self._away:
            return
        now = self._clock()
        spell = self._away[server] = _Spell(now, self._missed.get(server, 0))
        if now - self._began.get(server, now - EVERY) >= EVERY:  # one that comes and goes is told of once
            spell.told = self._began[server] = now
            log.warning("the store is away", store=server.address.shown, reason=server.reason)

    def back(self, server: Server) -> None:
        """It is connected."""
        spell = self._away.pop(server, None)
        if spell is not None and spell.told:
            log.info("the store is back", **_where(server), **self._extent(spell, server.missed))
        self._missed[server] = server.missed

    def replaced(self, old: Server, new: Server, buckets: int) -> None:
        """What it held is held by another server now."""
        spell = self._away.pop(old, None)
        log.warning(
            "another server has taken over; its users get a new epoch",
            store=new.address.shown,
            instead_of=old.address.shown,
            buckets=buckets,
            **(self._extent(spell, old.missed) if spell is not None else {}),
        )

    def moved(self, old: Server, new: Server, buckets: int) -> None:
        """Some of what it held is held by another server now."""
        self._moves[old.address.shown, new.address.shown] += buckets

    def look(self, servers: Iterable[Server]) -> None:
        """Once a second or so: tell what goes on, and what is over."""
        now = self._clock()
        for server in servers:
            if not server.is_open and server.missed > self._missed.get(server, 0):
                self.lost(server)
            if (spell := self._away.get(server)) is not None:
                self._tell_away(server, spell, now)
            self._look_at_refusals(server, now)
        if self._moves and now - self._moves_told >= EVERY:
            self._moves_told = now
            for (old, new), buckets in self._moves.items():
                log.info("slots were moved; their users get a new epoch", store=new, instead_of=old, buckets=buckets)
            self._moves.clear()

    def _tell_away(self, server: Server, spell: _Spell, now: float) -> None:
        if now - max(spell.told, spell.since) >= EVERY:
            spell.told = now
            extent = self._extent(spell, server.missed)
            log.warning("the store is still away", store=server.address.shown, **extent, reason=server.reason)

    def _look_at_refusals(self, server: Server, now: float) -> None:
        spell, before = self._refusing.get(server), self._refused.get(server, 0)
        self._refused[server] = server.refused
        if server.refused > before:
            if spell is None:
                spell = self._refusing[server] = _Spell(now, before)
            spell.seen = now
            if not spell.told or now - spell.told >= EVERY:
                spell.told = now
                extent = self._extent(spell, server.refused)
                log.warning("the store refuses commands", store=server.address.shown, **extent, reason=server.refusal)
        elif spell is not None and now - spell.seen >= QUIET:
            del self._refusing[server]
            log.info(f"the store refused nothing for {QUIET:g} s", store=server.address.shown)

    def _extent(self, spell: _Spell, count: int) -> dict[str, Any]:
        """For how long, and how many commands it cost."""
        return {"for_s": round(self._clock() - spell.since, 1), "refused": count - spell.count}


def _where(server: Server) -> dict[str, str]:
    """A server that Sentinels name is at another place each time."""
    address = server.address
    place = f"{address.host}:{address.port}"
    return {"store": address.shown} | ({} if address.path or place in address.shown else {"at": place})
