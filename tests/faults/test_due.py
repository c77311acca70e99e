"""F32: very many timers fall due at once, and nobody who is there notices."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis
from rig.processes import Server
from websockets.asyncio.client import connect

from handrail.core import engine
from handrail.core.events import Track
from handrail.core.program import Program
from handrail.store import Commit, Embedded, RedisStore
from handrail.store.keys import BUCKET_KEYS, BUCKETS, bucket_of
from nodes import greet, hear, program_of, say

RULES = """
trigger: greet
when: {event: greeted}
then:
  - content: {slot: top, message: hello}
---
trigger: nudge
when: {delay: {after: {event: started}, for: 25m}}
then:
  - set: {nudged: true}
---
message: hello
kind: inline
title: "Hello {{ event.properties.n }}"
"""
DELAY = 25 * 60_000
SOON = 1_000  # ms from arming to the moment at which all fall due
AT_ONCE = 500  # commits under way while it is prepared
PAGES, PAUSE = 10, 0.1  # who is there meanwhile, and how often each does something
QUIET = 1.0  # seconds of their pushes before anything is due
WITHIN = 120.0  # seconds, on a machine that is busy


async def prepare(store: RedisStore, program: Program, users: list[str], due: int) -> None:
    """Have them done what the delay waits for, so that it is over by `due`; no timer is armed yet."""

    async def commit(number: int) -> None:
        event = Track(id="begun", name="started", at=due - DELAY)
        state = engine.step(program, engine.fresh(program, users[number], "e-1", event.at), event, event.at).state
        assert engine.alarm(program, state) == due
        state = msgspec.structs.replace(state, version=1, op=f"{number:016x}", lineage=store.lineage(state.user))
        seen = ((event.id, event.at),)
        assert await store.commit(Commit(state=state, expected=0, op=state.op, seen=seen, node="t-0", now=event.at))

    for start in range(0, len(users), AT_ONCE):
        await asyncio.gather(*map(commit, range(start, min(start + AT_ONCE, len(users)))))


async def arm(url: str, users: list[str], due: int) -> None:
    async with Redis.from_url(url, protocol=3) as redis, redis.pipeline(transaction=False) as pipeline:
        for user in users:
            pipeline.zadd(BUCKET_KEYS[bucket_of(user)].timers, {user: due})
        await pipeline.execute()


async def firings(store: RedisStore, since: int) -> dict[str, list[int]]:
    """When each user's was decided, as the event log has it."""
    found: dict[str, list[int]] = {}
    async for line in store.follow(None, since, live=False):
        if any(decision["trigger"] == "nudge" for decision in line["decisions"]):
            found.setdefault(line["user"], []).append(line["now"])
    return found


async def work(server: Server, user: str, pushes: dict[float, float]) -> None:
    """Do something now and then; `pushes` tell when, and the seconds until what it leads to was there."""
    url = server.base.replace("http", "ws") + "/updates"
    async with connect(url, compression=None, proxy=None) as page:
        await greet(page, user)
        while True:
            began = time.perf_counter()
            await say(page, "track", id=f"{user}-{began}", name="greeted", properties={"n": began})
            await hear(page, "content")
            pushes[began] = time.perf_counter() - began
            await asyncio.sleep(PAUSE)


@asynccontextmanager
async def working(server: Server, pushes: dict[float, float]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work(server, f"page-{number}", pushes)) for number in range(PAGES)]
    try:
        yield
        assert not any(task.done() for task in tasks), "a page fell silent"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def drained(store: RedisStore, due: int) -> None:
    async with asyncio.timeout(WITHIN):
        for bucket in range(BUCKETS):  # one after the other: the asking must not be the load
            while await store.due(due, [bucket], limit=1):  # noqa: ASYNC110 - what is waited for is in another process
                await asyncio.sleep(0.02)


def p99_ms(values: list[float]) -> float:
    return round(sorted(values)[ceil(len(values) * 0.99) - 1] * 1_000, 1)


async def fall_due(store: RedisStore, url: str, folder: Path, many: int) -> None:
    program, users = program_of(RULES), [f"due-{number}" for number in range(many)]
    (folder / "rules").mkdir()
    (folder / "rules" / "rules.yaml").write_text(RULES)
    server, pushes = Server(folder, "server", url, rules=folder / "rules"), dict[float, float]()
    began = await store.time()
    await prepare(store, program, users, began)
    try:
        await server.start()
        async with working(server, pushes):
            await asyncio.sleep(QUIET)
            due, armed = await store.time() + SOON, time.perf_counter()
            await arm(url, users, due)
            await asyncio.sleep(max(0, due - await store.time()) / 1_000)
            fell_due = time.perf_counter()
            await drained(store, due)
            took = (await store.time() - due) / 1_000
            await asyncio.sleep(2 * PAUSE)  # so that what was sent meanwhile is there
    finally:
        server.kill()
    quiet = [each for sent, each in pushes.items() if sent + each < armed]
    busy = [each for sent, each in pushes.items() if fell_due <= sent + each and sent < fell_due + took]
    found = await firings(store, began)
    figures = {
        "fault": "F32",
        "timers": many,
        "drained_s": round(took, 2),
        "missed": len(set(users) - found.keys()),
        "twice": sum(len(moments) > 1 for moments in found.values()),
        "early": sum(min(moments) < due for moments in found.values()),
        "pushes": len(busy),
        "push_p99_ms": p99_ms(busy),
        "push_p99_before_ms": p99_ms(quiet),
    }
    print(json.dumps(figures))
    assert (figures["missed"], figures["twice"], figures["early"]) == (0, 0, 0)


async def test_thousands_due_at_once_fire_once_each(store: RedisStore, valkey: Embedded, tmp_path: Path) -> None:
    await fall_due(store, valkey.url, tmp_path, 3_000)


@pytest.mark.long
async def test_a_hundred_thousand_due_at_once(store: RedisStore, valkey: Embedded, tmp_path: Path) -> None:
    await fall_due(store, valkey.url, tmp_path, 100_000)
