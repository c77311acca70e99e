"""`{absence: …}`: something did not happen, in two shapes.

`{after: {event, where}, of: {event, where}, for, key}` is true when `for` has passed since `after` without `of`. Each
key has one wait: another `after` starts it again, an `of` that happened since ends it. The trigger's `if` is judged at
the end and sees the event that started the wait.

`{of: {event, where}, before: {event, where}, for, key}` is true on `before` if no `of` came within `for` before it;
without `for`, if none ever came.
"""

from __future__ import annotations

from bisect import bisect_right

from msgspec import Struct
from pydantic import Field

from handrail.core.compiler import Compiler, Origin
from handrail.core.durations import Duration
from handrail.core.expressions import Expression
from handrail.core.memory import key_of, recall, remember
from handrail.core.reentry import begin
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.state import Wait
from handrail.core.triggers.event import EventWhen, OnEvent
from handrail.core.turn import Turn

TIMES = 5  # latest times of `of` kept for each key: more than one matters only for events out of order


class Absence(Shape):
    after: EventWhen | None = None
    before: EventWhen | None = None
    of: EventWhen
    span: Duration | None = Field(None, alias="for")
    key: str | None = None


class AbsenceWhen(Shape):
    absence: Absence

    def hook(self, compiler: Compiler, origin: Origin) -> OnAbsence | OnUnprepared:
        shape, inside = self.absence, compiler.below("absence")
        if (shape.after is None) == (shape.before is None):
            inside.error(
                "an absence is one of 'of' after something ('after') or before it ('before'): give one of them"
            )
        if shape.after is not None and shape.span is None:
            inside.error("an absence after something needs 'for': how long it is waited for")
        if shape.span == 0:
            inside.error("an absence needs a duration longer than 0s", "for")
        of = shape.of.compile(inside.below("of"))
        key = None if shape.key is None else inside.expression(shape.key, "key")
        if shape.after is not None:
            after = shape.after.compile(inside.below("after"))
            return OnAbsence(_both(after, of), after, of, shape.span or 0, key, *origin)
        before = (shape.before or shape.of).compile(inside.below("before"))
        return OnUnprepared(_both(before, of), before, of, shape.span, key, origin.name, origin.rule)


def _both(one: OnEvent, other: OnEvent) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one.wakes, *other.wakes)))


class OnAbsence(Struct, frozen=True):
    """`index` is the hook's place among the trigger's `when`s, `rule` the trigger's fingerprint."""

    wakes: tuple[str, ...]
    after: OnEvent
    of: OnEvent
    span: int
    key: Expression | None
    trigger: str
    index: int
    rule: str

    @property
    def name(self) -> str:
        return f"{self.trigger}#{self.index}"

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        key = key_of(turn, self.key, occurrence)
        if key is None:
            return False
        if self.of.fits(turn, occurrence):
            self._meet(turn, occurrence, key)
        if self.after.fits(turn, occurrence):
            self._await(turn, occurrence, key)
        return False

    def _meet(self, turn: Turn, occurrence: Occurrence, key: str) -> None:
        """`of` happened: the wait that it belongs to is over, and an `after` that arrives behind it needs none."""
        newest = max((occurrence.at, *recall(turn.state, self.name, key)))
        remember(turn.state, self.name, self.rule, key, (newest,))
        pending = self._pending(turn, key)
        if pending is not None and pending.since <= occurrence.at:
            self._end(turn, pending)
            turn.note(self.trigger, "cancelled", detail=occurrence.name)

    def _await(self, turn: Turn, occurrence: Occurrence, key: str) -> None:
        """Start the wait, or start it again. That of a late event may be over already: it ends as time passes on."""
        at, pending = occurrence.at, self._pending(turn, key)
        met = recall(turn.state, self.name, key)
        if (met and met[0] > at) or (pending is not None and pending.since > at):
            return
        entry = begin(turn, self.trigger, occurrence, again=pending)
        if entry is None:
            return
        if pending is not None:
            self._end(turn, pending)
        turn.arm(
            Wait(
                due=at + self.span,
                trigger=self.trigger,
                hook=self.index,
                rule=self.rule,
                name=occurrence.name,
                properties=occurrence.properties,
                key=key,
                since=at,
                entry=entry,
                late=occurrence.late and at + self.span <= turn.now,
            )
        )

    def _pending(self, turn: Turn, key: str) -> Wait | None:
        mine = (self.trigger, self.index, key, "")
        return next(
            (each for each in turn.state.waits if (each.trigger, each.hook, each.key, each.message) == mine), None
        )

    def _end(self, turn: Turn, wait: Wait) -> None:
        turn.state.waits = tuple(each for each in turn.state.waits if each is not wait)


class OnUnprepared(Struct, frozen=True):
    """`name` is where the times of `of` are remembered: the latest ones, or without `within` the first."""

    wakes: tuple[str, ...]
    before: OnEvent
    of: OnEvent
    within: int | None
    key: Expression | None
    name: str
    rule: str

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        key = key_of(turn, self.key, occurrence)
        if key is None:
            return False
        times = recall(turn.state, self.name, key)
        woken = self.before.fits(turn, occurrence) and not self._came(times, occurrence.at)
        if self.of.fits(turn, occurrence):
            known = sorted((*times, occurrence.at))
            kept = known[:1] if self.within is None else known[-TIMES:]
            remember(turn.state, self.name, self.rule, key, tuple(kept))
        return woken

    def _came(self, times: tuple[int, ...], at: int) -> bool:
        earlier = times[: bisect_right(times, at)]
        return bool(earlier) and (self.within is None or earlier[-1] > at - self.within)
