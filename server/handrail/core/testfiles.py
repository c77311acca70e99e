"""Files of tests (`*.test.yaml`): their shapes, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal
from zoneinfo import available_timezones

from msgspec import Struct
from pydantic import Field

from handrail.core.durations import Duration
from handrail.core.policy import REASONS
from handrail.core.problems import Problem, choose, suggest
from handrail.core.program import Program, Segment
from handrail.core.source import Document, Shape, read, validate
from handrail.core.zones import zone_named

START = "2026-01-05T09:00:00Z"  # a Monday morning, unless the test gives `now`
ENTRIES = ("event", "identify", "consent", "connect", "disconnect", "visible", "activity")
ACTIONS = ("prompt", "content", "flow", "webhook", "set", "emit", "withdraw")


class LocationShape(Shape):
    country: str | None = None
    region: str | None = None
    city: str | None = None


class DeviceShape(Shape):
    type: Literal["desktop", "mobile", "tablet"] | None = None
    os: str | None = None
    browser: str | None = None


class GivenShape(Shape):
    traits: dict[str, Any] = Field(default_factory=dict)
    segments: list[str] = Field(default_factory=list)
    timezone: str | None = None
    locale: str | None = None
    location: LocationShape = LocationShape()
    device: DeviceShape = DeviceShape()
    now: str = START
    connected: bool = True
    holdout: bool = False


class EntryShape(Shape):
    at: Duration
    event: str | None = None
    properties: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    identify: dict[str, Any] | None = None
    consent: dict[str, bool] | None = None
    connect: bool | None = None
    disconnect: bool | None = None
    visible: bool | None = None
    activity: bool | None = None
    expect: list[dict[str, Any]] | None = None


class TestShape(Shape):
    __test__ = False

    test: str
    description: str | None = None
    given: GivenShape = GivenShape()
    timeline: list[EntryShape] = Field(min_length=1)


class Scenario(Struct, frozen=True):
    """One test of a file; `lines` are where the entries of its timeline stand."""

    path: str
    line: int
    shape: TestShape
    lines: tuple[int, ...]


def read_tests(sources: Mapping[str, str], program: Program | None) -> tuple[list[Scenario], list[Problem]]:
    """The tests of `*.test.yaml` files given as path -> text, and what is wrong with them.

    Without a program (the rules have faults) the names that tests expect are not checked.
    """
    scenarios, problems = [], []
    for path in sorted(sources):
        documents, found = read(path, sources[path])
        problems.extend(found)
        for document in documents:
            if next(iter(document.value), None) != "test":
                message = "a document of a test file begins with 'test: NAME'; rules stand in files of their own"
                problems.append(document.problem(document.place, message))
                continue
            shape, found = validate(TestShape, document)
            faults = [*found, *(_check(shape, document, program) if shape else ())]
            problems.extend(faults)
            if shape is not None and all(each.severity == "warning" for each in faults):
                lines = tuple(document.value_place(("timeline", index)).line for index in range(len(shape.timeline)))
                scenarios.append(Scenario(path, document.place.line, shape, lines))
    return scenarios, sorted(problems)


def _check(shape: TestShape, document: Document, program: Program | None) -> Iterator[Problem]:
    """What a well-formed test says that cannot be."""
    try:
        instant(shape.given.now)
    except ValueError:
        place = document.value_place(("given", "now"))
        yield document.problem(place, f"'{shape.given.now}' is not a time: write ISO 8601, as {START}")
    yield from _odd_givens(shape.given, document, program)
    latest, connected = 0, shape.given.connected
    for index, entry in enumerate(shape.timeline):
        at = ("timeline", index)
        if not connected and (entry.visible is not None or entry.activity):
            yield document.problem(document.value_place(at), "nobody is connected here: put 'connect: true' before it")
        connected = bool(entry.connect or (connected and not entry.disconnect))
        said = [name for name in ENTRIES if getattr(entry, name) is not None]
        if len(said) > 1:
            yield document.problem(document.value_place(at), f"an entry is one of {said[0]} and {said[1]}, not both")
        if entry.properties is not None and entry.event is None:
            yield document.problem(document.key_place((*at, "properties")), "properties belong to an event")
        if entry.context is not None and entry.event is None and entry.identify is None:
            yield document.problem(document.key_place((*at, "context")), "a context belongs to an event or identify")
        if entry.at < latest:
            yield document.problem(document.value_place((*at, "at")), "the timeline runs backwards here")
        latest = max(latest, entry.at)
        for number, expected in enumerate(entry.expect or ()):
            yield from _check_expected(expected, (*at, "expect", number), document, program)


def _odd_givens(given: GivenShape, document: Document, program: Program | None) -> Iterator[Problem]:
    """What is likely a slip, though a test may well be about it."""
    if given.timezone and zone_named(given.timezone) is None:
        message = (
            f"no time zone is named '{given.timezone}', so it is UTC{suggest(given.timezone, available_timezones())}"
        )
        yield document.problem(document.value_place(("given", "timezone")), message, severity="warning")
    segments = [each.name for each in program.segments if isinstance(each, Segment)] if program else []
    for index, name in enumerate(given.segments):
        hint = "" if name in segments else suggest(name, segments)
        if hint:
            place = document.value_place(("given", "segments", index))
            yield document.problem(place, f"no segment is named '{name}'{hint}", severity="warning")


def _check_expected(
    expected: dict[str, Any], at: tuple[str | int, ...], document: Document, program: Program | None
) -> Iterator[Problem]:
    known = (*ACTIONS, "trigger", "variant", "suppressed")
    for key in expected:
        if key not in known:
            yield document.problem(document.key_place((*at, key)), f"unknown key '{key}'{choose(key, known)}")
    reason = expected.get("suppressed")
    if reason is not None and reason not in REASONS:
        place = document.value_place((*at, "suppressed"))
        yield document.problem(place, f"no suppression is called '{reason}'; they are {', '.join(REASONS)}")
    content = expected.get("content")
    block = content if isinstance(content, dict) else {}
    for key in block:
        if key not in ("slot", "message"):
            place = document.key_place((*at, "content", key))
            yield document.problem(place, f"unknown key '{key}' in content{choose(key, ('slot', 'message'))}")
    if program is None:
        return
    named: list[tuple[tuple[str, ...], Any, str, Iterable[str]]] = [
        (("trigger",), expected.get("trigger"), "trigger", program.triggers),
        (("prompt",), expected.get("prompt"), "message", program.messages),
        (("withdraw",), expected.get("withdraw"), "message", program.messages),
        (("content", "message"), block.get("message"), "message", program.messages),
        (("webhook",), expected.get("webhook"), "webhook", program.webhooks),
    ]
    for path, name, kind, defined in named:
        if isinstance(name, str) and name not in defined:
            place = document.value_place((*at, *path))
            yield document.problem(place, f"no {kind} is named '{name}'{suggest(name, defined)}")


def instant(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return int(moment.timestamp() * 1000)
