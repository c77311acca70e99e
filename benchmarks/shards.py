"""One server of the store beside a cluster of three masters, under the load and the rules of `job`.

All are Valkey over TCP on one core; the first, whose socket is a file, shows what TCP adds. The server's processor time
tells what it costs to have three connections in place of one, the store's what smaller batches for each master cost.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as Unreachable

from benchmarks import machine
from benchmarks.crowd import Crowd, Dialect
from benchmarks.figures import MeasurementFault, Row, ratios, row
from benchmarks.job import EVENT_FRAME, MARK, RULES, open_ours
from benchmarks.ours import SETTINGS
from benchmarks.servers import Server, ground, serving
from handrail.store.binary import find_server
from handrail.store.embedded import LEASH

SLOTS = 16_384
MASTERS = 3
USERS, QUICK_USERS = 500, 100
ROUNDS, QUICK_ROUNDS = 5, 1
SECONDS, QUICK_SECONDS = 3.0, 1.0
WARM_UP = 1.0
PATIENCE = 20.0  # seconds
OPTIONS = {"bind": "127.0.0.1", "appendonly": "yes", "appendfsync": "everysec", "save": "", "logfile": "log"}
OF_CLUSTER = {"cluster-enabled": "yes", "cluster-require-full-coverage": "no"}
BY_FILE, BY_TCP, CLUSTER = "one server, by its file", "one server, over TCP", f"a cluster of {MASTERS} masters"


@dataclass(frozen=True)
class Store:
    """Where it is, and the processes it consists of."""

    url: str
    pids: tuple[int, ...]


@dataclass
class _Found:
    rate: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)  # µs an event
    store: list[float] = field(default_factory=list)  # all masters together
    others: list[float] = field(default_factory=list)  # share of the core of store and load

    def rows(self, name: str) -> list[Row]:
        return [
            row("events/s", self.rate, "", places=0, of=name),
            row("server µs an event", self.server, "µs", places=1, of=name),
            row("store µs an event", self.store, "µs", places=1, of=name),
            row("store's and load's core", self.others, "%", places=0, of=name),
        ]


def run(quick: bool) -> list[Row]:
    users, rounds, seconds = (QUICK_USERS, QUICK_ROUNDS, QUICK_SECONDS) if quick else (USERS, ROUNDS, SECONDS)
    names = (BY_FILE, BY_TCP, CLUSTER)
    found = {name: _Found() for name in names}
    with ExitStack() as stack:
        started = {name: stack.enter_context(_serving(name, users)) for name in names}
        for _ in range(rounds):
            for name, (store, server, crowd) in started.items():
                _measure(store, server, crowd, seconds, found[name])
                for _, _, other in started.values():
                    other.rest(0.01)  # answer pings that came meanwhile
    rows = [line for name, each in found.items() for line in each.rows(name)]
    one, three = found[BY_TCP], found[CLUSTER]
    rows.append(row("a cluster to one server, server CPU an event", ratios(three.server, one.server), "×"))
    rows.append(row("a cluster to one server, store CPU an event", ratios(three.store, one.store), "×"))
    return rows


@contextmanager
def _serving(name: str, users: int) -> Iterator[tuple[Store, Server, Crowd]]:
    with ground(sync="everysec") as place, ExitStack() as stack:
        store = Store(place.url, (place.store.pid,))
        if name != BY_FILE:
            many = MASTERS if name == CLUSTER else 1
            store = stack.enter_context(storing(place.folder, many, as_cluster=name == CLUSTER))
        server = stack.enter_context(serving(place, RULES, SETTINGS, store=store.url))
        crowd = stack.enter_context(closing(Crowd(server.port, Dialect(open_ours, MARK, EVENT_FRAME))))
        crowd.connect(users)
        crowd.hurry(WARM_UP)
        yield store, server, crowd


def _measure(store: Store, server: Server, crowd: Crowd, seconds: float, found: _Found) -> None:
    before, stored, own = machine.family_seconds(server.pid), _seconds(store), machine.own_seconds()
    events, taken = crowd.hurry(seconds)
    used, stored = machine.family_seconds(server.pid) - before, _seconds(store) - stored
    answered = events + crowd.size  # the last ones came after the time was up, and cost too
    found.rate.append(events / taken)
    found.server.append(used / answered * 1e6)
    found.store.append(stored / answered * 1e6)
    found.others.append((stored + machine.own_seconds() - own) / taken * 100)


def _seconds(store: Store) -> float:
    return sum(map(machine.cpu_seconds, store.pids))


# --- servers of the store ---


@contextmanager
def storing(folder: Path, many: int, *, as_cluster: bool) -> Iterator[Store]:
    """So many servers of the store, each on ports of its own, alone or as the masters of a cluster."""
    ports = _free_ports(2 * many)
    with ExitStack() as stack:
        pids = []
        for port, bus in zip(ports[:many], ports[many:], strict=True):
            options = OPTIONS | {"port": str(port), "dir": str(folder / str(port))}
            options |= OF_CLUSTER | {"cluster-port": str(bus)} if as_cluster else {}
            (folder / str(port)).mkdir()
            pids.append(stack.enter_context(_started(options)))
        masters = [stack.enter_context(Redis(port=port, protocol=2)) for port in ports[:many]]
        _await(lambda: all(map(_answers, masters)))
        if as_cluster:
            _join(masters, ports[:many], ports[many:])
        scheme = "redis+cluster" if as_cluster else "redis"
        yield Store(f"{scheme}://{','.join(f'127.0.0.1:{port}' for port in ports[:many])}", tuple(pids))


@contextmanager
def _started(options: dict[str, str]) -> Iterator[int]:
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), str(find_server()), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _join(masters: Sequence[Redis], ports: Sequence[int], buses: Sequence[int]) -> None:
    for number, master in enumerate(masters):
        first, last = (SLOTS * edge // len(masters) for edge in (number, number + 1))
        _ask(master, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        _ask(master, "CLUSTER", "ADDSLOTSRANGE", first, last - 1)
    for port, bus in zip(ports[1:], buses[1:], strict=True):
        _ask(masters[0], "CLUSTER", "MEET", "127.0.0.1", port, bus)
    _await(lambda: all(_knows(master, len(masters)) for master in masters))


def _knows(master: Redis, many: int) -> bool:
    told = str(_ask(master, "CLUSTER", "INFO"))
    signs = (
        "cluster_state:ok",
        f"cluster_slots_assigned:{SLOTS}",
        f"cluster_known_nodes:{many}",
        f"cluster_size:{many}",
    )
    return all(sign in told for sign in signs)


def _ask(server: Any, *words: object) -> Any:
    return server.execute_command(*words)


def _answers(server: Redis) -> bool:
    try:
        return bool(server.ping())
    except Unreachable:
        return False


def _free_ports(many: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(many)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _await(condition: Callable[[], bool]) -> None:
    last = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > last:
            raise MeasurementFault(f"the servers of the store were not ready within {PATIENCE:g} s")
        time.sleep(0.05)
