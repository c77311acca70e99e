"""Explanations: what they say of each part, and that the runtime does as they say."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from plays import Play, compiled
from test_properties import FEW, HAPPENINGS, MINUTE, PAUSES, RULES, event_of

from handrail.core import events as ev
from handrail.core.effects import Considered
from handrail.core.engine import Step, alarm, fresh, step
from handrail.core.explain import Explanation, explain
from handrail.core.program import Program
from handrail.core.report import report
from handrail.core.state import State

HELP = """
trigger: help
when: [{idle: 3m}, {event: stuck}]
if: user.sessions <= 2 && user.traits.plan == 'trial' && has(event.name)
then: [{prompt: hello}]
limit: [1 per session, 3 per 24h]
cooldown: 1h
---
trigger: other
when: {event: other}
then: [{prompt: note}]
---
message: hello
kind: modal
expires: 10m
---
message: note
kind: toast
expires: 2m
---
policy: default
prompts: {limit: 2 per session, gap: 30s}
budget: 9 per 24h
"""
SIMPLE = HELP.replace(" && has(event.name)", "")


def told(play: Play, trigger: str = "help") -> Explanation:
    before = msgspec.msgpack.encode(play.state, enc_hook=dict)
    explanation = explain(play.program, play.state, play.program.triggers[trigger], play.now)
    assert msgspec.msgpack.encode(play.state, enc_hook=dict) == before, "looking changes nothing"
    return explanation


def bounds(explanation: Explanation) -> dict[str, tuple[bool, int | None, int | None]]:
    return {f"{each.reason} {each.rule}": (each.holding, each.used, each.allowed) for each in explanation.bounds}


def test_nothing_speaks_against_it() -> None:
    play = Play(SIMPLE)
    play.identify(plan="trial")
    play.wait("1m")
    explanation = told(play)
    assert explanation.verdict == "fires"
    assert [(each.form, each.detail) for each in explanation.when] == [
        ("idle 3m", "1m so far"),
        ("event stuck", "whenever it happens"),
    ]
    assert explanation.when[0].due == play.now + 2 * MINUTE
    assert [(each.at, each.outcome) for each in explanation.ahead] == [(play.now + 2 * MINUTE, "fired")]
    assert explanation.free_at == play.now
    assert bounds(explanation) == {
        "limit 1 per session": (False, 0, 1),
        "limit 3 per 1d": (False, 0, 3),
        "cooldown 1h": (False, None, None),
        "cap prompts: 2 per session": (False, 0, 2),
        "cap budget: 9 per 1d": (False, 0, 9),
        "gap 30s": (False, None, None),
        "busy one prompt at a time": (False, None, None),
    }


def test_the_operand_that_was_false_is_named() -> None:
    play = Play(SIMPLE)
    play.identify(plan="paid")
    explanation = told(play)
    assert explanation.verdict == "not-met"
    assert [(each.source, each.value) for each in explanation.operands] == [
        ("user.sessions <= 2", True),
        ("user.traits.plan == 'trial'", False),
    ]


def test_an_error_in_a_condition_is_told() -> None:
    explanation = told(Play(SIMPLE))
    assert explanation.verdict == "not-met"
    assert explanation.operands[1].error
    assert explanation.operands[1].value is False


def test_what_reads_the_event_depends_on_it_unless_something_else_is_false() -> None:
    rules = HELP.replace("has(event.name)", "event.name == 'stuck'")
    play = Play(rules)
    play.identify(plan="trial")
    assert told(play).verdict == "depends"
    assert told(play).operands[2].value is None
    play.identify(plan="paid")
    assert told(play).verdict == "not-met"


def test_everything_that_holds_it_back_is_told_with_its_end() -> None:
    play = Play(SIMPLE)
    play.identify(plan="trial")
    play.track("stuck")
    play.wait("10s")
    explanation = told(play)
    assert (explanation.verdict, explanation.reason) == ("suppressed", "limit")
    held = {each.reason: each.until for each in explanation.bounds if each.holding}
    fired = play.now - 10_000
    assert held == {"limit": None, "cooldown": fired + 3_600_000, "gap": fired + 30_000, "busy": fired + 600_000}
    assert explanation.fired == (fired,)
    assert explanation.free_at is None, "a session does not end by a known instant"


def test_when_nothing_holds_it_back_any_more() -> None:
    play = Play(SIMPLE)
    play.identify(plan="trial")
    play.track("other")
    shown = play.now
    play.wait("1s")
    explanation = told(play)
    assert (explanation.verdict, explanation.reason) == ("suppressed", "gap")
    assert explanation.free_at == shown + 2 * MINUTE, "when the note is gone"


@pytest.mark.parametrize(
    ("when", "live", "detail"),
    [
        ("{count: {event: a, at_least: 3, within: 1h}}", ["a", "a"], "2 of 3"),
        ("{delay: {after: {event: a}, for: 1h}}", ["a"], "armed"),
        (
            "{delay: {after: {event: a}, for: 1h}}",
            [],
            "nothing is armed: the event has not happened, or its wait is over",
        ),
        ("{absence: {after: {event: a}, of: {event: b}, for: 1h}}", ["a"], "armed"),
        ("{absence: {of: {event: b}, before: {event: c}}}", ["a"], "whenever it happens"),
        ("{sequence: {steps: [{event: a}, {event: b}, {event: c}]}}", ["a", "b"], "2 of 3 steps"),
        ("{sequence: {steps: [{event: a}, {event: b}]}}", ["b"], "0 of 2 steps"),
        ("{dwell: {step: one, for: 5m}}", ["a"], "the user is not on this step"),
        ("{idle: {for: 5m, step: one}}", ["a"], "the user is not on this step"),
        ("{away: 24h}", [], "the user is connected"),
        ("{returns: {after: 24h}}", ["a"], "on the next activity, 5s after the last one"),
        ("{enters: many}", ["a"], "the user is not in it"),
        ("{leaves: many}", ["a", "a"], "the user is in it"),
        ("{session: ended}", [], "a session is open"),
        ("{changes: traits.plan}", [], "whenever it happens"),
    ],
)
def test_each_form_says_how_far_it_has_come(when: str, live: list[str], detail: str) -> None:
    play = Play(f"""
trigger: help
when: {when}
then: [{{set: {{helped: true}}}}]
---
segment: many
if: user.counters.as >= 2
---
counter: as
of: a
""")
    for name in live:
        play.track(name)
    play.wait("5s")
    assert told(play).when[0].detail == detail


def test_an_idle_wait_says_why_it_does_not_run() -> None:
    play = Play(SIMPLE)
    play.hide()
    assert told(play).when[0].detail == "no tab is visible"
    play.activity()
    play.wait("4m")
    assert told(play).when[0].detail == "was reached; again only after the user has done something"
    play.wait("1h")
    assert told(play).when[0].detail == "no session is open"


def test_what_fell_due_and_was_not_worked_off_yet_counts() -> None:
    play = Play(SIMPLE)
    play.track("other")
    play.now += 2 * MINUTE
    assert not bounds(told(play))["busy one prompt at a time"][0]


def test_the_report_is_plain_text() -> None:
    play = Play(SIMPLE)
    play.identify(plan="trial")
    play.track("stuck")
    play.wait("10s")
    lines = list(report(told(play)))
    assert lines[0] == "help for u-1, 2026-01-05T09:00:10.000Z: it would not fire: limit (1 per session reached)"
    assert "  limit     1 per session: 1 of 1 used: held back" in lines
    assert "  limit     3 per 1d: 1 of 3 used" in lines
    until = "until 2026-01-05T10:00:00.000Z (in 59m50s)"
    assert f"  cooldown  1h: the trigger's own cooldown is not over: held back, {until}" in lines


def test_what_is_told_of_what_is_next_and_ahead() -> None:
    play = Play(SIMPLE)
    play.track("other")
    lines = list(report(told(play)))
    until = "2026-01-05T09:02:00.000Z (in 2m)"
    assert f"  next      from {until} on nothing holds it back but its condition" in lines
    play.identify(plan="trial")
    lines = list(report(told(play)))
    assert f"  next      could next fire at {until}, when nothing holds it back any more" in lines
    assert "  ahead     at 2026-01-05T09:03:00.000Z (in 3m): fired (idle)" in lines


def test_without_a_session_it_says_that_the_next_activity_begins_one() -> None:
    play = Play(SIMPLE)
    play.identify(plan="trial")
    play.track("stuck")
    play.wait("2h")
    assert told(play).session is False
    assert any(line.startswith("  session   none is open") for line in report(told(play)))


# --- the explanation and the runtime, over the same random histories ---

PROBES = """
trigger: probe
when: {event: probe}
if: user.counters.as < 3 && (user.sessions > 1 || !('busy' in user.segments)) && user.traits.plan != 2
then: [{prompt: brief}]
limit: [2 per session, 5 per 24h]
cooldown: 5m
---
trigger: quiet-probe
when: {event: quiet-probe}
then: [{webhook: letter}]
limit: 2 per 6h
---
trigger: entry-probe
when: {event: entry-probe}
if: user.persona == 'keen' || user.attributes.size() == 0
then: [{prompt: brief}]
reentry: {max: 3, min_interval: 10m}
---
"""
NAMES = ("probe", "quiet-probe", "entry-probe")  # triggers, each woken by the event of its name
PROBED = st.fixed_dictionaries(
    {
        "kind": st.just("track"),
        "name": st.sampled_from([*NAMES, "prompt_dismissed"]),
        "ago": st.just(0),
        "properties": st.sampled_from([{}, {"message": "brief"}, {"message": "hello"}]),
    }
)
HISTORIES = st.lists(st.tuples(PAUSES, st.one_of(HAPPENINGS, PROBED, PROBED)), min_size=1, max_size=20)


@cache
def program() -> Program:
    return compiled(PROBES + RULES.lstrip("\n"))


def live(history: list[tuple[int, dict[str, Any]]]) -> tuple[State, int]:
    now = 1_767_603_600_000
    state = fresh(program(), "u-1", "e1", now)
    for number, (pause, happening) in enumerate(history):
        until = now + pause
        while (due := alarm(program(), state)) is not None and due <= until:
            now = max(now, due)
            state = committed(step(program(), state, ev.Alarm(at=now), now))
        now = until
        state = committed(step(program(), state, event_of(happening, number, now), now))
    return state, now


def committed(done: Step) -> State:
    done.state.version += 1
    return done.state


def lines(done: Step, trigger: str) -> list[Considered]:
    return [line for line in done.trace if line.trigger == trigger]


@FEW
@given(HISTORIES, st.sampled_from(NAMES), PAUSES)
def test_the_runtime_does_what_the_explanation_says(
    history: list[tuple[int, dict[str, Any]]], name: str, pause: int
) -> None:
    state, now = live(history)
    now += pause
    explanation = explain(program(), state, program().triggers[name], now)
    state = committed(step(program(), state, ev.Alarm(at=now), now))
    assume(state.session is not None and not state.session.ended)  # the event itself would begin one
    done = step(program(), state, ev.Track(id="waking", name=name, at=now), now)
    (line,) = lines(done, name)
    if explanation.verdict == "fires":
        assert line.outcome == "fired"
    else:
        assert explanation.verdict == line.outcome
        assert explanation.reason == line.reason
    if explanation.verdict == "suppressed":
        assert line.reason in {each.reason for each in explanation.bounds if each.holding}
    assert (explanation.free_at == now) == (not any(each.holding for each in explanation.bounds))


@FEW
@given(HISTORIES, st.sampled_from(["on-idle", "on-away", "on-delay", "on-session", "on-fewer", "on-long"]))
def test_what_is_ahead_comes_to_pass(history: list[tuple[int, dict[str, Any]]], name: str) -> None:
    state, now = live(history)
    ahead = explain(program(), state, program().triggers[name], now).ahead
    seen: list[tuple[int, str, str]] = []
    for _ in range(100):
        due = alarm(program(), state)
        if due is None or len(seen) >= len(ahead):
            break
        done = step(program(), state, ev.Alarm(at=due), due)
        seen += [(due, line.outcome, line.reason) for line in lines(done, name) if line.outcome != "failed"]
        state = committed(done)
    assert seen[: len(ahead)] == [(each.at, each.outcome, each.reason) for each in ahead]
