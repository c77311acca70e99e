"""Conditions twice: as CEL for the rule file, and as plain Python over what the reference knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reference.history import Fact

if TYPE_CHECKING:
    from reference.world import World

Condition = Callable[["World", Fact], Any]

WHERE: dict[str, Condition] = {
    "true": lambda _, __: True,
    "event.properties.n > 1": lambda _, event: event.properties["n"] > 1,
    "event.properties.n == 1": lambda _, event: event.properties["n"] == 1,
}
VALUES: dict[str, Condition] = {
    "event.properties.n": lambda _, event: event.properties["n"],
}
USER: dict[str, Condition] = {
    "user.sessions > 1": lambda world, _: len(world.visits) > 1,
    "user.counters.some >= 2": lambda world, _: world.counter("some") >= 2,
    "user.counters.lately == 1": lambda world, _: world.counter("lately") == 1,
    "user.counters.kinds >= 2": lambda world, _: world.counter("kinds") >= 2,
    "user.counters.early < 2": lambda world, _: world.counter("early") < 2,
    "user.traits.plan == 'pro'": lambda world, _: world.traits["plan"] == "pro",
    "'busy' in user.segments": lambda world, _: "busy" in world.segments,
    "!('busy' in user.segments)": lambda world, _: "busy" not in world.segments,
    "user.steps.one == 'viewed'": lambda world, _: world.steps["one"] == "viewed",
}
IF: dict[str, Condition] = {
    **USER,
    "true": lambda _, __: True,
    "event.name == 'a'": lambda _, event: event.name == "a",
    "event.properties.n > 0": lambda _, event: event.properties["n"] > 0,
}


def holds(condition: str | None, world: World, event: Fact) -> bool:
    """Whether it is true; whatever goes wrong in it means no."""
    if condition is None:
        return True
    known = {**WHERE, **IF}
    try:
        return bool(known[condition](world, event))
    except (LookupError, TypeError):
        return False


def value(expression: str | None, world: World, event: Fact) -> Any:
    """The value of a `key` or `distinct` with its type, so that 1 is not '1'; None where there is none."""
    if expression is None:
        return ("none",)
    try:
        found = VALUES[expression](world, event)
    except LookupError:
        return None
    return None if found is None else (type(found).__name__, found)
