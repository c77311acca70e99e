"""What follows from a user's profile: segments, persona and flow, brought up to date with what was touched.

Changes become occurrences, and a flow that differs from the one on the user's pages is pushed.
"""

from __future__ import annotations

from heapq import heappop, heappush

from handrail.core import flows
from handrail.core.effects import Push
from handrail.core.flows import assemble, view
from handrail.core.frames import Flow
from handrail.core.personas import Personas
from handrail.core.program import Segment
from handrail.core.scope import Occurrence
from handrail.core.state import FlowChoice
from handrail.core.turn import Turn


def refresh_segments(turn: Turn) -> None:
    """Settle, in dependency order, the segments and the persona as far as they read what was touched; changes
    become occurrences."""
    if turn.program.ticking and (turn.touched or turn.occurrences or not turn.state.judged):
        turn.state.judged = turn.now
    if not turn.touched and "now" not in turn.program.segments_reading:
        return
    pending = _concerned(turn)
    while pending:
        index = heappop(pending)
        while pending and pending[0] == index:
            heappop(pending)
        settled = turn.program.segments[index]
        key = _settle_persona(turn, settled) if isinstance(settled, Personas) else _settle_segment(turn, settled)
        if key:
            turn.changed.add(key)
            for dependent in turn.program.segments_reading.get(key, ()):
                heappush(pending, dependent)


def _settle_segment(turn: Turn, segment: Segment) -> str:
    """What changed, as others read it, or empty."""
    held = turn.state.segments
    belongs = segment.name in turn.state.pinned or turn.holds(segment.condition)
    if belongs == (segment.name in held):
        return ""
    turn.state.segments = tuple(sorted({*held} ^ {segment.name}))
    word, verb = ("entered", "enters") if belongs else ("left", "leaves")
    turn.server_event(f"segment_{word}", f"{verb}:{segment.name}", segment=segment.name)
    return f"user.segments.{segment.name}"


def _settle_persona(turn: Turn, personas: Personas) -> str:
    before, present = turn.state.persona, personas.choose(turn.scope())
    if present == before:
        return ""
    turn.state.persona = present
    turn.occurrences.append(
        Occurrence(
            keys=("changes:persona",),
            name="persona_changed",
            at=turn.now,
            properties={"from": before, "to": present},
            late=turn.late,
        )
    )
    return "user.persona"


def _concerned(turn: Turn) -> list[int]:
    """Indexes of the segments to evaluate: those that read what was touched, and those that read the clock."""
    reading = turn.program.segments_reading
    concerned = set(reading.get("now", ()))
    for key in turn.touched:
        concerned.update(reading.get(key, ()))
    turn.changed |= turn.touched
    turn.touched.clear()
    return sorted(concerned)


def refresh_flow(turn: Turn) -> bool:
    """Assemble the user's flow again and push it if anything about it changed; True if it did."""
    before = turn.state.flow
    flow = turn.program.flow_of(before)
    if flow is None:
        turn.state.flow = None
        return False
    if before is not None and "now" not in flow.reads and flow.reads.isdisjoint(turn.changed):
        return False
    turn.changed.clear()
    turn.state.flow = choice = assemble(flow, turn.scope(), before)
    changed = turn.told is None or turn.progressed or _shown(choice) != _shown(turn.told)
    if changed:
        _tell_flow(turn, flow, choice)
    turn.told, turn.progressed, turn.reason = choice, False, ""
    return changed


def _tell_flow(turn: Turn, flow: flows.Flow, choice: FlowChoice) -> None:
    same = turn.told is not None and _shown(choice)[:3] == _shown(turn.told)[:3]
    shown = view(flow, choice, turn.state.steps)
    turn.effects.append(
        Push(
            Flow(
                offset=turn.next_offset(),
                id=shown.id,
                steps=shown.steps,
                position=shown.position,
                reason=turn.reason or ("progress" if same else "segments"),
                variant=shown.variant,
            )
        )
    )


def _shown(choice: FlowChoice) -> tuple[str, str | None, tuple[str, ...], int]:
    """What of a flow the user's pages show, besides what was done of its steps."""
    return choice.id, choice.variant, choice.steps, choice.position
