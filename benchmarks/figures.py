"""What was measured, and how it is summed up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Row:
    """A line of the table. `met` is None where there is no goal; `spread` says over what the value may vary."""

    what: str
    value: str
    spread: str = ""
    goal: str = ""
    met: bool | None = None


class MeasurementFault(Exception):
    """The figures would not mean what they say; the text says why."""


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def row(what: str, rounds: Sequence[float], unit: str, *, places: int = 2, below: float | None = None) -> Row:
    """The median of the rounds, with their least and greatest; the goal is to stay below or at `below`."""
    middle = median(rounds)
    return Row(
        what,
        f"{middle:,.{places}f} {unit}",
        f"{min(rounds):,.{places}f} – {max(rounds):,.{places}f}",
        "" if below is None else f"≤ {below:g} {unit}",
        None if below is None else middle <= below,
    )
