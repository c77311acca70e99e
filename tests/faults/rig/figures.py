"""What a run comes to: a line of figures, and what should have held and did not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

Figure = int | float | str
TIMES = ("_ms", "_s")
SLACK = 2


@dataclass
class Figures:
    """`broken` says in words what did not hold; a run without any is a good one. `missed` are goals of speed that were
    not reached: a machine that is busy with other things misses some."""

    fault: str
    figures: dict[str, Figure] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def note(self, **figures: Figure) -> None:
        self.figures.update(figures)

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.broken.append(otherwise)

    def aim(self, what: str, value: float, goal: float, unit: str) -> None:
        """A duration that should be no longer than `goal`."""
        if value > goal:
            self.missed.append(f"{what} {value:g} {unit}, not {goal:g}")

    def bound(self, what: str, value: float, goal: float, unit: str) -> None:
        """A duration that should be no longer than `goal`, and must not be more than twice that."""
        self.aim(what, value, goal, unit)
        self.expect(value <= SLACK * goal, f"{what} {value:g} {unit}")

    def line(self, **more: Figure) -> str:
        return json.dumps({"fault": self.fault, **self.figures, "broken": self.broken, "missed": self.missed, **more})


def percentile(values: list[float], share: float) -> float:
    """Of the values in any order; 0 when there are none."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else 0.0


def read_lines(path: Path) -> list[dict[str, Figure]]:
    """The lines of earlier runs; one that was cut short in the writing counts for nothing."""
    found = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def merge(lines: list[dict[str, Figure]]) -> dict[str, Figure]:
    """Several rounds as one: durations are the worst of them, everything else is added up."""
    merged: dict[str, Figure] = {}
    for line in lines:
        for key, value in line.items():
            known = merged.get(key)
            if known is None or isinstance(known, str) or isinstance(value, str):
                merged[key] = value
            else:
                merged[key] = max(known, value) if key.endswith(TIMES) else known + value
    return merged
