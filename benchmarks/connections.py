"""What connections cost as there are more: one server, to which ever more users connect and then do nothing.

Resident memory and processor time of the server are read whenever it has come to rest. Idle is a whole round of pings,
in which each connection is asked once and answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from time import perf_counter

from benchmarks import machine
from benchmarks.crowd import Crowd, Dialect, Steps
from benchmarks.figures import Row, row
from benchmarks.idle import RULES, WARM_UP, come_to_rest
from benchmarks.ours import handrail, hello
from benchmarks.push import MARK
from benchmarks.servers import Server, ground
from handrail.edge.http import PING_EVERY

SIZES, QUICK_SIZES = (1_000, 5_000, 10_000, 20_000), (200, 500)
QUICK_IDLE = 4.0  # seconds


def run(quick: bool) -> list[Row]:
    wanted = QUICK_SIZES if quick else SIZES
    sizes, idle = within_reach(wanted, machine.most_connections(wanted[-1] + WARM_UP) - WARM_UP), PING_EVERY
    with (
        ground(sync="everysec") as place,
        handrail(RULES)(place) as server,
        closing(Crowd(server.port, Dialect(_open, MARK))) as crowd,
    ):
        rows = list(_grow(server, crowd, sizes, QUICK_IDLE if quick else idle))
    if sizes[-1] != wanted[-1]:
        rows.append(Row("", "not here: they need more open files (ulimit -Hn)", of=f"{wanted[-1]:,} connections"))
    return rows


def within_reach(sizes: Sequence[int], most: int) -> list[int]:
    """These sizes, the first that is too large being the largest that is not."""
    return sorted({min(size, most) for size in sizes})


def _grow(server: Server, crowd: Crowd, sizes: Sequence[int], idle: float) -> Iterator[Row]:
    crowd.connect(WARM_UP)
    come_to_rest(crowd, server)
    bare, joined = machine.family_bytes(server.pid), 0
    for size in sizes:
        of, more = f"{size:,} connections", size - joined
        used, own, start = machine.family_seconds(server.pid), machine.own_seconds(), perf_counter()
        crowd.connect(more, first=WARM_UP + joined)
        taken, own = perf_counter() - start, machine.own_seconds() - own
        come_to_rest(crowd, server)
        used, joined = machine.family_seconds(server.pid) - used, size
        yield row("memory each", [(machine.family_bytes(server.pid) - bare) / size / 1024], "KiB", places=1, of=of)
        yield row("server CPU to connect", [used / more * 1e6], "µs", places=0, of=of)
        yield row("connected/s", [more / taken], "", places=0, of=of)
        yield row("load's share of a core", [own / taken * 100], "%", places=0, of=of)
        used = machine.family_seconds(server.pid)
        crowd.rest(idle)
        used = machine.family_seconds(server.pid) - used
        yield row("idle, share of a core", [used / idle * 100], "%", of=of)


def _open(number: int) -> Steps:
    return hello(f"u-{number}")
