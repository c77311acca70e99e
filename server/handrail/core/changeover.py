"""After a change of rules: what a user's state, made under the rules before, becomes under the present ones."""

from __future__ import annotations

from msgspec.structs import replace

from handrail.core.program import Segment
from handrail.core.state import Wait
from handrail.core.triggers import OnAbsence, OnCount, OnDelay, OnFall, OnSequence, OnUnprepared
from handrail.core.turn import Turn


def adopt_rules(turn: Turn) -> None:
    """Where the rules changed: judge every segment afresh, and let pending waits go on as their trigger says."""
    state, program = turn.state, turn.program
    if state.rules == program.version and state.version:
        return
    turn.reason = "rules" if state.rules else ""
    state.rules = program.version
    told = state.traits.get("persona")
    if not state.persona and isinstance(told, str):
        state.persona = told  # not news: states did not always keep it
    turn.touched.update(program.segments_reading, ("user.steps",))
    known = {each.name for each in program.segments if isinstance(each, Segment)}
    gone = set(state.segments) - known - set(state.pinned)
    if gone:
        state.segments = tuple(name for name in state.segments if name not in gone)
    state.waits = tuple(
        sorted((kept for wait in state.waits for kept in _carry(turn, wait)), key=lambda each: each.due)
    )
    state.counters = {name: each for name, each in state.counters.items() if _still_counted(turn, name)}
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


def _still_counted(turn: Turn, name: str) -> bool:
    """Whether a trigger still counts under the name; what is no trigger's own is kept, should its counter come back."""
    trigger_name, own, _ = name.rpartition("#")
    trigger = turn.program.triggers.get(trigger_name)
    hooks = trigger.hooks if trigger else ()
    return not own or any(isinstance(hook, OnCount | OnFall) and hook.counter.name == name for hook in hooks)


def _still_remembered(turn: Turn, name: str, rule: str) -> bool:
    """Whether what a pattern began under the rules before goes on under these."""
    trigger_name, _, index = name.rpartition("#")
    trigger = turn.program.triggers.get(trigger_name)
    if index == "entries":  # bounds on them look back over changes, as limits do
        return trigger is not None and trigger.reentry is not None
    if trigger is None or int(index) >= len(trigger.hooks):
        return False
    patterns = OnSequence | OnAbsence | OnUnprepared
    return isinstance(trigger.hooks[int(index)], patterns) and (trigger.rule == rule or trigger.on_change == "finish")
