"""Who is let in when many come at once: a bound on handshakes, judged before anything is known of the caller.

After a restart or a failure everybody comes back together. A process takes so many handshakes a second and turns the
others away with a moment to come back at, each a later one, so that what was a storm becomes a queue. Half of what it
takes at once is kept for those who were connected before, who say so in the address (a hint, no more); newcomers are
the first to be turned away when the event loop falls behind, too.
"""

from __future__ import annotations

import math
import random
from collections.abc import MutableMapping
from typing import Any, NamedTuple

import structlog

from handrail.lag import Lag
from handrail.limits import Bucket, Limits, address_of

RESERVE = 0.5  # part of the burst that newcomers leave
LONGEST_WAIT = 10.0  # seconds
SPREAD = 2  # seconds by which those who are told the same moment differ
LATE = 200  # ms by which the event loop is behind when newcomers are turned away
VERY_LATE = 1_000  # and when everybody is

log = structlog.get_logger(__name__)


class Refusal(NamedTuple):
    """Why a handshake is refused: an HTTP status, a problem code, and seconds to wait where coming back is of use."""

    status: int
    code: str
    detail: str
    fix: str
    retry_s: int = 0


class Admission:
    """One process's door."""

    def __init__(self, limits: Limits, lag: Lag) -> None:
        self._limits = limits
        self._lag = lag
        self._pace = Bucket(limits.bounds.handshakes, limits.clock())
        self._next = 0.0  # when whoever is refused next could be served
        self._hinted = False

    def refuse(self, scope: MutableMapping[str, Any]) -> Refusal | None:
        """Whether this handshake is refused; if not, it is counted."""
        address = address_of(scope.get("client"))
        return self._refuse_address(address, scope) or self._refuse_pace(resume=is_resume(scope))

    def enter(self, address: str) -> None:
        """Count a connection until it `leave`s."""
        self._limits.open[address] += 1

    def leave(self, address: str) -> None:
        self._limits.open[address] -= 1
        if not self._limits.open[address]:
            del self._limits.open[address]

    def _refuse_pace(self, *, resume: bool) -> Refusal | None:
        rate, now = self._limits.bounds.handshakes, self._limits.clock()
        if not rate.per_second:
            return None
        late = self._lag.latest > (VERY_LATE if resume else LATE)
        if not late and self._pace.take(now, keep=0.0 if resume else rate.burst * RESERVE):
            return None
        self._limits.counts.add("handshakes_refused_lag" if late else "handshakes_refused_pace")
        self._next = max(self._next, now) + 1 / rate.per_second
        return busy(self._next - now)

    def _refuse_address(self, address: str, scope: MutableMapping[str, Any]) -> Refusal | None:
        limits = self._limits
        if wait := limits.offended(address):
            return self._too_many("offences", "Too many attempts from this address failed.", wait)
        most = limits.bounds.address_connections
        if most and limits.open[address] >= most:
            self._hint(scope)
            return self._too_many("address", f"There are {most} connections from this address already.", LONGEST_WAIT)
        if wait := limits.handshakes.take(address):
            self._hint(scope)
            return self._too_many("address", "Too many connections were opened from this address.", wait)
        return None

    def _too_many(self, what: str, detail: str, wait: float) -> Refusal:
        self._limits.counts.add(f"handshakes_refused_{what}")
        return Refusal(429, "too-many-connections", detail, "Connect again later.", _when(wait))

    def _hint(self, scope: MutableMapping[str, Any]) -> None:
        """Behind a proxy that was not named, everybody is at one address."""
        if not self._hinted and any(name == b"x-forwarded-for" for name, _ in scope["headers"]):
            self._hinted = True
            log.warning("an address has too many connections, and it is a proxy's: is it in HANDRAIL_PROXIES?")


def busy(wait: float) -> Refusal:
    return Refusal(503, "busy", "Too many connect at this moment.", "Connect again in a moment.", _when(wait))


def stopping() -> Refusal:
    return Refusal(503, "draining", "The server is about to stop.", "Connect again in a moment.", _when(0))


def is_resume(scope: MutableMapping[str, Any]) -> bool:
    """Whether the caller says it was connected before."""
    query: bytes = scope.get("query_string", b"")
    if any(part.startswith((b"resume=1", b"epoch=")) for part in query.split(b"&")):
        return True
    return any(name == b"last-event-id" for name, _ in scope["headers"])


def _when(wait: float) -> int:
    return math.ceil(min(max(wait, 0.001), LONGEST_WAIT)) + random.randrange(SPREAD)
