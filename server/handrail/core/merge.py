"""An anonymous visitor becomes the known user: what each of the two steps, and what the user makes of both.

The two lie in different places of the store, so this takes three commits, each of which may be repeated:

1. The visitor steps a `Merge`: from then on their state only waits to be taken over, with all that is in it.
2. The user steps an `Absorb` that carries that state; its epoch is remembered, so that it counts once.
3. The visitor steps a `Merged`: what is left says where their events belong.

Whoever was ever addressed as a user is `known` and becomes nobody else, and the user of a merge is made known before it
begins: so merges form no circles, and nobody is taken over by being named.
"""

from __future__ import annotations

from msgspec.structs import replace

from handrail.core import union
from handrail.core.arbiter import cancel_waits
from handrail.core.changeover import adopt_rules
from handrail.core.deferrals import break_silence
from handrail.core.effects import Push
from handrail.core.events import Absorb, Alarm, Connected, Consent, Event, Identify, Known, Merge, Merged, Track
from handrail.core.frames import Content
from handrail.core.holdout import held_out
from handrail.core.scope import Occurrence
from handrail.core.state import ABSORBED_MAX, SEEN_MAX, Merger, Session, State
from handrail.core.stays import count_stay
from handrail.core.turn import WAITS, Turn

HERITABLE = (Track, Identify, Consent)
GRACE = 2_000  # ms that whoever began a merge has to finish it before the timers take it up

# --- the visitor ---


def part(turn: Turn, event: Merge) -> None:
    """The visitor is `event.into`: take the prompt off their screens and wait to be taken over."""
    state = turn.state
    if state.known or state.user == event.into:
        turn.note("", "ignored", reason="known", detail=f"'{state.user}' is a user and does not become '{event.into}'")
        return
    count_stay(turn.program.policy, state, until=turn.now)
    shown = state.prompt
    turn.withdraw("merged")
    state.prompt, state.connections = shown, {}
    unknown = not state.version and state.seen.keys() <= {event.id}
    state.merger = Merger(event.into, turn.now, 0 if unknown else turn.now + GRACE)
    turn.note("", "merged", detail=f"into '{event.into}'")
    if unknown:
        turn.state = _forwarder(state, state.merger)


def move_on(state: State, merger: Merger, event: Event, now: int) -> State:
    """The visitor's state after an event that reaches it after the merge began."""
    if isinstance(event, Merged):
        return _forwarder(state, replace(merger, due=0))
    if isinstance(event, Alarm) and merger.due and now >= merger.due:
        later = replace(merger, due=now + max(GRACE, now - merger.since))  # twice as long each time
        return replace(state, merger=later)
    return state


def is_heritable(event: Event) -> bool:
    """Whether it is about the person, and not about one of the visitor's connections."""
    return isinstance(event, HERITABLE)


def heir_of(state: State, event: Event) -> str:
    """The user to whom an event belongs that reaches a visitor after the merge began; empty if it is the visitor's."""
    merger = state.merger
    if merger is None or (isinstance(event, Known) and not merger.due):
        return ""
    return merger.into if is_heritable(event) or isinstance(event, Connected | Absorb | Merge | Known) else ""


def _forwarder(state: State, merger: Merger) -> State:
    return State(
        user=state.user,
        epoch=state.epoch,
        version=state.version,
        offset=state.offset,
        first_seen=state.first_seen,
        merger=merger,
        revoked=state.revoked,
        seen=state.seen,
    )


# --- the user ---


def absorb(turn: Turn, event: Absorb) -> None:
    """The user was this visitor: from now on everything that is known of the two is the user's."""
    state, parcel = turn.state, event.parcel
    if parcel is None or parcel.epoch in state.absorbed:
        return
    state.known = True
    state.absorbed = (*state.absorbed, parcel.epoch)[-ABSORBED_MAX:]
    steps = state.steps
    returned = _come_back(turn, parcel)
    parcel = _settle_silences(turn, parcel)
    _show(turn, parcel)
    _unite(turn, parcel)
    if parcel.rules != turn.program.version:
        state.rules = parcel.rules
        adopt_rules(turn)
    _judge_afresh(turn, steps)
    turn.note("", "merged", detail=f"'{event.visitor}' is this user")
    turn.occurrences += returned


def _come_back(turn: Turn, parcel: State) -> list[Occurrence]:
    """A user who came back as an anonymous visitor came back with the visitor's session: it ends what waits for that,
    and an absence if the visitor was not here before."""
    state, session = turn.state, parcel.session
    if session is None or session.ended or (state.session is not None and not state.session.ended):
        return []
    started = Occurrence(keys=("event:session_started",), name="session_started", at=session.started)
    cancel_waits(turn, "event:session_started", started)
    gap = parcel.first_seen - state.last_activity
    if not state.last_activity or parcel.sessions > 1 or gap <= 0:
        return []
    properties = {"gap_s": gap // 1000}
    return [Occurrence(keys=("returns",), name="returned", at=parcel.first_seen, properties=properties, gap=gap)]


def _settle_silences(turn: Turn, parcel: State) -> State:
    """What was put off because one was idle or away is dropped where the other was active later; the lengths dealt with
    go with the later activity."""
    state = turn.state
    if parcel.last_activity <= state.last_activity:
        mine, state.waits = state.waits, parcel.waits
        break_silence(turn)
        parcel, state.waits = replace(parcel, waits=state.waits), mine
        return parcel
    break_silence(turn)
    state.idle_done, state.still_done = parcel.idle_done, parcel.still_done
    state.away_done = parcel.away_done
    return parcel


def _unite(turn: Turn, parcel: State) -> None:
    state, program = turn.state, turn.program
    session, one = union.sessions(state.session, parcel.session)
    state.counters = union.counters(program, state, parcel, session, one=one)
    state.last_visit = _last_visit(state, parcel, session)
    state.session, state.sessions = session, state.sessions + parcel.sessions - one
    state.first_seen = min(state.first_seen, parcel.first_seen)
    state.last_activity = max(state.last_activity, parcel.last_activity)
    state.told = union.told(state, parcel)
    state.traits = union.traits(state, parcel)
    state.persona = state.persona or parcel.persona
    state.answers = union.answers(state.answers, parcel.answers)
    if parcel.learnt > state.learnt:
        state.location, state.device, state.learnt = parcel.location, parcel.device, parcel.learnt
    state.consents = union.consents(state.consents, parcel.consents)
    state.segments = tuple(sorted({*state.segments, *parcel.segments}))
    state.pinned = tuple(sorted({*state.pinned, *parcel.pinned}))
    state.steps = union.steps(state.steps, parcel.steps)
    state.memory = union.memories(program, state, parcel)
    state.waits = union.waits(state, parcel)[:WAITS]
    state.stay = max(filter(None, (state.stay, parcel.stay)), key=lambda stay: stay.since, default=None)
    state.fired = union.firings(program, state.fired, parcel.fired)
    kept = program.policy.remembered
    state.prompted = union.times(state.prompted, parcel.prompted)[-kept:]
    state.mailed = union.times(state.mailed, parcel.mailed)[-kept:]
    state.tracked = max(state.tracked, parcel.tracked)
    state.tracked_at = max(state.tracked_at, parcel.tracked_at)
    state.unit = state.unit or parcel.unit
    ids = sorted({**parcel.seen, **state.seen}.items(), key=lambda seen: seen[1])
    state.seen = dict(ids[-SEEN_MAX:])


def _last_visit(state: State, parcel: State, session: Session | None) -> int:
    """The last activity before the session that is theirs now, as far as either remembers it."""
    times = (state.last_visit, parcel.last_visit, state.last_activity, parcel.last_activity)
    if session is None:
        return max(state.last_visit, parcel.last_visit)
    return max((at for at in times if 0 < at < session.started), default=min(state.first_seen, parcel.first_seen))


def _show(turn: Turn, parcel: State) -> None:
    """What the visitor saw and the user does not: their flow, slots and prompt. Who is held out gets only the flow."""
    state, policy = turn.state, turn.program.policy
    flow = parcel.flow
    if flow and not (state.flow and state.flow.chosen) and (flow.chosen or not state.last_activity):
        state.flow = flow
    if held_out(state.unit or parcel.unit, policy.holdout):
        return
    for slot in [slot for slot in parcel.slots if slot not in state.slots]:
        state.slots[slot] = parcel.slots[slot]
        turn.effects.append(Push(Content(offset=turn.next_offset(), slot=slot, block=parcel.slots[slot])))
    shown = parcel.prompt
    if shown and not state.prompt and not (shown.expires and shown.expires <= turn.now):
        prompt = replace(shown.prompt, offset=turn.next_offset())
        state.prompt = replace(shown, prompt=prompt)
        turn.effects.append(Push(prompt))


def _judge_afresh(turn: Turn, steps: dict[str, str]) -> None:
    """Segments and flow, from what is now known; `steps` as the user's pages show them."""
    turn.touched.update(turn.program.segments_reading, ("user.steps",))
    turn.progressed = turn.progressed or turn.state.steps != steps
    turn.reason = "merged"
