"""`{idle: 3m}` or `{idle: {for: 3m, step, hidden: pause | count}}`: true when a user with an open session and a visible
tab has done nothing for that long. With `step`, only while it is the step viewed last and neither completed nor
skipped; with `hidden: count`, hidden tabs are readers like visible ones.

All idle triggers count from the same instant, the user's last activity; the program keeps them sorted by length, so the
next deadline is a look-up or two however many there are. Each comes to pass once per stretch of stillness.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from pydantic import Field

from handrail.core.compiler import Compiler, Origin
from handrail.core.durations import Duration
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.turn import Turn


class Idle(Shape):
    span: Duration = Field(alias="for")
    step: str | None = Field(None, min_length=1)
    hidden: Literal["pause", "count"] = "pause"


class IdleWhen(Shape):
    idle: Duration | Idle

    def hook(self, compiler: Compiler, origin: Origin) -> OnIdle:
        shape = self.idle if isinstance(self.idle, Idle) else None
        span = self.idle if isinstance(self.idle, int) else self.idle.span
        if not span:
            compiler.error("idle needs a duration longer than 0s", "idle", "for")
        return OnIdle((), span, (shape and shape.step) or "", shape is not None and shape.hidden == "count")


class OnIdle(Struct, frozen=True):
    """`step` is empty where it may be any; `hidden` whether hidden tabs count as readers."""

    wakes: tuple[str, ...]
    span: int
    step: str = ""
    hidden: bool = False

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        return True
