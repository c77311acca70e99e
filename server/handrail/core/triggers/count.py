"""`{count: {event, where, distinct, at_least | at_most, within | first | over}}`: true on the event that makes it
reach `at_least`, or at the instant at which a sliding count falls to `at_most`; once per crossing.

A count that falls is brought about by no event: it is a deadline. Of the events in the window only the `at_most` + 1
latest matter, and it comes when the oldest of those leaves the window.
"""

from __future__ import annotations

from msgspec import Struct
from pydantic import Field

from handrail.core.compiler import Compiler, Origin
from handrail.core.counters import Counter, CountShape, add, prune, total
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.state import Tally
from handrail.core.turn import Turn


class Count(CountShape):
    event: str
    at_least: int | None = Field(None, ge=1, le=1000)
    at_most: int | None = Field(None, ge=0, le=999)


class CountWhen(Shape):
    count: Count

    def hook(self, compiler: Compiler, origin: Origin) -> OnCount | OnFall:
        count, inside = self.count, compiler.below("count")
        name = origin.name  # tells this count's memory apart from every other counter's
        if count.at_most is not None:  # another bound or window is another memory: what is left of this one is stale
            name = f"{name}:{count.at_most}:{count.within}"
        counter = compile_count(count, inside, count.event, name)
        if (count.at_least is None) == (count.at_most is None):
            inside.error("a count comes true when it rises to 'at_least' or falls to 'at_most': give one of them")
        if count.at_most is None:
            return OnCount((f"event:{count.event}",), counter, count.at_least or 1)
        if not count.within:
            inside.error("only a sliding count falls: 'at_most' needs 'within', longer than 0s", "at_most")
        return OnFall((f"event:{count.event}",), counter, count.at_most, count.within or 0)


class OnCount(Struct, frozen=True):
    wakes: tuple[str, ...]
    counter: Counter
    at_least: int

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        before = total(self.counter, turn.state, now=turn.now)
        if not turn.count(self.counter, occurrence):
            return False
        return before < self.at_least <= total(self.counter, turn.state, now=turn.now)


class OnFall(Struct, frozen=True):
    """Its tally holds the latest `at_most` + 1 events (distinct: values): one that is full waits to fall."""

    wakes: tuple[str, ...]
    counter: Counter
    at_most: int
    within: int

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        """Counts the event, unless it comes so late that it has left the window; never wakes by itself."""
        value = turn.counted(self.counter, occurrence)
        if value is None or occurrence.at + self.within <= turn.now:
            return False
        counters, name = turn.state.counters, self.counter.name
        if name in counters and self.due(counters[name]) is None:
            counters[name] = prune(self.counter, counters[name], now=turn.now)
        counters[name] = self._latest(add(self.counter, turn.state, at=occurrence.at, value=value))
        return False

    def due(self, tally: Tally) -> int | None:
        """When the count falls to `at_most`, or None while it is not above."""
        times = sorted(tally.values.values()) if self.counter.distinct is not None else tally.times
        return times[-self.at_most - 1] + self.within if len(times) > self.at_most else None

    def fall(self, tally: Tally, instant: int) -> Tally:
        """The tally after the instant at which it was due."""
        return prune(self.counter, tally, now=instant)

    def _latest(self, tally: Tally) -> Tally:
        values = sorted(tally.values.items(), key=lambda each: each[1])
        return Tally(tally.total, tally.times[-self.at_most - 1 :], dict(values[-self.at_most - 1 :]))


def compile_count(shape: CountShape, compiler: Compiler, event: str, name: str) -> Counter:
    spans = shape.spans()
    if len(spans) > 1:
        compiler.error(f"'{spans[1]}' cannot be had together with '{spans[0]}': a count has one span", spans[1])
    return Counter(
        name=name,
        event=event,
        where=compiler.condition(shape.where, "where"),
        distinct=None if shape.distinct is None else compiler.expression(shape.distinct, "distinct"),
        within=shape.within,
        first=shape.first,
        session=shape.over == "session",
    )
