"""What a revocation does to a state: it stays, whatever else becomes of the user."""

from __future__ import annotations

import pytest
from plays import START, compiled

from handrail.core import events as ev
from handrail.core.engine import fresh, step
from handrail.core.program import Program
from handrail.core.state import State, dump_state, load_state


@pytest.fixture
def program() -> Program:
    return compiled("trigger: greet\nwhen: {event: greeted}\nthen: [{set: {greeted: true}}]")


def test_a_revocation_is_remembered_and_never_taken_back(program: Program) -> None:
    state = fresh(program, "ada", "e", START)
    for at, expected in ((START, START), (START - 5, START), (START + 5, START + 5)):
        found = step(program, state, ev.Revoke(at=at), START)
        assert (found.effects, found.trace, found.state.revoked) == ((), (), expected)
        state = load_state(dump_state(found.state), {})
    assert state.revoked == START + 5


def test_a_state_from_before_has_nothing_revoked() -> None:
    assert State(user="ada", epoch="e").revoked == 0


def test_an_id_that_begins_anew_keeps_what_was_revoked(program: Program) -> None:
    state = step(program, fresh(program, "ada", "e", START), ev.Revoke(at=START), START).state
    for event in (ev.Merge(id="m", at=START, into="bob"), ev.Revoke(at=START + 7), ev.Merged(at=START)):
        state = step(program, state, event, START).state
    assert state.merger is not None
    assert state.revoked == START + 7
    state = step(program, state, ev.Known(at=START), START).state
    assert (state.merger, state.known, state.revoked) == (None, True, START + 7)
