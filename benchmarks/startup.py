"""From the command to a server that is ready: `handrail serve` until `/readyz` answers 200.

Its store is up before and empty. Processor time is that of the server until then.
"""

from __future__ import annotations

import http.client
import shutil
import time
from pathlib import Path
from time import perf_counter

from benchmarks import loading, machine
from benchmarks.figures import MeasurementFault, Row, row
from benchmarks.servers import Ground, ground, serving_folder

ROUNDS, QUICK_ROUNDS = 5, 2
STARTER = Path(__file__).parents[1] / "rules"
PATIENCE = 60.0  # seconds


def run(quick: bool) -> list[Row]:
    files = loading.QUICK_FILES if quick else loading.FILES
    taken: dict[str, list[tuple[float, float]]] = {}
    with ground() as place:
        shutil.copytree(STARTER, place.folder / "starter")
        (place.folder / "large").mkdir()
        loading.write(place.folder / "large", files)
        names = {"starter": "the starter rules", "large": f"{files * loading.TRIGGERS:,} triggers"}
        for _ in range(QUICK_ROUNDS if quick else ROUNDS):
            for folder, name in names.items():
                taken.setdefault(name, []).append(_start(place, place.folder / folder))
    rows = []
    for name, rounds in taken.items():
        rows.append(row(f"ready with {name}", [wall for wall, _ in rounds], "s"))
        rows.append(row(f"server CPU until ready, {name}", [used for _, used in rounds], "s"))
    return rows


def _start(place: Ground, rules: Path) -> tuple[float, float]:
    """(seconds, seconds of processor time) until it says that it is ready."""
    start = perf_counter()
    with serving_folder(place, rules) as server:
        while not _is_ready(server.port):
            if perf_counter() - start > PATIENCE:
                raise MeasurementFault(f"the server was not ready within {PATIENCE:g} s")
            time.sleep(0.005)
        return perf_counter() - start, machine.family_seconds(server.pid)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    finally:
        connection.close()
