"""Names that conditions and texts read and that are never there: properties of events, counters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from handrail.core.actions import Action, CallWebhook
from handrail.core.actions.content import FillSlot
from handrail.core.actions.prompt import ShowPrompt
from handrail.core.advice.happenings import Happening, happenings, sent
from handrail.core.advice.written import Written, kind_of, name_of
from handrail.core.compiler import Use
from handrail.core.events import SERVER_EVENTS
from handrail.core.expressions import Expression
from handrail.core.problems import Problem, suggest
from handrail.core.source import Document, Path
from handrail.core.templates import Template, templates_in

_PROPERTIES = "event.properties."
_COUNTERS = "user.counters."


class Reading(NamedTuple):
    """A dotted name that a condition or text reads."""

    document: Document
    path: Path
    what: Expression | Template
    name: str

    def problem(self, message: str) -> Problem:
        what = self.what
        line, column = what.places[self.name] if isinstance(what, Expression) else what.place(self.name)
        place = self.document.inner_place(self.path, what.source, line, column)
        return self.document.problem(place, message, severity="warning")


def absent_fields(written: Written) -> Iterator[Problem]:
    seen: dict[str, list[Happening]] | None = None
    for use in written.uses:
        for reading in _readings(use):
            if reading.name.startswith(_COUNTERS):
                yield from _no_counter(reading, written)
                continue
            if seen is None:
                seen = _seen(written)
            look = _no_key if reading.path[-1] == "key" else _no_property
            yield from look(reading, _events(reading.document, reading.path, seen))


def _readings(use: Use) -> Iterator[Reading]:
    document, path, what = use
    if isinstance(what, Expression):
        for key in sorted(what.keys.get("event.properties") or ()):
            yield Reading(document, path, what, f"{_PROPERTIES}{key}")
    elif isinstance(what, Template):
        for name in sorted(what.reads):
            if name.startswith((_PROPERTIES, _COUNTERS)):
                yield Reading(document, path, what, name)
    else:
        for inner, template in templates_in(what.value):
            yield from _readings(Use(document, (*path, *inner), template))


def _no_counter(reading: Reading, written: Written) -> Iterator[Problem]:
    counter = reading.name.split(".")[2]
    if counter not in written.program.counters:
        yield reading.problem(
            f"no counter is named '{counter}', so this is always empty{suggest(counter, written.program.counters)}"
        )


def _no_property(reading: Reading, events: Sequence[Happening]) -> Iterator[Problem]:
    name = reading.name.removeprefix(_PROPERTIES).partition(".")[0]
    known = [each for event in events for each in event.properties or ()]
    if events and name not in known and all(event.properties is not None for event in events):
        here = " or ".join(dict.fromkeys(map(str, events)))
        yield reading.problem(f"event.properties.{name} is never there: the event is {here}{suggest(name, known)}")


def _no_key(reading: Reading, events: Sequence[Happening]) -> Iterator[Problem]:
    """As of any expression; but for a key that is just this property, one event that lacks it is enough."""
    plain = isinstance(reading.what, Expression) and reading.what.source == reading.name
    lacking = [found for event in events if (found := list(_no_property(reading, [event])))]
    yield from lacking[0] if plain and lacking else _no_property(reading, events)


def _events(document: Document, path: Path, seen: Mapping[str, Sequence[Happening]]) -> Sequence[Happening]:
    """The events that what stands at a path can see; none where that is not known."""
    kind = kind_of(document)
    if path[0] in ("when", "cancel_on") or kind == "counter":
        return _counted(document, path)
    return seen.get(f"{kind}:{name_of(document)}", ())


def _counted(document: Document, path: Path) -> Sequence[Happening]:
    """The event that a `where` or `distinct` stands beside, or all that have a `key`, if the server makes it."""
    beside: Any = document.value
    for key in path[:-1]:
        beside = beside[key]
    if path[-1] == "key":
        patterns = (*beside.get("steps", ()), *(beside[word] for word in ("after", "of", "before") if word in beside))
        return [sent(each["event"]) for each in patterns]
    name = beside.get("event", beside.get("of")) if path[-1] in ("where", "distinct") else None
    return [sent(name)] if isinstance(name, str) and name in SERVER_EVENTS else ()


def _seen(written: Written) -> dict[str, list[Happening]]:
    """`KIND:NAME` of triggers, and of messages and webhooks by those that use them -> the events they can see."""
    seen: dict[str, list[Happening]] = {}
    for trigger in written.program.triggers.values():
        found = happenings(trigger) or [Happening("")]  # of unknown properties
        for name in (f"trigger:{trigger.name}", *filter(None, map(_used, trigger.actions))):
            seen.setdefault(name, []).extend(found)
    return seen


def _used(action: Action) -> str:
    match action:
        case ShowPrompt() | FillSlot():
            return f"message:{action.message}"
        case CallWebhook():
            return f"webhook:{action.webhook}"
    return ""
