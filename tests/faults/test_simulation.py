"""The simulation's short lane: some hundred thousand steps, the same run twice, and a few planted faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
SEED = 739_942  # the same every time: what chance has still to find is for the long lane
STEPS = 200_000
SECONDS = 20  # no further run is begun after them
PLANTED = 5  # faults
# These take more steps than there is time for here.
RARE = {
    "acknowledged-behind-a-welcome",
    "acknowledged-though-refused",
    "leftovers-kept",
    "new-epoch-unannounced",
    "position-unchecked",
}


def simulate(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.faults.simulation", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr[-2_000:]
    line: dict[str, Any] = msgspec.json.decode(done.stdout)
    return line


def test_every_promise_holds(capsys: pytest.CaptureFixture[str]) -> None:
    line = simulate("--steps", str(STEPS), "--seconds", str(SECONDS), "--seed", str(SEED * 10_000))
    with capsys.disabled():
        print("\n" + msgspec.json.encode({key: line[key] for key in list(line)[:7]}).decode())
    assert line["violations"] == []
    assert line["steps"] > 0


def test_the_same_seed_is_the_same_run() -> None:
    one, two = (simulate("--runs", "4", "--seed", "77") for _ in range(2))
    assert len(one["digests"]) == 4
    assert one["digests"] == two["digests"]


def test_planted_faults_are_found() -> None:
    from simulation.mutants import MUTANTS

    names = sorted(MUTANTS.keys() - RARE)
    first = SEED * PLANTED % len(names)
    chosen = [*names, *names][first : first + PLANTED]
    assert simulate("--mutant", ",".join(chosen))["alive"] == []


@pytest.mark.long
def test_two_million_steps_and_every_planted_fault() -> None:
    line = simulate("--steps", "2000000", "--seed", "1")
    assert (line["violations"], line["never"]) == ([], [])
    found = simulate("--mutant", "all")
    assert found["found"] >= 0.95 * found["planted"], found["alive"]
