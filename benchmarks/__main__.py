"""`python -m benchmarks [PART…] [--quick]`: run the measurements, print one table, keep the results.

Without names it runs all, the better part of an hour; `--quick` runs small sizes, whose results are not kept.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from benchmarks import (
    acks,
    conditions,
    connections,
    fanout,
    idle,
    job,
    loading,
    machine,
    path,
    processes,
    replaying,
    results,
    roundtrip,
    saturation,
    shards,
    startup,
    step,
    timers,
    users,
)
from benchmarks.figures import VERSIONS, MeasurementFault, Row
from benchmarks.servers import ground

# What each part is called in the results, and what measures it; told whether to be quick.
PARTS: dict[str, tuple[str, Callable[[bool], list[Row]]]] = {
    "job": ("The whole job: event, state, ten rules, durable commit, content", job.run),
    "roundtrip": ("From an event to its prompt, one user at a time", roundtrip.run),
    "conditions": ("Judging a condition", conditions.run),
    "step": ("Deciding on an event, as rules grow", step.run),
    "path": ("From an event to those who hear of its commit, below the socket", path.run),
    "loading": ("Loading 10,000 triggers", loading.run),
    "timers": ("Timers", timers.run),
    "fanout": ("One message to 5,000 connections", fanout.run),
    "acks": ("What an acknowledgement is worth, and costs", acks.run),
    "startup": ("Starting", startup.run),
    "replay": ("Replaying an archive", replaying.run),
    "idle": ("An idle connection, and connecting", idle.run),
    "connections": ("More connections", connections.run),
    "users": ("More users in the store", users.run),
    "saturation": ("More events", saturation.run),
    "processes": ("One process, and two that are one server", processes.run),
    "shards": ("One server of the store, and a cluster of three masters", shards.run),
}


def main(arguments: list[str]) -> int:
    shown, progress = Console(width=None if sys.stdout.isatty() else 140), Console(stderr=True)
    quick, names = "--quick" in arguments, [each for each in arguments if each != "--quick"]
    unknown = [name for name in names if name not in PARTS]
    if unknown or sys.platform != "linux":
        progress.print(f"no such part: {unknown[0]}" if unknown else "the benchmarks read /proc: they need Linux")
        progress.print(f"usage: python -m benchmarks [{' | '.join(PARTS)}]… [--quick]", markup=False)
        return 2
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # loading tells of itself
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    table, complete, notes = _table(), True, _preamble()
    folder = results.QUICK if quick else results.FOLDER
    pinned = machine.cores()
    with machine.staying_on(pinned and pinned[1]):
        for name in names or PARTS:
            progress.print(f"{time.strftime('%H:%M:%S')} {name}", highlight=False)
            try:
                rows = _measure(name, quick, notes, folder)
                complete = complete and not any(each.value.startswith("not measured") for each in rows)
            except MeasurementFault as fault:
                complete = False
                told = "\n".join([str(fault), *getattr(fault, "__notes__", [])])
                progress.print(told, style="red", markup=False, highlight=False)
                rows = [Row("not measured", "", str(fault))]
            _fill(table, name, rows)
            table.add_section()
    shown.print("\n".join(notes), highlight=False)
    shown.print(table)
    shown.print(f"kept in {folder}", highlight=False)
    return 0 if complete else 1


def _measure(name: str, quick: bool, notes: list[str], folder: Path) -> list[Row]:
    title, run = PARTS[name]
    told = [f"{time.strftime('%Y-%m-%d %H:%M')}, load before {os.getloadavg()[0]:.1f}", *notes]
    rows = run(quick)
    results.write(results.Part(name=name, title=title, notes=told, rows=rows), folder)
    results.write_tables(folder, list(PARTS))
    return rows


def _preamble() -> list[str]:
    with ground() as place:
        disk = f"{machine.file_system(place.folder)}, {machine.write_to_disk_us(place.folder):,.0f} µs a synced write"
    pinned = machine.cores()
    where = (
        f"server on core {pinned[0]}, store and client on core {pinned[1]}" if pinned else "one core: nothing pinned"
    )
    return [
        machine.describe(),
        f"store's folder: {disk} · {where}",
        machine.versions(),
    ]


def _table() -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("part", "of", "what", "median", "min – max of the rounds", "goal", ""):
        words = heading in ("of", "what", "min – max of the rounds")  # figures are never broken or cut
        table.add_column(heading, justify="right" if heading == "median" else "left", no_wrap=not words)
    return table


def _fill(table: Table, part: str, rows: list[Row]) -> None:
    before = ""
    for number, each in enumerate(each for each in rows if each.what != VERSIONS):
        verdict = "" if each.met is None else "met" if each.met else "MISSED"
        value, spread = (each.value, each.spread) if each.what else ("", each.value)  # words where there is room
        of, before = "" if each.of == before else each.of, each.of
        table.add_row("" if number else part, of, each.what, value, spread, each.goal, verdict)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # everything that was started has been stopped
        sys.exit(130)
