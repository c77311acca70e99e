"""Turns: what becomes of a user's next events, and the commit that makes it last.

A turn takes one state to another by some events of one user, in the order they came. Each has its outcome, also one
that was applied before or cannot be decided. Nothing here waits: `queues` have the events until then, `runner` the
states, the store, and whoever is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import getrandbits

import msgspec
from msgspec import Struct

from handrail import eventlog
from handrail.core import engine, frames
from handrail.core.effects import Call, Considered, Effect, Push
from handrail.core.events import Absorb, Activity, Alarm, Event, Known, Merged
from handrail.core.merge import heir_of, is_heritable
from handrail.core.program import Program
from handrail.core.state import State
from handrail.guard import Guard, SetAside
from handrail.quarantine import REST
from handrail.store.protocol import Commit, Job

Frame = tuple[int, bytes]  # offset and JSON of a numbered message

QUIET = (Activity, Known)  # events that often change nothing
QUEUED = 1_000  # ms ago: an event that old comes from a queue, and the rest of it may follow

_encode = msgspec.json.Encoder().encode


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of an event once the store has it. A `duplicate` was applied before and changes nothing; one with an
    `heir` was not applied either: the visitor it was for has become that user, whose it is. One `set_aside` (why)
    counts as applied, though it could not be decided."""

    id: str
    duplicate: bool = False
    heir: str = ""
    effects: tuple[Effect, ...] = ()
    trace: tuple[Considered, ...] = ()
    set_aside: str = ""
    more: bool = False  # decided as one after which others are to be expected


class Committed(Struct, frozen=True):
    """A commit of this process: the new state, the messages in it, the user's due time from now on, and how many
    webhook calls it asks for."""

    user: str
    state: State
    frames: tuple[Frame, ...]
    alarm: int | None
    jobs: int = 0


class Turn(Struct):
    """Events decided at `now`: the state reached and, for each event, its outcome. `more`: others are to be expected,
    so time did not pass up to now. `commit` is there once it was made: tried again, it is the same."""

    now: int
    program: Program
    events: list[Event]
    base: State
    state: State
    results: list[Outcome]
    more: bool
    commit: Commit | None = None
    bare: bool = False  # the states in it lack their ids

    @property
    def repeats(self) -> bool:
        """Whether an event of it was applied before."""
        return any(result.duplicate for result in self.results)

    @property
    def sets_aside(self) -> bool:
        return any(result.set_aside for result in self.results)

    @property
    def changes(self) -> bool:
        """Whether there is anything to write. An alarm always is: its timer has to be moved or removed."""
        applied = False
        for event, outcome in zip(self.events, self.results, strict=True):
            if not outcome.duplicate:
                if outcome.effects or not isinstance(event, QUIET):
                    return True
                applied = True
        return applied and self.state is not self.base and self.state != self.base


def decide(program: Program, base: State, events: list[Event], now: int, *, guard: Guard, more: bool) -> Turn:
    """With `more`, others wait for the next turn."""
    last = None if more else _last_new(events, base.seen)
    turn = Turn(now, program, events, base, base, [], more or (last is not None and _is_queued(last, now)))
    for event in events:
        if heir := heir_of(turn.state, event):
            turn.results.append(Outcome(id=event.id, duplicate=True, heir=heir))
            continue
        if event.id and event.id in turn.state.seen:
            turn.results.append(Outcome(id=event.id, duplicate=True))
            continue
        try:
            more = turn.more or event is not last
            step = guard.step(program, turn.state, event, now, more=more)
        except SetAside as fault:  # one event that cannot be digested must not hold up the user's others
            turn.state = engine.pass_over(turn.state, event, now)
            turn.results.append(Outcome(id=event.id, set_aside=str(fault)))
            continue
        turn.state = step.state
        turn.results.append(Outcome(id=event.id, effects=step.effects, trace=step.trace, more=more))
    return turn


def commit_of(turn: Turn, now: int, *, node: str) -> Commit:
    """What `node` has the store write of the turn, under a new op."""
    done = zip(turn.events, turn.results, strict=True)
    applied = [(event, outcome) for event, outcome in done if not outcome.duplicate]
    effects = [effect for _, outcome in applied for effect in outcome.effects]
    alarm = engine.alarm(turn.program, turn.state)
    if turn.more and alarm is not None:
        alarm = max(alarm, now + engine.FOLLOWS)
    if alarm is not None and any(isinstance(event, Alarm) and outcome.set_aside for event, outcome in applied):
        alarm = max(alarm, now + REST)
    op = f"{getrandbits(64):016x}"
    user, version, lineage = turn.base.user, turn.base.version + 1, turn.base.lineage
    return Commit(
        state=msgspec.structs.replace(turn.state, version=version, lineage=lineage, op=op),
        expected=turn.base.version,
        base=turn.base.op,
        op=op,
        frames=tuple([(e.frame.offset, frames.encode(e.frame)) for e in effects if isinstance(e, Push)]),
        alarm=alarm,
        jobs=tuple([_job(user, effect, now) for effect in effects if isinstance(effect, Call)]),
        seen=_new_ids(turn, [event for event, _ in applied]),
        log=tuple(
            [
                eventlog.write(user, event, outcome, turn.now)
                for event, outcome in applied
                if _worth_logging(event, outcome)
            ]
        ),
        node=node,
        now=now,
    )


def _last_new(events: list[Event], seen: Mapping[str, int]) -> Event | None:
    """The last that is no duplicate. Events that come together may have happened long ago: what would have fallen due
    between them must not, where the next one prevented it. So only after the last of them time passes up to now."""
    if len(events) == 1:
        return None if events[0].id and events[0].id in seen else events[0]
    new: dict[str | int, Event] = {}
    for place, event in enumerate(events):
        if not event.id or event.id not in seen:
            new.setdefault(event.id or place, event)
    return next(reversed(new.values()), None)


def _is_queued(event: Event, now: int) -> bool:
    return is_heritable(event) and event.at < now - QUEUED


def _worth_logging(event: Event, outcome: Outcome) -> bool:
    """All that a replay cannot know by itself: an alarm of which nothing came rings there anyway."""
    if outcome.effects or outcome.trace or outcome.set_aside:
        return not outcome.set_aside  # a replay would only meet the same fault
    return bool(event.lost_nodes) if isinstance(event, Alarm) else not isinstance(event, Known | Merged)


def _new_ids(turn: Turn, applied: list[Event]) -> tuple[tuple[str, int], ...]:
    """The ids applied in this turn, with those that came with an absorbed visitor, and when."""
    known, seen = turn.base.seen, turn.state.seen
    ids = seen if any(isinstance(event, Absorb) for event in applied) else {event.id: 0 for event in applied}
    return tuple((each, seen[each]) for each in ids if each in seen and each not in known)


def _job(user: str, call: Call, now: int) -> Job:
    return Job(id=call.id, user=user, webhook=call.webhook, body=_encode(call.body), created=now, due=call.at)
