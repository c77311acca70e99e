"""Triggers that wake each other in a circle, at once and with nothing that ends it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from handrail.core.actions.emit import EmitEvent
from handrail.core.actions.set import SetTraits
from handrail.core.advice.written import Written
from handrail.core.expressions import Expression
from handrail.core.problems import Problem
from handrail.core.program import Program, Trigger
from handrail.core.triggers.changes import OnChange
from handrail.core.triggers.event import OnEvent
from handrail.core.turn import DEPTH

# What stays as it is while triggers wake each other within one step.
_STEADY = frozenset(
    {"user.id", "user.sessions", "user.steps", "user.consents", "user.first_seen", "user.last_visit", "now"}
    | {"user.session.id", "user.session.started", "user.session.length", "user.session.events"}
)
_ARITHMETIC = ("_+_", "_-_", "_*_")  # what gives another value each time


def endless_loops(written: Written) -> Iterator[Problem]:
    """One warning a circle, at the first action of it."""
    wakes = _wakes(written.program)
    told: set[str] = set()
    for name in wakes:
        circle = _circle(name, wakes) if name not in told else []
        if circle:
            told.update(circle)
            path = " -> ".join([*circle, name])
            message = f"nothing ends this loop, {path}, until the server cuts it off: give one of them a limit"
            yield written.warn(f"trigger:{name}", message, "then", wakes[name][(*circle, name)[1]])


def _circle(start: str, wakes: dict[str, dict[str, int]]) -> list[str]:
    """The shortest way from a trigger back to it, as names in order; empty where there is none that is not cut off."""
    ways, seen = [[start]], {start}
    for way in ways:
        for after in wakes.get(way[-1], ()):
            if after == start:
                return way
            if after not in seen and len(way) < DEPTH:
                seen.add(after)
                ways.append([*way, after])
    return []


def _wakes(program: Program) -> dict[str, dict[str, int]]:
    """Trigger -> the triggers it wakes at once whenever it was woken, each with the index of the action that does."""
    assigned = {
        name for each in program.triggers.values() for does in each.actions if isinstance(does, SetTraits)
        for name in does.written
    }  # fmt: skip
    free = {name: each for name, each in program.triggers.items() if _unbound(each, program, assigned)}
    waiting: defaultdict[str, list[str]] = defaultdict(list)
    for name, trigger in free.items():
        for hook in trigger.hooks:
            if isinstance(hook, OnChange) or (isinstance(hook, OnEvent) and _steady(hook.where, assigned)):
                waiting[hook.wakes[0]].append(name)
    return {
        name: {after: index for index, key in reversed(list(_makes(trigger))) for after in waiting.get(key, ())}
        for name, trigger in free.items()
    }


def _unbound(trigger: Trigger, program: Program, assigned: set[str]) -> bool:
    """Whether nothing keeps the trigger from firing time and again. What shows or mails is bound by the policy."""
    bound = trigger.limits or trigger.cooldown or trigger.prompts or program.mails(trigger)
    return not bound and _steady(trigger.condition, assigned)


def _steady(condition: Expression | None, assigned: set[str]) -> bool:
    """Whether the condition, once true, stays so through the loop: it reads nothing that the loop may change."""
    if condition is None:
        return True
    traits = condition.keys.get("user.traits", frozenset())
    read = {name for name in condition.reads if not name.startswith("user.traits") or traits is None}
    return all(_is_steady(name) for name in read) and not (traits or frozenset()) & assigned


def _is_steady(name: str) -> bool:
    return ".".join(name.split(".")[:2]) in _STEADY or name in _STEADY


def _makes(trigger: Trigger) -> Iterator[tuple[int, str]]:
    """(index of the action, wake key) of what its actions make happen each time."""
    for index, action in enumerate(trigger.actions):
        if isinstance(action, EmitEvent):
            yield index, f"event:{action.event}"
        elif isinstance(action, SetTraits):
            yield from ((index, f"changes:traits.{name}") for name in _ever_new(action))


def _ever_new(action: SetTraits) -> Iterator[str]:
    """The traits that get another value each time: themselves, and something more."""
    for name, value in action.computed.items():
        tree = value.tree
        counts = tree.kind == "call" and tree.name in _ARITHMETIC
        if counts and f"user.traits.{name}" in value.reads:
            yield name
