"""Loops of CEL as closures: what all, exists, exists_one, map and filter are made of."""

from __future__ import annotations

from typing import Any

from handrail.core.values import Closure, Doubt, Missing, Source


def any_item(over: Closure, test: Closure, decisive: bool) -> Closure:
    """`exists` or `all`: one item decides, else an error, else that there is none that does."""

    def find(scope: Source, at: Any) -> bool:
        doubt: Doubt | None = None
        for item in _items(over(scope, at), mappings=True):
            try:
                value: object = test(scope, item)
            except Doubt as found:
                doubt = Doubt() if doubt else found  # of several errors it is hard to say which is told
                continue
            if value is decisive:
                return decisive
            if type(value) is not bool:
                doubt = Doubt()
        if doubt is not None:
            raise doubt
        return not decisive

    return find


def one_item(over: Closure, test: Closure) -> Closure:
    def count(scope: Source, at: Any) -> bool:
        return sum(_holds(test, scope, item) for item in _items(over(scope, at), mappings=True)) == 1

    return count


def gather(over: Closure, test: Closure | None, made: Closure) -> Closure:
    def collect(scope: Source, at: Any) -> list[Any]:
        items = _items(over(scope, at), mappings=False)  # of a mapping they come in no order
        return [_sure(made, scope, item) for item in items if test is None or _holds(test, scope, item)]

    return collect


def _items(value: Any, *, mappings: bool) -> Any:
    if type(value) is list or (mappings and type(value) is dict):
        return value
    raise Doubt


def _holds(test: Closure, scope: Source, item: Any) -> bool:
    value = _sure(test, scope, item)
    if type(value) is bool:
        return value is True
    raise Doubt


def _sure(read: Closure, scope: Source, item: Any) -> Any:
    """A value; of errors it is hard to say which of several is told."""
    try:
        return read(scope, item)
    except Missing:
        raise Doubt from None
