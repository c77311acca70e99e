"""`python -m benchmarks [PART…]`: run the measurements, print one table. Without names it runs all, some minutes."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from benchmarks import conditions, idle, loading, machine, path, roundtrip, step, throughput, timers
from benchmarks.figures import MeasurementFault, Row
from benchmarks.servers import ground

PARTS: dict[str, Callable[[], list[Row]]] = {
    "roundtrip": roundtrip.run,
    "conditions": conditions.run,
    "step": step.run,
    "path": path.run,
    "loading": loading.run,
    "timers": timers.run,
    "idle": idle.run,
    "throughput": throughput.run,
}


def main(names: list[str]) -> int:
    shown, progress = Console(width=None if sys.stdout.isatty() else 118), Console(stderr=True)
    unknown = [name for name in names if name not in PARTS]
    if unknown or sys.platform != "linux":
        progress.print(f"no such part: {unknown[0]}" if unknown else "the benchmarks read /proc: they need Linux")
        progress.print(f"usage: python -m benchmarks [{' | '.join(PARTS)}]…", markup=False)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    told, table, complete = _preamble(), _table(), True
    pinned = machine.cores()
    with machine.staying_on(pinned and pinned[1]):
        for name in names or PARTS:
            progress.print(f"{time.strftime('%H:%M:%S')} {name}", highlight=False)
            try:
                _fill(table, name, PARTS[name]())
            except MeasurementFault as fault:
                complete = False
                progress.print(str(fault), style="red", markup=False, highlight=False)
                table.add_row(name, "not measured")
            table.add_section()
    shown.print("\n".join(told), highlight=False)
    shown.print(table)
    return 0 if complete else 1


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
        time.strftime("%Y-%m-%d %H:%M"),
    ]


def _table() -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("part", "what", "median", "min – max of the rounds", "goal", ""):
        words = heading in ("what", "min – max of the rounds")  # figures are never broken or cut
        table.add_column(heading, justify="right" if heading == "median" else "left", no_wrap=not words)
    return table


def _fill(table: Table, part: str, rows: list[Row]) -> None:
    for number, each in enumerate(rows):
        verdict = "" if each.met is None else "met" if each.met else "MISSED"
        table.add_row("" if number else part, each.what, each.value, each.spread, each.goal, verdict)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # everything that was started has been stopped
        sys.exit(130)
