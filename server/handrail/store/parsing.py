"""What comes out of Redis, from bytes to values: whatever is not what Handrail writes there is told, never trusted.

Where it is one user's, it is a CorruptState that names the key. Of lists that many share, what cannot be read is passed
over and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from handrail.store.keys import bucket_of
from handrail.store.protocol import CorruptState

LARGEST = 2**53  # a time that a sorted set holds exactly

Entries = list[tuple[bytes, list[bytes]]]  # of a stream: id and fields


class Line(NamedTuple):
    user: bytes
    at: int
    line: dict[str, Any]


class _Message(Struct):
    """The least a numbered message has."""

    type: str
    offset: int


_message = msgspec.json.Decoder(_Message)
_object = msgspec.json.Decoder(dict[str, Any])


def parse_messages(key: bytes, entries: Entries) -> list[tuple[int, bytes]]:
    """(offset, JSON) of an outbox. Raises CorruptState."""
    try:
        return [_parse_message(entry, fields) for entry, fields in entries]
    except (ValueError, TypeError, RecursionError, msgspec.MsgspecError) as error:
        raise CorruptState(f"{key!r} does not hold messages ({error})") from error


def _parse_message(entry: bytes, fields: list[bytes]) -> tuple[int, bytes]:
    offset, (_, data) = int(entry.partition(b"-")[0]), fields
    if _message.decode(data).offset != offset or not data.startswith(b'{"type":"'):  # what sends it relies on that
        raise ValueError("a message stands in another's place")
    return offset, data


def parse_line(fields: dict[bytes, bytes]) -> Line | None:
    """An entry of the event log, or None for what is none."""
    try:
        line = _object.decode(fields[b"line"])
        return Line(fields[b"user"], int(fields[b"at"]), line)
    except (KeyError, ValueError, RecursionError, msgspec.MsgspecError):
        return None


def parse_due(bucket: int, members: Iterable[tuple[bytes, float]]) -> Iterator[tuple[int, str] | None]:
    """(due, user) of each timer of a bucket, or None for one that is none."""
    for member, at in members:
        user = parse_name(member)
        fits = user is not None and bucket_of(user) == bucket and 0 <= at < LARGEST
        yield (int(at), user) if user is not None and fits else None


def parse_name(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
