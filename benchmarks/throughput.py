"""Events a second when a hundred users never pause: each sends its next event when the last one's content has come.

Ten triggers concern every event; one fills a slot, so every event is decided, committed to disk and answered with a
message. One server process; the share of a core that each side used says which of them was the limit.
"""

from __future__ import annotations

import asyncio
import os
from time import perf_counter

from benchmarks import machine
from benchmarks.client import Client, dial
from benchmarks.figures import Row, row
from benchmarks.servers import Ground, Server, ground, serving

USERS = 100
ROUNDS = 5
SECONDS = 2.0
OTHERS = "---\n".join(
    f"trigger: other-{number}\n"
    f"when: {{event: moved}}\n"
    f"if: user.traits.plan == 'pro' || event.properties.n < -{number}\n"
    f"then: [{{set: {{other: {number}}}}}]\n"
    for number in range(9)
)
RULES = f"""{OTHERS}---
trigger: follow
when: {{event: moved}}
if: event.properties.n >= 0
then:
  - content: {{slot: top, message: place}}
---
message: place
kind: inline
title: "You are at {{{{ event.properties.n }}}}"
"""


def run() -> list[Row]:
    with ground() as place, serving(place, RULES) as server:
        found = asyncio.run(_measure(place, server))
    rates, server_us, store_us, shares = zip(*found, strict=True)
    busy = f"server {_percent(shares, 0)}, store {_percent(shares, 1)}, client {_percent(shares, 2)}"
    return [
        row(f"{USERS} users, no pause", rates, "events/s", places=0),
        row("  server CPU an event", server_us, "µs", places=0),
        row("  store CPU an event", store_us, "µs", places=0),
        Row("  share of a core", "", busy),
    ]


def _percent(shares: tuple[tuple[float, float, float], ...], which: int) -> str:
    return f"{sum(each[which] for each in shares) / len(shares):.0%}"


class Walker:
    """A user who moves on as soon as the page shows the last place."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.places = 0
        client.heard = self._heard

    def move(self) -> None:
        event = {"id": f"m-{self.places}", "name": "moved", "properties": {"n": self.places}}
        self._client.send({"type": "track", **event})

    def _heard(self, kind: str, _message: bytes) -> None:
        if kind == "content":
            self.places += 1
            self.move()


async def _measure(place: Ground, server: Server) -> list[tuple[float, float, float, tuple[float, float, float]]]:
    """(events/s, server µs, store µs, shares of a core) for each round."""
    clients = [await dial(server.port, f"u-{number}") for number in range(USERS)]
    walkers = [Walker(client) for client in clients]
    for walker in walkers:
        walker.move()
    pids = (server.pid, place.store.pid, os.getpid())
    rounds = []
    for number in range(ROUNDS + 1):
        start, used = perf_counter(), [machine.cpu_seconds(pid) for pid in pids]
        walked = sum(walker.places for walker in walkers)
        await asyncio.sleep(SECONDS)
        span = perf_counter() - start
        events = sum(walker.places for walker in walkers) - walked
        spent = [machine.cpu_seconds(pid) - before for pid, before in zip(pids, used, strict=True)]
        if number:  # the first round warms up
            shares = (spent[0] / span, spent[1] / span, spent[2] / span)
            rounds.append((events / span, spent[0] / events * 1e6, spent[1] / events * 1e6, shares))
    for client in clients:
        client.heard = None
        client.close()
    return rounds
