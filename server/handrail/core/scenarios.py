"""Tests of rules, in YAML and on a virtual clock: a user, a timeline, and what should have been decided by when.

The engine that runs here is the one that runs live; only the clock is ours. Between two entries of the timeline the
user's alarm rings whenever it falls due, as it would on a server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any

import msgspec
from msgspec import Struct

from handrail.core.deadlines import alarm
from handrail.core.durations import format_duration
from handrail.core.effects import Considered, Decision
from handrail.core.engine import fresh, step
from handrail.core.events import Activity, Alarm, Connected, Consent, Disconnected, Event, Identify, Track
from handrail.core.holdout import WHOLE
from handrail.core.program import Program
from handrail.core.refresh import refresh_flow, refresh_segments
from handrail.core.state import State
from handrail.core.testfiles import EntryShape, GivenShape, Scenario, instant
from handrail.core.turn import Turn

RINGS = 100_000  # alarms between two entries; more means that rules keep each other awake for ever


class Failure(Struct, frozen=True):
    """An expectation that was not met, with what was decided instead, ready to print. `difference` has a line for each
    entry: with `-` what was expected and not decided, with `+` the reverse, indented what agrees."""

    path: str
    line: int
    at: str
    expected: tuple[str, ...]
    decided: tuple[str, ...]
    difference: tuple[str, ...]


class Result(Struct, frozen=True):
    """The outcome of one test; `log` has a line for each trigger considered."""

    scenario: Scenario
    failures: tuple[Failure, ...]
    log: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.failures


def run(program: Program, scenario: Scenario) -> Result:
    """Play one test from its start to the last entry of its timeline."""
    play = _Play(program, scenario.shape.given)
    failures = []
    for line, entry in zip(scenario.lines, scenario.shape.timeline, strict=True):
        play.advance(entry.at)
        for event in play.events(entry):
            play.take(event)
        if entry.expect is not None:
            failure = play.expect(entry, scenario.path, line)
            failures.extend([failure] if failure else [])
    return Result(scenario, tuple(failures), tuple(play.log))


class _Play:
    """A test under way: the user's state, the clock, and what was decided since the last expectation."""

    def __init__(self, program: Program, given: GivenShape) -> None:
        self.program = program = _held(program, given)
        self.start = self.now = instant(given.now)
        self.count = 0
        self.decisions: list[Decision] = []
        self.suppressed: list[Considered] = []
        self.log: list[str] = []
        self.state = _given(program, given, self.start)
        if given.connected:
            self.take(self.connection())

    def connection(self) -> Connected:
        self.count += 1
        return Connected(id=f"connect-{self.count}", at=self.now, connection=f"c{self.count}", node="test")

    def advance(self, at: int) -> None:
        """Let the clock run to `at` milliseconds after the start, ringing every alarm on the way."""
        until = self.start + at
        for _ in range(RINGS):
            due = alarm(self.program, self.state)
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.take(Alarm(at=self.now))
        self.now = until

    def take(self, event: Event) -> None:
        done = step(self.program, self.state, event, self.now)
        self.state = done.state
        self.decisions.extend(effect for effect in done.effects if isinstance(effect, Decision))
        self.suppressed.extend(line for line in done.trace if line.outcome == "suppressed")
        self.log.extend(f"{format_duration(self.now - self.start)} {self.tell(line)}" for line in done.trace)

    def tell(self, line: Considered) -> str:
        until = "" if line.until is None else f"until {format_duration(line.until - self.start)}"
        parts = [line.trigger or "(rules)", line.outcome, line.reason, until, line.detail and f"({line.detail})"]
        return " ".join(part for part in parts if part)

    def events(self, entry: EntryShape) -> Iterator[Event]:
        """What an entry makes happen."""
        self.count += 1
        name, at = f"entry-{self.count}", self.now
        if entry.event is not None:
            properties = entry.properties or {}
            yield Track(id=name, name=entry.event, at=at, properties=properties, context=entry.context or {})
        if entry.identify is not None:
            yield Identify(id=name, at=at, traits=entry.identify, context=entry.context or {})
        if entry.consent is not None:
            yield Consent(id=name, at=at, purposes=entry.consent)
        if entry.connect:
            yield self.connection()
        if entry.disconnect:
            yield from (Disconnected(id=f"{name}-{each}", at=at, connection=each) for each in self.state.connections)
        if entry.visible is not None or entry.activity:
            shown = entry.visible is not False
            yield from (
                Activity(id=f"{name}-{each}", at=at, connection=each, visible=shown) for each in self.state.connections
            )

    def expect(self, entry: EntryShape, path: str, line: int) -> Failure | None:
        """Compare with what was decided since the last expectation, and begin anew."""
        wanted = entry.expect or []
        decided = [_entry(decision) for decision in self.decisions]
        held_back = [{"suppressed": each.reason, "trigger": each.trigger} for each in self.suppressed]
        self.decisions, self.suppressed = [], []
        named = [each for each in wanted if "suppressed" in each]
        if _match([each for each in wanted if "suppressed" not in each], decided) and (
            not named or _match(named, held_back)
        ):
            return None
        shown = decided + (held_back if named else [])
        return Failure(
            path,
            line,
            format_duration(entry.at),
            tuple(map(_show, wanted)),
            tuple(map(_show, shown)),
            tuple(_difference(wanted, shown)),
        )


def _held(program: Program, given: GivenShape) -> Program:
    """Whether the test's user is held out is for the test to say, not for chance."""
    return replace(program, policy=replace(program.policy, holdout=WHOLE if given.holdout else 0))


def _given(program: Program, given: GivenShape, now: int) -> State:
    """The user as the test finds them: what they already belong to is not entered again."""
    state = fresh(program, "test-user", "test", now)
    told = {"timezone": given.timezone, "locale": given.locale}
    state.traits = {**given.traits, **{key: value for key, value in told.items() if value is not None}}
    state.location = given.location.model_dump(exclude_none=True)
    state.device = given.device.model_dump(exclude_none=True)
    state.pinned = tuple(given.segments)
    state.segments = tuple(sorted(given.segments))
    turn = Turn(program, state, now)
    turn.touched.update(program.segments_reading, ("user.steps",))
    refresh_segments(turn)
    refresh_flow(turn)
    state.rules, state.version, state.offset = program.version, 1, 0
    return state


def _entry(decision: Decision) -> dict[str, Any]:
    entry = {decision.action: decision.value, "trigger": decision.trigger}
    return entry if decision.variant is None else {**entry, "variant": decision.variant}


def _match(wanted: list[dict[str, Any]], found: list[dict[str, Any]]) -> bool:
    return len(wanted) == len(found) and all(map(_agrees, wanted, found))


def _agrees(wanted: Any, found: Any) -> bool:
    """Equal, or for mappings: every key given agrees."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(key in found and _agrees(value, found[key]) for key, value in wanted.items())
    return bool(wanted == found)


def _difference(wanted: list[dict[str, Any]], found: list[dict[str, Any]]) -> Iterator[str]:
    """The two lists one under the other, the longest runs that agree side by side."""
    free = list(range(len(wanted)))
    known = []  # for each entry found, the place of the one expected that it agrees with
    for number, each in enumerate(found):
        place = next((index for index in free if _agrees(wanted[index], each)), None)
        known.append(len(wanted) + number if place is None else place)
        free = [index for index in free if index != place]
    for kind, start, end, first, last in SequenceMatcher(None, range(len(wanted)), known).get_opcodes():
        if kind == "equal":
            yield from (f"  {_show(each)}" for each in found[first:last])
            continue
        yield from (f"- {_show(each)}" for each in wanted[start:end])
        yield from (f"+ {_show(each)}" for each in found[first:last])


def _show(entry: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key}: {value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for key, value in entry.items()
    )
