from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from handrail.outbound.lanes import AT_ONCE, PATIENCE_S, Lane


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def work(lane: Lane, clock: Clock, seconds: float, times: int = 1) -> None:
    for _ in range(times):
        async with lane.timed():
            clock.now += seconds


async def test_a_new_lane_takes_a_burst(clock: Clock) -> None:
    assert Lane(clock).room > 10_000


@pytest.mark.parametrize("seconds", [0.05, 1.0, 4.0])
async def test_a_lane_holds_what_it_works_off_in_time(clock: Clock, seconds: float) -> None:
    lane = Lane(clock)
    await work(lane, clock, seconds, 50)
    assert lane.room == pytest.approx(AT_ONCE * PATIENCE_S / seconds, rel=0.01, abs=1)


async def test_an_endpoint_that_hangs_shows_while_its_first_tries_are_under_way(clock: Clock) -> None:
    lane = Lane(clock)
    async with AsyncExitStack() as tries:
        for _ in range(AT_ONCE):
            await tries.enter_async_context(lane.timed())
        rooms = []
        for _ in range(4):
            clock.now += 2
            rooms.append(lane.room)
    assert rooms == [120, 60, 40, 30]


async def test_a_pause_without_work_is_no_sign_of_slowness(clock: Clock) -> None:
    lane = Lane(clock)
    await work(lane, clock, 0.01)
    clock.now += 3600
    async with lane.timed():
        assert lane.room > 10_000


async def test_an_endpoint_that_is_well_again_gets_its_room_back(clock: Clock) -> None:
    lane = Lane(clock)
    await work(lane, clock, 15, 20)
    assert lane.room == AT_ONCE * PATIENCE_S // 15
    await work(lane, clock, 0.01, 40)
    assert lane.room > 5_000


async def test_turns_are_bounded_and_in_order_and_the_newest_are_shed(clock: Clock) -> None:
    lane, shared, release = Lane(clock), asyncio.Semaphore(64), asyncio.Event()
    begun: list[int] = []

    async def job(number: int) -> None:
        async with lane.turn(shared), lane.timed():
            begun.append(number)
            await release.wait()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(job(number)) for number in range(100)]
        lane.held = len(tasks)
        await asyncio.sleep(0)
        assert begun == list(range(AT_ONCE))
        clock.now += 5
        assert lane.room == 48
        lane.shed()
        release.set()
    assert begun == list(range(48))
    assert [number for number, task in enumerate(tasks) if task.cancelled()] == list(range(48, 100))
    assert not lane.queue
