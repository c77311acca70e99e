"""Rule files as text: every fault is found, at its place, in words; nothing an author writes can hurt the process."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Literal
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Discriminator, Field, Tag

from handrail.core import documents
from handrail.core.durations import Duration
from handrail.core.reader import MAX_PROBLEMS
from handrail.core.source import Document, Shape, read, validate


def faults(text: str) -> list[str]:
    return [str(problem).removeprefix("f.yaml:") for problem in read("f.yaml", text)[1]]


def value(text: str) -> Any:
    [document], problems = read("f.yaml", text)
    assert problems == []
    return document.value


def test_documents_and_their_places() -> None:
    text = "trigger: a\nthen:\n  - prompt: b\n    'x y': [1, two]\n---\n# note\nsegment: c\n"
    [first, second], problems = read("rules/a.yaml", text)
    assert problems == []
    assert first.value == {"trigger": "a", "then": [{"prompt": "b", "x y": [1, "two"]}]}
    assert second.value == {"segment": "c"}
    assert first.place == (1, 1)
    assert second.place == (7, 1)
    assert first.value_place(("trigger",)) == (1, 10)
    assert first.key_place(("then",)) == (2, 1)
    assert first.value_place(("then",)) == (3, 3)
    assert first.key_place(("then", 0)) == first.value_place(("then", 0)) == (3, 5)
    assert first.key_place(("then", 0, "x y")) == (4, 5)
    assert first.value_place(("then", 0, "x y", 1)) == (4, 16)
    assert first.value_place(("then", 7, "nowhere")) == (3, 3)
    assert second.key_place(("segment",)) == (7, 1)
    assert second.value_place(("segment",)).line == 7


@pytest.mark.parametrize(
    ("plain", "meant"),
    [
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("no", "no"),
        ("~", None),
        ("null", None),
        ("", None),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("-5", -5),
        ("+5", 5),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("=", "="),
        ("1.2.3", "1.2.3"),
        ("'true'", "true"),
        ('"12"', "12"),
    ],
)
def test_scalars_are_those_of_the_core_schema(plain: str, meant: object) -> None:
    found = value(f"a: {plain}")["a"]
    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize("text", ["", "\n", "# only a note", "---", "---\n# note\n---\n", "\ufeff"])
def test_a_file_may_hold_nothing(text: str) -> None:
    assert read("f.yaml", text) == ([], [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x 1", "1:4: anchors and aliases"),
        ("a: *x", "1:4: anchors and aliases"),
        ("*x : a", "1:1: anchors and aliases"),
        ("<<: {a: 1}", "1:1: merge keys ('<<') are not supported: write the keys out"),
        ("a: !!str 1", "1:4: tags ('tag:yaml.org,2002:str') are not supported"),
        ("a: !x {b: 1}", "1:4: tags ('!x') are not supported"),
        ("a: 1\nb: 2\nb: 3", "3:1: the key 'b' stands twice, first on line 2"),
        ("a: 1\nb: 2\na: 3\nb: 4", "3:1: a second 'a' begins here: put a line '---' before it"),
        ("a:\n\tb: 1", "2:1: a tab is used for indentation: use spaces"),
        ("a: {b: {c: 1, c: 2}}", "1:15: the key 'c' stands twice, first on line 1"),
        ("1: x", "1:1: a key must be text, found 1: put it in quotes"),
        ("a:\n  true: x", "2:3: a key must be text, found true: put it in quotes"),
        ("? [a]\n: x", "1:3: a key must be text, found a list or a mapping"),
        (
            "t: {{ user.x }}",
            "1:5: a key must be text, found a list or a mapping; a value starting with '{' needs quotes",
        ),
        ("just text", "1:1: expected keys and values such as 'trigger: NAME', found 'just text'"),
        ("- a", "1:1: expected keys and values such as 'trigger: NAME', found a list"),
        ("a: .nan", "1:4: '.nan' is not a number that rules can use"),
        ("a: -.inf", "1:4: '-.inf' is not a number that rules can use"),
        ("a: 1e999", "1:4: the number 1e999 is too large"),
        ("a: 9007199254740993", "1:4: the number 9007199254740993 is too large to be exact"),
        ("a: " + "9" * 5000, "1:4: this number is too large"),
        ("a: b\n\tc: 1", "2:1: a tab is used for indentation: use spaces"),
        ("a: @x", "1:4: this character cannot start a value: put the value in quotes"),
        ("a: b: c", "1:5: a ':' where none can be"),
        ("a: 1\n b: 2", "2:3: a ':' where none can be"),
        ("k: 'abc", "1:4: a quoted text is not closed"),
        ("a: {b", "1:4: a '{' is not closed, or a comma is missing"),
        ("a: [1, 2\nb: 3", "1:4: a '[' is not closed, or a comma is missing"),
        ("a: b\nc", "2:1: a key without ':' after it"),
        ("- a\nb: 1", "2:1: this line does not belong to the list above it"),
        ("a: - b", "1:4: a list item cannot start here"),
        (
            'if: "x" == "y"',
            "1:9: the text goes on after its closing quote: put the whole value in quotes of the other kind",
        ),
        ('a: "\\q"', "1:4: an unknown escape in a double-quoted text"),
        ("%YAML 1.1\n---\na: 1", "2:1: lines starting with '%' are not supported"),
        ("a: 1\n...\nb: 2", "3:1: one document ends here and another starts without '---'"),
        ("a: \x07", "1:4: the character U+0007 is not allowed in YAML"),
        ("a: b\nc: \ud800", "2:4: the character U+D800 is not allowed in YAML"),
        ("a: \x00", "1:4: the character U+0000 is not allowed in YAML"),
        ("a: " + "[" * 40, "1:35: nested deeper than 32 levels"),
        ("a: " + "x" * 300_000, "1:1: the file is larger than 256 KB: split it into several"),
        ("a: " + "é" * 150_000, "1:1: the file is larger than 256 KB: split it into several"),
    ],
)
def test_what_is_refused(text: str, expected: str) -> None:
    [fault] = faults(text)
    assert fault.startswith(expected)


def test_a_fault_does_not_hide_the_other_documents() -> None:
    documents, problems = read("f.yaml", "a: 1\n---\nb: [\n---\nc: 3\n---\nd: {\n---\ne: &x 5\n")
    assert [document.value for document in documents] == [{"a": 1}, {"c": 3}, {"e": 5}]
    assert [(problem.line, problem.column) for problem in problems] == [(4, 1), (8, 1), (9, 4)]
    assert documents[1].value_place(("c",)) == (5, 4)


def test_of_a_repeated_key_the_first_counts_and_a_key_that_is_no_text_is_left_out() -> None:
    [document], problems = read("f.yaml", "a: 1\na: 2\n3: {b: [c]}\nd: {4: 5, e: 6}")
    assert document.value == {"a": 1, "d": {"e": 6}}
    assert len(problems) == 3


def test_a_block_scalar_may_look_like_anything() -> None:
    assert value("a: |\n  --- [\n  b: &c\n") == {"a": "--- [\nb: &c\n"}


@pytest.mark.parametrize(
    "text",
    [
        *(each * 60_000 for each in ("[", "{", "- ", "? ", "[a,", "{a: ", "!x ", "&a ")),
        *(each * 20_000 for each in ("x: &a [b]\n", "a: 1\n", "[]\n---\n")),
        "[" * 200_000,
        "a: '" + "x\n" * 100_000,
    ],
    ids=lambda text: repr(text[:9]),
)
def test_hostile_files_are_refused_quickly(text: str) -> None:
    before = time.process_time()
    _, problems = read("f.yaml", text)
    assert 1 <= len(problems) <= MAX_PROBLEMS
    assert time.process_time() - before < 1  # measured: 5 to 25 ms


@given(st.text(alphabet=st.sampled_from("ab:-[]{}'\"|>&*!?#%@,~ \n\t0.\u00e9"), max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    documents, problems = read("f.yaml", text)
    lines = text.split("\n")
    for problem in problems:
        assert 1 <= problem.line <= len(lines)
        assert problem.column >= 1
    for document in documents:
        assert all(
            1 <= place.line <= len(lines) for place in (*document.marks.keys.values(), *document.marks.values.values())
        )


BEGINNINGS = ["---\n", "--- ", "---\xa0", "\r---\n", "\x85---\n", "---\u3000b: 2\n", "...\n", "%YAML 1.1\n", "\ufeff"]
INSIDES = ["a: 1\n", "b: [x]\n", "a: |\n  x\n", "# c\n", "k: 'it\n\n  s'\n", "- x\n", "'", "[", "\n", "\u2028"]


@given(
    st.text(alphabet=st.sampled_from("ab:-[]{}'\"|>&*!?#%@,~<. \n1"), max_size=40)
    | st.sampled_from(["a: {<<: 1}", "a: 0b1"])
    | st.lists(st.sampled_from([*BEGINNINGS, *INSIDES]), max_size=10).map("".join)
)
@example("a: 1\n---\nb: 2\n---\nc: 3\n")
@example("a: 1\n---\u3000b: 2\n\x85---\na: 1\n")  # the parser begins another document than we would
@example("%YAML 1.1\n---\na: 1\n")
@example("a: 1\n...\n%YAML 1.1\n---\nb: 2\n")
def test_values_alone_and_with_their_places_are_read_alike(text: str) -> None:
    found, problems = read("f.yaml", text)
    with patch.object(documents, "_read_values", lambda *_: None):
        careful, told = read("f.yaml", text)
    assert [(each.value, each.marks) for each in found] == [(each.value, each.marks) for each in careful]
    assert problems == told


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="ascii", categories=["L"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abc", min_size=1), plain_values, min_size=1))
def test_json_is_read_as_what_it_is(data: dict[str, Any]) -> None:
    assert value(json.dumps(data)) == data


# --- places inside texts ----------------------------------------------------------------------------------------

TEXTS = """\
if: "user.x == 1"
b: |
  one
  two x
c: plain text
e:
  - 'it''s x'
"""


@pytest.mark.parametrize(
    ("at", "line", "column", "place"),
    [
        (("if",), 1, 6, (1, 11)),
        (("b",), 2, 5, (4, 7)),
        (("c",), 1, 7, (5, 10)),
        (("e", 0), 1, 3, (7, 8)),
        (("e", 0), 1, 6, (7, 5)),  # past an escape: the value's own place
        (("b",), 9, 1, (2, 4)),
    ],
)
def test_places_inside_texts(at: tuple[str | int, ...], line: int, column: int, place: tuple[int, int]) -> None:
    [document], _ = read("f.yaml", TEXTS)
    text: Any = document.value
    for step in at:
        text = text[step]
    assert document.inner_place(at, text, line, column) == place


# --- shapes -----------------------------------------------------------------------------------------------------


class EventForm(Shape):
    event: str
    where: str | None = None


class IdleDetails(Shape):
    for_: Duration = Field(alias="for")
    hidden: Literal["pause", "count"] = "pause"


class IdleForm(Shape):
    idle: Duration | IdleDetails


class CountDetails(Shape):
    event: str
    at_least: int = Field(ge=1)


class CountForm(Shape):
    count: CountDetails


def first_key(form: Any) -> str | None:
    return next(iter(form), None) if isinstance(form, dict) else None


Form = Annotated[
    Annotated[EventForm, Tag("event")] | Annotated[IdleForm, Tag("idle")] | Annotated[CountForm, Tag("count")],
    Discriminator(first_key),
]


class Rule(Shape):
    rule: str
    when: Form | list[Form]
    if_: str | None = Field(None, alias="if")
    priority: Literal["low", "medium", "high"] = "medium"
    enabled: bool = True
    weight: float = 1
    times: int = 0
    tags: tuple[str, ...] = ()


def document(text: str) -> Document:
    [found], problems = read("f.yaml", text)
    assert problems == []
    return found


def complaints(text: str) -> list[str]:
    model, problems = validate(Rule, document("rule: x\n" + text))
    assert (model is None) == bool(problems)
    return [str(problem).removeprefix("f.yaml:") for problem in problems]


def test_a_model_of_a_document() -> None:
    rule, problems = validate(
        Rule, document("rule: x\nwhen: [{event: a}, {idle: {for: 3m}}]\ntags: [b]\nif: c\nweight: 2")
    )
    assert problems == []
    assert rule is not None
    assert (rule.tags, rule.if_, rule.weight) == (("b",), "c", 2)
    assert isinstance(rule.when, list)
    assert isinstance(rule.when[0], EventForm)
    assert isinstance(rule.when[1], IdleForm)
    assert rule.when[1].idle == IdleDetails.model_validate({"for": "3m"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("when: {event: a}\nwhne: b", "3:1: unknown key 'whne'; did you mean 'when'?"),
        ("when: {event: a, whre: b}", "2:18: unknown key 'whre' in when; did you mean 'where'?"),
        ("when: [{event: a}, {event: a, whre: b}]", "2:31: unknown key 'whre' in when[1]; did you mean 'where'?"),
        ("iff: b\nwhen: {event: a}", "2:1: unknown key 'iff'; did you mean 'if'?"),
        ("tags: []", "1:1: missing key 'when'"),
        ("when: {count: {event: a}}", "2:15: missing key 'at_least' in when.count"),
        ("when: {count: {event: a, at_least: 0}}", "2:36: when.count.at_least: expected at least 1, found 0"),
        (
            "when: {cuont: {event: a}}",
            "2:7: when: expected one of event, idle, count, found 'cuont'; did you mean 'count'?",
        ),
        ("when: 5", "2:7: when: expected keys and values or a list, found 5"),
        ("when: {event: [a]}", "2:15: when.event: expected text, found a list"),
        ("when: {event: {event: a}}", "2:15: when.event: expected text, found a mapping"),
        ("when: {idle: {for: 3m, hiden: count}}", "2:24: unknown key 'hiden' in when.idle; did you mean 'hidden'?"),
        (
            "when: {idle: {for: 3m, hidden: cuont}}",
            "2:32: when.idle.hidden: expected one of pause, count, found 'cuont'; did you mean 'count'?",
        ),
        ("when: [{idle: 3x}]", "2:15: when[0].idle: '3x' is not a duration"),
        ("when: {event: a}\nif: true", "3:5: if: expected text, found true: put it in quotes"),
        ("when: {event: a}\nif:\n  - b", "4:3: if: expected text, found a list"),
        ("when: {event: a}\nenabled: 'yes'", "3:10: enabled: expected true or false, found 'yes'"),
        ("when: {event: a}\nenabled: 1", "3:10: enabled: expected true or false, found 1"),
        ("when: {event: a}\ntimes: x", "3:8: times: expected a whole number, found 'x'"),
        ("when: {event: a}\ntimes: 1.5", "3:8: times: expected a whole number, found 1.5"),
        ("when: {event: a}\nweight: '2'", "3:9: weight: expected a number, found '2'"),
        ("when: {event: a}\ntags: x", "3:7: tags: expected a list, found 'x'"),
        ("when: {event: a}\ntags: [a, 2]", "3:11: tags[1]: expected text, found 2: put it in quotes"),
        (
            "when: {event: a}\npriority: hgih",
            "3:11: priority: expected one of low, medium, high, found 'hgih'; did you mean 'high'?",
        ),
    ],
)
def test_what_is_wrong_with_a_document(text: str, expected: str) -> None:
    [complaint] = complaints(text)
    assert complaint.startswith(expected)


def test_all_faults_are_told_at_once_in_order() -> None:
    text = "when: {event: 3, x: y}\ntimes: no\nenabled: maybe\nz: 1"
    assert [complaint.split(": ")[0] for complaint in complaints(text)] == ["2:15", "2:18", "3:8", "4:10", "5:1"]


def test_a_part_of_a_document_can_be_validated_alone() -> None:
    found = document("rule: x\nwhen:\n  - {event: a, whre: b}")
    model, [problem] = validate(EventForm, found, ("when", 0))
    assert model is None
    assert str(problem) == "f.yaml:3:16: unknown key 'whre'; did you mean 'where'?"


def test_nothing_is_said_twice() -> None:
    [found], problems = read("f.yaml", "rule: &x 5\nwhen: {event: .nan}\n")
    assert len(problems) == 2
    assert validate(Rule, found) == (None, [])


@given(st.dictionaries(st.sampled_from(["rule", "when", "if", "tags", "event", "count", "idle", "for"]), plain_values))
def test_whatever_a_document_holds_it_is_a_model_or_has_problems(data: dict[str, Any]) -> None:
    [found], _ = read("f.yaml", json.dumps(data or {"a": 1}))
    model, problems = validate(Rule, found)
    assert (model is None) == bool(problems)
