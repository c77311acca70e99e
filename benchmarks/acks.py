"""What it costs to acknowledge later: as soon as the store has it, when it is on disk, when a replica has it.

Three servers with a store each, which take turns, under the load and the rules of `job`. `accepted` has a store that
writes to disk every second, `durable` one that does so before it answers, `replicated` one with a replica, on the same
core as everything but the server.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

from redis import Redis

from benchmarks.contest import used
from benchmarks.crowd import Crowd, Dialect
from benchmarks.figures import MeasurementFault, Row, quantile, row
from benchmarks.job import EVENT_FRAME, MARK, RULES, open_ours
from benchmarks.ours import handrail
from benchmarks.servers import Ground, Server, ground
from handrail.store import launch

LEVELS = ("accepted", "durable", "replicated")
USERS, QUICK_USERS = 200, 50
ROUNDS, QUICK_ROUNDS = 5, 2
SECONDS, QUICK_SECONDS = 2.0, 1.0
PACE = 100  # events a second, far from what any of them carries
PATIENCE = 20.0  # seconds until a replica follows


@dataclass
class _Found:
    rate: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)  # µs an event
    p50: list[float] = field(default_factory=list)  # ms
    p99: list[float] = field(default_factory=list)

    def rows(self, name: str) -> list[Row]:
        return [
            row("events/s", self.rate, "", places=0, of=name),
            row("server µs an event", self.server, "µs", places=0, of=name),
            row(f"p50 at {PACE}/s", self.p50, "ms", of=name),
            row(f"p99 at {PACE}/s", self.p99, "ms", of=name),
        ]


def run(quick: bool) -> list[Row]:
    users, rounds, seconds = (QUICK_USERS, QUICK_ROUNDS, QUICK_SECONDS) if quick else (USERS, ROUNDS, SECONDS)
    found = {level: _Found() for level in LEVELS}
    with ExitStack() as stack:
        started = {level: stack.enter_context(_serving(level)) for level in LEVELS}
        crowds = {}
        for level, (_, server) in started.items():
            dialect = Dialect(open_ours, MARK, EVENT_FRAME)
            crowd = crowds[level] = stack.enter_context(closing(Crowd(server.port, dialect)))
            crowd.connect(users)
            crowd.hurry(0.5)
        for _ in range(rounds):
            for level, (place, server) in started.items():
                _measure(place, server, crowds[level], seconds, found[level])
                for other in crowds.values():
                    other.rest(0.01)  # answer pings that came meanwhile
    return [line for level, each in found.items() for line in each.rows(level)]


def _measure(place: Ground, server: Server, crowd: Crowd, seconds: float, found: _Found) -> None:
    before = used(place, server)
    events, taken = crowd.hurry(seconds)
    spent = used(place, server) - before
    found.rate.append(events / taken)
    found.server.append(spent.server / (events + crowd.size) * 1e6)
    latencies = [each * 1_000 for each in crowd.pace(PACE, seconds)]
    found.p50.append(quantile(latencies, 0.5))
    found.p99.append(quantile(latencies, 0.99))


@contextmanager
def _serving(level: str) -> Iterator[tuple[Ground, Server]]:
    """A server that acknowledges at this level, with a store of its own that is as it asks for."""
    with ExitStack() as stack:
        place = stack.enter_context(ground(sync="always" if level == "durable" else "everysec"))
        if level == "replicated":
            stack.enter_context(_following(place))
        yield place, stack.enter_context(handrail(RULES, {"HANDRAIL_ACK": level})(place))


@contextmanager
def _following(place: Ground) -> Iterator[None]:
    """A replica of the store, over TCP as any replica, that has caught up."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (
        launch(place.folder / "replica") as replica,
        Redis.from_url(place.url, protocol=2) as master,
        Redis.from_url(replica.url, protocol=2) as follower,
    ):
        master.config_set("port", port)
        master.config_set("repl-diskless-sync-delay", 0)
        follower.config_set("appendfsync", "everysec")
        follower.replicaof("127.0.0.1", port)
        last = time.monotonic() + PATIENCE
        while follower.info("replication")["master_link_status"] != "up":
            if time.monotonic() > last:
                raise MeasurementFault(f"the replica did not follow within {PATIENCE:g} s")
            time.sleep(0.05)
        yield
