"""Where and on what a user is: learnt from the newest event that tells of it, and followed by segments."""

from __future__ import annotations

import pytest
from plays import Play

from handrail.core.events import Connected, Track
from handrail.core.rules import load

RULES = """
segment: german
if: user.location.country == 'DE'
---
segment: pocket
if: user.device.type in ['mobile', 'tablet'] && user.device.os == 'iOS'
---
trigger: t
when: [{enters: german}, {leaves: german}, {enters: pocket}, {leaves: pocket}]
then: [{set: {t: {cel: "event.name + ' ' + event.properties.segment"}}}]
---
trigger: greet
when: {event: hello}
then: [{prompt: m}]
---
message: m
kind: toast
title: "{{ user.location.city }} {{ user.device.browser }}, {{ user.device }}"
expires: 1s
"""


def tell(play: Play, *, ago: str = "0s", **context: dict[str, str]) -> str:
    play.take(Track(id=play.next_id(), name="a", at=play.before(ago), context=context))
    return " ".join(play.state.segments)


def test_segments_follow_what_events_tell() -> None:
    play = Play(RULES)
    assert tell(play, location={"country": "DE", "city": "Halle"}) == "german"
    assert play.state.traits["t"] == "segment_entered german"
    assert tell(play, device={"type": "mobile", "os": "iOS"}) == "german pocket"
    play.restart()
    assert tell(play) == "german pocket", "an event that tells of neither changes neither"
    assert tell(play, location={"country": "AT"}, device={"type": "desktop", "os": "macOS"}) == ""
    assert play.state.location == {"country": "AT"}, "the city was that of the other country"


def test_older_news_changes_nothing() -> None:
    play = Play(RULES)
    tell(play, location={"country": "DE"})
    assert tell(play, ago="1m", location={"country": "AT"}) == "german"
    play.wait("1m")
    assert tell(play, location={"country": "AT"}) == ""


def test_a_part_of_what_is_known_leaves_the_rest_known() -> None:
    play = Play(RULES)
    tell(play, location={"country": "DE", "city": "Halle"}, device={"type": "desktop", "os": "Linux"})
    connected = Connected(id="c", at=play.now, connection="two", node="n", context={"location": {"country": "DE"}})
    play.take(connected)
    assert play.state.location == {"country": "DE", "city": "Halle"}
    assert play.state.device == {"type": "desktop", "os": "Linux"}


def test_a_handshake_tells_too_and_texts_may_say_it() -> None:
    play = Play(RULES, connected=False)
    context = {"device": {"type": "tablet", "os": "iOS", "browser": "Safari"}, "location": {"city": "Halle"}}
    play.take(Connected(id="c", at=play.now, connection="one", node="n", context=context))
    assert play.state.segments == ("pocket",)
    play.track("hello")
    assert play.state.prompt is not None
    title = play.state.prompt.prompt.title
    assert title is not None
    assert title.startswith("Halle Safari, {")


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("user.device.kind == 'x'", "unknown field 'kind' of 'user.device'"),
        ("user.device.browsr == 'x'", "unknown field 'browsr' of 'user.device'; did you mean 'user.device.browser'?"),
        ("user.location.contry == 'DE'", "did you mean 'user.location.country'?"),
        ("user.location.country == 49", "`==` does not work on text and a whole number"),
    ],
)
def test_unknown_keys_and_wrong_types_are_refused_at_load(condition: str, told: str) -> None:
    (problem,) = load({"a.yaml": f'segment: s\nif: "{condition}"'}, {}).problems
    assert told in problem.message
    assert (problem.severity, problem.line) == ("error", 2)
