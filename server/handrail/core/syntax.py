"""The syntax tree of a checked CEL expression, read from the bytes the CEL library serialises it to.

The bytes are a `google.protobuf.Any` that holds a `cel.expr.CheckedExpr`. Its few messages are decoded here, by the
field numbers of the public syntax.proto and checked.proto. Nesting is bounded by CEL's own parser (32 levels).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from msgspec import Struct


class Unsigned(int):
    """The literal `1u`, as no data is."""


class Node(Struct, frozen=True):
    """One node. `at` is where it stands: an offset in code points of the source, or None.

    kind      name                      value           parts
    constant  -                         the literal     -
    name      the variable, dotted      -               -
    select    the field                 True for has()  the operand
    call      the function, as `_==_`   -               the target of a method if any, then the arguments
    list      -                         -               the elements
    mapping   -                         -               keys and values in turn
    loop      -                         -               range, start, condition, step, result
    """

    kind: str
    name: str = ""
    value: object = None
    parts: tuple[Node, ...] = ()
    at: int | None = None

    def walk(self) -> Iterator[Node]:
        """This node and all below it, depth first."""
        yield self
        for part in self.parts:
            yield from part.walk()


def parse_tree(serialized: bytes) -> Node:
    """The tree of `Expression.serialize()`. Raises ValueError if the bytes are not one."""
    try:
        checked = _message(_message(serialized)[2][0])
        info = _message(checked[5][0]) if 5 in checked else {}
        positions = dict(_position(entry) for entry in info.get(4, ()))
        return _node(checked[4][0], positions)
    except (LookupError, TypeError, struct.error) as error:
        raise ValueError(f"not a checked CEL expression: {error!r}") from error


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = data[at], 0
    if value < 0x80:
        return value, at + 1
    value = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _message(data: bytes) -> dict[int, list[Any]]:
    """The fields of one protobuf message, number -> values in order: integers as int, all else as bytes."""
    fields: dict[int, list[Any]] = {}
    at, end = 0, len(data)
    while at < end:
        tag, at = (data[at], at + 1) if data[at] < 0x80 else _varint(data, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = _varint(data, at)
        else:
            size, at = _varint(data, at) if tag & 7 == 2 else (_FIXED[tag & 7], at)
            value, at = data[at : at + size], at + size
            if at > end:
                raise IndexError("cut off")
        if tag >> 3 in fields:
            fields[tag >> 3].append(value)
        else:
            fields[tag >> 3] = [value]
    return fields


_FIXED = {1: 8, 5: 4}  # wire type -> bytes


def _position(entry: bytes) -> tuple[int, int]:
    fields = _message(entry)
    return fields.get(1, [0])[0], fields.get(2, [0])[0]


def _node(data: bytes, positions: dict[int, int]) -> Node:
    fields = _message(data)
    at = positions.get(fields.get(2, [0])[0])
    number = next(number for number in fields if number in _KINDS)
    inner = _message(fields[number][0])

    def parts(*numbers: int) -> tuple[Node, ...]:
        return tuple(_node(each, positions) for number in numbers for each in inner.get(number, ()))

    def text(number: int) -> str:
        return str(inner.get(number, [b""])[0], errors="replace")

    match _KINDS[number]:
        case "constant":
            return Node("constant", value=_constant(inner), at=at)
        case "name":
            return Node("name", text(1).removeprefix("."), at=at)
        case "select":
            return Node("select", text(2), bool(inner.get(3)), parts(1), at)
        case "call":
            return Node("call", text(2), None, parts(1, 3), at)
        case "list":
            return Node("list", parts=parts(1), at=at)
        case "mapping":
            entries = [_message(entry) for entry in inner.get(2, ())]
            pairs = [_node(entry[number][0], positions) for entry in entries for number in (3, 4) if number in entry]
            return Node("mapping", parts=tuple(pairs), at=at)
        case _:
            return Node("loop", text(1), None, parts(2, 4, 5, 6, 7), at)


_KINDS = {3: "constant", 4: "name", 5: "select", 6: "call", 7: "list", 8: "mapping", 9: "loop"}


def _constant(fields: dict[int, list[Any]]) -> object:
    number, (value, *_) = next(iter(fields.items()))
    match number:
        case 2:
            return bool(value)
        case 3:
            return value - 2**64 if value >= 2**63 else value
        case 4:
            return Unsigned(value)
        case 5:
            return struct.unpack("<d", value)[0]
        case 6:
            return str(value, errors="replace")
        case 7:
            return value
        case _:
            return None
