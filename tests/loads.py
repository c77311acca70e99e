"""Events of many users at once, and what became of them."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection

from handrail.core.events import Track
from handrail.runner import Runner, TooManyConflicts
from handrail.store import RedisStore, Store, StoreDown
from handrail.timekeeping import wall_clock
from nodes import Node, hear, run_node

PACE = 0.02  # seconds between a user's acknowledged event and the next


class Load:
    """Each user's events one after another, sent again under their id until they are acknowledged, as clients do."""

    def __init__(self, runner: Runner, users: list[str]) -> None:
        self.runner = runner
        self.acked: dict[str, int] = dict.fromkeys(users, 0)
        self.times: dict[str, list[tuple[float, float]]] = {user: [] for user in users}  # sent, acknowledged
        self.refused = 0
        self._stop = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            for user in self.acked:
                group.create_task(self._send_on(user))
            yield
            self._stop.set()

    async def _send_on(self, user: str) -> None:
        while not self._stop.is_set():
            number, sent = self.acked[user] + 1, time.monotonic()
            event = Track(at=self.runner.clock(), id=f"{user}-{number}", name="greeted", properties={"n": number})
            while True:
                try:
                    await self.runner.submit(user, event)
                    break
                except (StoreDown, TooManyConflicts):
                    self.refused += 1
                    await asyncio.sleep(0.05)
            self.acked[user] = number
            self.times[user].append((sent, time.monotonic()))
            await asyncio.sleep(PACE)

    async def recover(self, users: list[str], since: float, within: float = 15) -> None:
        """Return when every one of them had an event acknowledged that was sent after that moment."""
        async with asyncio.timeout(within):
            while not all(self.times[user] and self.times[user][-1][0] > since for user in users):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def gap(self, users: list[str]) -> float:
        """The longest any of them waited for an acknowledgement."""
        return max(acked - sent for user in users for sent, acked in self.times[user])

    def p99(self, users: list[str], *, until: float = math.inf) -> float:
        took = sorted(acked - sent for user in users for sent, acked in self.times[user] if acked < until)
        return took[len(took) * 99 // 100]

    async def check(self, store: Store) -> tuple[int, int]:
        """(acknowledged events that are not in the store, events that had an effect twice)"""
        lost = twice = 0
        for user, count in self.acked.items():
            state = await store.load(user)
            assert state is not None
            lost += sum(f"{user}-{number}" not in state.seen for number in range(1, count + 1))
            told = [json.loads(data) for _, data in await store.outbox(user, 0, 5_000)]
            titles = [each["block"]["title"] for each in told if each["type"] == "content"]
            twice += len(titles) - len(set(titles))
        return lost, twice


@asynccontextmanager
async def node_on(url: str, name: str) -> AsyncIterator[Node]:
    """A process with all that goes on in it beside its connections."""
    store = await RedisStore.connect(url)
    async with run_node(store, wall_clock, name) as node:
        tasks = [asyncio.create_task(run()) for run in node.live.tasks().values()]
        yield node
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    await store.close()


async def see_all(client: ClientConnection, upto: int) -> None:
    """Every message up to an offset comes, in order, or with what is shown once more in another epoch."""
    offset = 0
    while offset < upto:
        message = await hear(client, "content", "welcome")
        assert message["offset"] == offset + 1 or (message["type"] == "welcome" and message["offset"] >= offset)
        offset = message["offset"]


def report(fault: str, **figures: float | str) -> None:
    sys.stdout.write("\n" + json.dumps({"fault": fault, **figures}) + "\n")
