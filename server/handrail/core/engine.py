"""The one verb: `step` takes a user's state and an event and returns the next state, what to do, and why.

Pure: the same program, state, event and `now` give the same Step, everywhere and always. What fell due before the
event comes to pass before it; what the event makes due at once, after it.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from handrail.core import events as ev
from handrail.core.arbiter import Candidate, settle
from handrail.core.counters import prune
from handrail.core.deadlines import AWAY, DWELL, EXPIRY, FALL, IDLE, SESSION, WAIT, alarm, deadlines, stillness
from handrail.core.deferrals import offer_screen, stale
from handrail.core.effects import Considered, Effect
from handrail.core.events import Event
from handrail.core.flows import assemble, view
from handrail.core.frames import Block, FlowView, Prompt
from handrail.core.holdout import held_out
from handrail.core.program import Program, next_span
from handrail.core.prompts import handle
from handrail.core.scope import NOTHING, Occurrence, Scope
from handrail.core.state import PURPOSES_MAX, SEEN_FOR, SEEN_MAX, STEPS_MAX, Connection, State, Wait
from handrail.core.stays import count_stay, follow_step
from handrail.core.templates import TemplateFault
from handrail.core.triggers import OnAbsence, OnDelay, OnSequence, OnUnprepared
from handrail.core.turn import Turn
from handrail.core.visits import count_event, end_session, is_late, touch

__all__ = ["Step", "alarm", "fresh", "snapshot", "step"]

INSTANTS = 1_000  # distinct due instants worked off in one step; the alarm brings the rest


class Step(Struct, frozen=True):
    """`state` after the event (its `version` untouched), effects in order, and a line for each trigger considered."""

    state: State
    effects: tuple[Effect, ...] = ()
    trace: tuple[Considered, ...] = ()


def fresh(program: Program, user: str, epoch: str, now: int) -> State:
    """The state of a user never seen. `epoch` must differ from any this user had before."""
    state = State(user=user, epoch=epoch, first_seen=now)
    flow = program.flow_of(None)
    state.flow = assemble(flow, Scope(state, program.counters, NOTHING, now), None) if flow else None
    return state


def snapshot(program: Program, state: State, now: int) -> tuple[FlowView | None, dict[str, Block], tuple[Prompt, ...]]:
    """What the user's pages should show at `now`: flow, slots, and prompts not yet expired."""
    flow = program.flow_of(state.flow)
    shown = state.prompt
    visible = shown is not None and not (shown.expires and shown.expires <= now)
    return (
        view(flow, state.flow, state.steps) if flow and state.flow and state.flow.id == flow.name else None,
        dict(state.slots),
        (shown.prompt,) if shown and visible else (),
    )


def step(program: Program, state: State, event: Event, now: int) -> Step:
    """Decide what this event means for this user. An event id that was applied before changes nothing."""
    if event.id and event.id in state.seen:
        return Step(state)
    turn = Turn(program, state.fork(), now)
    _catch_up_with_rules(turn)
    _drop_lost(turn.state, event)
    _elapse(turn, until=min(event.at, now))
    if event.id:
        _remember(turn.state, event.id, now)
    turn.state.first_seen = min(turn.state.first_seen, event.at)
    _apply(turn, event)
    settle(turn)
    turn.late = False
    _elapse(turn, until=now)
    return Step(turn.state, tuple(turn.effects), tuple(turn.trace))


def _apply(turn: Turn, event: Event) -> None:
    match event:
        case ev.Track():
            _track(turn, event)
        case ev.Identify():
            turn.late = is_late(turn, event.at)
            touch(turn, event.at)
            _learn(turn, event.context)
            turn.set_traits(event.traits)
        case ev.Consent():
            _consent(turn, event.purposes)
        case ev.Connected():
            _connect(turn, event)
        case ev.Disconnected():
            count_stay(turn.program.policy, turn.state, until=event.at)
            turn.state.connections.pop(event.connection, None)
        case ev.Activity():
            _activity(turn, event)


def _consent(turn: Turn, purposes: dict[str, bool]) -> None:
    consents = turn.state.consents
    for purpose, given in purposes.items():
        if purpose in consents or len(consents) < PURPOSES_MAX:
            consents[purpose] = given
    turn.touched.add("user.consents")


def _drop_lost(state: State, event: Event) -> None:
    """Connections of dead processes go before anything falls due: what they would have seen, nobody saw."""
    if isinstance(event, ev.Alarm) and event.lost_nodes:
        kept = {name: each for name, each in state.connections.items() if each.node not in event.lost_nodes}
        state.connections = kept


def _track(turn: Turn, event: ev.Track) -> None:
    turn.late = is_late(turn, event.at)
    if event.name != "prompt_shown":
        touch(turn, event.at)
    count_event(turn)
    _learn(turn, event.context)
    _follow_steps(turn, event.name, event.properties)
    if event.name.startswith("step_"):
        follow_step(turn.program.policy, turn.state, event.name, event.properties, at=event.at)
    if event.name in ev.PROMPT_EVENTS:
        handle(turn, event)
    ordinal = _number(turn.state, event.at)
    turn.happen(
        Occurrence(
            keys=(f"event:{event.name}",),
            name=event.name,
            at=event.at,
            properties=event.properties,
            context=event.context,
            late=turn.late,
            own=True,
            ordinal=ordinal,
        )
    )


def _number(state: State, at: int) -> int:
    """The event's place among those the user tracked, or -1 if it happened before one of them."""
    if at < state.tracked_at:
        return -1
    state.tracked += 1
    state.tracked_at = at
    return state.tracked


def _learn(turn: Turn, context: dict[str, Any]) -> None:
    """Locale and time zone, where the profile does not say and the event's context does."""
    told = {key: context[key] for key in ("locale", "timezone") if isinstance(context.get(key), str)}
    turn.set_traits({key: value for key, value in told.items() if key not in turn.state.traits})


def _follow_steps(turn: Turn, name: str, properties: dict[str, Any]) -> None:
    """`step_viewed`, `step_completed`, `step_skipped`; what is done is not undone by a later view or skip."""
    step_id, status = properties.get("step"), name.removeprefix("step_")
    if not name.startswith("step_") or status not in ("viewed", "completed", "skipped") or not isinstance(step_id, str):
        return
    weight = {"": 0, "viewed": 1, "skipped": 2, "completed": 3}
    if weight[status] > weight.get(turn.state.steps.get(step_id, ""), 0):
        _note_step(turn, step_id, status)


def _note_step(turn: Turn, step_id: str, status: str) -> None:
    """Of too many steps, the oldest that no flow has are forgotten."""
    steps = turn.state.steps
    if step_id not in steps and len(steps) >= STEPS_MAX:
        known = {name for flow in turn.program.flows.values() for name in flow.modules}
        for name in [name for name in steps if name not in known][: len(steps) + 1 - STEPS_MAX]:
            del steps[name]
    steps[step_id] = status
    turn.touched.add("user.steps")
    turn.progressed |= turn.state.flow is not None and step_id in turn.state.flow.steps


def _connect(turn: Turn, event: ev.Connected) -> None:
    count_stay(turn.program.policy, turn.state, until=event.at)
    turn.state.connections[event.connection] = Connection(event.node, event.device, event.tab, event.visible)
    if event.idle_ms < turn.program.policy.session_idle:
        touch(turn, event.at - event.idle_ms)


def _activity(turn: Turn, event: ev.Activity) -> None:
    connection = turn.state.connections.get(event.connection)
    appeared = event.visible and connection is not None and not connection.visible
    if connection is not None and connection.visible != event.visible:
        count_stay(turn.program.policy, turn.state, until=event.at)
        turn.state.connections[event.connection] = replace(connection, visible=event.visible)
    if event.visible:
        touch(turn, event.at if appeared else event.at - event.idle_ms)


def _elapse(turn: Turn, *, until: int) -> None:
    """Work off everything due by `until`, instant by instant, earliest first."""
    for _ in range(INSTANTS):
        offer_screen(turn)
        pending = list(deadlines(turn.program, turn.state))
        instant = min((due for due, _ in pending), default=until + 1)
        if instant > until:
            return
        woken: list[Candidate] = []
        for kind in sorted({kind for due, kind in pending if due == instant}):
            woken += _pass(turn, kind, instant)
        settle(turn, woken)


def _pass(turn: Turn, kind: int, instant: int) -> list[Candidate]:
    """One thing that fell due comes to pass; the triggers it makes true."""
    state = turn.state
    if kind == EXPIRY:
        turn.withdraw("expired")
    elif kind == SESSION:
        end_session(turn)
    elif kind == FALL:
        _fall(turn, instant)
    elif kind == WAIT:
        return _end_waits(turn, instant)
    elif kind == IDLE:
        return _be_still(turn, instant)
    elif kind == DWELL:
        return _stay(turn, instant)
    elif kind == AWAY:
        span = state.away_done = instant - state.last_activity
        return [(each, _silence("away", instant, span)) for length, each in turn.program.away if length == span]
    return []


def _be_still(turn: Turn, instant: int) -> list[Candidate]:
    state = turn.state
    span = instant - state.last_activity
    woken = []
    for hidden, spans, done in list(stillness(turn.program, state)):
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
    properties, until = wait.properties, wait.until
    return [(trigger, Occurrence(keys=(), name=wait.name, at=instant, properties=properties, apart=True, until=until))]


def _show_again(turn: Turn, wait: Wait) -> None:
    """A snoozed message's time has come. The user asked for it, so no cap counts it; one on the screen comes first."""
    message = turn.program.messages.get(wait.message)
    if message is None:
        return
    if held_out(turn.state.user, turn.program.policy.holdout):
        turn.note(wait.trigger, "suppressed", reason="holdout", detail=f"snoozed '{wait.message}'")
        return
    if turn.state.prompt is not None:
        turn.note(
            wait.trigger, "suppressed", reason="busy", detail=f"snoozed '{wait.message}': another is on the screen"
        )
        return
    try:
        turn.show(message, wait.trigger, NOTHING)
    except TemplateFault as fault:
        turn.note(wait.trigger, "failed", reason="template", detail=str(fault))
    else:
        turn.note(wait.trigger, "fired", detail=f"snoozed '{wait.message}' is back")


def _catch_up_with_rules(turn: Turn) -> None:
    """After a change of rules: every segment is judged afresh, and pending waits go on as their trigger says."""
    state, program = turn.state, turn.program
    if state.rules == program.version and state.version:
        return
    turn.reason = "rules" if state.rules else ""
    state.rules = program.version
    turn.touched.update(program.segments_reading, ("user.steps",))
    gone = set(state.segments) - {segment.name for segment in program.segments} - set(state.pinned)
    if gone:
        state.segments = tuple(name for name in state.segments if name not in gone)
    state.waits = tuple(
        sorted((kept for wait in state.waits for kept in _carry(turn, wait)), key=lambda each: each.due)
    )
    state.memory = {name: each for name, each in state.memory.items() if _still_remembered(turn, name, each.rule)}


def _carry(turn: Turn, wait: Wait) -> list[Wait]:
    """The wait under the present rules: kept, begun again, or (an empty list) cancelled."""
    trigger = turn.program.triggers.get(wait.trigger)
    if wait.hook < 0 and trigger and trigger.on_change != "cancel":
        return [wait]  # put off: it is decided afresh anyway
    if wait.message or (trigger and (trigger.rule == wait.rule or trigger.on_change == "finish")):
        return [wait]
    hook = trigger.hooks[wait.hook] if trigger and wait.hook < len(trigger.hooks) else None
    if trigger is None or trigger.on_change == "cancel" or not isinstance(hook, OnDelay | OnAbsence):
        return []
    return [replace(wait, due=turn.now + hook.span, rule=trigger.rule)]


def _still_remembered(turn: Turn, name: str, rule: str) -> bool:
    """Whether what a pattern began under the rules before goes on under these."""
    trigger_name, _, index = name.rpartition("#")
    trigger = turn.program.triggers.get(trigger_name)
    if trigger is None or int(index) >= len(trigger.hooks):
        return False
    patterns = OnSequence | OnAbsence | OnUnprepared
    return isinstance(trigger.hooks[int(index)], patterns) and (trigger.rule == rule or trigger.on_change == "finish")


def _remember(state: State, event_id: str, now: int) -> None:
    """Note that the event was applied, forgetting what is too old or too many."""
    seen = state.seen
    seen[event_id] = now
    if next(iter(seen.values())) <= now - SEEN_FOR:  # the first is the oldest: mostly there is nothing to forget
        for each in [each for each, at in seen.items() if at <= now - SEEN_FOR]:
            del seen[each]
    for each in list(seen)[: len(seen) - SEEN_MAX] if len(seen) > SEEN_MAX else ():
        del seen[each]
