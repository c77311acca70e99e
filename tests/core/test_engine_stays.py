"""Time on a step, and stillness on it: `dwell`, and `idle` as a mapping; and dwell against a slow evaluator."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plays import START, Play

from handrail.core.deadlines import alarm, deadlines

HIT = ["set {'hit': True}"]
POLICY = "---\npolicy: default\nsession: {idle: 60s, active: 20s}\n"


def marks(when: str, more: str = "") -> str:
    return f"trigger: t\nwhen: {when}\nthen: [{{set: {{hit: true}}}}]\n{more}"


def on_step(when: str, more: str = "") -> Play:
    play = Play(marks(when, more))
    play.track("step_viewed", step="one")
    return play


DWELL = "{dwell: {step: one, for: 60s}}"

# --- dwell ---


def test_dwell_comes_true_on_the_instant_and_once() -> None:
    play = on_step(DWELL)
    assert play.due_in == 60_000
    assert play.wait("59s") == []
    assert play.wait("1s") == HIT
    play.track("x")
    assert play.wait("90s") == []


def test_several_lengths_of_one_step_are_several_deadlines() -> None:
    play = on_step("[{dwell: {step: one, for: 90s}}, {dwell: {step: one, for: 30s}}, {dwell: {step: two, for: 5s}}]")
    assert [bool(play.wait("30s")) for _ in range(4)] == [True, False, True, False]


def test_what_woke_it_tells_the_step_and_the_length() -> None:
    condition = "if: event.name == 'dwelt' && event.properties.step == 'one' && event.properties.for_s == 60\n"
    assert on_step(DWELL, condition).wait("60s") == HIT


def test_hidden_time_does_not_count() -> None:
    play = on_step(DWELL)
    play.wait("30s")
    play.hide()
    assert play.wait("10m") == []
    play.activity()
    assert play.wait("29s") == []
    assert play.wait("1s") == HIT


def test_several_visible_tabs_count_once_and_one_is_enough() -> None:
    play = on_step(DWELL)
    play.wait("10s")
    play.connect("two")
    play.wait("10s")
    play.hide("one")
    assert play.wait("39s") == []
    assert play.wait("1s") == HIT


def test_idle_time_does_not_count() -> None:
    play = on_step("{dwell: {step: one, for: 3m}}")
    assert play.wait("10m") == [], "active for two minutes, then idle"
    play.track("x")
    assert play.wait("59s") == []
    assert play.wait("1s") == HIT


def test_how_long_a_user_counts_as_active_is_the_policys() -> None:
    play = on_step(DWELL, POLICY)
    assert play.wait("50s") == []
    play.track("x")
    assert play.wait("20s") == []
    play.track("x")
    assert play.wait("20s") == HIT, "three times twenty seconds; the last of them to its end"


def test_activity_that_is_reported_late_counts_from_when_it_was() -> None:
    play = on_step(DWELL, POLICY)
    play.wait("40s")
    play.activity(idle="10s")  # active from 30s on, after 20s in the beginning
    play.wait("9s")
    play.activity()
    play.wait("11s")
    play.activity()
    assert play.due_in == 10_000


@pytest.mark.parametrize("name", ["step_completed", "step_skipped", "step_viewed"])
def test_leaving_the_step_ends_the_stay(name: str) -> None:
    play = on_step(DWELL)
    play.wait("59s")
    play.track(name, step="two" if name == "step_viewed" else "one")
    assert play.wait("10m") == []
    play.track("step_viewed", step="one")
    assert play.wait("59s") == [], "a stay of its own"
    assert play.wait("1s") == HIT


def test_viewing_the_step_again_goes_on_with_the_stay_within_the_session() -> None:
    play = on_step(DWELL)
    play.wait("40s")
    play.track("step_viewed", step="one")
    assert play.wait("20s") == HIT
    play.track("step_viewed", step="one")
    assert play.wait("100s") == []
    play.wait("40m")
    play.track("step_viewed", step="one")
    assert play.wait("60s") == HIT, "another session, another stay"


def test_what_was_done_of_other_steps_does_not_end_it() -> None:
    play = on_step(DWELL)
    play.track("step_completed", step="two")
    play.track("step_viewed")
    play.track("step_viewed", step=7)
    assert play.wait("60s") == HIT


def test_steps_go_by_when_they_were_viewed() -> None:
    play = Play(marks(DWELL))
    play.wait("30s")
    play.track("step_viewed", step="two")
    play.track("step_viewed", step="one", ago="10s")
    assert play.wait("2m") == []
    play.track("step_completed", step="two")
    play.track("step_viewed", step="one", ago="90s")
    assert play.state.stay is not None
    assert play.state.stay.step == "one", "viewed after the other, before that was completed"


def test_a_completion_from_before_the_step_was_viewed_again_does_not_end_the_stay() -> None:
    play = Play(marks(DWELL))
    play.wait("1m")
    play.track("step_viewed", step="one")
    play.track("step_completed", step="one", ago="10s")
    assert play.wait("60s") == HIT


def test_nobody_there_is_nobody_reading() -> None:
    play = on_step(DWELL)
    play.wait("30s")
    play.disconnect()
    play.restart()
    assert play.wait("5m") == []
    play.connect()
    assert play.wait("29s") == []
    assert play.wait("1s") == HIT


def test_a_step_viewed_by_nobody_connected_waits_for_a_tab() -> None:
    play = Play(marks(DWELL), connected=False)
    play.track("step_viewed", step="one")
    assert play.wait("5m") == []
    play.connect()
    assert play.wait("60s") == HIT


# --- idle as a mapping ---


def test_idle_on_a_step_needs_that_step_to_be_the_one() -> None:
    play = Play(marks("{idle: {for: 3m, step: one}}"))
    assert play.wait("10m") == []
    play.track("step_viewed", step="one")
    assert play.due_in == 3 * 60_000
    assert play.wait("3m") == HIT
    play.track("step_viewed", step="two")
    assert play.wait("10m") == []
    play.track("step_viewed", step="one")
    play.track("step_completed", step="one")
    assert play.wait("10m") == []


def test_idle_of_a_step_and_of_any_both_come_true() -> None:
    rules = marks("{idle: {for: 3m, step: one}}") + "---\n" + marks("{idle: 3m}").replace("trigger: t", "trigger: u")
    play = Play(rules)
    play.track("step_viewed", step="one")
    assert play.wait("3m") == HIT * 2
    assert play.wait("20m") == []


@pytest.mark.parametrize(("hidden", "told"), [("pause", []), ("count", HIT)])
def test_hidden_says_whether_a_hidden_tab_is_a_reader(hidden: str, told: list[str]) -> None:
    play = Play(marks(f"{{idle: {{for: 3m, hidden: {hidden}}}}}"))
    play.hide()
    assert play.wait("10m") == told
    play.disconnect()
    play.track("x")
    assert play.wait("10m") == [], "with no tab at all there is nobody"


def test_those_for_whom_hidden_tabs_count_come_true_apart_from_the_others() -> None:
    play = Play(marks("[{idle: {for: 3m, hidden: count}}, {idle: 3m}]"))
    play.hide()
    assert play.wait("3m") == HIT
    assert play.wait("1m") == []
    play.connect("two", idle="4m")
    assert play.wait("0s") == []
    assert play.trace[-1].outcome == "fired", "a page that was still all the while is told at once"
    assert sum(line.outcome == "fired" for line in play.trace) == 2


def test_the_stillness_ends_with_the_session() -> None:
    play = Play(marks("{idle: {for: 2m, hidden: count}}", POLICY))
    assert play.wait("10m") == []


# --- deadlines ---


def test_the_alarm_is_the_least_of_the_deadlines() -> None:
    play = on_step("[{dwell: {step: one, for: 70s}}, {idle: {for: 2m, step: one}}, {idle: {for: 90s, hidden: count}}]")
    waits = []
    for _ in range(3):
        assert play.due_in is not None
        assert alarm(play.program, play.state) == min(due for due, _ in deadlines(play.program, play.state))
        waits.append(play.due_in // 1000)
        assert play.wait(f"{waits[-1]}s") == HIT
    assert waits == [70, 20, 30]
    assert play.due_in == 28 * 60_000, "the session's end"


# --- dwell against a slow, obvious evaluator ---


class Edge(NamedTuple):
    """What happens `at` so many seconds after the start: an event's name or connect, disconnect, show, hide; `of` is
    the step or the tab."""

    at: int
    what: str
    of: str


STEPS = ("step_viewed", "step_completed", "step_skipped")
WHATS = ["track", "track", "step_viewed", "step_viewed", "step_completed", "connect", "disconnect", "show", "hide"]


@st.composite
def histories(draw: st.DrawFn) -> list[Edge]:
    now, edges = 0, [Edge(0, "connect", "A"), Edge(0, "step_viewed", "one")]
    for _ in range(draw(st.integers(1, 16))):
        now += draw(st.sampled_from([0, 1, 3, 5, 10, 10, 20, 21, 60, 75]))
        what = draw(st.sampled_from(WHATS))
        of = draw(st.sampled_from(["one", "one", "two"] if what in STEPS else ["A", "A", "B"]))
        edges.append(Edge(now, what, of))
    return edges


def dwelt(edges: list[Edge], lengths: dict[str, list[int]], *, active: int, idle: int) -> list[int]:
    """The seconds at which a stay reached one of the lengths, told by looking at every second of the history."""
    told: list[int] = []
    tabs: dict[str, bool] = {}
    last, session, step, spent, viewed_in = -(10**6), 0, "", 0, 0
    for second in range(edges[-1].at + 200):
        if step and any(tabs.values()) and second - 1 < last + active:
            spent += 1
            told += [second] * (spent in lengths[step])
        for edge in [each for each in edges if each.at == second]:
            if edge.what not in ("hide", "disconnect"):
                session += second >= last + idle
                last = second
            if edge.what in ("connect", "show", "hide") and (edge.what == "connect" or edge.of in tabs):
                tabs[edge.of] = edge.what != "hide"
            elif edge.what == "disconnect":
                tabs.pop(edge.of, None)
            elif edge.what == "step_viewed":
                if (step, viewed_in) != (edge.of, session):
                    step, spent = edge.of, 0
                viewed_in = session
            elif edge.what in STEPS and edge.of == step:
                step = ""
    return told


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_dwell_is_what_every_second_of_the_history_adds_up_to(edges: list[Edge]) -> None:
    lengths = {"one": [10, 25, 60], "two": [15]}
    forms = ", ".join(f"{{dwell: {{step: {step}, for: {span}s}}}}" for step in lengths for span in lengths[step])
    play = Play(marks(f"[{forms}]", POLICY), connected=False)
    told: list[int] = []

    def until(second: int) -> None:
        while (play.now - START) // 1000 < second:
            told.extend([(play.now - START) // 1000 + 1] * len(play.wait("1s")))

    for edge in edges:
        until(edge.at)
        properties: dict[str, Any] = {"step": edge.of} if edge.what in STEPS else {}
        match edge.what:
            case "connect":
                decided = play.connect(edge.of)
            case "disconnect":
                decided = play.disconnect(edge.of)
            case "show" | "hide":
                decided = play.activity(edge.of, visible=edge.what == "show")
            case _:
                decided = play.track(edge.what, **properties)
        assert decided == []
        play.restart()
    until(edges[-1].at + 199)
    assert told == dwelt(edges, lengths, active=20, idle=60)
