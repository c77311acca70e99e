"""Limits that can never be reached, or change nothing beside others; and those of 0."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from handrail.core.advice.written import Written
from handrail.core.durations import UNITS, Limit, format_duration
from handrail.core.policy import Policy
from handrail.core.problems import Problem
from handrail.core.source import Path

DAY = UNITS["d"]
LONGEST_DAY = 25 * UNITS["h"]  # where clocks go back
_BARRED = {
    "prompts": "no prompt is ever shown",
    "email": "no e-mail is ever sent",
    "budget": "none is ever shown or sent",
}
Flaw = tuple[str, Path]


class Bounds(NamedTuple):
    """What bounds a trigger."""

    limits: tuple[Limit, ...]
    cooldown: int
    prompts: bool
    mails: bool


def void_caps(written: Written) -> Iterator[Problem]:
    program = written.program
    if "policy:default" in written.documents:
        for message, path in _of_policy(program.policy):
            yield written.warn("policy:default", message, *path)
    found: dict[Bounds, list[Flaw]] = {}  # many triggers are bound alike
    for trigger in program.triggers.values():
        bounds = Bounds(trigger.limits, trigger.cooldown, trigger.prompts, program.mails(trigger))
        if bounds not in found:
            found[bounds] = list(_of_trigger(bounds, program.policy))
        for message, path in found[bounds]:
            yield written.warn(f"trigger:{trigger.name}", message, *path)


def _of_trigger(bounds: Bounds, policy: Policy) -> Iterator[Flaw]:
    """Paths are those of a list of limits; where a single one stands, its place is the nearest."""
    barred = [index for index, limit in enumerate(bounds.limits) if not limit.count]
    if barred:
        yield "a limit of 0: the trigger never fires", ("limit", barred[0])
        return
    void = dict(_redundant(bounds.limits))
    for index, limit in enumerate(bounds.limits):
        reason = void.get(index) or _spaced(limit, bounds.cooldown, "cooldown") or _stricter(limit, bounds, policy)
        if reason:
            yield reason, ("limit", index)
    if bounds.cooldown and any(limit.per == "ever" and limit.count == 1 for limit in bounds.limits):
        yield "changes nothing: the trigger fires once, ever", ("cooldown",)


def _of_policy(policy: Policy) -> Iterator[Flaw]:
    groups = (("prompts", policy.prompts), ("email", policy.email), ("budget", policy.budget))
    for name, limits in groups:
        path = ("budget",) if name == "budget" else (name, "limit")
        void = dict(_redundant(limits))
        for index, limit in enumerate(limits):
            reason = f"a limit of 0: {_BARRED[name]}" if not limit.count else void.get(index)
            if name == "prompts" and not reason:
                reason = _spaced(limit, policy.gap, "gap")
            if name != "budget" and not reason:
                reason = _beyond(limit, policy.budget, "budget")
            if reason:
                yield reason, (*path, index)


def _redundant(limits: Sequence[Limit]) -> Iterator[tuple[int, str]]:
    """(index, what to say) of the limits beside which another always holds back at least as soon."""
    for index, limit in enumerate(limits):
        for place, other in enumerate(limits):
            implied = place != index and _implies(other, limit)
            if implied and (place < index or not _implies(limit, other)):
                yield index, f"'{limit}' changes nothing: '{other}' is at least as strict"
                break


def _implies(other: Limit, limit: Limit) -> bool:
    """Whether `limit` holds nothing back that `other` lets through."""
    most = _most(other, limit)
    return most is not None and most <= limit.count


def _stricter(limit: Limit, bounds: Bounds, policy: Policy) -> str:
    """Where the policy lets through less of what the trigger does than its own limit."""
    rivals = [("prompts, limit", policy.prompts)] * bounds.prompts + [("email, limit", policy.email)] * bounds.mails
    if rivals:
        rivals.append(("budget", policy.budget))
    reasons = [_beyond(limit, each, name) for name, each in rivals]
    gap = _spaced(limit, policy.gap, "gap of the policy") if bounds.prompts else ""
    return next(filter(None, (*reasons, gap)), "")


def _beyond(limit: Limit, bounds: Sequence[Limit], name: str) -> str:
    """Where one of the policy's bounds, if it lets anything through, keeps the limit from ever being reached."""
    for bound in bounds:
        most = _most(bound, limit)
        if bound.count and most is not None and most < limit.count:
            return f"'{limit}' is never reached: the policy allows {bound} (policy: {name})"
    return ""


def _spaced(limit: Limit, space: int, name: str) -> str:
    """Where the time that must pass in between keeps the limit from ever being reached."""
    span = DAY if limit.per == "day" else limit.window
    if not space or span is None or (limit.count - 1) * space < span:
        return ""
    most = -(-span // space)
    return f"'{limit}' is never reached: with the {name}, {format_duration(space)}, {_times(most)} is the most"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _most(bound: Limit, limit: Limit) -> int | None:
    """How many `bound` lets through, at most, in the span of `limit`; None where that is not certain.

    A session has no bound in time for who is away, and calendar days shift with the user's zone.
    """
    if bound.per == "ever" or (bound.per == limit.per and bound.per in ("session", "day")):
        return bound.count
    span = LONGEST_DAY if limit.per == "day" else limit.window
    if span is None or bound.window is None:
        return None
    return bound.count * -(-span // bound.window)
