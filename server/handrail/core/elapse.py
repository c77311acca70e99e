"""Time passing: what falls due for a user comes to pass, instant by instant."""

from __future__ import annotations

from msgspec.structs import replace

from handrail.core.arbiter import Candidate, settle
from handrail.core.counters import prune, total
from handrail.core.deadlines import AWAY, CLOCK, DWELL, EXPIRY, FALL, FEWER, IDLE, SESSION, WAIT, deadlines, stillness
from handrail.core.deferrals import offer_screen, stale
from handrail.core.holdout import leave_alone
from handrail.core.program import next_span
from handrail.core.scope import NOTHING, Occurrence, iso
from handrail.core.state import WHEN_FREE, Wait
from handrail.core.stays import count_stay
from handrail.core.templates import TemplateFault
from handrail.core.turn import Turn
from handrail.core.visits import end_session

INSTANTS = 1_000  # distinct due instants worked off in one step; the alarm brings the rest
SNOOZED_FOR = 86_400_000  # how long a snoozed message waits for the screen; milliseconds


def elapse(turn: Turn, *, until: int) -> None:
    """Work off everything due by `until`, instant by instant, earliest first."""
    for _ in range(INSTANTS):
        if turn.state.waits:
            offer_screen(turn)
        pending = deadlines(turn.program, turn.state, until=until)
        instant = min(pending)[0] if pending else until + 1
        if instant > until:
            return
        woken: list[Candidate] = []
        for kind in sorted({kind for due, kind in pending if due == instant}):
            woken += _pass(turn, kind, instant)
        turn.late = any(occurrence.late for _, occurrence in woken)
        settle(turn, woken)
        turn.late = False


def _pass(turn: Turn, kind: int, instant: int) -> list[Candidate]:
    """One thing that fell due comes to pass; the triggers it makes true."""
    state = turn.state
    if kind == EXPIRY:
        turn.withdraw("expired")
    elif kind == SESSION:
        end_session(turn)
    elif kind == FALL:
        _fall(turn, instant)
    elif kind == CLOCK:
        state.judged = turn.now  # by the settling that follows
    elif kind == WAIT:
        return _end_waits(turn, instant)
    elif kind == IDLE:
        return _be_still(turn, instant)
    elif kind == DWELL:
        return _stay(turn, instant)
    elif kind == AWAY:
        span = state.away_done = instant - state.last_activity
        return [(each, _silence("away", instant, span)) for length, each in turn.program.away if length == span]
    elif kind == FEWER:
        return _fall_to_most(turn, instant)
    return []


def _be_still(turn: Turn, instant: int) -> list[Candidate]:
    state = turn.state
    span = instant - state.last_activity
    woken = []
    for hidden, spans, done in stillness(turn.program, state):
        if span > done:
            woken += [(each, _silence("idle", instant, span)) for length, each in spans if length == span]
            if hidden:
                state.still_done = span
            else:
                state.idle_done = span
    return woken


def _stay(turn: Turn, instant: int) -> list[Candidate]:
    count_stay(turn.program.policy, turn.state, until=instant)
    stay = turn.state.stay
    assert stay is not None
    spans = turn.program.dwell[stay.step]
    span = next_span(spans, stay.done) or 0
    turn.state.stay = replace(stay, done=span)
    occurrence = Occurrence(keys=(), name="dwelt", at=instant, properties={"step": stay.step, "for_s": span // 1000})
    return [(each, occurrence) for length, each in spans if length == span]


def _silence(name: str, at: int, span: int) -> Occurrence:
    return Occurrence(keys=(), name=name, at=at, properties={"for_s": span // 1000})


def _fall(turn: Turn, instant: int) -> None:
    """Sliding counts that segments read fell by time alone."""
    for name, tally in turn.state.counters.items():
        if name in turn.program.watched:
            kept = prune(turn.program.watched[name], tally, now=instant)
            if kept != tally:
                turn.state.counters[name] = kept
                turn.touched.add(f"user.counters.{name}")


def _fall_to_most(turn: Turn, instant: int) -> list[Candidate]:
    """Counts that triggers wait to see fall did so."""
    woken: list[Candidate] = []
    for name, tally in turn.state.counters.items():
        trigger, hook = turn.program.falling.get(name, (None, None))
        if trigger is not None and hook is not None and hook.due(tally) == instant:
            turn.state.counters[name] = hook.fall(tally, instant)
            properties = {"count": total(hook.counter, turn.state, now=instant)}
            woken.append((trigger, Occurrence(keys=(), name="count_fell", at=instant, properties=properties)))
    return woken


def _end_waits(turn: Turn, instant: int) -> list[Candidate]:
    over = [wait for wait in turn.state.waits if wait.due <= instant]
    turn.state.waits = turn.state.waits[len(over) :]
    woken = []
    for wait in over:
        if wait.message:
            _show_again(turn, wait)
        elif wait.trigger in turn.program.triggers:
            woken += _wake_again(turn, wait, instant)
    return woken


def _wake_again(turn: Turn, wait: Wait, instant: int) -> list[Candidate]:
    trigger = turn.program.triggers[wait.trigger]
    too_late = stale(turn, wait, trigger)
    if too_late:
        turn.note(trigger.name, "cancelled", detail=too_late)
        return []
    occurrence = Occurrence(
        keys=(),
        name=wait.name,
        at=instant,
        properties=wait.properties,
        apart=True,
        until=wait.until,
        entry=wait.entry,
        late=wait.late,
    )
    return [(trigger, occurrence)]


def _show_again(turn: Turn, wait: Wait) -> None:
    """A snoozed message's time has come. The user asked for it, so no cap counts it; what is on the screen stays."""
    message = turn.program.messages.get(wait.message)
    if message is None:
        return
    if leave_alone(turn.state, turn.program.policy.holdout):
        turn.note(wait.trigger, "suppressed", reason="holdout", detail=f"snoozed '{wait.message}'")
        return
    if turn.state.prompt is not None:
        _await_screen(turn, wait)
        return
    try:
        turn.show(message, wait.trigger, NOTHING)
    except TemplateFault as fault:
        turn.note(wait.trigger, "failed", reason="template", detail=str(fault))
    else:
        turn.note(wait.trigger, "fired", detail=f"snoozed '{wait.message}' is back")


def _await_screen(turn: Turn, wait: Wait) -> None:
    """Have a snoozed message back as soon as nothing else is on the screen, if that is within a day."""
    if wait.hook == WHEN_FREE:
        turn.note(wait.trigger, "cancelled", detail=f"snoozed '{wait.message}': the screen was not free in time")
        return
    last = wait.until or turn.now + SNOOZED_FOR
    turn.arm(replace(wait, hook=WHEN_FREE, due=last, until=last))
    detail = f"snoozed '{wait.message}': back when the screen is free, before {iso(last)}"
    turn.note(wait.trigger, "suppressed", reason="busy", detail=detail)
