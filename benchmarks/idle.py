"""What a connection costs that does nothing, and what it costs to connect, beside other servers.

Resident memory of the server and its children is read before the first connection and after the last, once they have
come to rest; processor time likewise. Handrail does more while connecting than its peers: it verifies a token, and
reads, commits and keeps its user's state. Each round is a server of its own; the servers take turns.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

from benchmarks import machine
from benchmarks.contest import Contestant, take_turns
from benchmarks.crowd import Crowd, Dialect, Steps
from benchmarks.figures import OURS, OURS_SSE, Row, row
from benchmarks.ours import handrail, hello, listen
from benchmarks.push import MARK, PEERS
from benchmarks.servers import Server, ground

RULES = """
trigger: hello-again
when: {returns: {after: 24h}}
then:
  - prompt: welcome-back
---
message: welcome-back
kind: toast
title: Welcome back
"""
CONNECTIONS, QUICK_CONNECTIONS = 10_000, 1_000
WARM_UP = 200  # connections made before
ROUNDS, QUICK_ROUNDS = 3, 1
MEMORY_GOALS = {OURS: 10, OURS_SSE: 15}  # KiB
CONNECT_GOAL = 200  # µs
PATIENCE = 10.0  # seconds a server may take to come to rest


@dataclass
class _Found:
    memory: list[float] = field(default_factory=list)  # KiB a connection
    connect: list[float] = field(default_factory=list)  # µs
    rate: list[float] = field(default_factory=list)  # connections/s
    load: list[float] = field(default_factory=list)  # share of a core while connecting

    def rows(self, name: str) -> list[Row]:
        own = name in MEMORY_GOALS
        return [
            row("memory each", self.memory, "KiB", places=1, of=name, below=MEMORY_GOALS.get(name)),
            row("server CPU to connect", self.connect, "µs", places=0, of=name, below=CONNECT_GOAL if own else None),
            row("connected/s", self.rate, "", places=0, of=name),
            row("load's share of a core", self.load, "%", places=0, of=name),
        ]


def run(quick: bool) -> list[Row]:
    many, rounds = (QUICK_CONNECTIONS, QUICK_ROUNDS) if quick else (CONNECTIONS, ROUNDS)
    machine.need_open_files(many + WARM_UP)
    start = handrail(RULES)
    ours = (
        Contestant(OURS, start, Dialect(_open, MARK), machine.versions),
        Contestant(OURS_SSE, start, Dialect(_listen, MARK, frames=False), machine.versions),
    )
    found, rows = take_turns((*ours, *PEERS), rounds, _Found, partial(_measure, many))
    return [*(line for name, each in found.items() for line in each.rows(name)), *rows]


def _open(number: int) -> Steps:
    return hello(f"u-{number}")


def _listen(number: int) -> Steps:
    return listen(f"u-{number}")


def _measure(many: int, contestant: Contestant, found: _Found) -> None:
    with (
        ground(sync="everysec") as place,
        contestant.start(place) as server,
        closing(Crowd(server.port, contestant.dialect)) as crowd,
    ):
        crowd.connect(WARM_UP)
        come_to_rest(crowd, server)
        memory, used = machine.family_bytes(server.pid), machine.family_seconds(server.pid)
        start, own = perf_counter(), machine.own_seconds()
        crowd.connect(many, first=WARM_UP)
        taken, own = perf_counter() - start, machine.own_seconds() - own
        come_to_rest(crowd, server)
        memory, used = machine.family_bytes(server.pid) - memory, machine.family_seconds(server.pid) - used
    found.memory.append(memory / many / 1024)
    found.connect.append(used / many * 1e6)
    found.rate.append(many / taken)
    found.load.append(own / taken * 100)


def come_to_rest(crowd: Crowd, server: Server) -> None:
    """Return when the server has used next to no processor time for a while, or does not stop using some."""
    last = perf_counter() + PATIENCE
    while perf_counter() < last:
        before = machine.family_seconds(server.pid)
        crowd.rest(0.5)
        if machine.family_seconds(server.pid) - before <= 0.04:
            return
