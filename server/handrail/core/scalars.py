"""Plain scalars of YAML 1.2's core schema, and how values are called in messages."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

MAX_INT = 2**53  # beyond it JSON readers in browsers lose digits

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@lru_cache(maxsize=10_000)  # most plain scalars of a rule set are keys and words that come again
def resolve(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar in YAML 1.2's core schema. Raises ValueError for numbers JSON cannot carry."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INT.fullmatch(text):
        if len(text) > 400:
            raise ValueError("this number is too large: put it in quotes")
        number = int(text, 8) if text[:2] == "0o" else int(text, 16) if text[:2] == "0x" else int(text)
        if abs(number) > MAX_INT:
            raise ValueError(f"the number {text[:40]} is too large to be exact: put it in quotes")
        return number
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"'{text}' is not a number that rules can use: put it in quotes if it is text")
    if _FLOAT.fullmatch(text):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ValueError(f"the number {text[:40]} is too large")
        return value
    return text


def show(value: Any) -> str:
    """How a value is called in a message: `'text'`, `3`, `a list`."""
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= 40 else f"'{value[:37]}…'"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if not value:
        return "an empty list" if isinstance(value, list) else "an empty mapping"
    return "a list" if isinstance(value, list) else "a mapping"
