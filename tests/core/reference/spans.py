"""Durations and limits as they stand in rule files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def length(text: str) -> int:
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))


def limits(written: Any) -> list[tuple[int, str]]:
    """(how many, per what) of `once`, `2 per 1h` or a list of such."""
    if written is None:
        return []
    several = written if isinstance(written, list) else [written]
    return [(1, "ever") if each == "once" else (int(each.split()[0]), each.split()[2]) for each in several]


def durations(document: Any) -> Iterator[int]:
    """Every duration that stands anywhere in a document."""
    if isinstance(document, dict):
        document = list(document.values())
    if isinstance(document, list):
        for each in document:
            yield from durations(each)
    elif isinstance(document, str):
        for word in document.split():
            if re.fullmatch(r"(\d+[smhd])+", word):
                yield length(word)
