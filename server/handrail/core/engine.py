"""The one verb: `step` takes a user's state and an event and returns the next state, what to do, and why.

Pure: the same program, state, event and `now` give the same Step, everywhere and always. What fell due before the
event comes to pass before it; what the event makes due at once, after it.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from handrail.core import events as ev
from handrail.core.answers import ask_further, take_answers
from handrail.core.arbiter import settle
from handrail.core.changeover import adopt_rules
from handrail.core.deadlines import alarm
from handrail.core.effects import Considered, Effect
from handrail.core.elapse import elapse
from handrail.core.events import Event
from handrail.core.flows import FURTHER, assemble, view
from handrail.core.frames import Block, FlowView, Prompt
from handrail.core.merge import absorb, move_on, part
from handrail.core.program import Program
from handrail.core.prompts import handle
from handrail.core.refresh import refresh_segments
from handrail.core.scope import NOTHING, Occurrence, Scope
from handrail.core.seen import Seen
from handrail.core.state import PURPOSES_MAX, SEEN_FOR, SEEN_MAX, STEPS_MAX, Connection, State
from handrail.core.stays import count_stay, follow_step
from handrail.core.traits import tell
from handrail.core.turn import Turn
from handrail.core.visits import count_event, is_late, touch

__all__ = ["FOLLOWS", "Step", "alarm", "decide", "fresh", "pass_over", "snapshot", "step"]

FOLLOWS = 250  # ms after a step with `more` within which the other event is expected


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


def step(program: Program, state: State, event: Event, now: int, *, more: bool = False) -> Step:
    """Decide what this event means for this user. An event id that was applied before changes nothing.

    With `more`, another event follows that happened by `now`: time passes up to this one only, and what falls due
    between the two is for the step of the other.
    """
    if event.id and event.id in state.seen:
        return Step(state)
    if isinstance(event, ev.Known):
        return Step(_recognise(program, state, now))
    if isinstance(event, ev.Revoke):
        return Step(replace(state, revoked=max(state.revoked, event.at)))
    if state.merger is not None:
        return Step(move_on(state, state.merger, event, now))
    return decide(Turn(program, state.fork(), now), event, more=more)


def decide(turn: Turn, event: Event, *, more: bool = False) -> Step:
    """The part of `step` that evaluates rules, on a turn of the caller's: if it raises, `turn.at_work` says where."""
    now = turn.now
    adopt_rules(turn)
    _drop_lost(turn.state, event)
    elapse(turn, until=min(event.at, now))
    if event.id:
        _remember(turn.state, event.id, now)
    turn.state.first_seen = min(turn.state.first_seen, event.at)
    _apply(turn, event)
    if turn.state.merger is None:
        settle(turn)
        turn.late = False
    if turn.state.merger is None and not more:
        elapse(turn, until=now)
    return Step(turn.state, tuple(turn.effects), tuple(turn.trace))


def pass_over(state: State, event: Event, now: int) -> State:
    """The state after an event that was set aside: it counts as applied, and nothing came of it."""
    state = state.fork()
    if event.id:
        _remember(state, event.id, now)
    return state


def _recognise(program: Program, state: State, now: int) -> State:
    """The id is a user's. One that stood for an anonymous visitor, now merged, begins anew; while the merge is going on
    nothing changes."""
    if state.merger is None and not state.known:
        state = copy(state)
        state.known = True
    elif state.merger is not None and not state.merger.due:
        version, offset, revoked = state.version, state.offset, state.revoked
        state = fresh(program, state.user, f"{state.epoch}0", now)
        state.version, state.offset, state.revoked, state.known = version, offset, revoked, True
    return state


def _apply(turn: Turn, event: Event) -> None:
    match event:
        case ev.Track():
            _track(turn, event)
        case ev.Identify():
            turn.late = is_late(turn, event.at)
            touch(turn, event.at)
            _learn(turn, event.context, event.at)
            tell(turn, event.traits, event.at)
        case ev.Consent():
            _consent(turn, event.purposes)
        case ev.Connected():
            _connect(turn, event)
        case ev.Disconnected():
            count_stay(turn.program.policy, turn.state, until=event.at)
            turn.state.connections.pop(event.connection, None)
        case ev.Activity():
            _activity(turn, event)
        case ev.Merge():
            part(turn, event)
        case ev.Absorb():
            absorb(turn, event)


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
    if event.context:
        _learn(turn, event.context, event.at)
    if event.name.startswith("step_"):
        _follow_steps(turn, event)
    if event.name in ev.PROMPT_EVENTS:
        handle(turn, event)
    answered = take_answers(turn, event) if event.name == ev.SURVEY_ANSWERED else ""
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
    if answered:
        refresh_segments(turn)  # questions may test them
        ask_further(turn, answered)


def _number(state: State, at: int) -> int:
    """The event's place among those the user tracked, or -1 if it happened before one of them."""
    if at < state.tracked_at:
        return -1
    state.tracked += 1
    state.tracked_at = at
    return state.tracked


def _learn(turn: Turn, context: dict[str, Any], at: int) -> None:
    """Locale and time zone, where the profile does not say and the event's context does; place and device, if no newer
    event told of them."""
    turn.locate(context.get("location"), context.get("device"), at)
    told = {key: context[key] for key in ("locale", "timezone") if isinstance(context.get(key), str)}
    turn.set_traits({key: value for key, value in told.items() if key not in turn.state.traits})


def _follow_steps(turn: Turn, event: ev.Track) -> None:
    """`step_viewed`, `step_completed`, `step_skipped`; what is done is not undone by a later view or skip."""
    step_id, status = event.properties.get("step"), event.name.removeprefix("step_")
    if status not in ("viewed", "completed", "skipped") or not isinstance(step_id, str):
        return
    if FURTHER[status] > FURTHER.get(turn.state.steps.get(step_id, ""), 0):
        _note_step(turn, step_id, status)
    follow_step(turn.program.policy, turn.state, event.name, step_id, at=event.at)


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
    turn.locate(event.context.get("location"), event.context.get("device"), event.at)
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


def _remember(state: State, event_id: str, now: int) -> None:
    """Note that the event was applied, forgetting what is too old or too many."""
    state.seen = Seen.of(state.seen).add(event_id, now).forget(now - SEEN_FOR, SEEN_MAX)
