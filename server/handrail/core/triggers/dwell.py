"""`{dwell: {step, for}}`: true when the visible, non-idle time on the step reaches `for`; once per stay on it.

The program keeps the lengths of each step sorted, so the next deadline is one look-up.
"""

from __future__ import annotations

from msgspec import Struct
from pydantic import Field

from handrail.core.compiler import Compiler, Origin
from handrail.core.durations import Duration
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class Dwell(Shape):
    step: str = Field(min_length=1)
    span: Duration = Field(alias="for")


class DwellWhen(Shape):
    dwell: Dwell

    def hook(self, compiler: Compiler, origin: Origin) -> OnDwell:
        if not self.dwell.span:
            compiler.error("dwell needs a duration longer than 0s", "dwell", "for")
        return OnDwell((), self.dwell.span, self.dwell.step)


class OnDwell(Struct, frozen=True):
    wakes: tuple[str, ...]
    span: int
    step: str

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        return True
