"""Several processes as one service: real processes that talk to their parent, without a server in them."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from handrail.figures import Figures, Measured, add_up, what_stays
from handrail.processes import Child, Processes
from handrail.settings import OperatorError

# Serves nothing but says so, in the words of `handrail.line`. `number` is how many were started before it, `how` what
# becomes of it.
CHILD = """
import json, os, signal, socket, sys
from pathlib import Path

folder = Path({folder!r})
number = len(list(folder.iterdir()))
(folder / str(os.getpid())).touch()
{how}
line = socket.socket(fileno=int(sys.argv[2]))

def say(**message):
    line.sendall(json.dumps(message).encode() + b"\\n")

def leave(*_):
    say(type="leaving")
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, 0.3)

signal.signal(signal.SIGTERM, leave)
say(type="ready")
for asked in line.makefile():
    if "step_back" in asked:
        (folder.parent / f"back-{{os.getpid()}}").touch()
    elif "ask" in asked:
        say(type="report", figures={{"counts": {{"events": 10}}, "sums": {{"processes": 1}}}})
"""
WELL = "pass"


class Service:
    """Processes under way; `ready` counts how often they were announced."""

    def __init__(self, folder: Path, how: str, count: int) -> None:
        (folder / "children").mkdir()
        self.folder = folder
        self.ready = 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        command = (sys.executable, "-ISc", CHILD.format(folder=str(folder / "children"), how=how))
        self.processes = Processes(command, {}, self.listening, count=count, ready=self._announce, patience=20)

    def _announce(self) -> None:
        self.ready += 1

    @property
    def children(self) -> list[Child]:
        return self.processes._children

    @property
    def started(self) -> int:
        return len(files(self.folder / "children"))

    def complete(self) -> bool:
        return len(self.children) == 2 and all(child.accepts for child in self.children)


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what is waited for is in other processes
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(folder: Path, how: str = WELL) -> AsyncIterator[Service]:
    """Two processes, all there; told to stop in the end."""
    service = Service(folder, how, 2)
    running = asyncio.create_task(service.processes.run())
    try:
        await until(lambda: service.ready > 0)
        yield service
    finally:
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await running
        assert not service.children
        assert service.listening.fileno() == -1
        assert service.ready == 1


async def test_one_that_dies_before_all_serve_is_followed_by_another(tmp_path: Path) -> None:
    async with serving(tmp_path, "if number < 2: os._exit(9)") as service:
        assert service.started >= 4


async def test_a_start_that_is_refused_ends_them_all(tmp_path: Path) -> None:
    service = Service(tmp_path, "sys.exit(2)", 2)
    with pytest.raises(OperatorError, match="could not start"):
        await asyncio.wait_for(service.processes.run(), 30)
    assert service.ready == 0


async def test_a_start_that_is_refused_while_others_serve_is_tried_again(tmp_path: Path) -> None:
    async with serving(tmp_path, "if number == 2: sys.exit(2)") as service:
        service.children[0].send_signal(signal.SIGKILL)
        await until(lambda: service.started == 4 and service.complete())


async def test_one_that_leaves_steps_back_and_is_replaced_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        leaver, stayer = service.children
        leaver.send_signal(signal.SIGTERM)
        back = tmp_path / f"back-{leaver.process.pid}"
        await until(back.exists)
        await until(service.complete)
        assert service.started == 3
        assert stayer in service.children
        assert leaver not in service.children
        assert not (tmp_path / f"back-{stayer.process.pid}").exists()


async def test_when_all_leave_the_last_keeps_the_door_open(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        leavers = list(service.children)
        signal.raise_signal(signal.SIGTERM)
        for child in leavers:
            await child.ended.wait()
    assert not any(path.name.startswith("back") for path in files(tmp_path))


async def test_one_that_is_silent_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handrail.processes.BEAT", 0.05)
    monkeypatch.setattr("handrail.processes.SILENT", 40)
    async with serving(tmp_path) as service:
        silent, _ = service.children
        silent.send_signal(signal.SIGSTOP)
        await silent.ended.wait()
        assert silent.process.returncode == -signal.SIGKILL
        await until(service.complete)


async def test_told_so_they_are_renewed_in_turn(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        before = list(service.children)
        signal.raise_signal(signal.SIGUSR1)
        fewest = 2
        while not (service.complete() and not set(before) & set(service.children)):
            fewest = min(fewest, sum(child.accepts for child in service.children))
            await asyncio.sleep(0.005)
        assert fewest == 1
        assert service.started == 4


async def test_what_a_process_counted_stays_when_it_is_killed(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        figures = await service.processes.gather()
        assert (figures.counts["events"], figures.sums["processes"]) == (20, 2)
        service.children[0].send_signal(signal.SIGKILL)
        await until(lambda: service.started == 3 and service.complete())
        figures = await service.processes.gather()
        assert (figures.counts["events"], figures.sums["processes"]) == (30, 2)


async def test_figures_that_are_not_told_in_time_are_those_told_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as service:
        await service.processes.gather()
        silent, _ = service.children
        silent.send_signal(signal.SIGSTOP)
        monkeypatch.setattr("handrail.processes.REPORT_WITHIN", 0.2)
        assert (await service.processes.gather()).counts == {"events": 20}
        silent.send_signal(signal.SIGCONT)


def test_counts_and_histograms_add_up_and_of_gauges_the_worst_stands() -> None:
    one = Figures({"events": 1}, {"open": 2}, {"late": 5}, {"lag": Measured([1, 0], 3.0)})
    other = Figures({"events": 10, "more": 1}, {"open": 3}, {"late": 4}, {"lag": Measured([0, 2], 20.0)})
    total = add_up((one, other))
    assert total == Figures({"events": 11, "more": 1}, {"open": 5}, {"late": 5}, {"lag": Measured([1, 2], 23.0)})
    assert what_stays(total) == Figures(counts=total.counts, histograms=total.histograms)
