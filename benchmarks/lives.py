"""People who live through three visits under the starter rules, and what their turns leave in the store.

They live in a real runner, on a store in memory and a clock that is set. What its commits wrote is put together to one
commit each, so that many users may be given such a life at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.archive import FEATURES, STEPS
from benchmarks.figures import MeasurementFault
from benchmarks.replaying import STARTER
from handrail.core.events import Connected, Disconnected, Event, Identify, Track
from handrail.core.program import Program
from handrail.core.state import SEEN_FOR
from handrail.rulebook import load_sources, read_sources
from handrail.runner import Runner
from handrail.store import Commit
from handrail.store.memory import MemoryStore

VISITS, A_VISIT = 3, 10  # events, the first of which says who they are
BETWEEN, APART = 36 * 3_600_000, 40_000  # ms from visit to visit, and at most from event to event
ROLES = ("developer", "marketing", "sales", "support")


@dataclass(frozen=True)
class Life:
    """All that a user's turns have left in the store as one commit, the commit of the event that comes next, and the
    lines of the event log so far."""

    past: Commit
    coming: Commit
    lines: tuple[bytes, ...]


class Recorder(MemoryStore):
    """A store in memory that keeps the commits."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[Commit] = []

    async def commit(self, commit: Commit) -> bool:
        self.commits.append(commit)
        return await super().commit(commit)


def starter() -> Program:
    loaded = load_sources(read_sources(STARTER), {})
    if loaded.program is None:
        raise MeasurementFault(f"the starter rules cannot be loaded: {loaded.problems[0]}")
    return loaded.program


async def live(program: Program, number: int, now: int) -> Life:
    """The life of a person, the same for the same number, whose latest visit is over at `now`."""
    store, clock = Recorder(), [now]
    runner = Runner(store, lambda _user: program, lambda: clock[0], "bench")
    for event in _events(random.Random(number), now):
        clock[0] = event.at
        await runner.apply("somebody", event)
    *past, coming = store.commits
    last = past[-1]
    return Life(
        Commit(
            state=last.state,
            expected=0,
            op=last.op,
            frames=tuple(frame for commit in past for frame in commit.frames),
            alarm=last.alarm,
            seen=tuple(each for commit in past for each in commit.seen if each[1] > now - SEEN_FOR),
            node="bench",
            now=last.now,
        ),
        coming,
        tuple(line for commit in past for line in commit.log),
    )


def _events(chance: random.Random, end: int) -> Iterator[Event]:
    at = end - (VISITS - 1) * BETWEEN - VISITS * A_VISIT * APART
    for visit in range(VISITS):
        tab = f"c-{visit}"
        yield Connected(id=_id(chance), at=at, connection=tab, node="bench", device="browser", tab=tab)
        for number in range(A_VISIT):
            at += chance.randrange(APART // 4, APART)
            yield _deed(chance, at) if number else _introduction(chance, at)
        yield Disconnected(id=_id(chance), at=at + APART, connection=tab)
        at += BETWEEN
    yield _deed(chance, end)


def _introduction(chance: random.Random, at: int) -> Event:
    name = f"person-{chance.randrange(100_000):05}"
    traits = {"email": f"{name}@example.com", "role": chance.choice(ROLES), "first_name": name, "plan": "trial"}
    return Identify(id=_id(chance), at=at, traits=traits)


def _deed(chance: random.Random, at: int) -> Event:
    if chance.random() < 0.5:
        return Track(id=_id(chance), at=at, name="feature_used", properties={"feature": chance.choice(FEATURES)})
    name = chance.choice(("step_viewed", "step_viewed", "step_completed", "step_skipped"))
    return Track(id=_id(chance), at=at, name=name, properties={"step": chance.choice(STEPS)})


def _id(chance: random.Random) -> str:
    """As long as those of the browser client."""
    return f"{chance.getrandbits(128):032x}"
