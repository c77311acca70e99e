"""Waiting: every instant at which something falls due for a user, read off the state.

The one alarm the store keeps for a user is the earliest of these; nothing else remembers it.
"""

from __future__ import annotations

from collections.abc import Iterator

from handrail.core.counters import next_fall
from handrail.core.program import Program, Spans, next_span
from handrail.core.state import State
from handrail.core.stays import is_watched, reaches
from handrail.core.ticking import next_change

# What falls due, in the order in which things due at the same instant come to pass.
EXPIRY, SESSION, FALL, CLOCK, WAIT, IDLE, DWELL, AWAY, FEWER = range(9)


def deadlines(program: Program, state: State, *, until: int | None = None) -> list[tuple[int, int]]:
    """(due, kind) of everything pending, in no order; of what is due later than `until` not all."""
    found = _at_hand(program, state)
    change = next_change(program, state, until=until) if program.ticking else None
    if change is not None:
        found.append((change, CLOCK))
    return found


def _at_hand(program: Program, state: State) -> list[tuple[int, int]]:
    """What can be read off the state at once."""
    found: list[tuple[int, int]] = []
    if state.prompt is not None and state.prompt.expires:
        found.append((state.prompt.expires, EXPIRY))
    if state.session is not None and not state.session.ended:
        found.append((session_end(program, state), SESSION))
        if program.idle and state.connections:
            spans = [next_span(spans, done) for _, spans, done in stillness(program, state)]
            found += [(state.last_activity + span, IDLE) for span in spans if span is not None]
    if state.stay is not None and state.stay.step in program.dwell:
        span = next_span(program.dwell[state.stay.step], state.stay.done)
        due = None if span is None else reaches(program.policy, state, span)
        if due is not None:
            found.append((due, DWELL))
    if state.last_activity and not state.connections:
        span = next_span(program.away, state.away_done)
        if span is not None:
            found.append((state.last_activity + span, AWAY))
    if state.waits:
        found.append((state.waits[0].due, WAIT))
    if state.counters and (program.watched or program.falling):
        found += _falls(program, state)
    return found


def _falls(program: Program, state: State) -> Iterator[tuple[int, int]]:
    for name, tally in state.counters.items():
        fall = next_fall(program.watched[name], tally) if name in program.watched else None
        if fall is not None:
            yield fall, FALL
        fewer = program.falling[name][1].due(tally) if name in program.falling else None
        if fewer is not None:
            yield fewer, FEWER


def stillness(program: Program, state: State) -> list[tuple[bool, Spans, int]]:
    """(whether hidden tabs count, lengths with triggers, dealt with up to) of the idle triggers that concern a user:
    those of any step and those of the step they are on, as far as there is a tab to be still in."""
    if not state.connections or not program.idle:
        return []
    steps = ("", state.stay.step) if state.stay is not None and state.stay.step else ("",)
    found: list[tuple[bool, Spans, int]] = []
    for hidden, done in ((False, state.idle_done), (True, state.still_done)):
        if hidden or is_watched(state):
            found += [(hidden, program.idle[step, hidden], done) for step in steps if (step, hidden) in program.idle]
    return found


def session_end(program: Program, state: State) -> int:
    """When the open session ends unless the user does something."""
    assert state.session is not None
    return min(state.last_activity + program.policy.session_idle, state.session.started + program.policy.session_max)


def alarm(program: Program, state: State) -> int | None:
    """The user's one due time: the earliest deadline, or None when nothing is pending."""
    if state.merger is not None:
        return state.merger.due or None
    pending = _at_hand(program, state)
    due = min(pending)[0] if pending else None
    change = (
        next_change(program, state, until=due) if program.ticking else None
    )  # found by looking ahead, and no further than it matters
    return due if change is None else change if due is None else min(due, change)
