"""`{enters: SEGMENT}` and `{leaves: SEGMENT}`: true when the user comes to belong to it, or no longer does."""

from __future__ import annotations

from msgspec import Struct

from handrail.core.compiler import Compiler, Origin
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class EntersWhen(Shape):
    enters: str

    def hook(self, compiler: Compiler, origin: Origin) -> OnSegment:
        compiler.refer("segment", self.enters, compiler.names.segments, "enters")
        return OnSegment((f"enters:{self.enters}",))


class LeavesWhen(Shape):
    leaves: str

    def hook(self, compiler: Compiler, origin: Origin) -> OnSegment:
        compiler.refer("segment", self.leaves, compiler.names.segments, "leaves")
        return OnSegment((f"leaves:{self.leaves}",))


class OnSegment(Struct, frozen=True):
    wakes: tuple[str, ...]

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        return True
