"""The line between a process that serves as one of several and the parent that started it: a socket with a JSON message
a line.

The child says when it serves and when it is about to stop; the parent asks it for its figures, adds them to those of
the others, and tells it when it may close its door.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import msgspec
from msgspec import Struct

from handrail.figures import Figures

LONGEST = 1024 * 1024  # bytes of a message
RELEASE_WITHIN = 0.5  # seconds for the parent to say what becomes of the door
LAST_IN = 0.2  # seconds for the handshakes of those who were let in just before it closed
GATHER_WITHIN = 5.0  # seconds for the figures of all processes: more than the parent gives each of them


class Ready(Struct, frozen=True, tag="ready"):
    """The child serves."""


class Leaving(Struct, frozen=True, tag="leaving"):
    """The child sends its clients away and will end."""


class Report(Struct, frozen=True, tag="report"):
    """The child's own figures, asked for or its last."""

    figures: Figures


class Gather(Struct, frozen=True, tag="gather"):
    """The child wants the figures of all."""


class Ask(Struct, frozen=True, tag="ask"):
    """The parent wants the child's figures."""


class StepBack(Struct, frozen=True, tag="step_back"):
    """Others serve: the child that leaves shall take no new connections."""


class Stay(Struct, frozen=True, tag="stay"):
    """Nobody else serves: the child that leaves shall go on telling callers so."""


class Gathered(Struct, frozen=True, tag="gathered"):
    """The figures of all, which the child asked for."""

    figures: Figures


FromChild = Ready | Leaving | Report | Gather
FromParent = Ask | StepBack | Stay | Gathered
read_child = msgspec.json.Decoder(FromChild).decode
read_parent = msgspec.json.Decoder(FromParent).decode


def write(message: FromChild | FromParent) -> bytes:
    return msgspec.json.encode(message) + b"\n"


class ParentSilent(Exception):
    """The parent does not answer."""


class Line:
    """The child's end. Set `report` and `step_back`, `open` it, and have `run` run until `close`."""

    def __init__(self, end: socket.socket) -> None:
        self.report: Callable[[], Figures] = Figures
        self.step_back: Callable[[], None] = lambda: None
        self._end = end
        self._turn = asyncio.Lock()  # one gathering at a time
        self._gathered: asyncio.Future[Figures] | None = None
        self._released = asyncio.Event()
        self._stepped_back = False

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._end, limit=LONGEST)

    async def run(self) -> None:
        """Do what the parent asks. When it is gone, this process is to end, too."""
        with suppress(ConnectionError):
            while line := await self._reader.readline():
                self._heed(read_parent(line))
        signal.raise_signal(signal.SIGTERM)
        await asyncio.Event().wait()

    def ready(self) -> None:
        self._say(Ready())

    async def leave(self) -> None:
        """Return when the door is closed and those who had come through it are in, or when it is to stay open."""
        self._say(Leaving())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._released.wait(), RELEASE_WITHIN)
        if self._stepped_back:
            await asyncio.sleep(LAST_IN)

    async def gather(self) -> Figures:
        """The figures of all processes. Raises ParentSilent."""
        async with self._turn:
            self._gathered = asyncio.get_running_loop().create_future()
            self._say(Gather())
            try:
                return await asyncio.wait_for(self._gathered, GATHER_WITHIN)
            except TimeoutError:
                raise ParentSilent("the process that started this one does not answer") from None

    async def close(self) -> None:
        """Report for the last time."""
        self._say(Report(self.report()))
        self._writer.close()

    def _heed(self, message: FromParent) -> None:
        match message:
            case Ask():
                self._say(Report(self.report()))
            case StepBack():
                self.step_back()
                self._stepped_back = True
                self._released.set()
            case Stay():
                self._released.set()
            case Gathered(figures):
                if self._gathered is not None and not self._gathered.done():
                    self._gathered.set_result(figures)

    def _say(self, message: FromChild) -> None:
        if not self._writer.is_closing():
            self._writer.write(write(message))
