"""Traits are what was told last, in whatever order it arrives."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from plays import Play

from handrail.core.events import Identify, Track
from handrail.core.state import TRAITS_MAX
from handrail.core.traits import REMOVED

RULES = """
trigger: upgrade
when: {event: upgraded}
then: [{set: {plan: pro}}]
---
trigger: note
when: {changes: traits.plan}
then: [{set: {from: {cel: event.properties.from}}}]
"""


def test_an_older_identify_changes_nothing_of_what_is_newer() -> None:
    play = Play(RULES)
    play.identify(plan="team", size=5)
    play.clear()
    play.identify(ago="1m", plan="trial", colour="red")
    assert play.state.traits == {"plan": "team", "size": 5, "colour": "red"}
    assert [(line.outcome, line.reason, line.detail) for line in play.trace] == [
        ("ignored", "older", "traits of which something newer is known: plan")
    ]
    play.restart()
    play.identify(ago="30s", plan="trial")
    assert play.state.traits["plan"] == "team"
    play.identify(plan="solo")
    assert play.state.traits["plan"] == "solo", "at the same instant, what arrives later"


def test_what_was_told_again_is_as_new_as_that() -> None:
    play = Play(RULES)
    play.identify(ago="3m", plan="team")
    play.identify(ago="1m", plan="team")
    play.identify(ago="2m", plan="trial")
    assert play.state.traits == {"plan": "team"}


def test_what_was_removed_stays_removed() -> None:
    play = Play(RULES)
    play.identify(ago="1m", plan=None)
    play.identify(ago="2m", plan="team")
    assert play.state.traits == {}
    play.identify(plan="team")
    assert play.state.traits["plan"] == "team"
    play.identify(ago="1s", plan=None)
    assert play.state.traits["plan"] == "team"


def test_what_rules_set_counts_from_when_it_came_about() -> None:
    play = Play(RULES)
    play.identify(ago="10m", plan="trial")
    play.track("upgraded", ago="5m")
    play.identify(ago="7m", plan="trial")
    assert play.state.traits["plan"] == "pro"
    play.identify(ago="1m", plan="team")
    assert play.state.traits["plan"] == "team"
    play.track("upgraded", ago="3m")
    assert play.state.traits["plan"] == "pro", "a rule decides on what is known now"


def test_what_is_guessed_from_a_context_gives_way_to_any_identify() -> None:
    play = Play(RULES)
    play.take(Track(id="t", name="seen", at=play.now, context={"locale": "en"}))
    play.identify(ago="1h", locale="de")
    assert play.state.traits == {"locale": "de"}


def test_what_is_kept_of_removed_traits_is_bounded() -> None:
    play = Play(RULES)
    for number in range(TRAITS_MAX + 50):
        play.take(Identify(id=play.next_id(), at=play.now - 1_000 + number, traits={f"t{number}": None}))
    play.take(Identify(id="all", at=play.now, traits={f"n{number}": number for number in range(TRAITS_MAX + 50)}))
    assert len(play.state.traits) == TRAITS_MAX
    assert len(play.state.told) <= TRAITS_MAX + REMOVED
    assert f"t{TRAITS_MAX + 40}" not in play.state.traits


TOLD = st.dictionaries(st.sampled_from("abc"), st.sampled_from([1, 2, None]), max_size=3)


@given(st.lists(TOLD, min_size=1, max_size=6).flatmap(lambda told: st.permutations(list(enumerate(told)))))
def test_the_order_in_which_identifies_arrive_makes_no_difference(arriving: list[tuple[int, dict[str, Any]]]) -> None:
    play = Play("counter: c\nof: x")
    for at, traits in arriving:
        play.take(Identify(id=play.next_id(), at=play.now - 100 + at, traits=traits))
    expected: dict[str, Any] = {}
    for _, traits in sorted(arriving, key=lambda each: each[0]):
        expected |= traits
    assert play.state.traits == {name: value for name, value in expected.items() if value is not None}
