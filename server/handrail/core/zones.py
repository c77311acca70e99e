"""The user's own clock: days and hours in their IANA zone, over every change of daylight saving time.

An hour that a change leaves out is the instant of the change; of an hour that comes twice, what begins in it begins
with its first and what ends in it ends with its second.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from msgspec import Struct
from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from handrail.core.scalars import show
from handrail.core.state import State

DAY = timedelta(days=1)

_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_LOCAL = ("localtime", "posixrules", "Factory", "posix/", "right/")  # what these mean depends on the machine


def zone_of(state: State) -> tzinfo:
    """The zone of the trait `timezone`; UTC where there is none, or none of that name."""
    name = state.traits.get("timezone")
    return (zone_named(name) if isinstance(name, str) else None) or UTC


def zone_fault(state: State) -> str:
    """What is wrong with the user's zone, to end a line of the trace with; mostly nothing."""
    name = state.traits.get("timezone")
    if not name or (isinstance(name, str) and zone_named(name)):
        return ""
    return f", in UTC: {show(name)} is no time zone"


def day_of(now: int, zone: tzinfo) -> tuple[int, int]:
    """The first instants of the calendar day that `now` is in and of the day after."""
    today = _local(now, zone).date()
    return _instant(today, time(), zone), _instant(today + DAY, time(), zone)


def next_full(now: int, zone: tzinfo, *, seconds: int) -> int:
    """The next instant at which clocks in the zone show a full second, minute or hour, or are put forward or back."""
    at, local = now // 1000, _local(now, zone)
    rest = seconds - (local.minute * 60 + local.second) % seconds
    if _moved(at, at + rest, zone):
        rest = bisect_left(range(rest), True, key=lambda each: _moved(at, at + each, zone))
    return 1000 * (at + rest)


class Hours(Struct, frozen=True):
    """A span of each day by the clock on the user's wall; it goes past midnight when `end` is earlier than `start`."""

    start: time
    end: time

    def __str__(self) -> str:
        return f"{self.start:%H:%M} to {self.end:%H:%M}"

    def until(self, now: int, zone: tzinfo) -> int | None:
        """When the span ends that `now` is in; None outside of it."""
        today = _local(now, zone).date()
        for day in (today - DAY, today):
            last = day + DAY if self.end < self.start else day
            end = _instant(last, self.end, zone, second=True)
            if _instant(day, self.start, zone) <= now < end:
                return end
        return None


def _read_clock(value: Any) -> time:
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise PydanticCustomError("clock_type", "a time of day was expected")
    return time(int(found[1]), int(found[2]))


Clock = Annotated[
    time, PlainValidator(_read_clock), WithJsonSchema({"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"})
]


@lru_cache(maxsize=1_000)
def zone_named(name: str) -> ZoneInfo | None:
    try:
        return None if name.startswith(_LOCAL) else ZoneInfo(name)
    except (ValueError, LookupError, OSError):  # no such name, a folder's name, no name at all
        return None


def _local(now: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(now // 1000, zone)


@lru_cache(maxsize=10_000)  # users share zones, and ask about the same few days all day long
def _instant(day: date, clock: time, zone: tzinfo, *, second: bool = False) -> int:
    """When clocks in the zone show this time on this day; the first time or the second, where they do so twice."""
    early, late = (_seconds(day, clock, zone, fold) for fold in (0, 1))
    if late < early:  # left out: clocks went past it between these two
        return 1000 * (late + bisect_left(range(late, early), True, key=lambda at: _moved(late, at, zone)))
    return 1000 * (late if second else early)


def _seconds(day: date, clock: time, zone: tzinfo, fold: int) -> int:
    return int(datetime.combine(day, clock, zone).replace(fold=fold).timestamp())


def _moved(before: int, at: int, zone: tzinfo) -> bool:
    """Whether clocks were put forward in between."""
    return datetime.fromtimestamp(at, zone).utcoffset() != datetime.fromtimestamp(before, zone).utcoffset()
