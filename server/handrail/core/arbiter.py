"""Arbitration: which of the triggers that came true together may act, and why the others may not.

The order is strict and total: priority, then the order of files and documents. What holds a trigger back holds all its
actions back, and every one considered leaves a line in the trace.
"""

from __future__ import annotations

from handrail.core.policy import Block, check_email, check_limits, check_prompt, remember
from handrail.core.program import Trigger
from handrail.core.scope import NOTHING, Occurrence
from handrail.core.templates import TemplateFault
from handrail.core.turn import Turn

ROUNDS = 16  # how often what triggers set and emit may wake further triggers within one step

Candidate = tuple[Trigger, Occurrence]


def settle(turn: Turn, woken: list[Candidate] | None = None) -> None:
    """Wake and run triggers until nothing further happens; then bring the user's flow up to date."""
    candidates = woken or []
    for _ in range(ROUNDS):
        turn.refresh_segments()
        occurrences, turn.occurrences = turn.occurrences, []
        candidates += [candidate for occurrence in occurrences for candidate in _wake(turn, occurrence)]
        for trigger, occurrence in _in_order(candidates):
            consider(turn, trigger, occurrence)
        candidates = []
        turn.refresh_segments()
        if not turn.occurrences and turn.refresh_flow():
            turn.refresh_segments()  # those that read where in the flow the user is
        if not turn.occurrences:
            return
    turn.note("", "suppressed", reason="loop", detail=f"rules went on waking each other for {ROUNDS} rounds")
    turn.occurrences = []
    turn.refresh_flow()


def hold(turn: Turn, trigger: Trigger) -> Block | None:
    """What would hold the trigger back if it came true at this moment, its `if` apart."""
    turn.expire()
    return _block(turn, trigger, NOTHING)


def consider(turn: Turn, trigger: Trigger, occurrence: Occurrence) -> None:
    """Judge one trigger that came true, and let it act if nothing speaks against it."""
    if trigger.condition is not None:
        holds, error = trigger.condition.holds(turn.scope(occurrence))
        if not holds:
            turn.note(trigger.name, "not-met", reason=trigger.condition.source, detail=error)
            return
    turn.expire()
    block = _block(turn, trigger, occurrence)
    if block is not None:
        turn.note(trigger.name, "suppressed", reason=block.reason, detail=block.detail)
        return
    turn.note(trigger.name, "fired", detail=occurrence.name)
    times = turn.state.fired.get(trigger.name, ())
    turn.state.fired[trigger.name] = remember(times, turn.now, trigger.remembered)
    for action in trigger.actions:
        try:
            action.run(turn, trigger.name, occurrence)
        except TemplateFault as fault:
            turn.note(trigger.name, "failed", reason="template", detail=str(fault))


def _wake(turn: Turn, occurrence: Occurrence) -> list[Candidate]:
    woken = []
    for key in occurrence.keys:
        _cancel(turn, key, occurrence)
        for trigger, hook in turn.program.hooks.get(key, ()):
            if hook.wake(turn, occurrence):
                woken.append((trigger, occurrence))
    return woken


def _cancel(turn: Turn, key: str, occurrence: Occurrence) -> None:
    for cancel in turn.program.cancels.get(key, ()):
        waits = turn.state.waits
        if any(wait.trigger == cancel.trigger for wait in waits) and turn.holds(cancel.where, occurrence):
            turn.state.waits = tuple(wait for wait in waits if wait.trigger != cancel.trigger or wait.message)
            turn.note(cancel.trigger, "cancelled", detail=occurrence.name)


def _in_order(candidates: list[Candidate]) -> list[Candidate]:
    """In the order of arbitration: each trigger once, with its first occurrence, and once more for each that stands
    apart (a wait of its own, an emitted event)."""
    first: dict[tuple[str, int], Candidate] = {}
    for trigger, occurrence in candidates:
        first.setdefault((trigger.name, id(occurrence) if occurrence.apart else 0), (trigger, occurrence))
    return sorted(first.values(), key=lambda candidate: candidate[0].rank)


def _block(turn: Turn, trigger: Trigger, occurrence: Occurrence) -> Block | None:
    """The first thing that holds the trigger back, in the order of policy.REASONS."""
    state, now = turn.state, turn.now
    times = state.fired.get(trigger.name, ())
    block = check_limits(trigger.limits, times, state, now=now)
    if block is None and trigger.cooldown and times and now < times[-1] + trigger.cooldown:
        block = Block("cooldown", "the trigger's own cooldown is not over", times[-1] + trigger.cooldown)
    if block is None and trigger.prompts:
        block = check_prompt(turn.program.policy, state, now=now) or _busy(turn, trigger) or _late(occurrence)
    if block is None and turn.program.mails(trigger):
        block = check_email(turn.program.policy, state, now=now)
    return block


def _busy(turn: Turn, trigger: Trigger) -> Block | None:
    shown = turn.state.prompt
    if shown is None or trigger.clears(shown.prompt.message):
        return None
    return Block("busy", f"'{shown.prompt.message}' is on the screen", shown.expires or None)


def _late(occurrence: Occurrence) -> Block | None:
    if not occurrence.late:
        return None
    return Block("late", "the event is older than the session's newest by more than the skew")
