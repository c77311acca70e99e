"""What is accepted from outside, whichever way it comes in: sizes, shapes, names and times.

Every check returns what may be used or raises `BadInput`, which says what was wrong and what to send instead.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from handrail.core.events import SERVER_EVENTS

MAX_ID = 128  # characters
MAX_NAME = 128
MAX_EVENT = 16 * 1024  # bytes of JSON
MAX_DEPTH = 16
MAX_KEYS = 64  # in one object
MAX_INT = 2**53  # beyond it JavaScript no longer counts exactly
LATEST = 253_402_300_799_999  # ms: the end of the year 9999; later times cannot be written
FAR_FUTURE = 24 * 3_600_000

_POLLUTING = frozenset({"__proto__", "constructor", "prototype"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TIME_FIX = "Send ISO 8601 with a zone, such as 2026-03-01T12:00:00Z, or whole milliseconds since 1970."


class BadInput(Exception):
    """A caller's mistake: `code` for programs, `message` what was wrong, `fix` what to send instead."""

    def __init__(self, code: str, message: str, fix: str) -> None:
        super().__init__(code, message, fix)
        self.code = code
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class _Flaw(Exception):
    """A fault somewhere inside a value; the path to it is put together on the way out, where time does not matter."""

    def __init__(self, code: str, what: str, fix: str) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.fix = fix
        self.path: list[str] = []


def check_size(size: int, limit: int = MAX_EVENT) -> None:
    """Raises BadInput `too-large` when the JSON of one event has more bytes than that."""
    if size > limit:
        raise BadInput(
            "too-large",
            f"The event has {size} bytes; {limit} are allowed.",
            "Send smaller events, or refer to the data.",
        )


def check_id(value: str, where: str = "id") -> str:
    """An id: 1 to 128 characters, none of them a control character."""
    return _check_label(value, where, MAX_ID)


def check_label(value: str, where: str) -> str:
    """An optional id, such as a device: as an id, or empty."""
    return _check_label(value, where, MAX_ID) if value else value


def check_event_name(value: str, where: str = "name") -> str:
    """The name of an event a caller may send; names of events the server makes are reserved."""
    if value in SERVER_EVENTS:
        raise BadInput(
            "reserved-name", f"'{value}' is made by the server and cannot be sent.", "Use another event name."
        )
    return _check_label(value, where, MAX_NAME)


def check_properties(value: dict[str, Any], where: str = "properties") -> dict[str, Any]:
    """Free-form JSON as it may be stored: at most 16 deep, 64 keys an object, exact numbers, plain text."""
    try:
        _check_object(value, 1)
    except _Flaw as flaw:
        path = where + "".join(reversed(flaw.path))
        raise BadInput(flaw.code, f"{path} {flaw.what}.", flaw.fix) from None
    return value


def read_time(value: str | int | float) -> int:
    """A moment in milliseconds since 1970, from ISO 8601 text (UTC where no zone is given) or from milliseconds.

    Raises BadInput `bad-time`.
    """
    moment = _parse_text(value) if isinstance(value, str) else _parse_number(value)
    if not 0 <= moment <= LATEST:
        raise BadInput("bad-time", "The time lies before 1970 or too far ahead.", _TIME_FIX)
    return moment


def parse_time(value: str | int | float | None, now: int) -> int:
    """When an event happened, never later than `now`: absent means now, a clock that runs ahead is set back to now.

    Raises BadInput `bad-time`, or `far-future` when it is more than a day ahead.
    """
    if value is None:
        return now
    moment = read_time(value)
    if moment > now + FAR_FUTURE:
        raise BadInput(
            "far-future", "The time is more than a day ahead.", "Check the sender's clock, or leave the time out."
        )
    return min(moment, now)


def _check_label(value: str, where: str, most: int) -> str:
    if not isinstance(value, str):
        raise BadInput("bad-field", f"{where} is not text.", f"Send `{where}` as text.")
    if not value or value.isspace():
        raise BadInput("bad-field", f"{where} is empty.", f"Send `{where}` with 1 to {most} characters.")
    if len(value) > most:
        raise BadInput("too-large", f"{where} has {len(value)} characters; {most} are allowed.", f"Shorten `{where}`.")
    if not value.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in value):
        raise BadInput("bad-field", f"{where} has a character in it that is no text.", "Leave control characters out.")
    return value


def _check_object(value: dict[str, Any], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _Flaw("too-large", f"is nested more than {MAX_DEPTH} deep", "Send flatter data.")
    if len(value) > MAX_KEYS:
        raise _Flaw("too-large", f"has {len(value)} keys; {MAX_KEYS} are allowed", "Send fewer keys.")
    for key, item in value.items():
        try:
            _check_key(key)
            _check_value(item, depth)
        except _Flaw as flaw:
            flaw.path.append(f".{str(key)[:40]!a}" if not str(key).isidentifier() else f".{key[:40]}")
            raise


def _check_key(key: Any) -> None:
    if type(key) is not str:
        raise _Flaw("bad-field", "has a key that is not text", "Send objects with text keys.")
    if key in _POLLUTING:
        raise _Flaw("bad-field", "has a key that is not allowed", "Rename that key.")
    if len(key) > MAX_NAME:
        raise _Flaw("too-large", f"has a key of more than {MAX_NAME} characters", "Shorten that key.")
    _check_text(key)


def _check_value(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is str:
        _check_text(value)
    elif kind is int:
        if not -MAX_INT <= value <= MAX_INT:
            raise _Flaw("too-large", "is a whole number beyond 2^53", "Send such numbers as text.")
    elif kind is dict:
        _check_object(value, depth + 1)
    elif kind is list:
        _check_list(value, depth + 1)
    elif kind is float:
        if not math.isfinite(value):
            raise _Flaw("bad-field", "is not a number that JSON has", "Leave it out.")
    elif kind is not bool and value is not None:
        raise _Flaw("bad-field", "is nothing that JSON has", "Send JSON values.")


def _check_list(value: list[Any], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _Flaw("too-large", f"is nested more than {MAX_DEPTH} deep", "Send flatter data.")
    for index, item in enumerate(value):
        try:
            _check_value(item, depth)
        except _Flaw as flaw:
            flaw.path.append(f"[{index}]")
            raise


def _check_text(value: str) -> None:
    if "\0" in value:
        raise _Flaw("bad-field", "has a NUL character in it", "Leave control characters out.")
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise _Flaw("bad-field", "has half of a surrogate pair in it", "Send whole characters.")


def _parse_text(value: str) -> int:
    try:
        moment = datetime.fromisoformat(value if len(value) <= 64 else "")
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        raise BadInput("bad-time", f"{value[:64]!a} is no ISO 8601 time.", _TIME_FIX) from None


def _parse_number(value: int | float) -> int:
    if isinstance(value, bool) or not math.isfinite(value if abs(value) <= MAX_INT else math.inf):
        raise BadInput("bad-time", "The time is no count of milliseconds.", _TIME_FIX)
    return int(value)
