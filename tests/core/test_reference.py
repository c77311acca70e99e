"""The engine against the reference: random rules, random histories, the same decisions at the same instants.

`HANDRAIL_EXAMPLES=5000` looks at that many cases, others each time; without it these are few, and always the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from plays import compiled
from reference.conditions import IF, VALUES, WHERE
from reference.decide import decide
from reference.history import Decided, Happening, HeldBack

from handrail.core import events as ev
from handrail.core.effects import Decision
from handrail.core.engine import Step, alarm, fresh, step

SECOND = 1_000
MINUTE = 60 * SECOND
EXAMPLES = os.environ.get("HANDRAIL_EXAMPLES")
BUDGET = settings(
    max_examples=int(EXAMPLES or 80),
    derandomize=EXAMPLES is None,
    suppress_health_check=list(HealthCheck),
)

# --- rules ---

SPANS = st.sampled_from(["10s", "20s", "30s", "1m", "1m30s"])
NAMES = st.sampled_from(["a", "a", "b", "c"])
STEPS = st.sampled_from(["one", "two"])
TABS = st.sampled_from(["one", "one", "two"])
KEY = st.sampled_from(sorted(VALUES))
WHERES = st.sampled_from(["true", "true", *sorted(WHERE)])
IFS = st.sampled_from([*["true"] * 6, *sorted(IF)])


def form(keys: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(keys, optional=optional)


PATTERN = form({"event": NAMES}, where=WHERES)
WINDOWS: list[dict[str, Any]] = [{}, {"within": SPANS}, {"first": SPANS}, {"over": st.just("session")}]
COUNT = st.one_of(
    [form({"event": NAMES, "at_least": st.integers(1, 3), **each}, distinct=KEY, where=WHERES) for each in WINDOWS]
)
FORMS = {
    "event": PATTERN,
    "count": form({"count": COUNT}),
    "session": form({"session": st.sampled_from(["started", "ended"])}),
    "changes": st.just({"changes": "traits.plan"}),
    "enters": st.just({"enters": "busy"}),
    "leaves": st.just({"leaves": "busy"}),
    "returns": form({"returns": form({"after": SPANS})}),
}
CONTIGUITY = st.sampled_from(["relaxed", "strict"])
SEQUENCE = form({"steps": st.lists(PATTERN, min_size=2, max_size=3)}, within=SPANS, contiguity=CONTIGUITY, key=KEY)
IDLE = form({"for": SPANS}, step=STEPS, hidden=st.sampled_from(["pause", "count"]))
FORMS |= {
    "sequence": form({"sequence": SEQUENCE}),
    "absence": form({"absence": form({"after": PATTERN, "of": PATTERN, "for": SPANS}, key=KEY)}),
    "unprepared": form({"absence": form({"of": PATTERN, "before": PATTERN}, **{"for": SPANS}, key=KEY)}),
    "delay": form({"delay": form({"after": PATTERN, "for": st.one_of(SPANS, st.just("0s"))})}),
    "idle": form({"idle": st.one_of(SPANS, IDLE)}),
    "dwell": form({"dwell": form({"step": STEPS, "for": SPANS})}),
    "away": form({"away": SPANS}),
}
MESSAGES = st.sampled_from(["hello", "brief"])
ACTION = st.one_of(
    form({"prompt": MESSAGES}),
    form({"prompt": MESSAGES}),
    st.just({"set": {"plan": "pro"}}),
    st.just({"set": {"plan": "solo"}}),
    st.just({"content": {"slot": "side", "message": "hello"}}),
    st.just({"webhook": "letter"}),
    form({"withdraw": MESSAGES}),
)
EMIT = form({"emit": form({"event": NAMES, "properties": form({}, n=st.integers(1, 2))})})
LIMIT = st.sampled_from(["once", "1 per session", "2 per session", "1 per 1m", "2 per 1m30s", "1 per day", "2 per day"])
CAP = LIMIT.filter(lambda limit: limit != "once")


@st.composite
def triggers(draw: st.DrawFn, number: int) -> dict[str, Any]:
    kinds = draw(st.lists(st.sampled_from(sorted(FORMS)), min_size=1, max_size=2))
    forms = [draw(FORMS[kind]) for kind in kinds]
    action = st.one_of(ACTION, EMIT) if number == 0 else ACTION  # several that emit would wake each other without end
    actions = draw(st.lists(action, min_size=1, max_size=2, unique_by=lambda action: next(iter(action))))
    rest = draw(
        form(
            {},
            **{"if": IFS},
            limit=st.one_of(LIMIT, st.lists(LIMIT, min_size=2, max_size=2, unique=True)),
            cooldown=SPANS,
            priority=st.sampled_from(["lowest", "low", "medium", "high", "highest"]),
            preempt=st.just(True),
            when_blocked=st.one_of(st.just("drop"), form({"defer": SPANS})),
            cancel_on=st.lists(PATTERN, min_size=1, max_size=2),
        )
    )
    return {"trigger": f"t{number}", "when": forms[0] if len(forms) == 1 else forms, "then": actions, **rest}


POLICY = form(
    {},
    session=form({}, idle=st.sampled_from(["1m", "2m"]), max=st.just("3m"), active=st.sampled_from(["20s", "40s"])),
    prompts=form({}, limit=st.one_of(CAP, st.lists(CAP, min_size=2, max_size=2, unique=True)), gap=SPANS),
    email=form({}, limit=CAP),
    budget=st.sampled_from(["1 per session", "2 per 1m", "3 per day"]),
    holdout=st.sampled_from(["0%", "0%", "100%"]),
    skew=st.sampled_from(["0s", "10s"]),
).map(lambda keys: {"policy": "default", **keys})
REST = [
    {"counter": "some", "of": "a"},
    {"counter": "lately", "of": "b", "within": "30s"},
    {"counter": "kinds", "of": "a", "distinct": "event.properties.n", "over": "session"},
    {"counter": "early", "of": "c", "first": "1m"},
    {"message": "hello", "kind": "modal", "expires": "30s"},
    {"message": "brief", "kind": "toast"},
    {"webhook": "letter", "url": "https://mail.example/", "secret": "a-secret-that-is-long-enough", "channel": "email"},
]
SEGMENTS = st.sampled_from(
    ["user.counters.some >= 2", "user.counters.lately == 1", "user.traits.plan == 'pro'", "user.counters.kinds >= 2"]
)


@st.composite
def rule_sets(draw: st.DrawFn, nights: list[tuple[str, str]]) -> list[dict[str, Any]]:
    several = [draw(triggers(number)) for number in range(draw(st.integers(2, 5)))]
    policy = draw(POLICY)
    if "limit" in policy.get("prompts", {}) or "limit" in policy.get("email", {}):
        policy.pop("budget", None)  # which of two caps is the one that is waited for is nobody's business
    if draw(st.booleans()):
        start, end = draw(st.sampled_from(nights))
        applies = draw(st.sampled_from([["email"], ["prompts"], ["email", "prompts"]]))
        then = draw(st.sampled_from(["drop", "defer"]))
        policy["quiet_hours"] = {"from": start, "to": end, "applies_to": applies, "then": then}
    return [*several, {"segment": "busy", "if": draw(SEGMENTS)}, policy, *REST]


# --- histories ---

PAUSES = st.sampled_from([0, 0, 10_000, 10_000, 10_000, 9_999, 10_001, 1, 20_000, 30_000, 60_000, 120_000])
PROPERTIES = form({}, n=st.sampled_from([1, 1, 2, "1"]))
HAPPENINGS = st.one_of(
    form({"kind": st.just("track"), "name": NAMES, "properties": PROPERTIES}),
    form({"kind": st.just("track"), "name": NAMES, "properties": PROPERTIES}),
    form(
        {
            "kind": st.just("track"),
            "name": st.sampled_from(["prompt_dismissed", "prompt_clicked", "prompt_completed", "prompt_shown"]),
            "properties": form({"message": MESSAGES}),
        }
    ),
    form(
        {
            "kind": st.just("track"),
            "name": st.sampled_from(["step_viewed", "step_viewed", "step_completed", "step_skipped"]),
            "properties": form({"step": STEPS}),
        }
    ),
    form({"kind": st.just("identify"), "properties": form({"plan": st.sampled_from(["pro", "solo", None])})}),
    form({"kind": st.sampled_from(["connect", "disconnect", "visible", "hidden", "activity"]), "tab": TABS}),
)
HISTORIES = st.lists(st.tuples(PAUSES, HAPPENINGS), min_size=4, max_size=25)


def timed(told: list[tuple[int, dict[str, Any]]], start: int) -> list[Happening]:
    """Of a tab that is not there nothing is told, and none is opened twice."""
    history, now, tabs = [], start, dict[str, bool]()
    for pause, what in told:
        now += pause
        kind, tab = what["kind"], what.get("tab", "one")
        if "tab" in what and (kind == "connect") == (tab in tabs):
            continue
        if kind == "connect":
            tabs[tab] = True
        elif kind == "disconnect":
            del tabs[tab]
        elif kind in ("visible", "hidden"):
            tabs[tab] = kind == "visible"
        history.append(Happening(now, **what))
    return history


# --- the engine ---


def happened(each: Happening, number: int, visible: dict[str, bool]) -> ev.Event:
    name, at = f"id-{number}", each.now - each.ago
    match each.kind:
        case "track":
            return ev.Track(id=name, name=each.name, at=at, properties=each.properties)
        case "identify":
            return ev.Identify(id=name, at=at, traits=each.properties)
        case "connect":
            visible[each.tab] = True
            return ev.Connected(id=name, at=at, connection=each.tab, node="n1")
        case "disconnect":
            return ev.Disconnected(id=name, at=at, connection=each.tab)
        case "visible" | "hidden":
            visible[each.tab] = each.kind == "visible"
    return ev.Activity(id=name, at=at, connection=each.tab, visible=visible[each.tab])


def lived(
    documents: list[dict[str, Any]], history: list[Happening], start: int, until: int
) -> tuple[list[Decided], list[HeldBack]]:
    program = compiled("\n---\n".join(map(json.dumps, documents)))
    state, now = fresh(program, "u-1", "e1", start), start
    decided: list[Decided] = []
    held_back: list[HeldBack] = []
    visible: dict[str, bool] = {}

    def note_down(done: Step) -> None:
        nonlocal state
        state = done.state
        state.version += 1
        for effect in done.effects:
            if isinstance(effect, Decision):
                value = json.dumps(effect.value, sort_keys=True)
                decided.append(Decided(now, effect.trigger, effect.action, value))
        suppressed = [line for line in done.trace if line.outcome == "suppressed"]
        held_back.extend(HeldBack(now, line.trigger, line.reason) for line in suppressed)

    def reach(instant: int) -> None:
        nonlocal now
        while (due := alarm(program, state)) is not None and due <= instant:
            now = max(now, due)
            note_down(step(program, state, ev.Alarm(at=now), now))
        now = instant

    for number, each in enumerate(history):
        reach(each.now)
        note_down(step(program, state, happened(each, number, visible), now))
    reach(until)
    return decided, held_back


def readable(told: Sequence[Decided | HeldBack], start: int) -> list[str]:
    return [f"{(each.at - start) / 1000:.3f} {' '.join(each[1:])}" for each in told]


def is_held_out(documents: list[dict[str, Any]]) -> bool:
    return any(document.get("holdout") == "100%" for document in documents)


def compare(documents: list[dict[str, Any]], told: list[tuple[int, dict[str, Any]]], start: int) -> None:
    history = timed(told, start)
    until = (history[-1].now if history else start) + 6 * MINUTE
    for document in documents:
        if next(iter(document)) not in ("counter", "message", "webhook"):
            note(json.dumps(document))
    for each in history:
        note(f"{(each.now - start) / 1000:8.3f} {each.kind} {each.name} {each.properties} {each.tab} -{each.ago}")
    expected = decide(documents, history, start, until, held_out=is_held_out(documents))
    found = lived(documents, history, start, until)
    event(f"{min(len(expected[0]), 5)} decisions")
    for name, one, other in (("decided", expected[0], found[0]), ("held back", expected[1], found[1])):
        assert readable(one, start) == readable(other, start), name


# Where a history begins: UTC, an ordinary midnight elsewhere, and the nights on which clocks go forward and back.
BEGINNINGS: list[tuple[str, str | None, list[tuple[str, str]]]] = [
    ("2026-01-05T09:00:00+00:00", None, [("09:01", "09:03"), ("08:00", "09:01"), ("09:02", "08:59")]),
    ("2026-01-05T22:58:00+00:00", "Europe/Berlin", [("23:59", "00:02"), ("22:00", "00:00"), ("00:01", "23:59")]),
    ("2026-03-29T00:58:00+00:00", "Europe/Berlin", [("01:59", "03:01"), ("01:59", "02:30"), ("02:10", "03:02")]),
    ("2026-10-25T00:58:00+00:00", "Europe/Berlin", [("02:59", "03:01"), ("02:01", "02:59"), ("02:00", "02:02")]),
]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[tuple[int, dict[str, Any]]], int]:
    begins, zone, nights = draw(st.sampled_from(BEGINNINGS))
    told = draw(HISTORIES)
    if draw(st.booleans()):
        told = [(0, {"kind": "connect", "tab": "one"}), *told]
    if zone is not None:
        told = [(0, {"kind": "identify", "properties": {"timezone": zone}}), *told]
    return draw(rule_sets(nights)), told, int(datetime.fromisoformat(begins).timestamp() * SECOND)


@BUDGET
@given(cases())
def test_the_engine_decides_what_the_reference_does(
    case: tuple[list[dict[str, Any]], list[tuple[int, dict[str, Any]]], int],
) -> None:
    compare(*case)
