"""Closures against the CEL library: whatever the expression and the data, the same value or the same error."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handrail.core.closures import build
from handrail.core.expressions import Expression, ExpressionError, Expressions
from handrail.core.source import read
from handrail.core.values import doubt

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
EXPRESSIONS = Expressions()


class Scope:
    def __init__(self, **values: Any) -> None:
        self.values: dict[str, Any] = {
            "user.id": "u1",
            "user.traits": {},
            "user.segments": ["engaged"],
            "user.sessions": 2,
            "user.session.id": "s1",
            "user.session.started": NOW - timedelta(minutes=4),
            "user.session.length": timedelta(minutes=4),
            "user.session.events": 7,
            "user.counters": {"c": 3, "d": 0},
            "user.steps": {"workspace": "completed"},
            "user.flow.id": "tour",
            "user.flow.variant": "",
            "user.flow.position": 1,
            "user.goals": ["a", "é"],
            "user.persona": "",
            "user.attributes": {"tone": "terse", "tips": 1},
            **dict.fromkeys(
                ("user.location.region", "user.location.city", "user.device.os", "user.device.browser"), ""
            ),
            "user.location.country": "DE",
            "user.device.type": "mobile",
            "user.consents": {"email": True},
            "user.locale": "de",
            "user.timezone": "Europe/Berlin",
            "user.first_seen": NOW - timedelta(days=3),
            "user.last_visit": NOW - timedelta(days=1),
            "event.name": "feature_used",
            "event.properties": {},
            "event.context": {},
            "now": NOW,
        }
        self.values.update({name.replace("__", "."): value for name, value in values.items()})

    def variable(self, name: str, keys: frozenset[str] | None) -> object:
        return self.values[name]


def pair(source: str, *, event: bool = True) -> tuple[Expression, Expression]:
    """The expression as it is, and as it would be without closures."""
    with_closure = EXPRESSIONS.compile(source, want="any", event=event)
    without = Expressions().compile(source, want="any", event=event) if source not in _plain else _plain[source]
    without._closure = doubt
    _plain[source] = without
    return with_closure, without


_plain: dict[str, Expression] = {}


def check(source: str, scope: Scope) -> None:
    fast, slow = pair(source)
    ours, theirs = fast.evaluate(scope), slow.evaluate(scope)
    assert repr(ours) == repr(theirs), source
    if isinstance(theirs.value, bool) or theirs.error:
        assert fast.holds(scope) == slow.holds(scope), source


# --- typed expressions, as text: a grammar, of which the first line of each kind has no parts ---

GRAMMAR = {
    "any": ["null", "{dyn}", "{bool}", "{int}", "{text}", "{double}", "{time}", "{span}", "{list}"],
    "dyn": [
        "user.traits.a|user.traits.b|user.traits['c d']|user.traits.a.x|user.traits.a.x.y|"
        "event.properties.n|event.context.page.path",
        *("user.traits[{text}]", "user.traits.a[{int}]", "user.traits.a[{dyn}]", "event.properties.n[0]", "dyn({any})"),
        *("({dyn} + {dyn})", "({dyn} - {dyn})", "({dyn} * {dyn})", "({dyn} / {dyn})", "({dyn} % {dyn})", "-{dyn}"),
    ],
    "bool": [
        "true|false|user.consents.email|has(user.traits.a)|has(user.traits.a.x)|'a' in user.traits|"
        "user.consents.absent",
        *(
            f"({{{kind}}} {op} {{{kind}}})"
            for op in ("==", "<", ">=")
            for kind in ("int", "double", "text", "time", "span")
        ),
        *(f"({{dyn}} {op} {{{kind}}})" for op in ("==", "!=", "<") for kind in ("dyn", "any", "bool", "text", "int")),
        *("({int} != {dyn})", "({double} <= {dyn})", "({text} > {dyn})", "({list} == {list})", "({dyn} == {list})"),
        *("({test} && {test})", "({test} || {test})", "!{test}", "({test} ? {bool} : {bool})", "({bool} && {bool})"),
        *(
            "({dyn} in {dyn})",
            "({text} in {list})",
            "({text} in {dyn})",
            "({any} in [{any}, {any}])",
            "({dyn} == null)",
        ),
        *("{text}.startsWith({text})", "{text}.endsWith({text})", "{text}.contains({text})", "{dyn}.contains({dyn})"),
        *("{text}.matches({pattern})", "{dyn}.matches({pattern})", "{range}.{macro}(i, {each})"),
    ],
    "test": ["true|user.traits.a", "{bool}", "{bool}", "{dyn}"],
    "int": [
        "0|1|2|-3|9223372036854775807|-9223372036854775808|9007199254740993|user.counters.c|user.counters.missing|user.sessions",
        *("({int} + {int})", "({int} - {int})", "({int} * {int})", "({int} / {int})", "({int} % {int})", "-({int})"),
        *("size({text})", "size({list})", "size({dyn})", "int({int})", "int({double})", "int({text})", "int({dyn})"),
        *("int({time})", "{time}.{part}()", "{time}.{part}({zone})", "{dyn}.{part}()", "{span}.{part}()"),
    ],
    "double": [
        "0.0|1.0|1.5|-2.5|9007199254740992.0|1e300",
        *("({double} + {double})", "({double} - {double})", "({double} * {double})", "({double} / {double})"),
        *("double({int})", "double({text})", "double({dyn})", "-({double})"),
    ],
    "text": [
        "'a'|'b'|'é'|'trial'|''|'12'|user.id|user.steps.workspace|event.name|user.timezone",
        *(
            "({text} + {text})",
            "string({bool})",
            "string({int})",
            "string({double})",
            "string({dyn})",
            "user.goals[{int}]",
        ),
    ],
    "time": [
        "now|user.first_seen|timestamp('2026-03-29T00:59:59Z')|timestamp('1970-01-01T00:00:00Z')"
        "|timestamp('2026-03-29T00:59:59.25Z')|timestamp('2026-03-29T02:00:00+01:00')",
        *("({time} + {span})", "({span} + {time})", "({time} - {span})"),
        *("timestamp({dyn})", "timestamp({moment})", "timestamp({int})", "timestamp({time})"),
    ],
    "span": [
        "user.session.length|duration('90s')|duration('1h30m')|duration('-1s')|duration('1500ms')|duration('0s')",
        *("({span} + {span})", "({span} - {span})", "({time} - {time})"),
    ],
    "moment": [
        "user.traits.t|'2026-02-28T23:59:59.25+05:30'|'2026-02-29T00:00:00Z'|'2026-01-01'|'2026-01-01T00:00:00'|"
        "'2026-01-01T24:00:00Z'|'2026-01-01t00:00:00z'|'2026-01-01T00:00:00+25:00'|'1969-01-01T00:00:00Z'"
    ],
    "list": [
        "user.segments|user.goals|['a', 'b']|[]",
        *("[{text}, {text}]", "[dyn({any}), dyn({any})]", "{range}.map(i, {each}, i)", "{range}.filter(i, {each})"),
        *("user.traits.a.map(i, i)", "user.goals.map(i, i + 'x')", "event.properties.n.map(i, i + 1)"),
    ],
    "each": [
        "i == 'a'|i == user.traits.b|dyn(i) > 1|dyn(i).x == 1|dyn(i)|user.traits.q == 1|user.traits.q == i",
        "{bool}",
    ],
    "range": ["user.goals|user.traits.a|user.traits|event.properties.n|[1, 2.0, 3]", "{dyn}", "{list}"],
    "macro": ["all|exists|exists_one"],
    "pattern": ["'a'|'^a'|'a$'|'^trial$'|'^'|''|'[ab]'|'1.'", "{text}"],
    "zone": ["'Europe/Berlin'|'UTC'|'Australia/Lord_Howe'|user.timezone|'Nope/X'|'+02:00'|user.persona"],
    "part": [
        "getFullYear|getMonth|getDate|getDayOfMonth|getDayOfWeek|getDayOfYear|getHours|getMinutes|getSeconds|getMilliseconds"
    ],
}


@st.composite
def expressions(draw: st.DrawFn, kind: str = "any", depth: int = 4) -> str:
    leaves, *forms = GRAMMAR[kind]
    form = draw(st.sampled_from([*leaves.split("|"), *(forms if depth else ())]))
    return re.sub(r"\{(\w+)\}", lambda found: draw(expressions(found[1], max(depth - 1, 0))), form)


MOMENTS = st.datetimes(datetime(1969, 1, 1), datetime(2300, 1, 1), timezones=st.timezones()).map(datetime.isoformat)
TEXTS = st.sampled_from(["a", "b", "é", "trial", "", "12", "a b"])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.sampled_from([0.0, 1.0, 2.0, float(2**53)]),
    TEXTS,
    st.text(st.characters(codec="utf-8"), max_size=3),
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("xyab"), inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=2), inner, max_size=2)
    ),
    max_leaves=6,
)
scopes = st.builds(
    Scope,
    user__traits=st.builds(
        lambda traits, moment: traits | {"t": moment},
        st.dictionaries(st.sampled_from(["a", "b", "c d", "é"]), values, max_size=4),
        MOMENTS,
    ),
    event__properties=st.dictionaries(st.sampled_from(["n", "m"]), values, max_size=2),
    event__context=st.dictionaries(st.just("page"), st.dictionaries(st.just("path"), scalars, max_size=1) | scalars),
    user__goals=st.lists(TEXTS, max_size=3),
    user__timezone=st.sampled_from(["Europe/Berlin", "Asia/Kathmandu", "", "Nope/X", "America/New_York"]),
    now=st.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1)).map(
        lambda at: at.replace(tzinfo=UTC, microsecond=at.microsecond // 1000 * 1000)
    ),
)
MANY = settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])


@MANY
@given(expressions(), scopes)
def test_closures_give_what_the_library_gives(source: str, scope: Scope) -> None:
    try:
        pair(source)
    except ExpressionError:
        return  # ill-typed, or a literal that is refused
    check(source, scope)


@pytest.mark.parametrize(
    ("source", "scope"),
    [
        ("user.traits.a == 1", Scope(user__traits={"a": True})),
        ("user.traits.a == user.traits.b", Scope(user__traits={"a": [1, {"x": 1.0}], "b": [1.0, {"x": 1}]})),
        ("user.traits.a == user.traits.b", Scope(user__traits={"a": 2**53 + 1, "b": float(2**53)})),
        ("user.traits.a < user.traits.b", Scope(user__traits={"a": 1, "b": math.nan})),
        ("user.traits.q == 1 && user.traits.r == 1", Scope()),
        ("user.traits.q == 1 || user.sessions == 2", Scope()),
        ("user.traits.a && user.sessions == 2", Scope(user__traits={"a": "x"})),
        ("user.sessions == 3 && user.traits.a", Scope(user__traits={"a": "x"})),
        ("user.goals.exists(g, user.traits.q == g)", Scope()),
        ("user.sessions + 9223372036854775807 > 0", Scope()),
        ("-7 / 2 == -3 && -7 % 2 == -1", Scope()),
        ("user.traits.a == 18446744073709551615u", Scope(user__traits={"a": 2**64 - 1})),
        ("now.getHours('Europe/Berlin') == 10 && now.getDayOfWeek() == 6", Scope()),
        ("b'a' == b'a' && type(1) == int && {'a': 1}.a == 1", Scope()),
    ],
)
def test_corners(source: str, scope: Scope) -> None:
    check(source, scope)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", ["\ud800"], {"\udfff": 1}, object()])
def test_what_cel_cannot_hold_is_an_error_where_it_is_read(value: Any) -> None:
    scope = Scope(user__traits={"a": value})
    for source in ("user.traits.a == 1", "user.traits.a != 'x'", "user.traits.a in ['x']", "size(user.traits) > 0"):
        held, error = EXPRESSIONS.compile(source).holds(scope)
        assert not held, source
        assert error
    assert EXPRESSIONS.compile("user.sessions == 2 || user.traits.a == 1").holds(scope) == (True, "")


def conditions(value: Any) -> Iterator[str]:
    """Every expression in a document."""
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key in ("if", "where", "key", "distinct", "cel") and isinstance(each, str):
            yield each
        yield from conditions(each)


def written() -> list[str]:
    """Every expression of the rule files and pages that come with Handrail."""
    texts = {str(path): path.read_text() for folder in ("rules", "examples", "server") for path in rule_files(folder)}
    for page in (ROOT / "docs" / "rules.md", ROOT / "README.md"):
        texts |= {
            f"{page.name}{at}": each for at, each in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S))
        }
    found = {
        source
        for name, text in texts.items()
        for document in read(name, text)[0]
        for source in conditions(document.value)
    }
    return sorted(source for source in found if "answers." not in source)  # those of surveys have names of their own


def rule_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.yaml"))


@pytest.mark.parametrize("source", written())
def test_what_people_write_needs_no_library(source: str) -> None:
    assert build(EXPRESSIONS.compile(source, want="any").tree) is not None


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(written()), scopes)
def test_what_people_write_comes_to_the_same(source: str, scope: Scope) -> None:
    scope.values["user.counters"] = {
        name: 2 for name in re.findall(r"user\.counters\.(\w+)", source) if name != "missing"
    }
    check(source, scope)
