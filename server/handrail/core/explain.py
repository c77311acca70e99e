"""Why a trigger did or did not fire: its parts as they stand for one user at one instant.

Nothing is judged here. The arbiter is asked what it would do, about the trigger as it is and about one bound of it at
a time; the engine is asked what would come to pass if the user did nothing more. The state is left as it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from handrail.core import engine
from handrail.core.actions import CallWebhook
from handrail.core.arbiter import consider, hold
from handrail.core.durations import Limit, format_duration
from handrail.core.engine import Step, alarm
from handrail.core.events import Alarm, Event
from handrail.core.expressions import Expression, Expressions
from handrail.core.patience import Waiting, waiting
from handrail.core.policy import Block, Policy, check_limits
from handrail.core.program import Program, Trigger
from handrail.core.reentry import standing
from handrail.core.scope import NOTHING
from handrail.core.state import State
from handrail.core.turn import Turn

LOOK_AHEAD = 200  # instants looked at when asking what would come to pass by itself
TOLD = 5  # of those that concern the trigger
BLOCKS = 20  # ends of blocks followed when asking when nothing holds it back any more

Verdict = Literal["fires", "depends", "not-met", "suppressed", "off"]
Decide = Callable[[Program, State, Event, int], Step]


class Part(Struct, frozen=True):
    """A condition, or one that `&&` joins in it. `value` None: it reads the event, so only an event can tell. `error`
    says what made it false, where an error did; `detail` which persona the user has, where it reads that."""

    source: str
    value: bool | None
    error: str = ""
    detail: str = ""


class Bound(Struct, frozen=True):
    """Something that can hold the trigger back. `reason` is the suppression it would be, `rule` what the rules say;
    `used` and `allowed` are None where nothing is counted; `until` is known only while it holds the trigger back."""

    reason: str
    rule: str
    holding: bool
    used: int | None = None
    allowed: int | None = None
    detail: str = ""
    until: int | None = None


class Outlook(Struct, frozen=True):
    """What becomes of the trigger at an instant ahead, if the user does nothing until then."""

    at: int
    outcome: str  # fired, suppressed, not-met or off
    reason: str = ""
    detail: str = ""


class Explanation(Struct, frozen=True, kw_only=True):
    """The trigger for this user `at` an instant; times are milliseconds since the epoch.

    `verdict` is what would happen if one of its `when`s came true now: it `fires`, its `if` is `not-met`, something
    named by `reason` has it `suppressed`, it `depends` on the event, or it is `off`: left out because it raises errors.
    `free_at` is when nothing that ends by itself holds it back any more: `at` if nothing does now, None if it takes
    more than time. `ahead` ends at the first firing. Without an open `session` the user's next activity begins one, and
    counts per session begin anew with it.
    """

    user: str
    trigger: str
    at: int
    verdict: Verdict
    reason: str = ""
    detail: str = ""
    when: tuple[Waiting, ...] = ()
    session: bool = True
    condition: Part | None = None
    operands: tuple[Part, ...] = ()
    bounds: tuple[Bound, ...] = ()
    fired: tuple[int, ...] = ()
    free_at: int | None = None
    ahead: tuple[Outlook, ...] = ()


def explain(program: Program, state: State, trigger: Trigger, now: int, *, step: Decide = engine.step) -> Explanation:
    """Explain a trigger of the program to a user's state as it is at `now`, what fell due by then included. `step` is
    how it is decided what comes to pass by time alone."""
    state = step(program, state, Alarm(at=now), now).state
    condition, operands = _judge(program, state, trigger, now)
    verdict, reason, detail = _verdict(program, state, trigger, condition, now)
    block = hold(Turn(program, state.fork(), now), trigger)
    ends_not = block is None and verdict == "suppressed"  # by something that holds back for good
    return Explanation(
        user=state.user,
        trigger=trigger.name,
        at=now,
        verdict=verdict,
        reason=reason,
        detail=detail,
        session=state.session is not None and not state.session.ended,
        when=tuple(waiting(hook, index, trigger, program, state, now) for index, hook in enumerate(trigger.hooks)),
        condition=condition,
        operands=operands,
        bounds=tuple(_bounds(program, state, trigger, Block(reason, detail) if ends_not else block, now)),
        fired=state.fired.get(trigger.name, ()),
        free_at=None if ends_not else _free_at(program, state, trigger, now, step),
        ahead=tuple(_ahead(program, state, trigger, now, step)),
    )


def own_up(state: State, trigger: Trigger, now: int, *, error: str, condition: str = "") -> Explanation:
    """What is left to say of a trigger that raises this error when it is judged, in its `if` where `condition` says
    which."""
    return Explanation(
        user=state.user,
        trigger=trigger.name,
        at=now,
        verdict="off",
        detail=error,
        session=state.session is not None and not state.session.ended,
        condition=Part(trigger.condition.source, False, condition) if trigger.condition and condition else None,
        fired=state.fired.get(trigger.name, ()),
    )


def _verdict(
    program: Program, state: State, trigger: Trigger, condition: Part | None, now: int
) -> tuple[Verdict, str, str]:
    if condition is not None and condition.value is False:
        return "not-met", condition.source, condition.error
    turn = Turn(program, state.fork(), now)
    consider(turn, replace(trigger, condition=None), NOTHING)
    line = next(line for line in turn.trace if line.trigger == trigger.name)
    if line.outcome != "fired":
        return "suppressed", line.reason, line.detail
    failures = "; ".join(each.detail for each in turn.trace if each.outcome == "failed")
    keyed = trigger.reentry is not None and trigger.reentry.key is not None and trigger.enters_at_once
    return ("fires" if (condition is None or condition.value) and not keyed else "depends"), "", failures


# --- the condition ---


def _judge(program: Program, state: State, trigger: Trigger, now: int) -> tuple[Part | None, tuple[Part, ...]]:
    """The condition, and its operands where `&&` joins several; one false operand makes it false whatever the event."""
    if trigger.condition is None:
        return None, ()
    turn = Turn(program, state, now)
    parts = tuple(_part(each, turn) for each in Expressions().operands(trigger.condition.source))
    whole = _part(trigger.condition, turn)
    if any(part.value is False for part in parts):
        whole = replace(whole, value=False)
    return whole, parts if len(parts) > 1 else ()


def _part(condition: Expression, turn: Turn) -> Part:
    detail = _persona(turn) if {"user.persona", "user.attributes"} & condition.reads else ""
    if any(name.startswith("event.") for name in condition.reads):
        return Part(condition.source, None, detail=detail)
    value, error = condition.holds(turn.scope())
    return Part(condition.source, value, error, detail)


def _persona(turn: Turn) -> str:
    persona = turn.scope().variable("user.persona", None)
    return f"the persona is '{persona}'" if persona else "the user has no persona"


# --- what holds it back ---


def _bounds(program: Program, state: State, trigger: Trigger, block: Block | None, now: int) -> Iterator[Bound]:
    """Every bound of the trigger and of the policy by itself, in the order in which the arbiter asks."""
    told = []
    for entering in _entering(program, state, trigger, now):
        told.append(entering.reason)
        yield entering
    for reason, rule, limit, times, part, policy in _alone(program, state, trigger):
        found = hold(Turn(dataclasses.replace(program, policy=policy), state.fork(), now), part)
        held = found if found is not None and found.reason == reason else None
        told.append(reason)
        yield Bound(
            reason=reason,
            rule=rule,
            holding=held is not None,
            used=None if limit is None else _used(limit, times, state, now),
            allowed=None if limit is None else limit.count,
            detail=held.detail if held else "",
            until=held.until if held else None,
        )
    if block is not None and block.reason not in told:
        yield Bound(block.reason, "", True, detail=block.detail, until=block.until)


def _entering(program: Program, state: State, trigger: Trigger, now: int) -> Iterator[Bound]:
    """What `reentry` allows; of a key only an event can tell."""
    keyed = trigger.reentry is not None and trigger.reentry.key is not None
    for reason, rule, block in standing(Turn(program, state.fork(), now), trigger):
        if keyed:
            yield Bound(reason, rule, False, detail="depends on the key of the event")
        else:
            detail, until = (block.detail, block.until) if block else ("", None)
            yield Bound(reason, rule, block is not None, detail=detail, until=until)


_Alone = tuple[str, str, Limit | None, tuple[int, ...], Trigger, Policy]


def _alone(program: Program, state: State, trigger: Trigger) -> Iterator[_Alone]:
    """(reason, rule, limit, times it counts, trigger, policy) with the trigger and the policy cut down to one bound."""
    policy, unbound = program.policy, replace(trigger, limits=(), cooldown=0, reentry=None)
    bare, fired = replace(unbound, actions=()), state.fired.get(trigger.name, ())
    for limit in trigger.limits:
        yield "limit", str(limit), limit, fired, replace(bare, limits=(limit,)), Policy()
    if trigger.cooldown:
        yield (
            "cooldown",
            format_duration(trigger.cooldown),
            None,
            (),
            replace(bare, cooldown=trigger.cooldown),
            Policy(),
        )
    prompting = replace(unbound, actions=tuple(each for each in trigger.actions if not isinstance(each, CallWebhook)))
    mailing = replace(unbound, actions=tuple(each for each in trigger.actions if isinstance(each, CallWebhook)))
    both = tuple(sorted(state.prompted + state.mailed))
    if trigger.prompts:
        for limit in policy.prompts:
            yield "cap", f"prompts: {limit}", limit, state.prompted, prompting, Policy(prompts=(limit,))
    if program.mails(trigger):
        for limit in policy.email:
            yield "cap", f"email: {limit}", limit, state.mailed, mailing, Policy(email=(limit,))
    if trigger.prompts or program.mails(trigger):
        for limit in policy.budget:
            yield (
                "cap",
                f"budget: {limit}",
                limit,
                both,
                prompting if trigger.prompts else mailing,
                Policy(budget=(limit,)),
            )
    if trigger.prompts:
        if policy.gap:
            yield "gap", format_duration(policy.gap), None, (), prompting, Policy(gap=policy.gap)
        yield "busy", "one prompt at a time", None, (), prompting, Policy()


def _used(limit: Limit, times: tuple[int, ...], state: State, now: int) -> int:
    """How many of the times the limit counts: the highest limit of its kind that is reached."""
    counts = range(len(times), 0, -1)
    limits = ((replace(limit, count=count),) for count in counts)
    reached = (each[0].count for each in limits if check_limits(each, times, state, now=now))
    return next(reached, 0)


# --- what is to come ---


def _free_at(program: Program, state: State, trigger: Trigger, now: int, step: Decide) -> int | None:
    for _ in range(BLOCKS):
        block = hold(Turn(program, state.fork(), now), trigger)
        if block is None:
            return now
        if block.until is None or block.until <= now:
            return None
        now = block.until
        state = step(program, state, Alarm(at=now), now).state
    return None


def _ahead(program: Program, state: State, trigger: Trigger, now: int, step: Decide) -> Iterator[Outlook]:
    told = 0
    for _ in range(LOOK_AHEAD):
        due = alarm(program, state)
        if due is None:
            return
        now = max(now, due)
        done = step(program, state, Alarm(at=now), now)
        state = done.state
        for line in done.trace:
            if line.trigger == trigger.name and line.outcome in ("fired", "suppressed", "not-met", "off"):
                yield Outlook(now, line.outcome, line.reason, line.detail)
                told += 1
                if line.outcome == "fired" or told == TOLD:
                    return
