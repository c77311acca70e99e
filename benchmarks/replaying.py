"""`handrail replay` on a made-up archive under the starter rules, as a process of its own.

Events a second of processor time, all of its processes taken together: what one core would do. Starting up, which a
long archive does not notice, is measured with an archive of a hundred events and taken off.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import archive
from benchmarks.figures import MeasurementFault, Row, row

EVENTS, QUICK_EVENTS = 60_000, 5_000
FEW = 100
ROUNDS, QUICK_ROUNDS = 3, 1
GOAL = 100_000
STARTER = Path(__file__).parents[1] / "rules"


def run(quick: bool) -> list[Row]:
    many, rounds = (QUICK_EVENTS, QUICK_ROUNDS) if quick else (EVENTS, ROUNDS)
    with TemporaryDirectory() as folder:
        short, long = Path(folder) / "short.jsonl", Path(folder) / "long.jsonl"
        archive.write(FEW, short)
        archive.write(many, long)
        rates = [(many - FEW) / (_replay(long) - _replay(short)) for _ in range(rounds)]
    return [
        row("events a second of processor time", rates, "events/s", places=0, above=GOAL),
        row("processor time an event", [1e6 / rate for rate in rates], "µs", places=0),
    ]


def _replay(path: Path) -> float:
    """Seconds of processor time, of the command and its processes."""
    before = _children_seconds()
    command = [sys.executable, "-m", "handrail", "replay", str(STARTER), str(path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasurementFault(f"the archive could not be replayed:\n{done.stderr[-1_000:]}")
    return _children_seconds() - before


def _children_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
