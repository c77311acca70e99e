"""`{away: 24h}`: true when that long has passed since the last activity and nobody is connected; once per absence, as
soon as both hold. Kept sorted by length, as idle triggers are."""

from __future__ import annotations

from msgspec import Struct

from handrail.core.compiler import Compiler, Origin
from handrail.core.durations import Duration
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class AwayWhen(Shape):
    away: Duration

    def hook(self, compiler: Compiler, origin: Origin) -> OnAway:
        if not self.away:
            compiler.error("away needs a duration longer than 0s", "away")
        return OnAway((), self.away)


class OnAway(Struct, frozen=True):
    wakes: tuple[str, ...]
    span: int

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        return True
