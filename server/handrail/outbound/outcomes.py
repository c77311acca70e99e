"""What becomes of one try to deliver, as a value, and how long to wait before the next."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from msgspec import Struct

_SECOND, _MINUTE, _HOUR = 1000, 60_000, 3_600_000
WAITS = (
    5 * _SECOND,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)  # before the second try, the third, …
JITTER = 0.1
LONGEST_ASKED = 12 * _HOUR  # of a Retry-After


class Delivered(Struct, frozen=True):
    """The receiver has it."""

    status: int


class Retry(Struct, frozen=True):
    """Try again in `after` milliseconds."""

    after: int
    reason: str


class Drop(Struct, frozen=True):
    """Never try again."""

    reason: str


Outcome = Delivered | Retry | Drop


def judge(status: int, retry_after: str | None, attempt: int, *, now: int, chance: float) -> Outcome:
    """The outcome of an answer. `attempt` counts earlier tries; `retry_after` is the header, honoured for 429 and 503;
    `chance` in [0, 1) sets the jitter."""
    if 200 <= status < 300:
        return Delivered(status)
    if status == 410:
        return Drop("answered 410 Gone")
    asked = asked_wait(retry_after, now) if retry_after and status in (429, 503) else 0
    reason = f"answered {status}, a redirect, which is not followed" if 300 <= status < 400 else f"answered {status}"
    return again(attempt, reason, chance=chance, at_least=asked)


def again(attempt: int, reason: str, *, chance: float, at_least: int = 0) -> Retry | Drop:
    """Retry by the schedule, ±10 %, but no sooner than `at_least` ms; Drop when all tries are used up."""
    if attempt >= len(WAITS):
        return Drop(f"gave up after {attempt + 1} tries, the last: {reason}")
    wait = round(WAITS[attempt] * (1 + JITTER * (2 * chance - 1)))
    return Retry(max(wait, at_least), reason)


def asked_wait(header: str, now: int) -> int:
    """Milliseconds that a Retry-After header (seconds or a date) asks for, at most 12 h; 0 when it cannot be read."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]) * _SECOND, LONGEST_ASKED)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0
    until = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0, min(int(until.timestamp() * 1000) - now, LONGEST_ASKED))
