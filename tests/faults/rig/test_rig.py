"""The live faults, short: a few seconds each. `python -m tests.faults --long` does more of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from .faults import FAULTS
from .figures import Figures, merge, percentile, read_lines

GATE: dict[str, dict[str, Any]] = {
    "F1": {"kills": 2, "every": 1.0},
    "F2": {"rounds": 1},
    "F5": {"stopped": 3.0},
    "F15": {"hung": 3.0},
    "F26": {"cuts": 8},
}


async def check(name: str, folder: Path, **options: Any) -> None:
    figures = await FAULTS[name].run(folder, **options)
    sys.stdout.write(figures.line() + "\n")
    assert figures.broken == []


@pytest.mark.parametrize("name", GATE)
async def test_a_fault_in_the_gate(name: str, tmp_path: Path) -> None:
    await check(name, tmp_path, **GATE[name])


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in FAULTS if name not in GATE])
async def test_a_fault(name: str, tmp_path: Path) -> None:
    await check(name, tmp_path)


def test_rounds_are_added_up_and_their_worst_duration_counts() -> None:
    rounds: list[dict[str, Any]] = [{"lost": 1, "p99_ms": 9.0, "note": "a"}, {"lost": 2, "p99_ms": 4.0, "note": "b"}]
    assert merge(rounds) == {"lost": 3, "p99_ms": 9.0, "note": "b"}


def test_a_line_that_was_cut_short_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").write_text('{"fault": "F1", "lost": 0}\n{"fault": "F2", "lo')
    assert read_lines(tmp_path / "out") == [{"fault": "F1", "lost": 0}]
    assert read_lines(tmp_path / "none") == []


def test_a_duration_may_miss_its_goal_but_not_by_far() -> None:
    figures = Figures("F0")
    for value in (10, 15, 25):
        figures.bound("it took", value, 10, "ms")
    assert figures.missed == ["it took 15 ms, not 10", "it took 25 ms, not 10"]
    assert figures.broken == ["it took 25 ms"]


def test_percentiles() -> None:
    assert percentile([], 0.99) == 0
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([float(n) for n in range(100)], 0.99) == 99
