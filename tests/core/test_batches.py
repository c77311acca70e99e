"""Events that come together after they happened: decided as if each had come in its time."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from plays import START, Play, compiled, decisions

from handrail.core.engine import alarm, fresh, step
from handrail.core.events import Alarm, Track
from handrail.core.program import Program
from handrail.core.state import State

FEW = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
MINUTE = 60_000

RULES = """
trigger: delayed
when: {delay: {after: {event: a}, for: 5m}}
then: [{set: {delayed: {cel: user.sessions}}}]
cancel_on: [{event: b}]
---
trigger: absent
when: {absence: {after: {event: a}, of: {event: c}, for: 7m, key: event.properties.k}}
then: [{emit: {event: noticed}}]
---
trigger: noticed
when: {sequence: {steps: [{event: b}, {event: noticed}]}}
then: [{set: {noticed: true}}]
---
trigger: in-turn
when: {sequence: {steps: [{event: a}, {event: b}], within: 12m}}
then: [{set: {in_turn: true}}]
---
trigger: over
when: [{session: ended}, {session: started}]
then: [{set: {session: {cel: event.name}}}]
---
trigger: gone
when: [{away: 15m}, {returns: {after: 20m}}]
then: [{set: {gone: {cel: event.name}}}]
---
trigger: fewer
when: {count: {event: c, at_most: 0, within: 10d}}
then: [{set: {fewer: true}}]
"""
PROGRAM = compiled(RULES)


class Happening(NamedTuple):
    at: int  # minutes
    name: str
    k: int


@st.composite
def histories(draw: st.DrawFn) -> list[Happening]:
    now, history = 0, []
    for _ in range(draw(st.integers(1, 10))):
        now += draw(st.sampled_from([0, 1, 2, 4, 5, 7, 8, 16, 31]))
        history.append(Happening(now, draw(st.sampled_from("abc")), draw(st.integers(1, 2))))
    return history


def event_of(number: int, each: Happening) -> Track:
    return Track(id=f"e{number}", name=each.name, at=START + each.at * MINUTE, properties={"k": each.k})


def one_at_a_time(program: Program, history: list[Happening], until: int) -> tuple[State, list[str]]:
    """Each event at the instant at which it happened, and every alarm at its own."""
    state, decided = fresh(program, "u", "e", START), []

    def ring(by: int) -> State:
        ringing = state
        while (due := alarm(program, ringing)) is not None and due <= by:
            done = step(program, ringing, Alarm(at=due), due)
            ringing = done.state
            decided.extend(decisions(done.effects))
        return ringing

    for number, each in enumerate(history):
        at = START + each.at * MINUTE
        state = ring(at)
        done = step(program, state, event_of(number, each), at)
        state = done.state
        decided.extend(decisions(done.effects))
    return ring(until), decided


def together(program: Program, history: list[Happening], now: int) -> tuple[State, list[str]]:
    state, decided = fresh(program, "u", "e", START), []
    for number, each in enumerate(history):
        done = step(program, state, event_of(number, each), now, more=number < len(history) - 1)
        state = done.state
        decided.extend(decisions(done.effects))
    return state, decided


@FEW
@given(histories(), st.sampled_from([0, 3, 60]))
@example([Happening(0, "a", 1), Happening(4, "b", 1)], 60)
@example([Happening(0, "a", 1), Happening(8, "c", 1), Happening(8, "b", 2)], 0)
def test_a_batch_decides_what_its_events_would_have_decided_each_in_its_time(
    history: list[Happening], later: int
) -> None:
    now = START + (history[-1].at + later) * MINUTE
    lived, expected = one_at_a_time(PROGRAM, history, now)
    state, decided = together(PROGRAM, history, now)
    assert decided == expected
    for part in ("traits", "waits", "memory", "session", "sessions", "last_activity", "away_done", "counters"):
        assert getattr(state, part) == getattr(lived, part), part
    assert alarm(PROGRAM, state) == alarm(PROGRAM, lived)


@pytest.mark.parametrize(
    "when", ["{delay: {after: {event: a}, for: 5m}}", "{absence: {after: {event: a}, of: {event: c}, for: 5m}}"]
)
def test_what_a_late_event_armed_may_still_be_called_off_by_the_next_of_the_batch(when: str) -> None:
    rules = f"trigger: t\nwhen: {when}\nthen: [{{prompt: m}}, {{set: {{t: 1}}}}]\ncancel_on: [{{event: c}}]\n"
    rules += "---\nmessage: m\nkind: modal"
    play = Play(rules)

    def late(name: str, ago: int, *, more: bool) -> list[str]:
        event = Track(id=f"{name}{ago}", name=name, at=play.now - ago * MINUTE)
        done = step(play.program, play.state, event, play.now, more=more)
        play.state, play.trace = done.state, [*play.trace, *done.trace]
        return decisions(done.effects)

    assert late("a", 60, more=True) == []
    assert late("c", 58, more=False) == []
    assert late("a", 40, more=True) == []
    assert late("c", 30, more=False) == []
    assert play.held_back() == ["t: late"], "nobody called this one off in time, and it is too late to show"
