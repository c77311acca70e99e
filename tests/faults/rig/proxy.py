"""A way between a server and its store, or between two stores, that can be broken on purpose."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

Flow = Literal["pass", "drop"]
CHUNK = 65_536
COMMANDS = re.compile(rb"EVALSHA\r\n")
SUBSCRIBED = re.compile(rb"(SUBSCRIBE\r\n\$\d+\r\nhr:\{b\d{4}\}:)bell")


class Proxy:
    """`up` is towards the store, `down` back. Bytes that are dropped are gone for good, as on a dead link; nobody is
    told. A `deaf` server's
    subscriptions go to channels on which nobody ever speaks."""

    def __init__(self, target: Path | tuple[str, int]) -> None:
        self.target = target
        self.up: Flow = "pass"
        self.down: Flow = "pass"
        self.deaf = False
        self.refuses = False
        self.unanswered = 0  # script calls that went up while nothing came down
        self.asked = asyncio.Event()  # the first of them since `mute`
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def mute(self) -> None:
        """From now on the store hears and does everything, and nobody learns of it."""
        self.asked.clear()
        self.down = "drop"

    def reset(self) -> None:
        """Cut every connection, without a goodbye; new ones pass."""
        self.up = self.down = "pass"
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            with suppress(OSError):
                if self.refuses:
                    return
                there, back = await self._dial()
                self._writers.add(back)
                try:
                    await self._join(reader, writer, there, back)
                finally:
                    self._writers.discard(back)
                    back.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def end(self) -> None:
        self.refuses = True
        self.reset()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, Path):
            return await asyncio.open_unix_connection(self.target, limit=CHUNK)
        return await asyncio.open_connection(*self.target, limit=CHUNK)

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        """Until either side ends."""
        ways = [
            asyncio.ensure_future(self._upwards(reader, back)),
            asyncio.ensure_future(self._downwards(there, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _upwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if self.up == "drop":
                continue
            if self.down == "drop" and (asked := len(COMMANDS.findall(data))):
                self.unanswered += asked
                self.asked.set()
            writer.write(SUBSCRIBED.sub(rb"\1bull", data) if self.deaf else data)
            await writer.drain()

    async def _downwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if self.down == "drop":
                continue
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def between(target: Path | tuple[str, int], at: Path | int) -> AsyncIterator[Proxy]:
    """A proxy at a unix socket or a port of this machine."""
    proxy = Proxy(target)
    if isinstance(at, Path):
        server = await asyncio.start_unix_server(proxy.serve, at, limit=CHUNK)
    else:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", at, limit=CHUNK)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
