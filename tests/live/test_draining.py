"""Being sent away by a server that stops."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from handrail.live.draining import spread
from nodes import Node, Start, greet, hear, until


@pytest.mark.parametrize(
    ("connections", "longest_ms", "window_ms"), [(0, 10_000, 0), (5, 10_000, 100), (5_000, 30_000, 30_000), (9, 0, 0)]
)
def test_few_go_within_moments_and_many_over_the_whole_window(
    connections: int, longest_ms: int, window_ms: int
) -> None:
    assert spread(connections, longest_ms) == window_ms


async def test_goodbyes_are_spread_over_the_window(node: Node) -> None:
    clients = [await node.dial() for _ in range(50)]
    for number, client in enumerate(clients):
        await greet(client, f"u{number}")
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def wait_for_bye(number: int) -> float:
        bye = await hear(clients[number], "bye")
        assert bye["code"] == 4001
        assert bye["reconnect_ms"] >= 1_000  # the only process: nobody is to come back before all have left
        await clients[number].wait_closed()
        return loop.time() - began

    heard = asyncio.gather(*(wait_for_bye(number) for number in range(50)))
    await node.live.drain(window_ms=10_000)
    bins = Counter(int(at * 4) for at in await heard)
    assert len(bins) >= 4
    assert max(bins.values()) <= 25  # twice the mean of four quarters


async def test_with_others_there_clients_may_come_back_at_once(start: Start) -> None:
    one, two = await start("t-a"), await start("t-b")
    await two.live.presence.beat()
    await one.live.presence.beat()
    clients = [await one.dial() for _ in range(3)]
    for client in clients:
        await greet(client, "ada")
    draining = asyncio.create_task(one.live.drain(window_ms=60_000))
    for client in clients:
        assert (await hear(client, "bye"))["reconnect_ms"] < 2_000
    await draining
    await until(lambda: not one.live.users())


async def test_goodbyes_that_are_cut_short_reach_everybody_at_once(node: Node) -> None:
    clients = [await node.dial() for _ in range(50)]
    for number, client in enumerate(clients):
        await greet(client, f"u{number}")
    draining = asyncio.create_task(node.live.drain(window_ms=60_000))
    await asyncio.sleep(0.1)
    draining.cancel()
    async with asyncio.timeout(5):
        for client in clients:
            assert (await hear(client, "bye"))["code"] == 4001
