"""F23: a server that Sentinels watch is killed, or stops to answer, under load. Each prints a line of figures."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from clusters import Watched
from loads import Load, node_on, report, see_all
from nodes import greet

GAP = 4.5  # seconds, with down-after-milliseconds 1000; a machine with nothing else to do needs less than 3
USERS = [f"u{number}" for number in range(10)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
async def test_f23_a_failover_that_sentinels_decide(watched_pair: Watched, number: signal.Signals) -> None:
    victim = watched_pair.master
    async with node_on(watched_pair.url, "t-a") as node, node.dial() as client:
        load = Load(node.runner, USERS)
        await greet(client, USERS[0])
        async with load.running():
            await asyncio.sleep(0.5)
            victim.signal(number)
            await load.recover(USERS, time.monotonic())
        lost, twice = await load.check(node.store)
        async with asyncio.timeout(5):
            await see_all(client, load.acked[USERS[0]])
    report(
        "F23",
        by=number.name,
        events=sum(load.acked.values()),
        acked_lost=lost,
        twice=twice,
        gap_s=round(load.gap(USERS), 2),
        refused=load.refused,
        sockets_dropped=0,
    )
    assert (lost, twice) == (0, 0)
    assert load.gap(USERS) <= GAP
