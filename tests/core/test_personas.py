"""Personas: which one a user has, what it brings, and what is told of faulty ones."""

from __future__ import annotations

from textwrap import dedent

import msgspec
import pytest
from plays import Play

from handrail.core import frames
from handrail.core.explain import explain
from handrail.core.report import report
from handrail.core.rules import load
from handrail.core.state import dump_state, load_state

RULES = """
persona: tech-savvy
if: user.traits.role == 'developer' || 'heavy' in user.segments
attributes: {tone: terse, level: 3, nested: {colour: red}}
---
persona: cautious
if: user.sessions <= 1 && user.traits.worried == true
attributes: {tone: warm}
---
persona: hands-off
attributes: {tone: brisk}
---
segment: heavy
if: user.counters.used_1h >= 2
---
segment: terse
if: user.attributes.tone == 'terse'
---
counter: used_1h
of: used
within: 1h
---
trigger: told
when: {changes: persona}
then: [{emit: {event: told, properties: {from: {cel: event.properties.from}, to: {cel: event.properties.to}}}}]
---
trigger: greet
when: {event: greeted}
then: [{content: {slot: hero, message: hello}}]
---
message: hello
kind: inline
title: "{{ user.persona | default('nobody', true) }}: {{ user.attributes.tone | default('plain') }}"
body: "{{ user.attributes.nested.colour }}"
variants: [{id: expert, if: user.attributes.level >= 3}]
---
flow: start
steps: [{id: one}, {id: two, if: user.persona == 'tech-savvy'}]
"""


def hero(play: Play) -> tuple[str, str, str | None]:
    play.track("greeted")
    block = play.state.slots["hero"]
    return block.title, block.body, block.variant


def test_it_is_the_one_told_or_else_the_first_that_fits_or_else_none() -> None:
    play = Play(RULES)
    assert hero(play) == ("nobody: plain", "", None)
    play.identify(worried=True)
    assert hero(play) == ("cautious: warm", "", None)
    play.identify(role="developer")
    assert hero(play) == ("tech-savvy: terse", "red", "expert")
    play.identify(persona="hands-off")
    assert hero(play) == ("hands-off: brisk", "", None)
    play.identify(persona="somebody-else")
    assert hero(play) == ("somebody-else: plain", "", None)
    play.identify(persona=7)
    assert play.state.persona == "tech-savvy", "what is no text names none"
    play.identify(persona=None, role=None, worried=None)
    assert hero(play) == ("nobody: plain", "", None)


def test_segments_and_flows_follow_the_persona_in_the_same_step() -> None:
    play = Play(RULES)
    play.clear()
    play.identify(role="developer")
    assert play.state.segments == ("terse",)
    assert [step.id for step in play.pushed(frames.Flow)[-1].steps] == ["one", "two"]
    play.identify(persona="hands-off")
    assert not play.state.segments
    assert [step.id for step in play.pushed(frames.Flow)[-1].steps] == ["one"]


def test_a_persona_may_read_segments_and_counters_that_fall_by_time_alone() -> None:
    play = Play(RULES)
    play.track("used")
    assert play.state.persona == ""
    play.track("used")
    assert (play.state.persona, play.state.segments) == ("tech-savvy", ("heavy", "terse"))
    play.wait("1h")
    assert (play.state.persona, play.state.segments) == ("", ())
    alone = Play("persona: busy\nif: user.counters.used_1h >= 1\n---\ncounter: used_1h\nof: used\nwithin: 1h")
    alone.track("used")
    assert alone.state.persona == "busy"
    alone.wait("1h")
    assert alone.state.persona == ""


def test_a_change_is_told_once_with_from_and_to() -> None:
    play = Play(
        RULES + "---\ntrigger: check\nwhen: {event: told, where: event.properties.to == 'tech-savvy'}\n"
        "if: event.properties.from == 'cautious'\nthen: [{set: {promoted: true}}]"
    )
    assert len(play.identify(worried=True)) == 1
    assert play.identify(worried=True) == []
    assert play.identify(other=1) == []
    assert len(play.identify(role="developer")) == 2
    assert play.state.traits["promoted"] is True
    assert play.identify(persona="tech-savvy") == [], "told what it was anyway"


def test_what_the_trait_says_needs_no_personas_in_the_rules() -> None:
    play = Play("trigger: t\nwhen: {changes: persona}\nif: user.persona == 'x'\nthen: [{set: {seen: true}}]")
    assert play.identify(persona="y") == []
    assert play.identify(persona="x") == ["set {'seen': True}"]


def test_new_rules_give_their_personas_and_new_attributes_at_once() -> None:
    play = Play("message: other\nkind: toast")
    play.identify(role="developer")
    play.reload(RULES)
    assert (play.state.persona, play.state.segments) == ("tech-savvy", ("terse",))
    play.reload(RULES.replace("tone: terse", "tone: curt"))
    assert (play.state.persona, play.state.segments) == ("tech-savvy", ())
    play.reload("message: other\nkind: toast")
    assert play.state.persona == ""


def test_of_states_written_before_personas_were_kept_nothing_is_news() -> None:
    play = Play("message: other\nkind: toast")
    play.identify(persona="hands-off")
    fields = msgspec.msgpack.decode(dump_state(play.state))
    del fields["persona"]
    play.state = load_state(msgspec.msgpack.encode(fields), {})
    assert play.reload(RULES) == []
    assert play.state.persona == "hands-off"


def test_a_restart_forgets_nothing() -> None:
    play = Play(RULES)
    play.identify(role="developer")
    play.restart()
    assert play.identify(other=1) == []
    assert hero(play) == ("tech-savvy: terse", "red", "expert")


def test_an_explanation_says_which_persona_it_was_judged_by() -> None:
    rules = "trigger: t\nwhen: {changes: persona}\nif: user.persona == 'a' && user.sessions > 0\nthen: [{set: {x: 1}}]"
    play = Play(rules)
    lines = list(report(explain(play.program, play.state, play.program.triggers["t"], play.now)))
    assert "  when      changes persona: the user has none" in lines
    assert "              user.persona == 'a': false (the user has no persona)" in lines
    assert "              user.sessions > 0: true" in lines
    play.identify(persona="a")
    lines = list(report(explain(play.program, play.state, play.program.triggers["t"], play.now)))
    assert "  when      changes persona: it is 'a'" in lines
    assert "  if        user.persona == 'a' && user.sessions > 0: true (the persona is 'a')" in lines


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("persona: a\nattributes: terse", ["r.yaml:2:13: attributes: expected keys and values, found 'terse'"]),
        (
            "persona: a\nif: event.name == 'x'",
            ["r.yaml:2:5: there is no event here: only 'user' and 'now' can be used"],
        ),
        (
            "persona: a\nif: user.sessions > 1 && user.persona == 'b'\n---\npersona: b",
            ["r.yaml:2:26: which persona somebody has cannot depend on the persona itself"],
        ),
        (
            "persona: a\nif: \"'s' in user.segments\"\n---\nsegment: s\nif: user.attributes.tone == 'x'",
            ["r.yaml:5:5: segments test each other in a circle: s -> the persona -> s"],
        ),
        (
            "persona: tech-savvy\n---\nsegment: s\nif: user.persona == 'tech-savy' || user.persona in ['x', '']",
            [
                "r.yaml:4:5: warning: no persona is named 'tech-savy'; did you mean 'tech-savvy'?",
                "r.yaml:4:5: warning: no persona is named 'x'",
            ],
        ),
        ("segment: s\nif: user.persona == 'tech-savy' && user.traits['x'] == user.persona", []),
        ("persona: a\n---\nsegment: s\nif: user.traits['x'] == user.persona", []),
        ("persona: a\n---\npersona: a", ["r.yaml:3:10: there is a persona 'a' already, at r.yaml:1"]),
    ],
)
def test_what_is_told_of_a_fault(text: str, said: list[str]) -> None:
    assert [str(problem) for problem in load({"r.yaml": text}, {}).problems] == said


def test_segments_in_a_circle_through_the_persona_do_not_hide_another_circle() -> None:
    text = dedent("""\
        persona: p
        if: "'a' in user.segments"
        ---
        segment: a
        if: user.persona == 'p'
        ---
        segment: b
        if: "'c' in user.segments"
        ---
        segment: c
        if: "'b' in user.segments"
    """)
    told = [str(problem) for problem in load({"r.yaml": text}, {}).problems]
    assert len(told) == 2
    assert all("in a circle" in each for each in told)
