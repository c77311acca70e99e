"""What conditions and templates see of a user: the names of the rule language over a state at an instant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from msgspec import Struct, field

from handrail.core.counters import Counter, total
from handrail.core.state import State


class Occurrence(Struct, frozen=True, kw_only=True):
    """Something that happened, as triggers see it. `keys` are the indexes it is looked up by, such as
    `event:step_skipped`, `enters:engaged` or `changes:traits.plan`; `late` forbids live prompts; `gap` is the length in
    milliseconds of the absence that this activity ended; `depth` counts the emits that led here. One that is
    `apart` wakes a trigger even if the trigger was woken by another in the same round; what was put off is decided no
    later than `until`, if not 0. `ordinal` is how many events the user had tracked by then; one that is their `own`
    counts itself, and is -1 if it happened before another that came sooner. `entry` is the key under which a wait that
    is over entered its trigger, None for what did not wait."""

    keys: tuple[str, ...]
    name: str
    at: int
    properties: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    late: bool = False
    gap: int = 0
    depth: int = 0
    apart: bool = False
    own: bool = False
    ordinal: int = 0
    until: int = 0
    entry: str | None = None


NOTHING = Occurrence(keys=(), name="", at=0)


@lru_cache(maxsize=4_096)
def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def iso(ms: int) -> str:
    """ISO 8601 with milliseconds and `Z`."""
    return moment(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Scope:
    """The variables of one user at `now`, with the event under consideration; values are computed when asked for."""

    __slots__ = ("attributes", "counters", "event", "now", "state")

    def __init__(
        self,
        state: State,
        counters: Mapping[str, Counter],
        event: Occurrence,
        now: int,
        *,
        attributes: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        """`attributes` are those of each persona."""
        self.state = state
        self.counters = counters
        self.event = event
        self.now = now
        self.attributes = attributes or {}

    def variable(self, name: str, keys: frozenset[str] | None) -> object:
        """The value of a variable such as `user.traits`; of a large map only `keys` are needed (None: all)."""
        if name == "user.traits":  # these two are most of what conditions read
            return self.state.traits
        if name == "event.properties":
            return self.event.properties
        if name == "user.counters":
            return self._count(self.counters if keys is None else keys)
        return _VARIABLES[name](self)

    def _count(self, names: Iterable[str]) -> dict[str, int]:
        found = {}
        for name in names:
            counter = self.counters.get(name)
            if counter is not None:
                found[name] = total(counter, self.state, now=self.now)
        return found

    def context(self, reads: frozenset[str]) -> dict[str, Any]:
        """What a template reads (`user.traits.plan`, `user`, …) as nested plain values: times as ISO 8601, the length
        of the session in seconds. Of counters only those named, unless a template looks at all of them."""
        nested: dict[str, Any] = {"user": {}, "event": {}}
        for name, keys in _needed(reads):
            found = self.variable(name, keys)
            *parents, last = name.split(".")
            place = nested
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = _plain(found)
        return nested


@lru_cache(maxsize=10_000)
def _needed(reads: frozenset[str]) -> tuple[tuple[str, frozenset[str] | None], ...]:
    """(variable, its only keys or None) of what is to be filled in for these dotted names."""
    needed: dict[str, frozenset[str] | None] = {}
    for name in ("user.counters", *_VARIABLES):
        below = [read for read in reads if read == name or name.startswith(f"{read}.")]
        within = [read.removeprefix(f"{name}.") for read in reads if read.startswith(f"{name}.")]
        if below or within:
            needed[name] = None if below else frozenset(key.partition(".")[0] for key in within)
    return tuple(needed.items())


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return int(value.total_seconds()) if isinstance(value, timedelta) else value


def _session_length(scope: Scope) -> timedelta:
    session = scope.state.session
    if session is None:
        return timedelta()
    return timedelta(milliseconds=max(0, (session.ended or scope.now) - session.started))


def _text_trait(name: str) -> Callable[[Scope], str]:
    def read(scope: Scope) -> str:
        value = scope.state.traits.get(name)
        return value if isinstance(value, str) else ""

    return read


def _persona(scope: Scope) -> str:
    return _told_persona(scope) or scope.state.persona


def _goals(scope: Scope) -> list[str]:
    goals = scope.state.traits.get("goals")
    return [goal for goal in goals if isinstance(goal, str)] if isinstance(goals, list) else []


_told_persona = _text_trait("persona")
_VARIABLES: dict[str, Callable[[Scope], Any]] = {
    "user.id": lambda scope: scope.state.user,
    "user.traits": lambda scope: scope.state.traits,
    "user.segments": lambda scope: list(scope.state.segments),
    "user.sessions": lambda scope: scope.state.sessions,
    "user.session.id": lambda scope: scope.state.session.id if scope.state.session else "",
    "user.session.started": lambda scope: moment(scope.state.session.started if scope.state.session else 0),
    "user.session.length": _session_length,
    "user.session.events": lambda scope: scope.state.session.events if scope.state.session else 0,
    "user.steps": lambda scope: scope.state.steps,
    "user.flow.id": lambda scope: scope.state.flow.id if scope.state.flow else "",
    "user.flow.variant": lambda scope: (scope.state.flow.variant or "") if scope.state.flow else "",
    "user.flow.position": lambda scope: scope.state.flow.position if scope.state.flow else 0,
    "user.goals": _goals,
    "user.persona": _persona,
    "user.attributes": lambda scope: scope.attributes.get(_persona(scope), {}),
    "user.consents": lambda scope: scope.state.consents,
    "user.locale": _text_trait("locale"),
    "user.timezone": _text_trait("timezone"),
    "user.location.country": lambda scope: scope.state.location.get("country", ""),
    "user.location.region": lambda scope: scope.state.location.get("region", ""),
    "user.location.city": lambda scope: scope.state.location.get("city", ""),
    "user.device.type": lambda scope: scope.state.device.get("type", ""),
    "user.device.os": lambda scope: scope.state.device.get("os", ""),
    "user.device.browser": lambda scope: scope.state.device.get("browser", ""),
    "user.first_seen": lambda scope: moment(scope.state.first_seen),
    "user.last_visit": lambda scope: moment(scope.state.last_visit or scope.state.first_seen),
    "event.name": lambda scope: scope.event.name,
    "event.properties": lambda scope: scope.event.properties,
    "event.context": lambda scope: scope.event.context,
    "now": lambda scope: moment(scope.now),
}
