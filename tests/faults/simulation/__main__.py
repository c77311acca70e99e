"""`python -m tests.faults.simulation`: two processes simulate, and one line of JSON says what came of it.

--steps 2000000 --seed 7       as many steps, beginning with this seed
--seed 4711 --runs 1           one run once more, as it was
--mutant all                   plant each fault in turn; every one should be found
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

import msgspec

from .coverage import missing
from .mutants import MUTANTS

ROOT = Path(__file__).parents[3]
LANES = 2
SEARCH = 400_000  # steps in which a planted fault should be found
ENOUGH = 500_000  # steps after which everything that may happen should have

decode = msgspec.json.Decoder(dict[str, Any]).decode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.simulation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=10**9)
    parser.add_argument("--seconds", type=float, default=3_600.0, help="begin no further run after this long")
    parser.add_argument("--mutant", metavar="NAME", help=f"one of {', '.join(MUTANTS)}; several with commas; or all")
    asked = parser.parse_args()
    if asked.mutant:
        names = list(MUTANTS) if asked.mutant == "all" else asked.mutant.split(",")
        return search(names, seed=asked.seed, steps=min(asked.steps, SEARCH), seconds=asked.seconds)
    return simulate(seed=asked.seed, steps=asked.steps, runs=asked.runs, seconds=asked.seconds)


def simulate(*, seed: int, steps: int, runs: int, seconds: float) -> int:
    lanes = min(LANES, runs)
    began = time.monotonic()
    progress = Progress(steps, began)

    def follow(lane: int) -> dict[str, Any]:
        share = -(-runs // lanes)
        return run(lane, progress, seed=seed + lane, stride=lanes, steps=steps // lanes, runs=share, seconds=seconds)

    with ThreadPoolExecutor(lanes) as pool:
        ends = list(pool.map(follow, range(lanes)))
    progress.close()
    return report(ends, seed=seed, wall=time.monotonic() - began)


def report(ends: list[dict[str, Any]], *, seed: int, wall: float) -> int:
    tally: Counter[str] = Counter()
    for end in ends:
        tally += Counter(end.get("tally", {}))
    steps = sum(end["steps"] for end in ends)
    faults = [end for end in ends if "violation" in end]
    never = missing(tally) if steps >= ENOUGH and not faults else []
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = {
        "fault": "simulation",
        "seed": seed,
        "commit": commit(),
        "steps": steps,
        "runs": sum(end["runs"] for end in ends),
        "wall_s": round(wall, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "slowest_ms": max(end["slowest"] for end in ends),
        "violations": [{key: end[key] for key in ("violation", "seed", "step", "options")} for end in faults],
        "never": never,
        "tally": dict(sorted(tally.items())),
        "digests": {key: value for end in ends for key, value in end["digests"].items()},
    }
    say(line)
    return 1 if faults or never else 0


def search(names: list[str], *, seed: int, steps: int, seconds: float) -> int:
    """Whether each of these planted faults is found. One process a fault, two at a time."""
    began = time.monotonic()

    def hunt(name: str) -> dict[str, Any]:
        end = run(0, None, seed=seed, stride=1, steps=steps, runs=10**9, seconds=seconds, mutant=name)
        found = end.get("violation", "")
        sys.stderr.write(f"{name}: {found[:100] or 'NOT FOUND'}\n")
        return {"found": found[:200], "steps": end["steps"] + end.get("step", 0)}

    with ThreadPoolExecutor(LANES) as pool:
        ends = dict(zip(names, pool.map(hunt, names), strict=True))
    alive = [name for name, end in ends.items() if not end["found"]]
    say(
        {
            "fault": "mutants",
            "seed": seed,
            "commit": commit(),
            "planted": len(ends),
            "found": len(ends) - len(alive),
            "alive": alive,
            "most_steps": max(end["steps"] for end in ends.values()),
            "wall_s": round(time.monotonic() - began, 1),
            "by": ends,
        }
    )
    return 1 if alive else 0


def run(lane: int, progress: Progress | None, *, mutant: str = "", **options: Any) -> dict[str, Any]:
    """One lane to its end; its last line."""
    command = [sys.executable, "-W", "ignore", "-m", f"{__package__}.lane"]
    command += [f"--{name}={value}" for name, value in options.items()]
    command += [f"--mutant={mutant}"] if mutant else []
    paths = [str(ROOT / "server"), os.environ.get("PYTHONPATH", "")]
    environ = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(paths)}
    news: dict[str, Any] = {}
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        for line in child.stdout:
            news = decode(line)
            if progress is not None:
                progress.tell(lane, news["steps"])
        complaint = child.stderr.read()
    if child.returncode or "runs" not in news:
        raise SystemExit(f"a lane failed: {complaint[-2_000:]}")
    return news


class Progress:
    """How far the lanes are: on one line of a terminal, plain lines elsewhere."""

    def __init__(self, steps: int, began: float, out: TextIO = sys.stderr) -> None:
        self._steps = steps
        self._began = began
        self._out = out
        self._lanes: Counter[int] = Counter()
        self._said = began

    def tell(self, lane: int, steps: int) -> None:
        self._lanes[lane] = steps
        now = time.monotonic()
        pause = 0.5 if self._out.isatty() else 10.0
        if now > self._said + pause:
            self._said = now
            done = self._lanes.total()
            text = f"{done:,} of {self._steps:,} steps, {done / (now - self._began):,.0f} a second"
            self._out.write(f"\r{text} " if self._out.isatty() else f"{text}\n")
            self._out.flush()

    def close(self) -> None:
        if self._out.isatty():
            self._out.write("\n")


def commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip()


def say(line: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")


if __name__ == "__main__":
    sys.exit(main())
