"""The one alarm of a user is the earliest of everything pending, and is read off the state alone."""

from __future__ import annotations

import pytest
from plays import Play

from handrail.core.deadlines import alarm, deadlines

RULES = """
trigger: i
when: [{idle: 3m}, {idle: 5m}]
then: [{set: {i: 1}}]
---
trigger: a
when: [{away: 24h}, {away: 3d}]
then: [{set: {a: 1}}]
---
trigger: d
when: {delay: {after: {event: go}, for: 2m}}
then: [{set: {d: 1}}]
---
trigger: n
when: {absence: {after: {event: start}, of: {event: finish}, for: 100s, key: event.properties.n}}
then: [{set: {n: 1}}]
---
trigger: p
when: {event: show}
then: [{prompt: help}]
---
message: help
kind: toast
expires: 90s
---
segment: busy
if: user.counters.uses >= 1
---
counter: uses
of: use
within: 1m
---
counter: unwatched
of: use
within: 10s
"""

MINUTE = 60_000


def due_after(play: Play) -> list[int | None]:
    """The alarm after each of its rings, in seconds from now, until there is none."""
    waits: list[int | None] = []
    while (due := play.due_in) is not None:
        waits.append(due // 1000)
        play.wait(f"{due // 1000}s")
    return waits


def test_a_user_who_never_did_anything_has_no_alarm() -> None:
    assert Play(RULES, connected=False).due_in is None


def test_the_earliest_of_all_is_the_alarm() -> None:
    play = Play(RULES)
    assert play.due_in == 3 * MINUTE
    play.track("go")
    assert play.due_in == 2 * MINUTE
    play.track("show")
    assert play.due_in == 90_000
    play.track("use")
    assert play.due_in == MINUTE, "the counter nobody watches falls in silence"
    play.restart()
    assert play.due_in == MINUTE


def test_each_absence_is_a_deadline_of_its_own() -> None:
    play = Play(RULES)
    play.track("start", n=1)
    play.wait("10s")
    play.track("start", n=2)
    assert play.due_in == 90_000
    play.track("finish", n=1)
    assert play.due_in == 100_000
    play.track("finish", n=2)
    assert play.due_in == 3 * MINUTE


def test_each_ring_moves_the_alarm_to_what_is_next() -> None:
    play = Play(RULES)
    for name in ("go", "show", "use"):
        play.track(name)
    assert due_after(play) == [60, 30, 30, 60, 120, 25 * 60]  # count, expiry, delay, idle, idle, session
    play.disconnect()
    assert due_after(play) == [23 * 3600 + 30 * 60, 48 * 3600]


def test_while_nobody_looks_only_the_session_is_due() -> None:
    play = Play(RULES)
    play.hide()
    assert play.due_in == 30 * MINUTE
    play.activity(visible=True)
    assert play.due_in == 3 * MINUTE
    play.disconnect()
    assert play.due_in == 30 * MINUTE


@pytest.mark.parametrize("name", ["go", "show", "use", "start"])
def test_the_alarm_is_the_least_of_the_deadlines(name: str) -> None:
    play = Play(RULES)
    play.track(name)
    assert alarm(play.program, play.state) == min(due for due, _ in deadlines(play.program, play.state))
