"""`{delay: {after: {event, where}, for}}`: true when `for` has passed since the event, wherever the user is by then.

Each qualifying event arms a wait of its own; the trigger's `if` is judged when the wait is over, and sees that event.
"""

from __future__ import annotations

from msgspec import Struct
from pydantic import Field

from handrail.core.compiler import Compiler, Origin
from handrail.core.durations import Duration
from handrail.core.expressions import Expression
from handrail.core.reentry import begin
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.state import Wait
from handrail.core.triggers.event import EventWhen
from handrail.core.turn import Turn


class Delay(Shape):
    after: EventWhen
    span: Duration = Field(alias="for")


class DelayWhen(Shape):
    delay: Delay

    def hook(self, compiler: Compiler, origin: Origin) -> OnDelay:
        after = self.delay.after
        return OnDelay(
            wakes=(f"event:{after.event}",),
            where=compiler.condition(after.where, "delay", "after", "where"),
            span=self.delay.span,
            trigger=origin.trigger,
            index=origin.place,
            rule=origin.rule,
        )


class OnDelay(Struct, frozen=True):
    """`index` is the hook's place among the trigger's `when`s, `rule` the trigger's fingerprint."""

    wakes: tuple[str, ...]
    where: Expression | None
    span: int
    trigger: str
    index: int
    rule: str

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        """Arms the wait; the trigger is woken only by a delay of 0s, where there is nothing to wait for."""
        if not turn.holds(self.where, occurrence):
            return False
        due = occurrence.at + self.span
        if not self.span:
            return True
        entry = begin(turn, self.trigger, occurrence)
        if entry is None:
            return False
        turn.arm(
            Wait(
                due=due,
                trigger=self.trigger,
                hook=self.index,
                rule=self.rule,
                name=occurrence.name,
                properties=occurrence.properties,
                entry=entry,
                late=occurrence.late and due <= turn.now,
            )
        )
        return False
