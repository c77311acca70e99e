"""`{count: {event, where, distinct, at_least, within | first | over}}`: true on the event that makes the count reach
`at_least`; once per crossing, so again only after the count has fallen below (a window moved on, a session began)."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from handrail.core.compiler import Compiler
from handrail.core.counters import Counter, CountShape, total
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class Count(CountShape):
    event: str
    at_least: int = Field(ge=1, le=1000)


class CountWhen(Shape):
    count: Count

    def hook(self, compiler: Compiler, *, name: str) -> OnCount:
        """`name` tells this count's memory apart from every other counter's."""
        count = self.count
        return OnCount(
            (f"event:{count.event}",), compile_count(count, compiler.below("count"), count.event, name), count.at_least
        )


@dataclass(frozen=True, slots=True)
class OnCount:
    wakes: tuple[str, ...]
    counter: Counter
    at_least: int

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        before = total(self.counter, turn.state, now=turn.now)
        if not turn.count(self.counter, occurrence):
            return False
        return before < self.at_least <= total(self.counter, turn.state, now=turn.now)


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
