"""`{event: NAME, where: CEL}`: true when the event happens and `where`, if given, holds."""

from __future__ import annotations

from msgspec import Struct

from handrail.core.compiler import Compiler, Origin
from handrail.core.expressions import Expression
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class EventWhen(Shape):
    event: str
    where: str | None = None

    def hook(self, compiler: Compiler, origin: Origin) -> OnEvent:
        return self.compile(compiler)

    def compile(self, compiler: Compiler) -> OnEvent:
        """The event by itself, as other forms wait for it."""
        return OnEvent((f"event:{self.event}",), compiler.condition(self.where, "where"))


class OnEvent(Struct, frozen=True):
    wakes: tuple[str, ...]
    where: Expression | None

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        return self.where is None or self.where.holds(turn.scope(occurrence))[0]

    def fits(self, turn: Turn, occurrence: Occurrence) -> bool:
        """Whether it is this event at all, for patterns that wait for several."""
        return self.wakes[0] in occurrence.keys and turn.holds(self.where, occurrence)
