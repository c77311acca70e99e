"""One process of a simulation: run after run on a Valkey of its own, with a JSON line of news a second."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from typing import Any

import msgspec

from .mutants import MUTANTS
from .patches import SHORT, install

NEWS = 1.0  # seconds between lines

_encode = msgspec.json.Encoder().encode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--seed", "--stride", "--steps", "--runs"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--mutant", choices=MUTANTS)
    asked = parser.parse_args()
    install((*SHORT, *MUTANTS.get(asked.mutant, ())))
    work(asked.seed, asked.stride, steps=asked.steps, runs=asked.runs, seconds=asked.seconds)


def work(seed: int, stride: int, *, steps: int, runs: int, seconds: float) -> None:
    """Runs with seeds `stride` apart, until there were as many steps or runs, the time is over, or a promise broke."""
    from .rules import read_rules
    from .server import running
    from .world import World

    program = read_rules()
    gc.freeze()  # what is there by now need not be looked through between runs
    tally: Counter[str] = Counter()
    news: dict[str, Any] = {"steps": 0, "runs": 0, "digests": {}, "slowest": 0}
    began = said = time.monotonic()
    with running() as server:
        while news["steps"] < steps and news["runs"] < runs and time.monotonic() < began + seconds:
            gc.collect()
            world = World(seed, program, server)
            try:
                world.run()
            except Exception as fault:  # whatever it is, it is what this run found
                options = msgspec.to_builtins(world.options)
                tell(news | {"violation": describe(fault), "seed": seed, "step": world.loop.steps, "options": options})
                return
            tally += world.tally
            news["steps"] += world.loop.steps
            news["runs"] += 1
            news["slowest"] = max(news["slowest"], world.slowest)
            if runs <= 100:
                news["digests"][seed] = world.digest
            if time.monotonic() > said + NEWS:
                said = time.monotonic()
                tell({"steps": news["steps"]})
            seed += stride
    tell(news | {"tally": tally})


def describe(fault: BaseException) -> str:
    cause = f", because of {fault.__cause__!r}" if fault.__cause__ is not None else ""
    return f"{type(fault).__name__} {fault}{cause}"[:2_000]


def tell(news: dict[str, Any]) -> None:
    sys.stdout.write(_encode(news).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
