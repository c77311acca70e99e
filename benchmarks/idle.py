"""What a connection costs that does nothing: 5,000 of them, each welcomed, each a user of its own.

Resident memory is read before the first and after the last, once the server has come to rest; processor time likewise,
so it covers the handshake, the hello, reading and committing the user's state, and the welcome. Each round is a server
of its own.
"""

from __future__ import annotations

import asyncio

from benchmarks import machine
from benchmarks.client import Client, dial
from benchmarks.figures import MeasurementFault, Row, row
from benchmarks.servers import Server, ground, serving

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
CONNECTIONS = 5_000
WARM_UP = 200  # connections made and closed before
ROUNDS = 3
AT_ONCE = 64
FILES = 2_000  # more than connections, for either process


def run(quick: bool) -> list[Row]:
    if machine.raise_open_files(CONNECTIONS + FILES) < CONNECTIONS + FILES:
        raise MeasurementFault(f"{CONNECTIONS:,} connections need more open files: ulimit -n {CONNECTIONS + FILES}")
    found = [_round() for _ in range(ROUNDS)]
    return [
        row(f"memory each, of {CONNECTIONS:,} idle", [kib for kib, _ in found], "KiB", places=1),
        row("  server CPU to connect", [us for _, us in found], "µs", places=0),
    ]


def _round() -> tuple[float, float]:
    """(KiB, µs of processor time) a connection."""
    with ground() as place, serving(place, RULES) as server:
        return asyncio.run(_measure(server))


async def _measure(server: Server) -> tuple[float, float]:
    for client in await _connect(server.port, "w", WARM_UP):
        client.close()
    await _rest(server.pid)
    memory, used = machine.resident_bytes(server.pid), machine.cpu_seconds(server.pid)
    clients = await _connect(server.port, "u", CONNECTIONS)
    await _rest(server.pid)
    memory, used = machine.resident_bytes(server.pid) - memory, machine.cpu_seconds(server.pid) - used
    if any(client.closed for client in clients):
        raise MeasurementFault("the server closed connections that were to stay")
    for client in clients:
        client.close()
    return memory / CONNECTIONS / 1024, used / CONNECTIONS * 1e6


async def _connect(port: int, name: str, many: int) -> list[Client]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def connect(number: int) -> Client:
        async with gate:
            return await dial(port, f"{name}-{number}")

    return await asyncio.gather(*(connect(number) for number in range(many)))


async def _rest(pid: int) -> None:
    """Return when the server has used next to no processor time for a while."""
    async with asyncio.timeout(30):
        while True:
            before = machine.cpu_seconds(pid)
            await asyncio.sleep(0.5)
            if machine.cpu_seconds(pid) - before <= 0.04:
                return
