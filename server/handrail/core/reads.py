"""What a condition depends on, in the words in which a Turn notes what it touched."""

from __future__ import annotations

from collections.abc import Iterable

from handrail.core.expressions import Expression

# Variables that change with the clock, or too often to follow one by one: what reads them is judged at every event.
_ALWAYS = ("now", "user.session.id", "user.session.started", "user.session.length", "user.session.events")
_FOLLOWS = {
    "user.goals": "user.traits",
    "user.attributes": "user.persona",
    "user.locale": "user.traits",
    "user.timezone": "user.traits",
    "user.location.country": "user.location",
    "user.location.region": "user.location",
    "user.location.city": "user.location",
    "user.device.type": "user.device",
    "user.device.os": "user.device",
    "user.device.browser": "user.device",
    "user.first_seen": "now",
    "user.last_visit": "user.sessions",
    "user.flow.id": "now",
    "user.flow.variant": "now",
    "user.flow.position": "now",
}


def keys_read(condition: Expression | None, counters: Iterable[str]) -> set[str]:
    """What must be touched for the condition's value to change: `user.traits`, `user.counters.NAME`,
    `user.segments.NAME`, `user.persona`, and `now` for what may change at any moment."""
    if condition is None:
        return set()
    keys = {f"user.segments.{name}" for name in condition.segments}
    for variable in condition.reads:
        if variable in _ALWAYS:
            keys.add("now")
        elif variable == "user.counters":
            named = counters if condition.counters is None else condition.counters
            keys.update(f"user.counters.{name}" for name in named)
        elif variable == "user.segments" and not condition.segments:
            keys.add("now")
        elif variable.count(".") <= 1 or variable in _FOLLOWS:
            keys.add(_FOLLOWS.get(variable, variable))
    return keys
