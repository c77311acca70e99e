"""Several processes that serve one address as one service, and what their parent does: it keeps so many of them up.

All accept from one listening socket, which the parent holds as well: what waits to be accepted is lost with none of
them, and goes to whoever accepts next. A process that died is followed by another after a pause that grows, one that
sends its clients away at once; while others serve it takes no new ones. Who says nothing for a minute is killed. Only a
start that is refused while nobody serves ends them all: it would be refused again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from handrail.figures import Figures, add_up, what_stays
from handrail.line import (
    LONGEST,
    Ask,
    FromChild,
    FromParent,
    Gather,
    Gathered,
    Leaving,
    Ready,
    Report,
    Stay,
    StepBack,
    read_child,
    write,
)
from handrail.settings import OperatorError
from handrail.supervise import Pauses

BEAT = 5.0  # seconds between two questions to each process
SILENT = 12  # questions without an answer, at its start or later, after which it is killed
REPORT_WITHIN = 1.0  # seconds for the figures of a process; else those it told last are taken
REFUSED = (2, 3)  # exit codes of a process that could not start: by what its operator chose, or by an error told above

log = structlog.get_logger(__name__)


class Child:
    """One process, as its parent knows it. It is `gone` for its place as soon as it leaves, and `ended` after that."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self.reader = reader
        self.serves = False
        self.leaves = False
        self.gone = asyncio.Event()
        self.ended = asyncio.Event()
        self.told = asyncio.Event()
        self.unanswered = 0
        self.figures = Figures()
        self._writer = writer
        self._stepped_back = False

    @property
    def accepts(self) -> bool:
        return self.serves and not self.leaves

    def ask(self) -> None:
        self.told.clear()
        self.say(Ask())

    def heard(self, figures: Figures) -> None:
        self.figures = figures
        self.unanswered = 0
        self.told.set()

    def step_back(self) -> None:
        if not self._stepped_back:
            self._stepped_back = True
            self.say(StepBack())

    def say(self, message: FromParent) -> None:
        if not self._writer.is_closing():
            self._writer.write(write(message))

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def end(self) -> None:
        """Return when it has ended."""
        self._writer.close()
        await self.process.wait()
        self.serves = False
        for event in (self.told, self.gone, self.ended):
            event.set()


class Processes:
    """`command`, with its parent's id and the numbers of two open files added (see `serve_child`), starts one. `ready`
    is called once `count` of them serve for the first time; `patience` is how many seconds they may take to stop."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        listening: socket.socket,
        *,
        count: int,
        ready: Callable[[], None],
        patience: float,
    ) -> None:
        self._command = command
        self._environ = environ
        self._listening = listening
        self._count = count
        self._announce = ready
        self._patience = patience
        self._children: list[Child] = []
        self._past = Figures()  # of those that are gone
        self._stopping = asyncio.Event()
        self._complete = asyncio.Event()  # while all places are served
        self._served = False
        self._refused = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Return when they were told to stop and have ended. Raises OperatorError when they cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGUSR1, self._renew)
        watch = loop.create_task(self._watch())
        await asyncio.gather(*(self._keep() for _ in range(self._count)))
        while self._children:
            await self._children[0].ended.wait()
        watch.cancel()
        if self._refused:
            raise OperatorError("the processes that serve could not start; the log above says why")

    # --- keeping them up ---

    async def _keep(self) -> None:
        """One place among them: whoever serves in it is followed by another."""
        pauses = Pauses()
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                child = await self._start()
            except OSError as fault:  # no memory, or too many processes, for now
                log.error("a process that serves could not be started", why=str(fault))
            else:
                await child.gone.wait()
                if self._stopping.is_set() or child.leaves:
                    continue  # while it sends its clients away, another takes its place
                self._mourn(child)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pauses.after(time.monotonic() - began))

    def _mourn(self, child: Child) -> None:
        code = child.process.returncode
        if code in REFUSED and not any(each.serves for each in self._children):
            self._refused = True
            self._stop()
        else:
            log.error("a process that serves died; another follows", pid=child.process.pid, code=code)

    async def _start(self) -> Child:
        ours, theirs = socket.socketpair()
        files = (theirs.fileno(), self._listening.fileno())
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._command, *map(str, (os.getpid(), *files)), env=self._environ, pass_fds=files
            )
        child = Child(process, *await asyncio.open_unix_connection(sock=ours, limit=LONGEST))
        self._children.append(child)
        self._begin(self._follow(child))
        if self._stopping.is_set():
            child.send_signal(signal.SIGTERM)
        return child

    async def _follow(self, child: Child) -> None:
        """Hear a process out, to its end."""
        with suppress(ConnectionError):
            while line := await child.reader.readline():
                with suppress(msgspec.MsgspecError):  # of a later version, which has more to say
                    self._heed(child, read_child(line))
        await child.end()
        self._children.remove(child)
        self._past = add_up((self._past, what_stays(child.figures)))
        self._count_places()

    def _heed(self, child: Child, message: FromChild) -> None:
        match message:
            case Ready():
                child.serves = True
            case Leaving():
                child.leaves = True
                child.gone.set()
                if self._stopping.is_set() or not any(each.accepts for each in self._children):
                    child.say(Stay())
            case Report(figures):
                child.heard(figures)
            case Gather():
                self._begin(self._answer(child))
        self._count_places()

    def _count_places(self) -> None:
        accepting = [child for child in self._children if child.accepts]
        if len(accepting) < self._count:
            self._complete.clear()
        else:
            self._complete.set()
            if not self._served:
                self._served = True
                self._announce()
        for child in self._children:
            if child.leaves and accepting and not self._stopping.is_set():
                child.step_back()

    # --- asking them ---

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            for child in self._children:
                child.unanswered += 1
                child.ask()
                if child.unanswered > SILENT:
                    log.error("a process that serves does not answer any more; it is killed", pid=child.process.pid)
                    child.send_signal(signal.SIGKILL)

    async def gather(self) -> Figures:
        """What all have counted and measured, those included that are gone."""
        asked = [child for child in self._children if child.serves]
        for child in asked:
            child.ask()
        with suppress(TimeoutError):
            async with asyncio.timeout(REPORT_WITHIN):
                for child in asked:
                    await child.told.wait()
        return add_up((self._past, *(child.figures for child in self._children)))

    async def _answer(self, child: Child) -> None:
        child.say(Gathered(await self.gather()))

    # --- signals ---

    def _stop(self) -> None:
        """End them all; told again, they hurry."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._listening.close()  # else, when the last of them has closed it, callers would wait for nobody
            asyncio.get_running_loop().call_later(self._patience, self._signal_all, signal.SIGKILL)
        self._signal_all(signal.SIGTERM)

    def _signal_all(self, number: int) -> None:
        for child in self._children:
            child.send_signal(number)

    def _renew(self) -> None:
        self._begin(self._restart_in_turn(tuple(self._children)))

    async def _restart_in_turn(self, children: Sequence[Child]) -> None:
        """Each when the one before was replaced, so that all but one serve at any time."""
        for child in children:
            await self._complete.wait()
            child.send_signal(signal.SIGTERM)
            await child.gone.wait()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
