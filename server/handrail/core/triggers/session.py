"""`{session: started}` and `{session: ended}`: a session ends at the last activity plus the policy's idle limit."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from handrail.core.compiler import Compiler, Origin
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class SessionWhen(Shape):
    session: Literal["started", "ended"]

    def hook(self, compiler: Compiler, origin: Origin) -> OnSession:
        return OnSession((f"event:session_{self.session}",))


class OnSession(Struct, frozen=True):
    wakes: tuple[str, ...]

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        return True
