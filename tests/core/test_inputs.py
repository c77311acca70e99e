"""What is accepted from outside: any value gives itself or a BadInput, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail.core import inputs
from handrail.core.inputs import BadInput, check_event_name, check_id, check_properties, parse_time, read_time

NOW = 1_800_000_000_000
DAY = 86_400_000

TEXT = st.text(st.characters(codec=None), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


def refused(code: str, message: str) -> Any:
    return pytest.raises(BadInput, match=f"^{code}: {message}")


def attempt(check: Callable[..., Any], *arguments: Any) -> Any:
    """What the check returns, or the BadInput it raises; anything else it raises fails the test."""
    try:
        return check(*arguments)
    except BadInput as fault:
        fault.message.encode()
        return fault


@given(st.dictionaries(TEXT, JSON, max_size=5))
def test_properties_are_fit_to_be_stored_or_refused(value: dict[str, Any]) -> None:
    result = attempt(check_properties, value)
    if isinstance(result, BadInput):
        assert result.code in {"bad-field", "too-large"}
    else:
        assert result is value
        msgspec.json.encode(value)


@given(TEXT | st.integers() | st.floats() | st.booleans())
def test_a_time_is_read_or_refused(value: Any) -> None:
    result = attempt(parse_time, value, NOW)
    assert result.code in {"bad-time", "far-future"} if isinstance(result, BadInput) else 0 <= result <= NOW


@given(st.datetimes(timezones=st.timezones() | st.none()))
def test_any_datetime_is_read_or_refused(value: Any) -> None:
    result = attempt(read_time, value.isoformat())
    assert result.code == "bad-time" if isinstance(result, BadInput) else 0 <= result <= inputs.MAX_INT


@given(TEXT)
def test_an_id_is_plain_text_or_refused(value: str) -> None:
    result = attempt(check_id, value)
    if not isinstance(result, BadInput):
        assert result == value
        assert len(result.encode()) >= 1
        assert len(result) <= 128
        assert "\0" not in result


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, NOW),
        (NOW - 5, NOW - 5),
        (float(NOW - 5), NOW - 5),
        (NOW + DAY, NOW),
        ("2026-03-01T12:00:00Z", 1_772_366_400_000),
        ("2026-03-01T12:00:00.250Z", 1_772_366_400_250),
        ("2026-03-01T13:00:00+01:00", 1_772_366_400_000),
        ("2026-03-01T12:00:00", 1_772_366_400_000),
        ("2026-03-01", 1_772_323_200_000),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_times(value: Any, expected: int) -> None:
    assert parse_time(value, NOW) == expected


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (NOW + DAY + 1, "far-future"),
        ("2099-01-01T00:00:00Z", "far-future"),
        ("9999-12-31T23:59:59-23:59", "bad-time"),
        ("yesterday", "bad-time"),
        ("", "bad-time"),
        ("0001-01-01T00:00:00+23:59", "bad-time"),
        ("1969-12-31T23:59:59Z", "bad-time"),
        ("2026-03-01T12:00:00Z" + " " * 100, "bad-time"),
        (-1, "bad-time"),
        (True, "bad-time"),
        (10**400, "bad-time"),
        (float("nan"), "bad-time"),
        (float("inf"), "bad-time"),
    ],
)
def test_times_refused(value: Any, code: str) -> None:
    with refused(code, ""):
        parse_time(value, NOW)


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize("value", [{}, nested(16), {str(n): n for n in range(64)}, {"a": 2**53, "b": -(2**53)}])
def test_properties_at_the_limit(value: dict[str, Any]) -> None:
    assert check_properties(value) is value


@pytest.mark.parametrize(
    ("value", "code", "message"),
    [
        (nested(17), "too-large", r"properties(\.a){16} is nested more than 16 deep"),
        ({str(n): n for n in range(65)}, "too-large", "properties has 65 keys; 64 are allowed"),
        ({"a": [1, {"b": 2**53 + 1}]}, "too-large", r"properties\.a\[1\]\.b is a whole number beyond 2\^53"),
        ({"a": {"__proto__": 1}}, "bad-field", r"properties\.a\.__proto__ has a key that is not allowed"),
        ({"a": "x\0"}, "bad-field", r"properties\.a has a NUL character"),
        ({"a": "\ud800"}, "bad-field", r"properties\.a has half of a surrogate pair"),
        ({"odd key": float("inf")}, "bad-field", r"properties\.'odd key' is not a number"),
        ({"k" * 129: 1}, "too-large", r"properties\.k{40} has a key of more than 128"),
        ({"a": b"x"}, "bad-field", r"properties\.a is nothing that JSON has"),
    ],
)
def test_properties_refused(value: dict[str, Any], code: str, message: str) -> None:
    with refused(code, message):
        check_properties(value)


@pytest.mark.parametrize("name", ["session_started", "session_ended", "segment_entered", "segment_left"])
def test_names_of_server_events_are_reserved(name: str) -> None:
    with refused("reserved-name", ""):
        check_event_name(name)


@pytest.mark.parametrize("value", ["", " ", "x" * 129, "a\nb", "a\x7f", "\ud800", 7, None])
def test_ids_refused(value: Any) -> None:
    with pytest.raises(BadInput):
        check_id(value)


@pytest.mark.parametrize("value", ["x", "x" * 128, "a b", "ä€😀", "user:1/2"])
def test_ids(value: str) -> None:
    assert check_id(value) == value
