"""Conditions that read the clock: time alone changes them, at the very millisecond at which it does."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plays import START, Play

from handrail.core.deadlines import alarm
from handrail.core.engine import fresh
from handrail.core.events import Alarm
from handrail.core.explain import explain
from handrail.core.expressions import Expressions
from handrail.core.program import Segment
from handrail.core.rules import load
from handrail.core.scope import NOTHING, Scope
from handrail.core.ticking import LOOK_AHEAD

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
RULES = """
segment: in
if: {condition}
---
trigger: entered
when: {{enters: in}}
then: [{{set: {{is_in: true}}}}]
---
trigger: left
when: {{leaves: in}}
then: [{{set: {{is_in: false}}}}]
"""


def play_of(condition: str, *, at: int = START, timezone: str = "", connected: bool = True) -> Play:
    play = Play(RULES.format(condition=f'"{condition}"'), connected=False)
    play.now = at
    play.state = fresh(play.program, "u-1", "e1", at)
    if timezone:
        play.identify(timezone=timezone)
    if connected:
        play.connect()
    return play


def ring_until(play: Play, until: int) -> int:
    """Let the time pass, ringing every alarm on its instant; how many rang."""
    rung = 0
    while (due := alarm(play.program, play.state)) is not None and due <= until:
        assert due > play.now, "an alarm that rang is still due"
        play.now = due
        play.take(Alarm(at=due))
        rung += 1
    play.now = until
    return rung


def test_a_session_longer_than_ten_minutes_is_so_at_ten_minutes_sharp() -> None:
    play = play_of("user.session.length >= duration('10m')")
    assert play.due_in == 10 * MINUTE
    assert play.wait("9m59s") == []
    assert play.wait("1s") == ["set {'is_in': True}"]
    assert play.due_in == 20 * MINUTE, "the end of the session is next"


def test_more_than_ten_minutes_is_a_millisecond_later() -> None:
    play = play_of("user.session.length > duration('10m')")
    assert play.due_in == 10 * MINUTE + 1


def test_the_clock_goes_on_without_anybody_there() -> None:
    play = play_of("now - user.last_visit > duration('72h')", connected=False)
    play.track("a")
    play.wait("30m")
    assert play.due_in == 72 * HOUR + 1 - 30 * MINUTE
    play.restart()
    play.wait("72h")
    assert play.state.traits == {"is_in": True}


def test_a_flow_is_assembled_again_when_its_time_has_come() -> None:
    play = Play("""
    flow: tour
    steps: [{id: one}, {id: two, if: "user.session.length >= duration('5m')"}]
    variants: [{id: long, if: "user.session.length >= duration('7m')", steps: [two]}]
    """)
    assert play.due_in == 5 * MINUTE
    play.wait("5m")
    assert play.state.flow is not None
    assert play.state.flow.steps == ("one", "two")
    assert play.due_in == 2 * MINUTE
    play.wait("2m")
    assert play.state.flow.variant == "long"


def test_nothing_is_kept_and_nothing_rings_where_nothing_reads_the_clock() -> None:
    play = play_of("user.sessions > 1", connected=False)
    play.identify(a=1)
    play.wait("31m")
    assert play.state.judged == 0
    assert play.due_in is None


def test_a_ring_that_comes_late_finds_things_as_they_are() -> None:
    play = play_of("user.session.length > duration('5m') && user.session.length < duration('6m')")
    play.sleep("5m30s")
    assert play.state.segments == ("in",)
    play.sleep("10m")
    assert not play.state.segments


def test_what_cannot_change_by_time_alone_is_not_waited_for() -> None:
    play = play_of("user.session.length > duration('5m') && user.traits.plan == 'pro'")
    assert play.due_in == 30 * MINUTE
    play.identify(plan="pro")
    assert play.due_in == 5 * MINUTE + 1


def test_an_explanation_tells_the_moment() -> None:
    play = play_of("user.session.length >= duration('10m')")
    told = explain(play.program, play.state, play.program.triggers["entered"], play.now)
    assert [each.due for each in told.when] == [START + 10 * MINUTE]
    assert [(each.at, each.outcome) for each in told.ahead] == [(START + 10 * MINUTE, "fired")]
    play.wait("10m")
    told = explain(play.program, play.state, play.program.triggers["entered"], play.now)
    assert [each.due for each in told.when] == [None]
    longer = play_of("user.session.length >= duration('40m')")
    told = explain(longer.program, longer.state, longer.program.triggers["entered"], longer.now)
    assert [each.due for each in told.when] == [None], "the session ends before"


@pytest.mark.parametrize(
    ("start", "changes"),
    [
        ("2026-03-28T12:00:00+00:00", ["2026-03-28T18:00", "2026-03-29T03:00", "2026-03-29T18:00", "2026-03-30T02:00"]),
        ("2026-10-24T12:00:00+00:00", ["2026-10-24T18:00", "2026-10-25T02:00", "2026-10-25T18:00", "2026-10-26T02:00"]),
    ],
)
def test_evenings_are_those_of_the_clocks_there(start: str, changes: list[str]) -> None:
    condition = "now.getHours('Europe/Berlin') >= 18 || now.getHours('Europe/Berlin') < 2"
    play = play_of(condition, at=int(datetime.fromisoformat(start).timestamp() * 1000), connected=False)
    play.identify(a=1)
    ring_until(play, play.now + 30 * MINUTE)
    found = []
    for _ in changes:
        due = alarm(play.program, play.state)
        assert due is not None
        ring_until(play, due)
        found.append(f"{datetime.fromtimestamp(due / 1000, ZoneInfo('Europe/Berlin')):%Y-%m-%dT%H:%M}")
    assert found == changes


def test_what_hardly_ever_changes_rings_seldom() -> None:
    play = play_of("now.getMonth() == 1 && now.getDate() == 29", connected=False)
    play.identify(a=1)
    assert ring_until(play, START + 365 * 24 * HOUR) <= 1 + 365 // LOOK_AHEAD + 1


@pytest.mark.parametrize(
    ("condition", "followed"),
    [
        ("now - user.first_seen > duration('24h')", True),
        ("user.session.length.getMinutes() >= 10", True),
        ("now.getDayOfWeek(user.timezone) in [0, 6]", True),
        ("user.traits.plan == 'x' ? now > user.last_visit : !(now < user.last_visit)", True),
        ("(now.getHours() + 2) % 24 > 4", True),
        ("string(now).startsWith('2026')", False),
        ("int(now) > 1", False),
        ("now.getMilliseconds() > 5", False),
        ("now >= timestamp('2026-12-01T09:00:00+01:00')", True),
        ("now >= timestamp('2026-12-01T08:00:00.5Z')", True),
        ("timestamp(user.traits.until) - now <= duration('72h')", True),
        ("user.goals.exists(g, now > user.last_visit)", False),
        ("user.sessions > 1", None),
    ],
)
def test_what_can_be_followed(condition: str, followed: bool | None) -> None:
    clock = Expressions().compile(condition).clock
    assert (clock.followed if clock else None) == followed


def test_what_cannot_be_followed_is_warned_about() -> None:
    problems = load({"r.yaml": "segment: odd\nif: string(now) == ''\n"}, {}).problems
    assert list(map(str, problems)) == [
        "r.yaml:2:5: warning: judged at the user's events only: when time alone changes it cannot be told"
    ]


# --- against judging it all the time ---

SPANS = st.sampled_from(["0s", "1s", "90s", "5m", "29m", "30m", "1h"])
LENGTHS = st.sampled_from(["user.session.length", "(now - user.session.started)", "(now - user.first_seen)"])
ORDERS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
ATOMS = st.one_of(
    st.builds("{} {} duration('{}')".format, LENGTHS, ORDERS, SPANS),
    st.builds("duration('{}') {} {} + {}".format, SPANS, ORDERS, LENGTHS, LENGTHS),
    st.builds("now - duration('{}') {} user.first_seen".format, SPANS, ORDERS),
    st.builds("user.first_seen + duration('{}') {} now".format, SPANS, ORDERS),
    st.builds("{}.getMinutes() {} {}".format, LENGTHS, ORDERS, st.integers(0, 40)),
    st.builds("(user.first_seen - duration('{}') - now).getMinutes() < 3".format, SPANS),
    st.builds("now.getMinutes() {} {}".format, ORDERS, st.integers(0, 59)),
    st.just("user.traits.absent == 1"),
)
WHOLE = st.recursive(
    ATOMS, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["&&", "||"]), inner), max_leaves=3
)
FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def agree(play: Play, instants: Iterable[int]) -> None:
    """At each of the instants the user is in the segment if and only if its condition holds."""
    segment = play.program.segments[0]
    assert isinstance(segment, Segment)
    condition = segment.condition
    assert condition is not None
    due = alarm(play.program, play.state)
    for instant in instants:
        if due is not None and due <= instant:
            ring_until(play, instant)
            due = alarm(play.program, play.state)
        holds, _ = condition.holds(Scope(play.state, {}, NOTHING, instant))
        assert (play.state.segments == ("in",)) == holds, f"{condition.source} at {instant - START} ms"


@FEW
@given(WHOLE)
def test_alarms_find_each_change_at_its_millisecond(condition: str) -> None:
    agree(play_of(condition), (START + second * SECOND + extra for second in range(1, 2000) for extra in (-1, 0, 1)))


ZONES = st.sampled_from(["Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/New_York", "UTC"])
NEAR_CHANGES = st.sampled_from(["2026-03-28T22:10", "2026-10-24T21:07", "2026-04-04T11:00", "2026-03-07T20:00"])
PARTS = st.builds(
    "now.get{}({}) {} {}".format,
    st.sampled_from(["Hours", "Date", "DayOfWeek"]),
    st.one_of(ZONES.map(repr), st.just("user.timezone")),
    ORDERS,
    st.integers(0, 23),
)


@FEW
@given(PARTS, NEAR_CHANGES, ZONES)
def test_hours_and_days_are_found_over_changes_of_clocks(condition: str, start: str, timezone: str) -> None:
    at = int(datetime.fromisoformat(f"{start}:00+00:00").timestamp() * 1000)
    play = play_of(condition, at=at, timezone=timezone, connected=False)
    agree(play, (at + quarter * 15 * MINUTE + extra for quarter in range(1, 150) for extra in (-1, 0)))
