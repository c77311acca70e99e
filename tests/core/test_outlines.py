"""Sources that differ only in constants are checked as one: of each is told what the compiler tells of it alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail.core.expressions import Expression, ExpressionError, Expressions, Fault
from handrail.core.outlines import Outline, Outliner
from handrail.core.syntax import Node, parse_tree

EXPRESSIONS = Expressions()

_texts = st.sampled_from(
    ["'a'", '"b c"', "''", "'\u00e9 && x'", "'user.traits.plan'", "r'a'", "'it\\'s'", "'48h'", "'1'", "'x"]
)
_numbers = st.sampled_from(
    ["0", "7", "42", "-3", "123456789012345", "9223372036854775807", "1.5", "2u", "0x1f", ".5", "1e3"]
)
_entries = st.sampled_from(["plan", "x1", "in", "namespace", "xq_hole_0", "size", "_a"])
_values = st.one_of(
    _texts,
    _numbers,
    st.builds("user.traits.{}".format, _entries),
    st.builds("user.counters.{}".format, _entries),
    st.builds("event.properties.{}.{}".format, _entries, _entries),
    st.builds("user.traits[{}]".format, _texts),
    st.sampled_from(
        ["user.sessions", "user.id", "event.name", "user.traits.size()", "user . traits . plan", "nothing"]
    ),
)
_comparisons = st.one_of(
    st.builds("{} {} {}".format, _values, st.sampled_from(["==", "!=", "<", "+", "-"]), _values),
    st.builds("{}{}{}".format, _values, st.sampled_from(["-", "==", "/"]), _values),
    st.builds("has(user.traits.{})".format, _entries),
    st.builds("{} in {}".format, _texts, st.sampled_from(["user.segments", "['a', 'b']"])),
    st.builds("[{}, {}].exists(x, x == {})".format, _values, _values, _values),
    st.builds("duration({}) > now - user.first_seen".format, _texts),
    st.builds("{{{}: {}}} == {{}}".format, _texts, _values),
)
_sources = st.lists(_comparisons, min_size=1, max_size=3).flatmap(
    lambda parts: st.builds(str.join, st.sampled_from([" && ", "||", "\n  == "]), st.just(parts))
)


class Lonely(Outliner):
    """Finds nothing alike."""

    def outline(self, source: str) -> Outline | None:
        return None


def compile_with(expressions: Expressions, source: str) -> Expression | tuple[Fault, ...]:
    try:
        return expressions.compile(source, want="any")
    except ExpressionError as error:
        return error.faults


@given(_sources)
def test_a_source_is_told_of_as_if_it_were_the_only_one(source: str) -> None:
    lonely = Expressions()
    lonely._outliner = Lonely(())
    found, expected = compile_with(EXPRESSIONS, source), compile_with(lonely, source)
    if not isinstance(found, Expression) or not isinstance(expected, Expression):
        assert found == expected
        return
    for told in ("tree", "kind", "reads", "keys", "counters", "segments", "places"):
        assert getattr(found, told) == getattr(expected, told), told


@pytest.mark.parametrize(
    ("sources", "outlines"),
    [
        (("user.traits.plan == 'trial' && user.sessions > 3", "user.traits.role=='owner' && user.sessions > -300"), 2),
        (("user.traits.plan == 'trial'", 'user.traits.team == "a b"', "user.traits['x'] == 'y'"), 2),
        (("'a' in user.segments", "'b' in user.segments"), 1),
    ],
)
def test_sources_of_one_outline_are_checked_once(sources: tuple[str, ...], outlines: int) -> None:
    expressions = Expressions()
    for source in sources:
        tree = expressions.compile(source).tree
        assert tree == parse_tree(expressions._environments["event"].cel.compile(source).serialize())
    assert len(expressions._checked) == outlines


def test_an_expression_that_nobody_has_is_given_up() -> None:
    expressions = Expressions()
    kept = expressions.compile("user.sessions > 1")
    assert expressions.compile("user.sessions > 2").reads == {"user.sessions"}
    assert expressions.compile("user.sessions > 1") is kept
    assert len(expressions._compiled) == 1


def test_places_are_those_of_the_source() -> None:
    found = EXPRESSIONS.compile("user.traits.a_rather_long_name == 'and a long text'\n  || user.counters.x > 3")
    assert found.places["user.counters.x"] == (2, 6)
    assert isinstance(found.tree, Node)
