"""Activity, sessions and returns: what makes a visit.

Only the user's own activity starts or extends a session; it ends at the last activity plus the policy's idle limit and
is stamped so, whenever that is discovered.
"""

from __future__ import annotations

from msgspec.structs import replace

from handrail.core.deadlines import session_end
from handrail.core.deferrals import break_silence
from handrail.core.scope import Occurrence
from handrail.core.state import Session
from handrail.core.stays import count_stay
from handrail.core.turn import Turn


def touch(turn: Turn, at: int) -> None:
    """The user did something at `at`: extend the session or start one, and say so if this ends an absence."""
    state = turn.state
    session = state.session
    if session is not None and session.newest < at:
        state.session = session = replace(session, newest=at)
    if at <= state.last_activity:
        return
    gap = at - state.last_activity if state.last_activity else 0
    before = state.last_activity
    count_stay(turn.program.policy, state, until=at)
    state.last_activity = at
    state.idle_done = state.still_done = state.away_done = 0
    break_silence(turn)
    if session is None or session.ended:
        # Sessions do not overlap, even where an event comes so late that the one before was ended too soon.
        _start(turn, max(at, session.ended) if session else at, before)
    if gap and (turn.program.ticking or "returns" in turn.program.hooks):  # else nobody would hear of it
        turn.occurrences.append(
            Occurrence(keys=("returns",), name="returned", at=at, properties={"gap_s": gap // 1000}, gap=gap)
        )


def end_session(turn: Turn) -> None:
    """End the open session where it ended; discovered now, stamped then."""
    session = turn.state.session
    assert session is not None
    ended = session_end(turn.program, turn.state)
    turn.state.session = replace(session, ended=ended)
    turn.touched.add("now")
    turn.server_event("session_ended", at=ended, session=session.id, length_s=(ended - session.started) // 1000)


def count_event(turn: Turn) -> None:
    session = turn.state.session
    if session is not None and not session.ended:
        turn.state.session = replace(session, events=session.events + 1)


def is_late(turn: Turn, at: int) -> bool:
    """Older than the session's newest event by more than the policy's skew allowance."""
    session = turn.state.session
    return session is not None and at < session.newest - turn.program.policy.skew


def _start(turn: Turn, at: int, before: int) -> None:
    state = turn.state
    state.sessions += 1
    state.last_visit = before or state.first_seen
    state.session = Session(id=f"{state.epoch}-s{state.sessions}", started=at, newest=at)
    turn.touched.add("user.sessions")
    turn.touched.update(f"user.counters.{name}" for name, each in turn.program.counters.items() if each.session)
    turn.server_event("session_started", at=at, session=state.session.id, number=state.sessions)
