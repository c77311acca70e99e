"""The timer pump on a clock of its own: on time, once, whichever process is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from handrail.core.events import Connected, Track
from handrail.core.state import State
from handrail.live.timers import AT_ONCE, IN_FLIGHT, OVERDUE, SWEEP, Timers, share_out
from handrail.runner import Runner
from handrail.store import MemoryStore, RedisStore, Shelf, Store, StoreDown
from handrail.store.keys import BUCKETS
from handrail.turns import Committed
from nodes import PROGRAM, Clock, program_of, until

IDLE = 180_000


class Keeper:
    """One process's timers. `pump` lets it do all it would do at this instant."""

    def __init__(self, store: Store, clock: Clock, node: str = "t-a", nodes: frozenset[str] | None = None) -> None:
        self.fired: list[tuple[str, int]] = []
        self.clock = clock
        self.runner = Runner(store, lambda _user: PROGRAM, clock, node, self._note)
        self.timers = Timers(self.runner, nodes=lambda: nodes or frozenset({node}))

    def _note(self, commit: Committed) -> None:
        if commit.state.prompt is not None:
            self.fired.append((commit.user, self.clock.now))

    async def pump(self) -> None:
        for _ in range(50):
            await self.timers.turn()
            await self.runner.drain()

    async def connect(self, user: str) -> None:
        await self.runner.submit(user, Connected(id=f"{user}-c", at=self.clock(), connection="c-1", node="t-a"))


async def test_an_alarm_fires_when_it_is_due_and_once(store: RedisStore, clock: Clock) -> None:
    keeper = Keeper(store, clock)
    start = clock.now
    await keeper.connect("ada")
    for step in range(0, IDLE + 10_000, 500):
        clock.now = start + step
        await keeper.timers.turn()
        await keeper.runner.drain()
    assert keeper.fired[0] == ("ada", start + IDLE)
    assert len(keeper.fired) == 1


async def test_a_restart_during_the_wait_loses_nothing_and_repeats_nothing(
    memory_store: MemoryStore, clock: Clock
) -> None:
    await Keeper(memory_store, clock).connect("ada")
    clock.now += IDLE // 2
    second = Keeper(MemoryStore(memory_store.shelf), clock)
    await second.pump()
    assert second.fired == []
    clock.now += IDLE
    third = Keeper(MemoryStore(memory_store.shelf), clock)
    await third.pump()
    clock.now += SWEEP
    await third.pump()
    assert [user for user, _ in third.fired] == ["ada"]


async def test_activity_moves_the_alarm(memory_store: MemoryStore, clock: Clock) -> None:
    keeper = Keeper(memory_store, clock)
    await keeper.connect("ada")
    clock.now += IDLE - 500
    await keeper.pump()  # knows the alarm in advance
    await keeper.runner.submit("ada", Track(id="e1", name="anything", at=clock()))
    clock.now += 1_000
    await keeper.pump()
    assert keeper.fired == []


STAGGERED = """
trigger: follow-up
when: {delay: {after: {event: ordered}, for: 5s}}
then:
  - content: {slot: top, message: thanks}
---
message: thanks
kind: inline
title: "Thanks for {{ event.properties.n }}"
"""


async def test_an_alarm_that_moved_to_a_moment_just_past_fires_at_once(memory_store: MemoryStore, clock: Clock) -> None:
    program = program_of(STAGGERED)
    shown: list[int] = []
    runner = Runner(memory_store, lambda _user: program, clock, "t-a")
    runner.on_commit(lambda commit: shown.extend(offset for offset, _ in commit.frames))
    timers = Timers(runner, nodes=lambda: frozenset({"t-a"}))
    for number in range(3):
        await runner.submit("ada", Track(id=f"e{number}", name="ordered", at=clock(), properties={"n": number}))
        clock.now += 2
    clock.now += 5_000 - 6
    for _ in range(3):  # time goes on while a decision is being written
        await timers.turn()
        clock.now += 2
        await runner.drain()
        await asyncio.sleep(0)
    await timers.turn()
    await runner.drain()
    assert len(shown) == 3


async def test_two_processes_fire_each_alarm_once(memory_store: MemoryStore, clock: Clock) -> None:
    both = frozenset({"t-a", "t-b"})
    one = Keeper(memory_store, clock, "t-a", both)
    two = Keeper(MemoryStore(memory_store.shelf), clock, "t-b", both)
    for number in range(60):
        await one.connect(f"user-{number}")
    clock.now += IDLE
    await asyncio.gather(one.pump(), two.pump())
    assert one.fired
    assert two.fired
    assert sorted(user for user, _ in one.fired + two.fired) == sorted(f"user-{number}" for number in range(60))


async def test_alarms_of_a_process_that_does_nothing_are_fired_by_others_when_overdue(
    memory_store: MemoryStore, clock: Clock
) -> None:
    keeper = Keeper(memory_store, clock, "t-a", frozenset({"t-a", "t-dead"}))
    for number in range(20):
        await keeper.connect(f"user-{number}")
    clock.now += IDLE
    await keeper.pump()
    early = len(keeper.fired)
    assert 0 < early < 20
    clock.now += OVERDUE + SWEEP
    await keeper.pump()
    assert len(keeper.fired) == 20


async def test_many_due_at_once_are_fired_oldest_first_and_bounded(store: RedisStore, clock: Clock) -> None:
    keeper = Keeper(store, clock)
    for number in range(600):
        clock.now += 1
        await keeper.connect(f"user-{number}")
    clock.now += 2 * IDLE
    most = 0
    while len(keeper.fired) < 600:
        await keeper.timers.turn()
        most = max(most, len(keeper.runner._queues))
        await asyncio.sleep(0)
    assert most <= IN_FLIGHT
    numbers = [int(user.removeprefix("user-")) for user, _ in keeper.fired]
    assert sorted(numbers) == list(range(600))
    assert all(abs(place - number) < IN_FLIGHT for place, number in enumerate(numbers))


class Slow(MemoryStore):
    """One whose due alarms are read and then on their way for a while, and whose single loads are counted."""

    loads = 0

    def __init__(self, shelf: Shelf | None = None) -> None:
        super().__init__(shelf)
        self.on_the_way, self.arrives = asyncio.Event(), asyncio.Event()
        self.arrives.set()

    async def due(self, before: int, buckets: list[int] | None = None, limit: int = 200) -> list[tuple[int, str]]:
        found = await super().due(before, buckets, limit)
        self.on_the_way.set()
        await self.arrives.wait()
        return found

    async def load(self, user: str) -> State | None:
        self.loads += 1
        return await super().load(user)


@pytest.fixture
async def reading(clock: Clock) -> Keeper:
    """One that knows of an alarm, which is due now; the store is to be read again, which takes its time."""
    store = Slow()
    keeper = Keeper(store, clock)
    await keeper.connect("ada")
    clock.now += IDLE - 500
    await keeper.timers.turn()
    clock.now += SWEEP
    store.on_the_way.clear()
    store.arrives.clear()
    return keeper


async def test_a_slow_reading_of_the_store_holds_up_nothing_that_is_known(reading: Keeper) -> None:
    pumping = asyncio.create_task(reading.timers.run())
    await until(lambda: bool(reading.fired))
    pumping.cancel()


async def test_an_alarm_that_moved_while_it_was_read_does_not_ring_again(reading: Keeper) -> None:
    store, commits = reading.runner.store, reading.runner.counts.totals
    assert isinstance(store, Slow)
    turn = asyncio.create_task(reading.timers.turn())
    await store.on_the_way.wait()
    reading.timers.fire()
    await reading.runner.drain()
    before = commits["commits"]
    store.arrives.set()
    await turn
    await reading.runner.drain()
    assert commits["commits"] == before


async def test_those_whom_nobody_holds_are_read_together(clock: Clock) -> None:
    shelf = Shelf()
    setting = Keeper(MemoryStore(shelf), clock, "t-gone")
    for number in range(AT_ONCE):
        await setting.connect(f"user-{number}")
    store = Slow(shelf)
    read: list[int] = []
    bare = store.load_bare

    async def load_bare(users: Sequence[str]) -> list[State]:
        read.append(len(users))
        found = await bare(users)
        store.loads -= len(found)  # which memory has from there
        return found

    store.load_bare = load_bare  # type: ignore[method-assign]
    keeper = Keeper(store, clock)
    clock.now += IDLE
    await keeper.timers.turn()
    await keeper.runner.drain()
    assert (len(keeper.fired), read, store.loads) == (AT_ONCE, [AT_ONCE], 0)


class Away(MemoryStore):
    away = False

    async def due(self, before: int, buckets: list[int] | None = None, limit: int = 200) -> list[tuple[int, str]]:
        if self.away:
            raise StoreDown
        return await super().due(before, buckets, limit)


async def test_while_the_store_is_away_what_is_known_still_fires(clock: Clock) -> None:
    store = Away()
    keeper = Keeper(store, clock)
    await keeper.connect("ada")
    clock.now += IDLE - 500
    await keeper.pump()
    store.away = True
    clock.now += SWEEP
    with pytest.raises(StoreDown):
        await keeper.timers.turn()
    await keeper.runner.drain()
    assert [user for user, _ in keeper.fired] == ["ada"]


async def test_the_pump_wakes_for_an_alarm_of_the_near_future(
    memory_store: MemoryStore, wall: Callable[[], int]
) -> None:
    clock = Clock(wall())
    runner = Runner(memory_store, lambda _user: PROGRAM, wall, "t-a")
    fired = asyncio.Event()
    runner.on_commit(lambda commit: fired.set() if commit.state.prompt else None)
    timers = Timers(runner, nodes=lambda: frozenset({"t-a"}))
    task = asyncio.create_task(timers.run())
    past = clock() - IDLE + 300
    await runner.submit("ada", Connected(id="c", at=clock(), connection="c-1", node="t-a", idle_ms=clock() - past))
    async with asyncio.timeout(3):
        await fired.wait()
    assert 0 <= wall() - (past + IDLE) < 250
    task.cancel()


@pytest.fixture
def wall() -> Callable[[], int]:
    loop_start = Clock().now
    loop = asyncio.new_event_loop()
    begin = loop.time()
    loop.close()
    return lambda: loop_start + int((asyncio.get_running_loop().time() - begin) * 1_000)


def test_buckets_are_shared_out_evenly_and_wholly() -> None:
    nodes = frozenset({"t-a", "t-b", "t-c", "w-d"})
    shares = {node: share_out(nodes, node)[0] or [] for node in nodes}
    assert sorted(bucket for share in shares.values() for bucket in share) == list(range(BUCKETS))
    assert shares["w-d"] == []
    assert all(250 < len(shares[node]) < 430 for node in ("t-a", "t-b", "t-c"))


def test_without_a_keeper_of_timers_the_others_keep_them() -> None:
    assert share_out(frozenset({"w-a"}), "w-a") == (None, [])
    mine, others = share_out(frozenset({"w-a", "w-b"}), "w-a")
    assert mine is not None
    assert len(mine) + len(others) == BUCKETS
