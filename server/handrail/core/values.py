"""What the operators of CEL do with plain Python values.

Whole numbers are int (of 64 bits), decimal ones float, times aware datetimes, durations timedeltas, all else is JSON.
Nothing here has an error text: what is not plainly a value is a Doubt, and the CEL library is asked instead.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Protocol

from handrail.core.zones import zone_named

LEAST, GREATEST = -(2**63), 2**63 - 1
EXACT = 2**53  # whole numbers up to this are decimal numbers, too, without loss
_LONG = timedelta(days=36_500)  # the library bounds durations; nobody waits this long
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RELATIONS = {"_<_": operator.lt, "_<=_": operator.le, "_>_": operator.gt, "_>=_": operator.ge}
_ORDERED = frozenset({int, float, str, bool, datetime, timedelta})


class Source(Protocol):
    """Where closures get the values of variables (see expressions.Scope)."""

    def variable(self, name: str, keys: frozenset[str] | None) -> object: ...


# (scope, the item that the loop around it is at) -> value
Closure = Callable[[Source, Any], Any]


class Doubt(Exception):
    """The library has to say what comes of it."""


class Missing(Doubt):
    """A mapping has no such `key`."""

    @property
    def key(self) -> str:
        return str(self.args[0])


def doubt(scope: Source, at: Any) -> Any:
    """The closure of an expression that there is none of."""
    raise Doubt


def clean(value: Any) -> Any:
    """The value, if it is one that CEL can hold."""
    kind = type(value)
    if kind is str:
        if not value.isascii():
            _encodable(value)
    elif kind is int:
        if not LEAST <= value <= GREATEST:
            raise Doubt
    elif kind is list:
        for each in value:
            clean(each)
    elif kind is dict:
        for key, each in value.items():
            if type(key) is not str:
                raise Doubt
            clean(key)
            clean(each)
    elif kind is not bool and kind is not float and value is not None:
        raise Doubt
    return value


def _encodable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Doubt from None


def same(left: Any, right: Any) -> bool:
    """`==`, which is false between values of different types, numbers apart."""
    kind, other = type(left), type(right)
    if kind is other:
        if kind is list:
            return len(left) == len(right) and all(map(same, left, right))
        if kind is dict:
            return left.keys() == right.keys() and all(same(each, right[key]) for key, each in left.items())
        return bool(left == right)
    return _mixed(left, right) and bool(left == right)


def differ(left: Any, right: Any) -> bool:
    return not same(left, right)


def _mixed(left: Any, right: Any) -> bool:
    """Whether one is a whole number and the other a decimal one."""
    kind, other = type(left), type(right)
    if not ((kind is int and other is float) or (kind is float and other is int)):
        return False
    if abs(left if kind is int else right) > EXACT:
        raise Doubt
    return True


def ordering(relation: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """`<` and its like."""

    def compare(left: Any, right: Any) -> bool:
        kind = type(left)
        if (kind is type(right) and kind in _ORDERED) or _mixed(left, right):
            return relation(left, right)
        raise Doubt

    return compare


def contains(member: Any, holder: Any) -> bool:
    """`in`."""
    if type(holder) is list:
        return any(same(member, each) for each in holder)
    if type(holder) is dict and type(member) is str:
        return member in holder
    raise Doubt


def entry(holder: Any, key: Any) -> Any:
    """What stands at a key of a mapping or an index of a list."""
    if type(holder) is dict and type(key) is str:
        if key not in holder:
            raise Missing(key)
        return holder[key]
    if type(holder) is list and type(key) is int and 0 <= key < len(holder):
        return holder[key]
    raise Doubt


def size(value: Any) -> int:
    if type(value) in (str, list, dict):
        return len(value)
    raise Doubt


# --- arithmetic ---

_SUMS = frozenset({(datetime, timedelta), (timedelta, datetime), (timedelta, timedelta)})
_DIFFERENCES = frozenset({(datetime, datetime), (datetime, timedelta), (timedelta, timedelta)})


def add(left: Any, right: Any) -> Any:
    kind, other = type(left), type(right)
    if kind is other and kind in (int, float, str, list):
        return _bounded(left + right)
    if (kind, other) in _SUMS:
        return _moment(operator.add, left, right)
    raise Doubt


def subtract(left: Any, right: Any) -> Any:
    kind, other = type(left), type(right)
    if kind is other and kind in (int, float):
        return _bounded(left - right)
    if (kind, other) in _DIFFERENCES:
        return _moment(operator.sub, left, right)
    raise Doubt


def multiply(left: Any, right: Any) -> Any:
    if type(left) is type(right) and type(left) in (int, float):
        return _bounded(left * right)
    raise Doubt


def divide(left: Any, right: Any) -> Any:
    if type(left) is not type(right) or type(left) not in (int, float) or not right:
        raise Doubt
    return left / right if type(left) is float else _bounded(_truncated(left, right))


def remain(left: Any, right: Any) -> Any:
    """`%`: the remainder has the sign of the dividend."""
    if type(left) is not int or type(right) is not int or not right:
        raise Doubt
    return left - right * _truncated(left, right)


def negate(value: Any) -> Any:
    if type(value) in (int, float):
        return _bounded(-value)
    raise Doubt


def _truncated(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _bounded(value: Any) -> Any:
    if type(value) is int and not LEAST <= value <= GREATEST:
        raise Doubt
    return value


def _moment(combine: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    try:
        found = combine(left, right)
    except OverflowError:
        raise Doubt from None
    if type(found) is timedelta and abs(found) > _LONG:
        raise Doubt
    return found


# --- conversions ---


def as_text(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(value)
    raise Doubt


def as_whole(value: Any) -> int:
    kind = type(value)
    if kind is int:
        return int(value)
    if kind is float and abs(value) < EXACT:
        return int(value)
    if kind is datetime and value >= _EPOCH:
        return int((value - _EPOCH) // timedelta(seconds=1))
    raise Doubt


def as_decimal(value: Any) -> float:
    if type(value) is float or (type(value) is int and abs(value) <= EXACT):
        return float(value)
    raise Doubt


_TIME = re.compile(r"(?:19[7-9]\d|2[01]\d\d)-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-][01]\d:[0-5]\d)", re.ASCII)
_LATEST = 2**32  # seconds since the epoch


def as_time(value: Any) -> datetime:
    """A time from ISO 8601 text or whole seconds since the epoch."""
    if type(value) is str and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except ValueError:
            raise Doubt from None
    if type(value) is int and 0 <= value <= _LATEST:
        return _EPOCH + timedelta(seconds=value)
    if type(value) is datetime:
        return value
    raise Doubt


# --- parts of times and durations ---

PARTS: dict[str, Callable[[datetime], int]] = {
    "getFullYear": lambda at: at.year,
    "getMonth": lambda at: at.month - 1,
    "getDate": lambda at: at.day,
    "getDayOfMonth": lambda at: at.day - 1,
    "getDayOfWeek": lambda at: at.isoweekday() % 7,
    "getDayOfYear": lambda at: at.timetuple().tm_yday - 1,
    "getHours": lambda at: at.hour,
    "getMinutes": lambda at: at.minute,
    "getSeconds": lambda at: at.second,
    "getMilliseconds": lambda at: at.microsecond // 1000,
}
SPANS = {"getHours": 3_600_000_000, "getMinutes": 60_000_000, "getSeconds": 1_000_000}  # microseconds
_MICROSECOND = timedelta(microseconds=1)


def micros(span: timedelta) -> int:
    return span // _MICROSECOND


def part(name: str, value: Any, zone: Any = None) -> int:
    """A part of a time, in UTC or the zone of that name; or a whole duration in hours, minutes or seconds."""
    if type(value) is datetime:
        return PARTS[name](value if zone is None else localized(value, zone))
    if type(value) is timedelta and zone is None and name in SPANS:
        return _truncated(micros(value), SPANS[name])
    raise Doubt


def localized(at: datetime, zone: Any) -> datetime:
    """The time on the clocks of the zone of that name."""
    try:
        return at.astimezone(zone_of_name(zone))
    except OverflowError:
        raise Doubt from None


def zone_of_name(name: Any) -> tzinfo:
    found = zone_named(name) if type(name) is str else None
    if found is None:
        raise Doubt
    return found


def whole_ms(at: datetime) -> int:
    """A time as milliseconds since the epoch."""
    return (at - _EPOCH) // timedelta(milliseconds=1)
