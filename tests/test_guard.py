"""What raises is left out, what goes on raising is switched off, and what cannot be decided at all is set aside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handrail.core import engine
from handrail.core.engine import Step
from handrail.core.events import Alarm, Track
from handrail.core.program import Program
from handrail.core.scope import Occurrence
from handrail.core.turn import Turn
from handrail.counts import Counts
from handrail.guard import FAILURES, TRIES, USER_CRASHES, WITHIN, Guard, SetAside
from handrail.suspects import Suspects, mark_of
from nodes import program_of

NOW = 1_800_000_000_000
RULES = """
trigger: bad
when: {event: clicked}
priority: high
then: [{set: {bad: true}}]
---
trigger: good
when: {event: clicked}
then: [{set: {good: true}}]
---
trigger: later
when: {delay: {after: {event: begun}, for: 1m}}
then: [{set: {later: true}}]
"""


class Explosive:
    def run(self, turn: Turn, trigger: str, occurrence: Occurrence) -> None:
        raise ZeroDivisionError("ada@example.com")


def faulty(name: str = "bad") -> Program:
    """Rules of which one raises whenever it acts."""
    program = program_of(RULES)
    broken: Any = msgspec.structs.replace(program.triggers[name], actions=(Explosive(),))
    hooks = {
        key: tuple((broken if trigger.name == name else trigger, hook) for trigger, hook in each)
        for key, each in program.hooks.items()
    }
    return replace(program, triggers={**program.triggers, name: broken}, hooks=hooks)


def click(guard: Guard, program: Program, *, now: int = NOW, name: str = "clicked") -> Step:
    return guard.step(program, engine.fresh(program, "ada", "e", now), Track(id="e1", name=name, at=now), now)


def outcomes(step: Step) -> dict[str, str]:
    return {line.trigger: line.outcome for line in step.trace}


def test_a_trigger_that_raises_is_left_out_and_the_rest_is_decided() -> None:
    counts = Counts()
    step = click(Guard(counts), faulty())
    assert outcomes(step) == {"bad": "off", "good": "fired"}
    assert (step.state.traits, "e1" in step.state.seen) == ({"good": True}, True)
    assert counts.totals == {"rule_failures": 1}


def test_one_that_keeps_raising_is_switched_off_until_the_rules_change() -> None:
    counts, program = Counts(), faulty()
    guard = Guard(counts)
    for number in range(FAILURES):
        assert guard.rules(program).off == frozenset()
        click(guard, program, now=NOW + number)
    assert guard.rules(program).off == {"bad"}
    assert outcomes(click(guard, program)) == {"bad": "off", "good": "fired"}
    assert counts.totals == {"rule_failures": FAILURES, "rules_switched_off": 1}
    assert guard.rules(replace(program, version="new")).off == frozenset()


def test_failures_far_apart_switch_nothing_off() -> None:
    guard, program = Guard(), faulty()
    for number in range(2 * FAILURES):
        click(guard, program, now=NOW + number * WITHIN // (FAILURES - 1))
    assert guard.rules(program).off == frozenset()


def test_a_trigger_that_raises_when_its_wait_is_over_is_left_out_too() -> None:
    guard, program = Guard(), faulty("later")
    waiting = click(guard, program, name="begun").state
    step = guard.step(program, waiting, Alarm(at=NOW + 60_000), NOW + 60_000)
    assert outcomes(step) == {"later": "off"}
    assert step.state.waits == ()


def test_an_event_that_raises_with_no_trigger_to_blame_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Turn] = []

    def fail(turn: Turn) -> None:
        tried.append(turn)
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("handrail.core.engine.count_event", fail)
    with pytest.raises(SetAside, match=r"ZeroDivisionError at .*: division by zero"):
        click(Guard(), faulty())
    assert len(tried) == 2 * TRIES  # each time once more, to see who is to blame


def test_what_users_said_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    guard, program = Guard(), faulty()
    for _ in range(FAILURES):
        click(guard, program)
    said = capsys.readouterr()
    assert "ZeroDivisionError" in said.out + said.err
    assert "SWITCHED OFF" in said.out + said.err
    assert "ada" not in said.out + said.err


def test_an_event_that_processes_died_of_is_not_tried_again(tmp_path: Path) -> None:
    program = program_of(RULES)
    for _ in range(TRIES):
        dead = Suspects(tmp_path / "at-work")
        dead.enter(mark_of(program.version, "ada", "e1"))
        dead.close()
    suspects = Suspects(tmp_path / "at-work")
    guard = Guard(Counts(), suspects)
    with pytest.raises(SetAside, match="died each of the 3 times"):
        click(guard, program)
    other = Track(id="e2", name="clicked", at=NOW)
    step = guard.step(program, engine.fresh(program, "ada", "e", NOW), other, NOW)
    assert outcomes(step) == {"bad": "fired", "good": "fired"}
    suspects.close()


def test_a_user_of_whom_processes_die_whatever_the_event_is_set_aside(tmp_path: Path) -> None:
    program = program_of(RULES)
    for number in range(USER_CRASHES):
        dead = Suspects(tmp_path / "at-work")
        dead.enter(mark_of(program.version, "ada", f"connection {number}"))
        dead.close()
    suspects = Suspects(tmp_path / "at-work")
    with pytest.raises(SetAside, match=f"died {USER_CRASHES} times while deciding for this user"):
        click(Guard(Counts(), suspects), program)
    suspects.close()
