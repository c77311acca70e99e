"""Counts that fall by time alone, among them against a slow, obvious evaluator that is given the whole history."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from plays import START, Play

from handrail.core.explain import explain

FEW = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
SECOND = 1_000


def falls(count: str, rest: str = "") -> str:
    return f"trigger: t\nwhen: {{count: {{{count}}}}}\nthen: [{{set: {{t: 1}}}}]\n{rest}"


FIRED = ["set {'t': 1}"]
WEEKLY = falls("event: a, at_most: 1, within: 7d")


def test_it_comes_true_at_the_very_instant_and_once() -> None:
    play = Play(WEEKLY, connected=False)
    for _ in range(3):
        play.track("a")
        play.wait("1d")
    assert play.wait("4d") == []
    play.restart()
    assert play.wait("23h59m59s") == []
    assert play.wait("1s") == FIRED, "seven days after the second of three"
    assert play.trace[-1].detail == "count_fell"
    assert play.wait("60d") == []
    assert play.due_in is None


def test_it_has_to_be_above_before_it_can_fall_again() -> None:
    play = Play(WEEKLY, connected=False)
    play.track("a")
    assert play.wait("30d") == [], "never above"
    play.track("a"), play.track("a")
    assert play.wait("7d") == FIRED
    play.track("a")
    assert play.wait("7d") == []
    play.track("a"), play.track("a")
    assert play.wait("7d") == FIRED


def test_none_at_all_is_a_count_too() -> None:
    play = Play(falls("event: a, at_most: 0, within: 1h"), connected=False)
    play.track("a")
    play.wait("59m")
    play.track("a")
    assert play.wait("59m") == []
    assert play.wait("1m") == FIRED


def test_its_event_says_how_many_are_left() -> None:
    play = Play(
        falls("event: a, at_most: 1, within: 1h", "if: event.name == 'count_fell' && event.properties.count == 0")
    )
    play.track("a"), play.track("a")
    assert play.wait("1h") == FIRED


def test_only_what_qualifies_is_counted() -> None:
    play = Play(falls("event: a, where: event.properties.x == 1, distinct: event.properties.k, at_most: 1, within: 1h"))
    play.track("a", x=1, k="one"), play.track("a", x=1, k="one"), play.track("a", x=2, k="two"), play.track("a", x=1)
    assert play.wait("2h") == []
    play.track("a", x=1, k="one")
    play.wait("10m")
    play.track("a", x=1, k="two")
    play.wait("20m")
    play.track("a", x=1, k="one")
    assert play.wait("39m59s") == [], "a value counts from when it was last seen"
    assert play.wait("1s") == FIRED


def test_a_steady_user_costs_no_more_than_the_bound() -> None:
    play = Play(falls("event: a, at_most: 2, within: 7d"), connected=False)
    for _ in range(50):
        play.track("a")
        play.wait("1h")
    (tally,) = play.state.counters.values()
    assert len(tally.times) == 3
    assert play.wait("6d21h") == FIRED


def test_a_cancelling_event_ends_it_for_who_is_above() -> None:
    play = Play(falls("event: a, at_most: 1, within: 1h", "cancel_on: [{event: done}]"))
    play.track("a"), play.track("a"), play.track("done")
    assert [line.outcome for line in play.trace][-1] == "cancelled"
    assert play.wait("2h") == []
    play.clear()
    play.track("a"), play.track("done")
    assert play.trace == [], "there was nothing to cancel"
    play.track("a")
    assert play.wait("1h") == FIRED


def test_a_late_event_counts_for_what_is_left_of_its_window() -> None:
    play = Play(falls("event: a, at_most: 0, within: 1h"), connected=False)
    play.track("a", ago="1h")
    assert play.due_in is None
    play.track("a", ago="40m")
    assert play.wait("20m") == FIRED


def test_an_event_that_comes_after_the_fall_but_before_its_alarm_does_not_undo_it() -> None:
    play = Play(falls("event: a, at_most: 0, within: 1h"), connected=False)
    play.track("a")
    play.now += 2 * 3_600_000  # nobody rang
    assert play.track("a", ago="30m") == FIRED, "it had fallen half an hour before"
    assert play.wait("30m") == FIRED


@pytest.mark.parametrize(
    ("count", "goes_on"),
    [
        ("event: a, at_most: 1, within: 1h", True),
        ("event: a, at_most: 0, within: 1h", False),
        ("event: a, at_least: 3", False),
    ],
)
def test_a_change_of_the_bound_begins_anew(count: str, goes_on: bool) -> None:
    play = Play(falls("event: a, at_most: 1, within: 1h"))
    play.track("a"), play.track("a")
    play.reload(falls(count, "description: changed"))
    assert bool(play.state.counters) == goes_on
    assert play.wait("2h") == (FIRED if goes_on else [])


def test_the_explanation_says_how_far_it_is() -> None:
    play = Play(WEEKLY)
    play.track("a")

    def told() -> tuple[str, str, int | None]:
        (when,) = explain(play.program, play.state, play.program.triggers["t"], play.now).when
        return when.form, when.detail, when.due

    form = "count of a falls to 1 in 7d"
    assert told() == (form, "1 now; it has to be above first", None)
    play.track("a")
    assert told() == (form, "above 1 now", play.now + 7 * 86_400_000)


# --- the reference ---


class Happening(NamedTuple):
    """Seconds after the start when an event arrived and when it happened, and its property `k`."""

    arrived: int
    at: int
    k: int


@st.composite
def histories(draw: st.DrawFn) -> list[Happening]:
    now, history = 0, []
    for _ in range(draw(st.integers(1, 14))):
        now += draw(st.sampled_from([0, 0, 1, 1, 2, 5, 9, 10, 11]))
        ago = draw(st.sampled_from([0, 0, 0, 1, 3, 9, 10, 200]))
        history.append(Happening(now, now - ago, draw(st.integers(1, 3))))
    return history


def expected(history: list[Happening], at_most: int, within: int, *, distinct: bool) -> list[int]:
    """At which seconds the count falls to the bound: at each, time passes first, then what arrives is counted."""

    def count(arrived_by: int, now: int) -> int:
        known = [e for e in history if e.arrived <= arrived_by and e.at + within > max(now, e.arrived)]
        return len({e.k for e in known} if distinct else known)

    return [now for now in range(1, 200) if count(now - 1, now - 1) > at_most >= count(now - 1, now)]


RULES = "---\n".join(
    f"trigger: t{at_most}{distinct}\nwhen: {{count: {{event: a, at_most: {at_most}, within: 10s{key}}}}}\n"
    f"then: [{{set: {{t: '{at_most}{distinct}'}}}}]\n"
    for at_most in (0, 1, 2)
    for distinct, key in (("", ""), ("d", ", distinct: event.properties.k"))
)


@FEW
@given(histories())
@example([Happening(0, 0, 1), Happening(0, 0, 1), Happening(10, 10, 1), Happening(10, 1, 2)])
def test_it_falls_where_the_whole_history_says_so(history: list[Happening]) -> None:
    play = Play(RULES, connected=False)
    play.now = start = START + 1_000_000
    fired: list[tuple[str, int]] = []

    def take(decided: list[str]) -> None:
        fired.extend((each.split("'")[3], (play.now - start) // SECOND) for each in decided)

    for each in history:
        while start + each.arrived * SECOND > play.now:
            take(play.wait("1s"))
        take(play.track("a", ago=f"{each.arrived - each.at}s", k=each.k))
    for _ in range(40):
        take(play.wait("1s"))
    for at_most in (0, 1, 2):
        for distinct in ("", "d"):
            found = [at for name, at in fired if name == f"{at_most}{distinct}"]
            assert found == expected(history, at_most, 10, distinct=bool(distinct)), (at_most, distinct)
