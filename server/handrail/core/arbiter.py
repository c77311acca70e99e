"""Arbitration: which of the triggers that came true together may act, and why the others may not.

The order is strict and total: priority, then the order of files and documents. What holds a trigger back holds all its
actions back, and every one considered leaves a line in the trace.
"""

from __future__ import annotations

from msgspec.structs import replace

from handrail.core.actions import Action, CallWebhook, ShowPrompt, reaches_user
from handrail.core.deferrals import check_screen, put_off
from handrail.core.holdout import leave_alone
from handrail.core.policy import Block, check_caps, check_gap, check_limits, check_quiet, remember
from handrail.core.program import Trigger
from handrail.core.reentry import enter, entry_of, lacks_key, turn_away
from handrail.core.refresh import refresh_flow, refresh_segments
from handrail.core.scope import NOTHING, Occurrence
from handrail.core.templates import TemplateFault
from handrail.core.triggers.event import OnEvent
from handrail.core.turn import Turn

ROUNDS = 16  # how often what triggers set and emit may wake further triggers within one step

Candidate = tuple[Trigger, Occurrence]


def settle(turn: Turn, woken: list[Candidate] | None = None) -> None:
    """Wake and run triggers until nothing further happens; then bring the user's flow up to date."""
    candidates = woken or []
    for _ in range(ROUNDS):
        refresh_segments(turn)
        occurrences, turn.occurrences = turn.occurrences, []
        for occurrence in occurrences:
            candidates += _wake(turn, occurrence)
        for trigger, occurrence in _in_order(candidates):
            consider(turn, trigger, occurrence)
        turn.at_work = ""
        candidates = []
        refresh_segments(turn)
        if not turn.occurrences and refresh_flow(turn):
            refresh_segments(turn)  # those that read where in the flow the user is
        if not turn.occurrences:
            return
    turn.note("", "suppressed", reason="loop", detail=f"rules went on waking each other for {ROUNDS} rounds")
    turn.occurrences = []
    refresh_flow(turn)


def hold(turn: Turn, trigger: Trigger) -> Block | None:
    """What would hold the trigger back if it came true at this moment, its `if` apart."""
    turn.expire()
    return _block(turn, trigger, NOTHING)


def consider(turn: Turn, trigger: Trigger, occurrence: Occurrence) -> None:
    """Judge one trigger that came true, and let it act if nothing speaks against it."""
    turn.at_work = trigger.name
    if turn.program.off and _is_off(turn, trigger.name):
        return
    if trigger.condition is not None:
        holds, error = trigger.condition.holds(turn.scope(occurrence))
        if not holds:
            turn.trace.append(replace(trigger.unmet, detail=error) if error else trigger.unmet)
            return
    if trigger.reentry is not None and lacks_key(turn, trigger, occurrence):
        return
    turn.expire()
    block = _block(turn, trigger, occurrence)
    if block is not None:
        turn_away(turn, trigger, block, put_off(turn, trigger, occurrence, block))
        return
    enter(turn, trigger, occurrence)
    times = turn.state.fired.get(trigger.name, ())
    turn.state.fired[trigger.name] = remember(times, turn.now, trigger.remembered)
    _act(turn, trigger, occurrence)


def _act(turn: Turn, trigger: Trigger, occurrence: Occurrence) -> None:
    spared = trigger.reaches_user and leave_alone(turn.state, turn.program.policy.holdout)
    if spared:
        turn.note(trigger.name, "suppressed", reason="holdout", detail="the user is held out of everything")
    else:
        turn.note(trigger.name, "fired", detail=occurrence.name)
    for action in trigger.actions:
        if spared and reaches_user(action):
            _count_spared(turn, action)
            continue
        try:
            action.run(turn, trigger.name, occurrence)
        except TemplateFault as fault:
            turn.note(trigger.name, "failed", reason="template", detail=str(fault))


def _count_spared(turn: Turn, action: Action) -> None:
    """Caps count what those held out would have got, so that their records compare with everyone else's."""
    if isinstance(action, ShowPrompt):
        turn.remember_prompt()
    elif isinstance(action, CallWebhook) and turn.program.webhooks[action.webhook].channel == "email":
        turn.remember_email()


def _wake(turn: Turn, occurrence: Occurrence) -> list[Candidate]:
    woken: list[Candidate] = []
    program = turn.program
    for key in occurrence.keys:
        if key in program.cancels:
            cancel_waits(turn, key, occurrence)
        for trigger, hook in program.hooks.get(key, ()):
            turn.at_work = trigger.name
            if program.off and _is_off(turn, trigger.name):
                continue
            if (type(hook) is OnEvent and hook.where is None) or hook.wake(turn, occurrence):
                woken.append((trigger, occurrence))
    turn.at_work = ""
    return woken


def _is_off(turn: Turn, trigger: str) -> bool:
    """Whether the trigger is to be left alone; if not, it is at work from now on."""
    turn.at_work = trigger
    if trigger not in turn.program.off:
        return False
    turn.note(trigger, "off", detail="its evaluation raised an error; the server's log says more")
    return True


def cancel_waits(turn: Turn, key: str, occurrence: Occurrence) -> None:
    """Drop what waits and was begun of the triggers that `cancel_on` this."""
    for cancel in turn.program.cancels.get(key, ()):
        waits, memory, trigger = turn.state.waits, turn.state.memory, turn.program.triggers[cancel.trigger]
        if _is_off(turn, cancel.trigger):
            continue
        begun = [name for name in trigger.begins if name in memory]
        falling = trigger.falling(turn.state.counters)
        pending = begun or falling or any(wait.trigger == cancel.trigger for wait in waits)
        if pending and turn.holds(cancel.where, occurrence):
            for name in falling:
                del turn.state.counters[name]
            turn.state.waits = tuple(wait for wait in waits if wait.trigger != cancel.trigger or wait.message)
            turn.state.memory = {name: each for name, each in memory.items() if name not in begun}
            turn.note(cancel.trigger, "cancelled", detail=occurrence.name)


def _in_order(candidates: list[Candidate]) -> list[Candidate]:
    """In the order of arbitration: each trigger once, with its first occurrence, and once more for each that stands
    apart (a wait of its own, an emitted event)."""
    if len(candidates) < 2:
        return candidates
    first: dict[str | tuple[str, int], Candidate] = {}
    for candidate in candidates:
        trigger, occurrence = candidate
        first.setdefault((trigger.name, id(occurrence)) if occurrence.apart else trigger.name, candidate)
    return sorted(first.values(), key=_rank)


def _rank(candidate: Candidate) -> tuple[int, str, int]:
    return candidate[0].rank


def _block(turn: Turn, trigger: Trigger, occurrence: Occurrence) -> Block | None:
    """The first thing that holds the trigger back, in the order of policy.REASONS."""
    policy, state, now = turn.program.policy, turn.state, turn.now
    prompts, mails = trigger.prompts, turn.program.mails(trigger)
    quiet = (prompts and "prompts" in policy.quiet_for) or (mails and "email" in policy.quiet_for)
    return (
        _own(turn, trigger, occurrence)
        or (check_caps(policy, state, prompts=prompts, mails=mails, now=now) if prompts or mails else None)
        or (check_gap(policy, state, now=now) if prompts else None)
        or (check_screen(turn, trigger) if prompts else None)
        or (check_quiet(policy, state, now=now) if quiet else None)
        or (_late(occurrence) if prompts else None)
    )


def _own(turn: Turn, trigger: Trigger, occurrence: Occurrence) -> Block | None:
    """What the trigger itself says: its limits, cooldown and reentry."""
    times, reentry = turn.state.fired.get(trigger.name, ()), trigger.reentry
    entry = entry_of(turn, trigger, occurrence)
    block = check_limits(trigger.limits, times, turn.state, now=turn.now)
    if block is None and reentry is not None and entry is not None:
        block = reentry.too_many(entry)
    if block is None and trigger.cooldown and times and turn.now < times[-1] + trigger.cooldown:
        return Block("cooldown", "the trigger's own cooldown is not over", times[-1] + trigger.cooldown)
    if block is None and reentry is not None and entry is not None:
        block = reentry.too_soon(entry) or reentry.crowded(entry)
    return block


def _late(occurrence: Occurrence) -> Block | None:
    if not occurrence.late:
        return None
    return Block("late", "the event is older than the session's newest by more than the skew")
