"""Durations (`90s`, `1h30m`) and limits (`3 per 7d`) as rule files write them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Literal

from msgspec import Struct
from pydantic import BeforeValidator, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from handrail.core.problems import nearest

UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}
LONGEST = 10 * 365 * UNITS["d"]  # ten years: beyond it a deadline is a slip of the pen

_DURATION = re.compile(r"(?=[0-9])(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?")
_LIMIT = re.compile(r"([0-9]+) +per +(\S+)")
_WORDED = re.compile(r"([0-9]+)(?:([dhsw])[a-z]*|(m)(?:in[a-z]*)?)")  # 2days, 3min, 1w
_NAMED = {"minute": "1m", "hour": "1h", "week": "7d", "month": "30d"}


@lru_cache(maxsize=1_000)  # a rule set has few, and each many times
def parse_duration(text: str) -> int:
    """Milliseconds of a duration such as `90s` or `3d7h30m`. Raises ValueError with a text for the author."""
    found = _DURATION.fullmatch(text)
    if not found or len(text) > 40:
        raise ValueError(
            f"'{text[:40]}' is not a duration: write whole numbers with s, m, h, d, largest first, "
            f"as 90s or 1h30m{_likely(text)}"
        )
    total = sum(int(digits) * size for digits, size in zip(found.groups(), UNITS.values(), strict=True) if digits)
    if total > LONGEST:
        raise ValueError(f"'{text}' is longer than ten years (3650d), the longest duration there is")
    return total


def _likely(text: str) -> str:
    """What somebody who wrote `3 min` or `1w` most likely meant, as the tail of a message."""
    plain = text[:40].replace(" ", "").lower()
    worded = _WORDED.fullmatch(plain)
    if worded and not _DURATION.fullmatch(plain):
        count, unit = int(worded[1]), worded[2] or worded[3]
        plain = f"{7 * count}d" if unit == "w" else f"{count}{unit}"
    return f"; did you mean '{plain}'?" if _DURATION.fullmatch(plain) else ""


def format_duration(ms: int) -> str:
    """The shortest way to write a duration, rounded down to whole seconds: `1h30m`, `0s`."""
    parts = []
    for unit, size in UNITS.items():
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


class Limit(Struct, frozen=True):
    """At most `count` times `per` session, calendar day (the user's), sliding window of `window` ms, or ever."""

    count: int
    per: Literal["session", "day", "window", "ever"]
    window: int | None = None

    def __str__(self) -> str:
        if self.per == "ever":
            return "once" if self.count == 1 else f"{self.count} ever"
        return f"{self.count} per {self.per if self.window is None else format_duration(self.window)}"


ONCE = Limit(1, "ever")


@lru_cache(maxsize=1_000)
def parse_limit(text: str) -> Limit:
    """A limit from `1 per session`, `2 per day`, `3 per 7d` or `once`. Raises ValueError with a text for the author."""
    if text == "once":
        return ONCE
    found = _LIMIT.fullmatch(text) if len(text) <= 60 else None
    if not found:
        raise ValueError(
            f"'{text[:60]}' is not a limit: write 'once', or a number and a span, as '1 per session', '2 per day' "
            "or '3 per 7d'"
        )
    count, span = int(found[1]), found[2]
    if span == "session":
        return Limit(count, "session")
    if span == "day":
        return Limit(count, "day")
    window = _parse_span(span)
    if not window:
        raise ValueError(f"'{text}': the span of a limit must be longer than 0s")
    return Limit(count, "window", window)


def _parse_span(text: str) -> int:
    if not text[:1].isdigit():
        meant = _NAMED.get(text.removesuffix("s")) or nearest(text, ("session", "day"))
        hint = f"; did you mean '{meant}'?" if meant else ""
        raise ValueError(f"'{text[:40]}' is no span of a limit: write session, day or a duration such as 7d{hint}")
    return parse_duration(text)


def _read_duration(value: Any) -> int:
    if not isinstance(value, str):
        raise PydanticCustomError("duration_type", "a duration was expected")
    return parse_duration(value)


def _read_limit(value: Any) -> Limit:
    if not isinstance(value, str):
        raise PydanticCustomError("limit_type", "a limit was expected")
    return parse_limit(value)


def _gather(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


# Fields of rule files: a YAML string becomes milliseconds, one limit or a list of them a tuple.
Duration = Annotated[
    int,
    PlainValidator(_read_duration),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"}),
]
_ONE_LIMIT = {"type": "string", "pattern": f"^(once|{_LIMIT.pattern})$"}
OneLimit = Annotated[Limit, PlainValidator(_read_limit), WithJsonSchema(_ONE_LIMIT)]
Limits = Annotated[
    tuple[OneLimit, ...],
    BeforeValidator(_gather),
    WithJsonSchema({"anyOf": [_ONE_LIMIT, {"type": "array", "items": _ONE_LIMIT}]}),
]
