"""`python -m benchmarks.sizing`: what the results come to for ten million users, put into docs/operating.md.

It reads the last runs of `saturation`, `connections` and `users`, the largest size of each, and writes two tables
between two marks.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.figures import MeasurementFault
from benchmarks.results import FOLDER, Part
from handrail.store.keys import BUCKETS
from handrail.store.scripts import LOG_MAX

PAGE = Path(__file__).parents[1] / "docs" / "operating.md"
BEGIN, END = "<!-- figures: python -m benchmarks.sizing -->", "<!-- end of figures -->"
GIB = 2**30

USERS = 10_000_000
ONLINE, TODAY = 0.02, 0.1  # shares of them: connected now, and here within the last day
EVERY = 30  # seconds from one event of a connected user to the next
STAY = 600  # seconds that a connection lasts
FULL = 0.5  # how busy a core is to be, and how full a master's memory: it copies itself now and then


@dataclass(frozen=True)
class Costs:
    """Processor time in µs, memory in bytes; `idle` is the share of a core that a connection takes. An event is one at
    half of what the server carries; a user `today` was here within the last day, one `at_rest` was not."""

    event: float
    event_of_store: float
    connect: float
    idle: float
    connection: float
    today: float
    at_rest: float
    line: float


def read(folder: Path) -> Costs:
    """Raises MeasurementFault when one of the parts was never run."""
    saturation, connections, users = (_part(folder, name) for name in ("saturation", "connections", "users"))
    most = _largest(connections, "idle, share of a core")
    many = int(most.split()[0].replace(",", ""))
    half = next(each.of for each in saturation.rows if each.of.startswith("50 %"))
    return Costs(
        event=_figure(saturation, "server µs an event", half),
        event_of_store=_figure(saturation, "store µs an event", half),
        connect=_figure(connections, "server CPU to connect", most),
        idle=_figure(connections, "idle, share of a core", most) / 100 / many,
        connection=_figure(connections, "memory each", most) * 1024,
        today=_figure(users, "memory each", _largest(users, "memory each")),
        at_rest=_figure(users, "a state") + _figure(users, "a timer"),
        line=_figure(users, "a line of the event log"),
    )


def _part(folder: Path, name: str) -> Part:
    path = folder / f"{name}.json"
    if not path.exists():
        raise MeasurementFault(f"{name} was never measured: python -m benchmarks {name}")
    return msgspec.json.decode(path.read_bytes(), type=Part)


def _largest(part: Part, what: str) -> str:
    return [each.of for each in part.rows if each.what == what][-1]


def _figure(part: Part, what: str, of: str = "") -> float:
    return next(median(each.rounds) for each in part.rows if (each.what.strip(), each.of) == (what, of))


def tables(costs: Costs) -> str:
    return "\n\n".join([_table(_each(costs)), _table(_ten_million(costs))])


def _each(costs: Costs) -> list[Sequence[str]]:
    log = costs.line * LOG_MAX * BUCKETS / GIB
    return [
        ("what", "each", "that is", "measured as"),
        ("an event, server", *_processor(costs.event, "a second"), "`saturation`: server µs an event, 50 %"),
        ("an event, store", *_processor(costs.event_of_store, "a second"), "`saturation`: store µs an event, 50 %"),
        ("connecting, server", *_processor(costs.connect, "a second"), "`connections`: server CPU to connect"),
        ("a second of a connection, server", *_processor(costs.idle * 1e6, "at a time"), "`connections`: idle"),
        ("a connection, server", *_memory(costs.connection), "`connections`: memory each"),
        ("a user of the last day, store", *_memory(costs.today), "`users`: memory each"),
        ("a user at rest, store", *_memory(costs.at_rest), "`users`: a state, a timer"),
        ("the event log, store", f"{costs.line:,.0f} B a line", f"{log:.2g} GiB at most", "`users`: a line"),
    ]


def _processor(each: float, how: str) -> tuple[str, str]:
    return f"{each:,.{1 if each < 10 else 0}f} µs", f"{_round(1e6 / each):,} {how} on a core"


def _memory(each: float) -> tuple[str, str]:
    return f"{each / 1024:,.1f} KiB", f"{_round(GIB / each):,} in a GiB"


def _round(value: float) -> int:
    """To two digits that count: more would promise too much."""
    return int(float(f"{value:.2g}"))


def _ten_million(costs: Costs) -> list[Sequence[str]]:
    online, here = USERS * ONLINE, USERS * TODAY
    events, comings = online / EVERY, online / STAY
    deciding, connecting, staying = events * costs.event / 1e6, comings * costs.connect / 1e6, online * costs.idle
    storing = events * costs.event_of_store / 1e6
    states, recent = (USERS - here) * costs.at_rest / GIB, here * costs.today / GIB
    log = costs.line * LOG_MAX * BUCKETS / GIB
    cores, memory = deciding + connecting + staying, states + recent + log
    return [
        (f"{USERS:,} users", "how many", "takes"),
        ("events", f"{events:,.0f} a second", f"{deciding:.2f} cores of servers, {storing:.2f} of the store"),
        ("connecting", f"{comings:,.0f} a second", f"{connecting:.2f} cores of servers"),
        ("staying connected", f"{online:,.0f}", f"{staying:.2f} cores, {online * costs.connection / GIB:.1f} GiB"),
        ("users at rest", f"{USERS - here:,.0f}", f"{states:.1f} GiB of the store"),
        ("users of the last day", f"{here:,.0f}", f"{recent:.1f} GiB of the store"),
        ("the event log", f"{LOG_MAX * BUCKETS:,} lines", f"{log:.1f} GiB of the store"),
        ("**servers**", "cores half used", f"**{_cores(cores)}**"),
        ("**store**", "cores half used, memory half full", f"**{_cores(storing)}, {memory / FULL:.0f} GiB**"),
        ("everybody comes back at once", f"{online:,.0f}", f"{online * costs.connect / 1e6:,.0f} core-seconds"),
    ]


def _cores(used: float) -> str:
    cores = math.ceil(used / FULL)
    return f"{cores} core{'s' * (cores != 1)}"


def _table(lines: Sequence[Sequence[str]]) -> str:
    drawn = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([drawn[0], "|---" * len(lines[0]) + "|", *drawn[1:]])


def renew(page: str, drawn: str) -> str:
    """The page with these tables in place of those between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{drawn}\n\n{END}{after}"


if __name__ == "__main__":
    try:
        PAGE.write_text(renew(PAGE.read_text(encoding="utf-8"), tables(read(FOLDER))), encoding="utf-8")
    except MeasurementFault as fault:
        sys.exit(str(fault))
