"""Time alone changing conditions that hold or fail all along: those of segments, personas and the user's flow.

A state says up to when they were `judged`. The next instant at which one of them changes is found by judging it at each
instant that its clock names, as if nothing happened until then.
"""

from __future__ import annotations

from collections.abc import Iterable

from handrail.core.expressions import Expression
from handrail.core.flows import Flow
from handrail.core.program import Program, Segment
from handrail.core.scope import NOTHING, Scope
from handrail.core.state import State

LOOK_AHEAD = 60  # instants judged for one condition; after as many without a change the alarm rings to look further


def ticking(segments: Iterable[Expression | None], flows: Iterable[Flow]) -> dict[str, tuple[Expression, ...]]:
    """The conditions that read the clock: those of segments under "", the others by flow."""
    found = {"": _reading_clock(segments)}
    for flow in flows:
        steps = [step.condition for step in flow.modules.values()]
        found[flow.name] = _reading_clock([*steps, *(variant.condition for variant in flow.variants)])
    return {name: conditions for name, conditions in found.items() if conditions}


def _reading_clock(conditions: Iterable[Expression | None]) -> tuple[Expression, ...]:
    """Each of the conditions but once."""
    return tuple({each: None for each in conditions if each is not None and each.clock is not None})


def next_change(program: Program, state: State, *, until: int | None = None) -> int | None:
    """The next instant, after all that was judged, at which time alone changes a condition. One later than `until` need
    not be found."""
    if not program.ticking or not state.judged:
        return None
    flow = program.flow_of(state.flow)
    conditions = [*program.ticking.get("", ()), *(program.ticking.get(flow.name, ()) if flow else ())]
    changes = (_change(condition, program, state, until) for condition in conditions)
    return min((change for change in changes if change is not None), default=None)


def segment_change(program: Program, state: State, name: str) -> int | None:
    """When time alone has the user enter or leave the segment, if that was found."""
    named = (each for each in program.segments if isinstance(each, Segment) and each.name == name)
    condition = next((each.condition for each in named), None)
    if condition is None or condition.clock is None or name in state.pinned or not state.judged:
        return None
    due = _change(condition, program, state, None)
    if due is None or condition.holds(Scope(state, program.counters, NOTHING, due))[0] == (name in state.segments):
        return None
    return due


def _change(condition: Expression, program: Program, state: State, until: int | None) -> int | None:
    clock, at = condition.clock, state.judged
    assert clock is not None
    open_session = state.session is not None and not state.session.ended
    scope = Scope(state, program.counters, NOTHING, at)
    before: bool | None = None
    for _ in range(LOOK_AHEAD):
        found = clock.next(scope, at, open_session=open_session)
        if found is None or (until is not None and found > until):
            return None
        if before is None:
            before, _ = condition.holds(scope)
        at = found
        scope = Scope(state, program.counters, NOTHING, at)
        if condition.holds(scope)[0] != before:
            return at
    return at
