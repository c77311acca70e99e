"""`{sequence: {steps: [{event, where}…], within, contiguity, key}}`: true when the last step arrives after all others.

A step counts by when it happened, and only after the step before it has arrived. For each place in the sequence the
attempt that began last is kept: no other can still be within the time when that one is not. A match uses up everything
that came before it, so matches do not overlap; an event is one step at a time.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from msgspec import Struct
from pydantic import Field

from handrail.core.compiler import Compiler, Origin
from handrail.core.durations import Duration
from handrail.core.expressions import Expression
from handrail.core.memory import key_of, recall, remember
from handrail.core.scope import Occurrence
from handrail.core.source import Shape
from handrail.core.triggers.event import EventWhen, OnEvent
from handrail.core.turn import Turn


class Sequence(Shape):
    steps: list[EventWhen] = Field(min_length=2, max_length=10)
    within: Duration | None = None
    contiguity: Literal["relaxed", "strict"] = "relaxed"
    key: str | None = None


class SequenceWhen(Shape):
    sequence: Sequence

    def hook(self, compiler: Compiler, origin: Origin) -> OnSequence:
        shape, inside = self.sequence, compiler.below("sequence")
        if shape.within == 0:
            inside.error("a sequence needs a time longer than 0s, or no 'within'", "within")
        steps = tuple(step.compile(inside.below("steps", place)) for place, step in enumerate(shape.steps))
        return OnSequence(
            wakes=tuple(dict.fromkeys(key for step in steps for key in step.wakes)),
            steps=steps,
            within=shape.within,
            strict=shape.contiguity == "strict",
            key=None if shape.key is None else inside.expression(shape.key, "key"),
            name=origin.name,
            rule=origin.rule,
        )


class Attempt(NamedTuple):
    """The first steps of a sequence: when the first and the latest happened, and the ordinal of the latest."""

    start: int
    end: int
    ordinal: int


NONE = Attempt(-1, -1, -1)  # no attempt has come that far


class OnSequence(Struct, frozen=True):
    """`name` is where its attempts are remembered: for each place but the last, the three integers of an Attempt."""

    wakes: tuple[str, ...]
    steps: tuple[OnEvent, ...]
    within: int | None
    strict: bool
    key: Expression | None
    name: str
    rule: str

    def wake(self, turn: Turn, occurrence: Occurrence) -> bool:
        key = key_of(turn, self.key, occurrence)
        if key is None or (self.strict and occurrence.ordinal < 0):
            return False
        before = self._attempts(recall(turn.state, self.name, key))
        after = list(before)
        for place, step in enumerate(self.steps):
            longer = self._continue(before[place - 1] if place else None, occurrence)
            if longer is None or not step.fits(turn, occurrence):
                continue
            if place == len(before):
                remember(turn.state, self.name, self.rule, key, ())
                return True
            if self.strict or (longer.start, -longer.end) > (after[place].start, -after[place].end):
                after[place] = longer
        if after != before:
            remember(turn.state, self.name, self.rule, key, tuple(mark for each in after for mark in each))
        return False

    def _attempts(self, marks: tuple[int, ...]) -> list[Attempt]:
        places = len(self.steps) - 1
        if len(marks) != 3 * places:  # none yet, or the sequence had another length when they were kept
            return [NONE] * places
        return [Attempt(*marks[at : at + 3]) for at in range(0, len(marks), 3)]

    def _continue(self, attempt: Attempt | None, occurrence: Occurrence) -> Attempt | None:
        """The attempt with this event as its next step (None: as its first), or None if it cannot be that."""
        at = occurrence.at
        if attempt is None:
            return Attempt(at, at, occurrence.ordinal)
        if attempt.start < 0 or at < attempt.end:
            return None
        if self.within is not None and at >= attempt.start + self.within:
            return None
        if self.strict and occurrence.ordinal - attempt.ordinal != occurrence.own:
            return None
        return Attempt(attempt.start, at, occurrence.ordinal)
