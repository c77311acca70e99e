"""Counting events: without end, in a sliding window, in the user's first days, or in the present session.

A `Counter` is the rule, a `Tally` (in the state) its memory for one user. A plain count keeps a number, a window the
times inside it, a distinct count the values with the time each was last seen.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from hashlib import blake2b
from typing import Annotated, Any, Literal

from msgspec import Struct
from pydantic import BeforeValidator

from handrail.core.durations import Duration
from handrail.core.expressions import Expression
from handrail.core.names import Identifier
from handrail.core.source import Shape
from handrail.core.state import State, Tally

KEPT = 1_000  # times or values kept for one counter of one user, the newest
LONGEST = 64  # characters of a value kept as it is; a longer one is known by its hash


def _check_window(value: Any) -> Any:
    if value == "session":
        raise ValueError("expected a duration such as 7d, found 'session'; did you mean 'over: session'?")
    return value


class CountShape(Shape):
    """What counters and `count` triggers share: which events, whether distinct, and over what span."""

    where: str | None = None
    distinct: str | None = None
    within: Annotated[Duration, BeforeValidator(_check_window)] | None = None
    first: Duration | None = None
    over: Literal["session"] | None = None

    def spans(self) -> list[str]:
        return [key for key in ("within", "first", "over") if getattr(self, key) is not None]


class CounterShape(CountShape):
    counter: Identifier
    description: str | None = None
    of: str


class Counter(Struct, frozen=True):
    name: str
    event: str
    where: Expression | None = None
    distinct: Expression | None = None
    within: int | None = None
    first: int | None = None
    session: bool = False


def add(counter: Counter, state: State, *, at: int, value: str = "") -> Tally:
    """The tally after one more event at `at` (`value` is what a distinct counter tells apart)."""
    tally = _current(counter, state)
    if counter.first is not None and at >= state.first_seen + counter.first:
        return tally
    if counter.distinct is not None:
        if len(value) > LONGEST:
            value = blake2b(value.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        values = {**tally.values, value: max(at, tally.values.get(value, at))}
        if len(values) > KEPT:
            del values[min(values, key=values.__getitem__)]
        return Tally(tally.total, tally.times, values)
    if counter.within is not None:
        times = list(tally.times)
        insort(times, at)
        return Tally(0, tuple(times[-KEPT:]))
    return Tally(tally.total + 1, tally.times, tally.values)


def total(counter: Counter, state: State, *, now: int) -> int:
    """What the counter shows at `now`; 0 for one never touched."""
    tally = state.counters.get(counter.name)
    if tally is None:
        return 0
    if counter.session:
        tally = _current(counter, state)
    if counter.within is None:
        return len(tally.values) if counter.distinct is not None else tally.total
    edge = now - counter.within
    if counter.distinct is not None:
        return sum(at > edge for at in tally.values.values())
    return len(tally.times) - bisect_right(tally.times, edge)


def prune(counter: Counter, tally: Tally, *, now: int) -> Tally:
    """The tally without what a sliding window has left behind."""
    if counter.within is None:
        return tally
    edge = now - counter.within
    return Tally(
        tally.total,
        tally.times[bisect_right(tally.times, edge) :],
        {value: at for value, at in tally.values.items() if at > edge},
    )


def next_fall(counter: Counter, tally: Tally) -> int | None:
    """The instant at which a sliding count next falls by itself, or None."""
    if counter.within is None:
        return None
    oldest = tally.times[0] if tally.times else min(tally.values.values(), default=None)
    return None if oldest is None else oldest + counter.within


def _current(counter: Counter, state: State) -> Tally:
    """The stored tally; for a session counter an empty one once its session is over. `times` holds the session then."""
    tally = state.counters.get(counter.name, Tally())
    if not counter.session:
        return tally
    started = state.session.started if state.session else 0
    return tally if tally.times == (started,) else Tally(0, (started,))
