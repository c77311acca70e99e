"""Lines of the event log: short in the store, whole for who reads them."""

from __future__ import annotations

import msgspec

from handrail import eventlog
from handrail.core.effects import Considered
from handrail.core.events import Track
from handrail.core.program import Program
from handrail.core.rules import load
from handrail.turns import Outcome

RULES = """
trigger: greet
when: {event: greeted}
if: user.traits.plan == 'pro'
then: [{set: {greeted: true}}]
"""
PROGRAM = load({"rules.yaml": RULES}, {}).program
assert PROGRAM is not None
UNMET = PROGRAM.triggers["greet"].unmet
FIRED = Considered(trigger="other", outcome="fired")


def program_of(_user: str) -> Program:
    assert PROGRAM is not None
    return PROGRAM


def written(*trace: Considered) -> bytes:
    event = Track(id="e1", name="greeted", at=1, properties={})
    return eventlog.write("ada", event, Outcome(id="e1", trace=trace), 2)


def read(line: bytes) -> list[dict[str, object]]:
    whole = eventlog.spell_out(msgspec.json.decode(line), program_of)
    assert "unmet" not in whole
    trace: list[dict[str, object]] = msgspec.to_builtins(whole)["trace"]
    return trace


def test_what_did_not_hold_is_named_in_the_store_and_told_in_the_words_of_the_rules() -> None:
    line = written(UNMET, FIRED)
    assert b"user.traits.plan" not in line
    assert read(line) == msgspec.to_builtins([FIRED, UNMET])


def test_a_condition_that_met_an_error_keeps_its_line() -> None:
    fault = msgspec.structs.replace(UNMET, detail="no such key: plan")
    assert read(written(fault)) == msgspec.to_builtins([fault])


def test_a_trigger_that_is_no_more_keeps_its_name() -> None:
    gone = Considered(trigger="gone", outcome="not-met", reason="1 > 2")
    assert read(written(gone)) == msgspec.to_builtins([Considered(trigger="gone", outcome="not-met")])


def test_lines_of_before_are_read_as_they_are() -> None:
    line = {"user": "ada", "trace": [{"trigger": "greet", "outcome": "not-met", "reason": "false"}]}
    assert eventlog.spell_out(dict(line), program_of) == line
