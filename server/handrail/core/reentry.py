"""`reentry: {max, min_interval, concurrent, key}`: how often, how soon and how many at a time a trigger is entered.

An entry is what sets a trigger going: the event that begins its wait (`delay`, `absence` after something), or its
coming true where there is nothing to wait for; that counts once it acts, is held out or is put off. By key, the number
of entries and the time of the latest are remembered; entries of different keys know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from handrail.core.compiler import Compiler
from handrail.core.durations import Duration, format_duration
from handrail.core.expressions import Expression
from handrail.core.memory import key_of, recall, remember
from handrail.core.policy import Block
from handrail.core.scope import NOTHING, Occurrence
from handrail.core.source import Shape
from handrail.core.state import State, Wait
from handrail.core.turn import Turn

if TYPE_CHECKING:
    from handrail.core.program import Trigger

KEYS = 50  # whose entries are remembered of one trigger and user, the latest


class ReentryShape(Shape):
    max: int | None = Field(None, ge=1)
    min_interval: Duration = 0
    concurrent: bool = True
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Reentry:
    """`most` entries of one key at all, each at least `interval` milliseconds after the one before."""

    most: int | None
    interval: int
    concurrent: bool
    key: Expression | None

    def too_many(self, entry: Entry) -> Block | None:
        if self.most is None or entry.count < self.most:
            return None
        return Block("limit", f"reentry: {self._told(f'{self.most} at most')}")

    def too_soon(self, entry: Entry) -> Block | None:
        until = entry.last + self.interval
        if not self.interval or not entry.count or entry.at >= until:
            return None
        return Block("cooldown", f"reentry: {self._told(f'{format_duration(self.interval)} apart')}", until)

    def crowded(self, entry: Entry) -> Block | None:
        """Not a suppression: what waits already stands for this one, too."""
        if self.concurrent or entry.wait is None:
            return None
        return Block("reentry", "one of this key waits already" if self.key else "one waits already", entry.wait.due)

    def _told(self, bound: str) -> str:
        return f"{bound} of one key" if self.key else bound


@dataclass(frozen=True, slots=True)
class Entry:
    """What would be an entry at the time `at`, and what there is of its key: `count` entries, the time of the `last`,
    and a `wait` that is pending."""

    key: str
    at: int
    count: int
    last: int
    wait: Wait | None


def compile_reentry(shape: ReentryShape | None, compiler: Compiler) -> Reentry | None:
    if shape is None:
        return None
    if shape.max is None and not shape.min_interval and shape.concurrent:
        compiler.warn("has no effect: give 'max', 'min_interval' or 'concurrent: false'", "reentry")
    key = None if shape.key is None else compiler.expression(shape.key, "reentry", "key")
    return Reentry(shape.max, shape.min_interval, shape.concurrent, key)


def name_of(trigger: str) -> str:
    """Where the trigger's entries are remembered."""
    return f"{trigger}#entries"


def both(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """The entries of two histories of one person, of one key."""
    return (one[0] + other[0], max(one[1], other[1]))


def entry_of(turn: Turn, trigger: Trigger, occurrence: Occurrence) -> Entry | None:
    """The entry that the trigger's coming true would be; None where it is none, or was one when it began to wait."""
    if trigger.reentry is None or occurrence.entry is not None:
        return None
    if occurrence is NOTHING:  # asked what would be: of a key there is nothing to tell
        return None if trigger.reentry.key or not trigger.enters_at_once else _look(turn, trigger, "", turn.now)
    return _find(turn, trigger, occurrence)


def lacks_key(turn: Turn, trigger: Trigger, occurrence: Occurrence) -> bool:
    """Whether it is no entry because it has no key, which the trace then says."""
    if trigger.reentry is None or occurrence.entry is not None or occurrence is NOTHING:
        return False
    lacking = _find(turn, trigger, occurrence) is None
    if lacking:
        _note_keyless(turn, trigger)
    return lacking


def enter(turn: Turn, trigger: Trigger, occurrence: Occurrence) -> str:
    """Count the entry, if this is one; its key."""
    entry = entry_of(turn, trigger, occurrence)
    if entry is None:
        return occurrence.entry or ""
    _count(turn, trigger, entry)
    return entry.key


def begin(turn: Turn, name: str, occurrence: Occurrence, *, again: Wait | None = None) -> str | None:
    """Enter the trigger by beginning a wait: the entry's key, or None where it is turned away, as the trace then says.

    `again` is the wait that the new one would replace: of the same key it is no new entry.
    """
    trigger = turn.program.triggers[name]
    reentry = trigger.reentry
    if reentry is None:
        return ""
    entry = _find(turn, trigger, occurrence)
    if entry is None:
        _note_keyless(turn, trigger)
        return None
    anew = again is None or again.entry != entry.key
    block = reentry.crowded(entry)
    if anew:
        block = reentry.too_many(entry) or reentry.too_soon(entry) or block
    if block is not None:
        turn_away(turn, trigger, block)
        return None
    if anew:
        _count(turn, trigger, entry)
    return entry.key


def _count(turn: Turn, trigger: Trigger, entry: Entry) -> None:
    marks = (entry.count + 1, max(entry.at, entry.last))
    remember(turn.state, name_of(trigger.name), trigger.rule, entry.key, marks, keys=KEYS)


def standing(turn: Turn, trigger: Trigger) -> Iterator[tuple[str, str, Block | None]]:
    """(reason, rule, what would turn an entry away at this moment) of each bound, where there is no key."""
    reentry = trigger.reentry
    if reentry is None:
        return
    entry = _look(turn, trigger, "", turn.now)
    if reentry.most is not None:
        yield "limit", f"reentry: {reentry.most} at most", reentry.too_many(entry)
    if reentry.interval:
        yield "cooldown", f"reentry: {format_duration(reentry.interval)} apart", reentry.too_soon(entry)
    if not reentry.concurrent:
        yield "reentry", "one at a time", reentry.crowded(entry)


def turn_away(turn: Turn, trigger: Trigger, block: Block, also: str = "") -> None:
    """Note what held the trigger back."""
    outcome = "ignored" if block.reason == "reentry" else "suppressed"
    turn.note(trigger.name, outcome, reason=block.reason, detail=block.detail + also, until=block.until)


def _note_keyless(turn: Turn, trigger: Trigger) -> None:
    source = trigger.reentry.key.source if trigger.reentry and trigger.reentry.key else ""
    turn.note(trigger.name, "not-met", reason=source, detail="reentry: the event has no key")


def _find(turn: Turn, trigger: Trigger, occurrence: Occurrence) -> Entry | None:
    """The entry that the event would be, or None if it has no key."""
    assert trigger.reentry is not None
    key = key_of(turn, trigger.reentry.key, occurrence)
    return None if key is None else _look(turn, trigger, key, occurrence.at)


def _look(turn: Turn, trigger: Trigger, key: str, at: int) -> Entry:
    total, last = recall(turn.state, name_of(trigger.name), key) or (0, 0)
    return Entry(key, at, total, last, _pending(turn.state, trigger.name, key))


def _pending(state: State, trigger: str, key: str) -> Wait | None:
    mine = (trigger, key, "")
    return next((each for each in state.waits if (each.trigger, each.entry, each.message) == mine), None)
