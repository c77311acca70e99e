"""The real server for a measurement: Valkey and `handrail serve` as processes of their own, stopped at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from redis import Redis

from benchmarks import machine
from benchmarks.figures import MeasurementFault
from handrail.store import Embedded, launch
from handrail.store.embedded import LEASH

STOP_WITHIN = 15.0  # seconds
_numbers = count(1)  # of the logs in a measurement's folder
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
def ground(*, sync: str = "always") -> Iterator[Ground]:
    """`sync` is when the store writes to disk: before every answer, as the embedded one does, or `everysec`."""
    with tempfile.TemporaryDirectory(prefix="handrail-bench-") as name:
        folder = Path(name)
        with launch(folder / "data") as store, Redis.from_url(store.url, protocol=2) as redis:
            redis.config_set("appendfsync", sync)
            yield Ground(folder, store)


@contextmanager
def serving(
    place: Ground, rules: str, settings: Mapping[str, str] | None = None, *, store: str = ""
) -> Iterator[Server]:
    """`handrail serve` with these rules and settings on a core of its own; `store` is a URL, if not the place's."""
    folder = place.folder / "rules"
    folder.mkdir(exist_ok=True)
    (folder / "rules.yaml").write_text(rules, encoding="utf-8")
    with serving_folder(place, folder, settings, store=store) as server:
        yield server


@contextmanager
def serving_folder(
    place: Ground, folder: Path, settings: Mapping[str, str] | None = None, *, store: str = ""
) -> Iterator[Server]:
    """The same with a folder of rules."""
    command = [sys.executable, "-m", "handrail", "serve", "--port", "0", "--rules", str(folder)]
    command += ["--redis", store or place.url]
    with running(place, command, {"HANDRAIL_DEMO": "off", **(settings or {})}) as process:
        yield Server(_port(process), process.pid)


@contextmanager
def running(place: Ground, command: Sequence[str], settings: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server as a process of its own on the servers' core, stopped at the end; a fault comes with its log's end.

    The first word of the command is a path. Should we be killed, the kernel ends the server."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HANDRAIL_")}
    pinned, log = machine.cores(), place.folder / f"{next(_numbers)}.log"
    with log.open("wb") as lines, machine.staying_on(pinned and pinned[0]):
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), *command],
            cwd=place.folder,
            env={**own, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=lines,
            start_new_session=True,  # Ctrl-C is for us; the server goes when we say so
        )
    try:
        yield process
        if process.poll() is not None:
            raise MeasurementFault(f"the server ended while it was measured, with {process.returncode}")
    except (MeasurementFault, ConnectionError, TimeoutError) as fault:
        told = log.read_text(errors="replace").strip()[-2_000:]
        if told:
            fault.add_note(f"The log of {' '.join(command[:4])} … ends:\n{told}")
        raise
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
