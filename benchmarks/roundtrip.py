"""From an event to the prompt it brings, one user at a time: sent, decided, committed to disk, received.

What the measurement cannot undercut is taken in turn with it: the same socket's ping and pong, which nothing decides
and nothing stores, and a commit of the same kind by itself.
"""

from __future__ import annotations

import asyncio
from statistics import median
from time import perf_counter

from benchmarks.client import Client, dial
from benchmarks.figures import Row, quantile, row
from benchmarks.servers import ground, serving
from handrail.core.state import State
from handrail.store import Commit, RedisStore

RULES = """
trigger: answer
when: {event: asked}
if: user.sessions >= 1
then:
  - prompt: hint
---
message: hint
kind: toast
title: "About {{ event.properties.topic }}"
body: Here is how.
actions:
  - {label: Show me, do: {snooze: 1h}}
  - {label: No thanks, do: dismiss}
"""
ROUNDS, QUICK_ROUNDS = 7, 2
EVENTS = 150  # a round, by one user of its own, and as many pings and commits
GOAL_MS = 2.0


def run(quick: bool) -> list[Row]:
    with ground() as place, serving(place, RULES) as server:
        return asyncio.run(_measure(server.port, place.url, QUICK_ROUNDS if quick else ROUNDS))


async def _measure(port: int, url: str, many: int) -> list[Row]:
    store = await RedisStore.connect(url)
    kept: tuple[list[list[float]], ...] = ([], [], [])
    await _round(port, store, "warm-up")
    for number in range(many):
        for rounds, found in zip(kept, await _round(port, store, f"u-{number}"), strict=True):
            rounds.append([seconds * 1000 for seconds in found])
    await store.close()
    answers, pongs, commits = kept
    whole, bare = [median(each) for each in answers], [median(each) for each in commits]
    return [
        row("event → prompt, median", whole, "ms", places=3, below=GOAL_MS),
        row("event → prompt, p99", [quantile(each, 0.99) for each in answers], "ms", places=3),
        row("  floor: a commit alone", bare, "ms", places=3),
        row("  floor: ping → pong", [median(each) for each in pongs], "ms", places=3),
        row("  median less its commit", [one - other for one, other in zip(whole, bare, strict=True)], "ms", places=3),
    ]


async def _round(port: int, store: RedisStore, user: str) -> tuple[list[float], list[float], list[float]]:
    """Seconds that each event, each ping and each commit took."""
    client = await dial(port, user)
    answers, pongs, commits = [], [], []
    for number in range(EVENTS):
        answers.append(await _ask(client, number))
        pongs.append(await _ping(client))
        commits.append(await _commit(store, user, number))
    client.close()
    return answers, pongs, commits


async def _ask(client: Client, number: int) -> float:
    prompted, stored = client.arrival("prompt"), client.arrival("ack")
    sent = perf_counter()
    client.send({"type": "track", "id": f"a-{number}", "name": "asked", "properties": {"topic": "teams"}})
    taken = await prompted - sent
    await stored
    cleared = client.arrival("ack")
    dismissal = {"name": "prompt_dismissed", "properties": {"message": "hint"}}
    client.send({"type": "track", "id": f"d-{number}", **dismissal})
    await cleared
    return taken


async def _ping(client: Client) -> float:
    answered = client.arrival("pong")
    sent = perf_counter()
    client.send({"type": "ping"})
    return await answered - sent


async def _commit(store: RedisStore, user: str, version: int) -> float:
    """A turn of about the size of one that shows a prompt."""
    offset = version + 1
    state = State(user=f"alone-{user}", epoch="e", version=offset, offset=offset, traits={"note": "x" * 500})
    commit = Commit(
        state=state,
        expected=version,
        frames=((offset, b"x" * 350),),
        alarm=10**13,
        seen=((f"a-{version}", version),),
        log=(b"x" * 400,),
        now=version,
    )
    start = perf_counter()
    written = await store.commit(commit)
    taken = perf_counter() - start
    assert written
    return taken
