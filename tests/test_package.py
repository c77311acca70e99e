"""The library: what `import handrail` gives."""

from __future__ import annotations

import handrail
from handrail.core.effects import Push
from handrail.core.events import Track
from handrail.core.frames import Prompt

RULES = """
trigger: greet
when: {event: signed_up}
then: [{prompt: hello}]
---
message: hello
kind: toast
title: "Hello {{ event.properties.name }}"
"""


def test_rules_are_compiled_and_an_event_decided_in_four_lines() -> None:
    program = handrail.load({"greet.yaml": RULES}, {}).program
    assert program is not None
    state = handrail.fresh(program, "ada", "epoch", 1_000)
    done = handrail.step(program, state, Track(id="1", name="signed_up", at=2_000, properties={"name": "Ada"}), 2_000)
    (prompt,) = [effect.frame for effect in done.effects if isinstance(effect, Push)]
    assert isinstance(prompt, Prompt)
    assert prompt.title == "Hello Ada"
    assert handrail.snapshot(program, done.state, 2_000)[2] == (prompt,)
    assert handrail.alarm(program, done.state) == 2_000 + 30 * 60_000


def test_a_fault_is_a_problem_with_its_place() -> None:
    loaded = handrail.load({"greet.yaml": "trigger: greet\nwhen: {evnt: x}\nthen: [{prompt: x}]\n"}, {})
    assert loaded.program is None
    assert str(loaded.problems[0]).startswith("greet.yaml:2:8: ")
