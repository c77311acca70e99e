"""Servers that are compared: how each is started and spoken to, and what one of them used while it was measured."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks import install, machine
from benchmarks.crowd import Dialect
from benchmarks.figures import VERSIONS, MeasurementFault, Row
from benchmarks.servers import Ground, Server, running

Found = TypeVar("Found")
START_WITHIN = 20.0  # seconds
_PYC = str(install.CACHE / "pycache")  # peers leave nothing beside their sources


@dataclass(frozen=True)
class Contestant:
    """`name` is how the table calls it; `versions` says what it is made of, and raises NotHereError where it is not."""

    name: str
    start: Callable[[Ground], AbstractContextManager[Server]]
    dialect: Dialect
    versions: Callable[[], str]


@dataclass(frozen=True)
class Used:
    """Seconds of processor time: of the server with its children, of the store, and of this process, the load."""

    server: float
    store: float
    load: float

    def __sub__(self, before: Used) -> Used:
        return Used(self.server - before.server, self.store - before.store, self.load - before.load)


def used(place: Ground, server: Server) -> Used:
    return Used(machine.family_seconds(server.pid), machine.cpu_seconds(place.store.pid), machine.own_seconds())


def start_all(
    stack: ExitStack, place: Ground, contestants: Sequence[Contestant]
) -> tuple[list[tuple[Contestant, Server]], list[Row]]:
    """Those that could be started, and a row for each that is not here, which says why."""
    here: list[tuple[Contestant, Server]] = []
    missing: list[Row] = []
    for each in contestants:
        try:
            here.append((each, stack.enter_context(each.start(place))))
        except install.NotHereError as fault:
            missing.append(absent(each, fault))
    return here, missing


def absent(contestant: Contestant, fault: MeasurementFault) -> Row:
    """A row that says why there are no figures."""
    why = "not here" if isinstance(fault, install.NotHereError) else "not measured"
    logged = "".join(getattr(fault, "__notes__", [])).splitlines()[-1:]
    return Row("", "; ".join([f"{why}: {fault}", *logged]), of=contestant.name)


def take_turns(
    contestants: Sequence[Contestant],
    rounds: int,
    blank: Callable[[], Found],
    measure: Callable[[Contestant, Found], None],
) -> tuple[dict[str, Found], list[Row]]:
    """Measure each in every round, and return what was found of those that got through all of them, with rows for what
    they are made of and for why others are missing."""
    found = {each.name: blank() for each in contestants}
    rows: list[Row] = []
    for _ in range(rounds):
        for each in contestants:
            if each.name in found:
                try:
                    measure(each, found[each.name])
                except MeasurementFault as fault:
                    del found[each.name]
                    rows.append(absent(each, fault))
    return found, [*rows, *(Row(VERSIONS, each.versions(), of=each.name) for each in contestants if each.name in found)]


def node_script(name: str, *arguments: str) -> Callable[[Ground], AbstractContextManager[Server]]:
    """A Node peer of ours, `node NAME PORT STORE ARGUMENT…`."""

    @contextmanager
    def start(place: Ground) -> Iterator[Server]:
        port, path = _free_port(), str(install.node_path())
        command = [str(install.node()), str(install.PEERS / name), str(port), store_path(place), *arguments]
        with running(place, command, {"NODE_PATH": path, "NODE_ENV": "production"}) as process:
            yield _await(process.pid, port)

    return start


def asgi_app(name: str) -> Callable[[Ground], AbstractContextManager[Server]]:
    """A Python peer of ours, an ASGI app `NAME:app` under uvicorn."""

    @contextmanager
    def start(place: Ground) -> Iterator[Server]:
        port = _free_port()
        choices = ["--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio", "--no-access-log"]
        choices += ["--log-level", "warning", "--host", "127.0.0.1", "--port", str(port), "--backlog", "4096"]
        command = [str(install.python()), "-m", "uvicorn", f"{name}:app", "--app-dir", str(install.PEERS), *choices]
        with running(
            place, command, {"STORE": place.url, "PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"}
        ) as process:
            yield _await(process.pid, port)

    return start


def nginx_conf(name: str) -> Callable[[Ground], AbstractContextManager[Server]]:
    """nginx with a configuration of ours, one worker."""

    @contextmanager
    def start(place: Ground) -> Iterator[Server]:
        port, folder = _free_port(), place.folder / name
        folder.mkdir(exist_ok=True)
        text = (install.PEERS / name).read_text()
        for word, value in {"MODULE": install.nginx() / install.NCHAN_MODULE, "FOLDER": folder, "PORT": port}.items():
            text = text.replace(f"%{word}%", str(value))
        (folder / "nginx.conf").write_text(text)
        where = ["-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        command = [str(install.nginx() / install.NGINX), *where]
        with running(place, command, {}) as process:
            yield _await(process.pid, port)

    return start


def store_path(place: Ground) -> str:
    return str(Path(place.url.removeprefix("unix://")))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(pid: int, port: int) -> Server:
    last = time.monotonic() + START_WITHIN
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return Server(port, pid)
        except OSError:
            if time.monotonic() > last or not Path(f"/proc/{pid}/cwd").exists():
                raise MeasurementFault("the server did not start") from None
            time.sleep(0.05)
