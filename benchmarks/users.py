"""What users cost the store as there are more of them: memory of each, and what a commit takes.

A hundred made-up lives (`lives.py`) are written for as many users as are wanted, by the store's own commits; some of
these users then do one thing more. The store keeps no file meanwhile: that costs a commit the same however many users
there are. The event log, which is bounded, is weighed by itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from statistics import median
from time import perf_counter, process_time

from msgspec.structs import replace
from redis import Redis

from benchmarks import machine
from benchmarks.figures import MeasurementFault, Row, row
from benchmarks.lives import Life, live, starter
from benchmarks.servers import ground
from handrail.store import Commit, RedisStore
from handrail.store.keys import BUCKET_KEYS, user_keys
from handrail.store.scripts import LOG_MAX

SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (2_000, 10_000)
LIVES = 100  # users have them in turn
COMMITS, QUICK_COMMITS = 5_000, 1_000  # at each size
ALONE = 200  # of these one after the other
AT_ONCE = 500  # of the others under way
WEIGHED = 500  # users whose keys are weighed
MOST = 12_000  # bytes of memory that a user may take; users that there is no room for are not begun with
LONGEST = 150.0  # seconds that writing them may take, or they are not begun with either


class Population:
    """Users in a store, each with one of the lives. Who has done the thing that comes next cannot do it again."""

    def __init__(self, store: RedisStore, lives: Sequence[Life]) -> None:
        self._store = store
        self._lives = lives
        self._chance = random.Random(1)
        self._done: set[int] = set()
        self.size = 0

    async def grow(self, size: int) -> None:
        await self._store.commit(self._of(self.size, coming=False))  # which also loads the script
        await _write(self._store, (self._of(number, coming=False) for number in range(self.size + 1, size)))
        self.size = size

    def move(self, many: int) -> list[Commit]:
        """The commits of what so many of them do next."""
        movers: list[Commit] = []
        while len(movers) < many:
            number = self._chance.randrange(self.size)
            if number not in self._done:
                self._done.add(number)
                movers.append(self._of(number, coming=True))
        return movers

    def _of(self, number: int, *, coming: bool) -> Commit:
        life = self._lives[number % len(self._lives)]
        commit, user = life.coming if coming else life.past, name(number)
        return replace(commit, state=replace(commit.state, user=user, lineage=self._store.lineage(user)))


def name(number: int) -> str:
    return f"user-{number:015}"


def run(quick: bool) -> list[Row]:
    sizes, commits, pinned = QUICK_SIZES if quick else SIZES, QUICK_COMMITS if quick else COMMITS, machine.cores()
    with ground() as place, Redis.from_url(place.url, protocol=2) as redis:
        redis.config_set("appendonly", "no")
        with machine.staying_on(pinned and pinned[0]):  # no server needs that core, and the store has its own
            return asyncio.run(_measure(place.url, redis, sizes, commits))


async def _measure(url: str, redis: Redis, sizes: Sequence[int], commits: int) -> list[Row]:
    program, now = starter(), time.time_ns() // 1_000_000
    lives = [await live(program, number, now) for number in range(LIVES)]
    store = await RedisStore.connect(url, deadline=30, warn=False)
    population, weight, pace, rows = Population(store, lives), 0, 0.0, list[Row]()
    for size in sizes:
        of, more = f"{size:,} users", size - population.size
        if more * MOST > machine.free_bytes() or more * pace > LONGEST:
            rows.append(Row("", f"not here: {more * MOST / 2**30:.0f} GiB, {more * pace:.0f} s", of=of))
            break
        before, start = _memory(redis), perf_counter()
        await population.grow(size)
        weight, pace = weight + _memory(redis) - before, (perf_counter() - start) / more
        rows.append(row("memory each", [weight / size], "B", places=0, of=of))
        rows += await _move(store, redis, population, commits, of)
    await store.close()
    return [*rows, *_weigh(redis, population.size), _weigh_log(redis, lives)]


async def _move(store: RedisStore, redis: Redis, population: Population, many: int, of: str) -> list[Row]:
    """What commits cost where so many users are, those of users taken at random."""
    commits = population.move(many)
    stored, used = _seconds(redis), process_time()
    await _write(store, commits[ALONE:])
    stored, used = _seconds(redis) - stored, process_time() - used
    taken = [await _time(store, commit) for commit in commits[:ALONE]]
    return [
        row("store CPU a commit", [stored / (many - ALONE) * 1e6], "µs", places=1, of=of),
        row("client CPU a commit", [used / (many - ALONE) * 1e6], "µs", places=1, of=of),
        row("a commit alone", [median(taken) * 1_000], "ms", places=3, of=of),
    ]


async def _write(store: RedisStore, commits: Iterable[Commit]) -> None:
    ahead = iter(commits)
    while some := list(islice(ahead, AT_ONCE)):
        if not all(await _write_together(store, some)):
            raise MeasurementFault("a commit of the measurement was not written")


async def _write_together(store: RedisStore, commits: Sequence[Commit]) -> list[bool]:
    """Whether each was written, in the order of the answers."""
    answers, complete = list[bool](), asyncio.Event()

    def hear(written: bool) -> None:
        answers.append(written)
        if len(answers) == len(commits):
            complete.set()

    for commit in commits:
        store.write(commit, hear)
    await complete.wait()
    return answers


async def _time(store: RedisStore, commit: Commit) -> float:
    start = perf_counter()
    await _write(store, [commit])
    return perf_counter() - start


def _weigh(redis: Redis, size: int) -> Iterator[Row]:
    """What a user's keys take, on average, names and all."""
    users = [user_keys(name(number)) for number in random.Random(2).sample(range(size), WEIGHED)]
    for what, keys in {
        "a state": [each.state for each in users],
        "messages of the last day": [each.outbox for each in users],
        "event ids of the last day": [each.seen for each in users],
    }.items():
        yield row(f"  {what}", [sum(_bytes(redis, key) for key in keys) / WEIGHED], "B", places=0)
    timers = [(_bytes(redis, keys.timers), redis.zcard(keys.timers)) for keys in BUCKET_KEYS]
    armed = sum(many for _, many in timers)
    yield row("  a timer", [sum(taken for taken, _ in timers) / armed], "B", places=0)


def _weigh_log(redis: Redis, lives: Sequence[Life]) -> Row:
    """A line of an event log that is full."""
    lines, log = [line for life in lives for line in life.lines][-LOG_MAX:], BUCKET_KEYS[0].log
    redis.delete(log)
    for number, line in enumerate(lines):
        redis.xadd(log, {"user": name(number), "at": 1_700_000_000_000, "line": line})
    return row("  a line of the event log", [_bytes(redis, log) / len(lines)], "B", places=0)


def _bytes(redis: Redis, key: bytes) -> int:
    taken: int | None = redis.memory_usage(key, samples=0)
    return taken or 0


def _memory(redis: Redis) -> int:
    return int(redis.info("memory")["used_memory"])


def _seconds(redis: Redis) -> float:
    """Processor time of the store, finer than /proc tells it."""
    spent = redis.info("cpu")
    return float(spent["used_cpu_sys"]) + float(spent["used_cpu_user"])
