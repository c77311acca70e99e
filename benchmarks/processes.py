"""One process beside two that are one server (`--workers 2`), under the load and the rules of `job`.

Both are kept on one core, so that processor time an event can be compared; what two do on two cores of their own this
does not say.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from benchmarks import machine
from benchmarks.contest import used
from benchmarks.crowd import Crowd, Dialect
from benchmarks.figures import Row, ratios, row
from benchmarks.job import EVENT_FRAME, MARK, RULES, open_ours
from benchmarks.ours import handrail
from benchmarks.servers import Ground, Server, ground

WORKERS = {"one process": "1", "two processes": "2"}
USERS, QUICK_USERS = 500, 100
ROUNDS, QUICK_ROUNDS = 5, 1
SECONDS, QUICK_SECONDS = 3.0, 1.0
WARM_UP = 1.0


@dataclass
class _Found:
    rate: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)  # µs an event
    store: list[float] = field(default_factory=list)
    busiest: list[float] = field(default_factory=list)  # % of the server's processor time
    memory: list[float] = field(default_factory=list)  # MiB

    def rows(self, name: str) -> list[Row]:
        return [
            row("events/s, on one core", self.rate, "", places=0, of=name),
            row("server µs an event", self.server, "µs", places=1, of=name),
            row("store µs an event", self.store, "µs", places=1, of=name),
            row("the busiest process' share", self.busiest, "%", places=0, of=name),
            row("memory", self.memory, "MiB", places=0, of=name),
        ]


def run(quick: bool) -> list[Row]:
    users, rounds, seconds = (QUICK_USERS, QUICK_ROUNDS, QUICK_SECONDS) if quick else (USERS, ROUNDS, SECONDS)
    found = {name: _Found() for name in WORKERS}
    with ExitStack() as stack:
        started: dict[str, tuple[Ground, Server, Crowd]] = {}
        for name, workers in WORKERS.items():
            place = stack.enter_context(ground(sync="everysec"))
            server = stack.enter_context(handrail(RULES, {"HANDRAIL_WORKERS": workers})(place))
            crowd = stack.enter_context(closing(Crowd(server.port, Dialect(open_ours, MARK, EVENT_FRAME))))
            crowd.connect(users)
            crowd.hurry(WARM_UP)
            started[name] = place, server, crowd
        for _ in range(rounds):
            for name, (place, server, crowd) in started.items():
                _measure(place, server, crowd, seconds, found[name])
                for _, _, other in started.values():
                    other.rest(0.01)  # answer pings that came meanwhile
    rows = [line for name, each in found.items() for line in each.rows(name)]
    one, two = found.values()
    rows.append(row("two processes to one, server CPU an event", ratios(two.server, one.server), "×"))
    return rows


def _measure(place: Ground, server: Server, crowd: Crowd, seconds: float, found: _Found) -> None:
    before, each = used(place, server), _by_process(server)
    events, taken = crowd.hurry(seconds)
    spent, shares = used(place, server) - before, [now - each.get(pid, 0) for pid, now in _by_process(server).items()]
    answered = events + crowd.size  # the last ones came after the time was up, and cost too
    found.rate.append(events / taken)
    found.server.append(spent.server / answered * 1e6)
    found.store.append(spent.store / answered * 1e6)
    found.busiest.append(max(shares) / sum(shares) * 100)
    found.memory.append(machine.family_bytes(server.pid) / 2**20)


def _by_process(server: Server) -> dict[int, float]:
    return {pid: machine.cpu_seconds(pid) for pid in machine.family(server.pid)}
