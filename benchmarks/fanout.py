"""One message of 250 bytes to 5,000 connections, beside servers that are made for it.

The servers take turns, each alone with its connections; a message is published when the one before has reached
everybody. Handrail has no broadcast: it sends to the 5,000 tabs of a hundred users, to whom one batch of events is
posted, so each hundredth of its messages is decided and committed besides.
"""

from __future__ import annotations

import base64
import socket
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from time import perf_counter

from benchmarks import machine
from benchmarks.contest import Contestant, take_turns, used
from benchmarks.crowd import Crowd, Dialect, Steps
from benchmarks.figures import OURS, OURS_SSE, Row, ratios, row
from benchmarks.ours import WRITE_KEY, encode, handrail, hello, listen
from benchmarks.push import BODY, MARK, MESSAGE, PEERS
from benchmarks.servers import ground

CONNECTIONS, QUICK_CONNECTIONS = 5_000, 1_000
TABS = 50  # a user, of Handrail's
ROUNDS, QUICK_ROUNDS = 3, 1
MESSAGES, LEAST, SECONDS = 20, 3, 4.0  # a round: so many, or as many as so long allows
WARM_UP = 3
RULES = """
trigger: announce
when: {event: announced}
then: [{content: {slot: top, message: news}}]
---
message: news
kind: inline
title: all-hands
body: "{{ event.properties.body }}"
"""
# What Handrail is to reach of others' rate of messages.
GOALS = {"Nchan": 1.0, "Socket.IO + Redis adapter": 1.9}
SSE_GOALS = {"Nchan, SSE": 1.0, "sse-starlette": 4.0}


@dataclass
class _Found:
    rate: list[float] = field(default_factory=list)  # messages/s
    server: list[float] = field(default_factory=list)  # µs a message
    last: list[float] = field(default_factory=list)  # ms until everybody had it
    load: list[float] = field(default_factory=list)  # share of a core

    def rows(self, name: str) -> list[Row]:
        return [
            row("messages/s", self.rate, "", places=0, of=name),
            row("server µs a message", self.server, "µs", places=1, of=name),
            row("until the last has it", self.last, "ms", places=0, of=name),
            row("load's share of a core", self.load, "%", places=0, of=name),
        ]


def run(quick: bool) -> list[Row]:
    many, rounds = (QUICK_CONNECTIONS, QUICK_ROUNDS) if quick else (CONNECTIONS, ROUNDS)
    machine.need_open_files(many)
    found, rows = take_turns((*_ours(many // TABS), *PEERS), rounds, _Found, partial(_measure, many))
    return [*(line for name, each in found.items() for line in each.rows(name)), *rows, *_goals(found)]


def _ours(users: int) -> tuple[Contestant, Contestant]:
    def tab(number: int) -> Steps:
        return hello(f"u-{number % users}")

    def stream_of(number: int) -> Steps:
        return listen(f"u-{number % users}")

    start = handrail(RULES)
    return (
        Contestant(OURS, start, Dialect(tab, MARK), machine.versions),
        Contestant(OURS_SSE, start, Dialect(stream_of, MARK, frames=False), machine.versions),
    )


def _measure(many: int, contestant: Contestant, found: _Found) -> None:
    users, taken = many // TABS if contestant.name in (OURS, OURS_SSE) else 0, list[float]()
    with (
        ground(sync="everysec") as place,
        contestant.start(place) as server,
        closing(Crowd(server.port, contestant.dialect)) as crowd,
    ):
        crowd.connect(many)
        for number in range(WARM_UP):
            publish(crowd, server.port, number, users=users)
        before = used(place, server)
        while len(taken) < LEAST or (len(taken) < MESSAGES and sum(taken) < SECONDS):
            taken.append(publish(crowd, server.port, WARM_UP + len(taken), users=users))
        spent = used(place, server) - before
    found.rate.append(many * len(taken) / sum(taken))
    found.server.append(spent.server / (many * len(taken)) * 1e6)
    found.last.append(median(taken) * 1_000)
    found.load.append(spent.load / sum(taken) * 100)


def publish(crowd: Crowd, port: int, number: int, *, users: int = 0) -> float:
    """Seconds from publishing until every connection had the message; with `users` it is for each of them."""
    wanted = crowd.count + crowd.size
    request = _batch(number, users) if users else _post("/publish", MESSAGE)
    with socket.create_connection(("127.0.0.1", port)) as publisher:
        start = perf_counter()
        publisher.sendall(request)
        crowd.await_marks(wanted)
        return perf_counter() - start


def _batch(number: int, users: int) -> bytes:
    """The same event for each user, with a body of its own number: a slot is sent only what is new to it."""
    properties = {"body": f"{number:04}{BODY[4:]}"}
    common = {"type": "track", "event": "announced", "properties": properties}
    batch = [{**common, "userId": f"u-{user}", "messageId": f"b-{number}-{user}"} for user in range(users)]
    key = base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
    return _post("/v1/batch", encode({"batch": batch}), f"Authorization: Basic {key}\r\n")


def _post(path: str, body: bytes, headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _goals(found: dict[str, _Found]) -> list[Row]:
    return [
        row(f"{own} to {name}, messages/s", ratios(found[own].rate, found[name].rate), "×", above=least)
        for own, goals in ((OURS, GOALS), (OURS_SSE, SSE_GOALS))
        for name, least in goals.items()
        if own in found and name in found
    ]
