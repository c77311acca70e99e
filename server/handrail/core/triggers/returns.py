"""`{returns: {after: 24h}}`: true on the first activity after a gap at least that long."""

from __future__ import annotations

from msgspec import Struct

from handrail.core.compiler import Compiler, Origin
from handrail.core.durations import Duration
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class Gap(Shape):
    after: Duration


class ReturnsWhen(Shape):
    returns: Gap

    def hook(self, compiler: Compiler, origin: Origin) -> OnReturn:
        if not self.returns.after:
            compiler.error("returns needs a gap longer than 0s", "returns", "after")
        return OnReturn(("returns",), self.returns.after)


class OnReturn(Struct, frozen=True):
    wakes: tuple[str, ...]
    after: int

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        return occurrence.gap >= self.after
