"""`{idle: 3m}`: true when a user with an open session and a visible tab has done nothing for that long.

All idle triggers count from the same instant, the user's last activity; the program keeps them sorted by length, so the
next deadline is one look-up however many there are. It comes to pass once per stretch of stillness.
"""

from __future__ import annotations

from dataclasses import dataclass

from handrail.core.compiler import Compiler
from handrail.core.durations import Duration
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class IdleWhen(Shape):
    idle: Duration

    def hook(self, compiler: Compiler) -> OnIdle:
        if not self.idle:
            compiler.error("idle needs a duration longer than 0s", "idle")
        return OnIdle((), self.idle)


@dataclass(frozen=True, slots=True)
class OnIdle:
    wakes: tuple[str, ...]
    span: int

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        return True
