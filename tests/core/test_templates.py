"""Templates: what is empty, what is refused at load and where, and that rendering is bounded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail.core.templates import MAX_TEXT, TemplateFault, Templates

TEMPLATES = Templates()
CONTEXT: dict[str, Any] = {
    "user": {
        "id": "u1",
        "traits": {
            "first_name": "Ana",
            "gone": None,
            "blank": "",
            "admin": True,
            "seats": 3,
            "tags": ["a", "b"],
            "b": "<b>",
        },
        "sessions": 2,
        "counters": {"features": 3},
    },
    "event": {"name": "feature_used", "properties": {"feature": "export"}},
    "now": "2026-01-31T09:00:00Z",
}


def render(source: str) -> str:
    return TEMPLATES.compile(source).render(CONTEXT)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Hello", "Hello"),
        ("Hello {{ user.traits.first_name | default('there') }}!", "Hello Ana!"),
        ("Hello {{ user.traits.absent | default('there') }}!", "Hello there!"),
        ("Hello {{ user.traits.gone | default('there') }}!", "Hello there!"),
        ("Hello {{ user.traits.gone | d('there') }}!", "Hello there!"),
        ("Hello {{ user.traits.blank | default('there') }}!", "Hello !"),
        ("Hello {{ user.traits.blank | default('there', true) }}!", "Hello there!"),
        ("[{{ user.traits.absent }}|{{ user.traits.gone }}|{{ event.properties.absent.deeper.still }}]", "[||]"),
        ("[{{ user.traits['first name'] }}{{ user.traits.gone.deeper }}]", "[]"),
        ("{{ user.traits.absent | upper }}{{ user.traits.first_name | upper }}", "ANA"),
        ("{{ user.traits.admin }} {{ user.traits.seats }} {{ user.counters.features + 1 }}", "true 3 4"),
        ("{{ user.traits.tags | join(', ') }}", "a, b"),
        ("{% for tag in user.traits.tags %}{{ loop.index }}{{ tag }} {% endfor %}", "1a 2b "),
        ("{% if user.sessions > 1 %}Back{% else %}New{% endif %}", "Back"),
        ("{% if user.traits.absent %}a{% elif not user.traits.gone %}b{% endif %}", "b"),
        ("{{ user.traits.b }} & {{ '<i>' }}", "<b> & <i>"),
        ("{% set name = event.name %}{{ name | replace('_', ' ') }}", "feature used"),
        ("{# {{ nothing | nope }} #}a{% raw %}{{ nothing | nope }}{% endraw %}", "a{{ nothing | nope }}"),
        ("{{ 'a | nope }} b' }}", "a | nope }} b"),
        ("line\n{{ now }}\n", "line\n2026-01-31T09:00:00Z\n"),
        ("{ not a tag }", "{ not a tag }"),
        ("", ""),
    ],
)
def test_rendering(source: str, text: str) -> None:
    assert render(source) == text


def test_a_text_without_tags_is_a_constant() -> None:
    assert TEMPLATES.compile("Need a hand?").constant
    assert not TEMPLATES.compile("{{ user.id }}").constant


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ usr.traits.x }}", "1:4: unknown name 'usr'; did you mean 'user'?"),
        ("Hi {{ traits.first_name }}", "1:7: unknown name 'traits'; did you mean 'user.traits'?"),
        ("a\n{% if plan == 1 %}b{% endif %}", "2:7: unknown name 'plan'; there are user, event, now"),
        ("{{ debug() }}", "1:4: unknown name 'debug'"),
        ("{{ user.id | uper }}", "1:14: unknown filter 'uper'; did you mean 'upper'?"),
        ("{% if user.traits.x %}é {{ user.id | nope }}{% endif %}", "1:38: unknown filter 'nope'"),
        ("{{ user.id is nonesuch }}", "1:15: test nonesuch is unknown"),
        ("{{ user.traits.x.lower() }}", "1:17: methods cannot be called in templates: use a filter, as '| lower'"),
        ("{{ user.traits.clear() }}", "1:15: methods cannot be called in templates: use a filter"),
        ("{{ user['traits']['clear']() }}", "1:26: methods cannot be called"),
        ("{{ (user.traits | attr('clear'))() }}", "1:32: methods cannot be called"),
        ("{{ user.id", "1:9: a '{{' is not closed by '}}'"),
        ("ab\nc {% if %}", "2:9: unexpected end of block"),
        ("{% if user.id %}a", "1:"),
        ("{% include 'a' %}", "1:4: templates cannot include or extend others"),
        ("{% for i in range(90000) %}x{% endfor %}", "1:1: takes too long to render: too many or too large loops"),
    ],
)
def test_what_is_refused_at_load(source: str, expected: str) -> None:
    with pytest.raises(TemplateFault) as caught:
        TEMPLATES.compile(source)
    assert str(caught.value).startswith(expected)
    assert (caught.value.line, caught.value.column) == tuple(int(part) for part in str(caught.value).split(":")[:2])


def test_the_names_a_template_may_use_can_be_fewer() -> None:
    assert TEMPLATES.compile("{{ user.id }}", names=["user"]).render(CONTEXT) == "u1"
    with pytest.raises(TemplateFault, match="unknown name 'event'"):
        TEMPLATES.compile("{{ event.name }}", names=["user"])


def test_an_unknown_field_of_user_is_a_warning() -> None:
    template = TEMPLATES.compile("{{ user.sessions }} {{ user.first_name }} {{ user.trait.x }}")
    assert [str(warning) for warning in template.warnings] == [
        "1:24: 'user' has no field 'first_name', so this is always empty; did you mean 'user.traits.first_name'?",
        "1:46: 'user' has no field 'trait', so this is always empty; did you mean 'user.traits'?",
    ]
    assert template.render(CONTEXT) == "2  "


def test_rendering_is_bounded() -> None:
    loops = TEMPLATES.compile(
        "{% for a in event.properties.many %}{% for b in event.properties.many %}x{% endfor %}{% endfor %}"
    )
    long = TEMPLATES.compile("{{ 'x' * event.properties.times }}")
    with pytest.raises(TemplateFault, match="takes too long"):
        loops.render({"event": {"properties": {"many": list(range(1000))}}})
    with pytest.raises(TemplateFault, match=f"more than {MAX_TEXT} characters"):
        long.render({"event": {"properties": {"times": MAX_TEXT + 1}}})


@pytest.mark.parametrize(
    "source", ["{{ user.traits.tags + 1 }}", "{{ 1 / user.traits.zero }}", "{{ user.id | round }}"]
)
def test_what_fails_on_the_data_is_a_fault_when_rendering(source: str) -> None:
    template = TEMPLATES.compile(source)
    with pytest.raises(TemplateFault):
        template.render({"user": {"id": "u1", "traits": {"tags": ["a"], "zero": 0}}})


def test_a_nested_value_of_templates() -> None:
    value = {"to": "{{ user.id }}", "list": ["{{ event.name }}", 1, None, {"fixed": "a", "{{ key }}": True}]}
    nested = TEMPLATES.compile_value(value)
    assert nested.render(CONTEXT) == {"to": "u1", "list": ["feature_used", 1, None, {"fixed": "a", "{{ key }}": True}]}


def test_a_fault_in_a_nested_value_has_its_path() -> None:
    with pytest.raises(TemplateFault) as caught:
        TEMPLATES.compile_value({"a": ["fine", "{{ usr.id }}"]})
    assert caught.value.path == ("a", 1)
    nested = TEMPLATES.compile_value({"a": {"b": "{{ user.id + 1 }}"}})
    with pytest.raises(TemplateFault) as caught:
        nested.render(CONTEXT)
    assert caught.value.path == ("a", "b")


FRAGMENTS = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    " user.id ",
    " user.traits.x",
    "|",
    "upper",
    "default('a')",
    "'",
    " if ",
    "for ",
]
FRAGMENTS += [
    "endif",
    "x",
    " in ",
    ".",
    "(",
    ")",
    "é",
    "\n",
    " + ",
    "1",
    "raw",
    "endraw",
    "set ",
    "=",
    "-",
    "not ",
    "[",
    "]",
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join) | st.text(st.characters(), max_size=30))
def test_any_text_compiles_or_is_refused_with_a_place(source: str) -> None:
    try:
        template = TEMPLATES.compile(source)
    except TemplateFault as fault:
        place, message = (fault.line, fault.column), fault.message
    else:
        try:
            assert isinstance(template.render(CONTEXT), str)
        except TemplateFault as fault:
            place, message = (fault.line, fault.column), fault.message
        else:
            return
    assert 1 <= place[0] <= source.count("\n") + 1
    assert place[1] >= 1
    assert message


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FRIENDLY = [
    TEMPLATES.compile(source)
    for source in (
        "{{ user.traits.a }}",
        "{{ user.traits.a.b | default('x') }}",
        "{% if user.traits.a %}{{ user.traits }}{% endif %}",
    )
]


@given(st.sampled_from(FRIENDLY), st.dictionaries(st.sampled_from("abc"), values))
def test_no_data_makes_a_template_raise_anything_else(template: Any, traits: dict[str, Any]) -> None:
    try:
        text = template.render({"user": {"traits": traits}})
    except TemplateFault:
        return
    assert isinstance(text, str)
