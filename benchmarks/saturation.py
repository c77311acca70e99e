"""How latency and processor time grow with the load: events at a tenth, a quarter, … of what the server carries.

The users and rules of `job`. In each round everybody first goes as fast as they can, which says what the server
carries at that moment, and events then come at shares of it, whatever is answered meanwhile.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from time import perf_counter

from benchmarks.contest import Used, used
from benchmarks.crowd import Crowd, Dialect
from benchmarks.figures import Row, quantile, row
from benchmarks.job import EVENT_FRAME, MARK, RULES, open_ours
from benchmarks.ours import handrail
from benchmarks.servers import ground

SHARES = (10, 25, 50, 75, 100)  # % of what the server carries
USERS, QUICK_USERS = 500, 100
ROUNDS, QUICK_ROUNDS = 5, 1
SECONDS, QUICK_SECONDS = 3.0, 1.0
WARM_UP = 1.0


@dataclass
class _Found:
    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)  # ms
    p99: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)  # µs an event
    store: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)  # share of the server's core
    others: list[float] = field(default_factory=list)  # share of the core of store and load

    def add(self, latencies: list[float], taken: float, spent: Used) -> None:
        events = len(latencies)
        self.rate.append(events / taken)
        self.p50.append(quantile(latencies, 0.5) * 1_000)
        self.p99.append(quantile(latencies, 0.99) * 1_000)
        self.server.append(spent.server / events * 1e6)
        self.store.append(spent.store / events * 1e6)
        self.busy.append(spent.server / taken * 100)
        self.others.append((spent.store + spent.load) / taken * 100)

    def rows(self, name: str) -> list[Row]:
        return [
            row("events/s", self.rate, "", places=0, of=name),
            row("p50", self.p50, "ms", places=1, of=name),
            row("p99", self.p99, "ms", places=1, of=name),
            row("server µs an event", self.server, "µs", places=0, of=name),
            row("store µs an event", self.store, "µs", places=1, of=name),
            row("server's core", self.busy, "%", places=0, of=name),
            row("store's and load's core", self.others, "%", places=0, of=name),
        ]


def run(quick: bool) -> list[Row]:
    users, rounds, seconds = (QUICK_USERS, QUICK_ROUNDS, QUICK_SECONDS) if quick else (USERS, ROUNDS, SECONDS)
    found = {share: _Found() for share in SHARES}
    with (
        ground(sync="everysec") as place,
        handrail(RULES)(place) as server,
        closing(Crowd(server.port, Dialect(open_ours, MARK, EVENT_FRAME))) as crowd,
    ):
        crowd.connect(users)
        crowd.hurry(WARM_UP)
        for _ in range(rounds):
            events, taken = crowd.hurry(seconds)
            carried = events / taken
            for share in SHARES:
                before, start = used(place, server), perf_counter()
                latencies = crowd.pace(carried * share / 100, seconds)
                found[share].add(latencies, perf_counter() - start, used(place, server) - before)
    return [line for share, each in found.items() for line in each.rows(f"{share} % of what it carries")]
