"""When a condition that reads the clock may change its truth, taken from its syntax tree.

As long as nothing happens, `now` and the length of an open session grow, a millisecond each millisecond, and nothing
else does. So a comparison whose sides are sums of these and of what stands still changes at one instant, that of their
crossing; a part of a time (its hours, say) changes when clocks in its zone show the next one. What the clock goes into
otherwise (`string(now)`) cannot be followed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from msgspec import Struct

from handrail.core import values
from handrail.core.closures import build
from handrail.core.syntax import Node
from handrail.core.values import Closure, Doubt, Source
from handrail.core.zones import day_of, next_full

_COMPARISONS = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"})
_FULL = {"getSeconds": 1, "getMinutes": 60, "getHours": 3600}
_DAYS = frozenset({"getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"})


class Slope(NamedTuple):
    """How fast something grows with `now` and with the length of the session, in milliseconds each millisecond."""

    now: int = 0
    session: int = 0

    def rate(self, *, open_session: bool) -> int:
        return self.now + self.session * open_session


_STILL = Slope()
GROWING = {"now": Slope(now=1), "user.session.length": Slope(session=1)}

# (scope at `now`, now, whether there is an open session) -> the next instant after `now` at which something may change
Instant = Callable[[Source, int, bool], int | None]


class Clock(Struct, frozen=True):
    """`instants` of one condition; it is `followed` if there are no others at which time alone changes it."""

    instants: tuple[Instant, ...]
    followed: bool

    def next(self, scope: Source, now: int, *, open_session: bool) -> int | None:
        """The first instant after `now` at which the condition may change by time alone; `scope` is as of `now`."""
        found = (instant(scope, now, open_session) for instant in self.instants)
        return min((each for each in found if each is not None and each > now), default=None)


def read_clock(tree: Node) -> Clock | None:
    """The clock of a condition; None where it reads none."""
    if not _reads_clock(tree):
        return None
    survey = _Survey()
    followed = survey.slope(tree) == _STILL and survey.followed
    return Clock(tuple(survey.instants), followed)


def _reads_clock(node: Node) -> bool:
    return any(each.kind == "name" and each.name in GROWING for each in node.walk())


class _Survey:
    """What is found on the way through a tree."""

    def __init__(self) -> None:
        self.instants: list[Instant] = []
        self.followed = True

    def slope(self, node: Node) -> Slope:
        """How fast the node's value grows between the instants found."""
        if node.kind == "name":
            return GROWING.get(node.name, _STILL)
        if node.kind == "loop":
            return self._whole(node)
        slopes = [self.slope(part) for part in node.parts]
        match node.name, slopes:
            case "_+_", [left, right]:
                return Slope(left.now + right.now, left.session + right.session)
            case "_-_", [left, right]:
                return Slope(left.now - right.now, left.session - right.session)
            case name, [left, right] if name in _COMPARISONS:
                slope = Slope(left.now - right.now, left.session - right.session)
                return self._note(slope, _crossing, *node.parts)
            case name, [slope, *zone] if (name in _FULL or name in _DAYS) and zone in ([], [_STILL]):
                if slope.now < 0 or slope.session < 0:
                    return self._unknown()
                return self._note(slope, lambda *read: _next_part(name, *read), *node.parts)
        return self._unknown() if any(slope != _STILL for slope in slopes) else _STILL

    def _whole(self, loop: Node) -> Slope:
        return self._unknown() if _reads_clock(loop) else _STILL

    def _unknown(self) -> Slope:
        self.followed = False
        return _STILL

    def _note(self, slope: Slope, find: Callable[..., int | None], *nodes: Node) -> Slope:
        """Have an instant found from the values of these nodes, as far as they grow at this rate."""
        if slope == _STILL:
            return _STILL
        closures = [build(node) for node in nodes]
        if None in closures:
            return self._unknown()
        self.instants.append(_instant(slope, find, [each for each in closures if each is not None]))
        return _STILL


def _instant(slope: Slope, find: Callable[..., int | None], closures: list[Closure]) -> Instant:
    def instant(scope: Source, now: int, open_session: bool) -> int | None:
        rate = slope.rate(open_session=open_session)
        if not rate:
            return None
        try:
            return find(now, rate, *(closure(scope, None) for closure in closures))
        except Doubt:
            return None  # an error stays one until something happens

    return instant


def _crossing(now: int, rate: int, left: Any, right: Any) -> int | None:
    """When left and right are equal, or the first millisecond after it."""
    apart = values.subtract(left, right)
    return _reached(now, rate, -values.micros(apart)) if type(apart) is timedelta else None


def _reached(now: int, rate: int, way: int) -> int | None:
    """When something that grows at the rate has gone `way` microseconds, or the first millisecond after that, whichever
    is next: at the one `>=` changes, at the other `>`."""
    way, rate = (-way, -rate) if rate < 0 else (way, rate)
    last = now + way // (1000 * rate)
    exact = way % (1000 * rate) == 0
    return next((each for each in ((last,) if exact else ()) if each > now), last + 1 if last + 1 > now else None)


def _next_part(name: str, now: int, rate: int, value: Any, zone: Any = None) -> int | None:
    """When a part of a growing time or duration is next another one."""
    if type(value) is datetime:
        at = values.whole_ms(value)
        where = UTC if zone is None else values.zone_of_name(zone)
        full = day_of(at, where)[1] if name in _DAYS else next_full(at, where, seconds=_FULL[name])
        return now + -(-(full - at) // rate)
    if type(value) is timedelta and zone is None and name in values.SPANS:
        unit, passed = values.SPANS[name], values.micros(value)
        if passed < 0 and passed % unit == 0:
            return now + 1  # below zero it is rounded up
        return _reached(now, rate, (passed // unit + 1) * unit - passed)
    return None
