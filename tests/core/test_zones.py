"""Days and hours by the user's clock, over changes of daylight saving time."""

from __future__ import annotations

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail.core.state import State
from handrail.core.zones import Hours, day_of, zone_fault, zone_of

ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kathmandu", "America/Havana", "Pacific/Apia", "Australia/Lord_Howe")


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def hours(text: str) -> Hours:
    return Hours(*(time.fromisoformat(each) for each in text.split("-")))


def until(zone: str, span: str, now: str) -> str | None:
    end = hours(span).until(ms(now), ZoneInfo(zone))
    return None if end is None else datetime.fromtimestamp(end / 1000, UTC).isoformat().removesuffix("+00:00")


@pytest.mark.parametrize(
    ("zone", "span", "now", "end"),
    [
        # an ordinary winter's night
        ("Europe/Berlin", "22:00-07:00", "2026-01-05T20:59:59.999Z", None),
        ("Europe/Berlin", "22:00-07:00", "2026-01-05T21:00:00Z", "2026-01-06T06:00:00"),
        ("Europe/Berlin", "22:00-07:00", "2026-01-06T05:59:59.999Z", "2026-01-06T06:00:00"),
        ("Europe/Berlin", "22:00-07:00", "2026-01-06T06:00:00Z", None),
        # within one day
        ("America/New_York", "12:00-13:30", "2026-01-05T16:59:59Z", None),
        ("America/New_York", "12:00-13:30", "2026-01-05T17:00:00Z", "2026-01-05T18:30:00"),
        ("America/New_York", "12:00-13:30", "2026-01-05T18:30:00Z", None),
        # clocks go forward during the night, and back
        ("Europe/Berlin", "22:00-07:00", "2026-03-28T21:00:00Z", "2026-03-29T05:00:00"),
        ("Europe/Berlin", "22:00-07:00", "2026-10-24T20:00:00Z", "2026-10-25T06:00:00"),
        ("America/New_York", "22:00-07:00", "2026-03-08T03:00:00Z", "2026-03-08T11:00:00"),
        ("America/New_York", "22:00-07:00", "2026-11-01T02:00:00Z", "2026-11-01T12:00:00"),
        # 02:30 is left out: the change itself is meant
        ("Europe/Berlin", "22:00-02:30", "2026-03-28T23:00:00Z", "2026-03-29T01:00:00"),
        ("Europe/Berlin", "22:00-02:30", "2026-03-29T01:00:00Z", None),
        ("Europe/Berlin", "02:30-07:00", "2026-03-29T00:59:59Z", None),
        ("Europe/Berlin", "02:30-07:00", "2026-03-29T01:00:00Z", "2026-03-29T05:00:00"),
        ("Europe/Berlin", "02:10-02:50", "2026-03-29T01:00:00Z", None),
        ("America/New_York", "22:00-02:30", "2026-03-08T06:30:00Z", "2026-03-08T07:00:00"),
        # 02:30 (New York: 01:30) comes twice: quiet from its first to its second
        ("Europe/Berlin", "22:00-02:30", "2026-10-25T00:45:00Z", "2026-10-25T01:30:00"),
        ("Europe/Berlin", "02:30-07:00", "2026-10-25T00:30:00Z", "2026-10-25T06:00:00"),
        ("Europe/Berlin", "02:30-07:00", "2026-10-25T01:00:00Z", "2026-10-25T06:00:00"),
        ("America/New_York", "22:00-01:30", "2026-11-01T05:45:00Z", "2026-11-01T06:30:00"),
        ("America/New_York", "01:30-07:00", "2026-11-01T05:29:59Z", None),
    ],
)
def test_quiet_hours(zone: str, span: str, now: str, end: str | None) -> None:
    assert until(zone, span, now) == end


@pytest.mark.parametrize(
    ("zone", "now", "start", "end"),
    [
        ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
        ("Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        ("America/New_York", "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
        # midnight is left out; midnight comes twice
        ("America/Havana", "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"),
        ("America/Havana", "2026-11-01T05:30:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
        # a day that never was
        ("Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
    ],
)
def test_calendar_days(zone: str, now: str, start: str, end: str) -> None:
    assert day_of(ms(now), ZoneInfo(zone)) == (ms(start), ms(end))


MOMENTS = st.integers(ms("2000-01-01T00:00:00Z"), ms("2040-01-01T00:00:00Z"))


@given(MOMENTS, st.sampled_from(ZONES))
def test_every_moment_is_in_one_day_and_days_follow_one_another(now: int, name: str) -> None:
    zone = ZoneInfo(name)
    start, end = day_of(now, zone)
    assert start <= now < end
    assert day_of(start, zone) == day_of(end - 1, zone) == (start, end)
    assert day_of(end, zone)[0] == end
    dates = {datetime.fromtimestamp(at // 1000, zone).date() for at in (start, now, end - 1)}
    assert len(dates) == 1


CLOCKS = st.builds(time, st.integers(0, 23), st.integers(0, 59))


@given(MOMENTS, st.sampled_from(ZONES), CLOCKS, CLOCKS)
def test_quiet_hours_end_and_by_the_clock_they_are_what_was_written(
    now: int, name: str, start: time, end: time
) -> None:
    zone = ZoneInfo(name)
    if start == end:
        return
    over = Hours(start, end).until(now, zone)
    assert over is None or now < over <= now + 50 * 3_600_000
    # Far from any change of the clocks the wall clock alone decides.
    offsets = {datetime.fromtimestamp(now // 1000 + day * 86_400, zone).utcoffset() for day in (-2, -1, 0, 1, 2)}
    if len(offsets) == 1:
        clock = datetime.fromtimestamp(now // 1000, zone).time()
        inside = start <= clock < end if start < end else clock >= start or clock < end
        assert (over is not None) == inside
        assert over is None or datetime.fromtimestamp(over // 1000, zone).time() == end


@pytest.mark.parametrize(
    "name",
    ["Mars/Phobos", "../../etc/passwd", "/etc/localtime", "Europe", "localtime", "right/UTC", "\0", "x" * 9999, 3],
)
def test_an_unknown_zone_is_utc_and_said_to_be(name: object) -> None:
    state = State(user="u", epoch="e", traits={"timezone": name})
    assert zone_of(state) is UTC
    assert "is no time zone" in zone_fault(state)


@pytest.mark.parametrize("traits", [{}, {"timezone": ""}, {"timezone": None}, {"timezone": "UTC"}])
def test_without_a_zone_it_is_utc(traits: dict[str, str]) -> None:
    state = State(user="u", epoch="e", traits=traits)
    assert day_of(ms("2026-01-05T12:00:00Z"), zone_of(state))[0] == ms("2026-01-05T00:00:00Z")
    assert zone_fault(state) == ""
