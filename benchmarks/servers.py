"""The real server for a measurement: Valkey and `handrail serve` as processes of their own, stopped at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.figures import MeasurementFault
from handrail.store import Embedded, launch

STOP_WITHIN = 15.0  # seconds
GREETING = re.compile(r"http://127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Ground:
    """Where a measurement takes place: an empty store that syncs every commit, and a folder for the rest."""

    folder: Path
    store: Embedded

    @property
    def url(self) -> str:
        return self.store.url


@dataclass(frozen=True)
class Server:
    port: int
    pid: int


@contextmanager
def ground() -> Iterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="handrail-bench-") as name:
        folder = Path(name)
        with launch(folder / "data") as store:
            yield Ground(folder, store)


@contextmanager
def serving(place: Ground, rules: str) -> Iterator[Server]:
    """`handrail serve` with these rules, one process, on a core of its own."""
    folder = place.folder / "rules"
    folder.mkdir(exist_ok=True)
    (folder / "rules.yaml").write_text(rules, encoding="utf-8")
    own = {name: value for name, value in os.environ.items() if not name.startswith("HANDRAIL_")}
    command = [sys.executable, "-m", "handrail", "serve", "--port", "0", "--rules", str(folder), "--redis", place.url]
    pinned = machine.cores()
    with (place.folder / "server.log").open("wb") as log, machine.staying_on(pinned and pinned[0]):
        process = subprocess.Popen(
            command,
            cwd=place.folder,
            env={**own, "HANDRAIL_DEMO": "off"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us; the server goes when we say so
        )
    try:
        yield Server(_port(process), process.pid)
        if process.poll() is not None:
            raise MeasurementFault(f"the server ended while it was measured, with {process.returncode}")
    except (MeasurementFault, ConnectionError, TimeoutError) as fault:
        told = (place.folder / "server.log").read_text(errors="replace")[-2_000:]
        raise MeasurementFault(f"{fault or 'no answer in time'}; the server's log ends:\n{told}") from fault
    finally:
        _stop(process)


def _port(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        if found := GREETING.search(line.decode()):
            return int(found[1])
    raise MeasurementFault("the server did not start")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
