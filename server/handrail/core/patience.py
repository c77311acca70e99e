"""What each `when` of a trigger waits for, in words, and how far it has come for one user."""

from __future__ import annotations

from msgspec import Struct

from handrail.core.counters import total
from handrail.core.deadlines import session_end
from handrail.core.durations import format_duration
from handrail.core.expressions import Expression
from handrail.core.program import Program, Trigger
from handrail.core.scalars import show
from handrail.core.state import State, Tally
from handrail.core.stays import is_watched, reaches
from handrail.core.ticking import segment_change
from handrail.core.triggers import Hook, OnAbsence, OnAway, OnDelay, OnIdle, OnSequence, OnUnprepared
from handrail.core.triggers.changes import OnChange
from handrail.core.triggers.count import OnCount, OnFall
from handrail.core.triggers.dwell import OnDwell
from handrail.core.triggers.event import OnEvent
from handrail.core.triggers.returns import OnReturn
from handrail.core.triggers.segment import OnSegment
from handrail.core.triggers.session import OnSession


class Waiting(Struct, frozen=True):
    """One form of `when`: what it says, how far it has come, and `due` (milliseconds since the epoch) where it comes
    true by time alone."""

    form: str
    detail: str
    due: int | None = None


def waiting(hook: Hook, index: int, trigger: Trigger, program: Program, state: State, now: int) -> Waiting:
    """How far the hook, the trigger's `when` number `index`, has come for a user whose state is up to date."""
    match hook:
        case OnIdle():
            return _idle(hook, state, now)
        case OnAway():
            return _away(hook, state, now)
        case OnDelay():
            return _delay(hook, index, trigger, state)
        case OnDwell():
            return _dwell(hook, program, state)
        case OnSequence():
            return _sequence(hook, state)
        case OnAbsence():
            form = f"no {_event(hook.of)} for {format_duration(hook.span)} after {_event(hook.after)}"
            return _armed(form, _waits(trigger, index, state))
        case OnUnprepared():
            return Waiting(f"{_event(hook.before)} without {_event(hook.of)} before it", "whenever it happens")
        case OnCount():
            reached = total(hook.counter, state, now=now)
            return Waiting(f"count of {_event(hook)}", f"{reached} of {hook.at_least}")
        case OnFall():
            return _fall(hook, state, now)
        case OnEvent():
            return Waiting(_form("event", _event(hook), hook.where), "whenever it happens")
        case OnReturn():
            form, away = f"returns after {format_duration(hook.after)}", now - state.last_activity
            gone = format_duration(away) if state.last_activity else "nothing"
            return Waiting(form, f"on the next activity, {gone} after the last one")
        case OnSegment():
            return _segment(hook, program, state)
        case OnChange(wakes=("changes:persona",)):
            return Waiting("changes persona", f"it is {show(state.persona)}" if state.persona else "the user has none")
        case OnSession():
            return _session(hook, program, state)
    return Waiting(", ".join(hook.wakes), "whenever it happens")


def _segment(hook: OnSegment, program: Program, state: State) -> Waiting:
    word, _, name = hook.wakes[0].partition(":")
    inside = name in state.segments
    due = segment_change(program, state, name) if inside == (word == "leaves") else None
    open_session = state.session is not None and not state.session.ended
    if due is not None and open_session and due > session_end(program, state):
        due = None  # the end of the session comes between
    return Waiting(f"{word} {name}", f"the user {'is' if inside else 'is not'} in it", due)


def _idle(hook: OnIdle, state: State, now: int) -> Waiting:
    form, still = f"idle {format_duration(hook.span)}", now - state.last_activity
    form += f" on {hook.step}" if hook.step else ""
    if state.session is None or state.session.ended:
        return Waiting(form, "no session is open")
    if not state.connections or not (hook.hidden or is_watched(state)):
        return Waiting(form, "nobody is connected" if hook.hidden else "no tab is visible")
    if hook.step and (state.stay is None or state.stay.step != hook.step):
        return Waiting(form, "the user is not on this step")
    if (state.still_done if hook.hidden else state.idle_done) >= hook.span:
        return Waiting(form, "was reached; again only after the user has done something")
    return Waiting(form, f"{format_duration(still)} so far", state.last_activity + hook.span)


def _dwell(hook: OnDwell, program: Program, state: State) -> Waiting:
    form = f"dwell {format_duration(hook.span)} on {hook.step}"
    if state.stay is None or state.stay.step != hook.step:
        return Waiting(form, "the user is not on this step")
    if state.stay.done >= hook.span:
        return Waiting(form, "was reached; again only on another stay")
    counted = f"{format_duration(state.stay.spent)} counted so far"
    return Waiting(form, counted, reaches(program.policy, state, hook.span))


def _sequence(hook: OnSequence, state: State) -> Waiting:
    """As far as the furthest attempt has come, of whatever key; a place was reached if its start is no -1."""
    memory = state.memory.get(hook.name)
    starts = [marks[::3] for marks in memory.marks.values()] if memory else []
    reached = max((place + 1 for each in starts for place, start in enumerate(each) if start >= 0), default=0)
    return Waiting(f"sequence {', '.join(map(_event, hook.steps))}", f"{reached} of {len(hook.steps)} steps")


def _fall(hook: OnFall, state: State, now: int) -> Waiting:
    """Of those above only that many are remembered as tell when the count falls."""
    form = f"count of {_event(hook)} falls to {hook.at_most} in {format_duration(hook.within)}"
    due = hook.due(state.counters.get(hook.counter.name, Tally()))
    if due is None:
        return Waiting(form, f"{total(hook.counter, state, now=now)} now; it has to be above first")
    return Waiting(form, f"above {hook.at_most} now", due)


def _away(hook: OnAway, state: State, now: int) -> Waiting:
    form = f"away {format_duration(hook.span)}"
    if state.connections:
        return Waiting(form, "the user is connected")
    if not state.last_activity:
        return Waiting(form, "the user was never active")
    if state.away_done >= hook.span:
        return Waiting(form, "was reached; again only after the user was here")
    return Waiting(form, f"{format_duration(now - state.last_activity)} so far", state.last_activity + hook.span)


def _delay(hook: OnDelay, index: int, trigger: Trigger, state: State) -> Waiting:
    form = _form(f"{format_duration(hook.span)} after", _event(hook), hook.where)
    return _armed(form, _waits(trigger, index, state))


def _armed(form: str, waits: list[int]) -> Waiting:
    if not waits:
        return Waiting(form, "nothing is armed: the event has not happened, or its wait is over")
    return Waiting(form, f"armed {len(waits)} times" if len(waits) > 1 else "armed", waits[0])


def _session(hook: OnSession, program: Program, state: State) -> Waiting:
    name = _event(hook).removeprefix("session_")
    going_on = state.session is not None and not state.session.ended
    detail = "a session is open" if going_on else "no session is open"
    return Waiting(f"session {name}", detail, session_end(program, state) if going_on and name == "ended" else None)


def _waits(trigger: Trigger, index: int, state: State) -> list[int]:
    """When what this `when` has armed falls due, earliest first."""
    return [
        wait.due for wait in state.waits if wait.trigger == trigger.name and wait.hook == index and not wait.message
    ]


def _event(hook: Hook) -> str:
    return hook.wakes[0].removeprefix("event:")


def _form(word: str, name: str, where: Expression | None) -> str:
    return f"{word} {name}" + (f" where {where.source}" if where else "")
