"""Operators and functions of CEL as closures of their operands' closures. `closures.py` finds them in syntax trees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from handrail.core import values
from handrail.core.syntax import Node
from handrail.core.values import GREATEST, LEAST, Closure, Doubt, Source, same

UNARY: dict[str, Callable[[Any], Any]] = {
    "-_": values.negate,
    "size": values.size,
    "string": values.as_text,
    "int": values.as_whole,
    "double": values.as_decimal,
    "timestamp": values.as_time,
    "dyn": lambda value: value,
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "_==_": same,
    "_!=_": values.differ,
    **{name: values.ordering(relation) for name, relation in values.RELATIONS.items()},
    "_+_": values.add,
    "_-_": values.subtract,
    "_*_": values.multiply,
    "_/_": values.divide,
    "_%_": values.remain,
    "_[_]": values.entry,
    "@in": values.contains,
}
TEXTUAL: dict[str, Callable[[str, str], bool]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": str.__contains__,
}


def join(parts: list[Closure], decisive: bool) -> Closure:
    """`&&`, which a false part decides, or `||`, which a true one does, whatever the others are."""
    passing = not decisive

    def joined(scope: Source, at: Any) -> bool:
        fault: Doubt | None = None
        odd = False
        for part in parts:
            try:
                value: object = part(scope, at)
            except Doubt as raised:
                fault = fault or raised
                continue
            if value is passing:
                continue
            if value is decisive:
                return decisive
            odd = True
        if odd:
            raise Doubt
        if fault is not None:
            raise fault
        return passing

    return joined


def negate(operand: Closure) -> Closure:
    def negated(scope: Source, at: Any) -> bool:
        value = operand(scope, at)
        if type(value) is bool:
            return value is False
        raise Doubt

    return negated


def choose(condition: Closure, then: Closure, otherwise: Closure) -> Closure:
    def chosen(scope: Source, at: Any) -> Any:
        holds = condition(scope, at)
        if type(holds) is bool:
            return then(scope, at) if holds else otherwise(scope, at)
        raise Doubt

    return chosen


def unary(function: Callable[[Any], Any], operand: Closure) -> Closure:
    return lambda scope, at: function(operand(scope, at))


def binary(name: str, left: Closure, right: Closure, parts: tuple[Node, ...]) -> Closure:
    """An operator; what most conditions ask, about constant text, is done at once."""
    first, second = parts[0].value, parts[1].value
    if isinstance(second, str) and name in ("_==_", "_!=_"):
        return _is_text(left, second, name == "_==_")
    if name == "@in" and isinstance(first, str) and parts[1].name == "user.segments":
        return lambda scope, at: first in right(scope, at)
    if name == "@in" and parts[1].kind == "list" and all(isinstance(each.value, str) for each in parts[1].parts):
        return _is_one_of(left, frozenset(str(each.value) for each in parts[1].parts))
    function = BINARY[name]
    if name in values.RELATIONS and type(second) is int and parts[1].kind == "constant":
        return _compares(left, values.RELATIONS[name], second, function)
    if parts[1].kind == "constant":
        return lambda scope, at: function(left(scope, at), second)
    return lambda scope, at: function(left(scope, at), right(scope, at))


def entry_is_text(otherwise: Closure, name: str, key: str, text: str, wanted: bool) -> Closure:
    keys = frozenset({key})

    def is_it(scope: Source, at: Any) -> Any:
        found: Any = scope.variable(name, keys)
        if type(found) is dict:
            value = found.get(key)
            if type(value) is str and value.isascii():
                return (value == text) is wanted
        return otherwise(scope, at)

    return is_it


def entry_compares(
    otherwise: Closure, name: str, key: str, relation: Callable[[Any, Any], bool], number: int
) -> Closure:
    keys = frozenset({key})

    def compares(scope: Source, at: Any) -> Any:
        found: Any = scope.variable(name, keys)
        if type(found) is dict:
            value = found.get(key)
            if type(value) is int and LEAST <= value <= GREATEST:
                return relation(value, number)
        return otherwise(scope, at)

    return compares


def _is_text(operand: Closure, text: str, wanted: bool) -> Closure:
    def is_text(scope: Source, at: Any) -> bool:
        value = operand(scope, at)
        return (type(value) is str and value == text) is wanted

    return is_text


def _compares(
    operand: Closure, relation: Callable[[Any, Any], bool], number: int, function: Callable[[Any, Any], Any]
) -> Closure:
    """Against a whole number, mostly of one."""

    def compares(scope: Source, at: Any) -> Any:
        value = operand(scope, at)
        return relation(value, number) if type(value) is int else function(value, number)

    return compares


def _is_one_of(operand: Closure, texts: frozenset[str]) -> Closure:
    def is_one_of(scope: Source, at: Any) -> bool:
        value = operand(scope, at)
        return type(value) is str and value in texts

    return is_one_of


def text_test(test: Callable[[str, str], bool], left: Closure, right: Closure) -> Closure:
    def tested(scope: Source, at: Any) -> bool:
        text, wanted = left(scope, at), right(scope, at)
        if type(text) is str and type(wanted) is str:
            return test(text, wanted)
        raise Doubt

    return tested


def time_part(name: str, operand: Closure, zone: Closure | None = None) -> Closure:
    """A part of a time or of a duration, such as its hours."""
    if zone is None:
        return lambda scope, at: values.part(name, operand(scope, at))
    return lambda scope, at: values.part(name, operand(scope, at), zone(scope, at))
