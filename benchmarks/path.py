"""What an event costs below the sockets: from `Runner.submit` to those who hear of its commit, in one process.

A hundred users, each of whom sends the next event when the last one was heard of; the ten rules of `job`. The
store is a process of its own and syncs every commit. Deciding alone is the same event without store and runner. As
other work on the machine slows all of this alike, a plain loop over a dict is timed beside it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import process_time

from benchmarks import machine
from benchmarks.figures import MeasurementFault, Row, row
from benchmarks.job import RULES
from benchmarks.servers import Ground, ground
from handrail.core import engine
from handrail.core.events import Connected, Identify, Track
from handrail.core.program import Program
from handrail.core.rules import load
from handrail.counts import Counts
from handrail.guard import Guard
from handrail.runner import Runner
from handrail.store import RedisStore
from handrail.suspects import Suspects
from handrail.timekeeping import StoreTime
from handrail.turns import Outcome

USERS = 100
ROUNDS, QUICK_ROUNDS = 7, 2
SECONDS = 1.0
STEPS = 500
LOOPS = 200_000
TRAITS = {"plan": "trial", "first_name": "Ada", "email": "ada@example.com", "role": "admin", "team_size": 12}


def run(quick: bool) -> list[Row]:
    loaded = load({"rules.yaml": RULES}, {})
    if loaded.program is None:
        raise MeasurementFault(f"the rules cannot be loaded: {loaded.problems[0]}")
    with ground() as place:
        found = asyncio.run(_measure(place, loaded.program, QUICK_ROUNDS if quick else ROUNDS))
    loops, steps, paths, stores = zip(*found, strict=True)
    return [
        row("submit to heard", paths, "µs", places=0),
        row("  of these deciding", steps, "µs", places=0),
        row("  store CPU an event", stores, "µs", places=0),
        row("  a dict read and written, for scale", loops, "ns", places=0),
    ]


class Walkers:
    """Users who never pause; `heard` counts the events that were committed."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.heard = 0
        self.walking = True

    async def enter(self, user: str) -> None:
        runner, now = self._runner, self._runner.clock()
        runner.hold(user)
        await runner.submit(user, Connected(id="c", at=now, connection="c-1", node=runner.node))
        await runner.submit(user, Identify(id="i", at=now, traits=TRAITS))
        self._move(user, 0)

    def _move(self, user: str, place: int) -> None:
        event = Track(id=f"m-{place}", name="moved", at=self._runner.clock(), properties={"n": place})
        self._runner.submit(user, event).add_done_callback(lambda done: self._moved(user, place, done))

    def _moved(self, user: str, place: int, done: asyncio.Future[Outcome]) -> None:
        done.result()
        self.heard += 1
        if self.walking:
            self._move(user, place + 1)


async def _measure(place: Ground, program: Program, rounds: int) -> list[tuple[float, float, float, float]]:
    """(ns a loop, µs deciding, µs in all, µs of the store) for each round."""
    store, clock, counts = await RedisStore.connect(place.url), StoreTime(), Counts()
    await clock.look(store)
    guard = Guard(counts, Suspects(Path(place.folder) / "at-work", counts))
    runner = Runner(store, lambda _user: program, clock, "bench", lambda _commit: None, guard=guard, counts=counts)
    walkers = Walkers(runner)
    for number in range(USERS):
        await walkers.enter(f"u-{number}")
    measured = [await _round(walkers, place, runner, program) for _ in range(rounds + 1)]
    walkers.walking = False
    await runner.drain()
    await store.close()
    return measured[1:]  # the first warms up


async def _round(
    walkers: Walkers, place: Ground, runner: Runner, program: Program
) -> tuple[float, float, float, float]:
    heard, used, stored = walkers.heard, process_time(), machine.cpu_seconds(place.store.pid)
    await asyncio.sleep(SECONDS)
    events, used = walkers.heard - heard, process_time() - used
    stored = machine.cpu_seconds(place.store.pid) - stored
    return _loop() * 1e9, _decide(runner, program) * 1e6, used / events * 1e6, stored / events * 1e6


def _decide(runner: Runner, program: Program) -> float:
    """Seconds a step: one event after the other, as one user lives through them."""
    state = runner.recall("u-0")
    if state is None:
        raise MeasurementFault("the state of a user that is held is not in memory")
    first, now, start = len(state.seen), runner.clock(), process_time()
    for number in range(first, first + STEPS):
        event = Track(id=f"s-{number}", name="moved", at=now, properties={"n": number})
        state = engine.step(program, state, event, now).state
    return (process_time() - start) / STEPS


def _loop() -> float:
    table: dict[int, int] = {}
    start = process_time()
    for number in range(LOOPS):
        table[number & 255] = number
        table.get(number & 127)
    return (process_time() - start) / LOOPS
