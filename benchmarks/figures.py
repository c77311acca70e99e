"""What was measured, and how it is summed up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

OURS, OURS_SSE = "Handrail", "Handrail, SSE"
VERSIONS = "versions"  # the measure of a row that says what a server is made of


@dataclass(frozen=True)
class Row:
    """A figure of the table. `of` names the server where several are compared, and `rounds` holds what each round gave,
    in `unit`. `met` is None where there is no goal; `spread` says over what the value may vary."""

    what: str
    value: str
    spread: str = ""
    goal: str = ""
    met: bool | None = None
    of: str = ""
    unit: str = ""
    rounds: tuple[float, ...] = ()


class MeasurementFault(Exception):
    """The figures would not mean what they say; the text says why."""


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def row(
    what: str,
    rounds: Sequence[float],
    unit: str,
    *,
    places: int = 2,
    below: float | None = None,
    above: float | None = None,
    of: str = "",
) -> Row:
    """The median of the rounds, with their least and greatest; the goal is to stay at or `below`, or at or `above`."""
    middle = median(rounds)
    spread = f"{min(rounds):,.{places}f} – {max(rounds):,.{places}f}" if len(rounds) > 1 else ""
    goal, met = "", None
    if below is not None:
        goal, met = f"≤ {below:g} {unit}", middle <= below
    elif above is not None:
        goal, met = f"≥ {above:g} {unit}", middle >= above
    return Row(what, f"{middle:,.{places}f} {unit}".strip(), spread, goal.strip(), met, of, unit, tuple(rounds))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """One to the other, round by round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]
