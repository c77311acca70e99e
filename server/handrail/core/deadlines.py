"""Waiting: every instant at which something falls due for a user, read off the state.

The one alarm the store keeps for a user is the earliest of these; nothing else remembers it.
"""

from __future__ import annotations

from collections.abc import Iterator

from handrail.core.counters import next_fall
from handrail.core.program import Program, next_span
from handrail.core.state import State

# What falls due, in the order in which things due at the same instant come to pass.
EXPIRY, SESSION, FALL, WAIT, IDLE, AWAY = range(6)


def deadlines(program: Program, state: State) -> Iterator[tuple[int, int]]:
    """(due, kind) of everything pending, in no order."""
    if state.prompt is not None and state.prompt.expires:
        yield state.prompt.expires, EXPIRY
    session = state.session
    if session is not None and not session.ended:
        yield session_end(program, state), SESSION
        if any(connection.visible for connection in state.connections.values()):
            span = next_span(program.idle, state.idle_done)
            if span is not None:
                yield state.last_activity + span, IDLE
    if state.last_activity and not state.connections:
        span = next_span(program.away, state.away_done)
        if span is not None:
            yield state.last_activity + span, AWAY
    if state.waits:
        yield state.waits[0].due, WAIT
    for name, tally in state.counters.items():
        fall = next_fall(program.watched[name], tally) if name in program.watched else None
        if fall is not None:
            yield fall, FALL


def session_end(program: Program, state: State) -> int:
    """When the open session ends unless the user does something."""
    assert state.session is not None
    return min(state.last_activity + program.policy.session_idle, state.session.started + program.policy.session_max)


def alarm(program: Program, state: State) -> int | None:
    """The user's one due time: the earliest deadline, or None when nothing is pending."""
    return min((due for due, _ in deadlines(program, state)), default=None)
