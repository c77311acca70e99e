"""Conditions: what is refused at load and where, what an expression reads, and that no data can make one raise."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handrail.core.cel import VARIABLES
from handrail.core.expressions import MAX_SOURCE, Expression, ExpressionError, Expressions, Outcome
from handrail.core.syntax import parse_tree

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
EXPRESSIONS = Expressions()


class Scope:
    """The variables of one user, and which of them were asked for."""

    def __init__(self, **values: Any) -> None:
        self.asked: dict[str, frozenset[str] | None] = {}
        self.values: dict[str, Any] = {
            "user.id": "u1",
            "user.traits": {"plan": "trial", "size": 5, "score": 1.5, "tags": ["a"], "none": None, "deep": {"er": [1]}},
            "user.segments": ["engaged"],
            "user.sessions": 2,
            "user.session.id": "s1",
            "user.session.started": NOW - timedelta(minutes=4),
            "user.session.length": timedelta(minutes=4),
            "user.session.events": 7,
            "user.counters": {"features": 3},
            "user.steps": {"workspace": "completed"},
            "user.flow.id": "tour",
            "user.flow.variant": "",
            "user.flow.position": 1,
            "user.goals": ["team"],
            "user.persona": "",
            "user.attributes": {"tone": "terse"},
            "user.consents": {"email": True},
            "user.locale": "de",
            "user.timezone": "Europe/Berlin",
            "user.location.country": "DE",
            "user.location.region": "",
            "user.location.city": "Halle",
            "user.device.type": "mobile",
            "user.device.os": "iOS",
            "user.device.browser": "Safari",
            "user.first_seen": NOW - timedelta(days=3),
            "user.last_visit": NOW - timedelta(days=1),
            "event.name": "feature_used",
            "event.properties": {"feature": "export", "n": 2},
            "event.context": {"page": {"path": "/x"}},
            "now": NOW,
        }
        self.values.update({name.replace("__", "."): value for name, value in values.items()})

    def variable(self, name: str, keys: frozenset[str] | None) -> object:
        self.asked[name] = keys
        return self.values[name]


def compiled(source: str, **options: Any) -> Expression:
    return EXPRESSIONS.compile(source, **options)


def faults(source: str, **options: Any) -> list[str]:
    with pytest.raises(ExpressionError) as caught:
        compiled(source, **options)
    return [f"{fault.line}:{fault.column}: {fault.message}" for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ("user.traits.plan == 'trial'", True),
        ("user.traits['plan'] != 'trial'", False),
        ("'engaged' in user.segments && user.sessions <= 2", True),
        ("user.counters.features >= 3", True),
        ("user.session.length > duration('3m')", True),
        ("user.session.length > duration('48h')", False),
        ("now - user.last_visit >= duration('24h')", True),
        ("user.steps.workspace == 'completed'", True),
        ("user.consents.email", True),
        ("event.name == 'feature_used' && event.properties.n == 2", True),
        ("event.properties.n == 2.0", True),
        ("event.context.page.path.startsWith('/x')", True),
        ("has(user.traits.plan) && !has(user.traits.absent)", True),
        ("user.goals.exists(goal, goal == 'team')", True),
        ("user.traits.tags == ['a'] && user.traits.deep.er[0] == 1", True),
        ("user.traits.none == null", True),
        ("user.traits.plan.matches('^tr')", True),
        ("user.locale in ['de', 'en'] && user.timezone != '' && user.persona == ''", True),
        ("user.flow.id == 'tour' && user.flow.variant == '' && user.flow.position == 1", True),
        ("user.first_seen < user.session.started && user.session.id == 's1' && user.session.events == 7", True),
        ("user.id == 'u1' // a note", True),
    ],
)
def test_conditions(source: str, holds: bool) -> None:
    assert compiled(source).holds(Scope()) == (holds, "")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("user.traits.absent == 1", 'there is no "absent" there'),
        ("user.traits.plan > 1", "the values are of the wrong type here"),
        ("event.properties.n / 0 == 1", "division by zero"),
        ("user.traits.tags[7] == 'x'", "index=7"),
        ("duration(user.traits.plan) == duration('1s')", "not a duration: use h, m and s"),
        ("user.traits.plan.matches(user.traits.bad)", "there is no"),
        ("int(user.traits.plan) == 1", "cannot convert string to int"),
    ],
)
def test_an_error_makes_a_condition_false_and_says_why(source: str, error: str) -> None:
    held, text = compiled(source).holds(Scope())
    assert not held
    assert error in text


def test_an_error_that_does_not_decide_is_no_error() -> None:
    assert compiled("user.sessions == 2 || user.traits.absent == 1").holds(Scope()) == (True, "")
    assert compiled("user.sessions == 3 && user.traits.absent == 1").holds(Scope()) == (False, "")


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("user.traits.plan", "trial"),
        ("user.traits.size + 1", 6),
        ("user.traits", Scope().values["user.traits"]),
        ("user.traits.none", None),
        ("user.traits.deep", {"er": [1]}),
        ("[1, 'a', {'b': 2.5, 3: true}]", [1, "a", {"b": 2.5, "3": True}]),
        ("now", "2026-01-31T09:00:00.000Z"),
        ("user.session.length", "240s"),
        ("duration('1500ms')", "1.5s"),
        ("b'a'", "YQ=="),
        ("user.sessions > 1 ? 'back' : 'new'", "back"),
    ],
)
def test_values_are_plain_json(source: str, value: object) -> None:
    assert compiled(source, want="any").evaluate(Scope()) == Outcome(value)


@pytest.mark.parametrize("source", ["user.traits.absent", "1.0 / 0.0", "type(1)", "1 / 0"])
def test_a_value_that_cannot_be_had_is_none_with_a_reason(source: str) -> None:
    outcome = compiled(source, want="any").evaluate(Scope())
    assert outcome.value is None
    assert outcome.error


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("user.sesions > 1", "1:1: unknown field 'sesions' of 'user'; did you mean 'user.sessions'?"),
        (
            "user.session.strated < now",
            "1:1: unknown field 'strated' of 'user.session'; did you mean 'user.session.started'?",
        ),
        ("event.propertes.x == 1", "1:1: unknown field 'propertes' of 'event'; did you mean 'event.properties'?"),
        ("true && user.session", "1:9: 'user.session' has the fields id, started, length, events: name one, as"),
        ("user == 1", "1:1: 'user' has the fields id, traits, segments,"),
        ("user.flow == 'a'", "1:1: 'user.flow' has the fields id, variant, position: name one, as user.flow.id"),
        ("traits.plan == 'x'", "1:1: unknown name 'traits.plan'; did you mean 'user.traits.plan'?"),
        ("sessions > 1", "1:1: unknown name 'sessions'; did you mean 'user.sessions'?"),
        ("user.traits.plan == trial", "1:21: unknown name 'trial'; text needs quotes, as 'trial'"),
        ("user.predictions.churn > 0.5", "1:1: 'user.predictions' is not available in this version"),
        ("user.experiments.x == 'a'", "1:1: 'user.experiments' is not available in this version"),
        ("user.id.starts_with('a')", "1:9: unknown function 'starts_with'; did you mean 'startsWith'?"),
        ("lower(user.id) == 'a'", "1:1: unknown function 'lower'"),
        ("user.sessions == 'a'", "1:15: `==` does not work on a whole number and text"),
        ("user.counters.x > 1.0", "1:17: `>` does not work on a whole number and a decimal number"),
        ("!user.sessions", "1:1: `!` does not work on a whole number"),
        ("'a' in user.sessions", "1:5: `in` cannot look for text in a whole number"),
        ("user.traits[1] == 1", "1:12: a mapping cannot be indexed by a whole number"),
        (
            "user.segments.contains('a')",
            "1:23: `contains()` does not work on a list of text and text: ",
        ),
        (
            "true ? 1 : 'a'",
            "1:6: `? :` needs a condition and two values of one type, found true or false, a whole",
        ),
        ("user.traits.plan = 'x'", "1:18: use == to compare"),
        ("true and false", "1:6: use && instead of 'and'"),
        ("not user.consents.email", "1:5: use ! instead of 'not'"),
        ("user.sessions >", "1:16: the expression ends too early: a value or a bracket is missing"),
        ("'abc", "1:1: the text is not closed: a quote is missing"),
        ("user.id == 'a' )", "1:16: unexpected ')'"),
        ("now - user.last_visit > 48h", "1:27: a duration is written duration('48h')"),
        ("now - user.last_visit > '48h'", "1:23: `>` does not work on a duration and text: write duration('48h')"),
        ("user.segments == 'pro'", "1:15: `==` does not work on a list of text and text: test whether it is in"),
        ("user.segments contains 'pro'", "1:15: whether a list has a member is asked as 'member' in list"),
        ("user.plan == 'x'", "1:1: 'user' has no 'plan' of its own: traits are read as user.traits.plan"),
        ("event.step == 'x'", "1:1: 'event' has no 'step' of its own: properties are read as event.properties.step"),
        ("user.traits.has('x')", "1:13: has() takes one dotted name, as has(user.traits.plan)"),
        (
            "user.traits.plan",
            "1:1: this can be of any type, and a condition must be true or false: compare it, as user",
        ),
        ("user.sessions", "1:1: a condition must be true or false, this is a whole number: compare it"),
        ("now - duration('2d') > now", "1:16: '2d': not a duration: use h, m and s, as '48h' or '1h30m'"),
        ("false && user.id.matches('(')", "1:26: '(': invalid regular expression: missing ): ("),
        ("timestamp('soon') < now", "1:11: 'soon': not a timestamp: write one as '2026-01-31T09:00:00Z'"),
        (
            "user.goals.exists(a, user.segments.all(b, a == b))",
            "1:39: a loop (map, filter, all, exists, exists_one) inside",
        ),
        ("user.goals.map(a, user.goals.map(b, b)).size() > 0", "1:33: a loop"),
        ("", "1:1: the expression is empty"),
        (" \n", "1:1: the expression is empty"),
        ("user.id == '" + "x" * MAX_SOURCE + "'", "1:1: longer than 2000 characters"),
        ("(" * 100 + "true" + ")" * 100, "1:1: nested too deeply: at most 32 levels"),
        ("1" + " + 1" * 60 + " == 61", "1:1: nested too deeply: at most 32 levels"),
        ("true\x00", "1:5: the character U+0000 cannot be used"),
        ("user.id == '\ud800'", "1:13: the character U+D800 cannot be used"),
    ],
)
def test_what_is_refused_at_load(source: str, expected: str) -> None:
    assert faults(source)[0].startswith(expected)


def test_what_goes_through_a_map_comes_out_in_order() -> None:
    scope = Scope()
    scope.values["user.traits"] = {f"t{number * 7 % 20:02}": number for number in range(20)}
    listed = EXPRESSIONS.compile("user.traits.map(name, name)", want="any").evaluate(scope).value
    assert listed == sorted(scope.values["user.traits"])
    mapping = EXPRESSIONS.compile("{'z': 1, 'a': {'y': 1, 'b': 2}}", want="any").evaluate(scope).value
    assert list(mapping) == ["a", "z"]
    assert list(mapping["a"]) == ["b", "y"]


def test_of_broken_syntax_only_the_first_slip_is_told() -> None:
    assert faults("user.sessions = 2") == ["1:15: use == to compare"]


def test_every_fault_is_told_at_its_own_place() -> None:
    assert faults("user.sesions == 1 &&\n  '😀' == user.idd\n || bar") == [
        "1:1: unknown field 'sesions' of 'user'; did you mean 'user.sessions'?",
        "2:10: unknown field 'idd' of 'user'; did you mean 'user.id'?",
        "3:5: unknown name 'bar'; text needs quotes, as 'bar'",
    ]


def test_without_an_event_there_is_none_to_read() -> None:
    assert faults("event.name == 'x'", event=False) == [
        "1:1: there is no event here: only 'user' and 'now' can be used"
    ]
    assert compiled("user.sessions == 2", event=False).holds(Scope()) == (True, "")


# --- what an expression reads -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("user.sessions > 1", {"user.sessions"}),
        ("user.traits.plan == 'x'", {"user.traits", "user.traits.plan"}),
        ("user.traits['first name'] == 'x'", {"user.traits", "user.traits.first name"}),
        ("has(user.traits.plan)", {"user.traits", "user.traits.plan"}),
        ("'plan' in user.traits", {"user.traits", "user.traits.plan"}),
        ("user.traits.a.b.c == 1", {"user.traits", "user.traits.a"}),
        ("user.traits[user.id] == 1", {"user.traits", "user.id"}),
        ("'x' in user.segments", {"user.segments"}),
        ("user.segments.exists(s, s == user.id)", {"user.segments", "user.id"}),
        ("user.counters.a + user.counters['b'] > 1", {"user.counters", "user.counters.a", "user.counters.b"}),
        ("type(user.id) == string", {"user.id"}),
        ("now > user.session.started", {"now", "user.session.started"}),
        ("[user.id, {user.locale: user.goals}] == []", {"user.id", "user.locale", "user.goals"}),
        ("true", set()),
    ],
)
def test_what_an_expression_reads(source: str, reads: set[str]) -> None:
    assert compiled(source).reads == reads


def test_only_what_is_read_is_asked_for() -> None:
    scope = Scope()
    condition = compiled("user.counters.features == 0 || (user.traits.plan == 'trial' && size(event.properties) == 0)")
    condition.holds(scope)
    assert scope.asked == {
        "user.counters": frozenset({"features"}),
        "user.traits": frozenset({"plan"}),
        "event.properties": None,
    }


def test_what_is_not_reached_is_not_asked_for() -> None:
    scope = Scope()
    assert compiled("user.sessions == 2 || user.traits.plan == 'trial'").holds(scope) == (True, "")
    assert scope.asked == {"user.sessions": None}


def test_counters() -> None:
    assert compiled("user.counters.a > 1 && 'b' in user.counters").counters == frozenset({"a", "b"})
    assert compiled("user.counters.a > user.counters[user.id]").counters is None
    assert compiled("user.counters.exists(name, name == 'a')").counters is None
    assert compiled("user.sessions > 1").counters == frozenset()


def test_segments_tested_for() -> None:
    assert compiled("'a' in user.segments || !('b' in user.segments) || user.id in user.segments").segments == {
        "a",
        "b",
    }
    assert compiled("'a' in user.goals").segments == frozenset()


def test_places_of_what_is_read() -> None:
    places = compiled("user.sessions > 1 &&\n  user.session.id == user.traits.x && 'a' in user.segments").places
    assert places == {
        "user.sessions": (1, 1),
        "user.session.id": (2, 3),
        "user.traits": (2, 22),
        "user.traits.x": (2, 22),
        "user.segments": (2, 46),
    }


def test_an_entry_that_is_not_read_cannot_spoil_the_answer() -> None:
    traits = {"plan": "trial", "huge": 2**80, "odd": "\ud800", 5: object()}
    assert compiled("user.traits.plan == 'trial'").holds(Scope(user__traits=traits)) == (True, "")
    assert compiled("user.traits.huge == 1").holds(Scope(user__traits=traits))[0] is False
    assert compiled("user.traits.odd == 'a'").holds(Scope(user__traits=traits))[0] is False
    assert compiled("size(user.traits) > 1").holds(Scope(user__traits=traits))[0] is False


# --- properties -------------------------------------------------------------------------------------------------

FRAGMENTS = [
    *sorted(VARIABLES),
    *[
        "user",
        "event",
        "user.traits.plan",
        "event.properties.n",
        "user.counters.a",
        "x",
        "'a'",
        "1",
        "1.5",
        "true",
        "null",
    ],
    *[
        " == ",
        " && ",
        " || ",
        " in ",
        " > ",
        " ? ",
        " : ",
        " + ",
        " - ",
        "!",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".",
        "\n",
    ],
    *[
        ".exists(x, ",
        ".map(x, ",
        ".matches('(')",
        "duration('2d')",
        "has(",
        "size(",
        ".size()",
        "'",
        '"',
        "é",
        "😀",
        "#",
    ],
]


@given(st.text(max_size=40) | st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))
@example("{'a': 1, 'a': 2} == {}")
@example("user.traits.?x")
def test_any_text_compiles_or_is_refused_with_places(source: str) -> None:
    try:
        outcome = compiled(source, want="any").evaluate(Scope())
    except ExpressionError as error:
        refused = error.faults
    else:
        assert outcome.error is None or outcome.value is None
        return
    assert refused
    for fault in refused:
        assert 1 <= fault.line <= source.count("\n") + 1
        assert fault.column >= 1
        assert fault.message


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
CONDITIONS = [
    compiled(source)
    for source in (
        "user.traits.a == 'x'",
        "user.traits.a > 3 || user.traits.a.b == 1",
        "size(user.traits) > 2",
        "user.traits.exists(k, user.traits[k] == 1)",
        "user.traits.a.matches(user.traits.b)",
        "user.traits.a in user.traits.b",
        "string(user.traits.a) == 'x' || int(user.traits.b) == 1",
        "user.traits.a[0] == user.traits.b['c']",
        "user.traits.a + user.traits.b == user.traits.c",
        "event.properties == user.traits",
    )
]


@given(
    st.sampled_from(CONDITIONS), st.dictionaries(st.sampled_from("abcd"), values), st.dictionaries(st.text(), values)
)
def test_no_data_makes_a_condition_raise(
    condition: Expression, traits: dict[str, Any], properties: dict[str, Any]
) -> None:
    held, error = condition.holds(Scope(user__traits=traits, event__properties=properties))
    assert held in (True, False)
    assert not (held and error)


@given(st.lists(st.sampled_from(["user.id", "user.traits.a", "user.counters.b", "now", "user.session.id"]), min_size=1))
def test_reads_are_those_written_whatever_the_shape(names: list[str]) -> None:
    source = " || ".join(f"string({name}) != '{index}'" for index, name in enumerate(names))
    roots = {name if name in VARIABLES else name.rpartition(".")[0] for name in names}
    assert compiled(source).reads == roots | set(names)


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8")),
)
def test_literals_survive_the_syntax_tree(number: int, fraction: float, text: str) -> None:
    escaped = "".join(f"\\U{ord(char):08x}" for char in text)
    source = f"[{number}, {fraction:f}, '{escaped}', true, false, null] == []"
    if len(source) > MAX_SOURCE:
        return
    tree = parse_tree(EXPRESSIONS._environments["lonely"].cel.compile(source).serialize())
    found = [node.value for node in tree.parts[0].parts]
    assert found == [number, float(f"{fraction:f}"), text, True, False, None]


@given(st.binary(max_size=60))
def test_bytes_that_are_no_tree_are_refused(data: bytes) -> None:
    try:
        parse_tree(data)
    except ValueError as error:
        assert "not a checked CEL expression" in str(error)  # noqa: PT017 - most bytes are refused, not all


def test_the_scope_may_give_any_mapping() -> None:
    class Traits(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return {"plan": "trial"}[key]

        def __iter__(self) -> Any:
            return iter(["plan"])

        def __len__(self) -> int:
            return 1

    assert compiled("user.traits.plan == 'trial'").holds(Scope(user__traits=Traits())) == (True, "")
